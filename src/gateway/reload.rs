//! Takes another configuration in the place of the active one, as a whole or not at all.
//!
//! All that can fail is done first: the configuration is read, what it needs is built, files are opened. Only then do workers
//! get it. Each goes by one configuration or by the other, never by a mixture; a request that has begun keeps the one that it
//! began with, and so do tunnels and streams. What cannot be changed while the process runs is refused by name.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::GatewayError;
use super::configuration::{Configuration, Ground, build_upstreams, find};
use crate::admin::{ActiveConfiguration, Issuing};
use crate::causes::Causes;
use crate::certificates::{CertificateError, Certificates, Prepared};
use crate::clock::Timestamp;
use crate::config::{Config, ConfigErrors};
use crate::telemetry::ConfigurationGauges;
use crate::upstream::{ServerStatus, SharedUpstream};

/// Takes configurations while a gateway runs; cheap to clone.
#[derive(Clone)]
pub struct Reloader(Arc<Inner>);

struct Inner {
    ground: Ground,
    certificates: Option<Certificates>,
    workers: usize,
    to_workers: watch::Sender<Arc<Configuration>>,
    issuing: Arc<ArcSwap<Issuing>>,
    /// Held from the first look at a configuration to its end.
    one_at_a_time: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// What is known of the configuration.
struct State {
    active: Config,
    /// The tasks that watch the upstreams of the active one.
    watches: Vec<Watch>,
    since: Timestamp,
    read_at: Timestamp,
    applied: u64,
    refused: u64,
    /// Why the configuration as written is not the active one.
    trouble: Option<String>,
}

struct Watch {
    upstream: SharedUpstream,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its file is another one.
    FileChanged,
    /// Somebody asked; files that it names are read anew, too.
    Asked,
}

/// What has come of a configuration.
#[derive(Debug)]
pub enum Outcome {
    /// It says what the active one says.
    Unchanged,
    /// It is the active one now. Holds the keys in which it differs.
    Applied(Vec<String>),
    /// The one of before stays.
    Refused(ReloadError),
}

/// Why a configuration is not taken.
#[derive(Debug, Error)]
pub enum ReloadError {
    #[error("{}", .0.to_string().replace('\n', "; "))]
    Invalid(ConfigErrors),
    #[error("restart to change {}", .0.join(", "))]
    NeedsRestart(Vec<String>),
    #[error("no usable certificate")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    #[error("the files could not be read")]
    Interrupted,
}

impl Reloader {
    pub(super) fn new(
        ground: Ground,
        config: &Config,
        certificates: Option<Certificates>,
        upstreams: Vec<SharedUpstream>,
    ) -> Self {
        let first = ground.first(config, upstreams);
        let watches = watch_all(&ground, &first.upstreams, Vec::new());
        let now = ground.clock.now();
        let issuing = Arc::new(ArcSwap::from_pointee(first.issuing()));
        Self(Arc::new(Inner {
            certificates,
            workers: config.server.workers,
            to_workers: watch::Sender::new(Arc::new(first)),
            issuing,
            one_at_a_time: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                active: config.clone(),
                watches,
                since: now,
                read_at: now,
                applied: 0,
                refused: 0,
                trouble: None,
            }),
            ground,
        }))
    }

    /// Shows how the configuration stands in metrics and beside the readiness.
    pub(super) fn observe(&self) {
        let parts = &self.0.ground.parts;
        let reloader = self.clone();
        parts
            .metrics
            .observe_configuration(move || reloader.gauges());
        let reloader = self.clone();
        parts.readiness.observe_configuration(move || {
            let state = reloader.state();
            ActiveConfiguration {
                hash: state.active.written.hash().to_owned(),
                since: humantime::format_rfc3339_seconds(state.since.to_system_time()).to_string(),
            }
        });
        let reloader = self.clone();
        let trouble = move || match &reloader.state().trouble {
            Some(trouble) => Err(format!("the one as written is refused: {trouble}")),
            None => Ok(()),
        };
        parts.readiness.add_warning("configuration", trouble);
    }

    pub(super) fn configurations(&self) -> watch::Receiver<Arc<Configuration>> {
        self.0.to_workers.subscribe()
    }

    pub(super) fn issuing(&self) -> Arc<ArcSwap<Issuing>> {
        Arc::clone(&self.0.issuing)
    }

    /// How the servers of the active configuration's upstreams stand.
    pub(super) fn servers(&self) -> Vec<ServerStatus> {
        let active = self.0.to_workers.borrow().clone();
        let servers = active.upstreams.iter().flat_map(SharedUpstream::servers);
        servers.collect()
    }

    /// For how long what runs may go on after the wish to stop.
    pub(super) fn drain_timeout(&self) -> Duration {
        self.state().active.server.limits.drain_timeout
    }

    /// The hash of the active configuration.
    pub fn hash(&self) -> String {
        self.state().active.written.hash().to_owned()
    }

    /// Takes what was read, if it can be taken, and says in the log what has come of it. When it returns, every worker goes by it.
    pub async fn take(&self, read: Result<Config, ConfigErrors>, cause: Cause) -> Outcome {
        let _alone = self.0.one_at_a_time.lock().await;
        let outcome = match self.try_to_take(read, cause).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused(error),
        };
        let mut state = self.state();
        state.read_at = self.0.ground.clock.now();
        state.trouble = None;
        let hash = state.active.written.hash();
        match &outcome {
            Outcome::Unchanged => info!(hash, "the configuration is the active one already"),
            Outcome::Applied(changes) => {
                info!(
                    hash,
                    changed = shown(changes),
                    "a new configuration is active"
                );
            }
            Outcome::Refused(error) => {
                warn!(
                    hash,
                    error = %Causes(error),
                    "cannot take the new configuration; the one of before stays"
                );
                state.trouble = Some(Causes(error).to_string());
                state.refused += 1;
            }
        }
        outcome
    }

    async fn try_to_take(
        &self,
        read: Result<Config, ConfigErrors>,
        cause: Cause,
    ) -> Result<Outcome, ReloadError> {
        let Inner {
            ground, to_workers, ..
        } = &*self.0;
        let config = read.map_err(ReloadError::Invalid)?;
        let active = self.state().active.clone();
        if config.written == active.written && cause == Cause::FileChanged {
            return Ok(Outcome::Unchanged);
        }
        let changes = active.written.changes(&config.written);
        let fixed = needs_restart(&active, &config, &changes);
        if !fixed.is_empty() {
            return Err(ReloadError::NeedsRestart(fixed));
        }
        let certificates = self.prepare_certificates(&active, &config).await?;
        let before = to_workers.borrow().clone();
        let upstreams = {
            let (config, clock) = (config.clone(), ground.clock.clone());
            let known = before.upstreams.clone();
            let asked = cause == Cause::Asked;
            tokio::task::spawn_blocking(move || build_upstreams(&config, &clock, &known, asked))
                .await
                .map_err(|_| ReloadError::Interrupted)??
        };
        let is_new = |upstream: &&SharedUpstream| !before.upstreams.iter().any(|b| b.is(upstream));
        find(upstreams.iter().filter(is_new)).await;
        let next = Arc::new(ground.next(&config, &before, upstreams));

        // From here on nothing fails.
        if let (Some(shown), Some(prepared)) = (&self.0.certificates, certificates) {
            shown.take(prepared);
        }
        self.0.issuing.store(Arc::new(next.issuing()));
        to_workers.send_replace(Arc::clone(&next));
        if tokio::time::timeout(TAKE_UP, next.taken_by(self.0.workers))
            .await
            .is_err()
        {
            warn!("not every worker goes by the new configuration yet");
        }
        self.note_active(config, &next);
        Ok(Outcome::Applied(changes))
    }

    /// After the workers, so that whoever sees the hash meets the configuration.
    fn note_active(&self, config: Config, next: &Configuration) {
        let ground = &self.0.ground;
        let mut state = self.state();
        let watches = std::mem::take(&mut state.watches);
        state.watches = watch_all(ground, &next.upstreams, watches);
        state.active = config;
        state.since = ground.clock.now();
        state.applied += 1;
    }

    /// Those that other settings name; the ones of before are replaced when their files change.
    async fn prepare_certificates(
        &self,
        active: &Config,
        config: &Config,
    ) -> Result<Option<Prepared>, ReloadError> {
        let settings = |config: &Config| {
            config
                .server
                .tls
                .as_ref()
                .map(|tls| tls.certificates.clone())
        };
        let (Some(shown), Some(wanted)) = (&self.0.certificates, settings(config)) else {
            return Ok(None);
        };
        if settings(active).as_ref() == Some(&wanted) {
            return Ok(None);
        }
        let shown = shown.clone();
        let prepared = tokio::task::spawn_blocking(move || shown.prepare(wanted)).await;
        Ok(Some(prepared.map_err(|_| ReloadError::Interrupted)??))
    }

    fn gauges(&self) -> ConfigurationGauges {
        let state = self.state();
        ConfigurationGauges {
            hash: state.active.written.hash().to_owned(),
            applied: state.applied,
            refused: state.refused,
            is_refused: state.trouble.is_some(),
            active_since: state.since,
            read_at: state.read_at,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the upstreams; those that were watched before are watched by the same tasks, and what is not there any more is not.
fn watch_all(ground: &Ground, upstreams: &[SharedUpstream], before: Vec<Watch>) -> Vec<Watch> {
    let mut before = before;
    let watch = |upstream: &SharedUpstream| {
        let known = before.iter().position(|watch| watch.upstream.is(upstream));
        match known {
            Some(at) => before.swap_remove(at),
            None => Watch {
                upstream: upstream.clone(),
                task: ground
                    .background
                    .spawn(upstream.clone().watch())
                    .abort_handle(),
            },
        }
    };
    upstreams.iter().map(watch).collect()
}

/// The changed keys that only a restart can change.
fn needs_restart(active: &Config, config: &Config, changes: &[String]) -> Vec<String> {
    let is_fixed = |key: &&String| {
        FIXED.iter().any(|fixed| {
            key.strip_prefix(fixed)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    let mut fixed: Vec<String> = changes.iter().filter(is_fixed).cloned().collect();
    if active.server.tls.is_some() != config.server.tls.is_some() {
        fixed.push("server.tls".to_owned());
    }
    fixed
}

/// So many keys are named in the log.
fn shown(changes: &[String]) -> String {
    let named = changes[..changes.len().min(MOST_SHOWN)].join(", ");
    match changes.len() {
        0 => "no key".to_owned(),
        all if all > MOST_SHOWN => format!("{named} and {} more", all - MOST_SHOWN),
        _ => named,
    }
}

/// Sections and keys that stand for as long as the process does: sockets, threads, the store and what is agreed there with the
/// other replicas, and what tokens that were given out rely on.
pub const FIXED: [&str; 11] = [
    "server.listen",
    "server.listener",
    "server.public_url",
    "server.workers",
    "admin",
    "store",
    "session.access_token_lifetime",
    "session.signing_algorithm",
    "revocation",
    "keys",
    "telemetry",
];

const MOST_SHOWN: usize = 20;

/// Workers take it between two requests, so this is only for a machine that is swamped.
const TAKE_UP: Duration = Duration::from_secs(5);
