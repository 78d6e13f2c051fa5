//! The revocation log and the replicas that follow it, in MySQL.
//!
//! What the feed and the barrier do (the row of a replica, reading the log, reading the rows) has connections of its own and
//! touches no row that a revocation locks: a revocation that stalls delays logouts, and no lease.

use sqlx::query;

use super::MySqlStore;
use super::transaction::{Transaction, despite_deadlocks};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::SessionHandle;
use crate::store::error::StoreError;
use crate::store::records::{
    LogEntry, LogRead, ReplicaId, ReplicaRow, Revocation, RevocationReason, Sequence,
};
use crate::store::rows::{self, Row, column};
use crate::store::{LOGIN_BOUND, RETENTION_MARGIN};

impl MySqlStore {
    pub(in crate::store) async fn revoke(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        despite_deadlocks(|| self.try_revoke(handles, reason, now)).await
    }

    async fn try_revoke(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        let ended = transaction.lock_sessions(handles, now).await?;
        if ended.is_empty() {
            transaction.roll_back().await?;
            return Ok(Revocation {
                sequence: self.head().await?,
                ended,
            });
        }
        let sequence = transaction.end_sessions(&ended, reason, now).await?;
        Ok(Revocation { sequence, ended })
    }

    pub(in crate::store) async fn revoke_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        despite_deadlocks(|| self.try_revoke_user(user, reason, now)).await
    }

    async fn try_revoke_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        transaction.lock_user(user, now).await?;
        Self::end_user(transaction, user, reason, now).await
    }

    /// The rest of a transaction that has the lock of the user and ends all sessions of the user.
    pub(super) async fn end_user(
        mut transaction: Transaction,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        // Without locks: those of the index by user would be taken in another order than everybody else's. Under the lock of the
        // user there come no others.
        let handles = transaction
            .fetch_all(
                query("SELECT handle FROM session WHERE user_id = ? ORDER BY handle")
                    .bind(user.as_str().as_bytes()),
            )
            .await?
            .iter()
            .map(|row| Row::new(row, "session", "handle").handle("handle"))
            .collect::<Result<Vec<_>, _>>()?;
        let ended = transaction.lock_sessions(&handles, now).await?;
        let sequence = transaction.end_user(user, &ended, reason, now).await?;
        Ok(Revocation { sequence, ended })
    }

    pub(in crate::store) async fn head(&self) -> Result<Sequence, StoreError> {
        let row = self
            .feed
            .get()
            .await?
            .fetch_optional(query("SELECT sequence FROM revocation_head WHERE id = 1"))
            .await?;
        rows::head(row.as_ref())
    }

    pub(in crate::store) async fn renew_replica(&self, row: &ReplicaRow) -> Result<(), StoreError> {
        let (beat, applied) = (column(row.beat), column(row.applied.as_u64()));
        self.feed
            .get()
            .await?
            .execute(
                query(
                    "INSERT INTO replica (id, beat, applied, lease_ms) VALUES (?, ?, ?, ?)
                     ON DUPLICATE KEY UPDATE beat = ?, applied = ?",
                )
                .bind(row.id.as_bytes().as_slice())
                .bind(beat)
                .bind(applied)
                .bind(i64::try_from(row.lease.as_millis()).unwrap_or(i64::MAX))
                .bind(beat)
                .bind(applied),
            )
            .await?;
        Ok(())
    }

    pub(in crate::store) async fn read_log(
        &self,
        applied: Sequence,
    ) -> Result<LogRead, StoreError> {
        let rows = self
            .feed
            .get()
            .await?
            .fetch_all(
                query(
                    "(SELECT sequence, handle, reason, expires, mark, claims_version FROM revocation WHERE sequence > ?)
                     UNION ALL
                     (SELECT sequence, NULL, NULL, NULL, mark, NULL FROM revocation WHERE sequence = ? LIMIT 1)
                     ORDER BY sequence, handle",
                )
                .bind(column(applied.as_u64()))
                .bind(column(applied.as_u64())),
            )
            .await?;
        rows::log_read(&rows, applied)
    }

    pub(in crate::store) async fn log_page(
        &self,
        after: Sequence,
        limit: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let mut connection = self.sessions.get().await?;
        let rows = connection
            .fetch_all(
                query(
                    "SELECT sequence, handle, reason, expires, mark, claims_version FROM revocation
                     WHERE sequence > ? ORDER BY sequence, handle LIMIT ?",
                )
                .bind(column(after.as_u64()))
                .bind(limit),
            )
            .await?;
        let page = rows.iter().map(rows::log_entry);
        let mut page = page.collect::<Result<Vec<_>, _>>()?;
        let Some(last) = page.last().filter(|_| page.len() >= limit as usize) else {
            return Ok(page);
        };
        // Not by a bound of the first statement that is a subquery: MariaDB would read the log to its end for each page.
        let rest = connection
            .fetch_all(
                query(
                    "SELECT sequence, handle, reason, expires, mark, claims_version FROM revocation
                     WHERE sequence = ? AND handle > ? ORDER BY handle",
                )
                .bind(column(last.sequence.as_u64()))
                .bind(
                    last.handle
                        .as_ref()
                        .map_or(&[][..], |handle| &handle.as_bytes()[..]),
                ),
            )
            .await?;
        for row in &rest {
            page.push(rows::log_entry(row)?);
        }
        Ok(page)
    }

    pub(in crate::store) async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        self.feed
            .get()
            .await?
            .fetch_all(query(
                "SELECT id, beat, applied, lease_ms FROM replica ORDER BY id",
            ))
            .await?
            .iter()
            .map(rows::replica)
            .collect()
    }

    pub(in crate::store) async fn remove_replica(
        &self,
        id: &ReplicaId,
        beat: Option<u64>,
    ) -> Result<bool, StoreError> {
        let beat = beat.map(column);
        let found = self
            .feed
            .get()
            .await?
            .execute(
                query("DELETE FROM replica WHERE id = ? AND (? IS NULL OR beat = ?)")
                    .bind(id.as_bytes().as_slice())
                    .bind(beat)
                    .bind(beat),
            )
            .await?;
        Ok(found == 1)
    }

    pub(in crate::store) async fn prune_log(&self, now: Timestamp) -> Result<u64, StoreError> {
        // A statement of its own: as a part of the DELETE it would lock the head, on which revocations wait.
        let head = self.head().await?;
        let (expired, forgotten) = (now - RETENTION_MARGIN, now - LOGIN_BOUND);
        let mut connection = self.sessions.get().await?;
        let pruned = connection
            .execute(
                query("DELETE FROM revocation WHERE expires < ? AND sequence < ? ORDER BY expires LIMIT ?")
                    .bind(expired.as_millis())
                    .bind(column(head.as_u64()))
                    .bind(PRUNED_AT_ONCE),
            )
            .await?;
        connection
            .execute(
                query(
                    "DELETE FROM user_revocation WHERE revoked_at < ? ORDER BY revoked_at LIMIT ?",
                )
                .bind(forgotten.as_millis())
                .bind(PRUNED_AT_ONCE),
            )
            .await?;
        Ok(pruned)
    }
}

/// Locks are held until the statement has ended, and what is left waits for the next time.
const PRUNED_AT_ONCE: u32 = 10_000;
