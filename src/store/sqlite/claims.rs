//! Changes of a session's claims, in SQLite.

use sqlx::query;

use super::revocations::next_sequence;
use super::{SqliteStore, classify};
use crate::clock::Timestamp;
use crate::session::SessionHandle;
use crate::store::error::StoreError;
use crate::store::records::{ClaimsChange, LoggedReason, Mark};
use crate::store::rows::{Row, column};

impl SqliteStore {
    pub(in crate::store) async fn replace_claims(
        &self,
        handle: SessionHandle,
        claims: &str,
        now: Timestamp,
    ) -> Result<Option<ClaimsChange>, StoreError> {
        let mut transaction = self.begin().await?;
        let row = query(
            "UPDATE session SET claims = ?, claims_version = claims_version + 1 WHERE handle = ?
             RETURNING handle, claims_version, access_expires_at",
        )
        .bind(claims)
        .bind(handle.as_bytes().as_slice())
        .fetch_optional(&mut *transaction)
        .await
        .map_err(classify)?;
        let Some(row) = row else {
            transaction.rollback().await.map_err(classify)?;
            return Ok(None);
        };
        let row = Row::new(&row, "session", "handle");
        let change = ClaimsChange {
            version: row.number("claims_version")?,
            expires: row.time("access_expires_at")?.max(now),
            sequence: next_sequence(&mut transaction).await?,
        };
        query(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark, claims_version) VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(column(change.sequence.as_u64()))
        .bind(handle.as_bytes().as_slice())
        .bind(LoggedReason::CLAIMS)
        .bind(change.expires.as_millis())
        .bind(Mark::random().as_bytes().as_slice())
        .bind(change.version)
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        transaction.commit().await.map_err(classify)?;
        Ok(Some(change))
    }
}
