//! A store belongs to one master key, and its signing keys rest sealed.

use std::time::Duration;

use portcullis::session::{MasterKey, SigningAlgorithm, SigningKey};
use portcullis::store::{SessionStore, StoreError};

use crate::support::NOW;

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
    assert_eq!(found[0].created_at, NOW);
    let opened = found[0].unseal(&master).unwrap();
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
