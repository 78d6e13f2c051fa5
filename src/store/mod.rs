//! The session store: sessions, the revocation log and the sealed signing keys, in a database.
//!
//! One enum, one struct per database, full SQL in each with the same functions in the same order, and one contract suite
//! over all (`tests/store`). The set of databases is closed, so there is no trait; each speaks its own dialect at the few
//! places that matter (locks, upserts), so there is no common denominator either.
//!
//! What all of them hold:
//!
//! - Times come from the caller; the database's clock is never read.
//! - A state change is one conditional statement whose affected rows are checked, or one transaction. Locks are taken in one
//!   order: session rows by handle, then the head of the log, then commit. So sequences are given in commit order, and who
//!   has read sequence *n* has missed none below.
//! - Nothing waits without a bound: an operation that cannot be done in a few seconds is [`StoreError::Unavailable`].
//!   After that error of a writing operation, it may or may not have happened; all of them can be repeated.
//!
//! Nothing of HTTP here, and nothing of what a sequence or a lease is for: that is the revocation module's.

mod error;
mod location;
mod migrations;
mod mysql;
mod pool;
mod postgres;
mod records;
mod rows;
mod sqlite;
mod wake_up;

use std::time::Duration;

pub use error::{Outage, StoreError};
pub use location::{ServerUrl, StoreLocation};
pub use migrations::PendingMigration;
pub use records::{
    ClaimsChange, DisabledUser, Ended, FoundKey, KeyRevocation, Liveness, LogEntry, LogRead,
    LoggedReason, Mark, Moved, OpenOutcome, ReplicaId, ReplicaRow, Revocation, RevocationReason,
    Rotation, Sequence, Shown, TokenUse, UserRevocation,
};

pub use wake_up::WakeUp;

use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::{KeyId, SealedKey, Session, SessionHandle, StoredKey};
use mysql::MySqlStore;
use pool::bounded;
use postgres::PostgresStore;
use sqlite::SqliteStore;

/// How much longer than its access tokens a revocation (or an idle session's row) is kept: the clocks of two replicas may
/// differ by less than this.
pub const RETENTION_MARGIN: Duration = Duration::from_mins(10);

/// How long a revoked key is still listed, for whoever looks into what happened.
pub const REVOKED_KEY_MEMORY: Duration = Duration::from_hours(30 * 24);

/// How long a user's last revocation is remembered for the sake of logins that began before it: longer than any login.
pub const LOGIN_BOUND: Duration = Duration::from_hours(24);

/// How many rows a move has in memory.
const MOVED_AT_ONCE: u32 = 500;

/// Settings of this module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Connections to a database server that this process has at most; a file has those that it needs.
    pub connections: u16,
    /// Whether opening the store brings its tables up to date. If not, a store whose tables are not is not opened.
    pub migrate: bool,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            connections: 12,
            migrate: true,
        }
    }
}

/// The store, whichever database it is; cheap to clone.
#[derive(Clone, Debug)]
pub enum SessionStore {
    Sqlite(SqliteStore),
    Postgres(PostgresStore),
    Mysql(MySqlStore),
}

