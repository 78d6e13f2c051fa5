//! Assertions: what the gateway tells the application about a caller, signed for it.
//!
//! The application verifies one with the public keys and needs to trust neither its network nor whoever else can reach it. It
//! lives a minute, and its `typ` is another than an access token's: should one leak, it opens no session.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::access_token::VerifiedAccessToken;
use super::keys::{SignError, SigningKey};
use crate::clock::Timestamp;
use crate::secret::TokenText;

/// What goes into an assertion.
#[derive(Clone, Debug)]
pub struct AssertionClaims<'a> {
    pub issuer: &'a str,
    /// The application that it is meant for.
    pub audience: &'a str,
    pub caller: &'a VerifiedAccessToken,
    pub issued_at: Timestamp,
}

impl AssertionClaims<'_> {
    /// Long enough for one request, even a queued one.
    pub const LIFETIME: Duration = Duration::from_secs(60);

    pub fn sign(&self, key: &SigningKey) -> Result<TokenText, SignError> {
        let payload = Payload {
            iss: self.issuer,
            aud: self.audience,
            sub: self.caller.user.as_str(),
            sid: self.caller.handle.to_string(),
            iat: self.issued_at.as_secs(),
            exp: (self.issued_at + Self::LIFETIME).as_secs(),
            claims: serde_json::from_str(&self.caller.session_claims)?,
        };
        key.sign_assertion(&serde_json::to_vec(&payload)?)
    }
}

/// RFC 7519 section 4.1; `sid` and `claims` as in access tokens.
#[derive(Serialize)]
struct Payload<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    sid: String,
    iat: i64,
    exp: i64,
    claims: &'a RawValue,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use serde_json::Value;

    use super::AssertionClaims;
    use crate::clock::Timestamp;
    use crate::identity::UserId;
    use crate::session::{
        InvalidAccessToken, KeyRing, SessionHandle, SigningAlgorithm, SigningKey,
        VerifiedAccessToken,
    };

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn caller(key: &SigningKey) -> VerifiedAccessToken {
        VerifiedAccessToken {
            handle: SessionHandle::from_bytes([1; 16]),
            user: UserId::parse("zoë").unwrap(),
            generation: 3,
            issued_at: NOW,
            expires_at: NOW,
            key: key.id().clone(),
            claims_version: 0,
            session_claims: Arc::from(r#"{"role":"admin"}"#),
        }
    }

    fn assertion(key: &SigningKey) -> String {
        let claims = AssertionClaims {
            issuer: "https://g.test",
            audience: "app",
            caller: &caller(key),
            issued_at: NOW,
        };
        claims.sign(key).unwrap().expose().to_owned()
    }

    #[test]
    fn the_public_keys_verify_it() {
        for algorithm in SigningAlgorithm::ALL {
            let key = SigningKey::generate(algorithm).unwrap();
            let jwks = KeyRing::new(key.clone(), []).to_jwks();
            if !algorithm.is_asymmetric() {
                assert_eq!(jwks["keys"], serde_json::json!([]), "a secret is shown");
                continue;
            }
            let shown = jwks["keys"][0].as_object().unwrap();
            let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
            assert!(private.iter().all(|name| !shown.contains_key(*name)));
            assert_eq!(shown["use"], "sig");
            let jwks: JwkSet = serde_json::from_value(jwks).unwrap();
            let token = assertion(&key);
            let header = decode_header(&token).unwrap();
            assert_eq!(header.typ.as_deref(), Some("portcullis-assertion+jwt"));
            let jwk = jwks.find(&header.kid.unwrap()).unwrap();
            let mut validation = Validation::new(header.alg);
            validation.set_audience(&["app"]);
            validation.set_issuer(&["https://g.test"]);
            validation.validate_exp = false;
            let decoding = DecodingKey::from_jwk(jwk).unwrap();
            let claims = decode::<Value>(&token, &decoding, &validation)
                .unwrap()
                .claims;
            assert_eq!(claims["sub"], "zoë");
            assert_eq!(
                claims["sid"],
                SessionHandle::from_bytes([1; 16]).to_string()
            );
            assert_eq!(claims["claims"]["role"], "admin");
            assert_eq!(claims["iat"], NOW.as_secs());
            assert_eq!(claims["exp"], NOW.as_secs() + 60);
        }
    }

    #[test]
    fn it_is_no_access_token() {
        for algorithm in SigningAlgorithm::ALL {
            let key = SigningKey::generate(algorithm).unwrap();
            let token = assertion(&key);
            let ring = KeyRing::new(key, []);
            assert_eq!(
                VerifiedAccessToken::verify(&token, &ring, "https://g.test").unwrap_err(),
                InvalidAccessToken::UnknownKey
            );
        }
    }

    /// T041: what is public of a key is no secret to sign with.
    #[test]
    fn a_public_key_is_no_hmac_secret() {
        use jsonwebtoken::{Algorithm, EncodingKey, crypto};
        let key = SigningKey::generate(SigningAlgorithm::Rs256).unwrap();
        let ring = KeyRing::new(key.clone(), []);
        let jwk = key.to_public_jwk().unwrap();
        let good = key.sign(b"{}").unwrap();
        let (message, _) = good.expose().rsplit_once('.').unwrap();
        let payload = message.split_once('.').unwrap().1;
        let header = format!(r#"{{"typ":"at+jwt","alg":"HS256","kid":"{}"}}"#, key.id());
        let relabelled = format!("{}.{payload}", crate::secret::base64url(header.as_bytes()));
        let jwks = ring.to_jwks().to_string();
        let modulus = crate::secret::from_base64url_any(jwk["n"].as_str().unwrap().as_bytes());
        for secret in [
            jwk.to_string().into_bytes(),
            jwks.into_bytes(),
            modulus.unwrap(),
        ] {
            for message in [message, relabelled.as_str()] {
                let signature = crypto::sign(
                    message.as_bytes(),
                    &EncodingKey::from_secret(&secret),
                    Algorithm::HS256,
                )
                .unwrap();
                let forged = format!("{message}.{signature}");
                assert!(VerifiedAccessToken::verify(&forged, &ring, "https://g.test").is_err());
            }
        }
    }
}
