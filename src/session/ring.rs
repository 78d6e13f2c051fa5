//! The ring: the signing keys in use, what each of them is used for, and when it is time for another.
//!
//! A key's way is `published` → `signing` → `verifying`, and `revoked` from anywhere. It is published first and signs later, so
//! that no replica ever meets a token of a key that it does not know; it goes on verifying until the last token that it signed
//! has expired. When to take the next step is a pure decision ([`next_step`]); who takes it is decided by the store.

use std::time::Duration;

use super::keys::{KeyId, SealedKey, SigningAlgorithm, SigningKey};
use crate::clock::Timestamp;

/// What a signing key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Verifies, and signs nothing yet: every replica is to know it first.
    Published,
    /// Signs; at any time it is one key that does.
    Signing,
    /// Another key signs; the last token of this one has expired by then.
    Verifying { until: Timestamp },
    /// Refused, with all its tokens.
    Revoked { at: Timestamp },
}

impl KeyState {
    /// As the store and the command line write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Verifying { .. } => "verifying",
            Self::Revoked { .. } => "revoked",
        }
    }

    /// Whether tokens of the key are accepted.
    pub fn verifies(self, now: Timestamp) -> bool {
        match self {
            Self::Published | Self::Signing => true,
            Self::Verifying { until } => now < until,
            Self::Revoked { .. } => false,
        }
    }
}

/// A signing key as the store keeps it, with its state.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// Of a revoked key the secret part is gone.
    pub key: SealedKey,
    pub state: KeyState,
}

/// What is known of a key without opening it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStanding {
    pub id: KeyId,
    pub algorithm: SigningAlgorithm,
    pub created_at: Timestamp,
    pub state: KeyState,
}

impl From<&StoredKey> for KeyStanding {
    fn from(stored: &StoredKey) -> Self {
        Self {
            id: stored.key.id.clone(),
            algorithm: stored.key.algorithm,
            created_at: stored.key.created_at,
            state: stored.state,
        }
    }
}

/// When keys are replaced.
#[derive(Clone, Copy, Debug)]
pub struct RotationSettings {
    /// The age at which a signing key gets a successor.
    pub rotate_after: Duration,
    /// For how long a successor is published before it signs.
    pub publish_for: Duration,
}

/// What is due with the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    /// The signing key is to get a successor.
    Publish,
    /// This successor has been published for long enough.
    Promote(KeyId),
    /// A key has verified its last token.
    Forget,
}

/// Decides what is due. `wanted` asks for a successor if the signing key is of another algorithm, whatever its age.
pub fn next_step(
    keys: &[KeyStanding],
    wanted: Option<SigningAlgorithm>,
    settings: RotationSettings,
    now: Timestamp,
) -> Step {
    let is = |state: KeyState| keys.iter().find(move |key| key.state == state);
    if let Some(next) = is(KeyState::Published) {
        if now.since(next.created_at) >= settings.publish_for {
            return Step::Promote(next.id.clone());
        }
    } else if let Some(signing) = is(KeyState::Signing)
        && (now.since(signing.created_at) >= settings.rotate_after
            || wanted.is_some_and(|wanted| wanted != signing.algorithm))
    {
        return Step::Publish;
    }
    let has_ended =
        |key: &KeyStanding| matches!(key.state, KeyState::Verifying { until } if now >= until);
    if keys.iter().any(has_ended) {
        Step::Forget
    } else {
        Step::Nothing
    }
}

/// The keys in use: one signs, all verify.
#[derive(Clone, Debug)]
pub struct KeyRing {
    keys: Vec<SigningKey>,
}

impl KeyRing {
    pub fn new(signing: SigningKey, others: impl IntoIterator<Item = SigningKey>) -> Self {
        Self {
            keys: std::iter::once(signing).chain(others).collect(),
        }
    }

    pub fn signing_key(&self) -> &SigningKey {
        &self.keys[0]
    }

