//! The revocation log and the replicas that follow it, in PostgreSQL.

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr, query};

use super::{KEYS_LOCK, PostgresStore, USER_LOCK, begin_with, classify};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::SessionHandle;
use crate::store::error::StoreError;
use crate::store::records::{
    Ended, LogEntry, LogRead, LoggedReason, Mark, ReplicaId, ReplicaRow, Revocation,
    RevocationReason, Sequence,
};
use crate::store::rows::{self, Row, column};
use crate::store::{LOGIN_BOUND, RETENTION_MARGIN};

impl PostgresStore {
    /// One statement, so that a client that stalls never holds the head.
    pub(in crate::store) async fn revoke(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut held = self.locking.take().await?;
        let revocation = Self::end_sessions(&mut held, handles, reason, now).await?;
        held.put_back();
        if let Some(revocation) = revocation {
            self.announcer.announce();
            return Ok(revocation);
        }
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
        let mut held = self.locking.take().await?;
        let mut transaction = begin_with(&mut held, lock_user(user)).await?;
        let revocation = Self::end_user(&mut transaction, user, reason, now).await?;
        transaction.commit().await.map_err(classify)?;
        held.put_back();
        self.announcer.announce();
        Ok(revocation)
    }

    /// The part of a transaction that ends all sessions of a user, whose lock it has. The count makes it look for sessions
    /// before it takes the head.
    pub(super) async fn end_user(
        transaction: &mut PgConnection,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let entries = query(
            "WITH found AS (
                 SELECT handle FROM session WHERE user_id = $1 ORDER BY handle FOR UPDATE),
             gone AS (
                 DELETE FROM session USING found WHERE session.handle = found.handle
                 RETURNING session.handle, GREATEST(session.access_expires_at, $3) AS expires),
             head AS (
                 UPDATE revocation_head SET sequence = sequence + 1 WHERE id = 1 AND (SELECT count(*) FROM gone) >= 0
                 RETURNING sequence),
             remembered AS (
                 INSERT INTO user_revocation (user_id, sequence, revoked_at) SELECT $1, sequence, $3 FROM head
                 ON CONFLICT (user_id) DO UPDATE SET sequence = excluded.sequence, revoked_at = excluded.revoked_at)
             INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT head.sequence, gone.handle, $2, gone.expires, $4::bytea FROM head, gone
             UNION ALL
             SELECT head.sequence, ''::bytea, $2, $3, $4::bytea FROM head WHERE NOT EXISTS (SELECT 1 FROM gone)
             RETURNING sequence, handle, expires",
        )
        .bind(user.as_str())
        .bind(reason.name())
        .bind(now.as_millis())
        .bind(Mark::random().as_bytes().as_slice())
        .fetch_all(transaction)
        .await
        .map_err(classify)?;
        // One entry at least is written, unless there is no head.
        revocation_of(&entries)?.ok_or_else(rows::missing_head)
    }

    /// The statement that ends those of the sessions that are there; `None` if none is, and then nothing is written. `EXISTS`
    /// makes it lock the sessions before the head.
    pub(super) async fn end_sessions(
        connection: &mut PgConnection,
        handles: &[SessionHandle],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Option<Revocation>, StoreError> {
        let handles: Vec<&[u8]> = handles
            .iter()
            .map(|handle| handle.as_bytes().as_slice())
            .collect();
        let entries = query(
            "WITH found AS (
                 SELECT handle FROM session WHERE handle = ANY($1) ORDER BY handle FOR UPDATE),
             gone AS (
                 DELETE FROM session USING found WHERE session.handle = found.handle
                 RETURNING session.handle, GREATEST(session.access_expires_at, $3) AS expires),
             head AS (
                 UPDATE revocation_head SET sequence = sequence + 1 WHERE id = 1 AND EXISTS (SELECT 1 FROM gone)
                 RETURNING sequence)
             INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT head.sequence, gone.handle, $2, gone.expires, $4 FROM head, gone
             RETURNING sequence, handle, expires",
        )
        .bind(handles)
        .bind(reason.name())
        .bind(now.as_millis())
        .bind(Mark::random().as_bytes().as_slice())
        .fetch_all(connection)
        .await
        .map_err(classify)?;
        revocation_of(&entries)
    }

    pub(in crate::store) async fn head(&self) -> Result<Sequence, StoreError> {
        let mut held = self.prompt.take().await?;
        let row = query("SELECT sequence FROM revocation_head WHERE id = 1")
            .fetch_optional(&mut *held)
            .await
            .map_err(classify)?;
        held.put_back();
        rows::head(row.as_ref())
    }

    pub(in crate::store) async fn renew_replica(&self, row: &ReplicaRow) -> Result<(), StoreError> {
        let mut held = self.prompt.take().await?;
        query(
            "INSERT INTO replica (id, beat, applied, lease_ms) VALUES ($1, $2, $3, $4)
             ON CONFLICT (id) DO UPDATE SET beat = excluded.beat, applied = excluded.applied",
        )
        .bind(row.id.as_bytes().as_slice())
        .bind(column(row.beat))
        .bind(column(row.applied.as_u64()))
        .bind(i64::try_from(row.lease.as_millis()).unwrap_or(i64::MAX))
        .execute(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        Ok(())
    }

    pub(in crate::store) async fn read_log(
        &self,
        applied: Sequence,
    ) -> Result<LogRead, StoreError> {
        let mut held = self.prompt.take().await?;
        let rows = query(
            "SELECT sequence, handle, reason, expires, mark, claims_version FROM revocation WHERE sequence > $1
             UNION ALL
             (SELECT sequence, NULL::bytea, NULL::text, NULL::bigint, mark, NULL::bigint FROM revocation WHERE sequence = $1 LIMIT 1)
             ORDER BY sequence, handle",
        )
        .bind(column(applied.as_u64()))
        .fetch_all(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        rows::log_read(&rows, applied)
    }

    pub(in crate::store) async fn log_page(
        &self,
        after: Sequence,
        limit: u32,
    ) -> Result<Vec<LogEntry>, StoreError> {
        let mut held = self.prompt.take().await?;
        let rows = query(
            "SELECT sequence, handle, reason, expires, mark, claims_version FROM revocation
             WHERE sequence > $1 AND sequence <= COALESCE(
                 (SELECT sequence FROM revocation WHERE sequence > $1 ORDER BY sequence LIMIT 1 OFFSET $2 - 1), 9223372036854775807)
             ORDER BY sequence, handle",
        )
        .bind(column(after.as_u64()))
        .bind(i64::from(limit))
        .fetch_all(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        rows.iter().map(rows::log_entry).collect()
    }

    pub(in crate::store) async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        let mut held = self.prompt.take().await?;
        let rows = query("SELECT id, beat, applied, lease_ms FROM replica ORDER BY id")
            .fetch_all(&mut *held)
            .await
            .map_err(classify)?;
        held.put_back();
        rows.iter().map(rows::replica).collect()
    }

    pub(in crate::store) async fn remove_replica(
        &self,
        id: &ReplicaId,
        beat: Option<u64>,
    ) -> Result<bool, StoreError> {
        let mut held = self.prompt.take().await?;
        let done = query("DELETE FROM replica WHERE id = $1 AND ($2::bigint IS NULL OR beat = $2)")
            .bind(id.as_bytes().as_slice())
            .bind(beat.map(column))
            .execute(&mut *held)
            .await
            .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn prune_log(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut held = self.locking.take().await?;
        let done = query(
            "DELETE FROM revocation
             WHERE expires < $1 AND sequence < (SELECT sequence FROM revocation_head WHERE id = 1)",
        )
        .bind((now - RETENTION_MARGIN).as_millis())
        .execute(&mut *held)
        .await
        .map_err(classify)?;
        query("DELETE FROM user_revocation WHERE revoked_at < $1")
            .bind((now - LOGIN_BOUND).as_millis())
            .execute(&mut *held)
            .await
            .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected())
    }
}

/// Begins a transaction that ends all sessions of a user: no login of the user is under way, and none begins.
pub(super) fn lock_user(user: &UserId) -> impl SqlSafeStr {
    AssertSqlSafe(format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({USER_LOCK}, {})",
        hash(user)
    ))
}

