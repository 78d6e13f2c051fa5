//! How often a replica writes what it has applied.

use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::store::RevocationReason;
use tokio_util::sync::CancellationToken;

use crate::support::{Database, eventually};

#[tokio::test]
async fn a_storm_of_revocations_is_confirmed_by_few_writes() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(300).await;
    revocations.join().await.unwrap();
    let (replica, stop) = (revocations.clone(), CancellationToken::new());
    let follows = tokio::spawn({
        let stop = stop.clone();
        async move { replica.follow(stop).await }
    });
    let own_row = async || {
        let rows = database.store.replicas().await.unwrap();
        (rows[0].beat, rows[0].applied)
    };
    let clock = Clock::system();
    let started = clock.boot();
    for handle in handles {
        revocations
            .revoke(&[handle], RevocationReason::Logout)
            .await
            .unwrap();
    }
    let head = database.store.head().await.unwrap();
    assert_eq!(head.as_u64(), 300);
    eventually("it has confirmed the last", async || {
        own_row().await.1 == head
    })
    .await;
    let most = clock.boot().since(started).as_millis() / 10 + 3;
    let (beat, _) = own_row().await;
    assert!(
        (3..=most).contains(&u128::from(beat)),
        "{beat} writes, at most {most}"
    );
    stop.cancel();
    follows.await.unwrap();
}

#[tokio::test]
async fn a_single_revocation_is_confirmed_at_once() {
    let database = Database::new().await;
    // Without its own wake-up it would look in a minute.
    let revocations = database.replica(Duration::from_mins(1));
    let handles = database.sessions(3).await;
    revocations.join().await.unwrap();
    let (replica, stop) = (revocations.clone(), CancellationToken::new());
    let follows = tokio::spawn({
        let stop = stop.clone();
        async move { replica.follow(stop).await }
    });
    for handle in handles {
        let ended = [handle];
        let revoke = revocations.revoke(&ended, RevocationReason::Logout);
        let answered = tokio::time::timeout(Duration::from_secs(20), revoke).await;
        assert!(answered.expect("waits for the poll").is_ok());
    }
    stop.cancel();
    follows.await.unwrap();
}

#[tokio::test]
async fn a_replica_that_nobody_wakes_looks_more_often_while_there_is_something_to_see() {
    let database = Database::new().await;
    let here = database.replica(Duration::from_millis(500));
    let there = database.replica(Duration::from_millis(500));
    let handles = database.sessions(10).await;
    let stop = CancellationToken::new();
    let mut follow = Vec::new();
    for replica in [&here, &there] {
        replica.join().await.unwrap();
        let (replica, stop) = (replica.clone(), stop.clone());
        follow.push(tokio::spawn(async move { replica.follow(stop).await }));
    }
    let clock = Clock::system();
    let mut first_is_over = None;
    for handle in handles {
        let revoked = here.revoke(&[handle], RevocationReason::Logout).await;
        assert!(revoked.is_ok());
        first_is_over.get_or_insert_with(|| clock.boot());
    }
    let rest = clock.boot().since(first_is_over.unwrap());
    assert!(rest < Duration::from_secs(2), "nine logouts took {rest:?}");
    stop.cancel();
    for follow in follow {
        follow.await.unwrap();
    }
}
