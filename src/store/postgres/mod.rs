//! The store in PostgreSQL, 13 or later.
//!
//! What takes row locks has connections of its own: were all of them to wait for a row that somebody holds, the feed and the
//! barrier would still have theirs, which wait for no lock. So a stalled revoker delays logouts and no lease.
//!
//! Each connection is READ COMMITTED, where each statement sees what was committed before it began, and has limits on the
//! server for a lock, a statement and an idle transaction; `pool` has the limits on this side.
//!
//! Locks are taken in one order: the user, session rows by handle, the head last. The lock of a user is an advisory one: a
//! login takes it shared, what ends all sessions of the user takes it alone, and no row need exist for it.

mod claims;
mod keys;
mod moving;
mod revocations;
mod sessions;
mod signals;
mod users;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Postgres, Row as _, SqlSafeStr, Transaction, query,
    raw_sql,
};

use super::StoreSettings;
use super::error::{Outage, StoreError};
use super::location::ServerUrl;
use super::migrations::{PendingMigration, not_applied, refuse};
use super::pool::{Held, Pool, Server, connect};
use super::rows::Columns;
use signals::Announcer;
pub use signals::Listener;

/// A PostgreSQL database; cheap to clone.
#[derive(Clone)]
pub struct PostgresStore {
    /// For what may wait for a lock.
    locking: Pool<Database>,
    /// For what waits for none.
    prompt: Pool<Database>,
    announcer: Arc<Announcer>,
    database: Arc<Database>,
}

/// Where the database is, and as whom to connect.
struct Database {
    options: PgConnectOptions,
}

impl PostgresStore {
    pub(super) async fn open(url: &ServerUrl, settings: StoreSettings) -> Result<Self, StoreError> {
        let database = Arc::new(Database {
            options: options(url)?,
        });
        let mut connection = connect(&*database).await?;
        match settings.migrate {
            true => drop(migrate(&mut connection).await?),
            false => refuse(&pending(&mut connection).await?)?,
        }
        let (locking, prompt) = places(settings.connections);
        let prompt = Pool::new(Arc::clone(&database), prompt);
        Ok(Self {
            locking: Pool::new(Arc::clone(&database), locking),
            announcer: Arc::new(Announcer::start(prompt.clone())),
            prompt,
            database,
        })
    }

    /// What opening would change, without changing it.
    pub(super) async fn pending(url: &ServerUrl) -> Result<Vec<PendingMigration>, StoreError> {
        let database = Database {
            options: options(url)?,
        };
        pending(&mut connect(&database).await?).await
    }

    /// Brings the tables up to date, and says what that took.
    pub(super) async fn migrate(url: &ServerUrl) -> Result<Vec<PendingMigration>, StoreError> {
        let database = Database {
            options: options(url)?,
        };
        migrate(&mut connect(&database).await?).await
    }

    pub(super) async fn close(&self) {
        self.locking.close().await;
        self.prompt.close().await;
    }

    /// Wakes whoever waits for news of the log, in this process or another.
    pub(super) fn listener(&self) -> Listener {
        Listener::start(Arc::clone(&self.database))
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresStore")
    }
}

/// Of so many connections those for what may wait for a lock, and those for what waits for none; one more listens.
fn places(connections: u16) -> (u16, u16) {
    let both = connections.saturating_sub(1).max(2);
    let prompt = both.div_ceil(3);
    (both - prompt, prompt)
}

impl Server for Database {
    type Connection = PgConnection;

    /// The server ends none; what lies between may forget one that is quiet.
    const REST_AT_MOST: Duration = Duration::from_mins(5);

    async fn connect(&self) -> Result<PgConnection, StoreError> {
        let mut connection = self.options.connect().await.map_err(no_connection)?;
        raw_sql(SESSION_SETTINGS)
            .execute(&mut connection)
            .await
            .map_err(no_connection)?;
        Ok(connection)
    }
}

/// Not as startup parameters, most of which PgBouncer refuses.
///
/// The planner: every statement has an index. Without fresh statistics, which a log that grows and is pruned seldom has, it takes
/// a third of the log for newer than what was applied, and would read all of it at each look. Compiling costs more than any of
/// them. The last line: what was answered must be durable, even where the database's default is that it need not be; a stricter
/// default stays.
const SESSION_SETTINGS: &str = "
    SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SET lock_timeout = '2s';
    SET statement_timeout = '5s';
    SET idle_in_transaction_session_timeout = '5s';
    SET client_min_messages = warning;
    SET enable_seqscan = off;
    SET jit = off;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local');
";

fn options(url: &ServerUrl) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url.expose()).map_err(|_| StoreError::Url {
        expected: PARAMETERS.into(),
    })?;
    // Whoever sits between the gateway and a database on another machine could read and forge sessions.
    let options = match (url.has_parameter("sslmode"), url.is_local()) {
        (true, _) => options,
        (false, true) => options.ssl_mode(PgSslMode::Prefer),
        (false, false) => options.ssl_mode(PgSslMode::VerifyFull),
    };
    if matches!(options.get_ssl_mode(), PgSslMode::Allow) {
        return Err(StoreError::Url {
            expected: PARAMETERS.into(),
        });
    }
    let options = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("portcullis"),
    };
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

const PARAMETERS: &str = "a URL with a port that is a number, and sslmode one of disable, prefer, require, verify-ca, verify-full";

