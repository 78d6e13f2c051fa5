//! `portcullis migrate`: brings the tables of the store up to date, as the gateway itself does when it starts.

use anyhow::Context;
use clap::Args;

use super::{Exit, desk, refuse};
use crate::store::SessionStore;

#[derive(Debug, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    place: desk::PlaceArgs,
    /// Say what would be changed, and change nothing.
    #[arg(long)]
    plan: bool,
}

#[expect(
    clippy::print_stdout,
    reason = "the answer of a command, for the person who ran it"
)]
pub fn run(args: MigrateArgs) -> anyhow::Result<Exit> {
    let config = match args.place.load() {
        Ok(config) => config,
        Err(errors) => return Ok(refuse(&errors)),
    };
    let location = &config.store.location;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let (migrations, done) = runtime
        .block_on(async {
            Ok::<_, crate::store::StoreError>(match args.plan {
                true => (
                    SessionStore::pending_migrations(location).await?,
                    "would apply",
                ),
                false => (SessionStore::migrate(location).await?, "applied"),
            })
        })
        .with_context(|| format!("cannot migrate the session store {location}"))?;
    for migration in &migrations {
        println!("{done} {migration}");
    }
    if migrations.is_empty() {
        println!("the tables of {location} are up to date");
    }
    Ok(Exit::Success)
}
