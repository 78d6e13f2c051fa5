//! What is particular to PostgreSQL: databases for tests, locks that others hold, logging in, TLS, news of the log.

use std::thread;
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::secret::random_bytes;
use portcullis::store::{
    Outage, ReplicaId, RevocationReason, Sequence, SessionStore, StoreError, WakeUp,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, query, raw_sql};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{self, ACCESS, NOW, log_after, open, replica_row, user};

/// A database of its own on the shared server, dropped at the end of the test.
pub struct Database {
    name: String,
}

impl Database {
    pub async fn new() -> Self {
        let number = u64::from_le_bytes(random_bytes());
        let name = format!("test_{number:016x}");
        admin(&format!("CREATE DATABASE {name} TEMPLATE template0")).await;
        Self { name }
    }

    pub async fn open(&self) -> SessionStore {
        SessionStore::open(&self.url()).await.unwrap()
    }

    pub async fn remove(self) {}

    pub fn url(&self) -> String {
        let (server, _) = server_url()
            .rsplit_once('/')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        format!("{server}/{}", self.name)
    }

    /// Through another port, as somebody else, or with parameters.
    pub fn url_at(&self, port: u16) -> String {
        let url = self.url();
        let (own, database) = url.rsplit_once('/').unwrap();
        let (login, _) = own.rsplit_once(':').unwrap();
        format!("{login}:{port}/{database}")
    }

    /// Where the server listens.
    pub fn address(&self) -> String {
        let url = self.url();
        let (_, at) = url.rsplit_once('@').unwrap();
        at.split('/').next().unwrap().to_owned()
    }

    /// As another program would.
    pub async fn run(&self, statements: &str) {
        let mut connection = self.connect().await;
        let statements = statements.replace("DATABASE_NAME", &self.name);
        raw_sql(AssertSqlSafe(statements))
            .execute(&mut connection)
            .await
            .unwrap();
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // On a thread of its own: the runtime of the test may be ending.
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(admin(&statement));
        });
        assert!(dropping.join().is_ok() || thread::panicking());
    }
}

async fn admin(statement: &str) {
    let mut connection = PgConnection::connect(&server_url()).await.unwrap();
    raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

fn server_url() -> String {
    support::server_url("PORTCULLIS_TEST_POSTGRES")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_new_database_at_once() {
    let database = Database::new().await;
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let url = database.url();
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
        store.close().await;
    }
}

/// Somebody has taken a sequence and has not committed yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_transaction_is_not_overtaken() {
    let database = Database::new().await;
    let store = database.open().await;
    let session = open(&store, "alice").await;
    let mut slow = database.connect().await;
    let taken = "BEGIN; UPDATE revocation_head SET sequence = sequence + 1;
        INSERT INTO revocation VALUES (1, '\\x00112233445566778899aabbccddeeff', 'logout', 0, '\\x0011223344556677')";
    raw_sql(taken).execute(&mut slow).await.unwrap();

    let revoking = tokio::spawn({
        let store = store.clone();
        async move {
            let reason = RevocationReason::Logout;
            store.revoke(&[session.handle], reason, NOW).await.unwrap()
        }
    });
    waits_for_a_lock(&database).await;
    assert!(!revoking.is_finished());
    assert!(
        log_after(&store, 0).await.is_empty(),
        "neither is committed"
    );
    raw_sql("COMMIT").execute(&mut slow).await.unwrap();
    assert_eq!(revoking.await.unwrap().sequence, Sequence::new(2));
    assert_eq!(log_after(&store, 0).await.len(), 2);
}

