//! Sessions in MySQL.

use sqlx::mysql::MySqlArguments;
use sqlx::query::Query;
use sqlx::{MySql, query};

use super::MySqlStore;
use super::packet::Packet;
use super::transaction::{Transaction, despite_deadlocks};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::{Session, SessionHandle};
use crate::store::RETENTION_MARGIN;
use crate::store::error::StoreError;
use crate::store::records::{
    Liveness, OpenOutcome, Revocation, RevocationReason, Rotation, Sequence, Shown, TokenUse,
};
use crate::store::rows::{self, Row};

impl MySqlStore {
    pub(in crate::store) async fn open_session(
        &self,
        new: &Session,
        known: Sequence,
        replaces: Option<SessionHandle>,
    ) -> Result<OpenOutcome, StoreError> {
        despite_deadlocks(|| self.try_open_session(new, known, replaces)).await
    }

    async fn try_open_session(
        &self,
        new: &Session,
        known: Sequence,
        replaces: Option<SessionHandle>,
    ) -> Result<OpenOutcome, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        let revoked = transaction.lock_user(&new.user, new.created_at).await?;
        if revoked > known {
            transaction.roll_back().await?;
            return Ok(OpenOutcome::Overtaken);
        }
        let disabled = transaction
            .fetch_optional(
                query("SELECT 1 FROM disabled_user WHERE user_id = ?")
                    .bind(new.user.as_str().as_bytes()),
            )
            .await?
            .is_some();
        if disabled {
            transaction.roll_back().await?;
            return Ok(OpenOutcome::Disabled);
        }
        transaction.execute(insertion(new)).await?;
        let replaced = match replaces {
            Some(handle) => transaction.lock_sessions(&[handle], new.created_at).await?,
            None => Vec::new(),
        };
        if replaced.is_empty() {
            transaction.commit().await?;
            return Ok(OpenOutcome::Opened { replaced: None });
        }
        let sequence = transaction
            .end_sessions(&replaced, RevocationReason::Replaced, new.created_at)
            .await?;
        Ok(OpenOutcome::Opened {
            replaced: Some(Revocation {
                sequence,
                ended: replaced,
            }),
        })
    }

    pub(in crate::store) async fn session(
        &self,
        handle: SessionHandle,
    ) -> Result<Option<Session>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_optional(
                query(
                    "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                         refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
                     FROM session WHERE handle = ?",
                )
                .bind(handle.as_bytes().as_slice()),
            )
            .await?
            .map(|row| rows::session(&row))
            .transpose()
    }

    pub(in crate::store) async fn liveness(
        &self,
        handle: SessionHandle,
        shown: Option<Shown<'_>>,
        now: Timestamp,
    ) -> Result<Liveness, StoreError> {
        let key = shown.map(|shown| shown.key.as_str());
        let row = self
            .sessions
            .get()
            .await?
            .fetch_optional(
                query(
                    "SELECT ? IS NULL OR EXISTS (SELECT 1 FROM signing_key WHERE id = ? AND state <> 'revoked') AS key_holds,
                         handle, claims_version
                     FROM session WHERE handle = ? AND idle_expires_at > ? AND expires_at > ?",
                )
                .bind(key)
                .bind(key)
                .bind(handle.as_bytes().as_slice())
                .bind(now.as_millis())
                .bind(now.as_millis()),
            )
            .await?;
        rows::liveness(row.as_ref(), shown)
    }

    pub(in crate::store) async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        let found = self
            .sessions
            .get()
            .await?
            .execute(
                query(
                    "UPDATE session
                     SET generation = ?, used_at = ?, predecessor_used_at = ?, idle_expires_at = ?, refresh_hash = ?,
                         access_expires_at = GREATEST(access_expires_at, ?), last_seen_at = GREATEST(last_seen_at, ?)
                     WHERE handle = ? AND generation = ? AND claims_version = ?",
                )
                .bind(rotation.to.generation)
                .bind(rotation.to.used_at.map(Timestamp::as_millis))
                .bind(rotation.to.predecessor_used_at.map(Timestamp::as_millis))
                .bind(rotation.to.idle_expires_at.as_millis())
                .bind(rotation.refresh_hash.as_bytes().as_slice())
                .bind(rotation.access_expires_at.as_millis())
                .bind(rotation.now.as_millis())
                .bind(rotation.handle.as_bytes().as_slice())
                .bind(rotation.from_generation)
                .bind(rotation.claims_version),
            )
            .await?;
        Ok(found == 1)
    }

    pub(in crate::store) async fn extend(
        &self,
        handle: SessionHandle,
        claims_version: u32,
        access_expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let found = self
            .sessions
            .get()
            .await?
            .execute(
                query(
                    "UPDATE session
                     SET access_expires_at = GREATEST(access_expires_at, ?), last_seen_at = GREATEST(last_seen_at, ?)
                     WHERE handle = ? AND claims_version = ?",
                )
                .bind(access_expires_at.as_millis())
                .bind(now.as_millis())
                .bind(handle.as_bytes().as_slice())
                .bind(claims_version),
            )
            .await?;
        Ok(found == 1)
    }

    pub(in crate::store) async fn note_use(&self, uses: &[TokenUse]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        let mut uses = uses.to_vec();
        uses.sort_unstable_by_key(|token| token.handle);
        despite_deadlocks(|| self.try_note_use(&uses)).await
    }

    /// In one packet, since each of its statements would else cost the way there and back.
    async fn try_note_use(&self, uses: &[TokenUse]) -> Result<(), StoreError> {
        let mut packet = Packet::new("START TRANSACTION; ");
        for token in uses {
            packet = packet
                .sql("UPDATE session SET used_at = ")
                .number(token.at.as_millis())
                .sql(" WHERE handle = ")
                .bytes(token.handle.as_bytes())
                .sql(" AND generation = ")
                .number(token.generation.into())
                .sql(" AND used_at IS NULL; ");
        }
        let mut connection = self.sessions.get().await?;
        connection.unfinished();
        connection.send(packet.sql("COMMIT")).await?;
        connection.finished();
        Ok(())
    }

    pub(in crate::store) async fn sessions_of_user(
        &self,
        user: &UserId,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_all(
                query(
                    "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                         refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
                     FROM session WHERE user_id = ? AND handle > ? ORDER BY handle LIMIT ?",
                )
                .bind(user.as_str().as_bytes())
                .bind(bytes_after(after.as_ref()))
                .bind(limit),
            )
            .await?
            .iter()
            .map(rows::session)
            .collect()
    }

    pub(in crate::store) async fn all_sessions(
        &self,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_all(
                query(
                    "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                         refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
                     FROM session WHERE handle > ? ORDER BY handle LIMIT ?",
                )
                .bind(bytes_after(after.as_ref()))
                .bind(limit),
            )
            .await?
            .iter()
            .map(rows::session)
            .collect()
    }

    pub(in crate::store) async fn replace_data(
        &self,
        handle: SessionHandle,
        data: &str,
    ) -> Result<bool, StoreError> {
        let found = self
            .sessions
            .get()
            .await?
            .execute(
                query("UPDATE session SET data = ? WHERE handle = ?")
                    .bind(data)
                    .bind(handle.as_bytes().as_slice()),
            )
            .await?;
        Ok(found == 1)
    }

    pub(in crate::store) async fn remove_expired(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        despite_deadlocks(|| self.try_remove_expired(now, limit)).await
    }

    /// Looked for without locks, then locked by handle as everybody does.
    async fn try_remove_expired(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        // While an access token of it is accepted somewhere, a logout must find the session.
        let (idle, access) = (now.as_millis(), (now - RETENTION_MARGIN).as_millis());
        let mut connection = self.sessions.get().await?;
        let handles = connection
            .fetch_all(
                query(
                    "SELECT handle FROM session WHERE idle_expires_at <= ? AND access_expires_at <= ?
                     ORDER BY idle_expires_at LIMIT ?",
                )
                .bind(idle)
                .bind(access)
                .bind(limit),
            )
            .await?
            .iter()
            .map(|row| Row::new(row, "session", "handle").handle("handle"))
            .collect::<Result<Vec<_>, _>>()?;
        if handles.is_empty() {
            return Ok(0);
        }
        let packet =
            Packet::new("DELETE s FROM session s FORCE INDEX (PRIMARY) WHERE s.handle IN (")
                .handles(handles.iter())
                .sql(") AND s.idle_expires_at <= ")
                .number(idle)
                .sql(" AND s.access_expires_at <= ")
                .number(access);
        connection.change(packet).await
    }
}

/// What every handle after this one is greater than; all of them are greater than nothing.
fn bytes_after(handle: Option<&SessionHandle>) -> &[u8] {
    handle.map_or(&[], |handle| handle.as_bytes().as_slice())
}

/// Of the session as it is.
pub(super) fn insertion(new: &Session) -> Query<'_, MySql, MySqlArguments> {
    query(
                    "INSERT INTO session (handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at,
                         expires_at, refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(new.handle.as_bytes().as_slice())
                .bind(new.user.as_str().as_bytes())
                .bind(new.secret.expose().as_slice())
                .bind(new.lineage.generation)
                .bind(new.lineage.used_at.map(Timestamp::as_millis))
                .bind(new.lineage.predecessor_used_at.map(Timestamp::as_millis))
                .bind(new.lineage.idle_expires_at.as_millis())
                .bind(new.lineage.expires_at.as_millis())
                .bind(new.refresh_hash.as_bytes().as_slice())
                .bind(&new.claims)
                .bind(new.claims_version)
                .bind(&new.data)
                .bind(new.created_at.as_millis())
                .bind(new.last_seen_at.as_millis())
                .bind(new.access_expires_at.as_millis())
                .bind(&new.device.address)
                .bind(&new.device.user_agent)
}
