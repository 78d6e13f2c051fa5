//! Chapter 3: Token parsing and verification: only what this deployment has signed, as it signs it, is anybody's.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use portcullis::secret::Secret;
use portcullis::session::{AntiCsrfKey, MasterKey, RefreshKeys, SessionHandle};
use serde_json::{Value, json};

use crate::runner::{Case, Tried};
use crate::transport::Transport;
use crate::world::{Setup, World, is_401j_that_clears_nothing, is_over};

pub const CASES: &[Case] = &[
    Case {
        name: "t040_no_signature",
        title: "alg none, in any spelling, and no alg",
        own: "with the right signature, without the last dot, with two dots too many, the true header reordered",
        run: t040_no_signature,
    },
    Case {
        name: "t041_public_key_as_secret",
        title: "HS256 with the public key as the secret",
        own: "JWK alone, the raw point, compressed, the empty key, the kid, HS384 and HS512",
        run: t041_public_key_as_secret,
    },
    Case {
        name: "t042_algorithm_of_another_family",
        title: "an algorithm of another family than the key's",
        own: "each pair, with a key of the attacker's, no kid, a kid that is a path, a query or a number",
        run: t042_algorithm_of_another_family,
    },
    Case {
        name: "t044_keys_in_the_header",
        title: "jwk, jku, x5u, x5c that name the attacker's key",
        own: "x5t, crit, b64, zip, cty, all of them together; nobody is called",
        run: t044_keys_in_the_header,
    },
    Case {
        name: "t046_times_of_other_types",
        title: "exp, nbf, iat of other types, out of range or absent",
        own: "beside each other claim of another type, signed with the right key; case of names; expired by a second",
        run: t046_times_of_other_types,
    },
    Case {
        name: "t047_payloads_that_are_odd",
        title: "repeated keys, no object, BOM, surrogates, depth, size",
        own: "padding and standard base64, trailing bits, white space, trailing data, unknown claims, other encodings",
        run: t047_payloads_that_are_odd,
    },
    Case {
        name: "t049_tokens_of_another_kind",
        title: "a token of another kind, or of another deployment",
        own: "as cookie, as bearer, as refresh; with another audience; an issuer that ends in ours",
        run: t049_tokens_of_another_kind,
    },
    Case {
        name: "t050_degenerate_signatures",
        title: "ES256 with r = s = 0, EdDSA of small order or with a large S",
        own: "r or s the order, negated s is another text, DER form, short and long ones, empty",
        run: t050_degenerate_signatures,
    },
    Case {
        name: "t051_parts_of_two_tokens",
        title: "the user altered, the signature of another token",
        own: "every part exchanged, each character of a token altered",
        run: t051_parts_of_two_tokens,
    },
    Case {
        name: "t055_handles_and_tokens_are_random",
        title: "a million handles, anti-CSRF tokens and refresh tokens",
        own: "each bit is set half of the time, none ascends, none is a UUID",
        run: t055_handles_and_tokens_are_random,
    },
    Case {
        name: "t056_a_dump_logs_nobody_in",
        title: "a dump of the store has no credential",
        own: "raw bytes and hex of the secret parts, the signing key, the master key, the anti-CSRF token",
        run: t056_a_dump_logs_nobody_in,
    },
    Case {
        name: "t058_user_ids_that_look_alike",
        title: "user ids that look alike are distinct or refused",
        own: "full width, zero width, other normal forms, percent signs; nobody ends another's sessions",
        run: t058_user_ids_that_look_alike,
    },
];

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[track_caller]
fn opens_nothing(world: &World, token: &str) {
    let answer = world.get("/app/a", &format!("sAccessToken={token}"));
    is_401j_that_clears_nothing(&answer);
    let bearer = format!("Bearer {token}");
    let answer = world.send("GET", "/app/a", &[("Authorization", &bearer)]);
    is_401j_that_clears_nothing(&answer);
    world.nothing_recorded();
}

