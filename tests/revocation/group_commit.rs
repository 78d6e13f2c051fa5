//! Group commit: many revocations, few transactions, and each caller is told of its own.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use portcullis::revocation::{Revocations, Verdict};
use portcullis::session::SessionHandle;
use portcullis::store::{Revocation, RevocationReason, Sequence, StoreError};
use tokio::task::JoinHandle;

use crate::support::{Database, eventually};

type Told = Result<Revocation, StoreError>;

const LOGOUT: RevocationReason = RevocationReason::Logout;

/// Begins them in this order.
async fn begin(
    revocations: &Revocations,
    all: impl IntoIterator<Item = (Vec<SessionHandle>, RevocationReason)>,
) -> Vec<JoinHandle<Told>> {
    let mut begun = Vec::new();
    for (handles, reason) in all {
        let revocations = revocations.clone();
        let last = *handles.last().unwrap();
        let seen = revocations.clone();
        begun.push(tokio::spawn(async move {
            revocations.revoke(&handles, reason).await
        }));
        // Refused here before it is written: from then on it is in the queue.
        eventually("it has begun", async || {
            seen.verdict(&last, 0) == Verdict::Revoked
        })
        .await;
    }
    begun
}

async fn told(begun: Vec<JoinHandle<Told>>) -> Vec<Told> {
    let mut all = Vec::new();
    for task in begun {
        all.push(task.await.unwrap());
    }
    all
}

fn sequences(told: &[Told]) -> Vec<Sequence> {
    told.iter()
        .map(|told| told.as_ref().unwrap().sequence)
        .collect()
}

fn ended(told: &Told) -> Vec<SessionHandle> {
    let ended = &told.as_ref().unwrap().ended;
    ended.iter().map(|ended| ended.handle).collect()
}

fn one_each(handles: &[SessionHandle]) -> Vec<(Vec<SessionHandle>, RevocationReason)> {
    handles
        .iter()
        .map(|handle| (vec![*handle], LOGOUT))
        .collect()
}

#[tokio::test]
async fn what_waits_for_a_transaction_shares_the_next() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(60).await;
    let mut intruder = database.intruder().await;
    intruder.hold().await;
    let begun = begin(&revocations, one_each(&handles)).await;
    intruder.let_go().await;
    let told = told(begun).await;
    let sequences = sequences(&told);
    assert_eq!(sequences[0].as_u64(), 1, "the first went at once");
    assert!(sequences[1..].iter().all(|one| one.as_u64() == 2));
    for (told, handle) in told.iter().zip(&handles) {
        assert_eq!(ended(told), [*handle]);
    }
    let marks: BTreeSet<_> = database
        .log()
        .await
        .iter()
        .map(|entry| *entry.mark.as_bytes())
        .collect();
    assert_eq!(marks.len(), 2, "two transactions");
}

#[tokio::test]
async fn whoever_comes_alone_waits_for_nobody() {
    let database = Database::new().await;
    let revocations = database.revoker();
    for (number, handle) in database.sessions(5).await.into_iter().enumerate() {
        let revocation = revocations.revoke(&[handle], LOGOUT).await.unwrap();
        assert_eq!(revocation.sequence.as_u64(), number as u64 + 1);
    }
}

#[tokio::test]
async fn a_transaction_has_one_reason_and_a_bounded_size() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(8).await;
    let many: Vec<SessionHandle> = (0..499).map(|_| SessionHandle::random()).collect();
    let mut intruder = database.intruder().await;
    intruder.hold().await;
    let admin = RevocationReason::Admin;
    let mut all = vec![(vec![handles[0]], LOGOUT)];
    // One that ends something and 499 that do not are all that one transaction takes.
    all.push((vec![handles[1]], LOGOUT));
    all.push((many, LOGOUT));
    all.push((vec![handles[2]], LOGOUT));
    all.push((vec![handles[3]], LOGOUT));
    all.push((vec![handles[4], handles[5]], admin));
    all.push((vec![handles[6]], admin));
    all.push((vec![handles[7]], LOGOUT));
    let begun = begin(&revocations, all).await;
    intruder.let_go().await;
    let told = told(begun).await;
    let numbers: Vec<u64> = sequences(&told).iter().map(|one| one.as_u64()).collect();
    assert_eq!(numbers, [1, 2, 2, 3, 3, 4, 4, 5]);
    for entry in database.log().await {
        let expected = if entry.sequence.as_u64() == 4 {
            "admin"
        } else {
            "logout"
        };
        assert_eq!(entry.reason.name(), expected);
    }
}

