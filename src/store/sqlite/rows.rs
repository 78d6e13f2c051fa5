//! Rows as the types that they stand for; what does not parse names its place.

use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row as _, Type};

use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::secret::Secret;
use crate::session::{Device, Lineage, RefreshHash, Session, SessionHandle};
use crate::store::error::StoreError;
use crate::store::records::Sequence;

/// A row of a table, with what names it in an error.
pub(super) struct Row<'r> {
    row: &'r SqliteRow,
    table: &'static str,
    key: &'static str,
}

impl<'r> Row<'r> {
    /// `key` is the column whose value names the row.
    pub(super) fn new(row: &'r SqliteRow, table: &'static str, key: &'static str) -> Self {
        Self { row, table, key }
    }

    pub(super) fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt {
            table: self.table,
            column,
            key: self.key_as_text(),
        }
    }

    /// A number or a text as it is, bytes in hexadecimal.
    fn key_as_text(&self) -> String {
        let (row, key) = (self.row, self.key);
        row.try_get::<String, _>(key)
            .or_else(|_| row.try_get::<i64, _>(key).map(|number| number.to_string()))
            .or_else(|_| row.try_get::<Vec<u8>, _>(key).map(|bytes| hex(&bytes)))
            .unwrap_or_else(|_| "unknown".to_owned())
    }

    pub(super) fn get<T: Decode<'r, Sqlite> + Type<Sqlite>>(
        &self,
        column: &'static str,
    ) -> Result<T, StoreError> {
        self.row.try_get(column).map_err(|_| self.corrupt(column))
    }

    pub(super) fn bytes<const N: usize>(
        &self,
        column: &'static str,
    ) -> Result<[u8; N], StoreError> {
        self.get::<&[u8]>(column)?
            .try_into()
            .map_err(|_| self.corrupt(column))
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        self.get::<i64>(column)?
            .try_into()
            .map_err(|_| self.corrupt(column))
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.get(column).map(Timestamp::from_millis)
    }

    pub(super) fn time_if_any(
        &self,
        column: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_millis))
    }

    pub(super) fn handle(&self, column: &'static str) -> Result<SessionHandle, StoreError> {
        self.bytes(column).map(SessionHandle::from_bytes)
    }

    pub(super) fn sequence(&self, column: &'static str) -> Result<Sequence, StoreError> {
        self.number(column).map(Sequence::new)
    }
}

pub(super) fn session(row: &SqliteRow) -> Result<Session, StoreError> {
    let row = Row::new(row, "session", "handle");
    Ok(Session {
        handle: row.handle("handle")?,
        user: UserId::parse(row.get("user_id")?).map_err(|_| row.corrupt("user_id"))?,
        secret: Secret::new(row.bytes("secret")?),
        lineage: Lineage {
            generation: row.number("generation")?,
            used_at: row.time_if_any("used_at")?,
            predecessor_used_at: row.time_if_any("predecessor_used_at")?,
            idle_expires_at: row.time("idle_expires_at")?,
            expires_at: row.time("expires_at")?,
        },
        refresh_hash: RefreshHash::from_bytes(row.bytes("refresh_hash")?),
        claims: row.get("claims")?,
        claims_version: row.number("claims_version")?,
        data: row.get("data")?,
        created_at: row.time("created_at")?,
        last_seen_at: row.time("last_seen_at")?,
        access_expires_at: row.time("access_expires_at")?,
        device: Device {
            address: row.get("address")?,
            user_agent: row.get("user_agent")?,
        },
    })
}

/// For binding: no number of ours comes near the limit of the column, and one that does must not wrap.
pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
