//! The revocation log and the replicas that follow it, in SQLite.

use sqlx::{SqliteConnection, query};

use super::{SqliteStore, classify};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::SessionHandle;
use crate::store::error::StoreError;
use crate::store::records::{
    Ended, LogEntry, LogRead, LoggedReason, Mark, ReplicaId, ReplicaRow, Revocation,
    RevocationReason, Sequence,
};
use crate::store::rows::{self, column};
use crate::store::{LOGIN_BOUND, RETENTION_MARGIN};

impl SqliteStore {
    pub(in crate::store) async fn revoke(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut transaction = self.begin().await?;
        if let Some(revocation) = Self::end_sessions(&mut transaction, handles, reason, now).await?
        {
            transaction.commit().await.map_err(classify)?;
            return Ok(revocation);
        }
        transaction.rollback().await.map_err(classify)?;
        Ok(Revocation {
            sequence: self.head().await?,
            ended: Vec::new(),
        })
    }

    pub(in crate::store) async fn revoke_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut transaction = self.begin().await?;
        let revocation = Self::end_user(&mut transaction, user, reason, now).await?;
        transaction.commit().await.map_err(classify)?;
        Ok(revocation)
    }

    /// The part of a transaction that ends all sessions of a user.
    pub(super) async fn end_user(
        transaction: &mut SqliteConnection,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut ended =
            query("DELETE FROM session WHERE user_id = ? RETURNING handle, access_expires_at")
                .bind(user.as_str())
                .fetch_all(&mut *transaction)
                .await
                .map_err(classify)?
                .iter()
                .map(|row| rows::ended_session(row, now))
                .collect::<Result<Vec<_>, _>>()?;
        ended.sort_by_key(|session| session.handle);
        let sequence = next_sequence(transaction).await?;
        let mark = Mark::random();
        for session in &ended {
            log(
                transaction,
                sequence,
                Some(session),
                reason.name(),
                session.expires,
                mark,
            )
            .await?;
        }
        if ended.is_empty() {
            log(transaction, sequence, None, reason.name(), now, mark).await?;
        }
        query(
            "INSERT INTO user_revocation (user_id, sequence, revoked_at) VALUES (?, ?, ?)
             ON CONFLICT (user_id) DO UPDATE SET sequence = excluded.sequence, revoked_at = excluded.revoked_at",
        )
        .bind(user.as_str())
        .bind(column(sequence.as_u64()))
        .bind(now.as_millis())
        .execute(transaction)
        .await
        .map_err(classify)?;
        Ok(Revocation { sequence, ended })
    }

    /// The part of a transaction that ends those of the sessions that are there; `None` if none is, and then nothing is written.
    pub(super) async fn end_sessions(
        transaction: &mut SqliteConnection,
        handles: &[SessionHandle],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Option<Revocation>, StoreError> {
        let mut handles = handles.to_vec();
        handles.sort_unstable();
        let mut ended = Vec::with_capacity(handles.len());
        for handle in handles {
            let row =
                query("DELETE FROM session WHERE handle = ? RETURNING handle, access_expires_at")
                    .bind(handle.as_bytes().as_slice())
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(classify)?;
            if let Some(row) = row {
                ended.push(rows::ended_session(&row, now)?);
            }
        }
        if ended.is_empty() {
            return Ok(None);
        }
        let sequence = next_sequence(transaction).await?;
        let mark = Mark::random();
        for session in &ended {
            log(
                transaction,
                sequence,
                Some(session),
                reason.name(),
                session.expires,
                mark,
            )
            .await?;
        }
        Ok(Some(Revocation { sequence, ended }))
    }

    pub(in crate::store) async fn head(&self) -> Result<Sequence, StoreError> {
        let row = query("SELECT sequence FROM revocation_head WHERE id = 1")
            .fetch_optional(&self.read)
            .await
            .map_err(classify)?;
        rows::head(row.as_ref())
    }

    pub(in crate::store) async fn renew_replica(&self, row: &ReplicaRow) -> Result<(), StoreError> {
        query(
            "INSERT INTO replica (id, beat, applied, lease_ms) VALUES (?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET beat = excluded.beat, applied = excluded.applied",
        )
        .bind(row.id.as_bytes().as_slice())
        .bind(column(row.beat))
        .bind(column(row.applied.as_u64()))
        .bind(i64::try_from(row.lease.as_millis()).unwrap_or(i64::MAX))
        .execute(&self.write)
        .await
        .map_err(classify)?;
        Ok(())
    }

    pub(in crate::store) async fn read_log(
        &self,
        applied: Sequence,
    ) -> Result<LogRead, StoreError> {
        let rows = query(
            "SELECT sequence, handle, reason, expires, mark, claims_version FROM revocation WHERE sequence > ?1
             UNION ALL
             SELECT * FROM (SELECT sequence, NULL, NULL, NULL, mark, NULL FROM revocation WHERE sequence = ?1 LIMIT 1)
             ORDER BY sequence",
        )
        .bind(column(applied.as_u64()))
        .fetch_all(&self.read)
        .await
        .map_err(classify)?;
        rows::log_read(&rows, applied)
    }

    pub(in crate::store) async fn log_page(
        &self,
        after: Sequence,
        limit: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        query(
            "SELECT sequence, handle, reason, expires, mark, claims_version FROM revocation
             WHERE sequence > ?1 AND sequence <= COALESCE(
                 (SELECT sequence FROM revocation WHERE sequence > ?1 ORDER BY sequence LIMIT 1 OFFSET ?2 - 1), 9223372036854775807)
             ORDER BY sequence, handle",
        )
        .bind(column(after.as_u64()))
        .bind(limit)
        .fetch_all(&self.read)
        .await
        .map_err(classify)?
        .iter()
        .map(rows::log_entry)
        .collect()
    }

    pub(in crate::store) async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        query("SELECT id, beat, applied, lease_ms FROM replica ORDER BY id")
            .fetch_all(&self.read)
            .await
            .map_err(classify)?
            .iter()
            .map(rows::replica)
            .collect()
    }

    pub(in crate::store) async fn remove_replica(
        &self,
        id: &ReplicaId,
        beat: Option<u64>,
    ) -> Result<bool, StoreError> {
        let done = query("DELETE FROM replica WHERE id = ?1 AND (?2 IS NULL OR beat = ?2)")
            .bind(id.as_bytes().as_slice())
            .bind(beat.map(column))
            .execute(&self.write)
            .await
            .map_err(classify)?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn prune_log(&self, now: Timestamp) -> Result<u64, StoreError> {
        let done = query(
            "DELETE FROM revocation
             WHERE expires < ? AND sequence < (SELECT sequence FROM revocation_head WHERE id = 1)",
        )
        .bind((now - RETENTION_MARGIN).as_millis())
        .execute(&self.write)
        .await
        .map_err(classify)?;
        query("DELETE FROM user_revocation WHERE revoked_at < ?")
            .bind((now - LOGIN_BOUND).as_millis())
            .execute(&self.write)
            .await
            .map_err(classify)?;
        Ok(done.rows_affected())
    }
}

