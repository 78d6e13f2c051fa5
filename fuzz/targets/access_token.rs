//! Only what the gateway itself made is an access token, byte for byte; what a key signed has to be one as well.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use portcullis::clock::Timestamp;
use portcullis::identity::UserId;
use portcullis::session::{AccessClaims, KeyRing, SessionHandle, SigningAlgorithm, SigningKey, VerifiedAccessToken};

const ISSUER: &str = "portcullis";
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// HS256, so that the fuzzer's time goes into parsing.
static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    KeyRing::new(SigningKey::generate(SigningAlgorithm::Hs256).expect("a key can be drawn"), [])
});

static GENUINE: LazyLock<String> = LazyLock::new(|| {
    let claims = AccessClaims {
        issuer: ISSUER,
        user: &UserId::parse("alice").expect("a user id"),
        handle: SessionHandle::from_bytes([1; 16]),
        generation: 3,
        issued_at: NOW,
        expires_at: NOW + Duration::from_secs(3600),
        claims_version: 0,
        session_claims: r#"{"role":"admin"}"#,
    };
    claims.sign(&RING).expect("it can be signed").expose().to_owned()
});

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(VerifiedAccessToken::verify(text, &RING, ISSUER).is_err(), "nobody else can sign");
    }
    altered_in_one_place(data);
    signed_as_it_is(data);
});

/// The genuine token with some of its bytes replaced is another one or none.
fn altered_in_one_place(data: &[u8]) {
    let [at, rest @ ..] = data else { return };
    let mut token = GENUINE.clone().into_bytes();
    let at = usize::from(*at) * token.len() / 256;
    let end = token.len().min(at + rest.len());
    token[at..end].copy_from_slice(&rest[..end - at]);
    if let Ok(text) = String::from_utf8(token) {
        assert_eq!(VerifiedAccessToken::verify(&text, &RING, ISSUER).is_ok(), text == *GENUINE);
    }
}

/// Whatever a key of ours has signed: no panic, and if it is taken, it says in JSON what we read.
fn signed_as_it_is(payload: &[u8]) {
    let Ok(token) = RING.signing_key().sign(payload) else { return };
    if let Ok(verified) = VerifiedAccessToken::verify(token.expose(), &RING, ISSUER) {
        let json: serde_json::Value = serde_json::from_slice(payload).expect("claims are JSON");
        assert_eq!(json["sub"], verified.user.as_str());
        assert_eq!(json["iss"], ISSUER);
        // `cv` may be absent.
        let claims = json.as_object().map_or(0, serde_json::Map::len);
        assert!((8..=9).contains(&claims), "no claim is unknown or absent");
    }
}
