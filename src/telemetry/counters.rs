//! The counters that every request touches.
//!
//! Each worker adds to counters of its own, laid out so that no two workers share a cache line: an addition costs a few
//! nanoseconds and never waits for another core. A shared counter per series would bounce its line between the cores at
//! every request. They are summed when the metrics are read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::outcome::{OUTCOMES, Outcome, RouteId};

/// One worker's side of the metrics; cheap to clone, to be used by that worker only (another's use is slow, not wrong).
#[derive(Clone)]
pub struct WorkerMetrics(Arc<Shard>);

impl WorkerMetrics {
    pub(super) fn new(shard: Arc<Shard>) -> Self {
        Self(shard)
    }

    /// Counts a request that has ended: `gateway` is what it took without the upstream, `upstream` what the upstream took,
    /// if it was asked.
    pub fn record(
        &self,
        route: RouteId,
        outcome: Outcome,
        gateway: Duration,
        upstream: Option<Duration>,
    ) {
        let counters = self.0.route(route);
        add(&counters.outcomes[outcome.index()], 1);
        counters.gateway.record(&GATEWAY_BOUNDS, gateway);
        if let Some(upstream) = upstream {
            counters.upstream.record(&UPSTREAM_BOUNDS, upstream);
        }
    }

    pub fn connection_opened(&self) {
        self.0.connections.open();
    }

    pub fn connection_closed(&self) {
        self.0.connections.close();
    }
}

impl fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerMetrics")
    }
}

/// What one worker counts, by the routes of one configuration.
pub(super) struct Shard {
    /// By route; the last is for requests without one.
    routes: Box<[Arc<RouteCounters>]>,
    connections: Arc<Level>,
}

impl Shard {
    fn route(&self, route: RouteId) -> &RouteCounters {
        let last = self.routes.len() - 1;
        &self.routes[route.index().min(last)]
    }
}

/// What one worker has counted since the start: by label, so that a route that a new configuration has, too, counts on. Those
/// that it has no more keep their counts, as counters must, so there are as many as the operator ever wrote.
#[derive(Default)]
pub(super) struct Ledger {
    routes: Mutex<ByLabel>,
    pub(super) connections: Arc<Level>,
}

pub(super) type ByLabel = BTreeMap<String, Arc<RouteCounters>>;

impl Ledger {
    /// For routes that are called so, by their [`RouteId`].
    pub(super) fn shard(&self, labels: &[String]) -> Shard {
        let mut by_label = self.routes();
        let counters = |label: &str| {
            let counters = by_label.entry(label.to_owned());
            Arc::clone(counters.or_insert_with(|| Arc::new(RouteCounters::new())))
        };
        let labels = labels.iter().map(String::as_str).chain([NO_ROUTE]);
        Shard {
            routes: labels.map(counters).collect(),
            connections: Arc::clone(&self.connections),
        }
    }

    /// Locked when a worker takes a configuration and when the metrics are read, never by a request.
    pub(super) fn routes(&self) -> MutexGuard<'_, ByLabel> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The label of requests that were refused before a route was found; those of routes begin with a slash, but for `other`.
const NO_ROUTE: &str = "none";

/// What one worker has counted for one route. 128 bytes: lines are fetched in pairs on x86-64 and are that long on some ARM.
#[repr(align(128))]
pub(super) struct RouteCounters {
    outcomes: [AtomicU64; OUTCOMES],
    pub(super) gateway: Histogram,
    pub(super) upstream: Histogram,
}

impl RouteCounters {
    const fn new() -> Self {
        Self {
            outcomes: [const { AtomicU64::new(0) }; OUTCOMES],
            gateway: Histogram::new(),
            upstream: Histogram::new(),
        }
    }

    pub(super) fn outcomes(&self) -> impl Iterator<Item = u64> {
        self.outcomes.iter().map(read)
    }
}

/// A number of open things, kept as two that only grow.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Level {
    opened: AtomicU64,
    closed: AtomicU64,
}

impl Level {
    fn open(&self) {
        add(&self.opened, 1);
    }

    /// `Release`, so that who sees it sees the opening, too.
    fn close(&self) {
        self.closed.fetch_add(1, Ordering::Release);
    }

    /// How many are open, over all workers. What was closed is read first: what opens and closes in between is then counted as
    /// open for this once, instead of being missing from the others.
    pub(super) fn sum<'a>(levels: impl Iterator<Item = &'a Self> + Clone) -> u64 {
        let closed: u64 = levels
            .clone()
            .map(|level| level.closed.load(Ordering::Acquire))
            .sum();
        let opened: u64 = levels.map(|level| read(&level.opened)).sum();
        opened.saturating_sub(closed)
    }
}

/// Durations by size; as many words as fit into 128 bytes.
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    const fn new() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; BOUNDS + 1],
            sum_ns: AtomicU64::new(0),
        }
    }

    fn record(&self, bounds: &Bounds, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bounds.iter().position(|bound| ns <= *bound);
        add(&self.buckets[bucket.unwrap_or(BOUNDS)], 1);
        add(&self.sum_ns, ns);
    }
}

/// Histograms of several workers, added up.
#[derive(Default)]
pub(super) struct HistogramSum {
    buckets: [u64; BOUNDS + 1],
    sum_ns: u64,
}

impl HistogramSum {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (sum, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum += read(bucket);
        }
        self.sum_ns = self.sum_ns.wrapping_add(read(&histogram.sum_ns));
    }

    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        seconds(self.sum_ns)
    }

    /// Upper bounds in seconds and how many are in each bucket alone.
    pub(super) fn buckets(&self, bounds: &Bounds) -> Vec<(f64, u64)> {
        bounds
            .iter()
            .map(|ns| seconds(*ns))
            .chain([f64::INFINITY])
            .zip(self.buckets)
            .collect()
    }
}

/// Upper bounds in nanoseconds, ascending; everything above is in one more bucket.
pub(super) type Bounds = [u64; BOUNDS];

const BOUNDS: usize = 14;

/// From what a request costs at best to what only a store that is asked, or a machine that is swamped, can take.
pub(super) const GATEWAY_BOUNDS: Bounds = [
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
];

/// From a handler that answers from memory to the usual timeouts of applications.
pub(super) const UPSTREAM_BOUNDS: Bounds = [
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
];

pub(super) fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        BOUNDS, GATEWAY_BOUNDS, Histogram, HistogramSum, Level, RouteCounters, UPSTREAM_BOUNDS,
    };

    #[test]
    fn no_two_workers_share_a_cache_line() {
        assert_eq!(align_of::<Level>(), 128);
        assert_eq!(align_of::<RouteCounters>(), 128);
        assert_eq!(size_of::<Histogram>(), 128);
    }

    #[test]
    fn bounds_ascend() {
        assert!(GATEWAY_BOUNDS.is_sorted() && UPSTREAM_BOUNDS.is_sorted());
    }

    #[test]
    fn a_duration_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        for (ns, bucket) in [
            (0, 0),
            (25_000, 0),
            (25_001, 1),
            (50_000, 1),
            (1_000_000_000, 13),
            (1_000_000_001, BOUNDS),
            (u64::MAX, BOUNDS),
        ] {
            let histogram = Histogram::new();
            histogram.record(&GATEWAY_BOUNDS, Duration::from_nanos(ns));
            let mut sum = HistogramSum::default();
            sum.add(&histogram);
            assert_eq!(sum.buckets[bucket], 1, "{ns}");
            assert_eq!((sum.count(), sum.sum_ns), (1, ns));
        }
    }
}
