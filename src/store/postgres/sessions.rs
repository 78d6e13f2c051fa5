//! Sessions in PostgreSQL.

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Postgres, query};

use super::revocations::share_user;
use super::{PostgresStore, begin_with, classify};
use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::session::{Session, SessionHandle};
use crate::store::RETENTION_MARGIN;
use crate::store::error::StoreError;
use crate::store::records::{
    Liveness, OpenOutcome, RevocationReason, Rotation, Sequence, Shown, TokenUse,
};
use crate::store::rows::{self, column};

impl PostgresStore {
    pub(in crate::store) async fn open_session(
        &self,
        new: &Session,
        known: Sequence,
        replaces: Option<SessionHandle>,
    ) -> Result<OpenOutcome, StoreError> {
        let mut held = self.locking.take().await?;
        let mut transaction = begin_with(&mut held, share_user(&new.user)).await?;
        let overtaken = query("SELECT 1 FROM user_revocation WHERE user_id = $1 AND sequence > $2")
            .bind(new.user.as_str())
            .bind(column(known.as_u64()))
            .fetch_optional(&mut *transaction)
            .await
            .map_err(classify)?
            .is_some();
        if overtaken {
            transaction.rollback().await.map_err(classify)?;
            held.put_back();
            return Ok(OpenOutcome::Overtaken);
        }
        let disabled = query("SELECT 1 FROM disabled_user WHERE user_id = $1")
            .bind(new.user.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(classify)?
            .is_some();
        if disabled {
            transaction.rollback().await.map_err(classify)?;
            held.put_back();
            return Ok(OpenOutcome::Disabled);
        }
        insertion(new)
            .execute(&mut *transaction)
            .await
            .map_err(classify)?;
        let replaced = match replaces {
            Some(handle) => {
                Self::end_sessions(
                    &mut transaction,
                    &[handle],
                    RevocationReason::Replaced,
                    new.created_at,
                )
                .await?
            }
            None => None,
        };
        transaction.commit().await.map_err(classify)?;
        held.put_back();
        if replaced.is_some() {
            self.announcer.announce();
        }
        Ok(OpenOutcome::Opened { replaced })
    }

    pub(in crate::store) async fn session(
        &self,
        handle: SessionHandle,
    ) -> Result<Option<Session>, StoreError> {
        let mut held = self.prompt.take().await?;
        let row = query(
            "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                 refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
             FROM session WHERE handle = $1",
        )
        .bind(handle.as_bytes().as_slice())
        .fetch_optional(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        row.map(|row| rows::session(&row)).transpose()
    }

    pub(in crate::store) async fn liveness(
        &self,
        handle: SessionHandle,
        shown: Option<Shown<'_>>,
        now: Timestamp,
    ) -> Result<Liveness, StoreError> {
        let mut held = self.prompt.take().await?;
        let row = query(
            "SELECT ($3::text IS NULL OR EXISTS (SELECT 1 FROM signing_key WHERE id = $3 AND state <> 'revoked'))::int::bigint AS key_holds,
                 handle, claims_version
             FROM session WHERE handle = $1 AND idle_expires_at > $2 AND expires_at > $2",
        )
        .bind(handle.as_bytes().as_slice())
        .bind(now.as_millis())
        .bind(shown.map(|shown| shown.key.as_str()))
        .fetch_optional(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        rows::liveness(row.as_ref(), shown)
    }

    pub(in crate::store) async fn rotate(&self, rotation: &Rotation) -> Result<bool, StoreError> {
        let mut held = self.locking.take().await?;
        let done = query(
            "UPDATE session
             SET generation = $1, used_at = $2, predecessor_used_at = $3, idle_expires_at = $4, refresh_hash = $5,
                 access_expires_at = GREATEST(access_expires_at, $6), last_seen_at = GREATEST(last_seen_at, $7)
             WHERE handle = $8 AND generation = $9 AND claims_version = $10",
        )
        .bind(i64::from(rotation.to.generation))
        .bind(rotation.to.used_at.map(Timestamp::as_millis))
        .bind(rotation.to.predecessor_used_at.map(Timestamp::as_millis))
        .bind(rotation.to.idle_expires_at.as_millis())
        .bind(rotation.refresh_hash.as_bytes().as_slice())
        .bind(rotation.access_expires_at.as_millis())
        .bind(rotation.now.as_millis())
        .bind(rotation.handle.as_bytes().as_slice())
        .bind(i64::from(rotation.from_generation))
        .bind(i64::from(rotation.claims_version))
        .execute(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn extend(
        &self,
        handle: SessionHandle,
        claims_version: u32,
        access_expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut held = self.locking.take().await?;
        let done = query(
            "UPDATE session
             SET access_expires_at = GREATEST(access_expires_at, $1), last_seen_at = GREATEST(last_seen_at, $2)
             WHERE handle = $3 AND claims_version = $4",
        )
        .bind(access_expires_at.as_millis())
        .bind(now.as_millis())
        .bind(handle.as_bytes().as_slice())
        .bind(i64::from(claims_version))
        .execute(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn note_use(&self, uses: &[TokenUse]) -> Result<(), StoreError> {
        if uses.is_empty() {
            return Ok(());
        }
        let handles: Vec<&[u8]> = uses
            .iter()
            .map(|token| token.handle.as_bytes().as_slice())
            .collect();
        let generations: Vec<i64> = uses.iter().map(|token| token.generation.into()).collect();
        let times: Vec<i64> = uses.iter().map(|token| token.at.as_millis()).collect();
        let mut held = self.locking.take().await?;
        query(
            "WITH used AS (
                 SELECT DISTINCT ON (handle, generation) handle, generation, at
                 FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS used (handle, generation, at, place)
                 ORDER BY handle, generation, place),
             found AS (
                 SELECT session.handle FROM session JOIN used USING (handle, generation)
                 WHERE session.used_at IS NULL ORDER BY session.handle FOR UPDATE OF session)
             UPDATE session SET used_at = used.at FROM used, found
             WHERE session.handle = found.handle AND used.handle = found.handle
               AND session.generation = used.generation AND session.used_at IS NULL",
        )
        .bind(handles)
        .bind(generations)
        .bind(times)
        .execute(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        Ok(())
    }

    pub(in crate::store) async fn sessions_of_user(
        &self,
        user: &UserId,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let mut held = self.prompt.take().await?;
        let rows = query(
            "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                 refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
             FROM session WHERE user_id = $1 AND handle > $2 ORDER BY handle LIMIT $3",
        )
        .bind(user.as_str())
        .bind(bytes_after(after.as_ref()))
        .bind(i64::from(limit))
        .fetch_all(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        rows.iter().map(rows::session).collect()
    }

    pub(in crate::store) async fn all_sessions(
        &self,
        after: Option<SessionHandle>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let mut held = self.prompt.take().await?;
        let rows = query(
            "SELECT handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at, expires_at,
                 refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent
             FROM session WHERE handle > $1 ORDER BY handle LIMIT $2",
        )
        .bind(bytes_after(after.as_ref()))
        .bind(i64::from(limit))
        .fetch_all(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        rows.iter().map(rows::session).collect()
    }

    pub(in crate::store) async fn replace_data(
        &self,
        handle: SessionHandle,
        data: &str,
    ) -> Result<bool, StoreError> {
        let mut held = self.locking.take().await?;
        let done = query("UPDATE session SET data = $1 WHERE handle = $2")
            .bind(data)
            .bind(handle.as_bytes().as_slice())
            .execute(&mut *held)
            .await
            .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected() == 1)
    }

    pub(in crate::store) async fn remove_expired(
        &self,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut held = self.locking.take().await?;
        let done = query(
            "DELETE FROM session WHERE handle IN
                 (SELECT handle FROM session WHERE idle_expires_at <= $1 AND access_expires_at <= $2
                  ORDER BY idle_expires_at LIMIT $3 FOR UPDATE SKIP LOCKED)",
        )
        .bind(now.as_millis())
        // While an access token of it is accepted somewhere, a logout must find the session.
        .bind((now - RETENTION_MARGIN).as_millis())
        .bind(i64::from(limit))
        .execute(&mut *held)
        .await
        .map_err(classify)?;
        held.put_back();
        Ok(done.rows_affected())
    }
}

/// What every handle after this one is greater than; all of them are greater than nothing.
fn bytes_after(handle: Option<&SessionHandle>) -> &[u8] {
    handle.map_or(&[], |handle| handle.as_bytes().as_slice())
}

/// Of the session as it is.
pub(super) fn insertion(new: &Session) -> Query<'_, Postgres, PgArguments> {
    query(
            "INSERT INTO session (handle, user_id, secret, generation, used_at, predecessor_used_at, idle_expires_at,
                 expires_at, refresh_hash, claims, claims_version, data, created_at, last_seen_at, access_expires_at, address, user_agent)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        )
        .bind(new.handle.as_bytes().as_slice())
        .bind(new.user.as_str())
        .bind(new.secret.expose().as_slice())
        .bind(i64::from(new.lineage.generation))
        .bind(new.lineage.used_at.map(Timestamp::as_millis))
        .bind(new.lineage.predecessor_used_at.map(Timestamp::as_millis))
        .bind(new.lineage.idle_expires_at.as_millis())
        .bind(new.lineage.expires_at.as_millis())
        .bind(new.refresh_hash.as_bytes().as_slice())
        .bind(&new.claims)
        .bind(i64::from(new.claims_version))
        .bind(&new.data)
        .bind(new.created_at.as_millis())
        .bind(new.last_seen_at.as_millis())
        .bind(new.access_expires_at.as_millis())
        .bind(&new.device.address)
        .bind(&new.device.user_agent)
}
