//! Rows as the types that they stand for, whichever database they come from; what does not parse names its place.
//!
//! The databases differ in statements, locks and errors. Once a row is read they do not: the columns have the same names and
//! hold numbers, texts or bytes.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::identity::UserId;
use crate::secret::Secret;
use crate::session::{
    Device, KeyId, KeyState, Lineage, RefreshHash, SealedKey, Session, SessionHandle, StoredKey,
};
use crate::store::error::StoreError;
use crate::store::records::{
    DisabledUser, Ended, FoundKey, Liveness, LogEntry, LogRead, LoggedReason, Mark, ReplicaId,
    ReplicaRow, Sequence, Shown, UserRevocation,
};

/// A row as a driver gives it. `None` is a null; an error, a value of another type.
pub(super) trait Columns: Sync {
    fn number(&self, column: &str) -> Result<Option<i64>, sqlx::Error>;
    fn text(&self, column: &str) -> Result<Option<&str>, sqlx::Error>;
    fn bytes(&self, column: &str) -> Result<Option<&[u8]>, sqlx::Error>;
}

/// A row of a table, with what names it in an error.
pub(super) struct Row<'r> {
    row: &'r dyn Columns,
    table: &'static str,
    key: &'static str,
}

impl<'r> Row<'r> {
    /// `key` is the column whose value names the row.
    pub(super) fn new(row: &'r dyn Columns, table: &'static str, key: &'static str) -> Self {
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
        let text = row.text(key).map(|text| text.map(str::to_owned));
        text.or_else(|_| row.number(key).map(|number| Some(number?.to_string())))
            .or_else(|_| row.bytes(key).map(|bytes| bytes.map(hex)))
            .ok()
            .flatten()
            .unwrap_or_else(|| "unknown".to_owned())
    }

