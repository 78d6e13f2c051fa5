//! Rounds of the feed, one by one, on a real store.

use std::time::Duration;

use tempfile::TempDir;

use super::{Feed, RoundError};
use crate::clock::{Clock, ClockHands};
use crate::identity::UserId;
use crate::keys::{SigningKeys, SigningKeysSettings};
use crate::revocation::{Acknowledge, Check, OnLapse, RevocationSettings, Revocations};
use crate::session::{KeyId, MasterKey, SigningAlgorithm, SigningKey};
use crate::store::{RevocationReason, SessionStore};

/// A replica whose feed is moved by hand, and another one's keys.
struct Pair {
    _directory: TempDir,
    store: SessionStore,
    hands: ClockHands,
    keys: SigningKeys,
    others: SigningKeys,
    revocations: Revocations,
}

impl Pair {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/x.db", directory.path().display());
        let store = SessionStore::open(&url).await.unwrap();
        let (clock, hands) = Clock::adjustable();
        let master = MasterKey::generate();
        let of_keys = SigningKeysSettings {
            algorithm: SigningAlgorithm::Hs256,
            verify_for: Duration::from_hours(1),
        };
        let load = async || {
            SigningKeys::load(of_keys, &master, store.clone(), clock.clone())
                .await
                .unwrap()
        };
        let (keys, others) = (load().await, load().await);
        let settings = RevocationSettings {
            check: Check::Feed,
            acknowledge: Acknowledge::Fleet,
            on_lapse: OnLapse::Cut,
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(50),
            access_lifetime: Duration::from_hours(1),
        };
        let revocations =
            Revocations::of_replica(settings, clock.clone(), store.clone(), keys.clone());
        Self {
            _directory: directory,
            store,
            hands,
            keys,
            others,
            revocations,
        }
    }

    fn signs(&self) -> KeyId {
        self.keys.loaded().ring.signing_key().id().clone()
    }

    fn accepts(&self, key: &KeyId) -> bool {
        self.keys.loaded().ring.contains(key)
    }

    /// A key that nobody here can open is published: an old backup, or somebody's hand.
    async fn publish_what_does_not_open(&self) -> KeyId {
        let foreign = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
        let now = Clock::system().now();
        let sealed = foreign.seal(&MasterKey::generate(), now);
        let signing = self.others.loaded().ring.signing_key().id().clone();
        let published = self.store.publish_key(&sealed, &signing, now).await;
        assert!(published.unwrap().is_some());
        foreign.id().clone()
    }

    /// The other replica revokes the key, and the log forgets that it did.
    async fn revoke_unnoticed(&self, key: &KeyId) {
        self.others.revoke(key).await.unwrap();
        let user = UserId::parse("alice").unwrap();
        let now = Clock::system().now();
        self.store
            .revoke_user(&user, RevocationReason::Admin, now)
            .await
            .unwrap();
        let later = now + Duration::from_mins(20);
        assert!(self.store.prune_log(later).await.unwrap() > 0);
    }
}

#[tokio::test]
async fn a_change_of_the_keys_is_applied_before_it_is_confirmed() {
    let pair = Pair::new().await;
    let mut feed = Feed::new(&pair.revocations);
    feed.round(true).await.unwrap();
    let first = pair.signs();
    pair.others.revoke(&first).await.unwrap();
    let (applied, deadline) = (pair.revocations.applied(), pair.revocations.deadline());
    pair.hands.advance_boot(Duration::from_secs(1));

    let broken = pair.publish_what_does_not_open().await;
    for renew in [true, false] {
        let failed = feed.round(renew).await;
        assert!(matches!(failed, Err(RoundError::Keys(_))), "{failed:?}");
        assert_eq!(
            pair.revocations.applied(),
            applied,
            "confirmed, not applied"
        );
        assert_eq!(
            pair.revocations.deadline(),
            deadline,
            "trusted, not applied"
        );
        assert!(pair.accepts(&first));
    }

    pair.others.revoke(&broken).await.unwrap();
    assert!(feed.round(true).await.unwrap());
    assert!(!pair.accepts(&first));
    assert_eq!(pair.revocations.applied(), pair.store.head().await.unwrap());
    assert!(pair.revocations.deadline() > deadline);
}

#[tokio::test]
async fn whoever_joins_has_the_keys_of_then() {
    let pair = Pair::new().await;
    let first = pair.signs();
    pair.revoke_unnoticed(&first).await;
    assert!(pair.accepts(&first));
    pair.revocations.join().await.unwrap();
    assert!(!pair.accepts(&first));
}

#[tokio::test]
async fn whoever_was_cut_off_reads_the_keys_anew() {
    let pair = Pair::new().await;
    let mut feed = Feed::new(&pair.revocations);
    feed.round(true).await.unwrap();
    let first = pair.signs();
    pair.revocations.trust_keys().await.unwrap();
    pair.revoke_unnoticed(&first).await;
    // Neither signs with what it cannot be sure of ...
    pair.revocations.trust_keys().await.unwrap();
    assert!(pair.accepts(&first), "within the lease, memory is trusted");
    pair.hands.advance_boot(Duration::from_secs(31));
    pair.revocations.trust_keys().await.unwrap();
    assert!(!pair.accepts(&first));
    // ... nor trusts its memory again before it has read the keys.
    let second = pair.signs();
    pair.revoke_unnoticed(&second).await;
    while pair.revocations.has_lapsed() {
        assert!(pair.accepts(&second));
        feed.round(true).await.unwrap();
    }
    assert!(!pair.accepts(&second));
}
