//! Signing keys by call: listed, replaced, refused.

use schemars::JsonSchema;
use serde::Serialize;

use super::values::Time;
use super::{Answer, Api, Code, Problem, ok};
use crate::session::{KeyId, KeyStanding, KeyState};
use crate::store::FoundKey;

#[derive(Serialize, JsonSchema)]
pub(super) struct Keys {
    /// Newest first.
    keys: Vec<Key>,
}

#[derive(Serialize, JsonSchema)]
struct Key {
    kid: String,
    /// Such as `ES256`.
    algorithm: &'static str,
    /// `published`, `signing`, `verifying` or `revoked`.
    state: &'static str,
    created_at: Time,
    /// Of a key that verifies only: until when. Else null.
    verifies_until: Option<Time>,
    /// Null if it is not revoked.
    revoked_at: Option<Time>,
}

impl From<&KeyStanding> for Key {
    fn from(key: &KeyStanding) -> Self {
        let (verifies_until, revoked_at) = match key.state {
            KeyState::Verifying { until } => (Some(Time(until)), None),
            KeyState::Revoked { at } => (None, Some(Time(at))),
            KeyState::Published | KeyState::Signing => (None, None),
        };
        Self {
            kid: key.id.as_str().to_owned(),
            algorithm: key.algorithm.name(),
            state: key.state.name(),
            created_at: Time(key.created_at),
            verifies_until,
            revoked_at,
        }
    }
}

/// The key that signs next.
#[derive(Serialize, JsonSchema)]
pub(super) struct Successor {
    kid: String,
    algorithm: &'static str,
    /// False if it had been published before.
    published_now: bool,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RevokedKey {
    kid: String,
    /// False if it had been revoked before.
    revoked_now: bool,
    /// The key that signs now.
    signs: String,
    /// The place in the revocation log from which on every replica knows.
    sequence: u64,
}

impl Api {
    pub(super) async fn list_keys(&self) -> Result<Answer, Problem> {
        let stored = self.store.signing_keys().await?;
        let standings = stored.iter().map(KeyStanding::from);
        Ok(ok(&Keys {
            keys: standings.map(|key| Key::from(&key)).collect(),
        }))
    }

    /// A second try finds the successor of the first.
    pub(super) async fn rotate_keys(&self) -> Result<Answer, Problem> {
        let keys = self.issuer.keys();
        let published_now = keys.publish_successor().await?;
        if let Some(sequence) = published_now {
            self.revocations.acknowledge_keys(sequence).await;
        }
        let loaded = keys.loaded();
        let next = loaded
            .standings
            .iter()
            .find(|key| key.state == KeyState::Published)
            .ok_or_else(|| {
                Code::KeyRotated.says("another key was published meanwhile and signs already")
            })?;
        Ok(ok(&Successor {
            kid: next.id.as_str().to_owned(),
            algorithm: next.algorithm.name(),
            published_now: published_now.is_some(),
        }))
    }

    pub(super) async fn revoke_key(&self, id: KeyId) -> Result<Answer, Problem> {
        let keys = self.issuer.keys();
        let revoked = keys.revoke(&id).await?;
        if revoked.found == FoundKey::None {
            return Err(Code::KeyNotFound.says(format!("there is no signing key {id}")));
        }
        self.revocations.acknowledge_keys(revoked.sequence).await;
        Ok(ok(&RevokedKey {
            kid: id.as_str().to_owned(),
            revoked_now: revoked.found != FoundKey::Revoked,
            signs: keys.loaded().ring.signing_key().id().as_str().to_owned(),
            sequence: revoked.sequence.as_u64(),
        }))
    }
}
