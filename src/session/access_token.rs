//! Access tokens: signed JWTs (RFC 7519) that are checked without the store.
//!
//! Every token that the gateway makes has one header text per key, so a presented header is compared with those texts and
//! never parsed: an algorithm or a key cannot be chosen by whoever presents the token. Claims are parsed strictly: each
//! exactly once, each of its type, none unknown.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::handle::SessionHandle;
use super::keys::{KeyId, SignError};
use super::ring::KeyRing;
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::secret::{TokenText, base64url, from_base64url_any, random_bytes};

/// What goes into an access token.
#[derive(Clone, Debug)]
pub struct AccessClaims<'a> {
    pub issuer: &'a str,
    pub user: &'a UserId,
    pub handle: SessionHandle,
    /// Generation of the refresh token that was handed out with it.
    pub generation: u32,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Of the session's claims.
    pub claims_version: u32,
    /// The session's claims, a JSON object.
    pub session_claims: &'a str,
}

impl AccessClaims<'_> {
    /// Signed with the ring's signing key.
    pub fn sign(&self, ring: &KeyRing) -> Result<TokenText, SignError> {
        let payload = Payload {
            iss: self.issuer.into(),
            sub: self.user.as_str().into(),
            sid: self.handle.to_string().into(),
            iat: self.issued_at.as_secs(),
            exp: self.expires_at.as_secs(),
            jti: base64url(&random_bytes::<16>()).into(),
            generation: self.generation,
            claims_version: self.claims_version,
            claims: serde_json::from_str(self.session_claims)?,
        };
        ring.signing_key().sign(&serde_json::to_vec(&payload)?)
    }
}

/// The claims of RFC 7519 section 4.1 and, after them, our private ones.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    #[serde(borrow)]
    iss: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    sub: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    sid: std::borrow::Cow<'a, str>,
    iat: i64,
    exp: i64,
    #[serde(borrow)]
    jti: std::borrow::Cow<'a, str>,
    #[serde(rename = "gen")]
    generation: u32,
    /// Absent until the claims change, as in the tokens of versions that could not change them.
    #[serde(rename = "cv", default, skip_serializing_if = "is_first")]
    claims_version: u32,
    #[serde(borrow)]
    claims: &'a RawValue,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_first(claims_version: &u32) -> bool {
    *claims_version == 0
}

/// A token whose signature and form hold; only [`VerifiedAccessToken::verify`] makes one. Whether its time has come or
/// passed is for the caller to ask, since a logout accepts an expired one.
#[derive(Clone, Debug)]
pub struct VerifiedAccessToken {
    pub handle: SessionHandle,
    pub user: UserId,
    pub generation: u32,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    pub key: KeyId,
    /// Of the session's claims.
    pub claims_version: u32,
    /// The session's claims, a JSON object.
    pub session_claims: Arc<str>,
}

impl VerifiedAccessToken {
    pub fn verify(token: &str, ring: &KeyRing, issuer: &str) -> Result<Self, InvalidAccessToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidAccessToken::TooLong);
        }
        let (header, _) = token.split_once('.').ok_or(InvalidAccessToken::NotAToken)?;
        let key = ring
            .key_with_header(header)
            .ok_or(InvalidAccessToken::UnknownKey)?;
        let (message, signature) = token
            .rsplit_once('.')
            .ok_or(InvalidAccessToken::NotAToken)?;
        let payload = message
            .get(header.len() + 1..)
            .ok_or(InvalidAccessToken::NotAToken)?;
        if !key.verifies(message.as_bytes(), signature) {
            return Err(InvalidAccessToken::BadSignature);
        }
        let payload =
            from_base64url_any(payload.as_bytes()).ok_or(InvalidAccessToken::BadClaims)?;
        let payload: Payload<'_> =
            serde_json::from_slice(&payload).map_err(|_| InvalidAccessToken::BadClaims)?;
        // Parsed as it was when they were taken: an object, and not deeper than the parser goes.
        let claims: Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_str(payload.claims.get());
        if payload.iss != issuer || payload.iat < 0 || claims.is_err() {
            return Err(InvalidAccessToken::BadClaims);
        }
        Ok(Self {
            handle: payload
                .sid
                .parse()
                .map_err(|_| InvalidAccessToken::BadClaims)?,
            user: UserId::parse(&payload.sub).map_err(|_| InvalidAccessToken::BadClaims)?,
            generation: payload.generation,
            issued_at: Timestamp::from_secs(payload.iat),
            expires_at: Timestamp::from_secs(payload.exp),
            key: key.id().clone(),
            claims_version: payload.claims_version,
            session_claims: payload.claims.get().into(),
        })
    }

    /// Whether a text is written as this deployment writes its access tokens, whatever its signature: a key that has left the
    /// ring, or an altered byte, makes it nobody else's.
    pub fn is_in_form(token: &str, issuer: &str) -> bool {
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        from_base64url_any(payload.as_bytes()).is_some_and(|payload| {
            serde_json::from_slice::<Payload<'_>>(&payload)
                .is_ok_and(|payload| payload.iss == issuer)
        })
    }

    /// No leeway: the gateway that signed reads the same kind of clock.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at
    }

    /// Issued in the future, by more than clocks of replicas may differ.
    pub fn is_premature(&self, now: Timestamp) -> bool {
        self.issued_at > now + CLOCK_LEEWAY
    }
}

