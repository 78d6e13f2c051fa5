//! What the store takes and gives besides sessions: numbers, log entries, replica rows.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::secret::{base64url, random_bytes};
use crate::session::{KeyId, Lineage, RefreshHash, SessionHandle};

/// The number of a transaction that ended something, in commit order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// Of the empty history that a migration leaves; every revocation comes after it.
    pub const ZERO: Self = Self(0);

    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a process that follows the log: drawn at every start, never configured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId([u8; Self::BYTES]);

impl ReplicaId {
    pub const BYTES: usize = 16;

    pub fn random() -> Self {
        Self(random_bytes())
    }

    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

impl fmt::Debug for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Drawn for every transaction that ends something: if a sequence comes with another mark than before, history changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; Self::BYTES]);

impl Mark {
    pub const BYTES: usize = 8;

    pub fn random() -> Self {
        Self(random_bytes())
    }

    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

/// Why a session was ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevocationReason {
    /// Its user logged out on that device.
    Logout,
    /// Its user logged out everywhere.
    LogoutUser,
    /// An operator ended it.
    Admin,
    /// A refresh token of it was used by two.
    Theft,
    /// Its browser logged in anew.
    Replaced,
    /// The application asked for it.
    App,
}

impl RevocationReason {
    pub const ALL: [Self; 6] = [
        Self::Logout,
        Self::LogoutUser,
        Self::Admin,
        Self::Theft,
        Self::Replaced,
        Self::App,
    ];

    /// As the log, the metrics and the audit write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::LogoutUser => "logout-user",
            Self::Admin => "admin",
            Self::Theft => "theft",
            Self::Replaced => "replaced",
            Self::App => "app",
        }
    }
}

/// A reason as the log has it: perhaps written by a newer version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedReason {
    Known(RevocationReason),
    /// Nothing ended: the signing keys changed, and are to be read anew before the entry is confirmed.
    Keys,
    /// Nothing ended: the claims of the session changed, and access tokens with an older version are not accepted.
    Claims {
        version: u32,
    },
    /// Who does not know what an entry means must not confirm it.
    Unknown(String),
}

impl LoggedReason {
    /// As the log writes [`Self::Keys`].
    pub(super) const KEYS: &str = "keys";
    /// As the log writes [`Self::Claims`].
    pub(super) const CLAIMS: &str = "claims";

    /// Of an entry about claims: the least version that is accepted.
    pub(super) fn claims_version(&self) -> Option<u32> {
        match self {
            Self::Claims { version } => Some(*version),
            _ => None,
        }
    }

    /// As the log has it.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(reason) => reason.name(),
            Self::Keys => Self::KEYS,
            Self::Claims { .. } => Self::CLAIMS,
            Self::Unknown(name) => name,
        }
    }

    pub(super) fn from_text(text: String) -> Self {
        if text == Self::KEYS {
            return Self::Keys;
        }
        RevocationReason::ALL
            .into_iter()
            .find(|reason| reason.name() == text)
            .map_or(Self::Unknown(text), Self::Known)
    }
}

/// One line of the revocation log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub sequence: Sequence,
    /// `None` when a user without sessions was revoked, or the keys changed: the entry is there to be confirmed.
    pub handle: Option<SessionHandle>,
    pub reason: LoggedReason,
    /// The last access token of the session has expired by then.
    pub expires: Timestamp,
    pub mark: Mark,
}

/// What one look at the log gave, in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// All entries after the sequence asked for, in order; never half of one sequence.
    pub entries: Vec<LogEntry>,
    /// Of the sequence asked for itself; `None` if the log does not have it (any more).
    pub mark: Option<Mark>,
}

/// A process that follows the log, as it last wrote of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaRow {
    pub id: ReplicaId,
    /// Counts its renewals.
    pub beat: u64,
    /// It refuses all that was revoked up to here.
    pub applied: Sequence,
    /// For how long it trusts what it read.
    pub lease: Duration,
}

/// What a transaction that ends sessions did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Every replica must have confirmed this before the answer is sent. When nothing was found to end, the newest there is:
    /// who ended it before may not have waited yet.
    pub sequence: Sequence,
    /// What was there to end, by handle.
    pub ended: Vec<Ended>,
}

/// The last time that all sessions of a user were ended, as the store remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRevocation {
    pub user: UserId,
    pub sequence: Sequence,
    pub at: Timestamp,
}

/// A user who may not have sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisabledUser {
    pub user: UserId,
    pub since: Timestamp,
}

/// What was copied from one store to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub sessions: u64,
    /// Entries of the revocation log.
    pub revocations: u64,
    /// In every state.
    pub keys: u64,
    pub disabled_users: u64,
    /// The newest sequence, from which the target counts on.
    pub sequence: Sequence,
}

/// What a transaction that changes claims did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimsChange {
    /// Every replica must have confirmed this before the answer is sent.
    pub sequence: Sequence,
    /// The least that is accepted from now on.
    pub version: u32,
    /// The last access token with an older version has expired by then.
    pub expires: Timestamp,
}

/// A session that a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub handle: SessionHandle,
    /// The last access token of the session has expired by then; never before the revocation itself.
    pub expires: Timestamp,
}

/// What the store says of an access token whose signature holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    Live,
    /// The session lives, but the key that signed the token is not accepted any more.
    KeyDropped,
    /// The session lives, but its claims have changed since the token was made.
    Outdated,
    /// The session has ended.
    Over,
}

/// What a token that was shown says of itself, besides whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'t> {
    /// The key that signed it.
    pub key: &'t KeyId,
    /// Of the claims in it.
    pub claims_version: u32,
}

/// What became of the revocation of a signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRevocation {
    /// Every replica must have confirmed this before the answer is given. When nothing was there to revoke, the newest there
    /// is: who revoked it before may not have waited yet.
    pub sequence: Sequence,
    pub found: FoundKey,
}

/// What a revocation of a signing key has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundKey {
    /// A key that signed; another one signs now.
    Signing,
    /// A key that verified only.
    Other,
    /// A key that had been revoked before.
    Revoked,
    /// No such key, or one that has been forgotten since.
    None,
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The session is open; the one that it replaces, if there still was one, has ended.
    Opened { replaced: Option<Revocation> },
    /// All sessions of the user were ended after the login had begun: nothing was written.
    Overtaken,
    /// The user is disabled: nothing was written.
    Disabled,
}

/// The exchange of a session's newest refresh token for its successor.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    pub handle: SessionHandle,
    /// The generation that was read; if it is no longer the newest, somebody else was faster.
    pub from_generation: u32,
    pub to: Lineage,
    /// Of the claims that were read; if they have changed since, the token would be refused.
    pub claims_version: u32,
    pub refresh_hash: RefreshHash,
    /// Of the access token that goes with it.
    pub access_expires_at: Timestamp,
    pub now: Timestamp,
}

/// The first sight of an access token of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenUse {
    pub handle: SessionHandle,
    pub generation: u32,
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::{LoggedReason, RevocationReason};

    #[test]
    fn reasons_are_written_and_read_back() {
        for reason in RevocationReason::ALL {
            assert_eq!(
                LoggedReason::from_text(reason.name().to_owned()),
                LoggedReason::Known(reason)
            );
        }
        assert_eq!(LoggedReason::from_text("keys".into()), LoggedReason::Keys);
        assert_eq!(
            LoggedReason::from_text("Logout".into()),
            LoggedReason::Unknown("Logout".into())
        );
    }
}