#[tokio::test]
async fn a_session_that_two_end_at_once_ends_for_one_of_them() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(3).await;
    let mut intruder = database.intruder().await;
    intruder.hold().await;
    let mut all = one_each(&handles[..1]);
    all.push((vec![handles[1], handles[1]], LOGOUT));
    all.push((vec![handles[2], handles[1]], LOGOUT));
    all.push((vec![handles[1]], LOGOUT));
    let begun = begin(&revocations, all).await;
    intruder.let_go().await;
    let told = told(begun).await;
    assert_eq!(ended(&told[1]), [handles[1]]);
    assert_eq!(ended(&told[2]), [handles[2]]);
    assert_eq!(ended(&told[3]), []);
    let numbers: Vec<u64> = sequences(&told).iter().map(|one| one.as_u64()).collect();
    assert_eq!(numbers, [1, 2, 2, 2], "all wait for the same confirmation");
}

#[tokio::test]
async fn one_that_fails_does_not_fail_the_others() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(20).await;
    let mut intruder = database.intruder().await;
    intruder.protect(handles[7]).await;
    intruder.hold().await;
    let begun = begin(&revocations, one_each(&handles)).await;
    intruder.let_go().await;
    for (number, told) in told(begun).await.into_iter().enumerate() {
        let handle = handles[number];
        if number == 7 {
            assert!(matches!(told, Err(StoreError::Refused(_))), "{told:?}");
            assert!(database.is_there(handle).await);
            assert_eq!(revocations.verdict(&handle, 0), Verdict::Revoked);
        } else {
            assert_eq!(ended(&told), [handle]);
            assert!(!database.is_there(handle).await);
        }
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_told_to_all() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(20).await;
    let mut intruder = database.intruder().await;
    intruder.hold().await;
    let begun = begin(&revocations, one_each(&handles)).await;
    for told in told(begun).await {
        let error = told.unwrap_err();
        assert!(error.is_temporary() && !error.is_about_rows(), "{error:?}");
    }
    intruder.let_go().await;
    for handle in handles {
        assert!(database.is_there(handle).await);
        assert_eq!(revocations.verdict(&handle, 0), Verdict::Revoked);
    }
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_done_all_the_same() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(12).await;
    let mut intruder = database.intruder().await;
    intruder.hold().await;
    for handle in &handles {
        let handle = [*handle];
        let mut revoke = pin!(revocations.revoke(&handle, LOGOUT));
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(revoke.as_mut().poll(&mut context), Poll::Pending));
    }
    intruder.let_go().await;
    eventually("all have ended", async || {
        database.log().await.len() == handles.len()
    })
    .await;
    for handle in handles {
        assert!(!database.is_there(handle).await);
    }
}

/// The one who came first brought the runtime that serves the queue.
#[tokio::test]
async fn whoever_waits_survives_the_end_of_the_task_that_writes() {
    let database = Database::new().await;
    let revocations = database.revoker();
    let handles = database.sessions(6).await;
    let mut intruder = database.intruder().await;
    intruder.hold().await;
    let other = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (first, revoker) = ([handles[0]], revocations.clone());
    let first = other.spawn(async move { revoker.revoke(&first, LOGOUT).await });
    eventually("it has begun", async || {
        revocations.verdict(&handles[0], 0) == Verdict::Revoked
    })
    .await;
    let begun = begin(&revocations, one_each(&handles[1..])).await;
    other.shutdown_background();
    assert!(first.await.unwrap_err().is_cancelled());
    intruder.let_go().await;
    for told in told(begun).await {
        assert_eq!(told.unwrap().ended.len(), 1);
    }
    // Those who come later find somebody to serve them.
    let [late] = database.sessions(1).await[..] else {
        unreachable!()
    };
    assert!(revocations.revoke(&[late], LOGOUT).await.is_ok());
}
