//! Replica rows say who has read how far; only their owner renews them.

use std::time::Duration;

use portcullis::store::{ReplicaId, ReplicaRow, Sequence, SessionStore};

use crate::support::replica_row;

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
    let renew = async |row| store.renew_replica(&row).await.unwrap();
    renew(row(one, 1, 0, LEASE)).await;
    renew(row(one, 2, 0, LEASE)).await;
    renew(row(other, 1, 7, LEASE * 2)).await;
    renew(row(one, 3, 9, LEASE)).await;
    assert_eq!(
        store.replicas().await.unwrap(),
        [row(one, 3, 9, LEASE), row(other, 1, 7, LEASE * 2)]
    );
    // Back to nothing: it doubts what it knows.
    renew(row(other, 2, 0, LEASE * 2)).await;
    assert!(store.remove_replica(&one, None).await.unwrap());
    assert!(!store.remove_replica(&one, None).await.unwrap());
    assert_eq!(
        store.replicas().await.unwrap(),
        [row(other, 2, 0, LEASE * 2)]
    );
}

pub async fn a_replica_that_renewed_is_not_reaped(store: &SessionStore) {
    let id = ReplicaId::random();
    let renew = async |beat| {
        store.renew_replica(&replica_row(id, beat)).await.unwrap();
    };
    renew(1).await;
    renew(2).await;
    assert!(!store.remove_replica(&id, Some(1)).await.unwrap());
    assert!(store.remove_replica(&id, Some(2)).await.unwrap());
    // Who saw it with its second beat, or its first, must not take it for that one.
    renew(3).await;
    assert_eq!(store.replicas().await.unwrap()[0].beat, 3);
    assert!(!store.remove_replica(&id, Some(1)).await.unwrap());
    assert!(!store.remove_replica(&id, Some(2)).await.unwrap());
}
