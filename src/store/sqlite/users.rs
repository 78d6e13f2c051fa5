//! Users who may not have sessions, in SQLite.

use sqlx::query;

use super::{SqliteStore, classify};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::store::error::StoreError;
use crate::store::records::{Revocation, RevocationReason};
use crate::store::rows::Row;

impl SqliteStore {
    pub(in crate::store) async fn disable_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revocation, StoreError> {
        let mut transaction = self.begin().await?;
        query(
            "INSERT INTO disabled_user (user_id, disabled_at) VALUES (?, ?) ON CONFLICT (user_id) DO NOTHING",
        )
        .bind(user.as_str())
        .bind(now.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        let revocation = Self::end_user(&mut transaction, user, reason, now).await?;
        transaction.commit().await.map_err(classify)?;
        Ok(revocation)
    }

    pub(in crate::store) async fn enable_user(&self, user: &UserId) -> Result<bool, StoreError> {
        let done = query("DELETE FROM disabled_user WHERE user_id = ?")
            .bind(user.as_str())
            .execute(&self.write)
            .await
            .map_err(classify)?;
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn user_disabled(
        &self,
        user: &UserId,
    ) -> Result<Option<Timestamp>, StoreError> {
        query("SELECT user_id, disabled_at FROM disabled_user WHERE user_id = ?")
            .bind(user.as_str())
            .fetch_optional(&self.read)
            .await
            .map_err(classify)?
            .map(|row| Row::new(&row, "disabled_user", "user_id").time("disabled_at"))
            .transpose()
    }
}
