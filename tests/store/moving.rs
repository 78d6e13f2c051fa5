//! What a move takes along, from each database to each.

use portcullis::clock::Timestamp;
use portcullis::session::{KeyState, MasterKey, SigningAlgorithm, SigningKey};
use portcullis::store::{LogEntry, RevocationReason, Sequence, SessionStore, StoreError};

use crate::support::{NOW, assert_same, log_after, open, rotation_of, signing_key, user};

/// More than a move has in memory at once.
const MANY: usize = 510;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_goes_from_each_database_to_each() {
    let first = crate::sqlite::File::new();
    let source = first.open().await;
    let fingerprint = fill(&source).await;
    let expected = Content::of(&source).await;
    assert_eq!(expected.log.len(), MANY + 6);
    let postgres = [
        crate::postgres::Database::new().await,
        crate::postgres::Database::new().await,
    ];
    let mysql = [
        crate::mysql::Database::new().await,
        crate::mysql::Database::new().await,
    ];
    let last = crate::sqlite::File::new();
    let chain = [
        postgres[0].open().await,
        mysql[0].open().await,
        mysql[1].open().await,
        postgres[1].open().await,
        last.open().await,
    ];
    let mut from = &source;
    for to in &chain {
        let moved = to.take_over(from, fingerprint).await.unwrap();
        assert_eq!(
            (moved.sessions, moved.revocations),
            (expected.sessions, expected.log.len() as u64)
        );
        assert_eq!((moved.keys, moved.disabled_users), (3, 1));
        let found = Content::of(to).await;
        assert_eq!(found, expected);
        let again = to.take_over(from, fingerprint).await;
        assert!(matches!(again, Err(StoreError::NotEmpty)), "{again:?}");
        assert_eq!(Content::of(to).await, expected, "unchanged");
        for session in from.all_sessions(None, 10).await.unwrap() {
            assert_same(
                &to.session(session.handle).await.unwrap().unwrap(),
                &session,
            );
        }
        from = to;
    }
    let session = &from.all_sessions(None, 1).await.unwrap()[0];
    let rotated = from.rotate(&rotation_of(session, NOW)).await.unwrap();
    assert!(rotated, "goes on");
    let revoked = from
        .revoke(&[session.handle], RevocationReason::Logout, NOW)
        .await
        .unwrap();
    assert_eq!(
        revoked.sequence.as_u64(),
        expected.head.as_u64() + 1,
        "counts on"
    );
    for database in mysql {
        database.remove().await;
    }
}

/// All kinds of things that a store holds; returns the fingerprint of its master key.
async fn fill(store: &SessionStore) -> [u8; 16] {
    let master = MasterKey::generate();
    let signing = signing_key(store, &master).await;
    let seal = || {
        SigningKey::generate(SigningAlgorithm::Es256)
            .unwrap()
            .seal(&master, NOW)
    };
    let next = seal();
    store.publish_key(&next, &signing, NOW).await.unwrap();
    store.promote_key(&next.id, NOW, NOW).await.unwrap();
    store.revoke_key(&next.id, &seal(), NOW).await.unwrap();
    let mut handles = Vec::new();
    for number in 0..MANY {
        handles.push(open(store, &format!("ended {number}")).await.handle);
    }
    store
        .revoke(&handles, RevocationReason::Logout, NOW)
        .await
        .unwrap();
    for name in ["alice", "ALICE", "zoe\u{308} \u{1F600}"] {
        let session = open(store, name).await;
        store
            .replace_data(session.handle, r#"{"cart":["\u0027","\\"]}"#)
            .await
            .unwrap();
        store.rotate(&rotation_of(&session, NOW)).await.unwrap();
        if name == "alice" {
            store
                .replace_claims(session.handle, r#"{"role":"writer"}"#, NOW)
                .await
                .unwrap();
        }
    }
    store
        .revoke_user(&user("bob"), RevocationReason::Admin, NOW)
        .await
        .unwrap();
    store
        .disable_user(&user("mallory"), RevocationReason::Admin, NOW)
        .await
        .unwrap();
    master.fingerprint()
}

#[derive(Debug, PartialEq)]
struct Content {
    head: Sequence,
    fingerprint: Option<[u8; 16]>,
    sessions: u64,
    log: Vec<LogEntry>,
    keys: Vec<(String, KeyState)>,
    revoked_users: Vec<(String, Sequence)>,
    disabled_users: Vec<(String, Timestamp)>,
}

impl Content {
    async fn of(store: &SessionStore) -> Self {
        let keys = store.signing_keys().await.unwrap();
        let revoked = store.user_revocations(None, 1000).await.unwrap();
        let disabled = store.disabled_users(None, 1000).await.unwrap();
        Self {
            head: store.head().await.unwrap(),
            fingerprint: store.master_key_fingerprint().await.unwrap(),
            sessions: store.all_sessions(None, 1000).await.unwrap().len() as u64,
            log: log_after(store, 0).await,
            keys: keys
                .iter()
                .map(|stored| {
                    (
                        format!("{:?} {:?}", stored.key.id, stored.key.sealed),
                        stored.state,
                    )
                })
                .collect(),
            revoked_users: revoked
                .iter()
                .map(|row| (row.user.to_string(), row.sequence))
                .collect(),
            disabled_users: disabled
                .iter()
                .map(|row| (row.user.to_string(), row.since))
                .collect(),
        }
    }
}
