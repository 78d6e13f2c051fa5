//! The store in a SQLite file.
//!
//! All writes go through one connection, so that those of one process queue in order instead of polling for the file's
//! lock; reads have connections of their own and, in WAL mode, wait for no writer. Other processes (the command line, an
//! overlapping restart) are met at the file's lock, for which `BEGIN IMMEDIATE` waits; a transaction that began with a
//! read would fail instead. The path must be on a local disk.

mod claims;
mod keys;
mod moving;
mod revocations;
mod sessions;
mod users;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    ConnectOptions, Connection, Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction, query,
};

use super::StoreSettings;
use super::error::{Outage, StoreError};
use super::migrations::{PendingMigration, not_applied, refuse};
use super::rows::Columns;

/// A SQLite file; cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    write: SqlitePool,
    read: SqlitePool,
}

impl SqliteStore {
    pub(super) async fn open(path: &Path, settings: StoreSettings) -> Result<Self, StoreError> {
        if !settings.migrate {
            refuse(&Self::pending(path).await?)?;
        }
        let mut patient = patient(path).await?;
        if settings.migrate {
            migrate(&mut patient).await?;
        }
        let write = pool(1).connect_with(options(path)).await;
        let read = pool(READERS)
            .connect_with(options(path).pragma("query_only", "on"))
            .await;
        // Last, so that nobody takes the write-ahead log away in between.
        patient.close().await.map_err(classify)?;
        Ok(Self {
            write: write.map_err(classify)?,
            read: read.map_err(classify)?,
        })
    }

    /// What opening would change, without changing it, or making a file that is not there.
    pub(super) async fn pending(path: &Path) -> Result<Vec<PendingMigration>, StoreError> {
        if !path.exists() {
            return not_applied::<SqliteRow>(&migrations(), &[]);
        }
        let mut connection = options(path).connect().await.map_err(classify)?;
        pending(&mut connection).await
    }

    /// Brings the tables up to date, and says what that took.
    pub(super) async fn migrate(path: &Path) -> Result<Vec<PendingMigration>, StoreError> {
        let mut connection = patient(path).await?;
        let applied = migrate(&mut connection).await?;
        connection.close().await.map_err(classify)?;
        Ok(applied)
    }

    pub(super) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// A transaction that has the file's write lock from its beginning.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        self.write
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(classify)
    }
}

/// A connection that waits for others who make the tables or change them. Makes the file if it is missing.
async fn patient(path: &Path) -> Result<SqliteConnection, StoreError> {
    create_private(path)?;
    let options = options(path)
        .busy_timeout(OPENING_PAUSE)
        .journal_mode(SqliteJournalMode::Wal);
    let mut tries = 1;
    let mut connection = loop {
        match options.connect().await.map_err(classify) {
            // SQLite does not wait by itself where two could wait for each other: while both change the journal's mode.
            Err(StoreError::Unavailable(Outage::FileLocked(_))) if tries < OPENING_TRIES => {
                tokio::time::sleep(OPENING_PAUSE).await;
            }
            other => break other?,
        }
        tries += 1;
    };
    query(OPENING_WAIT)
        .execute(&mut connection)
        .await
        .map_err(classify)?;
    Ok(connection)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(LOCK_WAIT)
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
}

/// For a lock of the file, and likewise for a connection of the pool.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// For the file's lock when a store is opened, in milliseconds: another process may be at its migrations.
const OPENING_WAIT: &str = "PRAGMA busy_timeout = 5000";

/// As long again for the change of the journal's mode.
const OPENING_TRIES: u32 = 50;
const OPENING_PAUSE: Duration = Duration::from_millis(100);

const READERS: u32 = 4;

