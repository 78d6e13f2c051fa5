//! The sealed signing keys in SQLite.

use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteExecutor, query};

use super::rows::Row;
use super::{SqliteStore, classify};
use crate::session::{KeyId, SealedKey};
use crate::store::error::StoreError;

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

    pub(in crate::store) async fn signing_keys(&self) -> Result<Vec<SealedKey>, StoreError> {
        query("SELECT id, algorithm, sealed, created_at FROM signing_key ORDER BY created_at DESC, id DESC")
            .fetch_all(&self.read)
            .await
            .map_err(classify)?
            .iter()
            .map(sealed_key)
            .collect()
    }
}

async fn fingerprint(executor: impl SqliteExecutor<'_>) -> Result<Option<[u8; 16]>, StoreError> {
    query("SELECT id, fingerprint FROM master_key WHERE id = 1")
        .fetch_optional(executor)
        .await
        .map_err(classify)?
        .map(|row| Row::new(&row, "master_key", "id").bytes("fingerprint"))
        .transpose()
}

fn sealed_key(row: &SqliteRow) -> Result<SealedKey, StoreError> {
    let row = Row::new(row, "signing_key", "id");
    let algorithm: &str = row.get("algorithm")?;
    Ok(SealedKey {
        id: KeyId::from_store(row.get("id")?),
        algorithm: algorithm.parse().map_err(|_| row.corrupt("algorithm"))?,
        sealed: row.get("sealed")?,
        created_at: row.time("created_at")?,
    })
}
