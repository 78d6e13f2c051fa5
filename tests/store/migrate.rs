//! How a store is opened: `portcullis migrate`, by processes that start at the same time, beside a store that is open; stores that
//! may not migrate; how many connections there are.

use std::process::{Command, Output, Stdio};

use portcullis::store::{RevocationReason, SessionStore, StoreError, StoreLocation, StoreSettings};
use tokio::task::JoinSet;

use crate::support::{NOW, open, patiently};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_processes_migrate_a_file_once() {
    let file = crate::sqlite::File::new();
    ten_processes_migrate_once(&file.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_processes_migrate_a_postgres_database_once() {
    let database = crate::postgres::Database::new().await;
    ten_processes_migrate_once(&database.url()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_processes_migrate_a_mysql_database_once() {
    let database = crate::mysql::Database::new().await;
    ten_processes_migrate_once(&database.url()).await;
    database.remove().await;
}

async fn ten_processes_migrate_once(url: &str) {
    for _ in 0..2 {
        let plan = answer(&start(url, &["--plan"]).wait_with_output().unwrap());
        assert_eq!(plan.len(), MIGRATIONS, "{plan:?}");
        assert_eq!(plan[0], "would apply 0001 sessions");
    }
    let processes: Vec<_> = (0..10).map(|_| start(url, &[])).collect();
    let mut applied = Vec::new();
    for process in processes {
        let lines = answer(&process.wait_with_output().unwrap());
        applied.extend(
            lines
                .into_iter()
                .filter(|line| line.starts_with("applied ")),
        );
    }
    assert_eq!(
        applied.len(),
        MIGRATIONS,
        "each by one process: {applied:?}"
    );
    let store = SessionStore::open(url).await.unwrap();
    let session = open(&store, "alice").await;
    for arguments in [&["--plan"][..], &[]] {
        let lines = answer(&start(url, arguments).wait_with_output().unwrap());
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with(" are up to date"), "{lines:?}");
        assert!(!lines[0].contains("only-for-tests"), "{lines:?}");
    }
    assert!(store.session(session.handle).await.unwrap().is_some());
    store.close().await;
}

/// Whoever brings the tables up to date is somebody else: nothing is changed, not even a file made, and what is to be done is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_may_not_migrate_waits_for_somebody_who_does() {
    let file = crate::sqlite::File::new();
    let postgres = crate::postgres::Database::new().await;
    let mysql = crate::mysql::Database::new().await;
    for url in [file.url(), postgres.url(), mysql.url()] {
        let location = StoreLocation::parse(&url).unwrap();
        let settings = StoreSettings {
            migrate: false,
            ..StoreSettings::default()
        };
        let refused = SessionStore::open_at(&location, settings).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, StoreError::NotMigrated { missing } if missing.starts_with("0001 sessions, 0002 ")),
            "{refused:?}"
        );
        assert!(!refused.is_temporary());
        if let StoreLocation::Sqlite(path) = &location {
            assert!(!path.exists(), "it was made");
        }
        let pending = SessionStore::pending_migrations(&location).await.unwrap();
        assert_eq!(pending.len(), MIGRATIONS);
        let told = refuses_to_serve(&url);
        assert!(told.contains("run `portcullis migrate`"), "{told}");
        assert!(!told.contains("only-for-tests"), "{told}");
        answer(&start(&url, &[]).wait_with_output().unwrap());
        let store = SessionStore::open_at(&location, settings).await.unwrap();
        open(&store, "alice").await;
        store.close().await;
    }
    mysql.remove().await;
}

/// What the gateway says that does not start.
fn refuses_to_serve(url: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("portcullis.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://127.0.0.1:1\"\n[admin]\nlisten = \"off\"\n\
         [store]\nurl = \"{url}\"\nmigrate = false\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["serve", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// A user of the database who may not change its tables is enough for a gateway that leaves that to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_may_not_migrate_needs_no_right_to_change_tables() {
    let postgres = crate::postgres::Database::new().await;
    postgres.open().await.close().await;
    postgres
        .run(
            "CREATE ROLE DATABASE_NAME LOGIN PASSWORD 'guest';
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO DATABASE_NAME",
        )
        .await;
    let url = postgres.url();
    let (_, name) = url.rsplit_once('/').unwrap();
    let of_postgres = url.replace("portcullis:only-for-tests", &format!("{name}:guest"));

    let mysql = crate::mysql::Database::new().await;
    mysql.open().await.close().await;
    let url = mysql.url();
    let (_, name) = url.rsplit_once('/').unwrap();
    let guest = format!("guest_{}", &name[name.len() - 16..]);
    let mut administrator = mysql.connect().await;
    let account = format!(
        "CREATE USER {guest} IDENTIFIED BY 'guest'; GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {guest}"
    );
    crate::mysql::run(&mut administrator, &account).await;
    let of_mysql = url.replace("portcullis:only-for-tests", &format!("{guest}:guest"));

    for url in [of_postgres, of_mysql] {
        let location = StoreLocation::parse(&url).unwrap();
        let settings = StoreSettings {
            migrate: false,
            ..StoreSettings::default()
        };
        let store = SessionStore::open_at(&location, settings).await.unwrap();
        let session = open(&store, "alice").await;
        let handles = [session.handle];
        let revoked = store.revoke(&handles, RevocationReason::Logout, NOW).await;
        assert_eq!(revoked.unwrap().ended.len(), 1);
        store.close().await;
    }
    crate::mysql::run(&mut administrator, &format!("DROP USER {guest}")).await;
    postgres
        .run("DROP OWNED BY DATABASE_NAME; DROP ROLE DATABASE_NAME")
        .await;
    mysql.remove().await;
}

/// However much is asked of it at once, and whoever listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_has_no_more_connections_than_it_was_given() {
    const GIVEN: u16 = 8;
    let postgres = crate::postgres::Database::new().await;
    let mysql = crate::mysql::Database::new().await;
    for url in [postgres.url(), mysql.url()] {
        let location = StoreLocation::parse(&url).unwrap();
        let settings = StoreSettings {
            connections: GIVEN,
            ..StoreSettings::default()
        };
        let store = SessionStore::open_at(&location, settings).await.unwrap();
        let wake_up = store.wake_up();
        let mut tasks = JoinSet::new();
        for number in 0..60 {
            let store = store.clone();
            tasks.spawn(async move {
                let session = open(&store, &format!("user {number}")).await;
                let handles = [session.handle];
                patiently(|| store.head()).await;
                patiently(|| store.session(session.handle)).await;
                patiently(|| store.revoke(&handles, RevocationReason::Logout, NOW)).await;
            });
        }
        tasks.join_all().await;
        let there = match &location {
            StoreLocation::Postgres(_) => {
                let mut other = postgres.connect().await;
                let count = "SELECT count(*) FROM pg_stat_activity
                             WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
                sqlx::query_scalar::<_, i64>(count)
                    .fetch_one(&mut other)
                    .await
                    .unwrap()
            }
            _ => {
                let count = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
                crate::mysql::number(&mut mysql.connect().await, count).await
            }
        };
        assert!(
            (5..=i64::from(GIVEN)).contains(&there),
            "{there} on {location}"
        );
        drop(wake_up);
        store.close().await;
    }
    mysql.remove().await;
}

const MIGRATIONS: usize = 6;

fn start(url: &str, arguments: &[&str]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["migrate", "--store", url])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn answer(output: &Output) -> Vec<String> {
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told} {failed}");
    told.lines().map(str::to_owned).collect()
}