    /// The key whose access tokens begin with this encoded header.
    pub fn key_with_header(&self, header: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.access_header() == header)
    }

    pub fn key(&self, id: &KeyId) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.id() == id)
    }

    pub fn contains(&self, id: &KeyId) -> bool {
        self.key(id).is_some()
    }

    /// The public keys as a JWK Set (RFC 7517 section 5); of an HMAC key there is none.
    pub fn to_jwks(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .filter_map(SigningKey::to_public_jwk)
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{KeyStanding, KeyState, RotationSettings, Step, next_step};
    use crate::clock::Timestamp;
    use crate::session::{KeyId, SigningAlgorithm};

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const DAY: Duration = Duration::from_hours(24);
    const SETTINGS: RotationSettings = RotationSettings {
        rotate_after: Duration::from_hours(7 * 24),
        publish_for: Duration::from_mins(2),
    };

    fn key(id: &str, age: Duration, state: KeyState) -> KeyStanding {
        KeyStanding {
            id: KeyId::from_store(id),
            algorithm: SigningAlgorithm::Es256,
            created_at: NOW - age,
            state,
        }
    }

    #[test]
    fn each_step_at_its_time() {
        use KeyState::{Published, Revoked, Signing, Verifying};
        const SECOND: Duration = Duration::from_secs(1);
        let promote = |id: &str| Step::Promote(KeyId::from_store(id));
        let cases = [
            ("a young key", vec![key("a", DAY, Signing)], Step::Nothing),
            (
                "a second before its age",
                vec![key("a", DAY * 7 - SECOND, Signing)],
                Step::Nothing,
            ),
            ("of age", vec![key("a", DAY * 7, Signing)], Step::Publish),
            (
                "from the future, by a clock that was wrong",
                vec![KeyStanding {
                    created_at: NOW + DAY,
                    ..key("a", DAY, Signing)
                }],
                Step::Nothing,
            ),
            (
                "its successor is not known for long enough",
                vec![
                    key("b", SECOND * 119, Published),
                    key("a", DAY * 7, Signing),
                ],
                Step::Nothing,
            ),
            (
                "its successor is",
                vec![
                    key("b", SECOND * 120, Published),
                    key("a", DAY * 7, Signing),
                ],
                promote("b"),
            ),
            (
                "a successor that was asked for early",
                vec![key("b", DAY, Published), key("a", DAY * 2, Signing)],
                promote("b"),
            ),
            (
                "a predecessor that still verifies",
                vec![
                    key("b", DAY, Signing),
                    key(
                        "a",
                        DAY * 8,
                        Verifying {
                            until: NOW + SECOND,
                        },
                    ),
                ],
                Step::Nothing,
            ),
            (
                "one whose tokens have expired",
                vec![
                    key("b", DAY, Signing),
                    key("a", DAY * 8, Verifying { until: NOW }),
                ],
                Step::Forget,
            ),
            (
                "a revoked one waits for nothing",
                vec![
                    key("b", DAY, Signing),
                    key("a", DAY * 8, Revoked { at: NOW - DAY }),
                ],
                Step::Nothing,
            ),
        ];
        for (what, keys, step) in cases {
            assert_eq!(next_step(&keys, None, SETTINGS, NOW), step, "{what}");
        }
    }

    #[test]
    fn another_algorithm_is_reason_enough() {
        let young = key("a", DAY, KeyState::Signing);
        let next = key("b", Duration::ZERO, KeyState::Published);
        let step = |keys: &[KeyStanding], wanted| next_step(keys, Some(wanted), SETTINGS, NOW);
        let (es256, eddsa) = (SigningAlgorithm::Es256, SigningAlgorithm::EdDsa);
        assert_eq!(step(std::slice::from_ref(&young), es256), Step::Nothing);
        assert_eq!(step(std::slice::from_ref(&young), eddsa), Step::Publish);
        assert_eq!(step(&[next, young], eddsa), Step::Nothing);
    }

    #[test]
    fn what_verifies() {
        let second = Duration::from_secs(1);
        for (state, verifies) in [
            (KeyState::Published, true),
            (KeyState::Signing, true),
            (
                KeyState::Verifying {
                    until: NOW + second,
                },
                true,
            ),
            (KeyState::Verifying { until: NOW }, false),
            (KeyState::Revoked { at: NOW + second }, false),
        ] {
            assert_eq!(state.verifies(NOW), verifies, "{state:?}");
        }
    }
}