fn t040_no_signature(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let (message, signature) = alice.token().rsplit_once('.').unwrap();
    let payload = message.split_once('.').unwrap().1;
    let kid = alice.header()["kid"].clone();
    let headers = [
        json!({ "alg": "none" }),
        json!({ "alg": "None" }),
        json!({ "alg": "nOnE" }),
        json!({ "alg": "NONE", "typ": "JWT" }),
        json!({ "alg": "" }),
        json!({ "alg": null }),
        json!({ "typ": "at+jwt", "kid": kid }),
        json!({ "typ": "at+jwt", "alg": "none", "kid": kid }),
        json!({}),
        json!([]),
    ];
    for header in headers {
        tried.variant(&header, || {
            let header = encoded(&header);
            opens_nothing(&world, &format!("{header}.{payload}."));
            opens_nothing(&world, &format!("{header}.{payload}.{signature}"));
            opens_nothing(&world, &format!("{header}.{payload}"));
        });
    }
    for (what, token) in [
        ("no signature", format!("{message}.")),
        ("no last part", message.to_owned()),
        ("five parts", format!("{message}.{signature}..")),
        ("a dot before", format!(".{message}.{signature}")),
        ("white space", format!("{message}. {signature}")),
        ("padded", format!("{message}.{signature}=")),
        ("quoted", format!("\"{message}.{signature}\"x")),
    ] {
        tried.variant(what, || opens_nothing(&world, &token));
    }
}

fn t041_public_key_as_secret(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let payload = alice.token().split('.').nth(1).unwrap();
    let jwks = world.send("GET", "/.well-known/jwks.json", &[]).body;
    let parsed: Value = serde_json::from_slice(&jwks).unwrap();
    let jwk = &parsed["keys"][0];
    let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let (x, y) = (coordinate("x"), coordinate("y"));
    let point = [&[4], &*x, &*y].concat();
    let compressed = [&[2 + (y[31] & 1)], &*x].concat();
    let der = [P256_PUBLIC_KEY, &point].concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(&der)
    );
    let kid = alice.header()["kid"].clone();
    for (what, secret) in [
        ("JWKS", jwks.clone()),
        ("JWK", jwk.to_string().into_bytes()),
        ("point", point),
        ("coordinates", [x, y].concat()),
        ("compressed", compressed),
        ("DER", der),
        ("PEM", pem.clone().into_bytes()),
        (
            "PEM without its last line end",
            pem.trim_end().as_bytes().to_vec(),
        ),
        ("nothing", Vec::new()),
        ("kid", kid.as_str().unwrap().as_bytes().to_vec()),
    ] {
        tried.variant(what, || {
            for (name, algorithm) in [
                ("HS256", Algorithm::HS256),
                ("HS384", Algorithm::HS384),
                ("HS512", Algorithm::HS512),
            ] {
                let header = json!({ "typ": "at+jwt", "alg": name, "kid": kid });
                let message = format!("{}.{payload}", encoded(&header));
                let key = EncodingKey::from_secret(&secret);
                let signature = crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
                opens_nothing(&world, &format!("{message}.{signature}"));
            }
        });
    }
}

