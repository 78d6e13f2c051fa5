//! The log forgets what no access token needs, and nothing else.

use std::time::Duration;

use portcullis::clock::Timestamp;
use portcullis::store::{
    LOGIN_BOUND, OpenOutcome, RETENTION_MARGIN, RevocationReason, Sequence, SessionStore,
};

use crate::support::{ACCESS, NOW, log_after, open, session, user};

const SECOND: Duration = Duration::from_secs(1);

async fn revoke_one(store: &SessionStore, now: Timestamp) {
    let handle = open(store, "alice").await.handle;
    store
        .revoke(&[handle], RevocationReason::Logout, now)
        .await
        .unwrap();
}

pub async fn the_log_keeps_what_an_access_token_may_need(store: &SessionStore) {
    let late = open(store, "alice").await.handle;
    let early = open(store, "alice").await.handle;
    store.extend(late, 0, NOW + ACCESS * 2, NOW).await.unwrap();
    store
        .revoke(&[late, early], RevocationReason::Logout, NOW)
        .await
        .unwrap();
    revoke_one(store, NOW).await;

    assert_eq!(store.prune_log(NOW).await.unwrap(), 1, "entry 0");
    assert_eq!(store.read_log(Sequence::ZERO).await.unwrap().mark, None);
    let end = NOW + ACCESS + RETENTION_MARGIN;
    assert_eq!(store.prune_log(end).await.unwrap(), 0);
    assert_eq!(store.prune_log(end + SECOND).await.unwrap(), 1);
    let log = log_after(store, 0).await;
    assert_eq!(log.len(), 2);
    assert_eq!(log[0].handle, Some(late));
    // Half of sequence 1 is gone; who has applied it still finds its mark.
    let read = store.read_log(Sequence::new(1)).await.unwrap();
    assert_eq!(read.mark, Some(log[0].mark));
}

pub async fn the_log_keeps_its_newest_entry(store: &SessionStore) {
    let far = NOW + Duration::from_secs(1_000_000_000);
    assert_eq!(store.prune_log(far).await.unwrap(), 0);
    assert!(store.read_log(Sequence::ZERO).await.unwrap().mark.is_some());
    for number in 1..=3 {
        revoke_one(store, NOW).await;
        assert_eq!(store.prune_log(far).await.unwrap(), 1);
        assert_eq!(store.prune_log(far).await.unwrap(), 0);
        let log = log_after(store, 0).await;
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].sequence, Sequence::new(number));
    }
}

pub async fn numbers_are_not_given_out_again(store: &SessionStore) {
    revoke_one(store, NOW).await;
    revoke_one(store, NOW).await;
    let far = NOW + Duration::from_secs(1_000_000_000);
    store.prune_log(far).await.unwrap();
    revoke_one(store, NOW).await;
    assert_eq!(store.head().await.unwrap(), Sequence::new(3));
}

pub async fn user_revocations_are_kept_longer_than_a_login_takes(store: &SessionStore) {
    store
        .revoke_user(&user("alice"), RevocationReason::Admin, NOW)
        .await
        .unwrap();
    let opens = async || {
        let outcome = store
            .open_session(&session("alice"), Sequence::ZERO, None)
            .await;
        outcome.unwrap() != OpenOutcome::Overtaken
    };
    store.prune_log(NOW + LOGIN_BOUND).await.unwrap();
    assert!(!opens().await);
    store.prune_log(NOW + LOGIN_BOUND + SECOND).await.unwrap();
    assert!(opens().await);
}
