//! A connection to a MySQL or MariaDB server while it is in use: step by step, each within the bound of its operation.
//!
//! It goes back to its pool only if what was done with it was seen to its end. If not, it is dropped, and the server rolls back
//! what was left open: neither database ends a transaction by an error.

use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::query::Query;
use sqlx::{MySql, MySqlConnection, raw_sql};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::Database;
use super::errors::{classify, leaves_the_connection_usable};
use super::packet::Packet;
use crate::store::error::{Outage, StoreError};
use crate::store::pool::{Held, OPERATION, Pool};

/// A connection that is in use. Dropped, it is kept for others, unless a step of it was left or failed, or a transaction is
/// open.
pub(super) struct Connection {
    /// Always there but while it is dropped.
    held: Option<Held<Database>>,
    until: Instant,
    /// In the middle of a step, or failed in a way that may concern more than a statement.
    in_doubt: bool,
    /// In the middle of a transaction.
    open: bool,
    /// The server cannot be heard any more: those that rest are most likely as bad.
    is_lost: bool,
}

impl Pool<Database> {
    /// One for one operation, whose time begins now.
    pub(super) async fn get(&self) -> Result<Connection, StoreError> {
        let until = Instant::now() + OPERATION;
        Ok(Connection {
            held: Some(self.take().await?),
            until,
            in_doubt: false,
            open: false,
            is_lost: false,
        })
    }
}

impl Connection {
    pub(super) async fn fetch_all(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<Vec<MySqlRow>, StoreError> {
        let until = self.until;
        let done = timeout_at(until, query.fetch_all(self.begin_step())).await;
        self.end_step(done)
    }

    /// Of a statement that gives one row at most.
    pub(super) async fn fetch_optional(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<Option<MySqlRow>, StoreError> {
        // Not sqlx's own, which leaves the rest of the answer to be read by the next statement.
        Ok(self.fetch_all(query).await?.pop())
    }

    /// Returns the number of rows that the statement found.
    pub(super) async fn execute(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<u64, StoreError> {
        let until = self.until;
        let done = timeout_at(until, query.execute(self.begin_step())).await;
        Ok(self.end_step(done)?.rows_affected())
    }

    /// All statements, or those up to the first that fails; the rows of all of them.
    pub(super) async fn send(&mut self, packet: Packet) -> Result<Vec<MySqlRow>, StoreError> {
        let until = self.until;
        let statements = raw_sql(packet.into_sql());
        let done = timeout_at(until, statements.fetch_all(self.begin_step())).await;
        self.end_step(done)
    }

    /// As [`Self::send`], for statements that give no rows; returns how many they found.
    pub(super) async fn change(&mut self, packet: Packet) -> Result<u64, StoreError> {
        let until = self.until;
        let statements = raw_sql(packet.into_sql());
        let done = timeout_at(until, statements.execute(self.begin_step())).await;
        Ok(self.end_step(done)?.rows_affected())
    }

    /// The time of the operation begins anew.
    pub(super) fn extend(&mut self) {
        self.until = Instant::now() + OPERATION;
    }

    /// From now on it is not kept, unless [`Self::finished`].
    pub(super) fn unfinished(&mut self) {
        self.open = true;
    }

    /// Committed, or rolled back.
    pub(super) fn finished(&mut self) {
        self.open = false;
    }

    /// If the step is left before its end, it is not known what the server says next.
    fn begin_step(&mut self) -> &mut MySqlConnection {
        self.in_doubt = true;
        self.held
            .as_mut()
            .expect("a connection is there until it is dropped")
    }

    fn end_step<T>(
        &mut self,
        done: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        let error = match done {
            Ok(Ok(value)) => {
                self.in_doubt = false;
                return Ok(value);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                self.is_lost = true;
                return Err(StoreError::Unavailable(Outage::TooSlow(OPERATION)));
            }
        };
        self.in_doubt = !leaves_the_connection_usable(&error);
        self.is_lost = matches!(error, sqlx::Error::Io(_));
        Err(classify(error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        match self {
            Self { is_lost: true, .. } => drop(held),
            Self { in_doubt: true, .. } | Self { open: true, .. } => held.end_alone(),
            _ => held.put_back(),
        }
    }
}
