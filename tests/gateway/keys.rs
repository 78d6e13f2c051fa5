//! Signing keys are replaced without anybody noticing, and revoked with everybody noticing at once.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use portcullis::session::MasterKey;
use serde_json::{Value, json};

use crate::support::browser::ACCESS;
use crate::support::{Browser, Replica, World, eventually};

const JWKS: &str = "/.well-known/jwks.json";
const ENDPOINT: &str = "/auth/session/refresh";
const TRY_REFRESH: &str = "try refresh token";

/// Of these two the first is longer than a new key is only published.
const PUBLISHED: Duration = Duration::from_secs(121);
const WEEK: Duration = Duration::from_hours(7 * 24);

fn client_mode() -> World {
    World::with(&[("session.refresh", "client")])
}

fn keys(world: &World, arguments: &[&str]) -> Output {
    portcullis(world, "keys", arguments)
}

/// Runs a command with this world's configuration.
fn portcullis(world: &World, command: &str, arguments: &[&str]) -> Output {
    let file = world.folder().join("test.toml");
    fs::write(&file, world.configuration()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args([command, "--config"])
        .arg(file)
        .args(arguments)
        .output()
        .unwrap()
}

/// The JSON lines that it prints.
#[track_caller]
fn told(world: &World, arguments: &[&str]) -> Vec<Value> {
    let output = keys(world, &[&["--json"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Name and state of every key, newest first.
fn listed(world: &World) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told(world, &["list"])
        .iter()
        .map(|key| (text(&key["kid"]), text(&key["state"])))
        .collect()
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn kid(browser: &Browser) -> String {
    part(browser.access(), 0)["kid"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The names of the keys that a replica shows to anyone.
fn shown(replica: &Replica) -> Vec<String> {
    let jwks: Value = serde_json::from_slice(&replica.get(JWKS).body).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

/// T087, first half; each token is accepted by the other replica in the moment in which it is made.
#[test]
fn a_key_of_age_is_replaced_and_nobody_notices() {
    let world = World::new();
    let replicas = world.replicas();
    let old = kid(&Browser::logged_in(&replicas[0], "alice"));
    world.pass(WEEK);
    let signs = |number: usize| {
        let (here, there) = (&replicas[number % 2], &replicas[(number + 1) % 2]);
        let mut browser = Browser::logged_in(here, "bob");
        browser.get(there, "/app").assert_served();
        kid(&browser)
    };
    for replica in &replicas {
        eventually("the successor is published", || shown(replica).len() == 2);
    }
    let next = shown(&replicas[0]).into_iter().find(|kid| *kid != old);
    let next = next.unwrap();
    assert_eq!(
        listed(&world),
        [
            (next.clone(), "published".to_owned()),
            (old.clone(), "signing".to_owned())
        ]
    );
    assert!(
        (0..6).all(|number| signs(number) == old),
        "signed too early"
    );
    let mut alice = Browser::logged_in(&replicas[0], "alice");

    world.pass(PUBLISHED);
    let mut number = 0;
    eventually("the successor signs on both replicas", || {
        number += 2;
        signs(number) == next && signs(number + 1) == next
    });
    assert_eq!(kid(&alice), old);
    for replica in &replicas {
        alice.get(replica, "/app").assert_served();
        assert_eq!(shown(replica), [next.clone(), old.clone()]);
    }

    world.pass(Duration::from_mins(71));
    alice.get(&replicas[1], "/app").assert_opened();
    assert_eq!(kid(&alice), next);
    for replica in &replicas {
        eventually("the old key goes", || shown(replica) == [next.clone()]);
    }
    // A replica that reads the keys anew shows no key whose time is over, also while the store still has it.
    eventually("the store forgets it", || {
        listed(&world) == [(next.clone(), "signing".to_owned())]
    });
}

/// T087, second half. As for a logout: when the command returns, nobody accepts it.
#[test]
fn a_revoked_key_is_refused_on_both_replicas_when_the_command_returns() {
    let world = client_mode();
    let replicas = world.replicas();
    for trial in 0..5 {
        let mut alice = Browser::logged_in(&replicas[trial % 2], "alice");
        let stolen = alice.clone();
        for replica in &replicas {
            alice.get(replica, "/app").assert_served();
        }
        let bad = kid(&alice);
        let answer = told(&world, &["revoke", &bad]).remove(0);
        for replica in &replicas {
            let refused = stolen.clone().get(replica, "/app");
            refused.assert_refused(401, TRY_REFRESH);
            assert!(!shown(replica).contains(&bad));
        }
        assert_eq!(answer["revoked_now"], true);
        // The session lives on: its refresh token is nobody's but the browser's.
        alice.post(&replicas[trial % 2], ENDPOINT).assert_opened();
        assert_eq!(answer["signs"].as_str().unwrap(), kid(&alice));
        for replica in &replicas {
            alice.get(replica, "/app").assert_served();
            stolen
                .clone()
                .get(replica, "/app")
                .assert_refused(401, TRY_REFRESH);
        }
        // A second try is free.
        let again = told(&world, &["revoke", &bad]).remove(0);
        assert_eq!(again["revoked_now"], false);
        assert_eq!(again["signs"], answer["signs"]);
    }
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 5);
}

#[test]
fn pages_do_not_notice_that_their_key_was_revoked() {
    let world = World::new();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let bad = kid(&alice);
    world.pass(Duration::from_hours(1));
    // An exchange of this moment may be shared; not one of a key that has gone since.
    alice.clone().get(&replicas[0], "/app").assert_opened();
    told(&world, &["revoke", &bad]);
    alice.get(&replicas[0], "/app").assert_opened();
    assert_ne!(kid(&alice), bad);
    alice.get(&replicas[1], "/app").assert_served();
}

#[test]
fn a_revoked_key_names_no_session_to_log_out() {
    let world = client_mode();
    let replicas = world.replicas();
    let alice = Browser::logged_in(&replicas[0], "alice");
    let bad = kid(&alice);
    alice.clone().get(&replicas[0], "/app").assert_served();
    told(&world, &["revoke", &bad]);
    let mut thief = alice.clone();
    thief.forget("sRefreshToken");
    thief.post(&replicas[0], "/logout");
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 1);
}

#[test]
fn where_the_store_is_asked_for_each_request_it_is_asked_for_the_key() {
    let world = World::with(&[
        ("session.refresh", "client"),
        ("revocation.check", "database"),
    ]);
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    alice.get(&replicas[1], "/app").assert_served();
    told(&world, &["revoke", &kid(&alice)]);
    for replica in &replicas {
        alice.get(replica, "/app").assert_refused(401, TRY_REFRESH);
    }
}

/// An entry of a later version: the replica trusts its memory no more. It asks the store for each request, and for the keys
/// before it signs.
#[test]
fn a_change_that_is_not_understood_is_not_confirmed() {
    let world = World::with(&[("session.refresh", "client"), ("revocation.lease", "500ms")]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    alice.get(&gateway, "/app").assert_served();
    let revocations = &gateway.parts().revocations;
    let applied = revocations.applied();
    let _later = world.store().trigger(
        "AFTER INSERT ON revocation WHEN NEW.reason = 'keys' BEGIN \
         UPDATE revocation SET reason = 'quantum' WHERE sequence = NEW.sequence; END",
    );
    let bad = kid(&alice);
    told(&world, &["revoke", &bad]);
    assert!(revocations.has_lapsed());
    assert_eq!(revocations.applied(), applied);
    let refused = alice.get(&gateway, "/app");
    refused.assert_refused(401, TRY_REFRESH);
    alice.post(&gateway, ENDPOINT).assert_opened();
    assert_ne!(kid(&alice), bad);
    alice.get(&gateway, "/app").assert_served();
    let mut bob = Browser::logged_in(&gateway, "bob");
    bob.get(&gateway, "/app").assert_served();
    assert!(!shown(&gateway).contains(&bad));
    assert_eq!(revocations.applied(), applied);
}

#[test]
fn a_rotation_that_was_asked_for_is_finished_by_the_gateway() {
    let world = World::new();
    let old = kid(&Browser::logged_in(&world.replica(), "alice"));
    // Nobody runs. The successor waits for who comes next.
    let published = told(&world, &["rotate"]).remove(0);
    assert_eq!(published["published_now"], true);
    let next = published["kid"].as_str().unwrap();
    let again = told(&world, &["rotate"]).remove(0);
    assert_eq!(
        (again["kid"].as_str(), &again["published_now"]),
        (Some(next), &json!(false))
    );
    let replica = world.replica();
    let mut alice = Browser::logged_in(&replica, "alice");
    assert_eq!(kid(&alice), old);
    world.pass(PUBLISHED);
    eventually("the successor signs", || {
        kid(&Browser::logged_in(&replica, "bob")) == next
    });
    alice.get(&replica, "/app").assert_served();
    drop(replica);
    // A restart changes nothing.
    let replica = world.replica();
    alice.get(&replica, "/app").assert_served();
    assert_eq!(kid(&Browser::logged_in(&replica, "carol")), next);
    let states = listed(&world);
    let expected = [
        (next.to_owned(), "signing".to_owned()),
        (old, "verifying".to_owned()),
    ];
    assert_eq!(states, expected);
}

#[test]
fn another_algorithm_takes_over_after_a_restart() {
    let mut world = World::new();
    let mut alice = Browser::logged_in(&world.replica(), "alice");
    let old = kid(&alice);
    world.set("session.signing_algorithm", "EdDSA");
    let replicas = world.replicas();
    for replica in &replicas {
        eventually("a new key is published", || shown(replica).len() == 2);
    }
    assert_eq!(kid(&Browser::logged_in(&replicas[0], "bob")), old);
    world.pass(PUBLISHED);
    eventually("it signs", || {
        let bob = Browser::logged_in(&replicas[0], "bob");
        part(bob.access(), 0)["alg"] == "EdDSA"
    });
    for replica in &replicas {
        alice.get(replica, "/app").assert_served();
    }
}

#[test]
fn another_master_key_changes_nothing() {
    let world = World::new();
    let mut alice = Browser::logged_in(&world.replica(), "alice");
    let file = world.folder().join("master.key");
    let right = fs::read_to_string(&file).unwrap();
    let before = listed(&world);
    let bad = kid(&alice);
    fs::write(&file, &*MasterKey::generate().to_text()).unwrap();
    let serve = || portcullis(&world, "serve", &[]);
    let rotate = || keys(&world, &["rotate"]);
    let revoke = || keys(&world, &["revoke", &bad]);
    for refused in [serve(), rotate(), revoke()] {
        assert!(!refused.status.success());
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("another master key"), "{said}");
        assert!(!said.contains(right.trim()));
    }
    assert_eq!(listed(&world), before);
    fs::write(&file, right).unwrap();
    alice.get(&world.replica(), "/app").assert_served();
}

/// T041, T042, T049, by what a stranger can get.
#[test]
fn public_keys_and_other_tokens_open_nothing() {
    let world = client_mode();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    alice.get(&gateway, "/app").assert_served();
    let (message, signature) = alice.access().rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    let jwks = gateway.get(JWKS).body;
    let jwk: Value = serde_json::from_slice(&jwks).unwrap();
    let jwk = &jwk["keys"][0];
    let point = [&jwk["x"], &jwk["y"]]
        .map(|coordinate| {
            URL_SAFE_NO_PAD
                .decode(coordinate.as_str().unwrap())
                .unwrap()
        })
        .concat();
    let header = |alg: &str, kid: &str| {
        let header = json!({ "typ": "at+jwt", "alg": alg, "kid": kid }).to_string();
        format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header))
    };
    let bad_kid = header("ES256", "nobody");
    let mut forged: Vec<String> = ["none", "HS256", "EdDSA", "RS256"]
        .map(|alg| format!("{}.{signature}", header(alg, &kid(&alice))))
        .into();
    forged.push(format!("{bad_kid}.{signature}"));
    forged.push(format!("{message}."));
    for secret in [&jwks, &jwk.to_string().into_bytes(), &point] {
        let message = header("HS256", &kid(&alice));
        let key = EncodingKey::from_secret(secret);
        let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        forged.push(format!("{message}.{signature}"));
    }
    forged.push(alice.refresh().to_owned());
    // The gateway's own key, another issuer.
    let mut claims = alice.claims();
    claims["iss"] = json!("https://other.test");
    let keys = gateway.parts().issuer.keys().loaded();
    let signing_key = keys.ring.signing_key();
    let foreign = signing_key.sign(claims.to_string().as_bytes()).unwrap();
    forged.push(foreign.expose().to_owned());
    for token in forged {
        let cookie = format!("{ACCESS}={token}");
        let answer = gateway.send("GET", "/app", &[("Cookie", &cookie)], "");
        answer.assert_refused(401, TRY_REFRESH);
    }
    let access_as_refresh = format!("sRefreshToken={}", alice.access());
    let answer = gateway.send(
        "POST",
        ENDPOINT,
        &[
            ("Cookie", &access_as_refresh),
            ("Sec-Fetch-Site", "same-origin"),
        ],
        "",
    );
    assert_eq!(answer.status, 401);
    assert_eq!(world.app.count("/app"), 1);
}

#[test]
fn public_keys_may_be_kept_for_a_minute() {
    let world = World::new();
    let gateway = world.replica();
    let answer = gateway.get(JWKS);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/jwk-set+json")
    );
    assert_eq!(answer.header("cache-control"), Some("public, max-age=60"));
    answer.assert_says_nothing_of_a_session();
    let post = gateway.send("POST", JWKS, &[], "");
    assert_eq!(
        (post.status, post.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let secret = World::with(&[("session.signing_algorithm", "HS256")]);
    secret.replica().get(JWKS).assert_refused(401, TRY_REFRESH);
}