/// SQLite would create the file with the mode that the umask leaves. Its companions (`-wal`, `-shm`) take the file's mode.
fn create_private(path: &Path) -> Result<(), StoreError> {
    let created = OpenOptions::new()
        .write(true)
        // Never opens a file that is there: to close it would drop the locks that SQLite has on it (fcntl(2)).
        .create_new(true)
        .mode(0o600)
        .open(path);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::Create {
            path: path.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(LOCK_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        // When SQLite has rolled back by itself (disk full, I/O error), the driver's own ROLLBACK fails and the driver takes the
        // connection to be in a transaction for ever. Such a connection is not used again.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
}

/// All in one transaction, so that two processes that start at once do not both apply a migration. Returns what was applied.
async fn migrate(connection: &mut SqliteConnection) -> Result<Vec<PendingMigration>, StoreError> {
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(classify)?;
    let pending = pending(&mut transaction).await?;
    migrations()
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|error| match error {
            MigrateError::Execute(source) if is_temporary(&source) => {
                StoreError::Unavailable(outage(source))
            }
            MigrateError::ExecuteMigration(source, _) if is_temporary(&source) => {
                StoreError::Unavailable(outage(source))
            }
            other => StoreError::Migration(Box::new(other)),
        })?;
    transaction.commit().await.map_err(classify)?;
    Ok(pending)
}

/// What is not applied, or was applied in other words.
async fn pending(connection: &mut SqliteConnection) -> Result<Vec<PendingMigration>, StoreError> {
    let table = query("SELECT 1 FROM sqlite_schema WHERE name = '_sqlx_migrations'")
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

fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("migrations/sqlite");
    // After a roll-back to this version, tables that a newer one has widened are fine.
    migrations.set_ignore_missing(true);
    migrations
}

fn classify(error: sqlx::Error) -> StoreError {
    if is_temporary(&error) {
        StoreError::Unavailable(outage(error))
    } else {
        StoreError::Refused(error)
    }
}

fn outage(error: sqlx::Error) -> Outage {
    match error.as_database_error().and_then(|error| error.code()) {
        Some(code) if low_byte(&code) == Some(FULL) => Outage::DiskFull(error),
        Some(code) if low_byte(&code) == Some(READONLY) => Outage::ReadOnly(error),
        Some(code) if low_byte(&code) == Some(BUSY) => Outage::FileLocked(error),
        _ => Outage::Lost(error),
    }
}

fn is_temporary(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error
            .code()
            .and_then(|code| low_byte(&code))
            .is_some_and(is_temporary_code),
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::InvalidSavePointStatement => true,
        _ => false,
    }
}

/// What is wrong, of a result code of <https://www.sqlite.org/rescode.html>.
fn low_byte(code: &str) -> Option<i32> {
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

/// The ones that are about the surroundings, not about the file's content or the statement.
fn is_temporary_code(code: i32) -> bool {
    const PERM: i32 = 3;
    const LOCKED: i32 = 6;
    const NOMEM: i32 = 7;
    const INTERRUPT: i32 = 9;
    const IOERR: i32 = 10;
    const CANTOPEN: i32 = 14;
    const PROTOCOL: i32 = 15;
    matches!(
        code,
        PERM | BUSY | LOCKED | NOMEM | READONLY | INTERRUPT | IOERR | FULL | CANTOPEN | PROTOCOL
    )
}

const BUSY: i32 = 5;
const READONLY: i32 = 8;
const FULL: i32 = 13;

impl Columns for SqliteRow {
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
    use sqlx::query;

    use super::{SqliteStore, StoreSettings, migrations};
    use crate::clock::Timestamp;
    use crate::identity::UserId;
    use crate::store::RevocationReason;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    #[test]
    fn all_migrations_are_built_in() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite"));
        assert_eq!(migrations().iter().count(), files.unwrap().count());
    }

    #[tokio::test]
    async fn every_connection_waits_for_the_disk_and_not_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("x.db"), StoreSettings::default())
            .await
            .unwrap();
        let value = async |pool, pragma| {
            let row = query(pragma).fetch_one(pool).await.unwrap();
            sqlx::Row::try_get::<i64, _>(&row, 0).unwrap()
        };
        for pool in [&store.write, &store.read] {
            assert_eq!(value(pool, "PRAGMA synchronous").await, 2, "FULL");
            assert_eq!(value(pool, "PRAGMA foreign_keys").await, 1);
            assert_eq!(value(pool, "PRAGMA busy_timeout").await, 2_000);
        }
        assert_eq!(value(&store.read, "PRAGMA query_only").await, 1);
        let row = query("PRAGMA journal_mode").fetch_one(&store.read).await;
        assert_eq!(sqlx::Row::get::<String, _>(&row.unwrap(), 0), "wal");
    }

    /// SQLite may roll back on its own; the driver does not notice.
    #[tokio::test]
    async fn a_transaction_that_ended_by_itself_does_not_spoil_the_connection() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("x.db"), StoreSettings::default())
            .await
            .unwrap();
        let user = UserId::parse("alice").unwrap();
        for number in 1..=3 {
            let mut transaction = store.begin().await.unwrap();
            query("ROLLBACK").execute(&mut *transaction).await.unwrap();
            drop(transaction);
            let revocation = store
                .revoke_user(&user, RevocationReason::Admin, NOW)
                .await
                .unwrap();
            assert_eq!(revocation.sequence.as_u64(), number);
        }
    }
}
