//! What is revoked is gone, numbered and in the log.

use std::time::Duration;

use portcullis::session::SessionHandle;
use portcullis::store::{
    Ended, LoggedReason, Revocation, RevocationReason, Sequence, SessionStore,
};

use crate::support::{ACCESS, NOW, log_after, open, user};

pub async fn a_revocation_ends_the_session_and_is_logged(store: &SessionStore) {
    assert_eq!(store.head().await.unwrap(), Sequence::ZERO);
    let session = open(store, "alice").await;
    let bystander = open(store, "alice").await;
    for (number, reason) in (1..).zip(RevocationReason::ALL) {
        let session = if number == 1 {
            session.clone()
        } else {
            open(store, "alice").await
        };
        let revocation = store.revoke(&[session.handle], reason, NOW).await.unwrap();
        let expected = Revocation {
            sequence: Sequence::new(number),
            ended: vec![Ended {
                handle: session.handle,
                expires: NOW + ACCESS,
            }],
        };
        assert_eq!(revocation, expected);
        assert_eq!(store.head().await.unwrap(), Sequence::new(number));
        assert!(store.session(session.handle).await.unwrap().is_none());

        let log = log_after(store, number - 1).await;
        assert_eq!(log.len(), 1);
        assert_eq!(log[0].sequence, Sequence::new(number));
        assert_eq!(log[0].handle, Some(session.handle));
        assert_eq!(log[0].reason, LoggedReason::Known(reason));
        assert_eq!(log[0].expires, NOW + ACCESS);
    }
    assert!(store.session(bystander.handle).await.unwrap().is_some());
    let numbers: Vec<u64> = log_after(store, 0)
        .await
        .iter()
        .map(|entry| entry.sequence.as_u64())
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
}

pub async fn a_batch_has_one_sequence_and_one_mark(store: &SessionStore) {
    let mut handles = Vec::new();
    for _ in 0..20 {
        handles.push(open(store, "alice").await.handle);
    }
    let mut asked = handles.clone();
    asked.insert(7, SessionHandle::random());
    asked.push(handles[0]);
    let revocation = store
        .revoke(&asked, RevocationReason::Logout, NOW)
        .await
        .unwrap();
    assert_eq!(revocation.sequence, Sequence::new(1));
    let ended: Vec<_> = revocation.ended.iter().map(|ended| ended.handle).collect();
    handles.sort();
    assert_eq!(ended, handles);

    let log = log_after(store, 0).await;
    assert_eq!(log.len(), handles.len());
    for entry in &log {
        assert_eq!(entry.sequence, Sequence::new(1));
        assert_eq!(entry.mark, log[0].mark);
        assert!(handles.contains(&entry.handle.unwrap()));
    }
}

pub async fn what_is_gone_gives_the_newest_sequence(store: &SessionStore) {
    let nothing = |sequence| Revocation {
        sequence: Sequence::new(sequence),
        ended: Vec::new(),
    };
    let revoke = async |handles: &[SessionHandle]| {
        store
            .revoke(handles, RevocationReason::Logout, NOW)
            .await
            .unwrap()
    };
    let first = open(store, "alice").await.handle;
    let second = open(store, "alice").await.handle;
    assert_eq!(revoke(&[]).await, nothing(0));
    assert_eq!(revoke(&[SessionHandle::random()]).await, nothing(0));
    assert_eq!(revoke(&[first]).await.sequence, Sequence::new(1));
    assert_eq!(revoke(&[second]).await.sequence, Sequence::new(2));
    assert_eq!(revoke(&[first]).await, nothing(2));
    assert_eq!(log_after(store, 0).await.len(), 2);
}

pub async fn an_entry_outlives_the_access_token_and_the_revocation(store: &SessionStore) {
    let extended = open(store, "alice").await.handle;
    let idle = open(store, "alice").await.handle;
    store
        .extend(extended, 0, NOW + ACCESS * 3, NOW)
        .await
        .unwrap();
    let later = NOW + ACCESS * 2;
    let revocation = store
        .revoke(&[extended, idle], RevocationReason::Admin, later)
        .await
        .unwrap();
    for ended in revocation.ended {
        let expected = if ended.handle == extended {
            NOW + ACCESS * 3
        } else {
            later
        };
        assert_eq!(ended.expires, expected);
    }
}

pub async fn a_user_is_revoked_in_one_transaction(store: &SessionStore) {
    let mut handles = Vec::new();
    for _ in 0..30 {
        handles.push(open(store, "alice").await.handle);
    }
    handles.sort();
    let bystander = open(store, "Alice").await;
    let revocation = store
        .revoke_user(&user("alice"), RevocationReason::LogoutUser, NOW)
        .await
        .unwrap();
    assert_eq!(revocation.sequence, Sequence::new(1));
    let ended: Vec<_> = revocation.ended.iter().map(|ended| ended.handle).collect();
    assert_eq!(ended, handles);
    let logged: Vec<_> = log_after(store, 0)
        .await
        .iter()
        .map(|entry| entry.handle.unwrap())
        .collect();
    assert_eq!(logged, handles);
    assert!(store.session(bystander.handle).await.unwrap().is_some());
}

pub async fn a_user_without_sessions_takes_a_sequence(store: &SessionStore) {
    let later = NOW + Duration::from_secs(5);
    for number in 1..=2 {
        let revocation = store
            .revoke_user(&user("nobody"), RevocationReason::Admin, later)
            .await
            .unwrap();
        assert_eq!(revocation.sequence, Sequence::new(number));
        assert!(revocation.ended.is_empty());
    }
    let log = log_after(store, 1).await;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].sequence, Sequence::new(2));
    assert_eq!(log[0].handle, None);
    assert_eq!(log[0].expires, later);
}

pub async fn the_log_tells_histories_apart_by_their_marks(store: &SessionStore) {
    let origin = store.read_log(Sequence::ZERO).await.unwrap();
    assert!(origin.entries.is_empty());
    assert!(
        origin.mark.is_some(),
        "entry 0 exists from the migration on"
    );

    let mut marks = vec![origin.mark.unwrap()];
    for _ in 0..3 {
        let handles = [
            open(store, "alice").await.handle,
            open(store, "alice").await.handle,
        ];
        store
            .revoke(&handles, RevocationReason::Logout, NOW)
            .await
            .unwrap();
        marks.push(log_after(store, 0).await.last().unwrap().mark);
    }
    for (number, mark) in (0..).zip(&marks) {
        let read = store.read_log(Sequence::new(number)).await.unwrap();
        assert_eq!(read.mark, Some(*mark), "of {number}");
        assert_eq!(marks.iter().filter(|other| *other == mark).count(), 1);
        let expected = 2 * (3 - usize::try_from(number).unwrap());
        assert_eq!(read.entries.len(), expected, "after {number}");
    }
    let ahead = store.read_log(Sequence::new(4)).await.unwrap();
    assert_eq!((ahead.entries, ahead.mark), (Vec::new(), None));
}
