//! A login opens a session, unless its user was revoked in the meantime.

use portcullis::store::{LoggedReason, OpenOutcome, RevocationReason, Sequence, SessionStore};

use crate::support::{NOW, log_after, open, session, user};

pub async fn a_login_replaces_the_session_of_its_browser(store: &SessionStore) {
    let old = open(store, "bob").await;
    let new = session("alice");
    let outcome = store
        .open_session(&new, Sequence::ZERO, Some(old.handle))
        .await
        .unwrap();
    let OpenOutcome::Opened {
        replaced: Some(replaced),
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!(replaced.sequence, Sequence::new(1));
    assert_eq!(replaced.ended[0].handle, old.handle);
    assert!(store.session(old.handle).await.unwrap().is_none());
    assert!(store.session(new.handle).await.unwrap().is_some());
    let log = log_after(store, 0).await;
    assert_eq!(log[0].handle, Some(old.handle));
    assert_eq!(
        log[0].reason,
        LoggedReason::Known(RevocationReason::Replaced)
    );

    let again = session("alice");
    let outcome = store
        .open_session(&again, Sequence::ZERO, Some(old.handle))
        .await
        .unwrap();
    assert_eq!(outcome, OpenOutcome::Opened { replaced: None });
    assert_eq!(store.head().await.unwrap(), Sequence::new(1));
}

pub async fn a_login_that_began_before_the_user_was_revoked_is_overtaken(store: &SessionStore) {
    let known = store.head().await.unwrap();
    let revoked = store
        .revoke_user(&user("alice"), RevocationReason::LogoutUser, NOW)
        .await
        .unwrap();
    let opens = async |name, known| {
        let session = session(name);
        let outcome = store.open_session(&session, known, None).await.unwrap();
        let opened = outcome != OpenOutcome::Overtaken;
        let exists = store.session(session.handle).await.unwrap().is_some();
        assert_eq!(exists, opened);
        opened
    };
    assert!(!opens("alice", known).await);
    assert!(opens("bob", known).await);
    assert!(opens("alice", revoked.sequence).await);

    let session = open(store, "bob").await.handle;
    let later = store
        .revoke(&[session], RevocationReason::Logout, NOW)
        .await
        .unwrap();
    assert!(opens("alice", revoked.sequence).await);
    assert!(opens("alice", later.sequence).await);
    assert!(opens("bob", known).await, "one session is not the user");
}

pub async fn an_overtaken_login_leaves_the_old_session_alone(store: &SessionStore) {
    let old = open(store, "bob").await;
    store
        .revoke_user(&user("alice"), RevocationReason::LogoutUser, NOW)
        .await
        .unwrap();
    let outcome = store
        .open_session(&session("alice"), Sequence::ZERO, Some(old.handle))
        .await
        .unwrap();
    assert_eq!(outcome, OpenOutcome::Overtaken);
    assert!(store.session(old.handle).await.unwrap().is_some());
    assert_eq!(store.head().await.unwrap(), Sequence::new(1));
}