/// A transaction of more than one statement; `statements` begin it.
async fn begin_with(
    held: &mut Held<Database>,
    statements: impl SqlSafeStr,
) -> Result<Transaction<'_, Postgres>, StoreError> {
    held.begin_with(statements).await.map_err(classify)
}

/// In one transaction under a lock, so that of many who start at once one applies a migration and the rest find it applied.
/// Who finds all applied asks for no lock, and for no right but to read. Returns what was applied.
async fn migrate(connection: &mut PgConnection) -> Result<Vec<PendingMigration>, StoreError> {
    if pending(connection).await?.is_empty() {
        return Ok(Vec::new());
    }
    let mut transaction = connection
        .begin_with(AssertSqlSafe(format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '60s';
             SELECT pg_advisory_xact_lock({MIGRATION_LOCK}, 0)"
        )))
        .await
        .map_err(classify)?;
    let pending = pending(&mut transaction).await?;
    // The previous version still runs: it must not wait long behind a migration that waits for it.
    query("SET LOCAL lock_timeout = '2s'")
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
    migrations()
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)
                if outage_of(&source).is_some() =>
            {
                classify(source)
            }
            other => StoreError::Migration(Box::new(other)),
        })?;
    transaction.commit().await.map_err(classify)?;
    Ok(pending)
}

/// What is not applied, or was applied in other words.
async fn pending(connection: &mut PgConnection) -> Result<Vec<PendingMigration>, StoreError> {
    // Not `to_regclass`, which answers from a cache that a wait for an advisory lock does not renew.
    let table = query(
        "SELECT 1 FROM pg_catalog.pg_tables
         WHERE tablename = '_sqlx_migrations' AND schemaname = ANY (current_schemas(false))",
    )
    .fetch_optional(&mut *connection)
    .await
    .map_err(classify)?;
    let rows = match table {
        None => Vec::new(),
        Some(_) => query("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await
            .map_err(classify)?,
    };
    not_applied(&migrations(), &rows)
}

/// First numbers of our advisory locks, which share one space with those of other programs on the database: "PC" and a
/// count. The second is a hash, or 0.
const MIGRATION_LOCK: i32 = 0x5043_0001;
const USER_LOCK: i32 = 0x5043_0002;
const KEYS_LOCK: i32 = 0x5043_0003;

fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("migrations/postgres");
    // After a roll-back to this version, tables that a newer one has widened are fine.
    migrations.set_ignore_missing(true);
    migrations.set_locking(false);
    migrations
}

fn classify(error: sqlx::Error) -> StoreError {
    match outage_of(&error) {
        Some(outage) => StoreError::Unavailable(outage(error)),
        None => StoreError::Refused(error),
    }
}

/// Whatever keeps a connection from being made is about the surroundings.
fn no_connection(error: sqlx::Error) -> StoreError {
    let outage = outage_of(&error).unwrap_or(Outage::Lost);
    StoreError::Unavailable(outage(error))
}

/// What an error says of the surroundings; `None` if it is about the statement. By SQLSTATE:
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn outage_of(error: &sqlx::Error) -> Option<fn(sqlx::Error) -> Outage> {
    let sqlx::Error::Database(error) = error else {
        return is_about_the_connection(error).then_some(Outage::Lost);
    };
    let code = error.code()?;
    match (&*code, code.get(..2)?) {
        ("25006", _) => Some(Outage::ReadOnly),
        ("53100", _) => Some(Outage::DiskFull),
        ("53300", _) => Some(Outage::TooManyConnections),
        ("57P01" | "57P02" | "57P03" | "57P05", _) => Some(Outage::NotReady),
        // lock_not_available, serialization_failure, deadlock_detected, query_canceled (by statement_timeout)
        ("55P03" | "40001" | "40P01" | "57014", _) => Some(Outage::RowHeld),
        ("28000" | "28P01" | "3D000", _) => Some(Outage::LoginRefused),
        // Connection exceptions, rolled back transactions, lack of resources, errors of the system, and a transaction that
        // idled for too long.
        (_, "08" | "40" | "53" | "58") | ("25P03", _) => Some(Outage::Lost),
        _ => None,
    }
}

fn is_about_the_connection(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::BeginFailed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::PoolClosed
            | sqlx::Error::PoolTimedOut
    )
}

impl Columns for PgRow {
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error> {
        self.try_get(column)
    }

    fn text(&self, column: &str) -> Result<Option<&str>, sqlx::Error> {
        self.try_get(column)
    }

    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, sqlx::Error> {
        self.try_get(column)
    }
}

#[cfg(test)]
mod tests {
    use super::{migrations, places};

    #[test]
    fn the_connections_are_all_that_there_may_be() {
        for (connections, parts) in [(8, (4, 3)), (12, (7, 4)), (500, (332, 167))] {
            let (locking, prompt) = places(connections);
            assert_eq!((locking, prompt), parts);
            assert_eq!(locking + prompt + 1, connections);
        }
    }

    #[test]
    fn the_migrations_are_those_of_sqlite() {
        let names = |database: &str| {
            let folder = format!("{}/migrations/{database}", env!("CARGO_MANIFEST_DIR"));
            let mut names: Vec<_> = std::fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("postgres"), names("sqlite"));
        assert_eq!(migrations().iter().count(), names("postgres").len());
    }
}
