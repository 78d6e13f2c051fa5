//! Refresh tokens: opaque to everyone else, derived rather than drawn, refused without a look at the store if forged.
//!
//! ```text
//! token     = base64url(handle 16 | generation 4, big endian | secret 32 | tag 16)
//! tag       = HMAC-SHA256(mac key, handle | generation | secret), cut to 16 bytes
//! secret 0  = HMAC-SHA256(chain key, "first" | session secret | handle)
//! secret n+1= HMAC-SHA256(chain key, "next" | session secret | handle | n+1 | secret n)
//! stored    = HMAC-SHA256(hash key, secret n)
//! ```
//!
//! All three keys come from the master key, which is not in the store: a dump of the store makes no token, not even with
//! an old token in hand. Every replica derives the same successor, so parallel refreshes agree without a lock.

use std::fmt;

use aws_lc_rs::hmac;
use thiserror::Error;

use super::handle::SessionHandle;
use super::keys::MasterKey;
use crate::secret::{Secret, TokenText, base64url, constant_time_eq, from_base64url};

/// One refresh token of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    handle: SessionHandle,
    generation: u32,
    secret: Secret<32>,
}

impl RefreshToken {
    pub fn handle(&self) -> SessionHandle {
        self.handle
    }

    /// 0 for the login's token, one more for each successor.
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

/// What the store keeps of a refresh token: a keyed hash.
#[derive(Clone, Copy)]
pub struct RefreshHash([u8; 32]);

impl RefreshHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for RefreshHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl Eq for RefreshHash {}

impl fmt::Debug for RefreshHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshHash(redacted)")
    }
}

/// The keys that make and check refresh tokens, from the master key.
#[derive(Clone)]
pub struct RefreshKeys {
    mac: hmac::Key,
    chain: hmac::Key,
    hash: hmac::Key,
}

impl RefreshKeys {
    pub fn from_master(master: &MasterKey) -> Self {
        let key =
            |purpose: &str| hmac::Key::new(hmac::HMAC_SHA256, master.derive(purpose).expose());
        Self {
            mac: key("refresh token mac"),
            chain: key("refresh token chain"),
            hash: key("refresh token hash"),
        }
    }

    /// The token that a login gets.
    pub fn first(&self, handle: SessionHandle, session_secret: &Secret<32>) -> RefreshToken {
        let secret = self.derive(&[b"first", session_secret.expose(), handle.as_bytes()]);
        RefreshToken {
            handle,
            generation: 0,
            secret,
        }
    }

    /// The one token that can follow `token`.
    pub fn successor(&self, token: &RefreshToken, session_secret: &Secret<32>) -> RefreshToken {
        let generation = token.generation + 1;
        let secret = self.derive(&[
            b"next",
            session_secret.expose(),
            token.handle.as_bytes(),
            &generation.to_be_bytes(),
            token.secret.expose(),
        ]);
        RefreshToken {
            handle: token.handle,
            generation,
            secret,
        }
    }

    pub fn hash(&self, token: &RefreshToken) -> RefreshHash {
        RefreshHash(output(hmac::sign(&self.hash, token.secret.expose())))
    }

    pub fn text(&self, token: &RefreshToken) -> TokenText {
        let mut bytes = [0; LENGTH];
        bytes[..SECRET_AT].copy_from_slice(&self.head(token));
        bytes[SECRET_AT..TAG_AT].copy_from_slice(token.secret.expose());
        let tag = output(hmac::sign(&self.mac, &bytes[..TAG_AT]));
        bytes[TAG_AT..].copy_from_slice(&tag[..LENGTH - TAG_AT]);
        TokenText::new(base64url(&bytes))
    }

