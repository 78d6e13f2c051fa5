//! The sealed signing keys in MySQL.
//!
//! Changes of them are made one after the other, under the lock of the master key's row.

use sqlx::query;

use super::MySqlStore;
use super::transaction::{Entry, Transaction, despite_deadlocks};
use crate::clock::Timestamp;
use crate::session::{KeyId, SealedKey, StoredKey};
use crate::store::REVOKED_KEY_MEMORY;
use crate::store::error::StoreError;
use crate::store::records::{FoundKey, KeyRevocation, Sequence};
use crate::store::rows;

impl MySqlStore {
    pub(in crate::store) async fn master_key_fingerprint(
        &self,
    ) -> Result<Option<[u8; 16]>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_optional(query("SELECT id, fingerprint FROM master_key WHERE id = 1"))
            .await?
            .map(|row| rows::fingerprint(&row))
            .transpose()
    }

    pub(in crate::store) async fn initialise_keys(
        &self,
        own: [u8; 16],
        key: &SealedKey,
    ) -> Result<(), StoreError> {
        despite_deadlocks(|| self.try_initialise_keys(own, key)).await
    }

    async fn try_initialise_keys(&self, own: [u8; 16], key: &SealedKey) -> Result<(), StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        transaction
            .execute(
                query(
                    "INSERT INTO master_key (id, fingerprint) VALUES (1, ?)
                     ON DUPLICATE KEY UPDATE fingerprint = fingerprint",
                )
                .bind(own.as_slice()),
            )
            .await?;
        if lock_keys(&mut transaction).await? != Some(own) {
            transaction.roll_back().await?;
            return Err(StoreError::OtherMasterKey);
        }
        transaction
            .execute(
                query(
                    "INSERT INTO signing_key (id, algorithm, sealed, created_at)
                     SELECT ?, ?, ?, ? FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM signing_key)",
                )
                .bind(key.id.as_str())
                .bind(key.algorithm.name())
                .bind(key.sealed.as_slice())
                .bind(key.created_at.as_millis()),
            )
            .await?;
        transaction.commit().await
    }

    pub(in crate::store) async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_all(query(
                "SELECT id, algorithm, sealed, created_at, state, verifies_until, revoked_at
                 FROM signing_key ORDER BY created_at DESC, id DESC",
            ))
            .await?
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
        despite_deadlocks(|| self.try_publish_key(successor, signing, now)).await
    }

    async fn try_publish_key(
        &self,
        successor: &SealedKey,
        signing: &KeyId,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        lock_keys(&mut transaction).await?;
        let published = transaction
            .execute(
                query(
                    "INSERT INTO signing_key (id, algorithm, sealed, created_at, state)
                     SELECT ?, ?, ?, ?, 'published' FROM DUAL
                     WHERE EXISTS (SELECT 1 FROM signing_key WHERE id = ? AND state = 'signing')
                       AND NOT EXISTS (SELECT 1 FROM signing_key WHERE state = 'published')",
                )
                .bind(successor.id.as_str())
                .bind(successor.algorithm.name())
                .bind(successor.sealed.as_slice())
                .bind(successor.created_at.as_millis())
                .bind(signing.as_str()),
            )
            .await?;
        if published == 0 {
            transaction.roll_back().await?;
            return Ok(None);
        }
        transaction.end_with(Entry::of_keys(now)).await.map(Some)
    }

    pub(in crate::store) async fn promote_key(
        &self,
        id: &KeyId,
        verifies_until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        despite_deadlocks(|| self.try_promote_key(id, verifies_until, now)).await
    }

    async fn try_promote_key(
        &self,
        id: &KeyId,
        verifies_until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Sequence>, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        lock_keys(&mut transaction).await?;
        let published = transaction
            .fetch_optional(
                query("SELECT 1 FROM signing_key WHERE id = ? AND state = 'published'")
                    .bind(id.as_str()),
            )
            .await?;
        if published.is_none() {
            transaction.roll_back().await?;
            return Ok(None);
        }
        let retired = transaction
            .execute(
                query("UPDATE signing_key SET state = 'verifying', verifies_until = ? WHERE state = 'signing'")
                    .bind(verifies_until.as_millis()),
            )
            .await?;
        if retired == 0 || !promote_published(&mut transaction).await? {
            transaction.roll_back().await?;
            return Ok(None);
        }
        transaction.end_with(Entry::of_keys(now)).await.map(Some)
    }

    pub(in crate::store) async fn revoke_key(
        &self,
        id: &KeyId,
        substitute: &SealedKey,
        now: Timestamp,
    ) -> Result<KeyRevocation, StoreError> {
        despite_deadlocks(|| self.try_revoke_key(id, substitute, now)).await
    }

    async fn try_revoke_key(
        &self,
        id: &KeyId,
        substitute: &SealedKey,
        now: Timestamp,
    ) -> Result<KeyRevocation, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        lock_keys(&mut transaction).await?;
        let found = find_key(&mut transaction, id).await?;
        if matches!(found, FoundKey::Revoked | FoundKey::None) {
            transaction.roll_back().await?;
            let sequence = self.head().await?;
            return Ok(KeyRevocation { sequence, found });
        }
        transaction
            .execute(
                query(
                    "UPDATE signing_key SET state = 'revoked', revoked_at = ?, verifies_until = NULL, sealed = ''
                     WHERE id = ?",
                )
                .bind(now.as_millis())
                .bind(id.as_str()),
            )
            .await?;
        if found == FoundKey::Signing && !promote_published(&mut transaction).await? {
            transaction
                .execute(
                    query(
                        "INSERT INTO signing_key (id, algorithm, sealed, created_at, state) VALUES (?, ?, ?, ?, 'signing')",
                    )
                    .bind(substitute.id.as_str())
                    .bind(substitute.algorithm.name())
                    .bind(substitute.sealed.as_slice())
                    .bind(substitute.created_at.as_millis()),
                )
                .await?;
        }
        let sequence = transaction.end_with(Entry::of_keys(now)).await?;
        Ok(KeyRevocation { sequence, found })
    }

    pub(in crate::store) async fn remove_retired_keys(
        &self,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.sessions
            .get()
            .await?
            .execute(
                query(
                    "DELETE FROM signing_key
                     WHERE (state = 'verifying' AND verifies_until <= ?) OR (state = 'revoked' AND revoked_at < ?)",
                )
                .bind(now.as_millis())
                .bind((now - REVOKED_KEY_MEMORY).as_millis()),
            )
            .await
    }
}

/// Returns the fingerprint of the master key; `None` if the store has no keys yet.
async fn lock_keys(transaction: &mut Transaction) -> Result<Option<[u8; 16]>, StoreError> {
    transaction
        .fetch_optional(query(
            "SELECT id, fingerprint FROM master_key WHERE id = 1 FOR UPDATE",
        ))
        .await?
        .map(|row| rows::fingerprint(&row))
        .transpose()
}

/// Says whether there was a published key.
async fn promote_published(transaction: &mut Transaction) -> Result<bool, StoreError> {
    let found = transaction
        .execute(query(
            "UPDATE signing_key SET state = 'signing' WHERE state = 'published'",
        ))
        .await?;
    Ok(found == 1)
}

async fn find_key(transaction: &mut Transaction, id: &KeyId) -> Result<FoundKey, StoreError> {
    let row = transaction
        .fetch_optional(
            query("SELECT id, state FROM signing_key WHERE id = ? FOR UPDATE").bind(id.as_str()),
        )
        .await?;
    rows::found_key(row.as_ref())
}