impl SessionStore {
    /// Connects to the database that `url` names and brings its tables up to date; see [`StoreLocation`] and
    /// [`Self::open_at`].
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let location =
            StoreLocation::parse(url).map_err(|expected| StoreError::Url { expected })?;
        Self::open_at(&location, StoreSettings::default()).await
    }

    /// Connects to the database. Creates it if it is a file that is missing, and brings its tables up to date, unless `settings`
    /// say that somebody else does.
    pub async fn open_at(
        location: &StoreLocation,
        settings: StoreSettings,
    ) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Sqlite(path) => {
                SqliteStore::open(path, settings).await.map(Self::Sqlite)
            }
            StoreLocation::Postgres(url) => {
                PostgresStore::open(url, settings).await.map(Self::Postgres)
            }
            StoreLocation::Mysql(url) => MySqlStore::open(url, settings).await.map(Self::Mysql),
        }
    }

    /// What opening the store would change in its tables; changes nothing.
    pub async fn pending_migrations(
        location: &StoreLocation,
    ) -> Result<Vec<PendingMigration>, StoreError> {
        match location {
            StoreLocation::Sqlite(path) => SqliteStore::pending(path).await,
            StoreLocation::Postgres(url) => PostgresStore::pending(url).await,
            StoreLocation::Mysql(url) => MySqlStore::pending(url).await,
        }
    }

    /// Brings the tables up to date and says what that took: nothing, if another process was faster.
    pub async fn migrate(location: &StoreLocation) -> Result<Vec<PendingMigration>, StoreError> {
        match location {
            StoreLocation::Sqlite(path) => SqliteStore::migrate(path).await,
            StoreLocation::Postgres(url) => PostgresStore::migrate(url).await,
            StoreLocation::Mysql(url) => MySqlStore::migrate(url).await,
        }
    }

    /// Ends all connections, after the operations that run.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::Postgres(store) => store.close().await,
            Self::Mysql(store) => store.close().await,
        }
    }

    /// How to hear that the log may have news, beside reading it now and then.
    pub fn wake_up(&self) -> WakeUp {
        match self {
            Self::Sqlite(_) | Self::Mysql(_) => WakeUp::Never,
            Self::Postgres(store) => WakeUp::Listener(store.listener()),
        }
    }

    // Sessions

    /// Writes the session that a login opens, and ends the one that its browser had.
    ///
    /// `known` is the newest sequence that the replica knew when the login's request arrived: if all sessions of the user were
    /// ended after that, the login is too late.
    pub async fn open_session(
        &self,
        new: &Session,
        known: Sequence,
        replaces: Option<SessionHandle>,
    ) -> Result<OpenOutcome, StoreError> {
        match self {
            Self::Sqlite(store) => store.open_session(new, known, replaces).await,
            Self::Postgres(store) => bounded(store.open_session(new, known, replaces)).await,
            Self::Mysql(store) => store.open_session(new, known, replaces).await,
        }
    }

    /// The session as it is, over or not.
    pub async fn session(&self, handle: SessionHandle) -> Result<Option<Session>, StoreError> {
        match self {
            Self::Sqlite(store) => store.session(handle).await,
            Self::Postgres(store) => bounded(store.session(handle)).await,
            Self::Mysql(store) => store.session(handle).await,
        }
    }

    /// Whether the session exists and has not ended by itself, and the token that was shown, if there is one, is of a key that is
    /// not revoked and of the claims of now: what a replica asks that cannot trust its memory. One read.
    pub async fn liveness(
        &self,
        handle: SessionHandle,
        shown: Option<Shown<'_>>,
        now: Timestamp,
    ) -> Result<Liveness, StoreError> {
        match self {
            Self::Sqlite(store) => store.liveness(handle, shown, now).await,
            Self::Postgres(store) => bounded(store.liveness(handle, shown, now)).await,
            Self::Mysql(store) => store.liveness(handle, shown, now).await,
        }
    }

    /// Exchanges the newest refresh token for its successor; `false` if the session is gone, somebody was faster, or the claims
    /// have changed.
    pub async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.rotate(rotation).await,
            Self::Postgres(store) => bounded(store.rotate(rotation)).await,
            Self::Mysql(store) => store.rotate(rotation).await,
        }
    }

    /// Notes that another access token was issued without a rotation; `false` if the session is gone or its claims are not of
    /// that version any more, and then it must not be handed out.
    pub async fn extend(
        &self,
        handle: SessionHandle,
        claims_version: u32,
        access_expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => {
                store
                    .extend(handle, claims_version, access_expires_at, now)
                    .await
            }
            Self::Postgres(store) => {
                bounded(store.extend(handle, claims_version, access_expires_at, now)).await
            }
            Self::Mysql(store) => {
                store
                    .extend(handle, claims_version, access_expires_at, now)
                    .await
            }
        }
    }

    /// Notes the first use of access tokens, if their generation is still the newest; later ones change nothing.
    pub async fn note_use(&self, uses: &[TokenUse]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.note_use(uses).await,
            Self::Postgres(store) => bounded(store.note_use(uses)).await,
            Self::Mysql(store) => store.note_use(uses).await,
        }
    }

    /// Up to `limit` sessions of the user, ordered by handle, from the one that follows `after`.
    pub async fn sessions_of_user(
        &self,
        user: &UserId,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        match self {
            Self::Sqlite(store) => store.sessions_of_user(user, after, limit).await,
            Self::Postgres(store) => bounded(store.sessions_of_user(user, after, limit)).await,
            Self::Mysql(store) => store.sessions_of_user(user, after, limit).await,
        }
    }

    /// Up to `limit` sessions of anyone, ordered by handle, from the one that follows `after`.
    pub async fn all_sessions(
        &self,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        match self {
            Self::Sqlite(store) => store.all_sessions(after, limit).await,
            Self::Postgres(store) => bounded(store.all_sessions(after, limit)).await,
            Self::Mysql(store) => store.all_sessions(after, limit).await,
        }
    }

    /// Replaces what the application keeps with the session; `false` if the session is gone.
    pub async fn replace_data(
        &self,
        handle: SessionHandle,
        data: &str,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.replace_data(handle, data).await,
            Self::Postgres(store) => bounded(store.replace_data(handle, data)).await,
            Self::Mysql(store) => store.replace_data(handle, data).await,
        }
    }

    /// Replaces the claims of the session, and enters that in the log in the same transaction; `None` if the session is gone.
    pub async fn replace_claims(
        &self,
        handle: SessionHandle,
        claims: &str,
        now: Timestamp,
    ) -> Result<Option<ClaimsChange>, StoreError> {
        match self {
            Self::Sqlite(store) => store.replace_claims(handle, claims, now).await,
            Self::Postgres(store) => bounded(store.replace_claims(handle, claims, now)).await,
            Self::Mysql(store) => store.replace_claims(handle, claims, now).await,
        }
    }

    /// Removes up to `limit` sessions that ended by themselves and whose access tokens have expired everywhere; returns how
    /// many. They are not revoked: nothing needs to be told.
    pub async fn remove_expired(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.remove_expired(now, limit).await,
            Self::Postgres(store) => bounded(store.remove_expired(now, limit)).await,
            Self::Mysql(store) => store.remove_expired(now, limit).await,
        }
    }

    // Revocation

    /// Ends the sessions that are still there, under one sequence. Of those that are not, the answer says from which sequence
    /// on everyone knows.
    pub async fn revoke(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        match self {
            Self::Sqlite(store) => store.revoke(handles, reason, now).await,
            Self::Postgres(store) => bounded(store.revoke(handles, reason, now)).await,
            Self::Mysql(store) => store.revoke(handles, reason, now).await,
        }
    }

    /// Ends all sessions of the user, and the logins that have begun but opened none yet. Always takes a sequence.
    pub async fn revoke_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        match self {
            Self::Sqlite(store) => store.revoke_user(user, reason, now).await,
            Self::Postgres(store) => bounded(store.revoke_user(user, reason, now)).await,
            Self::Mysql(store) => store.revoke_user(user, reason, now).await,
        }
    }

    /// Ends all sessions of the user as [`Self::revoke_user`] does, and lets no login open another until [`Self::enable_user`]:
    /// in one transaction.
    pub async fn disable_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        match self {
            Self::Sqlite(store) => store.disable_user(user, reason, now).await,
            Self::Postgres(store) => bounded(store.disable_user(user, reason, now)).await,
            Self::Mysql(store) => store.disable_user(user, reason, now).await,
        }
    }

    /// Lets logins of the user open sessions again; `false` if they could.
    pub async fn enable_user(&self, user: &UserId) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.enable_user(user).await,
            Self::Postgres(store) => bounded(store.enable_user(user)).await,
            Self::Mysql(store) => store.enable_user(user).await,
        }
    }

    /// Since when the user is disabled, if so.
    pub async fn user_disabled(&self, user: &UserId) -> Result<Option<Timestamp>, StoreError> {
        match self {
            Self::Sqlite(store) => store.user_disabled(user).await,
            Self::Postgres(store) => bounded(store.user_disabled(user)).await,
            Self::Mysql(store) => store.user_disabled(user).await,
        }
    }

    /// The newest sequence.
    pub async fn head(&self) -> Result<Sequence, StoreError> {
        match self {
            Self::Sqlite(store) => store.head().await,
            Self::Postgres(store) => bounded(store.head()).await,
            Self::Mysql(store) => store.head().await,
        }
    }

    /// Writes the row of a replica: joins, renews and confirms in one. Committed when this returns. Its beat is one that this
    /// replica never wrote before, so that no other can take the row for one that it saw earlier.
    pub async fn renew_replica(&self, row: &ReplicaRow) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.renew_replica(row).await,
            Self::Postgres(store) => bounded(store.renew_replica(row)).await,
            Self::Mysql(store) => store.renew_replica(row).await,
        }
    }

    /// All entries after `applied` and the mark of `applied` itself, in a snapshot taken after the call.
    pub async fn read_log(&self, applied: Sequence) -> Result<LogRead, StoreError> {
        match self {
            Self::Sqlite(store) => store.read_log(applied).await,
            Self::Postgres(store) => bounded(store.read_log(applied)).await,
            Self::Mysql(store) => store.read_log(applied).await,
        }
    }

    /// The entries after `after`, in order, until there are `limit`; more where the last sequence has more.
    pub async fn log_page(&self, after: Sequence, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        match self {
            Self::Sqlite(store) => store.log_page(after, limit).await,
            Self::Postgres(store) => bounded(store.log_page(after, limit)).await,
            Self::Mysql(store) => store.log_page(after, limit).await,
        }
    }

    /// The rows of all replicas, ordered by id, in a snapshot taken after the call.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        match self {
            Self::Sqlite(store) => store.replicas().await,
            Self::Postgres(store) => bounded(store.replicas()).await,
            Self::Mysql(store) => store.replicas().await,
        }
    }

    /// Removes the row of a replica, if `beat` is still its beat (or `None`); returns whether there was one.
    pub async fn remove_replica(
        &self,
        id: &ReplicaId,
        beat: Option<u64>,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.remove_replica(id, beat).await,
            Self::Postgres(store) => bounded(store.remove_replica(id, beat)).await,
            Self::Mysql(store) => store.remove_replica(id, beat).await,
        }
    }

    /// Removes the log entries that no access token needs any more, but never the newest, and forgets revocations of users
    /// that no login can be older than. Returns the number of log entries.
    pub async fn prune_log(&self, now: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.prune_log(now).await,
            Self::Postgres(store) => bounded(store.prune_log(now)).await,
            Self::Mysql(store) => store.prune_log(now).await,
        }
    }

    // Keys

    /// Of the master key that the store belongs to, if it belongs to one yet.
    pub async fn master_key_fingerprint(&self) -> Result<Option<[u8; 16]>, StoreError> {
        match self {
            Self::Sqlite(store) => store.master_key_fingerprint().await,
            Self::Postgres(store) => bounded(store.master_key_fingerprint()).await,
            Self::Mysql(store) => store.master_key_fingerprint().await,
        }
    }

    /// Makes the store belong to a master key and gives it its first signing key, unless it has them: of two who do it at
    /// once one succeeds, and both find the same afterwards.
    pub async fn initialise_keys(
        &self,
        fingerprint: [u8; 16],
        key: &SealedKey,
    ) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.initialise_keys(fingerprint, key).await,
            Self::Postgres(store) => bounded(store.initialise_keys(fingerprint, key)).await,
            Self::Mysql(store) => store.initialise_keys(fingerprint, key).await,
        }
    }

    /// The signing keys in every state, newest first.
    pub async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        match self {
            Self::Sqlite(store) => store.signing_keys().await,
            Self::Postgres(store) => bounded(store.signing_keys()).await,
            Self::Mysql(store) => store.signing_keys().await,
        }
    }

    /// Publishes a successor of the key `signing`, and logs it. `None`, and nothing written, if another key signs by now or
    /// has a successor: of many who do it at once one succeeds.
    pub async fn publish_key(
        &self,
        successor: &SealedKey,
        signing: &KeyId,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        match self {
            Self::Sqlite(store) => store.publish_key(successor, signing, now).await,
            Self::Postgres(store) => bounded(store.publish_key(successor, signing, now)).await,
            Self::Mysql(store) => store.publish_key(successor, signing, now).await,
        }
    }

    /// Lets the published key sign in place of the one that did, which verifies on, and logs it. `None`, and nothing written,
    /// if the key is not published (any more): of many who do it at once one succeeds.
    pub async fn promote_key(
        &self,
        id: &KeyId,
        verifies_until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        match self {
            Self::Sqlite(store) => store.promote_key(id, verifies_until, now).await,
            Self::Postgres(store) => bounded(store.promote_key(id, verifies_until, now)).await,
            Self::Mysql(store) => store.promote_key(id, verifies_until, now).await,
        }
    }

    /// Revokes a key, wipes its secret part, and logs it. If it was the one that signs, the published one signs from now on;
    /// if there is none, `substitute`.
    pub async fn revoke_key(
        &self,
        id: &KeyId,
        substitute: &SealedKey,
        now: Timestamp,
    ) -> Result<KeyRevocation, StoreError> {
        match self {
            Self::Sqlite(store) => store.revoke_key(id, substitute, now).await,
            Self::Postgres(store) => bounded(store.revoke_key(id, substitute, now)).await,
            Self::Mysql(store) => store.revoke_key(id, substitute, now).await,
        }
    }

    /// Removes the keys that verify no more, and forgets long revoked ones. Returns how many.
    pub async fn remove_retired_keys(&self, now: Timestamp) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.remove_retired_keys(now).await,
            Self::Postgres(store) => bounded(store.remove_retired_keys(now)).await,
            Self::Mysql(store) => store.remove_retired_keys(now).await,
        }
    }

    // Moving

    /// Up to `limit` users all of whose sessions were ended, ordered by id, from the one that follows `after`.
    pub async fn user_revocations(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<UserRevocation>, StoreError> {
        match self {
            Self::Sqlite(store) => store.user_revocations(after, limit).await,
            Self::Postgres(store) => store.user_revocations(after, limit).await,
            Self::Mysql(store) => store.user_revocations(after, limit).await,
        }
    }

    /// Up to `limit` disabled users, ordered by id, from the one that follows `after`.
    pub async fn disabled_users(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<DisabledUser>, StoreError> {
        match self {
            Self::Sqlite(store) => store.disabled_users(after, limit).await,
            Self::Postgres(store) => store.disabled_users(after, limit).await,
            Self::Mysql(store) => store.disabled_users(after, limit).await,
        }
    }

    /// Copies all of `source`, which belongs to the master key of that fingerprint and on which nobody works, into this store,
    /// which nobody has used ([`StoreError::NotEmpty`] else): all of it, or nothing. The log goes on from the same number, so what
    /// was revoked stays so. Replicas are not copied.
    pub async fn take_over(
        &self,
        source: &SessionStore,
        fingerprint: [u8; 16],
    ) -> Result<Moved, StoreError> {
        match self {
            Self::Sqlite(store) => store.take_over(source, fingerprint).await,
            Self::Postgres(store) => store.take_over(source, fingerprint).await,
            Self::Mysql(store) => store.take_over(source, fingerprint).await,
        }
    }
}
