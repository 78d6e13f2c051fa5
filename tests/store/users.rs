//! Users who may not have sessions.

use portcullis::store::{OpenOutcome, RevocationReason, SessionStore};

use crate::support::{NOW, log_after, open, session, user};

pub async fn a_disabled_user_has_no_session_until_enabled(store: &SessionStore) {
    let of_alice = open(store, "alice").await;
    let of_bob = open(store, "bob").await;
    let alice = user("alice");
    let reason = RevocationReason::Admin;
    let revocation = store.disable_user(&alice, reason, NOW).await.unwrap();
    assert_eq!(revocation.ended[0].handle, of_alice.handle);
    assert_eq!(revocation.ended.len(), 1);
    assert_eq!(
        log_after(store, revocation.sequence.as_u64() - 1)
            .await
            .len(),
        1
    );
    assert_eq!(store.user_disabled(&alice).await.unwrap(), Some(NOW));
    assert_eq!(store.user_disabled(&user("Alice")).await.unwrap(), None);

    let outcome = async |name: &str| {
        let known = store.head().await.unwrap();
        store
            .open_session(&session(name), known, None)
            .await
            .unwrap()
    };
    let opened = OpenOutcome::Opened { replaced: None };
    assert_eq!(outcome("alice").await, OpenOutcome::Disabled);
    assert_eq!(outcome("Alice").await, opened);
    assert!(store.session(of_bob.handle).await.unwrap().is_some());

    let again = store.disable_user(&alice, reason, NOW).await.unwrap();
    assert!(again.ended.is_empty() && again.sequence > revocation.sequence);
    assert!(store.enable_user(&alice).await.unwrap());
    assert!(!store.enable_user(&alice).await.unwrap());
    assert_eq!(store.user_disabled(&alice).await.unwrap(), None);
    assert_eq!(outcome("alice").await, opened);
}

pub async fn the_log_is_read_in_pages_of_whole_sequences(store: &SessionStore) {
    for sessions in [1, 3, 0, 2] {
        for _ in 0..sessions {
            open(store, "alice").await;
        }
        let alice = user("alice");
        store
            .revoke_user(&alice, RevocationReason::Logout, NOW)
            .await
            .unwrap();
    }
    let page = async |after, limit| {
        let after = portcullis::store::Sequence::new(after);
        let entries = store.log_page(after, limit).await.unwrap();
        let sequences = entries.iter().map(|entry| entry.sequence.as_u64());
        sequences.collect::<Vec<_>>()
    };
    assert_eq!(page(0, 1).await, [1]);
    assert_eq!(page(0, 2).await, [1, 2, 2, 2]);
    assert_eq!(page(1, 1).await, [2, 2, 2]);
    assert_eq!(page(2, 100).await, [3, 4, 4]);
    assert_eq!(page(4, 1).await, [0; 0]);
}
