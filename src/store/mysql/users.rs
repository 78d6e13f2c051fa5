//! Users who may not have sessions, in MySQL.

use sqlx::query;

use super::MySqlStore;
use super::transaction::{Transaction, despite_deadlocks};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::store::error::StoreError;
use crate::store::records::{Revocation, RevocationReason};
use crate::store::rows::Row;

impl MySqlStore {
    pub(in crate::store) async fn disable_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        despite_deadlocks(|| self.try_disable_user(user, reason, now)).await
    }

    async fn try_disable_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        transaction.lock_user(user, now).await?;
        transaction
            .execute(
                query(
                    "INSERT INTO disabled_user (user_id, disabled_at) VALUES (?, ?)
                     ON DUPLICATE KEY UPDATE disabled_at = disabled_at",
                )
                .bind(user.as_str().as_bytes())
                .bind(now.as_millis()),
            )
            .await?;
        Self::end_user(transaction, user, reason, now).await
    }

    pub(in crate::store) async fn enable_user(&self, user: &UserId) -> Result<bool, StoreError> {
        let found = self
            .sessions
            .get()
            .await?
            .execute(
                query("DELETE FROM disabled_user WHERE user_id = ?").bind(user.as_str().as_bytes()),
            )
            .await?;
        Ok(found == 1)
    }

    pub(in crate::store) async fn user_disabled(
        &self,
        user: &UserId,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_optional(
                query("SELECT user_id, disabled_at FROM disabled_user WHERE user_id = ?")
                    .bind(user.as_str().as_bytes()),
            )
            .await?
            .map(|row| Row::new(&row, "disabled_user", "user_id").time("disabled_at"))
            .transpose()
    }
}
