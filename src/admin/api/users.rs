//! Users by call: all their sessions ended, disabled, enabled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::sessions::{Ended, no_content};
use super::values::{Time, User};
use super::{Answer, Api, Code, Problem, ok};
use crate::identity::UserId;
use crate::store::RevocationReason;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeUsers {
    #[schemars(length(min = 1, max = 100))]
    users: Vec<User>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct RevokedUsers {
    /// In the order of their ids.
    users: Vec<RevokedUser>,
}

#[derive(Serialize, JsonSchema)]
struct RevokedUser {
    user: User,
    /// How many sessions were there to end.
    ended: usize,
    /// The place in the revocation log from which on every replica knows.
    sequence: u64,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Disabled {
    disabled: bool,
    /// Null if the user is not disabled.
    since: Option<Time>,
}

impl Api {
    pub(super) async fn end_user_sessions(&self, user: UserId) -> Result<Answer, Problem> {
        Ok(ok(&self.revoke_user(&user).await?))
    }

    /// At once, so that all of them wait for the fleet together.
    pub(super) async fn revoke_users(&self, asked: RevokeUsers) -> Result<Answer, Problem> {
        let mut users: Vec<UserId> = asked.users.into_iter().map(|user| user.0).collect();
        if users.is_empty() || users.len() > MOST_USERS {
            return Err(Code::InvalidBody.says(format!("users: from 1 to {MOST_USERS} at once")));
        }
        users.sort_unstable();
        users.dedup();
        let mut calls = JoinSet::new();
        for user in users {
            let api = self.clone();
            calls.spawn(async move { (api.revoke_user(&user).await, user) });
        }
        let (mut revoked, mut failed) = (Vec::new(), Vec::new());
        for (ended, user) in calls.join_all().await {
            match ended {
                Ok(Ended { ended, sequence }) => revoked.push(RevokedUser {
                    user: User(user),
                    ended,
                    sequence,
                }),
                Err(_) => failed.push(user.as_str().to_owned()),
            }
        }
        if !failed.is_empty() {
            failed.sort_unstable();
            return Err(Problem::partly(failed));
        }
        revoked.sort_unstable_by(|a, b| a.user.0.cmp(&b.user.0));
        Ok(ok(&RevokedUsers { users: revoked }))
    }

    async fn revoke_user(&self, user: &UserId) -> Result<Ended, Problem> {
        let reason = RevocationReason::Admin;
        let revocation = self.revocations.revoke_user(user, &[], reason).await;
        Ok(Ended::from(&self.ended(reason, revocation)?))
    }

    pub(super) async fn get_disabled(&self, user: UserId) -> Result<Answer, Problem> {
        let since = self.store.user_disabled(&user).await?;
        Ok(ok(&Disabled {
            disabled: since.is_some(),
            since: since.map(Time),
        }))
    }

    pub(super) async fn disable_user(&self, user: UserId) -> Result<Answer, Problem> {
        let reason = RevocationReason::Admin;
        let revocation = self.revocations.disable_user(&user, reason).await;
        Ok(ok(&Ended::from(&self.ended(reason, revocation)?)))
    }

    pub(super) async fn enable_user(&self, user: UserId) -> Result<Answer, Problem> {
        self.store.enable_user(&user).await?;
        Ok(no_content())
    }
}

const MOST_USERS: usize = 100;
