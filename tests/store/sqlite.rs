//! What is particular to a SQLite file: its lock, its mode, its bytes.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::secret::from_base64url_any;
use portcullis::session::{MasterKey, RefreshKeys, SigningAlgorithm, SigningKey};
use portcullis::store::{
    OpenOutcome, ReplicaId, RevocationReason, Sequence, SessionStore, StoreError,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tempfile::TempDir;

use crate::support::{NOW, log_after, open, replica_row, rotation_of, session, user};

/// A database that lives as long as the test.
pub struct File {
    directory: TempDir,
}

impl File {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub async fn open(&self) -> SessionStore {
        SessionStore::open(&self.url()).await.unwrap()
    }

    pub async fn remove(self) {}

    pub fn url(&self) -> String {
        format!("sqlite:{}", self.path().display())
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("sessions.db")
    }

    /// As another program would open it.
    async fn connect(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.path())
            .connect()
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn the_file_and_its_companions_are_private() {
    let file = File::new();
    let store = file.open().await;
    open(&store, "alice").await;
    let mut found = 0;
    for entry in std::fs::read_dir(file.directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        found += 1;
    }
    assert_eq!(found, 3, "the file, its log and its index of the log");
}

#[tokio::test]
async fn a_store_is_found_again() {
    let file = File::new();
    let store = file.open().await;
    let session = open(&store, "alice").await;
    let gone = open(&store, "alice").await;
    store
        .revoke(&[gone.handle], RevocationReason::Logout, NOW)
        .await
        .unwrap();
    let before = store.read_log(Sequence::ZERO).await.unwrap();
    store.close().await;
    let store = file.open().await;
    assert!(store.session(session.handle).await.unwrap().is_some());
    assert!(store.session(gone.handle).await.unwrap().is_none());
    assert_eq!(store.read_log(Sequence::ZERO).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_new_file_at_once() {
    let file = File::new();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let url = file.url();
        tasks.spawn(async move { SessionStore::open(&url).await });
    }
    let stores: Vec<SessionStore> = tasks
        .join_all()
        .await
        .into_iter()
        .map(|store| store.unwrap())
        .collect();
    let session = open(&stores[0], "alice").await;
    for store in &stores {
        assert!(store.session(session.handle).await.unwrap().is_some());
    }
}

/// Longer than a store waits that is open: another process may be at a migration of many rows.
#[tokio::test]
async fn who_opens_waits_for_another_process() {
    let file = File::new();
    file.open().await.close().await;
    let mut other = file.connect().await;
    sqlx::query("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .unwrap();
    let (store, ()) = tokio::join!(file.open(), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    });
    assert_eq!(store.head().await.unwrap(), Sequence::ZERO);
}

#[tokio::test]
async fn urls_that_name_no_file_are_refused() {
    for url in [
        "",
        "sqlite",
        "sqlite:",
        "sqlite://",
        "sqlite::memory:",
        "sqlite:file:x",
        "sqlite:a\0b",
        "redis://localhost/x",
        "/tmp/x",
    ] {
        let refused = SessionStore::open(url).await;
        assert!(matches!(refused, Err(StoreError::Url { .. })), "{url}");
    }
    let file = File::new();
    let url = format!("sqlite:{}/missing/x.db", file.directory.path().display());
    let refused = SessionStore::open(&url).await;
    assert!(matches!(refused, Err(StoreError::Create { .. })));
}

#[tokio::test]
async fn a_locked_file_is_unavailable_for_writing_and_available_after() {
    let file = File::new();
    let store = file.open().await;
    let session = open(&store, "alice").await;
    let mut other = file.connect().await;
    sqlx::query("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .unwrap();

    let clock = Clock::system();
    let began = clock.boot();
    let new = crate::support::session("alice");
    let handles = [session.handle];
    let rotation = rotation_of(&session, NOW);
    let alice = user("alice");
    let (revoked, revoked_user, opened, rotated) = tokio::join!(
        store.revoke(&handles, RevocationReason::Logout, NOW),
        store.revoke_user(&alice, RevocationReason::Logout, NOW),
        store.open_session(&new, Sequence::ZERO, Some(session.handle)),
        store.rotate(&rotation),
    );
    for error in [
        revoked.unwrap_err(),
        revoked_user.unwrap_err(),
        opened.unwrap_err(),
        rotated.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    }
    let waited = clock.boot().since(began);
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    // Reading goes on, and finds nothing changed.
    assert!(store.session(session.handle).await.unwrap().is_some());

    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(store.head().await.unwrap(), Sequence::ZERO);
    assert!(store.session(new.handle).await.unwrap().is_none());
    let revocation = store
        .revoke(&handles, RevocationReason::Logout, NOW)
        .await
        .unwrap();
    assert_eq!(revocation.sequence, Sequence::new(1));
    assert_eq!(log_after(&store, 0).await.len(), 1);
}

/// A transaction that began with a read would fail here at once, and could not wait at all.
#[tokio::test]
async fn who_writes_waits_for_another_process() {
    let file = File::new();
    let store = file.open().await;
    let old = open(&store, "alice").await;
    let (new, handles, alice) = (session("alice"), [old.handle], user("alice"));
    let master = MasterKey::generate();
    let key = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
    let sealed = key.seal(&master, NOW);
    let mut other = file.connect().await;
    for statement in [
        "BEGIN IMMEDIATE",
        "UPDATE session SET data = '[]'",
        "INSERT INTO user_revocation (user_id, sequence, revoked_at) VALUES ('bob', 1, 1)",
    ] {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    let (opened, revoked, initialised, ()) = tokio::join!(
        store.open_session(&new, Sequence::ZERO, None),
        store.revoke(&handles, RevocationReason::Logout, NOW),
        store.initialise_keys(master.fingerprint(), &sealed),
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            sqlx::query("COMMIT").execute(&mut other).await.unwrap();
        }
    );
    assert_eq!(opened.unwrap(), OpenOutcome::Opened { replaced: None });
    assert_eq!(revoked.unwrap().ended.len(), 1);
    initialised.unwrap();
    let left = store.sessions_of_user(&alice, None, 10).await.unwrap();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn an_abandoned_operation_leaves_nothing_locked_and_nothing_half_written() {
    let file = File::new();
    let store = file.open().await;
    let alice = user("alice");
    for round in 0..200 {
        let session = open(&store, "alice").await;
        let revoking = store.revoke_user(&alice, RevocationReason::Logout, NOW);
        let patience = Duration::from_micros(round * 10);
        let abandoned = tokio::time::timeout(patience, revoking).await.is_err();
        // Whatever became of it, it did so wholly, once those that queue behind it get their turn.
        let next = store
            .revoke(&[session.handle], RevocationReason::Logout, NOW)
            .await
            .unwrap();
        assert!(abandoned || next.ended.is_empty());
        let logged = log_after(&store, 0).await;
        let entries = logged
            .iter()
            .filter(|entry| entry.handle == Some(session.handle));
        assert_eq!(entries.count(), 1, "round {round}");
        assert_eq!(logged.last().unwrap().sequence, store.head().await.unwrap());
    }
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let file = File::new();
    std::fs::write(file.path(), "x".repeat(8192)).unwrap();
    let refused = SessionStore::open(&file.url()).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(
        std::fs::read(file.path()).unwrap(),
        "x".repeat(8192).as_bytes()
    );
}

#[tokio::test]
async fn a_file_that_a_newer_version_widened_is_accepted() {
    let file = File::new();
    file.open().await.close().await;
    let mut other = file.connect().await;
    for statement in [
        "ALTER TABLE session ADD COLUMN colour TEXT",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'colours', 1, x'00', 1)",
    ] {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    let store = file.open().await;
    let session = open(&store, "alice").await;
    assert!(store.session(session.handle).await.unwrap().is_some());
}

#[tokio::test]
async fn a_widening_under_way_is_not_noticed() {
    let file = File::new();
    let store = file.open().await;
    let session = open(&store, "alice").await;
    assert!(store.session(session.handle).await.unwrap().is_some());
    sqlx::query("ALTER TABLE session ADD COLUMN colour TEXT")
        .execute(&mut file.connect().await)
        .await
        .unwrap();
    for _ in 0..10 {
        let found = store.session(session.handle).await.unwrap().unwrap();
        assert_eq!(found.handle, session.handle);
        open(&store, "alice").await;
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_read_names_its_place() {
    let cases = [
        ("UPDATE session SET user_id = ''", "session", "user_id"),
        ("UPDATE session SET user_id = x'ff'", "session", "user_id"),
        ("UPDATE session SET secret = x'00'", "session", "secret"),
        (
            "UPDATE session SET generation = -1",
            "session",
            "generation",
        ),
        (
            "UPDATE session SET refresh_hash = x''",
            "session",
            "refresh_hash",
        ),
        (
            "UPDATE revocation SET handle = x'00'",
            "revocation",
            "handle",
        ),
        (
            "UPDATE revocation SET mark = x'00' WHERE sequence = 1",
            "revocation",
            "mark",
        ),
        ("UPDATE replica SET applied = -1", "replica", "applied"),
        ("DELETE FROM revocation_head", "revocation_head", "sequence"),
        (
            "UPDATE signing_key SET algorithm = 'none'",
            "signing_key",
            "algorithm",
        ),
        (
            "UPDATE master_key SET fingerprint = x'00'",
            "master_key",
            "fingerprint",
        ),
    ];
    for (statement, table, column) in cases {
        let file = File::new();
        let store = file.open().await;
        fill(&store).await;
        let mut other = file.connect().await;
        for pragma in [
            "PRAGMA ignore_check_constraints = on",
            "PRAGMA writable_schema = on",
            // A STRICT table would refuse some of these; a damaged file does not ask.
            "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '')
             WHERE sql LIKE '%) STRICT'",
            "PRAGMA writable_schema = reset",
        ] {
            sqlx::query(pragma).execute(&mut other).await.unwrap();
        }
        sqlx::query(statement).execute(&mut other).await.unwrap();
        let error = read_all(&store).await.expect_err(statement);
        let StoreError::Corrupt {
            table: found_table,
            column: found_column,
            key,
        } = error
        else {
            panic!("{statement}: {error:?}");
        };
        assert_eq!((found_table, found_column), (table, column), "{statement}");
        assert!(!key.is_empty() && key != "unknown", "{statement}: {key}");
    }
}

async fn fill(store: &SessionStore) {
    open(store, "alice").await;
    store
        .revoke_user(&user("bob"), RevocationReason::Admin, NOW)
        .await
        .unwrap();
    let row = replica_row(ReplicaId::random(), 1);
    store.renew_replica(&row).await.unwrap();
    let master = MasterKey::generate();
    let key = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
    store
        .initialise_keys(master.fingerprint(), &key.seal(&master, NOW))
        .await
        .unwrap();
}

async fn read_all(store: &SessionStore) -> Result<(), StoreError> {
    store.all_sessions(None, 10).await?;
    store.read_log(Sequence::ZERO).await?;
    store.replicas().await?;
    store.head().await?;
    store.signing_keys().await?;
    store.master_key_fingerprint().await?;
    Ok(())
}

#[tokio::test]
async fn the_file_holds_no_refresh_token() {
    let file = File::new();
    let store = file.open().await;
    let keys = RefreshKeys::from_master(&MasterKey::generate());
    let mut session = session("alice in the file");
    let first = keys.first(session.handle, &session.secret);
    let second = keys.successor(&first, &session.secret);
    session.refresh_hash = keys.hash(&first);
    store
        .open_session(&session, Sequence::ZERO, None)
        .await
        .unwrap();
    let mut rotation = rotation_of(&session, NOW);
    rotation.refresh_hash = keys.hash(&second);
    assert!(store.rotate(&rotation).await.unwrap());

    let wal = std::fs::read(file.path().with_extension("db-wal")).unwrap();
    store.close().await;
    let bytes = [std::fs::read(file.path()).unwrap(), wal].concat();
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(holds(b"alice in the file"), "the bytes are looked at");
    assert!(holds(keys.hash(&second).as_bytes()));
    for token in [first, second] {
        let text = keys.text(&token);
        assert!(!holds(text.expose().as_bytes()));
        let raw = from_base64url_any(text.expose().as_bytes()).unwrap();
        // The secret and the tag, in pieces; the handle before them may well be there.
        assert!(raw[20..].chunks_exact(8).all(|piece| !holds(piece)));
    }
}

#[tokio::test]
async fn errors_show_no_url_and_no_value() {
    let refused = SessionStore::open("postgres://gate:hunter2@db/x")
        .await
        .unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    let file = File::new();
    let store = file.open().await;
    let mut twice = open(&store, "alice").await;
    twice.data = "hunter2".into();
    let refused = store
        .open_session(&twice, Sequence::ZERO, None)
        .await
        .unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let file = File::new();
    let store = file.open().await;
    store.close().await;
    assert!(store.head().await.unwrap_err().is_temporary());
    let mut other = file.connect().await;
    other.ping().await.unwrap();
}