    /// Costs one HMAC and no I/O, whatever a stranger sends.
    pub fn parse(&self, text: &str) -> Result<RefreshToken, InvalidRefreshToken> {
        let bytes: [u8; LENGTH] = from_base64url(text.as_bytes()).ok_or(InvalidRefreshToken)?;
        let tag = output(hmac::sign(&self.mac, &bytes[..TAG_AT]));
        if !constant_time_eq(&bytes[TAG_AT..], &tag[..LENGTH - TAG_AT]) {
            return Err(InvalidRefreshToken);
        }
        let part = |from: usize, to: usize| bytes.get(from..to).ok_or(InvalidRefreshToken);
        let handle = part(0, GENERATION_AT)?
            .try_into()
            .map_err(|_| InvalidRefreshToken)?;
        let generation = part(GENERATION_AT, SECRET_AT)?
            .try_into()
            .map_err(|_| InvalidRefreshToken)?;
        let secret = part(SECRET_AT, TAG_AT)?
            .try_into()
            .map_err(|_| InvalidRefreshToken)?;
        Ok(RefreshToken {
            handle: SessionHandle::from_bytes(handle),
            generation: u32::from_be_bytes(generation),
            secret: Secret::new(secret),
        })
    }

    fn head(&self, token: &RefreshToken) -> [u8; SECRET_AT] {
        let mut head = [0; SECRET_AT];
        head[..GENERATION_AT].copy_from_slice(token.handle.as_bytes());
        head[GENERATION_AT..].copy_from_slice(&token.generation.to_be_bytes());
        head
    }

    fn derive(&self, parts: &[&[u8]]) -> Secret<32> {
        let mut context = hmac::Context::with_key(&self.chain);
        for part in parts {
            context.update(part);
        }
        Secret::new(output(context.sign()))
    }
}

impl fmt::Debug for RefreshKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RefreshKeys(redacted)")
    }
}

/// A text that is no refresh token of this deployment: altered, foreign, or not one at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a refresh token of this deployment")]
pub struct InvalidRefreshToken;

const GENERATION_AT: usize = SessionHandle::BYTES;
const SECRET_AT: usize = GENERATION_AT + 4;
const TAG_AT: usize = SECRET_AT + 32;
const LENGTH: usize = TAG_AT + 16;

fn output(tag: hmac::Tag) -> [u8; 32] {
    tag.as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::{InvalidRefreshToken, LENGTH, RefreshKeys};
    use crate::secret::{Secret, base64url, from_base64url};
    use crate::session::{MasterKey, SessionHandle};

    fn keys() -> RefreshKeys {
        RefreshKeys::from_master(&MasterKey::generate())
    }

    #[test]
    fn is_written_and_read_back() {
        let (keys, secret) = (keys(), Secret::random());
        let first = keys.first(SessionHandle::random(), &secret);
        let second = keys.successor(&first, &secret);
        assert_eq!(second.generation(), 1);
        for token in [first, second] {
            assert_eq!(keys.parse(keys.text(&token).expose()), Ok(token));
        }
    }

    #[test]
    fn the_successor_is_the_same_for_all_who_derive_it() {
        let master = MasterKey::generate();
        let (one, other) = (
            RefreshKeys::from_master(&master),
            RefreshKeys::from_master(&master),
        );
        let secret = Secret::random();
        let first = one.first(SessionHandle::random(), &secret);
        assert_eq!(
            one.successor(&first, &secret),
            other.successor(&first, &secret)
        );
        assert_ne!(
            one.successor(&first, &Secret::random()),
            one.successor(&first, &secret)
        );
    }

    #[test]
    fn no_altered_bit_passes() {
        let keys = keys();
        let token = keys.text(&keys.first(SessionHandle::random(), &Secret::random()));
        let bytes: [u8; LENGTH] = from_base64url(token.expose().as_bytes()).unwrap();
        for bit in 0..LENGTH * 8 {
            let mut altered = bytes;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                keys.parse(&base64url(&altered)),
                Err(InvalidRefreshToken),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn foreign_and_malformed_texts_do_not_pass() {
        let (keys, foreign) = (keys(), keys());
        let token = foreign.text(&foreign.first(SessionHandle::random(), &Secret::random()));
        let own = keys.text(&keys.first(SessionHandle::random(), &Secret::random()));
        let padded = format!("{}=", own.expose());
        let long = "A".repeat(64 * 1024);
        for text in [
            token.expose(),
            "",
            "x",
            padded.as_str(),
            long.as_str(),
            "eyJhbGciOiJub25lIn0.e30.",
        ] {
            assert_eq!(keys.parse(text), Err(InvalidRefreshToken), "{text:.40}");
        }
    }
}