/// Why a text is no access token of this deployment; for logs, never for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidAccessToken {
    #[error("access token is too long")]
    TooLong,
    #[error("not an access token")]
    NotAToken,
    #[error("access token was not signed with a key of this deployment")]
    UnknownKey,
    #[error("access token has a bad signature")]
    BadSignature,
    #[error("access token has claims that this deployment does not make")]
    BadClaims,
}

/// More than a browser keeps in a cookie; bounds what is hashed for a stranger.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

const CLOCK_LEEWAY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AccessClaims, InvalidAccessToken, VerifiedAccessToken};
    use crate::clock::Timestamp;
    use crate::identity::UserId;
    use crate::secret::{base64url, from_base64url_any};
    use crate::session::{KeyRing, SessionHandle, SigningAlgorithm, SigningKey};

    const ISSUER: &str = "portcullis";
    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn ring(algorithm: SigningAlgorithm) -> KeyRing {
        KeyRing::new(SigningKey::generate(algorithm).unwrap(), [])
    }

    fn token(ring: &KeyRing, user: &str) -> String {
        let user = UserId::parse(user).unwrap();
        let claims = AccessClaims {
            issuer: ISSUER,
            user: &user,
            handle: SessionHandle::from_bytes([1; 16]),
            generation: 3,
            issued_at: NOW,
            expires_at: NOW + Duration::from_secs(3600),
            claims_version: 0,
            session_claims: r#"{"role":"admin"}"#,
        };
        claims.sign(ring).unwrap().expose().to_owned()
    }

    #[test]
    fn each_algorithm_signs_and_verifies() {
        for algorithm in SigningAlgorithm::ALL {
            let ring = ring(algorithm);
            let verified =
                VerifiedAccessToken::verify(&token(&ring, "zoë"), &ring, ISSUER).unwrap();
            assert_eq!(verified.user.as_str(), "zoë");
            assert_eq!(verified.handle, SessionHandle::from_bytes([1; 16]));
            assert_eq!(verified.generation, 3);
            assert_eq!(&*verified.session_claims, r#"{"role":"admin"}"#);
            assert!(!verified.is_expired(NOW + Duration::from_millis(3_599_999)));
            assert!(verified.is_expired(NOW + Duration::from_secs(3600)));
            assert!(!verified.is_premature(NOW - Duration::from_secs(5)));
            assert!(verified.is_premature(NOW - Duration::from_secs(6)));
        }
    }

    #[test]
    fn a_key_that_has_left_the_ring_verifies_nothing() {
        let old = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
        let token = token(&KeyRing::new(old.clone(), []), "alice");
        let new = || SigningKey::generate(SigningAlgorithm::Es256).unwrap();
        assert!(VerifiedAccessToken::verify(&token, &KeyRing::new(new(), [old]), ISSUER).is_ok());
        assert_eq!(
            VerifiedAccessToken::verify(&token, &KeyRing::new(new(), []), ISSUER).unwrap_err(),
            InvalidAccessToken::UnknownKey
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_of_our_form_by_chance(text in "[A-Za-z0-9_.-]{0,200}") {
            proptest::prop_assert!(!VerifiedAccessToken::is_in_form(&text, ISSUER));
        }
    }

    #[test]
    fn the_form_is_told_without_the_key() {
        let good = token(&ring(SigningAlgorithm::Es256), "alice");
        let (message, signature) = good.rsplit_once('.').unwrap();
        let payload = message.split('.').nth(1).unwrap();
        let foreign = base64url(br#"{"iss":"portcullis","sub":"alice","exp":1}"#);
        for (text, ours) in [
            (good.clone(), true),
            (format!("{message}.x"), true),
            (format!("x.{payload}."), true),
            (format!("{message}.{signature}.x"), false),
            (message.to_owned(), false),
            (format!("x.{foreign}.x"), false),
            ("..".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(
                VerifiedAccessToken::is_in_form(&text, ISSUER),
                ours,
                "{text}"
            );
        }
        assert!(!VerifiedAccessToken::is_in_form(&good, "other"));
    }

    #[test]
    fn another_issuer_is_refused() {
        let ring = ring(SigningAlgorithm::Es256);
        let error =
            VerifiedAccessToken::verify(&token(&ring, "alice"), &ring, "other").unwrap_err();
        assert_eq!(error, InvalidAccessToken::BadClaims);
    }

    #[test]
    fn headers_are_not_negotiated() {
        let ring = ring(SigningAlgorithm::Es256);
        let good = token(&ring, "alice");
        let (_, rest) = good.split_once('.').unwrap();
        let kid = ring.signing_key().id().to_string();
        for header in [
            r#"{"alg":"none"}"#.to_owned(),
            format!(r#"{{"typ":"portcullis-assertion+jwt","alg":"ES256","kid":"{kid}"}}"#),
            r#"{"typ":"at+jwt"}"#.to_owned(),
            format!(r#"{{"typ":"at+jwt","alg":"HS256","kid":"{kid}"}}"#),
            format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{kid}"}}"#),
            format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{kid}","jwk":{{}}}}"#),
        ] {
            let forged = format!("{}.{rest}", base64url(header.as_bytes()));
            let error = VerifiedAccessToken::verify(&forged, &ring, ISSUER).unwrap_err();
            assert_eq!(error, InvalidAccessToken::UnknownKey, "{header}");
        }
    }

    #[test]
    fn signatures_that_do_not_hold() {
        let ring = ring(SigningAlgorithm::Es256);
        let (alice, mallory) = (token(&ring, "alice"), token(&ring, "mallory"));
        let (alice_message, _) = alice.rsplit_once('.').unwrap();
        let (_, mallory_signature) = mallory.rsplit_once('.').unwrap();
        let zero = base64url(&[0; 64]);
        for signature in [mallory_signature, "", zero.as_str(), "AAAA"] {
            let forged = format!("{alice_message}.{signature}");
            let error = VerifiedAccessToken::verify(&forged, &ring, ISSUER).unwrap_err();
            assert_eq!(error, InvalidAccessToken::BadSignature, "{signature}");
        }
    }

    #[test]
    fn claims_are_strict_even_when_well_signed() {
        let ring = ring(SigningAlgorithm::Es256);
        let good = token(&ring, "alice");
        let payload = good.split('.').nth(1).unwrap();
        let payload = String::from_utf8(from_base64url_any(payload.as_bytes()).unwrap()).unwrap();
        let exp = (NOW + Duration::from_secs(3600)).as_secs();
        let altered = |from: &str, to: &str| {
            assert!(payload.contains(from), "{from} not in {payload}");
            payload.replacen(from, to, 1)
        };
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let mut cases = vec![
            altered(&format!("\"exp\":{exp},"), ""),
            altered("\"sub\":\"alice\"", "\"sub\":\"alice\",\"sub\":\"bob\""),
            altered("\"sub\":\"alice\"", "\"sub\":1"),
            altered("\"sub\":\"alice\"", "\"sub\":\"\\ud800\""),
            altered("\"sub\":\"alice\"", "\"sub\":\"a\\r\\nb\""),
            altered("{", "{\"nbf\":1,"),
            altered("{", "{\"cv\":-1,"),
            altered("{", "{\"cv\":4294967296,"),
            altered("{", "{\"cv\":\"1\","),
            altered("{", "{\"cv\":1,\"cv\":1,"),
            altered("{", "\u{feff}{"),
            format!("[{payload}]"),
            altered("{\"role\":\"admin\"}", &deep),
            String::new(),
        ];
        for value in [
            "\"1800003600\"",
            "1.8e9",
            "true",
            "null",
            "[1]",
            "1e400",
            "9223372036854775808",
        ] {
            cases.push(altered(
                &format!("\"exp\":{exp}"),
                &format!("\"exp\":{value}"),
            ));
            cases.push(altered(
                &format!("\"iat\":{}", NOW.as_secs()),
                &format!("\"iat\":{value}"),
            ));
        }
        for case in cases {
            let forged = ring.signing_key().sign(case.as_bytes()).unwrap();
            let error = VerifiedAccessToken::verify(forged.expose(), &ring, ISSUER).unwrap_err();
            assert_eq!(error, InvalidAccessToken::BadClaims, "{case:.120}");
        }
    }

    #[test]
    fn what_is_no_token() {
        let ring = ring(SigningAlgorithm::Es256);
        let long = "a".repeat(64 * 1024);
        for text in ["", ".", "..", "a.b.c", "a.b", long.as_str()] {
            assert!(
                VerifiedAccessToken::verify(text, &ring, ISSUER).is_err(),
                "{text:.20}"
            );
        }
        let header_only = token(&ring, "alice").split('.').next().unwrap().to_owned();
        for text in [
            header_only.clone(),
            format!("{header_only}."),
            format!("{header_only}.."),
        ] {
            assert!(VerifiedAccessToken::verify(&text, &ring, ISSUER).is_err());
        }
    }
}
