//! The master key, and the signing keys that it seals.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hkdf, hmac};
use thiserror::Error;
use zeroize::Zeroizing;

use super::signature::KeyPair;
use crate::clock::Timestamp;
use crate::secret::{Secret, TokenText, base64url, from_base64url, random_bytes};

/// The one secret outside of the store: seals the signing keys and is the root of the refresh tokens.
#[derive(Clone, Debug)]
pub struct MasterKey(Secret<32>);

impl MasterKey {
    pub fn generate() -> Self {
        Self(Secret::random())
    }

    /// As written in a file or the environment: 43 characters of base64url, which are 32 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        from_base64url(text.trim().as_bytes()).map(|bytes| Self(Secret::new(bytes)))
    }

    /// The form that [`Self::parse`] reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(base64url(self.0.expose()))
    }

    /// A key for one purpose (HKDF-SHA256, RFC 5869).
    pub fn derive(&self, purpose: &str) -> Secret<32> {
        let mut key = [0; 32];
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis")
            .extract(self.0.expose())
            .expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .expect("HKDF-SHA256 gives 32 bytes");
        Secret::new(key)
    }

    /// Tells one master key from another without telling anything of it; kept in the store, so that a wrong master key is
    /// noticed before anything is written.
    pub fn fingerprint(&self) -> [u8; 16] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.derive("fingerprint").expose());
        let tag = hmac::sign(&key, b"portcullis master key");
        tag.as_ref()[..16]
            .try_into()
            .expect("HMAC-SHA256 gives 32 bytes")
    }

    fn sealing_key(&self) -> RandomizedNonceKey {
        RandomizedNonceKey::new(&AES_256_GCM, self.derive("signing key seal").expose())
            .expect("AES-256-GCM takes 32 bytes")
    }
}

/// The JWS algorithms on offer (RFC 7518 section 3.1, RFC 8037 section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningAlgorithm {
    Es256,
    EdDsa,
    Rs256,
    Hs256,
}

impl SigningAlgorithm {
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Hs256];

    /// As configuration, store and the `alg` header write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }

    /// Whether there is a public half, with which others can verify.
    pub const fn is_asymmetric(self) -> bool {
        !matches!(self, Self::Hs256)
    }
}

impl FromStr for SigningAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == text)
            .ok_or(UnknownAlgorithm)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the algorithms are ES256, EdDSA, RS256 and HS256")]
pub struct UnknownAlgorithm;

