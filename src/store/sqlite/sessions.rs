//! Sessions in SQLite.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Sqlite, query};

use super::{SqliteStore, classify};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::{Session, SessionHandle};
use crate::store::RETENTION_MARGIN;
use crate::store::error::StoreError;
use crate::store::records::{
    Liveness, OpenOutcome, RevocationReason, Rotation, Sequence, Shown, TokenUse,
};
use crate::store::rows::{self, column};

impl SqliteStore {
    pub(in crate::store) async fn open_session(
        &self,
        new: &Session,
        known: Sequence,
        replaces: Option<SessionHandle>,
    ) -> Result<OpenOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        let overtaken = query("SELECT 1 FROM user_revocation WHERE user_id = ? AND sequence > ?")
            .bind(new.user.as_str())
            .bind(column(known.as_u64()))
            .fetch_optional(&mut *transaction)
            .await
            .map_err(classify)?
            .is_some();
        if overtaken {
            transaction.rollback().await.map_err(classify)?;
            return Ok(OpenOutcome::Overtaken);
        }
        let disabled = query("SELECT 1 FROM disabled_user WHERE user_id = ?")
            .bind(new.user.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(classify)?
            .is_some();
        if disabled {
            transaction.rollback().await.map_err(classify)?;
            return Ok(OpenOutcome::Disabled);
        }
        insertion(new)
            .execute(&mut *transaction)
            .await
            .map_err(classify)?;
        let replaced = match replaces {
            Some(handle) => {
                Self::end_sessions(
                    &mut transaction,
                    &[handle],
                    RevocationReason::Replaced,
                    new.created_at,
                )
                .await?
            }
            None => None,
        };
        transaction.commit().await.map_err(classify)?;
        Ok(OpenOutcome::Opened { replaced })
    }

    pub(in crate::store) async fn session(
        &self,
        handle: SessionHandle,
    ) -> Result<Option<Session>, StoreError> {
        query(
            "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                 refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
             FROM session WHERE handle = ?",
        )
        .bind(handle.as_bytes().as_slice())
        .fetch_optional(&self.read)
        .await
        .map_err(classify)?
        .map(|row| rows::session(&row))
        .transpose()
    }

    pub(in crate::store) async fn liveness(
        &self,
        handle: SessionHandle,
        shown: Option<Shown<'_>>,
        now: Timestamp,
    ) -> Result<Liveness, StoreError> {
        let row = query(
            "SELECT ?3 IS NULL OR EXISTS (SELECT 1 FROM signing_key WHERE id = ?3 AND state <> 'revoked') AS key_holds,
                 handle, claims_version
             FROM session WHERE handle = ?1 AND idle_expires_at > ?2 AND expires_at > ?2",
        )
        .bind(handle.as_bytes().as_slice())
        .bind(now.as_millis())
        .bind(shown.map(|shown| shown.key.as_str()))
        .fetch_optional(&self.read)
        .await
        .map_err(classify)?;
        rows::liveness(row.as_ref(), shown)
    }

    pub(in crate::store) async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        let done = query(
            "UPDATE session
             SET generation = ?, used_at = ?, predecessor_used_at = ?, idle_expires_at = ?, refresh_hash = ?,
                 access_expires_at = MAX(access_expires_at, ?), last_seen_at = MAX(last_seen_at, ?)
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
        .bind(rotation.claims_version)
        .execute(&self.write)
        .await
        .map_err(classify)?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn extend(
        &self,
        handle: SessionHandle,
        claims_version: u32,
        access_expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let done = query(
            "UPDATE session
             SET access_expires_at = MAX(access_expires_at, ?), last_seen_at = MAX(last_seen_at, ?)
             WHERE handle = ? AND claims_version = ?",
        )
        .bind(access_expires_at.as_millis())
        .bind(now.as_millis())
        .bind(handle.as_bytes().as_slice())
        .bind(claims_version)
        .execute(&self.write)
        .await
        .map_err(classify)?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn note_use(&self, uses: &[TokenUse]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        for token in uses {
            query(
                "UPDATE session SET used_at = ? WHERE handle = ? AND generation = ? AND used_at IS NULL",
            )
            .bind(token.at.as_millis())
            .bind(token.handle.as_bytes().as_slice())
            .bind(token.generation)
            .execute(&mut *transaction)
            .await
            .map_err(classify)?;
        }
        transaction.commit().await.map_err(classify)
    }

    pub(in crate::store) async fn sessions_of_user(
        &self,
        user: &UserId,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        query(
            "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                 refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
             FROM session WHERE user_id = ? AND handle > ? ORDER BY handle LIMIT ?",
        )
        .bind(user.as_str())
        .bind(bytes_after(after.as_ref()))
        .bind(limit)
        .fetch_all(&self.read)
        .await
        .map_err(classify)?
        .iter()
        .map(rows::session)
        .collect()
    }

    pub(in crate::store) async fn all_sessions(
        &self,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        query(
            "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                 refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
             FROM session WHERE handle > ? ORDER BY handle LIMIT ?",
        )
        .bind(bytes_after(after.as_ref()))
        .bind(limit)
        .fetch_all(&self.read)
        .await
        .map_err(classify)?
        .iter()
        .map(rows::session)
        .collect()
    }

    pub(in crate::store) async fn replace_data(
        &self,
        handle: SessionHandle,
        data: &str,
    ) -> Result<bool, StoreError> {
        let done = query("UPDATE session SET data = ? WHERE handle = ?")
            .bind(data)
            .bind(handle.as_bytes().as_slice())
            .execute(&self.write)
            .await
            .map_err(classify)?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn remove_expired(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let done = query(
            "DELETE FROM session WHERE handle IN
                 (SELECT handle FROM session WHERE idle_expires_at <= ? AND access_expires_at <= ?
                  ORDER BY idle_expires_at LIMIT ?)",
        )
        .bind(now.as_millis())
        // While an access token of it is accepted somewhere, a logout must find the session.
        .bind((now - RETENTION_MARGIN).as_millis())
        .bind(limit)
        .execute(&self.write)
        .await
        .map_err(classify)?;
        Ok(done.rows_affected())
    }
}

/// What every handle after this one is greater than; all of them are greater than nothing.
fn bytes_after(handle: Option<&SessionHandle>) -> &[u8] {
    handle.map_or(&[], |handle| handle.as_bytes().as_slice())
}

/// Of the session as it is.
pub(super) fn insertion(new: &Session) -> Query<'_, Sqlite, SqliteArguments> {
    query(
            "INSERT INTO session (handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at,
                 expires_at, refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(new.handle.as_bytes().as_slice())
        .bind(new.user.as_str())
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