/// The beginning of a P-256 key as SubjectPublicKeyInfo (RFC 5480); the point follows.
const P256_PUBLIC_KEY: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Keys that the attacker has made.
fn attackers_keys() -> [(&'static str, Algorithm, EncodingKey); 3] {
    let random = SystemRandom::new();
    let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ed = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    [
        (
            "ES256",
            Algorithm::ES256,
            EncodingKey::from_ec_der(ec.as_ref()),
        ),
        (
            "EdDSA",
            Algorithm::EdDSA,
            EncodingKey::from_ed_der(ed.as_ref()),
        ),
        (
            "HS256",
            Algorithm::HS256,
            EncodingKey::from_secret(b"attacker"),
        ),
    ]
}

fn t042_algorithm_of_another_family(tried: &mut Tried) {
    for algorithm in ["ES256", "EdDSA", "RS256", "HS256"] {
        let world = World::with(&Setup {
            session: match algorithm {
                "ES256" => "signing_algorithm = \"ES256\"",
                "EdDSA" => "signing_algorithm = \"EdDSA\"",
                "RS256" => "signing_algorithm = \"RS256\"",
                _ => "signing_algorithm = \"HS256\"",
            },
            ..Default::default()
        });
        let alice = world.login("alice");
        assert_eq!(alice.header()["alg"], algorithm);
        let (message, signature) = alice.token().rsplit_once('.').unwrap();
        let payload = message.split_once('.').unwrap().1;
        let kid = alice.header()["kid"].clone();
        for (name, signs, key) in attackers_keys() {
            for kid in [
                kid.clone(),
                json!("nobody"),
                json!("../../dev/null"),
                json!("' OR 1=1 --"),
                json!(1),
                json!(null),
            ] {
                tried.variant(format!("{name} under {algorithm}, kid {kid}"), || {
                    for said in [name, algorithm] {
                        let header = json!({ "typ": "at+jwt", "alg": said, "kid": kid });
                        let message = format!("{}.{payload}", encoded(&header));
                        let forged = crypto::sign(message.as_bytes(), &key, signs).unwrap();
                        opens_nothing(&world, &format!("{message}.{forged}"));
                    }
                });
            }
        }
        for said in [
            "ES256", "EdDSA", "RS256", "HS256", "ES384", "PS256", "es256",
        ] {
            if said != algorithm {
                tried.variant(format!("{said} for {algorithm}"), || {
                    let header = json!({ "typ": "at+jwt", "alg": said, "kid": kid });
                    opens_nothing(
                        &world,
                        &format!("{}.{payload}.{signature}", encoded(&header)),
                    );
                });
            }
        }
    }
}

fn t044_keys_in_the_header(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let payload = alice.token().split('.').nth(1).unwrap();
    let kid = alice.header()["kid"].clone();
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let url = format!("http://{}/keys.json", trap.local_addr().unwrap());
    let (_, algorithm, key) = attackers_keys().into_iter().next().unwrap();
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, algorithm).unwrap();
    for more in [
        json!({ "jwk": jwk }),
        json!({ "jku": url }),
        json!({ "x5u": url }),
        json!({ "x5c": ["MIIB"] }),
        json!({ "x5t": "AAAA", "x5t#S256": "AAAA" }),
        json!({ "crit": ["b64"], "b64": false }),
        json!({ "zip": "DEF" }),
        json!({ "cty": "JWT" }),
        json!({ "iss": url }),
        json!({ "jwk": jwk, "jku": url, "x5u": url, "x5c": ["MIIB"] }),
    ] {
        tried.variant(&more, || {
            for kid in [&kid, &json!("attacker"), &json!(url)] {
                let mut header = json!({ "typ": "at+jwt", "alg": "ES256", "kid": kid });
                header
                    .as_object_mut()
                    .unwrap()
                    .extend(more.as_object().unwrap().clone());
                let message = format!("{}.{payload}", encoded(&header));
                let forged = crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
                opens_nothing(&world, &format!("{message}.{forged}"));
            }
            assert!(trap.accept().is_err(), "the gateway called");
        });
    }
}

