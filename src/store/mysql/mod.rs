//! The store in a MySQL 8 or MariaDB 10.6+ database (InnoDB).
//!
//! Nothing is used that only one of the two has. Every connection says what it relies on, whatever the server's defaults
//! are: READ COMMITTED, so that each statement sees what was committed before it; strict mode, so that no value is cut; short
//! waits for locks. There is one primary, and all statements go there.
//!
//! Neither database ends a transaction that its client has left open, but both end a connection that has been idle for
//! `wait_timeout`. That is short here: a frozen process holds the head of the log for no longer.

mod claims;
mod connection;
mod errors;
mod keys;
mod migrate;
mod moving;
mod packet;
mod revocations;
mod sessions;
mod transaction;
mod users;

use std::sync::Arc;
use std::time::Duration;

use sqlx::mysql::{MySqlConnectOptions, MySqlRow, MySqlSslMode};
use sqlx::{ConnectOptions as _, MySqlConnection, Row as _, raw_sql};

use super::StoreSettings;
use super::error::StoreError;
use super::location::ServerUrl;
use super::migrations::{PendingMigration, refuse};
use super::pool::{Pool, Server};
use super::rows::Columns;
use errors::classify;
use packet::Packet;

/// A database on a MySQL or MariaDB server; cheap to clone.
#[derive(Clone, Debug)]
pub struct MySqlStore {
    /// For what may wait for rows that others have locked.
    transactions: Pool<Database>,
    /// For single statements.
    sessions: Pool<Database>,
    /// For what a lease depends on, and logouts wait for.
    feed: Pool<Database>,
}

impl MySqlStore {
    pub(super) async fn open(url: &ServerUrl, settings: StoreSettings) -> Result<Self, StoreError> {
        match settings.migrate {
            true => drop(migrate::migrate(url).await?),
            false => refuse(&migrate::pending(url).await?)?,
        }
        let database = Arc::new(Database {
            options: options(url)?,
            session,
        });
        let pool = |connections| Pool::new(Arc::clone(&database), connections);
        let [transactions, sessions, feed] = places(settings.connections).map(pool);
        Ok(Self {
            transactions,
            sessions,
            feed,
        })
    }

    /// What opening would change, without changing it.
    pub(super) async fn pending(url: &ServerUrl) -> Result<Vec<PendingMigration>, StoreError> {
        migrate::pending(url).await
    }

    /// Brings the tables up to date, and says what that took.
    pub(super) async fn migrate(url: &ServerUrl) -> Result<Vec<PendingMigration>, StoreError> {
        migrate::migrate(url).await
    }

    pub(super) async fn close(&self) {
        self.transactions.close().await;
        self.sessions.close().await;
        self.feed.close().await;
    }
}

/// Of so many connections those for transactions, for single statements, and for the feed.
fn places(connections: u16) -> [u16; 3] {
    const FEED: u16 = 3;
    let others = connections.saturating_sub(FEED).max(2);
    let sessions = others * 4 / 9 + u16::from(others < 3);
    [others - sessions, sessions, FEED]
}

/// Where the database is, and what a connection is set to before it is used.
struct Database {
    options: MySqlConnectOptions,
    session: fn() -> Packet,
}

impl Server for Database {
    type Connection = MySqlConnection;

    /// Below the `wait_timeout` that ends an idle connection on the server's side.
    const REST_AT_MOST: Duration = Duration::from_secs(8);

    async fn connect(&self) -> Result<MySqlConnection, StoreError> {
        let mut connection = self.options.connect().await.map_err(classify)?;
        raw_sql((self.session)().into_sql())
            .execute(&mut connection)
            .await
            .map_err(classify)?;
        Ok(connection)
    }
}

fn options(url: &ServerUrl) -> Result<MySqlConnectOptions, StoreError> {
    let options: MySqlConnectOptions = url.expose().parse().map_err(|_| StoreError::Url {
        expected: "`mysql://user:password@host/database`".into(),
    })?;
    // On another machine the server has to prove who it is, unless the URL says what is enough. The driver's own default takes
    // what it gets: any certificate, or no TLS at all.
    let options = if url.is_local() || url.has_parameter("ssl-mode") {
        options
    } else {
        options.ssl_mode(MySqlSslMode::VerifyIdentity)
    };
    // What the driver would set by itself is in `session`.
    Ok(options
        .set_names(false)
        .timezone(None)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .disable_statement_logging())
}

/// In seconds: `innodb_lock_wait_timeout` for rows, `lock_wait_timeout` for the tables' definitions. The `wait_timeout` is
/// that of the rule above. On a Galera cluster `wsrep_sync_wait` lets a read wait for what other nodes have committed; MySQL
/// takes the last line for a comment.
fn session() -> Packet {
    Packet::new(
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, completion_type = 'NO_CHAIN', \
             sql_safe_updates = 0, innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = 10; \
         /*M!100600 SET SESSION wsrep_sync_wait = 1 */",
    )
}

impl Columns for MySqlRow {
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    /// Of a column of bytes too: user ids are kept in such ones.
    fn text(&self, column: &str) -> Result<Option<&str>, sqlx::Error> {
        let Some(bytes) = self.bytes(column)? else {
            return Ok(None);
        };
        std::str::from_utf8(bytes)
            .map(Some)
            .map_err(|error| sqlx::Error::Decode(error.into()))
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, sqlx::Error> {
        self.try_get(column)
    }
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn the_connections_are_all_that_there_may_be() {
        for (connections, parts) in [(8, [3, 2, 3]), (12, [5, 4, 3]), (500, [277, 220, 3])] {
            let places = places(connections);
            assert_eq!(places, parts);
            assert_eq!(places.iter().sum::<u16>(), connections);
        }
    }
}
