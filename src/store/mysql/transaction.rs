//! Transactions: under locks that are taken in one order (the user's row, session rows by handle, the head of the log), and
//! ended by one packet, so that no pause of this process lies between the lock of the head and the commit.

use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::query::Query;
use sqlx::{MySql, query};

use super::Database;
use super::connection::Connection;
use super::errors::is_deadlock;
use super::packet::Packet;
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::SessionHandle;
use crate::store::error::StoreError;
use crate::store::pool::Pool;
use crate::store::records::{Ended, LoggedReason, Mark, RevocationReason, Sequence};
use crate::store::rows::{self, Row};

/// Rolled back by the server when it is dropped, because its connection is dropped with it. That goes for every error too:
/// a wait for a lock that was too long rolls back a statement only, and what went before it must not be committed.
pub(super) struct Transaction(Connection);

impl Transaction {
    /// Nothing is locked, and nothing read: that comes with the statements, each of which sees what was committed before it
    /// (READ COMMITTED).
    pub(super) async fn begin(connections: &Pool<Database>) -> Result<Self, StoreError> {
        let mut transaction = Self(connections.get().await?);
        transaction.0.unfinished();
        transaction.0.send(Packet::new("START TRANSACTION")).await?;
        Ok(transaction)
    }

    pub(super) async fn fetch_all(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<Vec<MySqlRow>, StoreError> {
        self.0.fetch_all(query).await
    }

    pub(super) async fn fetch_optional(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<Option<MySqlRow>, StoreError> {
        self.0.fetch_optional(query).await
    }

    pub(super) async fn execute(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<u64, StoreError> {
        self.0.execute(query).await
    }

    pub(super) async fn commit(mut self) -> Result<(), StoreError> {
        self.0.send(Packet::new("COMMIT")).await?;
        self.0.finished();
        Ok(())
    }

    pub(super) async fn roll_back(mut self) -> Result<(), StoreError> {
        self.0.send(Packet::new("ROLLBACK")).await?;
        self.0.finished();
        Ok(())
    }

    /// One of many steps, each of which has the time of an operation.
    pub(super) async fn copy(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<(), StoreError> {
        self.0.extend();
        self.0.execute(query).await?;
        Ok(())
    }

    /// From here to the end nobody else opens or ends sessions of the user. Returns when the newest revocation of all of them
    /// was, zero if there has been none.
    pub(super) async fn lock_user(
        &mut self,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Sequence, StoreError> {
        let user = user.as_str().as_bytes();
        // A row that is not there cannot be locked, so it is made; one that is there stays as it is.
        self.execute(
            query(
                "INSERT INTO user_revocation (user_id, sequence, revoked_at) VALUES (?, 0, ?)
                 ON DUPLICATE KEY UPDATE sequence = sequence",
            )
            .bind(user)
            .bind(now.as_millis()),
        )
        .await?;
        let row = self
            .fetch_optional(
                query("SELECT user_id, sequence FROM user_revocation WHERE user_id = ?").bind(user),
            )
            .await?
            .ok_or_else(|| StoreError::Corrupt {
                table: "user_revocation",
                column: "sequence",
                key: "of the user that was locked".to_owned(),
            })?;
        Row::new(&row, "user_revocation", "user_id").sequence("sequence")
    }

    /// Those of the sessions that are there, by handle. Until the end nobody else changes them.
    pub(super) async fn lock_sessions(
        &mut self,
        handles: &[SessionHandle],
        now: Timestamp,
    ) -> Result<Vec<Ended>, StoreError> {
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        // By the primary key and no other index: the order of the locks is the order of the handles, for everyone.
        self.0
            .send(
                Packet::new("SELECT handle, access_expires_at FROM session FORCE INDEX (PRIMARY) WHERE handle IN (")
                    .handles(handles.iter())
                    .sql(") ORDER BY handle FOR UPDATE"),
            )
            .await?
            .iter()
            .map(|row| rows::ended_session(row, now))
            .collect()
    }

    /// Removes the sessions, which are locked, logs it, and commits.
    pub(super) async fn end_sessions(
        self,
        ended: &[Ended],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Sequence, StoreError> {
        self.end(removal(ended), &log_of(ended, reason, now), Packet::new(""))
            .await
    }

    /// Removes the sessions of a user, both locked, logs it, notes the sequence as the user's newest, and commits.
    pub(super) async fn end_user(
        mut self,
        user: &UserId,
        ended: &[Ended],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Sequence, StoreError> {
        // A variable of the connection takes the user's id to the packet, into which no text is put.
        self.execute(query("SET @portcullis_user = ?").bind(user.as_str().as_bytes()))
            .await?;
        let note =
            Packet::new("UPDATE user_revocation SET sequence = LAST_INSERT_ID(), revoked_at = ")
                .number(now.as_millis())
                .sql(" WHERE user_id = @portcullis_user; SET @portcullis_user = NULL; ");
        self.end(removal(ended), &log_of(ended, reason, now), note)
            .await
    }

    /// Logs a change that ended nothing, and commits.
    pub(super) async fn end_with(self, entry: Entry) -> Result<Sequence, StoreError> {
        self.end(Packet::new(""), &[entry], Packet::new("")).await
    }

    /// `removal`, then the next number from the head, the entries under that number, `note`, which may use the number as
    /// `LAST_INSERT_ID()`, and COMMIT: all in one packet. Without a head the entry's number is null, which the log refuses.
    async fn end(
        mut self,
        removal: Packet,
        entries: &[Entry],
        note: Packet,
    ) -> Result<Sequence, StoreError> {
        let mark = Mark::random();
        let mut packet = removal.sql(
            "DO LAST_INSERT_ID(0); UPDATE revocation_head SET sequence = LAST_INSERT_ID(sequence + 1) WHERE id = 1; \
             INSERT INTO revocation (sequence, handle, reason, expires, mark, claims_version) VALUES ",
        );
        for (at, entry) in entries.iter().enumerate() {
            packet = packet.sql(if at == 0 { "" } else { ", " });
            packet = entry.write(packet, mark);
        }
        let packet = packet
            .sql("; ")
            .append(note)
            .sql("SELECT CAST(LAST_INSERT_ID() AS SIGNED) AS sequence; COMMIT");
        let rows = self.0.send(packet).await?;
        self.0.finished();
        rows::head(rows.last())
    }
}

/// Does it again when it was the victim of a deadlock, which the order of locks leaves to the server's own structures.
pub(super) async fn despite_deadlocks<T, F: Future<Output = Result<T, StoreError>>>(
    operation: impl Fn() -> F,
) -> Result<T, StoreError> {
    const TRIES: u32 = 5;
    for _ in 1..TRIES {
        match operation().await {
            Err(error) if is_deadlock(&error) => {}
            result => return result,
        }
    }
    operation().await
}

/// What one line of the log will say.
pub(super) struct Entry {
    pub(super) handle: Option<SessionHandle>,
    pub(super) reason: &'static str,
    pub(super) expires: Timestamp,
    pub(super) claims_version: Option<u32>,
}

impl Entry {
    pub(super) fn of_keys(now: Timestamp) -> Self {
        Self {
            handle: None,
            reason: LoggedReason::KEYS,
            // Whoever has not read the log for as long as it is kept reads the keys without being told.
            expires: now,
            claims_version: None,
        }
    }

    fn write(&self, packet: Packet, mark: Mark) -> Packet {
        let packet = packet.sql("(NULLIF(LAST_INSERT_ID(), 0), ");
        let packet = match &self.handle {
            Some(handle) => packet.bytes(handle.as_bytes()),
            None => packet.sql("''"),
        };
        let packet = packet
            .sql(", '")
            .sql(self.reason)
            .sql("', ")
            .number(self.expires.as_millis())
            .sql(", ")
            .bytes(mark.as_bytes())
            .sql(", ");
        match self.claims_version {
            Some(version) => packet.number(version.into()).sql(")"),
            None => packet.sql("NULL)"),
        }
    }
}

fn removal(ended: &[Ended]) -> Packet {
    if ended.is_empty() {
        return Packet::new("");
    }
    // In this form of DELETE both databases take a hint, as in the SELECT that has locked the rows.
    Packet::new("DELETE s FROM session s FORCE INDEX (PRIMARY) WHERE s.handle IN (")
        .handles(ended.iter().map(|session| &session.handle))
        .sql("); ")
}

fn log_of(ended: &[Ended], reason: RevocationReason, now: Timestamp) -> Vec<Entry> {
    let entry = |handle, expires| Entry {
        handle,
        reason: reason.name(),
        expires,
        claims_version: None,
    };
    if ended.is_empty() {
        return vec![entry(None, now)];
    }
    ended
        .iter()
        .map(|session| entry(Some(session.handle), session.expires))
        .collect()
}
