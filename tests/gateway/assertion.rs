//! The signed assertion: what the application can verify without trusting its network.

use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde_json::Value;

use crate::support::browser::ACCESS;
use crate::support::{Browser, Replica, World};

const HEADER: &str = "x-portcullis-assertion";

fn world(algorithm: &str) -> World {
    World::with(&[
        ("identity.assertion_header", HEADER),
        ("identity.assertion_audience", "https://app.internal"),
        ("session.signing_algorithm", algorithm),
    ])
}

/// The assertion that the application saw last.
#[track_caller]
fn last(world: &World) -> String {
    let seen = world.app.last();
    let all = seen.all(HEADER);
    assert_eq!(all.len(), 1);
    all[0].to_owned()
}

/// As an application does that knows the gateway's address and its own name.
fn verified(gateway: &Replica, token: &str) -> Value {
    let jwks: JwkSet = serde_json::from_slice(&gateway.get("/.well-known/jwks.json").body).unwrap();
    let header = decode_header(token).unwrap();
    assert_eq!(header.typ.as_deref(), Some("portcullis-assertion+jwt"));
    let key = DecodingKey::from_jwk(jwks.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.set_audience(&["https://app.internal"]);
    validation.set_issuer(&["https://g.test"]);
    // The hands of the world's clock are elsewhere.
    validation.validate_exp = false;
    decode(token, &key, &validation).unwrap().claims
}

#[test]
fn the_application_verifies_who_it_is() {
    for algorithm in ["ES256", "EdDSA", "RS256"] {
        let world = world(algorithm);
        let gateway = world.replica();
        let mut alice = Browser::logged_in(&gateway, "alice");
        alice.get(&gateway, "/app").assert_served();
        let claims = verified(&gateway, &last(&world));
        assert_eq!(claims["sub"], "alice");
        assert_eq!(claims["sid"], alice.handle());
        assert_eq!(claims["claims"], alice.claims()["claims"]);
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        assert_eq!(life, 60);
    }
}

#[test]
fn one_signature_serves_many_requests_and_is_replaced_in_time() {
    let world = world("ES256");
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let ask = |browser: &mut Browser| {
        browser.get(&gateway, "/app").assert_served();
        last(&world)
    };
    let first = ask(&mut alice);
    assert!((0..5).all(|_| ask(&mut alice) == first));
    let mut bob = Browser::logged_in(&gateway, "bob");
    assert_ne!(ask(&mut bob), first);
    assert_eq!(ask(&mut alice), first);
    world.pass(Duration::from_secs(31));
    let second = ask(&mut alice);
    assert_ne!(second, first);
    assert_eq!(verified(&gateway, &second)["sub"], "alice");
}

#[test]
fn nobody_else_says_it() {
    let world = world("ES256");
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for name in [HEADER, "X_Portcullis_Assertion", "x-portcullis.assertion"] {
        for target in ["/public/a", "/opt/a"] {
            let answer = gateway.send("GET", target, &[(name, "forged")], "");
            answer.assert_served();
            let head = world.app.last().head;
            assert!(!head.contains("forged"), "{head}");
        }
        alice.send(&gateway, "GET", "/app", &[(name, "forged")], "");
        assert_eq!(verified(&gateway, &last(&world))["sub"], "alice");
        assert!(!world.app.last().head.contains("forged"));
    }
    world
        .app
        .answers("/app", &format!("200 OK\r\n{HEADER}: x"), "");
    assert_eq!(alice.get(&gateway, "/app").header(HEADER), None);
}

/// T049: an application's logs open no session.
#[test]
fn it_opens_nothing() {
    let world = world("ES256");
    let gateway = world.replica();
    Browser::logged_in(&gateway, "alice").get(&gateway, "/app");
    let token = last(&world);
    let seen = world.app.seen().len();
    for name in [ACCESS, "sRefreshToken"] {
        let cookie = format!("{name}={token}");
        let answer = gateway.send("GET", "/app", &[("Cookie", &cookie)], "");
        answer.assert_refused(401, "try refresh token");
    }
    assert_eq!(world.app.seen().len(), seen);
}

#[test]
fn without_a_word_from_the_operator_there_is_none() {
    let world = World::new();
    let gateway = world.replica();
    Browser::logged_in(&gateway, "alice").get(&gateway, "/app");
    assert!(world.app.last().all(HEADER).is_empty());
}
