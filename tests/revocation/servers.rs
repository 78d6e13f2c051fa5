//! Stores on the database servers that `scripts/databases` has started, with rows that can be held.

use std::time::Duration;

use portcullis::revocation::{Acknowledge, Revocations};
use portcullis::session::SessionHandle;
use portcullis::store::{LogEntry, ReplicaRow, Sequence, SessionStore};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection, raw_sql};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{open_sessions, revocations};

#[derive(Clone, Copy)]
pub enum Kind {
    Postgres,
    MariaDb,
}

/// A database of its own.
pub struct ServerDatabase {
    pub store: SessionStore,
    kind: Kind,
    server: String,
    name: String,
    url: String,
}

impl ServerDatabase {
    pub async fn new(kind: Kind) -> Self {
        let server = server_url(kind);
        let name = format!("held_{}", hex(&SessionHandle::random().as_bytes()[..8]));
        Holder::connect(kind, &server)
            .await
            .run(&format!("CREATE DATABASE {name}"))
            .await;
        let (before, _) = server.rsplit_once('/').unwrap();
        let url = format!("{before}/{name}");
        Self {
            store: SessionStore::open(&url).await.unwrap(),
            kind,
            server,
            name,
            url,
        }
    }

    /// A process on it, with a lease of this length, that looks at the log often.
    pub fn process(&self, lease: Duration) -> Revocations {
        revocations(
            &self.store,
            Acknowledge::Fleet,
            Duration::from_millis(10),
            lease,
        )
    }

    /// The row of a process, as everybody sees it; `None` if it has none.
    pub async fn row_of(&self, process: &Revocations) -> Option<ReplicaRow> {
        let rows = self.store.replicas().await.unwrap();
        rows.into_iter().find(|row| row.id == process.replica())
    }

    pub async fn sessions(&self, count: usize) -> Vec<SessionHandle> {
        open_sessions(&self.store, count).await
    }

    pub async fn is_there(&self, handle: SessionHandle) -> bool {
        self.store.session(handle).await.unwrap().is_some()
    }

    pub async fn log(&self) -> Vec<LogEntry> {
        self.store.read_log(Sequence::ZERO).await.unwrap().entries
    }

    /// Somebody else's connection.
    pub async fn connect(&self) -> Holder {
        Holder::connect(self.kind, &self.url).await
    }

    pub async fn remove(self) {
        self.store.close().await;
        let statement = match self.kind {
            Kind::Postgres => format!("DROP DATABASE {} WITH (FORCE)", self.name),
            Kind::MariaDb => format!("DROP DATABASE {}", self.name),
        };
        let mut administrator = Holder::connect(self.kind, &self.server).await;
        administrator.run(&statement).await;
    }
}

/// A process whose feed runs.
pub struct Following {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Following {
    pub fn of(process: &Revocations) -> Self {
        let (process, stop) = (process.clone(), CancellationToken::new());
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { process.follow(stop).await }
        });
        Self { stop, task }
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Who holds rows.
pub enum Holder {
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

impl Holder {
    async fn connect(kind: Kind, url: &str) -> Self {
        match kind {
            Kind::Postgres => Self::Postgres(PgConnection::connect(url).await.unwrap()),
            Kind::MariaDb => Self::MariaDb(MySqlConnection::connect(url).await.unwrap()),
        }
    }

    /// All that end a session wait.
    pub async fn hold_head(&mut self) {
        self.run("BEGIN; SELECT sequence FROM revocation_head WHERE id = 1 FOR UPDATE")
            .await;
    }

    /// Whoever ends this session waits.
    pub async fn hold_session(&mut self, handle: SessionHandle) {
        let literal = self.literal(handle.as_bytes());
        self.run(&format!(
            "BEGIN; SELECT handle FROM session WHERE handle = {literal} FOR UPDATE"
        ))
        .await;
    }

    pub async fn let_go(&mut self) {
        self.run("ROLLBACK").await;
    }

    /// Nobody reads the log, or writes it.
    pub async fn lock_log(&mut self) {
        let statements = match self {
            Self::Postgres(_) => "BEGIN; LOCK TABLE revocation IN ACCESS EXCLUSIVE MODE",
            Self::MariaDb(_) => "LOCK TABLES revocation WRITE",
        };
        self.run(statements).await;
    }

    pub async fn unlock_log(&mut self) {
        let statements = match self {
            Self::Postgres(_) => "ROLLBACK",
            Self::MariaDb(_) => "UNLOCK TABLES",
        };
        self.run(statements).await;
    }

    /// Bytes as this server writes them.
    pub fn literal(&self, bytes: &[u8]) -> String {
        let hex = hex(bytes);
        match self {
            Self::Postgres(_) => format!("'\\x{hex}'::bytea"),
            Self::MariaDb(_) => format!("0x{hex}"),
        }
    }

    pub async fn run(&mut self, statements: &str) {
        let statements = raw_sql(AssertSqlSafe(statements.to_owned()));
        match self {
            Self::Postgres(connection) => drop(statements.execute(connection).await.unwrap()),
            Self::MariaDb(connection) => drop(statements.execute(connection).await.unwrap()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `scripts/databases up` has said of a server: in the environment, or in the file that it writes.
fn server_url(kind: Kind) -> String {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.test/databases/env");
    let variable = match kind {
        Kind::Postgres => "PORTCULLIS_TEST_POSTGRES",
        Kind::MariaDb => "PORTCULLIS_TEST_MARIADB",
    };
    if let Ok(url) = std::env::var(variable) {
        return url;
    }
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='))
        .unwrap_or_else(|| {
            panic!("there is no {variable}: run ./scripts/databases up before the tests")
        })
        .to_owned()
}
