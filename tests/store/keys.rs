//! A store belongs to one master key, and its signing keys rest sealed.

use std::time::Duration;

use portcullis::session::{
    KeyId, KeyState, MasterKey, SealedKey, SessionHandle, SigningAlgorithm, SigningKey,
};
use portcullis::store::{
    FoundKey, Liveness, LoggedReason, REVOKED_KEY_MEMORY, Sequence, SessionStore, StoreError,
};

use crate::support::{ACCESS, NOW, log_after, open, shown, signing_key};

pub async fn keys_are_initialised_once(store: &SessionStore) {
    assert_eq!(store.master_key_fingerprint().await.unwrap(), None);
    assert!(store.signing_keys().await.unwrap().is_empty());
    let master = MasterKey::generate();
    let key = SigningKey::generate(SigningAlgorithm::Es256).unwrap();
    let late = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    for (key, age) in [(&key, 0), (&key, 0), (&late, 5)] {
        let sealed = key.seal(&master, NOW + Duration::from_secs(age));
        store
            .initialise_keys(master.fingerprint(), &sealed)
            .await
            .unwrap();
    }
    assert_eq!(
        store.master_key_fingerprint().await.unwrap(),
        Some(master.fingerprint())
    );
    let found = store.signing_keys().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].state, KeyState::Signing);
    assert_eq!(found[0].key.created_at, NOW);
    let opened = found[0].key.unseal(&master).unwrap();
    assert_eq!(opened.id(), key.id());
    assert_eq!(opened.algorithm(), SigningAlgorithm::Es256);
}

pub async fn another_master_key_is_refused(store: &SessionStore) {
    let (master, other) = (MasterKey::generate(), MasterKey::generate());
    let key = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
    store
        .initialise_keys(master.fingerprint(), &key.seal(&master, NOW))
        .await
        .unwrap();
    let foreign = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
    let refused = store
        .initialise_keys(other.fingerprint(), &foreign.seal(&other, NOW))
        .await;
    assert!(
        matches!(refused, Err(StoreError::OtherMasterKey)),
        "{refused:?}"
    );
    assert_eq!(
        store.master_key_fingerprint().await.unwrap(),
        Some(master.fingerprint())
    );
    assert_eq!(store.signing_keys().await.unwrap().len(), 1);
}

fn sealed(master: &MasterKey, age_secs: u64) -> SealedKey {
    SigningKey::generate(SigningAlgorithm::Hs256)
        .unwrap()
        .seal(master, NOW + Duration::from_secs(age_secs))
}

async fn states(store: &SessionStore) -> Vec<(KeyId, KeyState)> {
    let keys = store.signing_keys().await.unwrap();
    keys.into_iter()
        .map(|stored| (stored.key.id, stored.state))
        .collect()
}

/// The log after `applied` has one entry, which names no session.
async fn assert_logged(store: &SessionStore, applied: u64) -> Sequence {
    let log = log_after(store, applied).await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].handle, &log[0].reason), (None, &LoggedReason::Keys));
    log[0].sequence
}

pub async fn a_key_is_published_signs_verifies_and_goes(store: &SessionStore) {
    let master = MasterKey::generate();
    let old = signing_key(store, &master).await;
    let next = sealed(&master, 1);
    let until = NOW + ACCESS;
    assert_eq!(store.promote_key(&next.id, until, NOW).await.unwrap(), None);

    let published = store.publish_key(&next, &old, NOW).await.unwrap();
    assert_eq!(published, Some(assert_logged(store, 0).await));
    assert_eq!(
        states(store).await,
        [
            (next.id.clone(), KeyState::Published),
            (old.clone(), KeyState::Signing)
        ]
    );
    for (successor, signing) in [(sealed(&master, 2), &old), (sealed(&master, 2), &next.id)] {
        let again = store.publish_key(&successor, signing, NOW).await.unwrap();
        assert_eq!(again, None, "one successor at a time");
    }
    assert_eq!(store.promote_key(&old, until, NOW).await.unwrap(), None);

    let promoted = store.promote_key(&next.id, until, NOW).await.unwrap();
    assert_eq!(promoted, Some(assert_logged(store, 1).await));
    assert_eq!(store.promote_key(&next.id, until, NOW).await.unwrap(), None);
    let verifying = KeyState::Verifying { until };
    assert_eq!(
        states(store).await,
        [
            (next.id.clone(), KeyState::Signing),
            (old.clone(), verifying)
        ]
    );
    let late = store.publish_key(&sealed(&master, 3), &old, NOW).await;
    assert_eq!(
        late.unwrap(),
        None,
        "the successor of a key that signs no more"
    );

    let second = Duration::from_secs(1);
    assert_eq!(store.remove_retired_keys(until - second).await.unwrap(), 0);
    assert_eq!(store.remove_retired_keys(until).await.unwrap(), 1);
    assert_eq!(states(store).await, [(next.id, KeyState::Signing)]);
    assert_eq!(
        store.head().await.unwrap().as_u64(),
        2,
        "nothing else is told"
    );
}