fn t046_times_of_other_types(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let key = world.signing_key();
    let signed = |claims: &str| key.sign(claims.as_bytes()).unwrap().expose().to_owned();
    let claims = alice.claims();
    let now = claims["iat"].as_i64().unwrap();
    tried.variant("as they are", || {
        let token = signed(&claims.to_string());
        assert_eq!(
            world.get("/app/a", &format!("sAccessToken={token}")).status,
            200
        );
        world.recorded();
    });
    let odd = [
        "\"1999999999\"",
        "1999999999.5",
        "1999999999.0",
        "1.999999999e9",
        "true",
        "false",
        "null",
        "[1999999999]",
        "{}",
        "1e400",
        "9223372036854775808",
        "18446744073709551616",
        "-9223372036854775809",
        "\"\"",
    ];
    for claim in ["exp", "iat", "gen", "sub", "iss", "sid", "jti"] {
        for value in odd
            .iter()
            .filter(|value| !value.starts_with('"') || ["exp", "iat", "gen"].contains(&claim))
        {
            tried.variant(format!("{claim}: {value}"), || {
                let mut other = claims.clone();
                other[claim] = json!("HERE");
                opens_nothing(
                    &world,
                    &signed(&other.to_string().replace("\"HERE\"", value)),
                );
            });
        }
        tried.variant(format!("no {claim}"), || {
            let mut other = claims.clone();
            other.as_object_mut().unwrap().remove(claim);
            opens_nothing(&world, &signed(&other.to_string()));
            other[claim.to_uppercase()] = claims[claim].clone();
            opens_nothing(&world, &signed(&other.to_string()));
        });
    }
    for (what, claim, value) in [
        ("expired by a second", "exp", json!(now - 1)),
        ("expired now", "exp", json!(now)),
        ("expired at 0", "exp", json!(0)),
        ("expired before time", "exp", json!(-1)),
        ("expired at the beginning of time", "exp", json!(i64::MIN)),
        ("issued in an hour", "iat", json!(now + 3600)),
        ("issued in half a minute", "iat", json!(now + 30)),
        ("issued at the end of time", "iat", json!(i64::MAX)),
        ("issued before time", "iat", json!(-1)),
        ("issued at the beginning of time", "iat", json!(i64::MIN)),
        ("not before in an hour", "nbf", json!(now + 3600)),
        ("not before an hour ago", "nbf", json!(now - 3600)),
        ("not before of another type", "nbf", json!("now")),
        ("generation below none", "gen", json!(-1)),
    ] {
        tried.variant(what, || {
            let mut other = claims.clone();
            other[claim] = value;
            opens_nothing(&world, &signed(&other.to_string()));
        });
    }
}

