//! What a configuration makes: all that workers go by, put together before any of it is used, and never changed after.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{GatewayError, Parts, assemble};
use crate::admin::Issuing;
use crate::clock::Clock;
use crate::config::Config;
use crate::issuer::Issuer;
use crate::proxy::listener::{ConnectionsByAddress, ListenerSettings};
use crate::proxy::{Background, Rates, SharedProxy, VerifiedTokens};
use crate::refresher::Refresher;
use crate::store::TokenUse;
use crate::upstream::{SharedUpstream, UpstreamSettings};

/// What all workers go by while this configuration is the active one.
pub(super) struct Configuration {
    pub shared: SharedProxy,
    pub upstreams: Vec<SharedUpstream>,
    pub listener: ListenerSettings,
    /// What metrics call the routes.
    pub labels: Vec<String>,
    /// A permit for each worker that goes by it.
    taken: Semaphore,
}

impl Configuration {
    /// A worker goes by it.
    pub fn note_taken(&self) {
        self.taken.add_permits(1);
    }

    /// Waits until so many workers go by it.
    pub async fn taken_by(&self, workers: usize) {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        // It is never closed.
        let _ = self.taken.acquire_many(workers).await;
    }

    /// What the admin API opens sessions with.
    pub fn issuing(&self) -> Issuing {
        Issuing {
            issuer: Arc::clone(&self.shared.issuer),
            cookies: self.shared.teller.cookies.clone(),
        }
    }
}

/// What stays while configurations come and go.
pub(super) struct Ground {
    pub parts: Parts,
    pub uses: mpsc::Sender<TokenUse>,
    pub background: Handle,
    pub clock: Clock,
    pub stop: CancellationToken,
}

impl Ground {
    /// The first one.
    pub fn first(&self, config: &Config, upstreams: Vec<SharedUpstream>) -> Configuration {
        let refresher = Refresher::new(
            Arc::clone(&self.parts.issuer),
            self.parts.revocations.clone(),
            self.clock.clone(),
            self.parts.metrics.clone(),
            assemble::refresher(config),
        );
        let by_address = config.server.limits.connections_per_address;
        let by_address = by_address.map(ConnectionsByAddress::new);
        let issuer = Arc::clone(&self.parts.issuer);
        let rates = Rates::new(assemble::rates(config), &self.clock);
        let counted = Counted {
            refresher,
            by_address,
            rates,
        };
        self.build(config, issuer, counted, upstreams)
    }

    /// One that takes the place of another: what is counted and remembered there goes on.
    pub fn next(
        &self,
        config: &Config,
        before: &Configuration,
        upstreams: Vec<SharedUpstream>,
    ) -> Configuration {
        let issuer = self.parts.issuer.with_settings(assemble::issuer(config));
        let issuer = Arc::new(issuer);
        let refresher = before
            .shared
            .refresher
            .with_settings(Arc::clone(&issuer), assemble::refresher(config));
        let by_address = config.server.limits.connections_per_address.map(|most| {
            let counted = before.listener.by_address.as_ref();
            counted.map_or_else(
                || ConnectionsByAddress::new(most),
                |counted| counted.with_most(most),
            )
        });
        let counted = Counted {
            refresher,
            by_address,
            rates: before
                .shared
                .rates
                .with_settings(assemble::rates(config), &self.clock),
        };
        self.build(config, issuer, counted, upstreams)
    }

    fn build(
        &self,
        config: &Config,
        issuer: Arc<Issuer>,
        counted: Counted,
        upstreams: Vec<SharedUpstream>,
    ) -> Configuration {
        let teller = assemble::teller(config);
        let routes = assemble::routes(config, &teller);
        let shared = SharedProxy {
            routes: Arc::new(routes.table),
            default_policy: routes.default_policy,
            issuer,
            refresher: Arc::new(counted.refresher),
            revocations: self.parts.revocations.clone(),
            // New ones: what is kept beside a token is made for the settings that it was met under.
            tokens: VerifiedTokens::new(VERIFIED_TOKENS),
            uses: self.uses.clone(),
            teller,
            rules: assemble::header_rules(config),
            settings: Arc::new(assemble::proxy(config)),
            rates: counted.rates,
            background: Background::new(self.background.clone()),
            clock: self.clock.clone(),
            metrics: self.parts.metrics.clone(),
            stop: self.stop.clone(),
        };
        Configuration {
            shared,
            upstreams,
            listener: assemble::listener(config, counted.by_address),
            labels: config.rules.labels.clone(),
            taken: Semaphore::new(0),
        }
    }
}

/// What counts or remembers, and goes on doing so from one configuration to the next.
struct Counted {
    refresher: Refresher,
    by_address: Option<ConnectionsByAddress>,
    rates: Rates,
}

/// The upstreams of a configuration. Those of before that are configured alike stay, with their connections and what is known of
/// their servers; with `files_too`, only those for which no file is read.
pub(super) fn build_upstreams(
    config: &Config,
    clock: &Clock,
    before: &[SharedUpstream],
    files_too: bool,
) -> Result<Vec<SharedUpstream>, GatewayError> {
    let build = |settings: &UpstreamSettings| {
        let stays = |known: &&SharedUpstream| {
            known.settings() == settings && !(files_too && settings.needs_tls())
        };
        if let Some(known) = before.iter().find(stays) {
            return Ok(known.clone());
        }
        SharedUpstream::new(settings.clone(), clock.clone()).map_err(|cause| {
            let upstream = Arc::clone(&settings.name);
            GatewayError::UpstreamTls { upstream, cause }
        })
    };
    config.upstreams.iter().map(build).collect()
}

/// Looks up the names of servers, so that the first request need not wait for them. Those that take long, or are not there yet,
/// are left to be found later.
pub(super) async fn find(upstreams: impl Iterator<Item = &SharedUpstream>) {
    let look_ups = async {
        for upstream in upstreams {
            upstream.look_up_names().await;
        }
    };
    if tokio::time::timeout(LOOK_UP, look_ups).await.is_err() {
        warn!("looking up the names of upstream servers takes long; going on without");
    }
}

/// For how long names of upstream servers may hold up the start.
const LOOK_UP: Duration = Duration::from_secs(3);

/// Tokens whose signature need not be checked again; about a kilobyte each.
const VERIFIED_TOKENS: usize = 20_000;