/// More revokers wait than there are connections for what waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_held_head_delays_revokers_and_nobody_else() {
    let database = Database::new().await;
    let store = database.open().await;
    let (replica, session) = (ReplicaId::random(), open(&store, "alice").await);
    let mut holder = database.connect().await;
    raw_sql("BEGIN; SELECT * FROM revocation_head FOR UPDATE")
        .execute(&mut holder)
        .await
        .unwrap();
    let mut revokers = JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        revokers.spawn(async move {
            let user = user(&format!("user {number}"));
            store.revoke_user(&user, RevocationReason::Admin, NOW).await
        });
    }
    waits_for_a_lock(&database).await;
    let unhindered = async {
        for beat in 1..=20 {
            let row = replica_row(replica, beat);
            store.renew_replica(&row).await.unwrap();
            store.read_log(Sequence::ZERO).await.unwrap();
            assert_eq!(store.replicas().await.unwrap().len(), 1);
            assert_eq!(store.head().await.unwrap(), Sequence::ZERO);
            assert!(store.session(session.handle).await.unwrap().is_some());
        }
        assert!(store.remove_replica(&replica, None).await.unwrap());
    };
    timeout(Duration::from_secs(2), unhindered).await.unwrap();
    let mut held = 0;
    for refused in revokers.join_all().await {
        match refused.unwrap_err() {
            StoreError::Unavailable(Outage::RowHeld(_)) => held += 1,
            // There are fewer connections than revokers, and on a busy machine each takes its time.
            StoreError::Unavailable(Outage::Busy(_) | Outage::TooSlow(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(held > 0);
    raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    let reason = RevocationReason::Admin;
    let revoked = store
        .revoke_user(&user("user 1"), reason, NOW)
        .await
        .unwrap();
    assert_eq!(revoked.sequence, Sequence::new(1), "nothing was half done");
}

/// The row was rotated after the revocation's statement began: what counts is what is there when it is deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_revocation_that_waited_for_a_rotation_knows_of_it() {
    let database = Database::new().await;
    let store = database.open().await;
    let session = open(&store, "alice").await;
    let mut rotating = database.connect().await;
    raw_sql("BEGIN").execute(&mut rotating).await.unwrap();
    query("UPDATE session SET generation = generation + 1, access_expires_at = access_expires_at + 5000")
        .execute(&mut rotating)
        .await
        .unwrap();
    let revoking = tokio::spawn({
        let store = store.clone();
        async move {
            let reason = RevocationReason::Logout;
            store.revoke(&[session.handle], reason, NOW).await.unwrap()
        }
    });
    waits_for_a_lock(&database).await;
    raw_sql("COMMIT").execute(&mut rotating).await.unwrap();
    let revocation = revoking.await.unwrap();
    let expires = NOW + ACCESS + Duration::from_secs(5);
    assert_eq!(revocation.ended[0].expires, expires);
    assert_eq!(log_after(&store, 0).await[0].expires, expires);
    assert!(store.session(session.handle).await.unwrap().is_none());
}

#[tokio::test]
async fn every_connection_is_durable_and_waits_not_for_ever() {
    let database = Database::new().await;
    database
        .run(
            "ALTER DATABASE DATABASE_NAME SET synchronous_commit = off;
              ALTER DATABASE DATABASE_NAME SET default_transaction_isolation = 'serializable'",
        )
        .await;
    let store = database.open().await;
    // What a connection is set to shows in what it writes.
    database
        .run(
            "CREATE TABLE seen (name text, value text);
              CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                  INSERT INTO seen SELECT name, setting FROM pg_settings; RETURN NULL; END $$;
              CREATE TRIGGER look AFTER INSERT ON session EXECUTE FUNCTION look();
              CREATE TRIGGER look AFTER INSERT ON replica EXECUTE FUNCTION look()",
        )
        .await;
    let mut connection = database.connect().await;
    let seen = async |connection: &mut PgConnection, name: &str| {
        let row = query("SELECT DISTINCT value FROM seen WHERE name = $1").bind(name);
        row.fetch_one(connection).await.unwrap().get::<String, _>(0)
    };
    for locking in [true, false] {
        raw_sql("DELETE FROM seen")
            .execute(&mut connection)
            .await
            .unwrap();
        if locking {
            open(&store, "alice").await;
        } else {
            let row = replica_row(ReplicaId::random(), 1);
            store.renew_replica(&row).await.unwrap();
        }
        for (name, value) in [
            ("synchronous_commit", "on"),
            ("transaction_isolation", "read committed"),
            ("lock_timeout", "2000"),
            ("statement_timeout", "5000"),
            ("idle_in_transaction_session_timeout", "5000"),
            ("application_name", "portcullis"),
        ] {
            assert_eq!(seen(&mut connection, name).await, value, "{name}");
        }
    }
}

#[tokio::test]
async fn whoever_may_not_log_in_is_told_so_without_the_password() {
    let database = Database::new().await;
    let url = database.url();
    let refused = [
        url.replace("only-for-tests", "hunter2"),
        format!("{url}_hunter2"),
        url.replace("portcullis:", "hunter2:"),
    ];
    for url in refused {
        let error = SessionStore::open(&url).await.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(
            matches!(error, StoreError::Unavailable(Outage::LoginRefused(_))),
            "{told}"
        );
        assert!(!told.contains("only-for-tests"), "{told}");
    }
}

#[tokio::test]
async fn tls_is_as_strict_as_the_url_says() {
    let database = Database::new().await;
    let (url, ca) = (
        database.url(),
        support::server_url("PORTCULLIS_TEST_DATABASE_CA"),
    );
    for (parameters, encrypted) in [
        ("sslmode=disable".to_owned(), Some(false)),
        (String::new(), Some(true)),
        ("sslmode=require".to_owned(), Some(true)),
        ("sslmode=verify-ca".to_owned(), None),
        ("sslmode=verify-full".to_owned(), None),
        (format!("sslmode=verify-full&sslrootcert={ca}"), Some(true)),
        ("sslmode=allow".to_owned(), None),
        ("sslmode=on".to_owned(), None),
    ] {
        let opened = SessionStore::open(&format!("{url}?{parameters}")).await;
        let Some(encrypted) = encrypted else {
            assert!(opened.is_err(), "{parameters}");
            continue;
        };
        let store = opened.unwrap();
        store.head().await.unwrap();
        let row = query(
            "SELECT bool_and(ssl = $1), count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE datname = current_database() AND application_name = 'portcullis'",
        )
        .bind(encrypted)
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
        assert!(row.get::<i64, _>(1) > 0);
        assert!(row.get::<bool, _>(0), "{parameters}");
        store.close().await;
    }
    // Nobody may be in between who has a certificate for another name.
    let other_name = url.replace("127.0.0.1", "127.0.0.2");
    let opened = SessionStore::open(&format!(
        "{other_name}?sslmode=verify-full&sslrootcert={ca}"
    ))
    .await;
    assert!(opened.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn news_of_the_log_are_heard() {
    let database = Database::new().await;
    let (store, other) = (database.open().await, database.open().await);
    let wake_up = other.wake_up();
    listens(&wake_up).await;
    let alice = user("alice");
    let reason = RevocationReason::Logout;
    for number in 0..4 {
        let handle = open(&store, "alice").await.handle;
        // What was told before may still be under way.
        while timeout(Duration::from_millis(200), wake_up.heard())
            .await
            .is_ok()
        {}
        match number {
            0 => drop(store.revoke(&[handle], reason, NOW).await.unwrap()),
            1 => drop(store.revoke_user(&alice, reason, NOW).await.unwrap()),
            2 => drop(store.replace_claims(handle, "{}", NOW).await.unwrap()),
            _ => drop(store.disable_user(&alice, reason, NOW).await.unwrap()),
        }
        timeout(Duration::from_secs(1), wake_up.heard())
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_listener_listens_again() {
    let database = Database::new().await;
    let store = database.open().await;
    let wake_up = store.wake_up();
    listens(&wake_up).await;
    timeout(Duration::from_secs(1), wake_up.heard())
        .await
        .unwrap();
    database
        .run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
              WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .await;
    // To look at once is right after a loss: what was told meanwhile is heard of nowhere.
    timeout(Duration::from_secs(5), wake_up.heard())
        .await
        .unwrap();
    listens(&wake_up).await;
    store
        .revoke_user(&user("alice"), RevocationReason::Admin, NOW)
        .await
        .unwrap();
    timeout(Duration::from_secs(1), wake_up.heard())
        .await
        .unwrap();
}

async fn listens(wake_up: &WakeUp) {
    let clock = Clock::system();
    let began = clock.boot();
    while !wake_up.is_listening() {
        assert!(clock.boot().since(began) < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// However long it is, and though nobody has counted its rows (ANALYZE) since they came: after a start, a move, or a storm the
/// planner takes a third of the log for new, and would read all of it at every look.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_look_at_a_long_log_reads_what_is_new() {
    const ENTRIES: u64 = 20_000;
    let database = Database::new().await;
    let store = database.open().await;
    let session = open(&store, "alice").await;
    database
        .run(&format!(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT n, decode(md5(n::text), 'hex'), 'logout', {}, '\\x0011223344556677' FROM generate_series(1, {ENTRIES}) n;
             UPDATE revocation_head SET sequence = {ENTRIES}",
            NOW.as_millis()
        ))
        .await;
    let mut other = database.connect().await;
    let (read_before, looks_before) = counted(&mut other).await;
    // The first few have plans of their own, the others share one.
    for _ in 0..12 {
        let log = store.read_log(Sequence::new(ENTRIES)).await.unwrap();
        assert!(log.entries.is_empty() && log.mark.is_some());
        let page = store.log_page(Sequence::new(100), 50).await.unwrap();
        assert_eq!(page.len(), 50);
        assert!(store.session(session.handle).await.unwrap().is_some());
    }
    let handles = [session.handle];
    let revoked = store.revoke(&handles, RevocationReason::Logout, NOW).await;
    assert_eq!(revoked.unwrap().sequence, Sequence::new(ENTRIES + 1));
    // What a connection has counted is known when it ends.
    store.close().await;
    let mut counts = counted(&mut other).await;
    for _ in 0..500 {
        if counts.1 >= looks_before + 24 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        counts = counted(&mut other).await;
    }
    assert!(counts.1 >= looks_before + 24, "{counts:?}");
    assert_eq!(
        counts.0, read_before,
        "rows of the log that were read in passing"
    );
}

/// What the server says of the log: rows read by scans of all of it, and looks by an index.
async fn counted(connection: &mut PgConnection) -> (i64, i64) {
    let row = query(
        "SELECT seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname = 'revocation'",
    )
    .fetch_one(connection)
    .await
    .unwrap();
    (row.get(0), row.get(1))
}

/// Until somebody does, in this database.
async fn waits_for_a_lock(database: &Database) {
    let mut connection = database.connect().await;
    for _ in 0..1000 {
        let waiting = query(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        if waiting.get::<i64, _>(0) > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("nobody waits for a lock");
}
