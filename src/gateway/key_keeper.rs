//! Replaces the signing keys when they are of age.
//!
//! Every replica does it; the store lets one of them take each step. A successor signs when it has been published for longer
//! than any cache of the public keys lasts, and when every replica is known to have it: wall clocks alone would not tell.

use std::time::Duration;

use tracing::{info, warn};

use crate::causes::Causes;
use crate::clock::Clock;
use crate::keys::{KeysError, SigningKeys};
use crate::revocation::Revocations;
use crate::session::{RotationSettings, SigningAlgorithm, Step, next_step};
use crate::store::SessionStore;

/// Sees to the keys of a replica's store.
pub struct KeyKeeper {
    pub keys: SigningKeys,
    pub revocations: Revocations,
    pub store: SessionStore,
    pub clock: Clock,
    pub settings: KeyKeeperSettings,
}

/// Settings of this module.
#[derive(Clone, Copy, Debug)]
pub struct KeyKeeperSettings {
    /// The age at which a signing key gets a successor.
    pub rotate_after: Duration,
    /// What the signing key is to be when the gateway starts.
    pub algorithm: SigningAlgorithm,
}

impl KeyKeeper {
    /// Looks at the keys every second, which costs nothing: what it looks at is in memory.
    pub async fn run(self) {
        // Asked for once per start: replicas that are configured differently during a roll-out would go on replacing each
        // other's keys.
        let mut wanted = Some(self.settings.algorithm);
        let mut failing = false;
        loop {
            match self.tend(wanted).await {
                Ok(_) => {
                    wanted = None;
                    failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(
                            error = %Causes(&error),
                            "cannot replace the signing key yet"
                        );
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes the step that is due, if one is. `wanted` as in [`next_step`].
    pub async fn tend(&self, wanted: Option<SigningAlgorithm>) -> Result<Step, KeysError> {
        let settings = RotationSettings {
            rotate_after: self.settings.rotate_after,
            publish_for: PUBLISH_FOR,
        };
        let step = next_step(
            &self.keys.loaded().standings,
            wanted,
            settings,
            self.clock.now(),
        );
        match &step {
            Step::Nothing => {}
            Step::Publish => {
                if self.keys.publish_successor().await?.is_some() {
                    info!("published a new signing key; it signs when every replica has it");
                }
            }
            Step::Promote(id) => {
                let known = self.store.head().await?;
                self.revocations.confirmed_by_all(known).await;
                if self.keys.promote(id).await?.is_some() {
                    info!(key = %id, "a new key signs; the one before it verifies until its last token has expired");
                }
            }
            Step::Forget => self.keys.forget_retired().await?,
        }
        Ok(step)
    }
}

/// Longer than the public keys may be cached (a minute), and than any lease.
pub const PUBLISH_FOR: Duration = Duration::from_mins(2);

const LOOK: Duration = Duration::from_secs(1);
