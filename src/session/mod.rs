//! Sessions without HTTP or SQL: what they are, their tokens, and when a refresh token may be exchanged.
//!
//! Nothing here does I/O or reads a clock. The store keeps [`Session`]s, the proxy moves tokens; this module decides.

mod access_token;
mod anti_csrf;
mod assertion;
mod handle;
mod keys;
mod refresh_token;
mod ring;
mod rotation;
mod signature;

use std::time::Duration;

pub use access_token::{AccessClaims, InvalidAccessToken, VerifiedAccessToken};
pub use anti_csrf::AntiCsrfKey;
pub use assertion::AssertionClaims;
pub use handle::{InvalidHandle, SessionHandle};
pub use keys::{
    KeyError, KeyId, MasterKey, SealedKey, SignError, SigningAlgorithm, SigningKey, UnsealError,
};
pub use refresh_token::{InvalidRefreshToken, RefreshHash, RefreshKeys, RefreshToken};
pub use ring::{KeyRing, KeyStanding, KeyState, RotationSettings, Step, StoredKey, next_step};
pub use rotation::{Decision, Lineage, OverReason, decide};

use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::secret::Secret;

/// One login on one device: a row in the store.
#[derive(Clone, Debug)]
pub struct Session {
    pub handle: SessionHandle,
    pub user: UserId,
    /// Goes into the derivation of every refresh token after the first; useless without the master key.
    pub secret: Secret<32>,
    /// Which refresh token is the newest, and since when.
    pub lineage: Lineage,
    /// Keyed hash of the newest refresh token.
    pub refresh_hash: RefreshHash,
    /// JSON object that goes into every access token.
    pub claims: String,
    /// Counts the changes of the claims: access tokens with an older count are not accepted any more.
    pub claims_version: u32,
    /// JSON that stays in the store.
    pub data: String,
    pub created_at: Timestamp,
    /// The last time that a token was issued for it.
    pub last_seen_at: Timestamp,
    /// When the last access token that it was given expires: its revocation is remembered for so long.
    pub access_expires_at: Timestamp,
    /// Where it was opened from, as shown to people.
    pub device: Device,
}

/// Where a session was opened from, as the first request told it; for people, never for decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub address: String,
    pub user_agent: String,
}

/// How long things of a session live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// An access token is accepted for this long.
    pub access: Duration,
    /// A session ends when it was not refreshed for this long.
    pub idle: Duration,
    /// A session ends this long after its login, refreshed or not.
    pub absolute: Duration,
    /// A refresh token whose successor was used is still honoured for this long.
    pub reuse_grace: Duration,
}
