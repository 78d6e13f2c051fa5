//! A session whose row somebody holds: its own logout waits, and nothing else does. On the database servers.

use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::revocation::Verdict;
use portcullis::session::SessionHandle;
use portcullis::store::{RevocationReason, StoreError};
use tokio::time::timeout;

use crate::on_servers;
use crate::servers::{Following, Kind, ServerDatabase};
use crate::support::eventually;

const LOGOUT: RevocationReason = RevocationReason::Logout;

on_servers! {
    one_row_that_is_held_holds_up_its_own_logout,
    a_row_that_is_held_costs_no_lease,
}

/// The batch waits for the row, as long as the server lets it; then each is tried for itself.
async fn one_row_that_is_held_holds_up_its_own_logout(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(Duration::from_mins(3));
    replica.join().await.unwrap();
    let handles = database.sessions(20).await;
    let held = handles[7];
    let (mut at_head, mut at_row) = (database.connect().await, database.connect().await);
    at_row.hold_session(held).await;
    at_head.hold_head().await;

    // The first goes alone, and waits at the head; the others gather behind it, and share the next transaction.
    let clock = Clock::system();
    let mut logouts = Vec::new();
    for handle in &handles {
        let (replica, handle) = (replica.clone(), *handle);
        let seen = replica.clone();
        logouts.push(tokio::spawn(async move {
            replica.revoke(&[handle], LOGOUT).await
        }));
        eventually("it has begun", async || {
            seen.verdict(&handle, 0) == Verdict::Revoked
        })
        .await;
    }
    let following = Following::of(&replica);
    at_head.let_go().await;
    let began = clock.boot();
    let mut refused = None;
    for (handle, logout) in handles.iter().zip(logouts) {
        let told = timeout(Duration::from_secs(12), logout).await;
        let told = told.expect("a bounded wait").unwrap();
        if *handle == held {
            refused = Some(told.unwrap_err());
        } else {
            assert_eq!(told.unwrap().ended[0].handle, *handle);
        }
    }
    let refused = refused.unwrap();
    assert!(is_held(&refused), "{refused:?}");
    // Two waits for the row: in company, and alone.
    let took = clock.boot().since(began);
    assert!(took > Duration::from_millis(3500), "{took:?}");
    assert!(database.is_there(held).await, "nothing was half done");
    assert_eq!(
        replica.verdict(&held, 0),
        Verdict::Revoked,
        "it is refused here"
    );
    let log = database.log().await;
    assert_eq!(log.len(), handles.len() - 1);
    let together = log.windows(2).any(|two| two[0].sequence == two[1].sequence);
    assert!(!together, "the batch was given up as a whole");

    at_row.let_go().await;
    eventually("what is owed is written", async || {
        !database.is_there(held).await
    })
    .await;
    assert_eq!(logged(&database, held).await, 1);
    following.end().await;
    database.remove().await;
}

/// What could not be written is tried again and again, beside the feed: a wait for a row is no wait for a renewal.
async fn a_row_that_is_held_costs_no_lease(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(Duration::from_secs(1));
    replica.join().await.unwrap();
    let following = Following::of(&replica);
    let held = database.sessions(1).await[0];
    let mut at_row = database.connect().await;
    at_row.hold_session(held).await;
    let refused = replica.revoke(&[held], LOGOUT).await.unwrap_err();
    assert!(is_held(&refused), "{refused:?}");
    let clock = Clock::system();
    let began = clock.boot();
    while clock.boot().since(began) < Duration::from_secs(5) {
        assert!(
            !replica.has_lapsed(),
            "after {:?}",
            clock.boot().since(began)
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    at_row.let_go().await;
    eventually("what is owed is written", async || {
        !database.is_there(held).await
    })
    .await;
    following.end().await;
    database.remove().await;
}

async fn logged(database: &ServerDatabase, handle: SessionHandle) -> usize {
    let log = database.log().await;
    let of_it = log.iter().filter(|entry| entry.handle == Some(handle));
    of_it.count()
}

fn is_held(error: &StoreError) -> bool {
    error.is_temporary() && error.is_about_rows()
}