/// The end of a transaction that changed the signing keys: every replica is to know.
pub(super) async fn log_keys(
    transaction: &mut SqliteConnection,
    now: Timestamp,
) -> Result<Sequence, StoreError> {
    let sequence = next_sequence(transaction).await?;
    // Whoever has not read the log for as long as it is kept reads the keys without being told.
    let (reason, mark) = (LoggedReason::KEYS, Mark::random());
    log(transaction, sequence, None, reason, now, mark).await?;
    Ok(sequence)
}

/// Called after the last change of a session row: the head is locked last.
pub(super) async fn next_sequence(
    transaction: &mut SqliteConnection,
) -> Result<Sequence, StoreError> {
    let row =
        query("UPDATE revocation_head SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence")
            .fetch_optional(transaction)
            .await
            .map_err(classify)?;
    rows::head(row.as_ref())
}

async fn log(
    transaction: &mut SqliteConnection,
    sequence: Sequence,
    session: Option<&Ended>,
    reason: &str,
    expires: Timestamp,
    mark: Mark,
) -> Result<(), StoreError> {
    query(
        "INSERT INTO revocation (sequence, handle, reason, expires, mark) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(column(sequence.as_u64()))
    .bind(session.map_or(&[][..], |session| session.handle.as_bytes().as_slice()))
    .bind(reason)
    .bind(expires.as_millis())
    .bind(mark.as_bytes().as_slice())
    .execute(transaction)
    .await
    .map_err(classify)?;
    Ok(())
}
