//! The sealed signing keys in PostgreSQL.

use sqlx::{PgConnection, query};

use super::revocations::{lock_keys, log_keys};
use super::{PostgresStore, begin_with, classify};
use crate::clock::Timestamp;
use crate::session::{KeyId, SealedKey, StoredKey};
use crate::store::REVOKED_KEY_MEMORY;
use crate::store::error::StoreError;
use crate::store::records::{FoundKey, KeyRevocation, Sequence};
use crate::store::rows;

impl PostgresStore {
    pub(in crate::store) async fn master_key_fingerprint(
        &self,
    ) -> Result<Option<[u8; 16]>, StoreError> {
        let mut held = self.prompt.take().await?;
        let found = fingerprint(&mut held).await?;
        held.put_back();
        Ok(found)
    }

    pub(in crate::store) async fn initialise_keys(
        &self,
        own: [u8; 16],
        key: &SealedKey,
    ) -> Result<(), StoreError> {
        let mut held = self.locking.take().await?;
        let mut transaction = begin_with(&mut held, lock_keys()).await?;
        let found = fingerprint(&mut transaction).await?;
        if found.is_some_and(|found| found != own) {
            transaction.rollback().await.map_err(classify)?;
            held.put_back();
            return Err(StoreError::OtherMasterKey);
        }
        query(
            "INSERT INTO master_key (id, fingerprint) VALUES (1, $1) ON CONFLICT (id) DO NOTHING",
        )
        .bind(own.as_slice())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        query(
            "INSERT INTO signing_key (id, algorithm, sealed, created_at)
             SELECT $1, $2, $3::bytea, $4::bigint WHERE NOT EXISTS (SELECT 1 FROM signing_key)",
        )
        .bind(key.id.as_str())
        .bind(key.algorithm.name())
        .bind(key.sealed.as_slice())
        .bind(key.created_at.as_millis())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        transaction.commit().await.map_err(classify)?;
        held.put_back();
        Ok(())
    }

    pub(in crate::store) async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let mut held = self.prompt.take().await?;
        let rows = query(
            "SELECT id, algorithm, sealed, created_at, state, verifies_until, revoked_at
             FROM signing_key ORDER BY created_at DESC, id DESC",
        )
        .fetch_all(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        rows.iter().map(rows::stored_key).collect()
    }

    pub(in crate::store) async fn publish_key(
        &self,
        successor: &SealedKey,
        signing: &KeyId,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut held = self.locking.take().await?;
        let mut transaction = begin_with(&mut held, lock_keys()).await?;
        let done = query(
            "INSERT INTO signing_key (id, algorithm, sealed, created_at, state)
             SELECT $1, $2, $3::bytea, $4::bigint, 'published'
             WHERE EXISTS (SELECT 1 FROM signing_key WHERE id = $5 AND state = 'signing')
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
            held.put_back();
            return Ok(None);
        }
        let sequence = log_keys(&mut transaction, now).await?;
        transaction.commit().await.map_err(classify)?;
        held.put_back();
        self.announcer.announce();
        Ok(Some(sequence))
    }

    pub(in crate::store) async fn promote_key(
        &self,
        id: &KeyId,
        verifies_until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut held = self.locking.take().await?;
        let mut transaction = begin_with(&mut held, lock_keys()).await?;
        let retired = query(
            "UPDATE signing_key SET state = 'verifying', verifies_until = $1
             WHERE state = 'signing'
               AND EXISTS (SELECT 1 FROM signing_key WHERE id = $2 AND state = 'published')",
        )
        .bind(verifies_until.as_millis())
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        if retired.rows_affected() == 0 || !promote_published(&mut transaction).await? {
            transaction.rollback().await.map_err(classify)?;
            held.put_back();
            return Ok(None);
        }
        let sequence = log_keys(&mut transaction, now).await?;
        transaction.commit().await.map_err(classify)?;
        held.put_back();
        self.announcer.announce();
        Ok(Some(sequence))
    }

    pub(in crate::store) async fn revoke_key(
        &self,
        id: &KeyId,
        substitute: &SealedKey,
        now: Timestamp,
    ) -> Result<KeyRevocation, StoreError> {
        let mut held = self.locking.take().await?;
        let mut transaction = begin_with(&mut held, lock_keys()).await?;
        let found = find_key(&mut transaction, id).await?;
        if matches!(found, FoundKey::Revoked | FoundKey::None) {
            transaction.rollback().await.map_err(classify)?;
            held.put_back();
            let sequence = self.head().await?;
            return Ok(KeyRevocation { sequence, found });
        }
        query(
            "UPDATE signing_key SET state = 'revoked', revoked_at = $1, verifies_until = NULL, sealed = ''
             WHERE id = $2",
        )
        .bind(now.as_millis())
        .bind(id.as_str())
        .execute(&mut *transaction)
        .await
        .map_err(classify)?;
        if found == FoundKey::Signing && !promote_published(&mut transaction).await? {
            query(
                "INSERT INTO signing_key (id, algorithm, sealed, created_at, state) VALUES ($1, $2, $3, $4, 'signing')",
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
        held.put_back();
        self.announcer.announce();
        Ok(KeyRevocation { sequence, found })
    }

    pub(in crate::store) async fn remove_retired_keys(
        &self,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut held = self.locking.take().await?;
        let done = query(
            "DELETE FROM signing_key
             WHERE (state = 'verifying' AND verifies_until <= $1) OR (state = 'revoked' AND revoked_at < $2)",
        )
        .bind(now.as_millis())
        .bind((now - REVOKED_KEY_MEMORY).as_millis())
        .execute(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected())
    }
}

/// Says whether there was a published key.
async fn promote_published(transaction: &mut PgConnection) -> Result<bool, StoreError> {
    let done = query("UPDATE signing_key SET state = 'signing' WHERE state = 'published'")
        .execute(transaction)
        .await
        .map_err(classify)?;
    Ok(done.rows_affected() == 1)
}

async fn find_key(transaction: &mut PgConnection, id: &KeyId) -> Result<FoundKey, StoreError> {
    let row = query("SELECT id, state FROM signing_key WHERE id = $1")
        .bind(id.as_str())
        .fetch_optional(transaction)
        .await
        .map_err(classify)?;
    rows::found_key(row.as_ref())
}

async fn fingerprint(connection: &mut PgConnection) -> Result<Option<[u8; 16]>, StoreError> {
    query("SELECT id, fingerprint FROM master_key WHERE id = 1")
        .fetch_optional(connection)
        .await
        .map_err(classify)?
        .map(|row| rows::fingerprint(&row))
        .transpose()
}