/// Begins a transaction that opens a session: beside other logins of the user, but nothing that ends all of them.
pub(super) fn share_user(user: &UserId) -> impl SqlSafeStr {
    AssertSqlSafe(format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock_shared({USER_LOCK}, {})",
        hash(user)
    ))
}

/// Begins a transaction that changes the signing keys: one at a time.
pub(super) fn lock_keys() -> impl SqlSafeStr {
    AssertSqlSafe(format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({KEYS_LOCK}, 0)"
    ))
}

/// FNV-1a: the same in every process, and two users with the same one only wait for each other.
fn hash(user: &UserId) -> i32 {
    let hash = user.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    hash.cast_signed()
}

/// The end of a transaction that changed the signing keys: every replica is to know.
pub(super) async fn log_keys(
    transaction: &mut PgConnection,
    now: Timestamp,
) -> Result<Sequence, StoreError> {
    // Whoever has not read the log for as long as it is kept reads the keys without being told.
    let row = query(
        "WITH head AS (UPDATE revocation_head SET sequence = sequence + 1 WHERE id = 1 RETURNING sequence)
         INSERT INTO revocation (sequence, handle, reason, expires, mark) SELECT sequence, '', $1, $2, $3 FROM head
         RETURNING sequence",
    )
    .bind(LoggedReason::KEYS)
    .bind(now.as_millis())
    .bind(Mark::random().as_bytes().as_slice())
    .fetch_optional(transaction)
    .await
    .map_err(classify)?;
    rows::head(row.as_ref())
}

/// Of the entries that a statement wrote; `None` if it wrote none.
fn revocation_of(entries: &[PgRow]) -> Result<Option<Revocation>, StoreError> {
    let Some(first) = entries.first() else {
        return Ok(None);
    };
    let sequence = Row::new(first, "revocation", "sequence").sequence("sequence")?;
    let mut ended = Vec::with_capacity(entries.len());
    for entry in entries {
        let row = Row::new(entry, "revocation", "sequence");
        if row.bytes("handle")?.is_empty() {
            continue;
        }
        ended.push(Ended {
            handle: row.handle("handle")?,
            expires: row.time("expires")?,
        });
    }
    ended.sort_by_key(|session| session.handle);
    Ok(Some(Revocation { sequence, ended }))
}
