//! What befalls a database server and the way to it: all of it ends in an error within seconds, and mends by itself.

use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::store::{
    Outage, ReplicaId, RevocationReason, SessionStore, StoreError, StoreLocation,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::link::Link;
use crate::postgres::Database;
use crate::support::{NOW, open, patiently, replica_row, user};

/// Nobody waits longer, whatever happens.
const BOUND: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_server_is_unavailable_within_seconds_and_works_again_at_once() {
    let database = Database::new().await;
    let link = Link::to(database.address()).await;
    let store = SessionStore::open(&database.url_at(link.port))
        .await
        .unwrap();
    let session = open(&store, "alice").await;
    link.freeze();
    let clock = Clock::system();
    let began = clock.boot();
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let store = store.clone();
        tasks.spawn(async move {
            match number % 4 {
                0 => store.head().await.map(drop),
                1 => store.session(session.handle).await.map(drop),
                2 => {
                    let reason = RevocationReason::Admin;
                    store.revoke_user(&user("bob"), reason, NOW).await.map(drop)
                }
                _ => {
                    let row = replica_row(ReplicaId::random(), 1);
                    store.renew_replica(&row).await
                }
            }
        });
    }
    for refused in tasks.join_all().await {
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
    }
    let took = clock.boot().since(began);
    assert!(took < BOUND, "{took:?}");
    link.mend();
    let began = clock.boot();
    patiently(|| store.head()).await;
    let took = clock.boot().since(began);
    assert!(took < Duration::from_secs(3), "{took:?}");
    store.close().await;
}

/// A gateway that starts, and the command line, wait no longer than one that runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_server_is_opened_by_nobody_and_keeps_nobody() {
    let database = Database::new().await;
    let link = Link::to(database.address()).await;
    link.freeze();
    let url = database.url_at(link.port);
    let location = StoreLocation::parse(&url).unwrap();
    let refused = timeout(BOUND, async {
        tokio::join!(
            async { SessionStore::open(&url).await.map(drop) },
            async { SessionStore::migrate(&location).await.map(drop) },
            async { SessionStore::pending_migrations(&location).await.map(drop) },
        )
    });
    let (opened, migrated, planned) = refused.await.unwrap();
    for refused in [opened, migrated, planned] {
        assert!(
            matches!(refused, Err(StoreError::Unavailable(Outage::TooSlow(_)))),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cut_link_is_unavailable_at_once_and_connected_anew() {
    let database = Database::new().await;
    let link = Link::to(database.address()).await;
    let store = SessionStore::open(&database.url_at(link.port))
        .await
        .unwrap();
    let session = open(&store, "alice").await;
    for _ in 0..3 {
        link.cut();
        let refused = store.session(session.handle).await;
        assert!(
            matches!(refused, Err(StoreError::Unavailable(_))),
            "{refused:?}"
        );
        link.mend();
        let found = patiently(|| store.session(session.handle)).await;
        assert!(found.is_some());
    }
}

/// As a restart of the server does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_the_server_ended_are_replaced() {
    let database = Database::new().await;
    let store = database.open().await;
    let session = open(&store, "alice").await;
    database
        .run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await;
    let mut failed = 0;
    while let Err(error) = store.session(session.handle).await {
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        failed += 1;
    }
    assert!(failed <= 1, "the first to fail drops the rest");
    let handles = [session.handle];
    patiently(|| store.revoke(&handles, RevocationReason::Logout, NOW)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_takes_no_writes_says_so() {
    let database = Database::new().await;
    let store = database.open().await;
    let session = open(&store, "alice").await;
    store.close().await;
    database
        .run("ALTER DATABASE DATABASE_NAME SET default_transaction_read_only = on")
        .await;
    let store = database.open().await;
    let reason = RevocationReason::Logout;
    let refused = [
        store.revoke(&[session.handle], reason, NOW).await.map(drop),
        store
            .revoke_user(&user("alice"), reason, NOW)
            .await
            .map(drop),
        store
            .renew_replica(&replica_row(ReplicaId::random(), 1))
            .await,
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(StoreError::Unavailable(Outage::ReadOnly(_)))),
            "{refused:?}"
        );
    }
    assert!(store.session(session.handle).await.unwrap().is_some());
    database
        .run("BEGIN READ WRITE; ALTER DATABASE DATABASE_NAME RESET default_transaction_read_only; COMMIT")
        .await;
    store.close().await;
    let store = database.open().await;
    assert_eq!(
        store
            .revoke(&[session.handle], reason, NOW)
            .await
            .unwrap()
            .ended
            .len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_without_connections_left_says_so() {
    let database = Database::new().await;
    let store = database.open().await;
    store.close().await;
    database
        .run("CREATE ROLE DATABASE_NAME LOGIN PASSWORD 'guest';
              GRANT ALL ON ALL TABLES IN SCHEMA public TO DATABASE_NAME; GRANT ALL ON SCHEMA public TO DATABASE_NAME;
              ALTER DATABASE DATABASE_NAME CONNECTION LIMIT 0")
        .await;
    let url = database.url();
    let name = url.rsplit_once('/').unwrap().1;
    let guest = url.replace("portcullis:only-for-tests", &format!("{name}:guest"));
    let refused = SessionStore::open(&guest).await;
    assert!(
        matches!(
            refused,
            Err(StoreError::Unavailable(Outage::TooManyConnections(_)))
        ),
        "{refused:?}"
    );
    database
        .run("ALTER DATABASE DATABASE_NAME CONNECTION LIMIT -1")
        .await;
    let opened = SessionStore::open(&guest).await;
    database
        .run("REASSIGN OWNED BY DATABASE_NAME TO portcullis; DROP OWNED BY DATABASE_NAME; DROP ROLE DATABASE_NAME")
        .await;
    opened.unwrap();
}