fn t047_payloads_that_are_odd(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let key = world.signing_key();
    let claims = alice.claims().to_string();
    let body = &claims[1..claims.len() - 1];
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for (what, payload) in [
        (
            "sub twice",
            format!("{{{body},\"sub\":\"admin\"}}").into_bytes(),
        ),
        (
            "sub twice, the first one",
            format!("{{\"sub\":\"admin\",{body}}}").into_bytes(),
        ),
        (
            "exp twice",
            format!("{{{body},\"exp\":9999999999}}").into_bytes(),
        ),
        (
            "sub twice, one of them escaped",
            format!("{{{body},\"s\\u0075b\":\"admin\"}}").into_bytes(),
        ),
        (
            "an unknown claim",
            format!("{{{body},\"admin\":true}}").into_bytes(),
        ),
        ("an array", format!("[{claims}]").into_bytes()),
        ("a text", json!(claims).to_string().into_bytes()),
        ("a number", b"1".to_vec()),
        ("null", b"null".to_vec()),
        ("nothing", Vec::new()),
        ("BOM", [b"\xef\xbb\xbf", claims.as_bytes()].concat()),
        (
            "UTF-16",
            claims.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
        ("trailing data", format!("{claims}{claims}").into_bytes()),
        ("trailing comma", format!("{{{body},}}").into_bytes()),
        ("comment", format!("/**/{claims}").into_bytes()),
        (
            "lone surrogate",
            claims.replace("\"alice\"", "\"\\ud800\"").into_bytes(),
        ),
        (
            "NUL",
            claims.replace("\"alice\"", "\"al\\u0000ice\"").into_bytes(),
        ),
        (
            "no UTF-8",
            claims
                .replace("alice", "al\u{1}ice")
                .replace('\u{1}', "\u{ff}")
                .into_bytes()
                .iter()
                .map(|byte| if *byte == 0xc3 { 0xff } else { *byte })
                .collect(),
        ),
        (
            "claims that are no object",
            claims
                .replace("\"claims\":{}", "\"claims\":[]")
                .into_bytes(),
        ),
        (
            "claims that are null",
            claims
                .replace("\"claims\":{}", "\"claims\":null")
                .into_bytes(),
        ),
        (
            "depth 200",
            claims
                .replace("\"claims\":{}", &format!("\"claims\":{{\"a\":{deep}}}"))
                .into_bytes(),
        ),
    ] {
        tried.variant(what, || {
            assert_ne!(payload, claims.as_bytes(), "it is as it should be");
            opens_nothing(&world, key.sign(&payload).unwrap().expose());
        });
    }
    let (message, signature) = alice.token().rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let padded = format!("{payload}{}", "=".repeat((4 - payload.len() % 4) % 4));
    for (what, token) in [
        ("padding", format!("{header}.{padded}.{signature}=")),
        (
            "standard alphabet",
            format!(
                "{header}.{payload}.{}",
                signature.replace('-', "+").replace('_', "/") + "A"
            ),
        ),
        (
            "line end within",
            format!("{header}.{payload}%0a.{signature}"),
        ),
        ("7 KiB of dots", ".".repeat(7000)),
        (
            "7 KiB of a header",
            format!("{}.{payload}.{signature}", "A".repeat(6000)),
        ),
        (
            "7 KiB of a payload",
            format!("{header}.{}.{signature}", "A".repeat(6000)),
        ),
        (
            "7 KiB of a signature",
            format!("{message}.{}", "A".repeat(6000)),
        ),
    ] {
        tried.variant(what, || opens_nothing(&world, &token));
    }
    tried.variant("trailing bits of the signature", || {
        // Of the last character four bits mean nothing: strict base64url has them zero.
        let (all, last) = signature.split_at(signature.len() - 1);
        const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let value = ALPHABET.find(last).unwrap();
        for low in 1..16 {
            let other = ALPHABET.as_bytes()[(value & 0b11_0000) | low] as char;
            opens_nothing(&world, &format!("{message}.{all}{other}"));
        }
    });
    tried.variant("64 KiB", || {
        let head = format!(
            "GET /app/a HTTP/1.1\r\nHost: g.test\r\nCookie: sAccessToken={}\r\n\r\n",
            "A".repeat(64 * 1024)
        );
        // T063 says it in HTTP/2's terms.
        if Transport::current() != Transport::Http2 {
            world.is_refused(head, &[431]);
        }
    });
    tried.variant("the time that they take", || {
        let token = format!("{header}.{}.{signature}", "A".repeat(6000));
        let cookie = format!("sAccessToken={token}");
        let before = world.cpu_time();
        for _ in 0..100 {
            world.get("/app/a", &cookie);
        }
        let each = (world.cpu_time() - before) / 100;
        assert!(each < Duration::from_millis(5), "{each:?}");
    });
}

fn t049_tokens_of_another_kind(tried: &mut Tried) {
    let world = World::with(&Setup {
        session: "anti_csrf = \"token\"",
        identity: "assertion_header = \"x-assertion\"\nassertion_audience = \"app\"",
        ..Default::default()
    });
    let login = world.post("/login?alice", "");
    world.recorded();
    let alice = crate::world::Held::from_answer(&login);
    let anti_csrf = login.header("anti-csrf").unwrap();
    let refresh = alice.refresh.split_once('=').unwrap().1;
    assert_eq!(world.get("/app/a", &alice.access).status, 200);
    let told = world.only_recorded();
    let assertion = told.all("x-assertion")[0];
    let key = world.signing_key();
    let with = |claim: &str, value: Value| {
        let mut claims = alice.claims();
        claims[claim] = value;
        key.sign(claims.to_string().as_bytes())
            .unwrap()
            .expose()
            .to_owned()
    };
    let claims = alice.claims().to_string();
    for (what, token) in [
        ("refresh token", refresh.to_owned()),
        ("anti-CSRF token", anti_csrf.to_owned()),
        ("assertion", assertion.to_owned()),
        (
            "assertion with the claims of an access token",
            key.sign_assertion(claims.as_bytes())
                .unwrap()
                .expose()
                .to_owned(),
        ),
        (
            "session handle",
            alice.claims()["sid"].as_str().unwrap().to_owned(),
        ),
        ("another issuer", with("iss", json!("https://other.test"))),
        (
            "an issuer that ends in ours",
            with("iss", json!("https://evil.test/https://g.test:8443")),
        ),
        (
            "an issuer that begins with ours",
            with("iss", json!("https://g.test:8443.evil.test")),
        ),
        ("no issuer", with("iss", json!(""))),
        ("an audience", with("aud", json!("app"))),
        ("a tenant", with("tenant", json!("other"))),
        ("a type of its own", with("typ", json!("Refresh"))),
    ] {
        tried.variant(what, || opens_nothing(&world, &token));
    }
    for (what, token) in [
        ("access token", alice.token()),
        ("anti-CSRF token", anti_csrf),
        ("assertion", assertion),
    ] {
        tried.variant(format!("{what} as refresh token"), || {
            let answer = world.post("/auth/session/refresh", &format!("sRefreshToken={token}"));
            is_over(&answer);
            world.nothing_recorded();
        });
    }
    tried.variant("they were good", || {
        assert_eq!(world.get("/app/a", &alice.access).status, 200);
    });
}

fn t050_degenerate_signatures(tried: &mut Tried) {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let one = format!("{:064x}", 1);
    let zero = "0".repeat(64);
    let world = World::new();
    let alice = world.login("alice");
    let (message, signature) = alice.token().rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let hex = |text: &str| -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digits).collect()
    };
    let der = [
        &[0x30, 0x44, 0x02, 0x20],
        &bytes[..32],
        &[0x02, 0x20],
        &bytes[32..],
    ]
    .concat();
    for (what, signature) in [
        ("r = s = 0", hex(&format!("{zero}{zero}"))),
        ("r = 0", [&hex(&zero), &bytes[32..]].concat()),
        ("s = 0", [&bytes[..32], &hex(&zero)].concat()),
        ("r = n", [&hex(order), &bytes[32..]].concat()),
        ("s = n", [&bytes[..32], &hex(order)].concat()),
        ("r = s = n", hex(&format!("{order}{order}"))),
        ("r = s = 1", hex(&format!("{one}{one}"))),
        ("all ones", vec![0xff; 64]),
        ("DER", der),
        ("short", bytes[..63].to_vec()),
        ("long", [&bytes[..], &[0]].concat()),
        ("empty", Vec::new()),
        ("twice", [&bytes[..], &bytes].concat()),
    ] {
        tried.variant(format!("ES256, {what}"), || {
            opens_nothing(
                &world,
                &format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature)),
            );
        });
    }
    let world = World::with(&Setup {
        session: "signing_algorithm = \"EdDSA\"",
        ..Default::default()
    });
    let alice = world.login("alice");
    let (message, signature) = alice.token().rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    // The order of the group, in little-endian bytes (RFC 8032 section 5.1).
    let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut larger = bytes.clone();
    let mut carry = 0;
    for (byte, more) in larger[32..].iter_mut().zip(&order) {
        let sum = u16::from(*byte) + u16::from(*more) + carry;
        (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
    }
    let identity = [&[1][..], &[0; 31]].concat();
    for (what, signature) in [
        ("S + L", larger),
        ("zero", vec![0; 64]),
        (
            "R the neutral element, S = 0",
            [&identity[..], &[0; 32]].concat(),
        ),
        ("S = 0", [&bytes[..32], &[0; 32]].concat()),
        ("S = L", [&bytes[..32], &order].concat()),
        ("all ones", vec![0xff; 64]),
        ("short", bytes[..63].to_vec()),
    ] {
        tried.variant(format!("EdDSA, {what}"), || {
            opens_nothing(
                &world,
                &format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature)),
            );
        });
    }
}

