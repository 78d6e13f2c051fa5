//! The signing keys of this replica: the ring in memory, and its way from the store.
//!
//! Every request looks at the ring, so it is read without a lock and replaced as a whole. It is replaced when the revocation
//! log says that the keys changed, before that entry is confirmed: so what is told of a revocation holds of a key too. The
//! issuer signs and verifies with the ring, the feed reads it anew; neither knows the other, both know [`SigningKeys`].

use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use thiserror::Error;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::session::{
    KeyError, KeyId, KeyRing, KeyStanding, KeyState, MasterKey, SigningAlgorithm, SigningKey,
    StoredKey, UnsealError,
};
use crate::store::{KeyRevocation, Sequence, SessionStore, StoreError};

/// The ring and the means to change it; cheap to clone.
#[derive(Clone)]
pub struct SigningKeys {
    shared: Arc<Shared>,
}

struct Shared {
    store: SessionStore,
    master: MasterKey,
    clock: Clock,
    settings: SigningKeysSettings,
    ring: ArcSwap<Loaded>,
    /// Held from the read to the replacement, so that an older reading never takes the place of a newer one.
    reloading: Mutex<()>,
}

/// Settings of this module.
#[derive(Clone, Copy, Debug)]
pub struct SigningKeysSettings {
    /// Of keys that are made from now on.
    pub algorithm: SigningAlgorithm,
    /// How long a key verifies after it signed for the last time.
    pub verify_for: Duration,
}

/// The keys as they were read last.
pub struct Loaded {
    pub ring: KeyRing,
    /// Of every key in the store, revoked ones included, newest first.
    pub standings: Vec<KeyStanding>,
}

/// Why the keys cannot be read or changed.
#[derive(Debug, Error)]
pub enum KeysError {
    #[error("the session store failed")]
    Store(#[from] StoreError),
    #[error("cannot open the signing keys")]
    Unseal(#[from] UnsealError),
    #[error("cannot make a signing key")]
    Key(#[from] KeyError),
    #[error(
        "the session store has no signing key, though it was set up with this master key; restore it from a backup"
    )]
    NoKeys,
}

impl SigningKeys {
    /// Takes the keys from the store; a new store gets its first.
    pub async fn load(
        settings: SigningKeysSettings,
        master: &MasterKey,
        store: SessionStore,
        clock: Clock,
    ) -> Result<Self, KeysError> {
        let first = SigningKey::generate(settings.algorithm)?;
        store
            .initialise_keys(master.fingerprint(), &first.seal(master, clock.now()))
            .await?;
        let loaded = open_all(&store.signing_keys().await?, master, &clock, None)?;
        Ok(Self {
            shared: Arc::new(Shared {
                store,
                master: master.clone(),
                clock,
                settings,
                ring: ArcSwap::from_pointee(loaded),
                reloading: Mutex::new(()),
            }),
        })
    }

    /// The keys as they were read last; takes no lock.
    pub fn loaded(&self) -> Guard<Arc<Loaded>> {
        self.shared.ring.load()
    }

    /// Reads the keys anew. When it fails, the ring stays as it was.
    pub async fn reload(&self) -> Result<(), KeysError> {
        let shared = &*self.shared;
        let _alone = shared.reloading.lock().await;
        let stored = shared.store.signing_keys().await?;
        let before = shared.ring.load_full();
        let loaded = open_all(&stored, &shared.master, &shared.clock, Some(&before.ring))?;
        shared.ring.store(Arc::new(loaded));
        Ok(())
    }

    /// Publishes a successor of the key that signs. `None` if another replica was faster, or one is published already.
    pub async fn publish_successor(&self) -> Result<Option<Sequence>, KeysError> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let successor = SigningKey::generate(shared.settings.algorithm)?.seal(&shared.master, now);
        let signing = self.loaded().ring.signing_key().id().clone();
        let sequence = shared.store.publish_key(&successor, &signing, now).await?;
        self.reload().await?;
        Ok(sequence)
    }

    /// Lets a published key sign. `None` if another replica was faster. The caller has made sure that every replica knows it.
    pub async fn promote(&self, id: &KeyId) -> Result<Option<Sequence>, KeysError> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let verifies_until = now + shared.settings.verify_for;
        let sequence = shared.store.promote_key(id, verifies_until, now).await?;
        self.reload().await?;
        Ok(sequence)
    }

    /// Revokes a key. It is refused here when this returns; that it is everywhere is for the caller to wait for.
    pub async fn revoke(&self, id: &KeyId) -> Result<KeyRevocation, KeysError> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let substitute = SigningKey::generate(shared.settings.algorithm)?.seal(&shared.master, now);
        let revocation = shared.store.revoke_key(id, &substitute, now).await?;
        self.reload().await?;
        Ok(revocation)
    }

    /// Removes the keys whose tokens have expired, here and in the store.
    pub async fn forget_retired(&self) -> Result<(), KeysError> {
        let now = self.shared.clock.now();
        self.shared.store.remove_retired_keys(now).await?;
        self.reload().await
    }
}

/// Opens the keys that verify. Those of the ring before are open already: to open one again costs, and changes nothing.
fn open_all(
    stored: &[StoredKey],
    master: &MasterKey,
    clock: &Clock,
    before: Option<&KeyRing>,
) -> Result<Loaded, KeysError> {
    let now = clock.now();
    let mut signing = None;
    let mut others = Vec::new();
    for StoredKey { key, state } in stored {
        if !state.verifies(now) {
            continue;
        }
        let known = before.and_then(|ring| ring.key(&key.id));
        let opened = match known {
            Some(known) => known.clone(),
            None => key.unseal(master)?,
        };
        match state {
            KeyState::Signing => signing = Some(opened),
            _ => others.push(opened),
        }
    }
    Ok(Loaded {
        ring: KeyRing::new(signing.ok_or(KeysError::NoKeys)?, others),
        standings: stored.iter().map(KeyStanding::from).collect(),
    })
}