pub async fn a_revoked_key_has_a_successor_at_once(store: &SessionStore) {
    let master = MasterKey::generate();
    let first = signing_key(store, &master).await;
    let (second, unused) = (sealed(&master, 1), sealed(&master, 2));
    let revoked = store.revoke_key(&first, &second, NOW).await.unwrap();
    assert_eq!(revoked.found, FoundKey::Signing);
    assert_eq!(revoked.sequence, assert_logged(store, 0).await);
    let gone = KeyState::Revoked { at: NOW };
    assert_eq!(
        states(store).await,
        [
            (second.id.clone(), KeyState::Signing),
            (first.clone(), gone)
        ]
    );
    let keys = store.signing_keys().await.unwrap();
    assert!(
        keys[1].key.sealed.is_empty(),
        "a compromised secret is kept"
    );

    // A second try is free, and so is one that names nothing; both say from where on everyone knows.
    for (id, found) in [(&first, FoundKey::Revoked), (&unused.id, FoundKey::None)] {
        let again = store.revoke_key(id, &unused, NOW).await.unwrap();
        assert_eq!((again.found, again.sequence), (found, revoked.sequence));
    }
    assert!(log_after(store, 1).await.is_empty());

    // A successor that every replica knows is better than a new one.
    let next = sealed(&master, 3);
    store.publish_key(&next, &second.id, NOW).await.unwrap();
    store.revoke_key(&second.id, &unused, NOW).await.unwrap();
    assert_eq!(
        states(store).await,
        [
            (next.id.clone(), KeyState::Signing),
            (second.id, gone),
            (first.clone(), gone)
        ]
    );
    let forgotten = NOW + REVOKED_KEY_MEMORY + Duration::from_secs(1);
    assert_eq!(store.remove_retired_keys(forgotten).await.unwrap(), 2);
    assert_eq!(states(store).await, [(next.id, KeyState::Signing)]);
}

pub async fn keys_that_do_not_sign_are_revoked_without_a_successor(store: &SessionStore) {
    let master = MasterKey::generate();
    let old = signing_key(store, &master).await;
    let (next, third, unused) = (sealed(&master, 1), sealed(&master, 2), sealed(&master, 3));
    store.publish_key(&next, &old, NOW).await.unwrap();
    store
        .promote_key(&next.id, NOW + ACCESS, NOW)
        .await
        .unwrap();
    store.publish_key(&third, &next.id, NOW).await.unwrap();
    for id in [&old, &third.id] {
        let revoked = store.revoke_key(id, &unused, NOW).await.unwrap();
        assert_eq!(revoked.found, FoundKey::Other);
    }
    let gone = KeyState::Revoked { at: NOW };
    assert_eq!(
        states(store).await,
        [
            (third.id, gone),
            (next.id.clone(), KeyState::Signing),
            (old, gone)
        ]
    );
    let again = store.publish_key(&unused, &next.id, NOW).await.unwrap();
    assert!(again.is_some(), "the place of the next is free again");
}

pub async fn liveness_covers_the_key(store: &SessionStore) {
    let master = MasterKey::generate();
    let old = signing_key(store, &master).await;
    let handle = open(store, "alice").await.handle;
    let next = sealed(&master, 1);
    let liveness =
        async |handle, key: &KeyId| store.liveness(handle, shown(key), NOW).await.unwrap();
    assert_eq!(liveness(handle, &next.id).await, Liveness::KeyDropped);
    store.publish_key(&next, &old, NOW).await.unwrap();
    assert_eq!(liveness(handle, &next.id).await, Liveness::Live);
    store
        .promote_key(&next.id, NOW + ACCESS, NOW)
        .await
        .unwrap();
    assert_eq!(liveness(handle, &old).await, Liveness::Live);
    store
        .revoke_key(&old, &sealed(&master, 2), NOW)
        .await
        .unwrap();
    assert_eq!(liveness(handle, &old).await, Liveness::KeyDropped);
    assert_eq!(liveness(handle, &next.id).await, Liveness::Live);
    let without = store.liveness(handle, None, NOW).await.unwrap();
    assert_eq!(without, Liveness::Live);
    let over = SessionHandle::random();
    assert_eq!(liveness(over, &old).await, Liveness::Over, "goes first");
}