fn t051_parts_of_two_tokens(tried: &mut Tried) {
    let world = World::new();
    let (a, b) = (world.login("alice"), world.login("alice"));
    let mallory = world.login("mallory");
    let parts = |token: &str| -> Vec<String> { token.split('.').map(str::to_owned).collect() };
    let (first, second, other) = (parts(a.token()), parts(b.token()), parts(mallory.token()));
    let mut claims = mallory.claims();
    claims["sub"] = json!("alice");
    for (what, token) in [
        (
            "signature of another session",
            format!("{}.{}.{}", first[0], first[1], second[2]),
        ),
        (
            "signature of another user",
            format!("{}.{}.{}", first[0], first[1], other[2]),
        ),
        (
            "claims of another user",
            format!("{}.{}.{}", other[0], first[1], other[2]),
        ),
        (
            "user altered",
            format!("{}.{}.{}", other[0], encoded(&claims), other[2]),
        ),
    ] {
        tried.variant(what, || opens_nothing(&world, &token));
    }
    tried.variant("each character altered", || {
        let token = a.token();
        for at in (0..token.len()).step_by(3) {
            let was = token.as_bytes()[at];
            let other = if was == b'A' { 'B' } else { 'A' };
            let altered = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            let answer = world.get("/app/a", &format!("sAccessToken={altered}"));
            is_401j_that_clears_nothing(&answer);
        }
        world.nothing_recorded();
    });
}

