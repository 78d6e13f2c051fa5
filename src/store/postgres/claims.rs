//! Changes of a session's claims, in PostgreSQL.

use sqlx::query;

use super::{PostgresStore, classify};
use crate::clock::Timestamp;
use crate::session::SessionHandle;
use crate::store::error::StoreError;
use crate::store::records::{ClaimsChange, LoggedReason, Mark};
use crate::store::rows::Row;

impl PostgresStore {
    /// One statement, so that a client that stalls never holds the head.
    pub(in crate::store) async fn replace_claims(
        &self,
        handle: SessionHandle,
        claims: &str,
        now: Timestamp,
    ) -> Result<Option<ClaimsChange>, StoreError> {
        let mut held = self.locking.take().await?;
        let row = query(
            "WITH changed AS (
                 UPDATE session SET claims = $2, claims_version = claims_version + 1 WHERE handle = $1
                 RETURNING handle, claims_version, GREATEST(access_expires_at, $3) AS expires),
             head AS (
                 UPDATE revocation_head SET sequence = sequence + 1 WHERE id = 1 AND EXISTS (SELECT 1 FROM changed)
                 RETURNING sequence)
             INSERT INTO revocation (sequence, handle, reason, expires, mark, claims_version)
             SELECT head.sequence, changed.handle, $4, changed.expires, $5, changed.claims_version FROM head, changed
             RETURNING sequence, claims_version, expires",
        )
        .bind(handle.as_bytes().as_slice())
        .bind(claims)
        .bind(now.as_millis())
        .bind(LoggedReason::CLAIMS)
        .bind(Mark::random().as_bytes().as_slice())
        .fetch_optional(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        let Some(row) = row else {
            return Ok(None);
        };
        self.announcer.announce();
        let row = Row::new(&row, "revocation", "sequence");
        Ok(Some(ClaimsChange {
            sequence: row.sequence("sequence")?,
            version: row.number("claims_version")?,
            expires: row.time("expires")?,
        }))
    }
}
