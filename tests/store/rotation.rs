//! Rotation is one conditional statement, and what is remembered of access tokens only grows.

use std::time::Duration;

use portcullis::session::SessionHandle;
use portcullis::store::{SessionStore, TokenUse};

use crate::support::{ACCESS, NOW, assert_same, open, rotation_of};

const MINUTE: Duration = Duration::from_secs(60);

pub async fn a_rotation_is_written_once(store: &SessionStore) {
    let mut session = open(store, "alice").await;
    let rotation = rotation_of(&session, NOW + MINUTE);
    assert!(store.rotate(&rotation).await.unwrap());
    assert!(!store.rotate(&rotation).await.unwrap(), "it has happened");

    session.lineage = rotation.to;
    session.refresh_hash = rotation.refresh_hash;
    session.last_seen_at = NOW + MINUTE;
    session.access_expires_at = NOW + MINUTE + ACCESS;
    let found = store.session(session.handle).await.unwrap().unwrap();
    assert_same(&found, &session);

    let mut ahead = rotation_of(&session, NOW + MINUTE * 2);
    ahead.from_generation += 1;
    assert!(!store.rotate(&ahead).await.unwrap());
    let mut foreign = rotation_of(&session, NOW + MINUTE * 2);
    foreign.handle = SessionHandle::random();
    assert!(!store.rotate(&foreign).await.unwrap());
    let found = store.session(session.handle).await.unwrap().unwrap();
    assert_same(&found, &session);
}

pub async fn a_rotation_never_shortens_what_is_remembered(store: &SessionStore) {
    let session = open(store, "alice").await;
    let mut rotation = rotation_of(&session, NOW + MINUTE);
    rotation.access_expires_at = NOW + MINUTE * 2;
    rotation.now = NOW - MINUTE;
    assert!(store.rotate(&rotation).await.unwrap());
    let found = store.session(session.handle).await.unwrap().unwrap();
    assert_eq!(found.access_expires_at, NOW + ACCESS);
    assert_eq!(found.last_seen_at, NOW);
}

pub async fn another_access_token_extends_what_is_remembered(store: &SessionStore) {
    let handle = open(store, "alice").await.handle;
    let cases = [
        (NOW + ACCESS * 2, NOW + MINUTE),
        (NOW + ACCESS, NOW),
        (NOW, NOW - MINUTE),
    ];
    for (access_expires_at, now) in cases {
        assert!(
            store
                .extend(handle, 0, access_expires_at, now)
                .await
                .unwrap()
        );
        let found = store.session(handle).await.unwrap().unwrap();
        assert_eq!(found.access_expires_at, NOW + ACCESS * 2);
        assert_eq!(found.last_seen_at, NOW + MINUTE);
        assert_eq!(found.lineage.generation, 0);
    }
    let unknown = SessionHandle::random();
    assert!(!store.extend(unknown, 0, NOW, NOW).await.unwrap());
}

pub async fn the_first_use_is_noted_once_and_for_the_newest_generation(store: &SessionStore) {
    let session = open(store, "alice").await;
    let other = open(store, "bob").await;
    let used = |handle, generation, seconds| TokenUse {
        handle,
        generation,
        at: NOW + Duration::from_secs(seconds),
    };
    let used_at = async |handle| {
        let session = store.session(handle).await.unwrap().unwrap();
        session.lineage.used_at
    };

    store.note_use(&[]).await.unwrap();
    store
        .note_use(&[
            used(session.handle, 1, 1),
            used(SessionHandle::random(), 0, 1),
            used(session.handle, 0, 2),
            used(session.handle, 0, 3),
            used(other.handle, 0, 4),
        ])
        .await
        .unwrap();
    assert_eq!(
        used_at(session.handle).await,
        Some(NOW + Duration::from_secs(2))
    );
    assert_eq!(
        used_at(other.handle).await,
        Some(NOW + Duration::from_secs(4))
    );

    let found = store.session(session.handle).await.unwrap().unwrap();
    let rotation = rotation_of(&found, NOW + MINUTE);
    assert!(store.rotate(&rotation).await.unwrap());
    store
        .note_use(&[used(session.handle, 0, 70)])
        .await
        .unwrap();
    let found = store.session(session.handle).await.unwrap().unwrap();
    assert_eq!(found.lineage.used_at, None, "it was the old token's");
    assert_eq!(
        found.lineage.predecessor_used_at,
        Some(NOW + Duration::from_secs(2))
    );
}
