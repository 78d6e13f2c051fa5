//! A store with sessions in it, whose locks can be held.

use std::time::Duration;

use portcullis::clock::{Clock, Timestamp};
use portcullis::identity::UserId;
use portcullis::revocation::{Acknowledge, Check, OnLapse, RevocationSettings, Revocations};
use portcullis::secret::{Secret, random_bytes};
use portcullis::session::{Device, Lineage, RefreshHash, Session, SessionHandle};
use portcullis::store::{LogEntry, OpenOutcome, Sequence, SessionStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, raw_sql};
use tempfile::TempDir;

/// A store of its own.
pub struct Database {
    pub store: SessionStore,
    directory: TempDir,
}

impl Database {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let url = format!("sqlite:{}/x.db", directory.path().display());
        Self {
            store: SessionStore::open(&url).await.unwrap(),
            directory,
        }
    }

    /// A process that revokes, and waits for nobody.
    pub fn revoker(&self) -> Revocations {
        self.revocations(Acknowledge::Local, Duration::from_millis(10))
    }

    /// A process that looks at the log this often, and whose revocations wait for all replicas.
    pub fn replica(&self, poll: Duration) -> Revocations {
        self.revocations(Acknowledge::Fleet, poll)
    }

    fn revocations(&self, acknowledge: Acknowledge, poll: Duration) -> Revocations {
        revocations(&self.store, acknowledge, poll, Duration::from_mins(3))
    }

    /// Somebody else's connection.
    pub async fn intruder(&self) -> Intruder {
        let options = SqliteConnectOptions::new()
            .filename(self.directory.path().join("x.db"))
            .busy_timeout(Duration::from_secs(10));
        Intruder {
            connection: options.connect().await.unwrap(),
        }
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
}

/// A process on the store.
pub fn revocations(
    store: &SessionStore,
    acknowledge: Acknowledge,
    poll: Duration,
    lease: Duration,
) -> Revocations {
    let settings = RevocationSettings {
        check: Check::Feed,
        acknowledge,
        on_lapse: OnLapse::Cut,
        lease,
        poll,
        access_lifetime: Duration::from_hours(1),
    };
    Revocations::new(settings, Clock::system(), store.clone())
}

pub async fn open_sessions(store: &SessionStore, count: usize) -> Vec<SessionHandle> {
    let mut handles = Vec::with_capacity(count);
    for _ in 0..count {
        let session = session();
        let opened = store.open_session(&session, Sequence::ZERO, None);
        let opened = opened.await.unwrap();
        assert_eq!(opened, OpenOutcome::Opened { replaced: None });
        handles.push(session.handle);
    }
    handles
}

/// Who holds locks or puts up triggers.
pub struct Intruder {
    connection: SqliteConnection,
}

impl Intruder {
    pub async fn run(&mut self, statements: &str) {
        raw_sql(AssertSqlSafe(statements.to_owned()))
            .execute(&mut self.connection)
            .await
            .unwrap();
    }

    /// Nobody else writes until [`Self::let_go`].
    pub async fn hold(&mut self) {
        self.run("BEGIN IMMEDIATE").await;
    }

    pub async fn let_go(&mut self) {
        self.run("ROLLBACK").await;
    }

    /// From now on this session cannot be ended.
    pub async fn protect(&mut self, handle: SessionHandle) {
        let bytes = handle.as_bytes().iter();
        let hex: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        self.run(&format!(
            "CREATE TRIGGER stubborn BEFORE DELETE ON session WHEN OLD.handle = x'{hex}' BEGIN SELECT RAISE(ABORT, 'no'); END"
        ))
        .await;
    }
}

fn session() -> Session {
    const DAY: Duration = Duration::from_hours(24);
    let now: Timestamp = Clock::system().now();
    Session {
        handle: SessionHandle::random(),
        user: UserId::parse("alice").unwrap(),
        secret: Secret::random(),
        lineage: Lineage::begin(now, DAY, DAY),
        refresh_hash: RefreshHash::from_bytes(random_bytes()),
        claims: "{}".into(),
        claims_version: 0,
        data: "{}".into(),
        created_at: now,
        last_seen_at: now,
        access_expires_at: now + DAY,
        device: Device::default(),
    }
}

/// Waits for what is going to happen.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("did not happen within ten seconds: {what}");
}
