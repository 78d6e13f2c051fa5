//! Whether an access token holds: the question that every request asks, by call.

use moka::sync::Cache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Handle, Stored, Time, User};
use super::{Answer, Api, Problem, ok};
use crate::clock::Timestamp;
use crate::revocation::Verdict;
use crate::session::{SessionHandle, VerifiedAccessToken};
use crate::store::{Shown, TokenUse};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessToken {
    access_token: String,
}

/// What is to be thought of an access token.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
pub(super) enum Verified {
    /// A request with it would be served.
    Valid {
        handle: Handle,
        user: User,
        claims: Stored,
        issued_at: Time,
        expires_at: Time,
    },
    /// A request with it would not.
    Refused { reason: Refused },
}

/// Why a token does not hold.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Refused {
    /// Not a token of this deployment, or altered.
    Invalid,
    /// Its time is over; a refresh may give another.
    Expired,
    /// The session has other claims by now; a refresh may give a token with them.
    Outdated,
    /// The session has ended.
    Revoked,
}

/// Remembers which uses were told to the store, so that each is told once.
#[derive(Clone, Debug)]
pub(super) struct Noted(Cache<(SessionHandle, u32), ()>);

impl Default for Noted {
    fn default() -> Self {
        Self(Cache::new(NOTED_USES))
    }
}

const NOTED_USES: u64 = 20_000;

impl Api {
    pub(super) async fn verify_token(&self, asked: AccessToken) -> Result<Answer, Problem> {
        let verified = match self.verify(&asked.access_token).await? {
            Ok(token) => Verified::Valid {
                handle: Handle(token.handle),
                user: User(token.user),
                claims: Stored::new(token.session_claims.to_string()),
                issued_at: Time(token.issued_at),
                expires_at: Time(token.expires_at),
            },
            Err(reason) => Verified::Refused { reason },
        };
        Ok(ok(&verified))
    }

    /// In the order of a request: signature, time, revocation, and the key last, since the ring is only as good as the lease
    /// that the question for revocation asks for.
    async fn verify(&self, token: &str) -> Result<Result<VerifiedAccessToken, Refused>, Problem> {
        let now = self.revocations.not_before(self.clock.now());
        let Ok(token) = self.issuer.verify_access(token) else {
            return Ok(Err(Refused::Invalid));
        };
        if token.is_expired(now) {
            return Ok(Err(Refused::Expired));
        }
        if token.is_premature(now) {
            return Ok(Err(Refused::Invalid));
        }
        let verdict = match self
            .revocations
            .verdict(&token.handle, token.claims_version)
        {
            Verdict::AskStore => {
                let shown = Shown {
                    key: &token.key,
                    claims_version: token.claims_version,
                };
                self.revocations
                    .ask_store(token.handle, Some(shown), now)
                    .await?
            }
            verdict => verdict,
        };
        Ok(match verdict {
            Verdict::Revoked => Err(Refused::Revoked),
            Verdict::KeyDropped => Err(Refused::Invalid),
            _ if !self.issuer.honours(&token.key) => Err(Refused::Invalid),
            Verdict::Outdated => Err(Refused::Outdated),
            Verdict::Live | Verdict::AskStore => {
                self.note_use(&token, now);
                Ok(token)
            }
        })
    }

    /// A token that is shown here is in use: from now on its predecessors are a thief's.
    fn note_use(&self, token: &VerifiedAccessToken, now: Timestamp) {
        let key = (token.handle, token.generation);
        if token.generation == 0 || self.noted.0.contains_key(&key) {
            return;
        }
        let used = TokenUse {
            handle: token.handle,
            generation: token.generation,
            at: now,
        };
        if self.uses.try_send(used).is_ok() {
            self.noted.0.insert(key, ());
        }
    }
}
