//! A whole gateway: built from a configuration, run until it is told to stop, ended in order.
//!
//! Sockets are bound before anything else, so that a port that is taken is known before a store is touched; they are served
//! only when this replica has joined. Each worker is a thread with a runtime, listeners and upstream connections of its own;
//! the store, the feed and the admin listener share one background runtime.
//!
//! The end is an order too: not ready any more; stop accepting; finish what runs, within a limit; leave the fleet; close the
//! store. A replica never serves a request after it has left.

mod admin_token;
pub mod assemble;
pub mod certificate_watch;
pub mod config_watch;
mod configuration;
pub mod key_keeper;
pub mod master_key;
pub mod reload;
mod sockets;
mod upkeep;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::{AdminListener, AdminState, Api, ApiParts, Readiness};
use crate::certificates::{CertificateError, Certificates};
use crate::clock::Clock;
use crate::config::{Admin, AdminAddress, Config};
use crate::issuer::Issuer;
use crate::keys::KeysError;
use crate::proxy::REASONS;
use crate::revocation::{Revocations, RoundError};
use crate::socket_file::SocketFile;
use crate::store::{SessionStore, StoreError};
use crate::telemetry::{Metrics, MetricsSettings, RevocationGauges, ServerGauges};
use crate::upstream::{ServerStatus, TlsSetupError};

use admin_token::AdminTokenError;
use configuration::{Ground, build_upstreams, find};
use key_keeper::KeyKeeper;
use master_key::MasterKeyError;
use reload::Reloader;
pub use sockets::Place;
use sockets::Sockets;
use worker::start_workers;

