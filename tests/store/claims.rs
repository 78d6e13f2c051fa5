//! Claims change, and with them what is accepted.

use portcullis::session::{MasterKey, SessionHandle};
use portcullis::store::{Liveness, LoggedReason, SessionStore, Shown};

use crate::support::{ACCESS, NOW, log_after, open, rotation_of, signing_key};

pub async fn a_change_is_counted_and_logged(store: &SessionStore) {
    let key = signing_key(store, &MasterKey::generate()).await;
    let session = open(store, "alice").await;
    for version in 1..=3 {
        let claims = format!(r#"{{"change":{version}}}"#);
        let change = store
            .replace_claims(session.handle, &claims, NOW)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (change.version, change.expires),
            (version, session.access_expires_at)
        );
        assert_eq!(change.sequence, store.head().await.unwrap());
        let found = store.session(session.handle).await.unwrap().unwrap();
        assert_eq!((found.claims, found.claims_version), (claims, version));
        let liveness = async |claims_version| {
            let key = &key;
            let shown = Shown {
                key,
                claims_version,
            };
            store
                .liveness(session.handle, Some(shown), NOW)
                .await
                .unwrap()
        };
        assert_eq!(liveness(version).await, Liveness::Live);
        assert_eq!(liveness(version - 1).await, Liveness::Outdated);
        let logged = log_after(store, change.sequence.as_u64() - 1).await;
        assert_eq!(logged.len(), 1);
        assert_eq!(logged[0].handle, Some(session.handle));
        assert_eq!(logged[0].reason, LoggedReason::Claims { version });
        assert_eq!(logged[0].expires, change.expires);
    }
    let head = store.head().await.unwrap();
    let unknown = store
        .replace_claims(SessionHandle::random(), "{}", NOW)
        .await;
    assert_eq!(unknown.unwrap(), None);
    assert_eq!(store.head().await.unwrap(), head);
}

/// Else a token with older claims could be made after the log said how long there are such tokens.
pub async fn who_read_older_claims_makes_no_token_of_them(store: &SessionStore) {
    let read = open(store, "alice").await;
    store.replace_claims(read.handle, "{}", NOW).await.unwrap();
    let later = NOW + ACCESS;
    assert!(!store.rotate(&rotation_of(&read, later)).await.unwrap());
    assert!(
        !store
            .extend(read.handle, 0, later + ACCESS, later)
            .await
            .unwrap()
    );
    let read = store.session(read.handle).await.unwrap().unwrap();
    assert_eq!(read.access_expires_at, NOW + ACCESS);
    assert!(store.extend(read.handle, 1, later, later).await.unwrap());
    assert!(store.rotate(&rotation_of(&read, later)).await.unwrap());
}
