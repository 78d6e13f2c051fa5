//! What the replicas know: the revocation log, and how far each has followed it.

use schemars::JsonSchema;
use serde::Serialize;

use super::values::{Handle, Time};
use super::{Answer, Api, Problem, ok};
use crate::store::{LogEntry, LoggedReason, ReplicaRow, Sequence};

#[derive(Serialize, JsonSchema)]
pub(super) struct Log {
    entries: Vec<Entry>,
    /// For `after`, to read what comes next.
    next_after: u64,
    /// Whether more is there already.
    more: bool,
}

/// One line of the revocation log.
#[derive(Serialize, JsonSchema)]
struct Entry {
    /// Shared by all that one transaction ended.
    sequence: u64,
    /// Null where a user without sessions was revoked, or the keys changed.
    handle: Option<Handle>,
    /// Such as `logout`, `logout-user`, `admin`, `theft`, `replaced`, `app`; `claims` and `keys` ended nothing.
    reason: String,
    /// With the reason `claims`: the least version of the session's claims that is still accepted. Else null.
    claims_version: Option<u32>,
    /// The last access token that it refuses has expired by then.
    expires_at: Time,
}

impl From<&LogEntry> for Entry {
    fn from(entry: &LogEntry) -> Self {
        Self {
            sequence: entry.sequence.as_u64(),
            handle: entry.handle.map(Handle),
            reason: entry.reason.name().to_owned(),
            claims_version: match entry.reason {
                LoggedReason::Claims { version } => Some(version),
                _ => None,
            },
            expires_at: Time(entry.expires),
        }
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Fleet {
    /// The newest sequence of the revocation log.
    head: u64,
    /// The replica that answers.
    replica: String,
    /// For how long it may still trust its memory without another proof.
    lease_remaining_ms: u64,
    /// Sessions that it refuses from memory.
    revocation_set_size: usize,
    /// Streams of sessions that it holds open.
    live_streams: usize,
    replicas: Vec<Replica>,
}

#[derive(Serialize, JsonSchema)]
struct Replica {
    id: String,
    /// It refuses all that was revoked up to here.
    applied: u64,
    /// How many sequences it has not confirmed yet.
    lag: u64,
    /// Counts its renewals: one that stands still belongs to a replica that is gone.
    beat: u64,
    /// For how long it trusts what it read.
    lease_ms: u64,
}

impl Replica {
    fn new(row: &ReplicaRow, head: Sequence) -> Self {
        Self {
            id: row.id.to_string(),
            applied: row.applied.as_u64(),
            lag: head.as_u64().saturating_sub(row.applied.as_u64()),
            beat: row.beat,
            lease_ms: millis(row.lease),
        }
    }
}

impl Api {
    pub(super) async fn read_log(&self, after: Sequence, limit: u32) -> Result<Answer, Problem> {
        let entries = self.store.log_page(after, limit).await?;
        let newest = entries.last().map_or(after, |entry| entry.sequence);
        Ok(ok(&Log {
            more: entries.len() >= limit as usize && newest < self.store.head().await?,
            next_after: newest.as_u64(),
            entries: entries.iter().map(Entry::from).collect(),
        }))
    }

    pub(super) async fn get_fleet(&self) -> Result<Answer, Problem> {
        let rows = self.store.replicas().await?;
        let head = self.store.head().await?;
        let revocations = &self.revocations;
        Ok(ok(&Fleet {
            head: head.as_u64(),
            replica: revocations.replica().to_string(),
            lease_remaining_ms: millis(revocations.lease_remaining()),
            revocation_set_size: revocations.set_len(),
            live_streams: revocations.live_streams(),
            replicas: rows.iter().map(|row| Replica::new(row, head)).collect(),
        }))
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