/// Why a gateway cannot start or go on.
#[derive(Debug, Error)]
pub enum GatewayError {
    #[error(
        "cannot listen on {address}: check that the address is this machine's and that nothing else listens there"
    )]
    Bind {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error(
        "cannot listen on {}: check that its directory exists and is writable, and that nothing else listens there",
        path.display()
    )]
    BindSocketFile {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "cannot take over socket {position} of systemd: check the Listen… lines of its socket unit, which count from 0"
    )]
    Inherited {
        position: usize,
        #[source]
        cause: io::Error,
    },
    #[error("no usable certificate")]
    Certificate(#[from] CertificateError),
    #[error("no usable admin token")]
    AdminToken(#[from] AdminTokenError),
    #[error("cannot set up TLS with upstream {upstream}")]
    UpstreamTls {
        upstream: Arc<str>,
        #[source]
        cause: TlsSetupError,
    },
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot open the session store {location}")]
    Store {
        location: String,
        #[source]
        cause: StoreError,
    },
    #[error("no usable master key")]
    MasterKey(#[from] MasterKeyError),
    #[error("cannot issue tokens")]
    Keys(#[from] KeysError),
    #[error("cannot follow the revocation log")]
    Join(#[from] RoundError),
}

/// A gateway that serves.
pub struct Gateway {
    places: Vec<Place>,
    addresses: Vec<SocketAddr>,
    /// Removed at the end.
    socket_files: Vec<SocketFile>,
    certificates: Option<Certificates>,
    admin_address: Option<SocketAddr>,
    parts: Parts,
    background: Runtime,
    workers: Vec<JoinHandle<()>>,
    tokens: Tokens,
    reloader: Reloader,
    worker_died: Option<oneshot::Receiver<()>>,
}

/// What the gateway is made of, for who drives it in the same process.
#[derive(Clone)]
pub struct Parts {
    pub store: SessionStore,
    pub issuer: Arc<Issuer>,
    pub revocations: Revocations,
    pub metrics: Metrics,
    pub readiness: Readiness,
}

/// The ends, in their order.
#[derive(Clone, Default)]
struct Tokens {
    stop_accepting: CancellationToken,
    end_of_drain: CancellationToken,
    stop_background: CancellationToken,
}

impl Gateway {
    /// Binds, opens, joins, serves.
    pub fn start(config: &Config, clock: Clock) -> Result<Self, GatewayError> {
        let certificates = config
            .server
            .tls
            .as_ref()
            .map(|tls| Certificates::load(tls.certificates.clone()))
            .transpose()?;
        let server = &config.server;
        let sockets = Sockets::bind(&server.listeners, certificates.as_ref(), server.workers)?;
        let Sockets {
            by_worker,
            places,
            files,
        } = sockets;
        let background = runtime::Builder::new_multi_thread()
            .worker_threads(BACKGROUND_THREADS)
            .thread_name("background")
            .enable_all()
            .build()
            .map_err(GatewayError::Runtime)?;
        let admin = match &config.admin {
            None => None,
            Some(admin) => Some((background.block_on(bind_admin(admin))?, admin)),
        };
        let admin_token = config
            .admin
            .as_ref()
            .and_then(|admin| admin.token_file.as_deref())
            .map(admin_token::read)
            .transpose()?;
        let admin_address = admin
            .as_ref()
            .and_then(|(listener, _)| listener.local_addr());
        let upstreams = build_upstreams(config, &clock, &[], false)?;
        let parts = background.block_on(build_parts(config, &clock))?;
        let tokens = Tokens::default();
        let (uses, first_uses) = mpsc::channel(FIRST_USES);
        if config.admin.is_some() && admin_token.is_none() {
            info!(
                "the admin API is off: name a file with a token in admin.token_file to switch it on"
            );
        }
        background.block_on(find(upstreams.iter()));
        let ground = Ground {
            parts: parts.clone(),
            uses: uses.clone(),
            background: background.handle().clone(),
            clock: clock.clone(),
            stop: tokens.stop_accepting.clone(),
        };
        let reloader = Reloader::new(ground, config, certificates.clone(), upstreams);
        reloader.observe();
        let api = admin_token.map(|token| {
            Api::new(ApiParts {
                token,
                store: parts.store.clone(),
                issuer: Arc::clone(&parts.issuer),
                issuing: reloader.issuing(),
                revocations: parts.revocations.clone(),
                uses,
                clock: clock.clone(),
                metrics: parts.metrics.clone(),
            })
        });
        observe(&parts);
        if let Some(certificates) = &certificates {
            certificate_watch::observe(certificates, &parts);
            background.spawn(certificate_watch::watch(certificates.clone()));
        }
        background.spawn({
            let (revocations, stop) = (parts.revocations.clone(), tokens.stop_background.clone());
            async move { revocations.follow(stop).await }
        });
        background.spawn(upkeep::note_first_uses(parts.store.clone(), first_uses));
        background.spawn(upkeep::remove_what_is_over(
            parts.store.clone(),
            clock.clone(),
        ));
        background.spawn(key_keeper(config, &parts, &clock).run());
        if let Some((listener, admin)) = admin {
            let state = AdminState {
                metrics: parts.metrics.clone(),
                readiness: parts.readiness.clone(),
                host_names: admin.host_names.clone(),
                api,
            };
            background.spawn(listener.serve(state, tokens.stop_background.clone()));
        }
        observe_upstreams(&parts, &reloader);
        let (died, worker_died) = oneshot::channel();
        let workers = start_workers(&reloader.configurations(), by_worker, &tokens, died)?;
        parts.readiness.set_started();
        let address = |place: &Place| match place {
            Place::Address(address) => Some(*address),
            Place::File(_) | Place::Inherited(_) => None,
        };
        Ok(Self {
            addresses: places.iter().filter_map(address).collect(),
            places,
            socket_files: files,
            certificates,
            admin_address,
            parts,
            background,
            workers,
            tokens,
            reloader,
            worker_died: Some(worker_died),
        })
    }

    /// Where it listens.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What the listeners that speak TLS show.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Takes other configurations in the place of this one.
    pub fn reloader(&self) -> &Reloader {
        &self.reloader
    }

    /// Runs beside the gateway, off the workers; ended with it.
    pub fn spawn_beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(task);
    }

    /// Where it listens on the network, with the ports that were picked for 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the private listener is, if at a TCP address.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Serves until `stop`, or until a worker dies, and then drains.
    pub fn run(mut self, stop: impl Future<Output = ()>) {
        let died = self.worker_died.take();
        self.background.block_on(async {
            let died = async {
                match died {
                    // Only a panic drops the sender without a word.
                    Some(died) => drop(died.await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop => info!("shutting down"),
                () = died => error!("a worker died; shutting down"),
            }
        });
        self.shut_down();
    }

    /// Drains: what runs is finished within the limit, then cut; the store is closed last.
    pub fn shut_down(self) {
        self.parts.readiness.set_draining();
        self.tokens.stop_accepting.cancel();
        let end_of_drain = self.tokens.end_of_drain.clone();
        let limit = self.reloader.drain_timeout();
        let watch = self.background.spawn(async move {
            tokio::time::sleep(limit).await;
            warn!(
                limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                "requests still run at the end of server.limits.drain_timeout; cutting them"
            );
            end_of_drain.cancel();
        });
        for worker in self.workers {
            if worker.join().is_err() {
                error!("a worker panicked");
            }
        }
        drop(self.socket_files);
        watch.abort();
        self.tokens.stop_background.cancel();
        self.background.block_on(async {
            let Parts { revocations, store, .. } = &self.parts;
            if tokio::time::timeout(FAREWELL, revocations.leave()).await.is_err() {
                warn!("could not sign off from the session store in time; this replica's lease will run out");
            }
            store.close().await;
        });
        self.background.shutdown_timeout(FAREWELL);
        info!("shut down");
    }
}

/// A store that is of no use is closed in order, so that nothing of it is left beside its file.
async fn build_parts(config: &Config, clock: &Clock) -> Result<Parts, GatewayError> {
    let store = open_store(config).await?;
    let built = build_on(&store, config, clock).await;
    if built.is_err() {
        store.close().await;
    }
    built
}

async fn build_on(
    store: &SessionStore,
    config: &Config,
    clock: &Clock,
) -> Result<Parts, GatewayError> {
    let master = master_key::obtain(&config.store.master_key, store).await?;
    let issuer = Issuer::load(
        assemble::issuer(config),
        &master,
        store.clone(),
        clock.clone(),
    )
    .await?;
    let revocations = Revocations::of_replica(
        config.revocation,
        clock.clone(),
        store.clone(),
        issuer.keys().clone(),
    );
    revocations.join().await?;
    let metrics = Metrics::new(MetricsSettings {
        rejections: REASONS,
        workers: config.server.workers,
        started_at: clock.now(),
    });
    Ok(Parts {
        store: store.clone(),
        issuer: Arc::new(issuer),
        revocations,
        metrics,
        readiness: Readiness::new(),
    })
}

/// Shows how the servers stand, in metrics and as warnings: a replica whose application is down is no worse than its neighbours,
/// and goes on being asked.
fn observe_upstreams(parts: &Parts, reloader: &Reloader) {
    let servers = {
        let reloader = reloader.clone();
        move || reloader.servers()
    };
    parts.metrics.observe_upstreams({
        let servers = servers.clone();
        move || servers().into_iter().map(gauges).collect()
    });
    parts.readiness.add_warning("upstream servers", move || {
        let out: Vec<String> = servers()
            .iter()
            .filter(|server| !server.is_in())
            .map(|server| {
                let why = match server.passes_checks {
                    true => "is ejected",
                    false => "fails its health checks",
                };
                format!("{} of {} {why}", server.server, server.upstream)
            })
            .collect();
        match out.is_empty() {
            true => Ok(()),
            false => Err(out.join(", ")),
        }
    });
}

fn gauges(server: ServerStatus) -> ServerGauges {
    ServerGauges {
        is_in: server.is_in(),
        upstream: server.upstream,
        server: server.server,
        ejections: server.ejections,
    }
}

/// Sees to the keys of a gateway.
pub fn key_keeper(config: &Config, parts: &Parts, clock: &Clock) -> KeyKeeper {
    KeyKeeper {
        keys: parts.issuer.keys().clone(),
        revocations: parts.revocations.clone(),
        store: parts.store.clone(),
        clock: clock.clone(),
        settings: assemble::key_keeper(config),
    }
}

/// The store of a configuration; created if it is not there.
pub async fn open_store(config: &Config) -> Result<SessionStore, GatewayError> {
    let location = &config.store.location;
    SessionStore::open_at(location, config.store.settings)
        .await
        .map_err(|cause| GatewayError::Store {
            location: location.to_string(),
            cause,
        })
}

fn observe(parts: &Parts) {
    let revocations = parts.revocations.clone();
    parts.metrics.observe({
        let revocations = revocations.clone();
        move || RevocationGauges {
            set_size: revocations.set_len() as u64,
            sequence_applied: revocations.applied().as_u64(),
            live_streams: revocations.live_streams() as u64,
            streams_cut: revocations.streams_cut(),
            lease_remaining: revocations.lease_remaining(),
            proof_age: revocations.proof_age(),
        }
    });
    parts.readiness.add_check("session store", move || {
        match revocations.lease_remaining() {
            Duration::ZERO => Err("the lease on the revocation set has run out".to_owned()),
            _ => Ok(()),
        }
    });
}

async fn bind_admin(admin: &Admin) -> Result<AdminListener, GatewayError> {
    match &admin.listen {
        AdminAddress::Tcp(address) => {
            let address = *address;
            let bound = AdminListener::bind(address).await;
            bound.map_err(|cause| GatewayError::Bind { address, cause })
        }
        AdminAddress::Unix(path) => {
            let path = path.clone();
            let bound = AdminListener::bind_unix(&path).await;
            bound.map_err(|cause| GatewayError::BindSocketFile { path, cause })
        }
    }
}

/// Store, feed and admin listener: little work, and none of it on a request's way.
const BACKGROUND_THREADS: usize = 2;

/// For how long leaving the fleet and ending tasks may hold up the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Notes of first uses that wait for the store.
const FIRST_USES: usize = 4096;
