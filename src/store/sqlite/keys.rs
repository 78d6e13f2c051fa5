//! The sealed signing keys in SQLite.

use sqlx::{SqliteConnection, SqliteExecutor, query};

use super::revocations::log_keys;
use super::{SqliteStore, classify};
use crate::clock::Timestamp;
use crate::session::{KeyId, SealedKey, StoredKey};
use crate::store::REVOKED_KEY_MEMORY;
use crate::store::error::StoreError;
use crate::store::records::{FoundKey, KeyRevocation, Sequence};
use crate::store::rows;

impl SqliteStore {
    pub(in crate::store) async fn master_key_fingerprint(
        &self,
    ) -> Result<Option<[u8; 16]>, StoreError> {
        fingerprint(&self.read).await
    }

    pub(in crate::store) async fn initialise_keys(
        &self,
        own: [u8; 16],
        key: &SealedKey,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let found = fingerprint(&mut *transaction).await?;
        if found.is_some_and(|found| found != own) {
            transaction.rollback().await.map_err(classify)?;
            return Err(StoreError::OtherMasterKey);
        }
        query("INSERT INTO master_key (id, fingerprint) VALUES (1, ?) ON CONFLICT (id) DO NOTHING")
            .bind(own.as_slice())
            .execute(&mut *transaction)
            .await
            .map_err(classify)?;
        query(
            "INSERT INTO signing_key (id, algorithm, sealed, created_at)
             SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM signing_key)",
        )
        .bind(key.id.as_str())
        .bind(key.algorithm.name())
        .bind(key.sealed.as_slice())
        .bind(key.created_at.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        transaction.commit().await.map_err(classify)
    }

    pub(in crate::store) async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        query(
            "SELECT id, algorithm, sealed, created_at, state, verifies_until, revoked_at
             FROM signing_key ORDER BY created_at DESC, id DESC",
        )
        .fetch_all(&self.read)
        .await
        .map_err(classify)?
        .iter()
        .map(rows::stored_key)
        .collect()
    }

    pub(in crate::store) async fn publish_key(
        &self,
        successor: &SealedKey,
        signing: &KeyId,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut transaction = self.begin().await?;
        let done = query(
            "INSERT INTO signing_key (id, algorithm, sealed, created_at, state)
             SELECT ?, ?, ?, ?, 'published'
             WHERE EXISTS (SELECT 1 FROM signing_key WHERE id = ? AND state = 'signing')
               AND NOT EXISTS (SELECT 1 FROM signing_key WHERE state = 'published')",
        )
        .bind(successor.id.as_str())
        .bind(successor.algorithm.name())
        .bind(successor.sealed.as_slice())
        .bind(successor.created_at.as_millis())
        .bind(signing.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        if done.rows_affected() == 0 {
            transaction.rollback().await.map_err(classify)?;
            return Ok(None);
        }
        let sequence = log_keys(&mut transaction, now).await?;
        transaction.commit().await.map_err(classify)?;
        Ok(Some(sequence))
    }

    pub(in crate::store) async fn promote_key(
        &self,
        id: &KeyId,
        verifies_until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut transaction = self.begin().await?;
        let retired = query(
            "UPDATE signing_key SET state = 'verifying', verifies_until = ?
             WHERE state = 'signing'
               AND EXISTS (SELECT 1 FROM signing_key WHERE id = ? AND state = 'published')",
        )
        .bind(verifies_until.as_millis())
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        if retired.rows_affected() == 0 || !promote_published(&mut transaction).await? {
            transaction.rollback().await.map_err(classify)?;
            return Ok(None);
        }
        let sequence = log_keys(&mut transaction, now).await?;
        transaction.commit().await.map_err(classify)?;
        Ok(Some(sequence))
    }

    pub(in crate::store) async fn revoke_key(
        &self,
        id: &KeyId,
        substitute: &SealedKey,
        now: Timestamp,
    ) -> Result<KeyRevocation, StoreError> {
        let mut transaction = self.begin().await?;
        let found = find_key(&mut transaction, id).await?;
        if matches!(found, FoundKey::Revoked | FoundKey::None) {
            transaction.rollback().await.map_err(classify)?;
            let sequence = self.head().await?;
            return Ok(KeyRevocation { sequence, found });
        }
        query(
            "UPDATE signing_key SET state = 'revoked', revoked_at = ?, verifies_until = NULL, sealed = x''
             WHERE id = ?",
        )
        .bind(now.as_millis())
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        if found == FoundKey::Signing && !promote_published(&mut transaction).await? {
            query(
                "INSERT INTO signing_key (id, algorithm, sealed, created_at, state) VALUES (?, ?, ?, ?, 'signing')",
            )
            .bind(substitute.id.as_str())
            .bind(substitute.algorithm.name())
            .bind(substitute.sealed.as_slice())
            .bind(substitute.created_at.as_millis())
            .execute(&mut *transaction)
            .await
            .map_err(classify)?;
        }
        let sequence = log_keys(&mut transaction, now).await?;
        transaction.commit().await.map_err(classify)?;
        Ok(KeyRevocation { sequence, found })
    }

    pub(in crate::store) async fn remove_retired_keys(
        &self,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let done = query(
            "DELETE FROM signing_key
             WHERE (state = 'verifying' AND verifies_until <= ?) OR (state = 'revoked' AND revoked_at < ?)",
        )
        .bind(now.as_millis())
        .bind((now - REVOKED_KEY_MEMORY).as_millis())
        .execute(&self.write)
        .await
        .map_err(classify)?;
        Ok(done.rows_affected())
    }
}

/// Says whether there was a published key.
async fn promote_published(transaction: &mut SqliteConnection) -> Result<bool, StoreError> {
    let done = query("UPDATE signing_key SET state = 'signing' WHERE state = 'published'")
        .execute(transaction)
        .await
        .map_err(classify)?;
    Ok(done.rows_affected() == 1)
}

async fn find_key(transaction: &mut SqliteConnection, id: &KeyId) -> Result<FoundKey, StoreError> {
    let row = query("SELECT id, state FROM signing_key WHERE id = ?")
        .bind(id.as_str())
        .fetch_optional(transaction)
        .await
        .map_err(classify)?;
    rows::found_key(row.as_ref())
}

async fn fingerprint(executor: impl SqliteExecutor<'_>) -> Result<Option<[u8; 16]>, StoreError> {
    query("SELECT id, fingerprint FROM master_key WHERE id = 1")
        .fetch_optional(executor)
        .await
        .map_err(classify)?
        .map(|row| rows::fingerprint(&row))
        .transpose()
}
