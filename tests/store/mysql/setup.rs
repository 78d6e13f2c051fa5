//! New databases, migrations that broke off, TLS.

use portcullis::store::{Outage, SessionStore, StoreError};
use tokio::task::JoinSet;

use super::{Database, number, run};
use crate::support::{open, session};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_open_a_new_database_at_once() {
    let database = Database::new().await;
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let url = database.url();
        tasks.spawn(async move { SessionStore::open(&url).await.unwrap() });
    }
    let stores = tasks.join_all().await;
    let session = open(&stores[0], "alice").await;
    for store in &stores {
        assert!(store.session(session.handle).await.unwrap().is_some());
    }
    database.remove().await;
}

/// A change of a table cannot be rolled back: what was noted as begun is run again, wherever it broke off.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_migration_that_broke_off_is_run_again() {
    for version in 1..=6 {
        let database = Database::new().await;
        let store = database.open().await;
        let session = open(&store, "alice").await;
        store.close().await;
        let mut other = database.connect().await;
        let broken_off = format!(
            "DELETE FROM _sqlx_migrations WHERE version > {version}; UPDATE _sqlx_migrations SET success = FALSE WHERE version = {version}"
        );
        run(&mut other, &broken_off).await;
        let store = database.open().await;
        assert!(store.session(session.handle).await.unwrap().is_some());
        assert_eq!(
            number(
                &mut other,
                "SELECT COUNT(*) FROM _sqlx_migrations WHERE success"
            )
            .await,
            6
        );
        assert_eq!(
            number(&mut other, "SELECT COUNT(*) FROM revocation").await,
            1
        );
        database.remove().await;
    }
}

/// Whatever collation the database was made with.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn user_ids_are_bytes_up_to_the_longest() {
    let database = Database::new().await;
    let mut other = database.connect().await;
    run(
        &mut other,
        "ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_swedish_ci",
    )
    .await;
    let store = database.open().await;
    let names = [
        "a".to_owned(),
        "A".to_owned(),
        "á".to_owned(),
        "a\u{301}".to_owned(),
        "\u{1F600}".repeat(128),
        "\u{1F600}".repeat(127),
    ];
    for name in &names {
        let mut new = session(name);
        new.claims = format!(r#"{{"name":"{name}"}}"#);
        new.device.user_agent = "\u{1F600}'\"\\".into();
        let known = store.head().await.unwrap();
        store.open_session(&new, known, None).await.unwrap();
        let found = store.session(new.handle).await.unwrap().unwrap();
        crate::support::assert_same(&found, &new);
    }
    for name in &names {
        let found = store
            .sessions_of_user(&crate::support::user(name), None, 10)
            .await
            .unwrap();
        assert_eq!(found.len(), 1, "{name}");
    }
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_is_used_and_the_server_has_to_prove_who_it_is() {
    let database = Database::new().await;
    let mut other = database.connect().await;
    let ca = crate::support::server_url("PORTCULLIS_TEST_DATABASE_CA");
    let url = database.url();
    let (_, at) = url.rsplit_once('@').unwrap();
    let (_, name) = at.split_once('/').unwrap();
    let account = format!("tls_{}", &name[name.len() - 16..]);
    run(
        &mut other,
        &format!("CREATE USER {account} IDENTIFIED BY 'x' REQUIRE SSL; GRANT ALL ON {name}.* TO {account}"),
    )
    .await;
    let open = async |parameters: &str| {
        SessionStore::open(&format!("mysql://{account}:x@{at}?{parameters}")).await
    };
    for parameters in [
        format!("ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}"),
        format!("ssl-mode=VERIFY_CA&ssl-ca={ca}"),
        "ssl-mode=REQUIRED".to_owned(),
    ] {
        let store = open(&parameters).await.unwrap();
        crate::support::open(&store, "alice").await;
    }
    let refused = open("ssl-mode=DISABLED").await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Unavailable(Outage::LoginRefused(_))),
        "{refused:?}"
    );
    for parameters in ["ssl-mode=VERIFY_IDENTITY", "ssl-mode=VERIFY_CA"] {
        let refused = open(parameters).await.unwrap_err();
        let text = format!("{refused:?}");
        assert!(text.contains("UnknownIssuer"), "{text}");
    }
    let by_other_name = format!(
        "mysql://{account}:x@{}?ssl-mode=VERIFY_IDENTITY&ssl-ca={ca}",
        at.replace("127.0.0.1", "127.0.0.2")
    );
    let refused = SessionStore::open(&by_other_name).await.unwrap_err();
    assert!(refused.is_temporary(), "{refused:?}");
    run(&mut other, &format!("DROP USER {account}")).await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_refused_login_says_so_and_shows_no_password() {
    let database = Database::new().await;
    let url = database.url();
    let (_, at) = url.rsplit_once('@').unwrap();
    for url in [
        format!("mysql://nobody:hunter2@{at}"),
        format!("{url}_missing"),
    ] {
        let refused = SessionStore::open(&url).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Unavailable(Outage::LoginRefused(_))),
            "{refused:?}"
        );
        assert!(!format!("{refused:?}").contains("hunter2"));
    }
    database.remove().await;
}
