//! `portcullis migrate`, by processes that start at the same time, beside a store that is open.

use std::process::{Command, Output, Stdio};

use portcullis::store::SessionStore;

use crate::support::open;

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
