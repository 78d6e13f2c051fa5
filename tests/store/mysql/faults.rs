//! A server that is frozen, killed, read-only or full.

use std::time::Duration;

use portcullis::session::SessionHandle;
use portcullis::store::{Outage, ReplicaId, RevocationReason, Sequence, SessionStore, StoreError};
use tokio::time::{Instant, timeout};

use super::server::Server;
use super::{Database, run};
use crate::support::{NOW, log_after, open, patiently, replica_row};

/// More than any operation may take: waits for a connection and a lock, and a margin for a busy machine.
const BOUND: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_server_is_an_error_within_seconds_and_heals_by_itself() {
    let server = Server::start().await;
    let store = database(&server).await.open().await;
    let session = open(&store, "alice").await.handle;
    server.freeze();
    let replica = replica_row(ReplicaId::random(), 1);
    let (read, renewed, revoked) = tokio::join!(
        timeout(BOUND, store.session(session)),
        timeout(BOUND, store.renew_replica(&replica)),
        timeout(BOUND, revoke(&store, session)),
    );
    assert!(is_too_slow(&read.unwrap().unwrap_err()));
    assert!(is_too_slow(&renewed.unwrap().unwrap_err()));
    assert!(is_too_slow(&revoked.unwrap().unwrap_err()));
    server.thaw();
    timeout(BOUND, patiently(|| revoke(&store, session)))
        .await
        .unwrap();
    assert!(store.session(session).await.unwrap().is_none());
    assert_eq!(log_after(&store, 0).await.len(), 1, "written once");
}

/// However many ask it: the connections of those that gave up are free for others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_frozen_server_leaves_no_connection_behind() {
    let server = Server::start().await;
    let store = database(&server).await.open().await;
    let session = open(&store, "alice").await.handle;
    for _ in 0..2 {
        server.freeze();
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let store = store.clone();
            waiting.spawn(async move {
                let refused = timeout(BOUND, store.session(session))
                    .await
                    .unwrap()
                    .unwrap_err();
                assert!(refused.is_temporary(), "{refused:?}");
            });
        }
        waiting.join_all().await;
        server.thaw();
        timeout(BOUND, patiently(|| store.session(session)))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_server_has_what_was_answered_and_is_found_again() {
    let mut server = Server::start().await;
    let store = database(&server).await.open().await;
    let mut gone = Vec::new();
    for _ in 0..5 {
        let session = open(&store, "alice").await.handle;
        revoke(&store, session).await.unwrap();
        gone.push(session);
    }
    let stays = open(&store, "alice").await.handle;
    let before = store.read_log(Sequence::ZERO).await.unwrap();
    server.kill();
    for _ in 0..20 {
        let refused = timeout(BOUND, store.session(stays))
            .await
            .unwrap()
            .unwrap_err();
        assert!(refused.is_temporary(), "{refused:?}");
    }
    server.restart().await;
    let found = timeout(BOUND, patiently(|| store.session(stays)))
        .await
        .unwrap();
    assert!(found.is_some());
    for session in gone {
        assert!(patiently(|| store.session(session)).await.is_none());
    }
    assert_eq!(patiently(|| store.read_log(Sequence::ZERO)).await, before);
}

/// It is given up soon enough that one does not hammer at it, and often enough that it is found at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_is_down_is_not_asked_at_every_call() {
    let mut server = Server::start().await;
    let store = database(&server).await.open().await;
    server.kill();
    let mut backing_off = 0;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(300) {
        match store.head().await.unwrap_err() {
            StoreError::Unavailable(Outage::BackingOff(pause)) => {
                assert!(pause <= Duration::from_millis(500));
                backing_off += 1;
            }
            other => assert!(other.is_temporary(), "{other:?}"),
        }
    }
    assert!(backing_off > 100, "{backing_off}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_read_only_server_is_said_to_be_one() {
    let server = Server::start().await;
    let store = database(&server).await.open().await;
    let session = open(&store, "alice").await.handle;
    let mut administrator = server.administrator().await;
    run(&mut administrator, "SET GLOBAL read_only = 1").await;
    let refused = revoke(&store, session).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Unavailable(Outage::ReadOnly(_))),
        "{refused:?}"
    );
    let replica = replica_row(ReplicaId::random(), 1);
    let refused = store.renew_replica(&replica).await;
    assert!(matches!(
        refused,
        Err(StoreError::Unavailable(Outage::ReadOnly(_)))
    ));
    assert!(
        store.session(session).await.unwrap().is_some(),
        "is read as before"
    );
    assert_eq!(log_after(&store, 0).await, []);
    run(&mut administrator, "SET GLOBAL read_only = 0").await;
    assert_eq!(revoke(&store, session).await.unwrap(), Sequence::new(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_without_free_connections_is_said_to_be_one() {
    let server = Server::start().await;
    let database = database(&server).await;
    let mut administrator = server.administrator().await;
    run(&mut administrator, "SET GLOBAL max_connections = 10").await;
    let mut others = Vec::new();
    for _ in 0..9 {
        others.push(database.connect().await);
    }
    let refused = SessionStore::open(&database.url()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            StoreError::Unavailable(Outage::TooManyConnections(_))
        ),
        "{refused:?}"
    );
    drop(others);
    let url = database.url();
    timeout(BOUND, patiently(|| SessionStore::open(&url)))
        .await
        .unwrap();
}

async fn database(server: &Server) -> Database {
    Database::on(&server.url()).await
}

async fn revoke(store: &SessionStore, session: SessionHandle) -> Result<Sequence, StoreError> {
    let revocation = store
        .revoke(&[session], RevocationReason::Logout, NOW)
        .await?;
    Ok(revocation.sequence)
}

fn is_too_slow(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(Outage::TooSlow(_)))
}
