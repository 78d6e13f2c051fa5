//! What the commands share that work on a gateway's store while it runs.
//!
//! Whatever they end goes by the same protocol as if a replica had ended it: it is written, and then waited for until every
//! replica has confirmed it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use super::{Exit, refuse};
use crate::clock::Clock;
use crate::config::{Config, ConfigErrors, QuickFlags};
use crate::gateway::{assemble, master_key, open_store};
use crate::issuer::Issuer;
use crate::revocation::Revocations;
use crate::store::{SessionStore, StoreLocation};

/// Which store, and how to answer.
#[derive(Debug, Args)]
pub struct DeskArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print JSON, one object per line.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Where the store is.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// The configuration file of the gateway.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    /// The gateway's store, if it runs without a file [default: sqlite:portcullis.db].
    #[arg(long, global = true, conflicts_with = "config")]
    store: Option<String>,
}

/// Serves one command.
pub struct Desk {
    pub config: Config,
    pub store: SessionStore,
    pub clock: Clock,
    pub json: bool,
}

impl DeskArgs {
    /// Opens the store, serves the command, closes the store. A store that is not there is not made.
    pub fn serve(
        self,
        command: impl AsyncFnOnce(&Desk) -> anyhow::Result<Exit>,
    ) -> anyhow::Result<Exit> {
        let config = match self.place.load() {
            Ok(config) => config,
            Err(errors) => return Ok(refuse(&errors)),
        };
        if let StoreLocation::Sqlite(path) = &config.store.location
            && !path.exists()
        {
            bail!(
                "there is no session store at {}: name the gateway's with --config or --store",
                path.display()
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        runtime.block_on(async {
            let store = open_store(&config).await?;
            let desk = Desk {
                config,
                store,
                clock: Clock::system(),
                json: self.json,
            };
            let exit = command(&desk).await;
            desk.store.close().await;
            exit
        })
    }
}

impl PlaceArgs {
    pub fn load(self) -> Result<Config, ConfigErrors> {
        match self.config {
            Some(path) => Config::load(&path, std::env::vars_os()),
            None => {
                // No request is forwarded from here: the upstream is a formality.
                let flags = QuickFlags {
                    upstream: Some("http://127.0.0.1:1".into()),
                    store: self.store,
                    ..QuickFlags::default()
                };
                Config::from_flags(&flags, std::env::vars_os())
            }
        }
    }
}

impl Desk {
    /// Needs the master key.
    pub async fn issuer(&self) -> anyhow::Result<Issuer> {
        let master = master_key::obtain(&self.config.store.master_key, &self.store).await?;
        let settings = assemble::issuer(&self.config);
        Ok(Issuer::load(settings, &master, self.store.clone(), self.clock.clone()).await?)
    }

    pub fn revocations(&self) -> Revocations {
        Revocations::new(
            self.config.revocation,
            self.clock.clone(),
            self.store.clone(),
        )
    }

    /// This process is no replica: nobody but itself serves its wait.
    pub async fn acknowledged<T>(
        &self,
        revocations: &Revocations,
        wait: impl Future<Output = T>,
    ) -> anyhow::Result<T> {
        tokio::select! {
            done = wait => Ok(done),
            () = revocations.serve_waits() => bail!("the wait for the replicas ended by itself"),
        }
    }
}
