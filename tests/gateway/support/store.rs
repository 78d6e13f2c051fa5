//! The session store's file, as somebody sees it who is not the gateway.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, raw_sql};
use tokio::runtime::Runtime;

/// The file of a world's session store.
pub struct StoreFile {
    path: PathBuf,
}

impl StoreFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The one number that a query gives.
    pub fn number(&self, query: &str) -> i64 {
        let mut session = self.open();
        let row = session.block_on(async |connection| {
            raw_sql(AssertSqlSafe(query.to_owned()))
                .fetch_one(connection)
                .await
        });
        row.get(0)
    }

    /// The one value that a query gives.
    pub fn blob(&self, query: &str) -> Vec<u8> {
        let mut session = self.open();
        let row = session.block_on(async |connection| {
            raw_sql(AssertSqlSafe(query.to_owned()))
                .fetch_one(connection)
                .await
        });
        row.get(0)
    }

    /// Lets nobody write until the guard is dropped: somebody else is in the middle of a transaction.
    pub fn lock(&self) -> Sabotage {
        self.sabotage("BEGIN IMMEDIATE".into(), "ROLLBACK".into())
    }

    /// The same, and when the guard is dropped that transaction ends with `statements`.
    pub fn lock_and_then(&self, statements: String) -> Sabotage {
        self.sabotage("BEGIN IMMEDIATE".into(), statements)
    }

    /// Takes the tables away until the guard is dropped: whatever is asked of the store fails at once.
    pub fn take_away(&self) -> Sabotage {
        let rename = |from: &str, to: &str| -> String {
            let all = TABLES
                .iter()
                .map(|table| format!("ALTER TABLE {table}{from} RENAME TO {table}{to};"));
            format!("BEGIN IMMEDIATE; {} COMMIT", all.collect::<String>())
        };
        self.sabotage(rename("", "_away"), rename("_away", ""))
    }

    /// The same, and lets nobody write what is left: who tries waits for two seconds first.
    pub fn take_away_and_lock(&self) -> (Sabotage, Sabotage) {
        let away = self.take_away();
        // Dropped in this order, the lock goes first.
        (self.lock(), away)
    }

    /// Adds a trigger until the guard is dropped.
    pub fn trigger(&self, what: &str) -> Sabotage {
        self.sabotage(
            format!("CREATE TRIGGER sabotage {what}"),
            "DROP TRIGGER sabotage".into(),
        )
    }

    /// All bytes of the store. Not read by this process, which would lose its locks on the file as it closes it.
    pub fn dump(&self) -> Vec<u8> {
        let path = self.path.display().to_string();
        let read = Command::new("cat")
            .args([&path, &format!("{path}-wal")])
            .output()
            .unwrap();
        read.stdout
    }

    fn sabotage(&self, begin: String, end: String) -> Sabotage {
        let mut session = self.open();
        session.run(begin);
        Sabotage { session, end }
    }

    fn open(&self) -> Session {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(PATIENCE);
        let connection = runtime.block_on(options.connect()).unwrap();
        Session {
            runtime,
            connection,
        }
    }
}

/// What keeps the store from working; undone when dropped.
pub struct Sabotage {
    session: Session,
    end: String,
}

impl Drop for Sabotage {
    fn drop(&mut self) {
        self.session.run(std::mem::take(&mut self.end));
    }
}

struct Session {
    runtime: Runtime,
    connection: SqliteConnection,
}

impl Session {
    fn block_on<T>(
        &mut self,
        task: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> T {
        self.runtime.block_on(task(&mut self.connection)).unwrap()
    }

    fn run(&mut self, statements: String) {
        self.block_on(async |connection| {
            raw_sql(AssertSqlSafe(statements)).execute(connection).await
        });
    }
}

const TABLES: [&str; 5] = [
    "session",
    "revocation",
    "revocation_head",
    "user_revocation",
    "replica",
];
const PATIENCE: Duration = Duration::from_secs(10);
