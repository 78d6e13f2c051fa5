//! The metrics of a gateway and their text format.
//!
//! Requests are counted by [`WorkerMetrics`], without shared memory. Sessions, revocations and the store are counted here, in
//! ordinary counters: each of these events has already paid for a transaction. What the revocation feed knows is asked for
//! when the metrics are read.
//!
//! A label is a route pattern of the configuration or a `'static` name out of this program. Nothing that a client sends, and
//! no user, handle or token, can become one, so the number of series is bounded by the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::counters::{
    Bounds, GATEWAY_BOUNDS, HistogramSum, Level, Shard, UPSTREAM_BOUNDS, WorkerMetrics,
};
use super::outcome::{MAX_REJECTIONS, Outcome};
use super::process::ProcessCollector;
use crate::clock::Timestamp;

/// The media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the metrics of a gateway are about.
#[derive(Clone, Debug)]
pub struct MetricsSettings {
    /// The label of each route, by [`super::RouteId`]; routes with the same label are counted as one.
    pub routes: Vec<String>,
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
}

impl Metrics {
    pub fn new(settings: MetricsSettings) -> Self {
        debug_assert!(settings.rejections.len() <= MAX_REJECTIONS);
        let shards = (0..settings.workers.max(1))
            .map(|_| Arc::new(Shard::new(settings.routes.len())))
            .collect();
        let counted = Arc::new(Counted {
            routes: settings.routes,
            rejections: settings.rejections,
            shards,
            revocation: OnceLock::new(),
            dropped_log_lines: OnceLock::new(),
        });

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
        own.register_collector(Box::new(counted.clone()));

        Self(Arc::new(Inner {
            registry,
            counted,
            sessions,
        }))
    }

