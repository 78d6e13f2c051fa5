//! Users who may not have sessions, in PostgreSQL.

use sqlx::query;

use super::revocations::lock_user;
use super::{PostgresStore, begin_with, classify};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::store::error::StoreError;
use crate::store::records::{Revocation, RevocationReason};
use crate::store::rows::Row;

impl PostgresStore {
    pub(in crate::store) async fn disable_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut held = self.locking.take().await?;
        let mut transaction = begin_with(&mut held, lock_user(user)).await?;
        query(
            "INSERT INTO disabled_user (user_id, disabled_at) VALUES ($1, $2) ON CONFLICT (user_id) DO NOTHING",
        )
        .bind(user.as_str())
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        let revocation = Self::end_user(&mut transaction, user, reason, now).await?;
        transaction.commit().await.map_err(classify)?;
        held.put_back();
        self.announcer.announce();
        Ok(revocation)
    }

    pub(in crate::store) async fn enable_user(&self, user: &UserId) -> Result<bool, StoreError> {
        let mut held = self.locking.take().await?;
        let done = query("DELETE FROM disabled_user WHERE user_id = $1")
            .bind(user.as_str())
            .execute(&mut *held)
            .await
            .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn user_disabled(
        &self,
        user: &UserId,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut held = self.prompt.take().await?;
        let row = query("SELECT user_id, disabled_at FROM disabled_user WHERE user_id = $1")
            .bind(user.as_str())
            .fetch_optional(&mut *held)
            .await
            .map_err(classify)?;
        held.put_back();
        row.map(|row| Row::new(&row, "disabled_user", "user_id").time("disabled_at"))
            .transpose()
    }
}
