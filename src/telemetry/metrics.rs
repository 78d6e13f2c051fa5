//! The metrics of a gateway and their text format.
//!
//! Requests are counted by [`WorkerMetrics`], without shared memory. Sessions, revocations and the store are counted here, in
//! ordinary counters: each of these events has already paid for a transaction. What the revocation feed knows is asked for
//! when the metrics are read.
//!
//! A label is a route pattern of the configuration or a `'static` name out of this program. Nothing that a client sends, and
//! no user, handle or token, can become one, so the number of series is bounded by the configuration.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::counters::WorkerMetrics;
use super::outcome::MAX_REJECTIONS;
use super::process::ProcessCollector;
use super::scrape::Counted;
use crate::clock::Timestamp;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the metrics of a gateway are about.
#[derive(Clone, Debug)]
pub struct MetricsSettings {
    /// Why the gateway rejects, by [`super::RejectionId`]; at most [`MAX_REJECTIONS`] are told apart.
    pub rejections: &'static [&'static str],
    /// How many workers serve requests.
    pub workers: usize,
    /// When the process was started.
    pub started_at: Timestamp,
}

/// All metrics of a gateway; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    counted: Arc<Counted>,
    sessions: SessionMetrics,
    connections_refused: Labelled,
}

impl Metrics {
    pub fn new(settings: MetricsSettings) -> Self {
        debug_assert!(settings.rejections.len() <= MAX_REJECTIONS);
        let counted = Arc::new(Counted::new(settings.rejections, settings.workers));

        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessCollector {
            started_at: settings.started_at,
        }));
        let own = registry.sub_registry_with_prefix("portcullis");
        own.register(
            "build",
            "Which version this is",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        let sessions = SessionMetrics::register(own);
        let connections_refused = Labelled::default();
        own.register(
            "connections_refused",
            "Connections that came to nothing before their first request",
            connections_refused.clone(),
        );
        own.register_collector(Box::new(counted.clone()));

        Self(Arc::new(Inner {
            registry,
            counted,
            sessions,
            connections_refused,
        }))
    }

    /// The counters of worker `n`, for it alone, for routes that are called so, by their [`super::RouteId`]. Routes with the same
    /// label are counted as one, whichever configuration they are of.
    pub fn worker(&self, n: usize, routes: &[String]) -> WorkerMetrics {
        self.0.counted.worker(n, routes)
    }

    pub fn session_opened(&self) {
        self.0.sessions.opened.inc();
    }

    pub fn session_refreshed(&self, kind: RefreshKind) {
        let kind = match kind {
            RefreshKind::Rotated => "rotated",
            RefreshKind::Repeated => "repeated",
        };
        count(&self.0.sessions.refreshed, ("kind", kind), 1);
    }

    /// A refresh token was presented and not honoured.
    pub fn refresh_refused(&self, reason: &'static str) {
        count(&self.0.sessions.refresh_refused, ("reason", reason), 1);
    }

    /// Sessions ended before their time, by what this replica did.
    pub fn sessions_revoked(&self, reason: &'static str, sessions: u64) {
        count(&self.0.sessions.revoked, ("reason", reason), sessions);
    }

    /// The store did not do what it was asked for.
    pub fn store_error(&self, operation: &'static str) {
        count(&self.0.sessions.store_errors, ("operation", operation), 1);
    }

    /// A client's connection came to nothing before its first request.
    pub fn connection_refused(&self, reason: &'static str) {
        count(&self.0.connections_refused, ("reason", reason), 1);
    }

    /// The answer to a logout waited this long until the revocation was acknowledged.
    pub fn logout_acknowledged(&self, waited: Duration) {
        self.0.sessions.acknowledge.observe(waited.as_secs_f64());
    }

    /// Where to ask, at each scrape, how this replica stands with the revocation log. The first registration stays.
    pub fn observe(&self, revocation: impl Fn() -> RevocationGauges + Send + Sync + 'static) {
        self.0.counted.observe_revocation(Box::new(revocation));
    }

    /// Where to ask, at each scrape, how many log lines were dropped. The first registration stays.
    pub fn observe_dropped_log_lines(&self, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
        self.0.counted.observe_dropped_log_lines(Box::new(dropped));
    }

    /// Where to ask, at each scrape, how the certificates stand. The first registration stays.
    pub fn observe_certificates(
        &self,
        certificates: impl Fn() -> CertificateGauges + Send + Sync + 'static,
    ) {
        self.0.counted.observe_certificates(Box::new(certificates));
    }

    /// Where to ask, at each scrape, how the servers of the upstreams stand. The first registration stays.
    pub fn observe_upstreams(
        &self,
        servers: impl Fn() -> Vec<ServerGauges> + Send + Sync + 'static,
    ) {
        self.0.counted.observe_upstreams(Box::new(servers));
    }

    /// Where to ask, at each scrape, how the configuration stands. The first registration stays.
    pub fn observe_configuration(
        &self,
        configuration: impl Fn() -> ConfigurationGauges + Send + Sync + 'static,
    ) {
        self.0
            .counted
            .observe_configuration(Box::new(configuration));
    }

    /// All metrics in the OpenMetrics text format, [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.0.registry).expect("a String takes all that is written");
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What a refresh token was exchanged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// Its successor, for the first time.
    Rotated,
    /// The successor that it was exchanged for before: an answer got lost, or requests came in parallel.
    Repeated,
}