    pub(super) fn text(&self, column: &'static str) -> Result<&'r str, StoreError> {
        let text = self.row.text(column).ok().flatten();
        text.ok_or_else(|| self.corrupt(column))
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<&'r [u8], StoreError> {
        let bytes = self.row.bytes(column).ok().flatten();
        bytes.ok_or_else(|| self.corrupt(column))
    }

    pub(super) fn array<const N: usize>(
        &self,
        column: &'static str,
    ) -> Result<[u8; N], StoreError> {
        self.bytes(column)?
            .try_into()
            .map_err(|_| self.corrupt(column))
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StoreError> {
        let number = self.row.number(column).ok().flatten();
        number
            .and_then(|number| number.try_into().ok())
            .ok_or_else(|| self.corrupt(column))
    }

    /// A truth as a number.
    pub(super) fn flag(&self, column: &'static str) -> Result<bool, StoreError> {
        self.number::<i64>(column).map(|number| number != 0)
    }

    pub(super) fn time(&self, column: &'static str) -> Result<Timestamp, StoreError> {
        self.number(column).map(Timestamp::from_millis)
    }

    pub(super) fn time_if_any(
        &self,
        column: &'static str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let number = self.row.number(column).map_err(|_| self.corrupt(column))?;
        Ok(number.map(Timestamp::from_millis))
    }

    pub(super) fn handle(&self, column: &'static str) -> Result<SessionHandle, StoreError> {
        self.array(column).map(SessionHandle::from_bytes)
    }

    pub(super) fn sequence(&self, column: &'static str) -> Result<Sequence, StoreError> {
        self.number(column).map(Sequence::new)
    }
}

pub(super) fn session(row: &impl Columns) -> Result<Session, StoreError> {
    let row = Row::new(row, "session", "handle");
    Ok(Session {
        handle: row.handle("handle")?,
        user: UserId::parse(row.text("user_id")?).map_err(|_| row.corrupt("user_id"))?,
        secret: Secret::new(row.array("secret")?),
        lineage: Lineage {
            generation: row.number("generation")?,
            used_at: row.time_if_any("used_at")?,
            predecessor_used_at: row.time_if_any("predecessor_used_at")?,
            idle_expires_at: row.time("idle_expires_at")?,
            expires_at: row.time("expires_at")?,
        },
        refresh_hash: RefreshHash::from_bytes(row.array("refresh_hash")?),
        claims: row.text("claims")?.to_owned(),
        claims_version: row.number("claims_version")?,
        data: row.text("data")?.to_owned(),
        created_at: row.time("created_at")?,
        last_seen_at: row.time("last_seen_at")?,
        access_expires_at: row.time("access_expires_at")?,
        device: Device {
            address: row.text("address")?.to_owned(),
            user_agent: row.text("user_agent")?.to_owned(),
        },
    })
}

/// Of a row with `handle`, `key_holds` and `claims_version`, if the session is there and has not ended by itself.
pub(super) fn liveness(
    row: Option<&impl Columns>,
    shown: Option<Shown<'_>>,
) -> Result<Liveness, StoreError> {
    let Some(row) = row else {
        return Ok(Liveness::Over);
    };
    let row = Row::new(row, "session", "handle");
    let newest: u32 = row.number("claims_version")?;
    Ok(if !row.flag("key_holds")? {
        Liveness::KeyDropped
    } else if shown.is_some_and(|shown| shown.claims_version < newest) {
        Liveness::Outdated
    } else {
        Liveness::Live
    })
}

/// Its entry stays for the margin at least, so that open streams of a session whose access token is long expired are cut.
pub(super) fn ended_session(row: &impl Columns, now: Timestamp) -> Result<Ended, StoreError> {
    let row = Row::new(row, "session", "handle");
    Ok(Ended {
        handle: row.handle("handle")?,
        expires: row.time("access_expires_at")?.max(now),
    })
}

/// Of the rows after `applied`, and one of `applied` itself for its mark.
pub(super) fn log_read(rows: &[impl Columns], applied: Sequence) -> Result<LogRead, StoreError> {
    let mut read = LogRead {
        entries: Vec::with_capacity(rows.len()),
        mark: None,
    };
    for row in rows {
        let row = Row::new(row, "revocation", "sequence");
        if row.sequence("sequence")? == applied {
            read.mark = Some(Mark::from_bytes(row.array("mark")?));
        } else {
            read.entries.push(entry(&row)?);
        }
    }
    Ok(read)
}

pub(super) fn log_entry(row: &impl Columns) -> Result<LogEntry, StoreError> {
    entry(&Row::new(row, "revocation", "sequence"))
}

fn entry(row: &Row<'_>) -> Result<LogEntry, StoreError> {
    let handle = match row.bytes("handle")? {
        [] => None,
        _ => Some(row.handle("handle")?),
    };
    let reason = row.text("reason")?;
    let reason = if reason == LoggedReason::CLAIMS {
        LoggedReason::Claims {
            version: row.number("claims_version")?,
        }
    } else {
        LoggedReason::from_text(reason.to_owned())
    };
    Ok(LogEntry {
        sequence: row.sequence("sequence")?,
        handle,
        reason,
        expires: row.time("expires")?,
        mark: Mark::from_bytes(row.array("mark")?),
    })
}

/// Of the head's only row.
pub(super) fn head(row: Option<&impl Columns>) -> Result<Sequence, StoreError> {
    let row = row.ok_or_else(missing_head)?;
    Row::new(row, "revocation_head", "sequence").sequence("sequence")
}

pub(super) fn missing_head() -> StoreError {
    StoreError::Corrupt {
        table: "revocation_head",
        column: "sequence",
        key: "1".to_owned(),
    }
}

pub(super) fn replica(row: &impl Columns) -> Result<ReplicaRow, StoreError> {
    let row = Row::new(row, "replica", "id");
    Ok(ReplicaRow {
        id: ReplicaId::from_bytes(row.array("id")?),
        beat: row.number("beat")?,
        applied: row.sequence("applied")?,
        lease: Duration::from_millis(row.number("lease_ms")?),
    })
}

pub(super) fn user_revocation(row: &impl Columns) -> Result<UserRevocation, StoreError> {
    let row = Row::new(row, "user_revocation", "user_id");
    Ok(UserRevocation {
        user: UserId::parse(row.text("user_id")?).map_err(|_| row.corrupt("user_id"))?,
        sequence: row.sequence("sequence")?,
        at: row.time("revoked_at")?,
    })
}

pub(super) fn disabled_user(row: &impl Columns) -> Result<DisabledUser, StoreError> {
    let row = Row::new(row, "disabled_user", "user_id");
    Ok(DisabledUser {
        user: UserId::parse(row.text("user_id")?).map_err(|_| row.corrupt("user_id"))?,
        since: row.time("disabled_at")?,
    })
}

/// The columns in which a key's state is kept: its name, `verifies_until` and `revoked_at`.
pub(super) fn key_state(state: KeyState) -> (&'static str, Option<i64>, Option<i64>) {
    match state {
        KeyState::Published => ("published", None, None),
        KeyState::Signing => ("signing", None, None),
        KeyState::Verifying { until } => ("verifying", Some(until.as_millis()), None),
        KeyState::Revoked { at } => ("revoked", None, Some(at.as_millis())),
    }
}

pub(super) fn fingerprint(row: &impl Columns) -> Result<[u8; 16], StoreError> {
    Row::new(row, "master_key", "id").array("fingerprint")
}

pub(super) fn found_key(row: Option<&impl Columns>) -> Result<FoundKey, StoreError> {
    let Some(row) = row else {
        return Ok(FoundKey::None);
    };
    Ok(match Row::new(row, "signing_key", "id").text("state")? {
        "signing" => FoundKey::Signing,
        "revoked" => FoundKey::Revoked,
        _ => FoundKey::Other,
    })
}

pub(super) fn stored_key(row: &impl Columns) -> Result<StoredKey, StoreError> {
    let row = Row::new(row, "signing_key", "id");
    let until = row.time_if_any("verifies_until")?;
    let revoked_at = row.time_if_any("revoked_at")?;
    let state = match (row.text("state")?, until, revoked_at) {
        ("published", None, None) => KeyState::Published,
        ("signing", None, None) => KeyState::Signing,
        ("verifying", Some(until), None) => KeyState::Verifying { until },
        ("revoked", None, Some(at)) => KeyState::Revoked { at },
        _ => return Err(row.corrupt("state")),
    };
    let algorithm = row.text("algorithm")?;
    Ok(StoredKey {
        key: SealedKey {
            id: KeyId::from_store(row.text("id")?),
            algorithm: algorithm.parse().map_err(|_| row.corrupt("algorithm"))?,
            sealed: row.bytes("sealed")?.to_vec(),
            created_at: row.time("created_at")?,
        },
        state,
    })
}

/// For binding: no number of ours comes near the limit of the column, and one that does must not wrap.
pub(super) fn column(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