/// Names a signing key: the `kid` of the tokens it signs.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// Never begins with a hyphen, which a command line would take for an option.
    pub fn random() -> Self {
        loop {
            let id = base64url(&random_bytes::<9>());
            if !id.starts_with('-') {
                return Self(id.into());
            }
        }
    }

    pub fn from_store(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that signs and verifies tokens.
#[derive(Clone)]
pub struct SigningKey {
    id: KeyId,
    algorithm: SigningAlgorithm,
    /// PKCS#8 (RFC 5208), or the bytes of an HMAC key.
    private: Arc<Zeroizing<Vec<u8>>>,
    pair: Arc<KeyPair>,
    /// The JOSE header of every access token that this key signs, encoded.
    access_header: Arc<str>,
    /// The same of assertions: another `typ`, so that neither can be taken for the other.
    assertion_header: Arc<str>,
}

impl SigningKey {
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Self, KeyError> {
        Self::from_private(KeyId::random(), algorithm, KeyPair::generate(algorithm)?)
    }

    fn from_private(
        id: KeyId,
        algorithm: SigningAlgorithm,
        private: Zeroizing<Vec<u8>>,
    ) -> Result<Self, KeyError> {
        let header = |typ: &str| {
            let header = format!(
                r#"{{"typ":"{typ}","alg":"{}","kid":"{id}"}}"#,
                algorithm.name()
            );
            base64url(header.as_bytes()).into()
        };
        Ok(Self {
            access_header: header("at+jwt"),
            assertion_header: header("portcullis-assertion+jwt"),
            id,
            algorithm,
            pair: Arc::new(KeyPair::read(algorithm, &private)?),
            private: Arc::new(private),
        })
    }

    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    pub(super) fn access_header(&self) -> &str {
        &self.access_header
    }

    /// An access token: a compact JWS (RFC 7515 section 7.1) of `payload`.
    pub fn sign(&self, payload: &[u8]) -> Result<TokenText, SignError> {
        self.sign_with_header(&self.access_header, payload)
    }

    /// The same for an assertion, which no gateway takes for an access token.
    pub fn sign_assertion(&self, payload: &[u8]) -> Result<TokenText, SignError> {
        self.sign_with_header(&self.assertion_header, payload)
    }

    fn sign_with_header(&self, header: &str, payload: &[u8]) -> Result<TokenText, SignError> {
        let message = format!("{header}.{}", base64url(payload));
        let signature = self.pair.sign(message.as_bytes())?;
        Ok(TokenText::new(format!("{message}.{signature}")))
    }

    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        self.pair.verifies(message, signature)
    }

    /// The public half as a JWK (RFC 7517); an HMAC key has none.
    pub fn to_public_jwk(&self) -> Option<serde_json::Value> {
        let mut jwk = self.pair.public_members()?;
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm.name().into();
        jwk["kid"] = self.id.as_str().into();
        Some(jwk)
    }

    /// For the store: readable only with the master key, and only under its own id and algorithm.
    pub fn seal(&self, master: &MasterKey, created_at: Timestamp) -> SealedKey {
        let mut sealed = self.private.to_vec();
        let nonce = master
            .sealing_key()
            .seal_in_place_append_tag(Aad::from(aad(&self.id, self.algorithm)), &mut sealed)
            .expect("AES-256-GCM seals a key of a few kilobytes");
        sealed.splice(0..0, *nonce.as_ref());
        SealedKey {
            id: self.id.clone(),
            algorithm: self.algorithm,
            sealed,
            created_at,
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A signing key as the store keeps it.
#[derive(Clone, Debug)]
pub struct SealedKey {
    pub id: KeyId,
    pub algorithm: SigningAlgorithm,
    /// Nonce and AES-256-GCM ciphertext under the master key.
    pub sealed: Vec<u8>,
    pub created_at: Timestamp,
}

impl SealedKey {
    pub fn unseal(&self, master: &MasterKey) -> Result<SigningKey, UnsealError> {
        let broken = || UnsealError {
            key: self.id.clone(),
        };
        let (nonce, ciphertext) = self
            .sealed
            .split_first_chunk::<NONCE_LEN>()
            .ok_or_else(broken)?;
        let mut private = Zeroizing::new(ciphertext.to_vec());
        let length = master
            .sealing_key()
            .open_in_place(
                Nonce::from(nonce),
                Aad::from(aad(&self.id, self.algorithm)),
                &mut private,
            )
            .map_err(|_| broken())?
            .len();
        private.truncate(length);
        SigningKey::from_private(self.id.clone(), self.algorithm, private).map_err(|_| broken())
    }
}

fn aad(id: &KeyId, algorithm: SigningAlgorithm) -> Vec<u8> {
    format!("{id} {}", algorithm.name()).into_bytes()
}

/// A signing key in the store that the master key does not open.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "signing key {key} in the store does not open with this master key: it was sealed with another one, or altered"
)]
pub struct UnsealError {
    key: KeyId,
}

/// A token that could not be signed, through no fault of the client.
#[derive(Debug, Error)]
pub enum SignError {
    #[error("the claims of a session are not the JSON that they were stored as")]
    Claims(#[from] serde_json::Error),
    #[error("the cryptographic library refuses to sign")]
    Refused(#[from] aws_lc_rs::error::Unspecified),
}

/// A key that could not be made or read.
#[derive(Debug, Error)]
#[error("the cryptographic library refuses the key")]
pub struct KeyError;

impl From<aws_lc_rs::error::Unspecified> for KeyError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self
    }
}

impl From<aws_lc_rs::error::KeyRejected> for KeyError {
    fn from(_: aws_lc_rs::error::KeyRejected) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::{MasterKey, SigningAlgorithm, SigningKey};
    use crate::clock::Timestamp;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn a_master_key_is_written_and_read_back() {
        let key = MasterKey::generate();
        let text = key.to_text();
        assert_eq!(text.len(), 43);
        assert_eq!(
            MasterKey::parse(&format!("{}\n", *text))
                .unwrap()
                .fingerprint(),
            key.fingerprint()
        );
        assert_ne!(MasterKey::generate().fingerprint(), key.fingerprint());
        for text in [
            "",
            "short",
            "!".repeat(43).as_str(),
            "A".repeat(44).as_str(),
        ] {
            assert!(MasterKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn sealed_keys_open_with_their_master_key_alone() {
        let master = MasterKey::generate();
        for algorithm in SigningAlgorithm::ALL {
            let key = SigningKey::generate(algorithm).unwrap();
            let sealed = key.seal(&master, NOW);
            let token = key.sign(b"{}").unwrap();
            let (message, signature) = token.expose().rsplit_once('.').unwrap();
            assert!(
                sealed
                    .unseal(&master)
                    .unwrap()
                    .verifies(message.as_bytes(), signature)
            );
            assert!(sealed.unseal(&MasterKey::generate()).is_err());
            assert!(
                !sealed
                    .sealed
                    .windows(16)
                    .any(|part| key.private.windows(16).any(|clear| clear == part))
            );
        }
    }

    #[test]
    fn a_sealed_key_is_bound_to_its_name_and_algorithm() {
        let master = MasterKey::generate();
        let sealed = SigningKey::generate(SigningAlgorithm::Hs256)
            .unwrap()
            .seal(&master, NOW);
        let mut renamed = sealed.clone();
        renamed.id = super::KeyId::random();
        assert!(renamed.unseal(&master).is_err());
        let mut relabelled = sealed.clone();
        relabelled.algorithm = SigningAlgorithm::EdDsa;
        assert!(relabelled.unseal(&master).is_err());
        let mut cut = sealed;
        cut.sealed.truncate(5);
        assert!(cut.unseal(&master).is_err());
    }

    #[test]
    fn no_key_is_called_like_an_option() {
        let mut ids = (0..1000).map(|_| super::KeyId::random());
        assert!(ids.all(|id| !id.as_str().starts_with('-')));
    }

    #[test]
    fn debug_shows_no_key() {
        let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
        assert!(!format!("{key:?}").contains("private"));
        assert_eq!(
            format!("{:?}", MasterKey::generate()),
            "MasterKey(Secret(redacted))"
        );
    }
}
