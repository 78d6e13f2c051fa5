//! The signatures of tokens (RFC 7518 section 3, RFC 8037 section 3.1).
//!
//! A key is taken apart once, into what the cryptographic library computes with. To do that for each token would cost a good
//! part of what the check of a signature costs.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::keys::{KeyError, SigningAlgorithm};
use crate::secret::{base64url, from_base64url_any, random_bytes};

/// Both halves of a signing key, ready for use.
pub(super) enum KeyPair {
    Es256(EcdsaKeyPair, ParsedPublicKey),
    EdDsa(Ed25519KeyPair, ParsedPublicKey),
    Rs256(RsaKeyPair, ParsedPublicKey),
    Hs256(Box<hmac::Key>),
}

impl KeyPair {
    /// A new one, as [`Self::read`] takes it.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let private = match algorithm {
            SigningAlgorithm::Es256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?
                .to_pkcs8v1()?
                .as_ref()
                .to_vec(),
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate()?.to_pkcs8v1()?.as_ref().to_vec(),
            SigningAlgorithm::Rs256 => {
                AsDer::<Pkcs8V1Der<'_>>::as_der(&RsaKeyPair::generate(KeySize::Rsa2048)?)?
                    .as_ref()
                    .to_vec()
            }
            SigningAlgorithm::Hs256 => random_bytes::<32>().to_vec(),
        };
        Ok(Zeroizing::new(private))
    }

    /// From PKCS#8 (RFC 5208), or the bytes of an HMAC key.
    pub fn read(algorithm: SigningAlgorithm, private: &[u8]) -> Result<Self, KeyError> {
        Ok(match algorithm {
            SigningAlgorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private)?;
                let public = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key())?;
                Self::Es256(pair, public)
            }
            SigningAlgorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(private)?;
                let public = ParsedPublicKey::new(&ED25519, pair.public_key())?;
                Self::EdDsa(pair, public)
            }
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(private)?;
                let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key())?;
                Self::Rs256(pair, public)
            }
            SigningAlgorithm::Hs256 => {
                Self::Hs256(Box::new(hmac::Key::new(hmac::HMAC_SHA256, private)))
            }
        })
    }

    /// The signature of a message, in base64url as a JWS has it (RFC 7515 section 7.1).
    pub fn sign(&self, message: &[u8]) -> Result<String, aws_lc_rs::error::Unspecified> {
        Ok(match self {
            Self::Es256(pair, _) => base64url(pair.sign(&SystemRandom::new(), message)?.as_ref()),
            Self::EdDsa(pair, _) => base64url(pair.sign(message).as_ref()),
            Self::Rs256(pair, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let random = SystemRandom::new();
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                base64url(&signature)
            }
            Self::Hs256(key) => base64url(hmac::sign(key, message).as_ref()),
        })
    }

    /// Whether a text is the signature of a message. There is one text for each signature (RFC 7515 section 2).
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        let Some(signature) = from_base64url_any(signature.as_bytes()) else {
            return false;
        };
        match self {
            Self::Es256(_, public) | Self::EdDsa(_, public) | Self::Rs256(_, public) => {
                public.verify_sig(message, &signature).is_ok()
            }
            Self::Hs256(key) => hmac::verify(key, message, &signature).is_ok(),
        }
    }

    /// What a JWK says of the public half alone (RFC 7518 section 6, RFC 8037 section 2); an HMAC key has none.
    pub fn public_members(&self) -> Option<Value> {
        Some(match self {
            Self::Es256(pair, _) => {
                // Uncompressed (SEC 1 section 2.3.3): a byte that says so, and both coordinates.
                let (x, y) = pair.public_key().as_ref().get(1..)?.split_at_checked(32)?;
                json!({ "kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y) })
            }
            Self::EdDsa(pair, _) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key().as_ref()) })
            }
            Self::Rs256(pair, _) => {
                let public = RsaPublicKeyComponents::from(pair.public_key());
                json!({ "kty": "RSA", "n": base64url(&public.n), "e": base64url(&public.e) })
            }
            Self::Hs256(_) => return None,
        })
    }
}