fn t055_handles_and_tokens_are_random(tried: &mut Tried) {
    const COUNT: usize = 1_000_000;
    let handles: Vec<SessionHandle> = (0..COUNT).map(|_| SessionHandle::random()).collect();
    tried.variant("handles", || {
        are_random(handles.iter().map(|handle| *handle.as_bytes()))
    });
    tried.variant("no handle is a UUID of time", || {
        let versions = [1, 6, 7].map(|version| {
            handles
                .iter()
                .filter(|handle| handle.as_bytes()[6] >> 4 == version)
                .count()
        });
        // One in sixteen, as of any number.
        assert!(
            versions
                .iter()
                .all(|count| count.abs_diff(COUNT / 16) < COUNT / 200),
            "{versions:?}"
        );
    });
    let master = MasterKey::generate();
    let (anti_csrf, refresh) = (
        AntiCsrfKey::from_master(&master),
        RefreshKeys::from_master(&master),
    );
    let first = |text: &str, from: usize| -> [u8; 16] {
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        bytes[from..from + 16].try_into().unwrap()
    };
    tried.variant("anti-CSRF tokens", || {
        are_random(
            handles
                .iter()
                .map(|handle| first(anti_csrf.token(*handle).expose(), 0)),
        );
    });
    tried.variant("refresh tokens", || {
        // The handle and the generation stand before the secret.
        let secret = |handle: &SessionHandle| {
            let token = refresh.first(*handle, &Secret::random());
            first(refresh.text(&token).expose(), 20)
        };
        are_random(handles.iter().map(secret));
    });
}

/// Each one is another, each bit is set half of the time, and each is followed by a larger one half of the time.
fn are_random(values: impl Iterator<Item = [u8; 16]>) {
    let (mut count, mut ascending, mut last) = (0_usize, 0_usize, [0; 16]);
    let mut set = [0_usize; 128];
    let mut all = HashSet::new();
    for value in values {
        count += 1;
        ascending += usize::from(value > last);
        last = value;
        let bits = u128::from_be_bytes(value);
        for (bit, times) in set.iter_mut().enumerate() {
            *times += usize::from(bits >> bit & 1 == 1);
        }
        assert!(all.insert(value), "one came twice");
    }
    // Six standard deviations, which is half of the root of how many there are.
    let most = 3 * count.isqrt();
    for (bit, times) in set.iter().enumerate() {
        assert!(
            times.abs_diff(count / 2) < most,
            "bit {bit} is set {times} times"
        );
    }
    assert!(ascending.abs_diff(count / 2) < most, "{ascending} ascend");
}

