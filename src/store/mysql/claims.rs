//! Changes of a session's claims, in MySQL.

use sqlx::query;

use super::MySqlStore;
use super::transaction::{Entry, Transaction, despite_deadlocks};
use crate::clock::Timestamp;
use crate::session::SessionHandle;
use crate::store::error::StoreError;
use crate::store::records::{ClaimsChange, LoggedReason};
use crate::store::rows::Row;

impl MySqlStore {
    pub(in crate::store) async fn replace_claims(
        &self,
        handle: SessionHandle,
        claims: &str,
        now: Timestamp,
    ) -> Result<Option<ClaimsChange>, StoreError> {
        despite_deadlocks(|| self.try_replace_claims(handle, claims, now)).await
    }

    async fn try_replace_claims(
        &self,
        handle: SessionHandle,
        claims: &str,
        now: Timestamp,
    ) -> Result<Option<ClaimsChange>, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        let row = transaction
            .fetch_optional(
                query(
                    "SELECT handle, claims_version, access_expires_at FROM session WHERE handle = ? FOR UPDATE",
                )
                .bind(handle.as_bytes().as_slice()),
            )
            .await?;
        let Some(row) = row else {
            transaction.roll_back().await?;
            return Ok(None);
        };
        let row = Row::new(&row, "session", "handle");
        let version = row
            .number::<u32>("claims_version")?
            .checked_add(1)
            .ok_or_else(|| row.corrupt("claims_version"))?;
        let expires = row.time("access_expires_at")?.max(now);
        transaction
            .execute(
                query("UPDATE session SET claims = ?, claims_version = ? WHERE handle = ?")
                    .bind(claims)
                    .bind(version)
                    .bind(handle.as_bytes().as_slice()),
            )
            .await?;
        let sequence = transaction
            .end_with(Entry {
                handle: Some(handle),
                reason: LoggedReason::CLAIMS,
                expires,
                claims_version: Some(version),
            })
            .await?;
        Ok(Some(ClaimsChange {
            sequence,
            version,
            expires,
        }))
    }
}
