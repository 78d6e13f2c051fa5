//! `portcullis keys`: the signing keys in the gateway's store, while it runs.

use std::io::{self, Write};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Exit;
use super::desk::{Desk, DeskArgs};
use crate::gateway::key_keeper::PUBLISH_FOR;
use crate::keys::SigningKeys;
use crate::session::{KeyId, KeyStanding, KeyState};
use crate::store::FoundKey;

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    desk: DeskArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List the signing keys, newest first.
    List,
    /// Publish a successor of the signing key; the gateway signs with it two minutes later.
    Rotate,
    /// Refuse a key and every token that it signed; returns when no replica accepts them any more. Sessions live on: their
    /// refresh tokens give tokens of another key.
    Revoke {
        /// Its kid, as listed.
        kid: String,
    },
}

pub fn run(args: KeysArgs) -> anyhow::Result<Exit> {
    args.desk.serve(async |desk| match args.command {
        KeysCommand::List => list(desk).await,
        KeysCommand::Rotate => rotate(desk).await,
        KeysCommand::Revoke { kid } => revoke(desk, &KeyId::from_store(&kid)).await,
    })
}

/// Needs no master key: nothing is opened.
async fn list(desk: &Desk) -> anyhow::Result<Exit> {
    let stored = desk.store.signing_keys().await?;
    let mut out = io::stdout().lock();
    if !desk.json {
        writeln!(
            out,
            "{:12}  {:9}  {:9}  {:20}  until",
            "kid", "algorithm", "state", "created"
        )?;
    }
    for key in stored.iter().map(KeyStanding::from) {
        print_line(&mut out, desk.json, &key)?;
    }
    Ok(Exit::Success)
}

fn print_line(out: &mut impl Write, json: bool, key: &KeyStanding) -> io::Result<()> {
    let (until, revoked_at) = match key.state {
        KeyState::Verifying { until } => (Some(until.to_string()), None),
        KeyState::Revoked { at } => (None, Some(at.to_string())),
        KeyState::Published | KeyState::Signing => (None, None),
    };
    let KeyStanding {
        id,
        algorithm,
        created_at,
        state,
    } = key;
    let (algorithm, state) = (algorithm.name(), state.name());
    if json {
        let line = json!({
            "kid": id.as_str(),
            "algorithm": algorithm,
            "state": state,
            "created_at": created_at.to_string(),
            "verifies_until": until,
            "revoked_at": revoked_at,
        });
        return writeln!(out, "{line}");
    }
    let until = until.or(revoked_at).unwrap_or_else(|| "-".to_owned());
    let id = id.as_str();
    writeln!(
        out,
        "{id:12}  {algorithm:9}  {state:9}  {created_at:20}  {until}"
    )
}

/// A second try finds the successor of the first, and that is no failure.
async fn rotate(desk: &Desk) -> anyhow::Result<Exit> {
    let issuer = desk.issuer().await?;
    let keys = issuer.keys();
    let published_now = keys.publish_successor().await?;
    if let Some(sequence) = published_now {
        let revocations = desk.revocations();
        let known = revocations.acknowledge_keys(sequence);
        desk.acknowledged(&revocations, known).await?;
    }
    let Some(next) = standing(keys, KeyState::Published) else {
        bail!("another key was published meanwhile and signs already: see `portcullis keys list`");
    };
    let signs_from = next.created_at + PUBLISH_FOR;
    let mut out = io::stdout().lock();
    if desk.json {
        let line = json!({
            "kid": next.id.as_str(),
            "algorithm": next.algorithm.name(),
            "published_now": published_now.is_some(),
            "signs_from": signs_from.to_string(),
        });
        writeln!(out, "{line}")?;
        return Ok(Exit::Success);
    }
    let how = match published_now {
        Some(_) => "published",
        None => "was published before:",
    };
    writeln!(
        out,
        "{how} {} ({}); the gateway signs with it from {signs_from} on",
        next.id,
        next.algorithm.name()
    )?;
    Ok(Exit::Success)
}

/// Revoking what was revoked before is no failure either, and waits as well: the first may not have waited.
async fn revoke(desk: &Desk, id: &KeyId) -> anyhow::Result<Exit> {
    let issuer = desk.issuer().await?;
    let keys = issuer.keys();
    let revoked = keys.revoke(id).await?;
    if revoked.found == FoundKey::None {
        bail!("there is no signing key {id}: see `portcullis keys list`");
    }
    let revocations = desk.revocations();
    let refused = revocations.acknowledge_keys(revoked.sequence);
    desk.acknowledged(&revocations, refused).await?;
    let loaded = keys.loaded();
    let signs = loaded.ring.signing_key().id();
    let mut out = io::stdout().lock();
    if desk.json {
        let line = json!({
            "kid": id.as_str(),
            "revoked_now": revoked.found != FoundKey::Revoked,
            "signs": signs.as_str(),
            "sequence": revoked.sequence.as_u64(),
        });
        writeln!(out, "{line}")?;
        return Ok(Exit::Success);
    }
    let before = match revoked.found {
        FoundKey::Revoked => " before",
        _ => "",
    };
    writeln!(
        out,
        "{id} was revoked{before}; no replica accepts its tokens, and {signs} signs"
    )?;
    Ok(Exit::Success)
}

fn standing(keys: &SigningKeys, state: KeyState) -> Option<KeyStanding> {
    let loaded = keys.loaded();
    let found = loaded.standings.iter().find(|key| key.state == state);
    found.cloned()
}