fn t056_a_dump_logs_nobody_in(tried: &mut Tried) {
    let world = World::with(&Setup {
        session: "anti_csrf = \"token\"",
        ..Default::default()
    });
    let login = world.post("/login?alice", "");
    let alice = crate::world::Held::from_answer(&login);
    let headers = [
        ("Cookie", &*alice.refresh),
        ("anti-csrf", login.header("anti-csrf").unwrap()),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let renewed = world.send("POST", "/auth/session/refresh", &headers);
    assert_eq!(renewed.status, 200);
    let renewed = crate::world::Held::from_answer(&renewed);
    let dump = world.dump();
    assert!(dump.len() > 4096);
    let has = |needle: &[u8]| crate::world::contains(&dump, needle);
    assert!(has(b"alice"), "the dump is one");
    for held in [&alice, &renewed] {
        tried.variant("refresh token", || {
            let text = held.refresh.split_once('=').unwrap().1;
            let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
            assert!(!has(text.as_bytes()) && !has(&bytes));
            // After the handle and the generation: the secret, the tag.
            assert!(!has(&bytes[20..52]) && !has(&bytes[52..]));
            let hex: String = bytes[20..52]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert!(!has(hex.as_bytes()));
        });
        tried.variant("access token", || {
            let signature = held.token().rsplit_once('.').unwrap().1;
            assert!(!has(held.token().as_bytes()) && !has(signature.as_bytes()));
            assert!(!has(&URL_SAFE_NO_PAD.decode(signature).unwrap()));
        });
    }
    tried.variant("anti-CSRF token", || {
        let text = login.header("anti-csrf").unwrap();
        assert!(!has(text.as_bytes()) && !has(&URL_SAFE_NO_PAD.decode(text).unwrap()));
    });
    tried.variant("keys", || {
        let master = std::fs::read_to_string(world.home.path("portcullis.key")).unwrap();
        assert!(!has(master.trim().as_bytes()));
        assert!(!has(&URL_SAFE_NO_PAD.decode(master.trim()).unwrap()));
        // How a P-256 key in PKCS#8 begins.
        assert!(!has(&[
            0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48
        ]));
    });
}

fn t058_user_ids_that_look_alike(tried: &mut Tried) {
    let world = World::new();
    let open = |user: Value| {
        let answer = world.admin("POST", "/v1/sessions", &json!({ "user": user }).to_string());
        (answer.status == 201).then(|| {
            let opened: Value = serde_json::from_slice(&answer.body).unwrap();
            format!("sAccessToken={}", opened["access_token"].as_str().unwrap())
        })
    };
    let long = "x".repeat(129);
    for refused in [
        json!(1),
        json!(1.5),
        json!(null),
        json!(true),
        json!(["1"]),
        json!({ "i": 1 }),
        json!(""),
        json!(long),
        json!("a\u{0}b"),
        json!("a\nb"),
    ] {
        tried.variant(format!("{refused:.20}"), || assert_eq!(open(refused), None));
    }
    let users = [
        "1",
        "01",
        "1 ",
        " 1",
        "a",
        "A",
        "a ",
        "\u{ff41}",
        "a\u{200b}",
        "zo\u{eb}",
        "zoe\u{308}",
        "zo%C3%AB",
        "%31",
        "1%00",
        "{\"i\":1}",
        "a/b",
        "..",
    ];
    let cookies: Vec<(&str, String)> = users
        .iter()
        .filter_map(|user| Some((*user, open(json!(user))?)))
        .collect();
    let mut told = HashSet::new();
    for (user, cookie) in &cookies {
        tried.variant(format!("{user:?}"), || {
            assert_eq!(world.get("/app/a", cookie).status, 200);
            let recorded = world.only_recorded();
            let header = recorded.all("x-auth-user-id")[0].to_owned();
            assert!(told.insert(header), "two users are one to the application");
        });
    }
    for (at, (user, _)) in cookies.iter().enumerate() {
        tried.variant(format!("all devices of {user:?}"), || {
            let body = json!({ "users": [user] }).to_string();
            let answer = world.admin("POST", "/v1/users/revoke", &body);
            assert_eq!(answer.status, 200, "{answer:?}");
            for (number, (other, cookie)) in cookies.iter().enumerate() {
                let status = world.get("/app/a", cookie).status;
                assert_eq!(status, if number <= at { 401 } else { 200 }, "{other:?}");
            }
        });
    }
}