    /// The counters of worker `n`, for it alone.
    pub fn worker(&self, n: usize) -> WorkerMetrics {
        let shards = &self.0.counted.shards;
        WorkerMetrics::new(shards[n % shards.len()].clone())
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

    /// Live streams were cut because their session ended or the lease lapsed.
    pub fn streams_cut(&self, streams: u64) {
        self.0.sessions.streams_cut.inc_by(streams);
    }

    /// The store did not do what it was asked for.
    pub fn store_error(&self, operation: &'static str) {
        count(&self.0.sessions.store_errors, ("operation", operation), 1);
    }

    /// The answer to a logout waited this long until the revocation was acknowledged.
    pub fn logout_acknowledged(&self, waited: Duration) {
        self.0.sessions.acknowledge.observe(waited.as_secs_f64());
    }

    /// Where to ask, at each scrape, how this replica stands with the revocation log. The first registration stays.
    pub fn observe(&self, revocation: impl Fn() -> RevocationGauges + Send + Sync + 'static) {
        let _ = self.0.counted.revocation.set(Box::new(revocation));
    }

    /// Where to ask, at each scrape, how many log lines were dropped. The first registration stays.
    pub fn observe_dropped_log_lines(&self, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.0.counted.dropped_log_lines.set(Box::new(dropped));
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
    /// Until the deadline; zero when it has passed.
    pub lease_remaining: Duration,
    /// Since the last proof that the set was up to date, if there was one.
    pub proof_age: Option<Duration>,
}

/// What happens to sessions; all of it rare beside requests.
struct SessionMetrics {
    opened: Counter,
    refreshed: Labelled,
    refresh_refused: Labelled,
    revoked: Labelled,
    streams_cut: Counter,
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
            streams_cut: Counter::default(),
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
            "streams_cut",
            "Live streams cut",
            metrics.streams_cut.clone(),
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

/// What is summed or asked for at each scrape.
struct Counted {
    routes: Vec<String>,
    rejections: &'static [&'static str],
    shards: Vec<Arc<Shard>>,
    revocation: OnceLock<Box<dyn Fn() -> RevocationGauges + Send + Sync>>,
    dropped_log_lines: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
}

impl Counted {
    fn encode_requests(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut counts = BTreeMap::<(&str, String), u64>::new();
        for shard in &self.shards {
            for (index, counters) in shard.routes().iter().enumerate() {
                for (outcome, n) in counters.outcomes().enumerate().filter(|(_, n)| *n > 0) {
                    let label = Outcome::label(outcome, self.rejections);
                    *counts.entry((self.route_label(index), label)).or_default() += n;
                }
            }
        }
        let mut metric = encoder.encode_descriptor(
            "requests",
            "Requests that have ended, by route and outcome.",
            None,
            MetricType::Counter,
        )?;
        for ((route, outcome), n) in &counts {
            metric
                .encode_family(&[("route", *route), ("outcome", outcome)])?
                .encode_counter::<NoLabelSet, u64, f64>(n, None)?;
        }
        Ok(())
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut gateway = BTreeMap::<&str, HistogramSum>::new();
        let mut upstream = BTreeMap::<&str, HistogramSum>::new();
        for shard in &self.shards {
            for (index, counters) in shard.routes().iter().enumerate() {
                let route = self.route_label(index);
                gateway.entry(route).or_default().add(&counters.gateway);
                upstream.entry(route).or_default().add(&counters.upstream);
            }
        }
        encode_histograms(
            encoder,
            "gateway_seconds",
            "Time of requests that was not the upstream's.",
            &GATEWAY_BOUNDS,
            &gateway,
        )?;
        encode_histograms(
            encoder,
            "upstream_seconds",
            "Time of requests that was the upstream's.",
            &UPSTREAM_BOUNDS,
            &upstream,
        )
    }

    fn route_label(&self, index: usize) -> &str {
        self.routes.get(index).map_or("none", String::as_str)
    }

    fn encode_levels(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let shards = self.shards.iter();
        encode_gauge(
            encoder,
            "connections",
            "Open connections from clients.",
            Level::sum(shards.clone().map(|shard| &shard.connections)),
        )?;
        encode_gauge(
            encoder,
            "live_streams",
            "Open streams that would be cut if their session ended.",
            Level::sum(shards.map(|shard| &shard.streams)),
        )
    }

    fn encode_revocation(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(observe) = self.revocation.get() else {
            return Ok(());
        };
        let gauges = observe();
        encode_gauge(
            encoder,
            "revocation_set_size",
            "Revoked sessions whose access tokens may be unexpired.",
            gauges.set_size,
        )?;
        encode_gauge(
            encoder,
            "revocation_sequence_applied",
            "The last sequence of the revocation log that this replica knows.",
            gauges.sequence_applied,
        )?;
        encode_seconds(
            encoder,
            "lease_remaining_seconds",
            "How long this replica may still trust its revocation set.",
            gauges.lease_remaining,
        )?;
        gauges.proof_age.map_or(Ok(()), |age| {
            encode_seconds(
                encoder,
                "lease_proof_age_seconds",
                "Since the last proof that the revocation set was up to date.",
                age,
            )
        })
    }

    fn encode_dropped_log_lines(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(dropped) = self.dropped_log_lines.get() else {
            return Ok(());
        };
        let counter = ConstCounter::new(dropped());
        counter.encode(encoder.encode_descriptor(
            "log_lines_dropped",
            "Log lines that nobody took off fast enough.",
            None,
            MetricType::Counter,
        )?)
    }
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.encode_requests(&mut encoder)?;
        self.encode_durations(&mut encoder)?;
        self.encode_levels(&mut encoder)?;
        self.encode_revocation(&mut encoder)?;
        self.encode_dropped_log_lines(&mut encoder)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

fn encode_histograms(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    bounds: &Bounds,
    by_route: &BTreeMap<&str, HistogramSum>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (route, sum) in by_route.iter().filter(|(_, sum)| sum.count() > 0) {
        metric
            .encode_family(&[("route", *route)])?
            .encode_histogram::<NoLabelSet>(
                sum.sum_seconds(),
                sum.count(),
                &sum.buckets(bounds),
                None,
            )?;
    }
    Ok(())
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn encode_seconds(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: Duration,
) -> fmt::Result {
    let gauge = ConstGauge::new(value.as_secs_f64());
    gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}