/// How a replica stands with the revocation log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationGauges {
    /// Handles in the revocation set.
    pub set_size: u64,
    /// The last sequence that is in it.
    pub sequence_applied: u64,
    /// Open streams that would be cut if their session ended.
    pub live_streams: u64,
    /// Streams cut since the start.
    pub streams_cut: u64,
    /// Until the deadline; zero when it has passed.
    pub lease_remaining: Duration,
    /// Since the last proof that the set was up to date, if there was one.
    pub proof_age: Option<Duration>,
}

/// How the certificates of the public listeners stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateGauges {
    /// How often new ones took the place of others.
    pub reloads: u64,
    /// Those in the files cannot be used; older ones are shown.
    pub refused: bool,
}

/// How a server of an upstream stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGauges {
    /// The upstream's name in the configuration.
    pub upstream: Arc<str>,
    /// The server's place, as the configuration has it.
    pub server: Arc<str>,
    /// It gets requests.
    pub is_in: bool,
    /// How often it was ejected since the start.
    pub ejections: u64,
}

/// How the configuration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationGauges {
    /// Of the active one.
    pub hash: String,
    /// How often another one took the place of the active one.
    pub applied: u64,
    /// How often one was refused.
    pub refused: u64,
    /// The one as written is refused; an older one is active.
    pub is_refused: bool,
    pub active_since: Timestamp,
    /// The last time, whatever came of it.
    pub read_at: Timestamp,
}

/// What happens to sessions; all of it rare beside requests.
struct SessionMetrics {
    opened: Counter,
    refreshed: Labelled,
    refresh_refused: Labelled,
    revoked: Labelled,
    store_errors: Labelled,
    acknowledge: Histogram,
}

impl SessionMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            opened: Counter::default(),
            refreshed: Labelled::default(),
            refresh_refused: Labelled::default(),
            revoked: Labelled::default(),
            store_errors: Labelled::default(),
            acknowledge: Histogram::new(ACKNOWLEDGE_BOUNDS),
        };
        registry.register(
            "sessions_opened",
            "Sessions opened by logins",
            metrics.opened.clone(),
        );
        registry.register(
            "sessions_refreshed",
            "Refresh tokens exchanged",
            metrics.refreshed.clone(),
        );
        registry.register(
            "refreshes_refused",
            "Refresh tokens that were not honoured",
            metrics.refresh_refused.clone(),
        );
        registry.register(
            "sessions_revoked",
            "Sessions ended before their time",
            metrics.revoked.clone(),
        );
        registry.register(
            "store_errors",
            "Operations that the store did not do",
            metrics.store_errors.clone(),
        );
        registry.register(
            "acknowledge_seconds",
            "How long the answers to logouts waited for the fleet",
            metrics.acknowledge.clone(),
        );
        metrics
    }
}

type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

fn count(family: &Labelled, label: (&'static str, &'static str), n: u64) {
    family.get_or_create(&[label]).inc_by(n);
}

/// From a store and replicas next door to several leases.
const ACKNOWLEDGE_BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0,
];

#[cfg(test)]
mod tests;
