//! Another store's content, taken over by a MySQL database, and what only a move reads.

use sqlx::query;

use super::MySqlStore;
use super::sessions::insertion;
use super::transaction::Transaction;
use crate::identity::UserId;
use crate::session::StoredKey;
use crate::store::error::StoreError;
use crate::store::records::{DisabledUser, Moved, UserRevocation};
use crate::store::rows::{self, Row, column};
use crate::store::{MOVED_AT_ONCE, SessionStore};

impl MySqlStore {
    pub(in crate::store) async fn user_revocations(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<UserRevocation>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_all(
                query(
                    "SELECT user_id, sequence, revoked_at FROM user_revocation WHERE user_id > ? AND sequence > 0 ORDER BY user_id LIMIT ?",
                )
                .bind(after.map_or("", UserId::as_str).as_bytes())
                .bind(limit),
            )
            .await?
            .iter()
            .map(rows::user_revocation)
            .collect()
    }

    pub(in crate::store) async fn disabled_users(
        &self,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<DisabledUser>, StoreError> {
        self.sessions
            .get()
            .await?
            .fetch_all(
                query(
                    "SELECT user_id, disabled_at FROM disabled_user WHERE user_id > ? ORDER BY user_id LIMIT ?",
                )
                .bind(after.map_or("", UserId::as_str).as_bytes())
                .bind(limit),
            )
            .await?
            .iter()
            .map(rows::disabled_user)
            .collect()
    }

    /// In one transaction.
    pub(in crate::store) async fn take_over(
        &self,
        source: &SessionStore,
        fingerprint: [u8; 16],
    ) -> Result<Moved, StoreError> {
        let mut transaction = Transaction::begin(&self.transactions).await?;
        let used = transaction
            .fetch_optional(query(
                "SELECT EXISTS (SELECT 1 FROM master_key) OR EXISTS (SELECT 1 FROM session) OR EXISTS (SELECT 1 FROM signing_key)
                     OR EXISTS (SELECT 1 FROM disabled_user) OR EXISTS (SELECT 1 FROM replica)
                     OR EXISTS (SELECT 1 FROM revocation WHERE sequence > 0) AS used",
            ))
            .await?;
        if let Some(used) = used
            && Row::new(&used, "master_key", "used").flag("used")?
        {
            transaction.roll_back().await?;
            return Err(StoreError::NotEmpty);
        }
        let mut moved = Moved::default();
        let mut after = None;
        loop {
            let page = source.all_sessions(after, MOVED_AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.handle);
            for session in &page {
                transaction.copy(insertion(session)).await?;
            }
            moved.sessions += page.len() as u64;
        }
        loop {
            let page = source.log_page(moved.sequence, MOVED_AT_ONCE).await?;
            let Some(last) = page.last() else { break };
            moved.sequence = last.sequence;
            for entry in &page {
                transaction.copy(query(
                        "INSERT INTO revocation (sequence, handle, reason, expires, mark, claims_version) VALUES (?, ?, ?, ?, ?, ?)",
                    )
                    .bind(column(entry.sequence.as_u64()))
                    .bind(entry.handle.as_ref().map_or(&[][..], |handle| handle.as_bytes()))
                    .bind(entry.reason.name())
                    .bind(entry.expires.as_millis())
                    .bind(entry.mark.as_bytes().as_slice())
                    .bind(entry.reason.claims_version())).await?;
            }
            moved.revocations += page.len() as u64;
        }
        let mut after = None;
        loop {
            let page = source
                .user_revocations(after.as_ref(), MOVED_AT_ONCE)
                .await?;
            for revocation in &page {
                transaction.copy(query("INSERT INTO user_revocation (user_id, sequence, revoked_at) VALUES (?, ?, ?)")
                        .bind(revocation.user.as_str().as_bytes())
                        .bind(column(revocation.sequence.as_u64()))
                        .bind(revocation.at.as_millis())).await?;
            }
            let Some(last) = page.last() else { break };
            after = Some(last.user.clone());
        }
        let mut after = None;
        loop {
            let page = source.disabled_users(after.as_ref(), MOVED_AT_ONCE).await?;
            for disabled in &page {
                transaction
                    .copy(
                        query("INSERT INTO disabled_user (user_id, disabled_at) VALUES (?, ?)")
                            .bind(disabled.user.as_str().as_bytes())
                            .bind(disabled.since.as_millis()),
                    )
                    .await?;
            }
            let Some(last) = page.last() else { break };
            moved.disabled_users += page.len() as u64;
            after = Some(last.user.clone());
        }
        for StoredKey { key, state } in source.signing_keys().await? {
            let (state, verifies_until, revoked_at) = rows::key_state(state);
            transaction.copy(query(
                    "INSERT INTO signing_key (id, algorithm, sealed, created_at, state, verifies_until, revoked_at)
                     VALUES (?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(key.id.as_str())
                .bind(key.algorithm.name())
                .bind(key.sealed.as_slice())
                .bind(key.created_at.as_millis())
                .bind(state)
                .bind(verifies_until)
                .bind(revoked_at)).await?;
            moved.keys += 1;
        }
        transaction
            .copy(
                query("UPDATE revocation_head SET sequence = ? WHERE id = 1")
                    .bind(column(moved.sequence.as_u64())),
            )
            .await?;
        transaction
            .copy(
                query("INSERT INTO master_key (id, fingerprint) VALUES (1, ?)")
                    .bind(fingerprint.as_slice()),
            )
            .await?;
        transaction.commit().await?;
        Ok(moved)
    }
}
