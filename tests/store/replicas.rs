//! Replica rows say who has read how far; only their owner renews them.

use std::time::Duration;

use portcullis::store::{ReplicaId, ReplicaRow, Sequence, SessionStore};

const LEASE: Duration = Duration::from_secs(3);

pub async fn a_replica_joins_renews_and_leaves(store: &SessionStore) {
    assert!(store.replicas().await.unwrap().is_empty());
    let mut ids = [ReplicaId::random(), ReplicaId::random()];
    ids.sort();
    let [one, other] = ids;
    let row = |id, beat, applied, lease| ReplicaRow {
        id,
        beat,
        applied: Sequence::new(applied),
        lease,
    };
    let renew = async |id, applied, lease| {
        store
            .renew_replica(&id, Sequence::new(applied), lease)
            .await
            .unwrap();
    };
    renew(one, 0, LEASE).await;
    renew(one, 0, LEASE).await;
    renew(other, 7, LEASE * 2).await;
    renew(one, 9, LEASE).await;
    assert_eq!(
        store.replicas().await.unwrap(),
        [row(one, 3, 9, LEASE), row(other, 1, 7, LEASE * 2)]
    );
    // Back to nothing: it doubts what it knows.
    renew(other, 0, LEASE * 2).await;
    assert!(store.remove_replica(&one, None).await.unwrap());
    assert!(!store.remove_replica(&one, None).await.unwrap());
    assert_eq!(
        store.replicas().await.unwrap(),
        [row(other, 2, 0, LEASE * 2)]
    );
}

pub async fn a_replica_that_renewed_is_not_reaped(store: &SessionStore) {
    let id = ReplicaId::random();
    let renew = async || {
        store
            .renew_replica(&id, Sequence::ZERO, LEASE)
            .await
            .unwrap()
    };
    renew().await;
    renew().await;
    assert!(!store.remove_replica(&id, Some(1)).await.unwrap());
    assert!(store.remove_replica(&id, Some(2)).await.unwrap());
    renew().await;
    assert_eq!(store.replicas().await.unwrap()[0].beat, 1, "begins anew");
}
