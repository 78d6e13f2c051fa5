//! `portcullis sessions move`: from one store to another, without logging anybody out.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::Exit;
use crate::store::{Moved, ReplicaId, SessionStore, StoreLocation, StoreSettings};

#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The store that the sessions are in; no gateway may run on it.
    #[arg(long, value_name = "URL", value_parser = location)]
    from: StoreLocation,
    /// The store that they go to; nobody may have used it.
    #[arg(long, value_name = "URL", value_parser = location)]
    to: StoreLocation,
}

pub fn run(args: &MoveArgs, as_json: bool) -> anyhow::Result<Exit> {
    if let StoreLocation::Sqlite(path) = &args.from
        && !Path::exists(path)
    {
        bail!("there is no session store at {}", path.display());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    runtime.block_on(async {
        let source = open(&args.from).await?;
        let target = open(&args.to).await?;
        let moved = take_over(&source, &target).await;
        target.close().await;
        source.close().await;
        tell(args, &moved?, as_json)
    })
}

/// The text is not repeated: it may hold a password.
fn location(text: &str) -> Result<StoreLocation, String> {
    StoreLocation::parse(text).map_err(|expected| format!("not a store URL: expected {expected}"))
}

async fn open(location: &StoreLocation) -> anyhow::Result<SessionStore> {
    let store = SessionStore::open_at(location, StoreSettings::default()).await;
    store.with_context(|| format!("cannot open the session store {location}"))
}

async fn take_over(source: &SessionStore, target: &SessionStore) -> anyhow::Result<Moved> {
    let Some(fingerprint) = source.master_key_fingerprint().await? else {
        bail!("there is nothing to move: no gateway has used the store yet");
    };
    if let Some(other) = target.master_key_fingerprint().await?
        && other != fingerprint
    {
        bail!("the store to move to belongs to another master key: name one that nobody has used");
    }
    let before = nobody_works_on(source).await?;
    let moved = target.take_over(source, fingerprint).await?;
    if beats(source).await? != before {
        bail!(
            "a gateway has begun to work on the store while it was moved, and what it wrote may be missing: stop it, make the target empty, and move again"
        );
    }
    Ok(moved)
}

/// Rows of replicas that died stay; those of replicas that live change.
async fn nobody_works_on(source: &SessionStore) -> anyhow::Result<HashMap<ReplicaId, u64>> {
    let rows = source.replicas().await?;
    let lease = rows.iter().map(|row| row.lease).max().unwrap_or_default();
    let before = beats(source).await?;
    if !rows.is_empty() {
        tokio::time::sleep(lease + Duration::from_millis(100)).await;
    }
    if beats(source).await? != before {
        bail!(
            "a gateway works on the store to move from: stop it first, so that nothing is left behind"
        );
    }
    Ok(before)
}

async fn beats(store: &SessionStore) -> anyhow::Result<HashMap<ReplicaId, u64>> {
    let rows = store.replicas().await?;
    Ok(rows.iter().map(|row| (row.id, row.beat)).collect())
}

fn tell(args: &MoveArgs, moved: &Moved, as_json: bool) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    if as_json {
        let moved = json!({
            "sessions": moved.sessions,
            "revocations": moved.revocations,
            "keys": moved.keys,
            "disabled_users": moved.disabled_users,
            "sequence": moved.sequence.as_u64(),
        });
        writeln!(out, "{moved}")?;
        return Ok(Exit::Success);
    }
    writeln!(
        out,
        "moved {} sessions, {} revocations, {} signing keys and {} disabled users to {}",
        moved.sessions, moved.revocations, moved.keys, moved.disabled_users, args.to
    )?;
    writeln!(
        out,
        "gateways on it need the master key that they had; {} is as it was, and is not to be used any more",
        args.from
    )?;
    Ok(Exit::Success)
}
