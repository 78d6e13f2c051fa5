//! `portcullis fleet`: the replicas on the gateway's store, and how far each has followed the revocation log.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::Exit;
use super::desk::{Desk, DeskArgs};
use crate::store::{ReplicaRow, Sequence};

#[derive(Debug, Args)]
pub struct FleetArgs {
    #[command(flatten)]
    desk: DeskArgs,
}

/// Fails if a replica does not renew its lease: it is gone or cut off, and logouts wait for it.
pub fn run(args: FleetArgs) -> anyhow::Result<Exit> {
    args.desk.serve(async |desk| {
        let before = desk.store.replicas().await?;
        let (replicas, head) = watch(desk, &before).await?;
        print(desk.json, head, &replicas)?;
        Ok(match replicas.iter().all(|replica| replica.renews) {
            true => Exit::Success,
            false => Exit::Failure,
        })
    })
}

struct Replica {
    row: ReplicaRow,
    /// Whether it has renewed its lease while we looked.
    renews: bool,
}

/// Looks until each replica has renewed its lease, or has let it run out. Replicas renew three times in a lease, and their
/// clocks are none of ours: that the beat moves is all that can be seen from here.
async fn watch(desk: &Desk, before: &[ReplicaRow]) -> anyhow::Result<(Vec<Replica>, Sequence)> {
    let started = desk.clock.boot();
    loop {
        let head = desk.store.head().await?;
        let rows = desk.store.replicas().await?;
        let passed = desk.clock.boot().since(started);
        let replicas: Vec<Replica> = rows.into_iter().map(|row| seen(row, before)).collect();
        let is_decided = |replica: &Replica| replica.renews || passed > replica.row.lease;
        if replicas.iter().all(is_decided) {
            return Ok((replicas, head));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn seen(row: ReplicaRow, before: &[ReplicaRow]) -> Replica {
    let is_as_before = before
        .iter()
        .any(|other| other.id == row.id && other.beat == row.beat);
    Replica {
        row,
        renews: !is_as_before,
    }
}

fn print(as_json: bool, head: Sequence, replicas: &[Replica]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !as_json {
        writeln!(out, "newest sequence of the revocation log: {head}")?;
        writeln!(
            out,
            "{:22}  {:>12}  {:>6}  {:>9}  lease",
            "replica", "applied", "lag", "lease"
        )?;
    }
    for Replica { row, renews } in replicas {
        let lag = head.as_u64().saturating_sub(row.applied.as_u64());
        let lease_ms = u64::try_from(row.lease.as_millis()).unwrap_or(u64::MAX);
        let (id, applied) = (row.id.to_string(), row.applied.as_u64());
        if as_json {
            let line = json!({
                "replica": id, "head": head.as_u64(), "applied": applied, "lag": lag, "beat": row.beat, "lease_ms": lease_ms,
                "renews": renews,
            });
            writeln!(out, "{line}")?;
            continue;
        }
        let state = if *renews { "renewed" } else { "not renewed" };
        writeln!(
            out,
            "{id:22}  {applied:>12}  {lag:>6}  {lease_ms:>6} ms  {state}"
        )?;
    }
    Ok(())
}

const LOOK_EVERY: Duration = Duration::from_millis(50);
