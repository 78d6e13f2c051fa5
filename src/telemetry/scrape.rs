//! What is summed, or asked for, each time the metrics are read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::counters::{
    Bounds, GATEWAY_BOUNDS, HistogramSum, Ledger, Level, UPSTREAM_BOUNDS, WorkerMetrics,
};
use super::metrics::{CertificateGauges, ConfigurationGauges, RevocationGauges, ServerGauges};
use super::outcome::Outcome;
use crate::clock::Timestamp;

/// What the workers have counted, and whom to ask for the rest.
pub(super) struct Counted {
    rejections: &'static [&'static str],
    workers: Vec<Ledger>,
    revocation: OnceLock<Observer<RevocationGauges>>,
    dropped_log_lines: OnceLock<Observer<u64>>,
    certificates: OnceLock<Observer<CertificateGauges>>,
    upstreams: OnceLock<Observer<Vec<ServerGauges>>>,
    configuration: OnceLock<Observer<ConfigurationGauges>>,
}

pub(super) type Observer<T> = Box<dyn Fn() -> T + Send + Sync>;

impl Counted {
    pub(super) fn new(rejections: &'static [&'static str], workers: usize) -> Self {
        Self {
            rejections,
            workers: (0..workers.max(1)).map(|_| Ledger::default()).collect(),
            revocation: OnceLock::new(),
            dropped_log_lines: OnceLock::new(),
            certificates: OnceLock::new(),
            upstreams: OnceLock::new(),
            configuration: OnceLock::new(),
        }
    }

    pub(super) fn worker(&self, n: usize, routes: &[String]) -> WorkerMetrics {
        let ledger = &self.workers[n % self.workers.len()];
        WorkerMetrics::new(Arc::new(ledger.shard(routes)))
    }

    pub(super) fn observe_revocation(&self, observer: Observer<RevocationGauges>) {
        let _ = self.revocation.set(observer);
    }

    pub(super) fn observe_dropped_log_lines(&self, observer: Observer<u64>) {
        let _ = self.dropped_log_lines.set(observer);
    }

    pub(super) fn observe_configuration(&self, observer: Observer<ConfigurationGauges>) {
        let _ = self.configuration.set(observer);
    }

    pub(super) fn observe_certificates(&self, observer: Observer<CertificateGauges>) {
        let _ = self.certificates.set(observer);
    }

    pub(super) fn observe_upstreams(&self, observer: Observer<Vec<ServerGauges>>) {
        let _ = self.upstreams.set(observer);
    }

    fn encode_requests(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut counts = BTreeMap::<(String, String), u64>::new();
        for worker in &self.workers {
            for (route, counters) in &*worker.routes() {
                for (outcome, n) in counters.outcomes().enumerate().filter(|(_, n)| *n > 0) {
                    let label = Outcome::label(outcome, self.rejections);
                    *counts.entry((route.clone(), label)).or_default() += n;
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
                .encode_family(&[("route", route), ("outcome", outcome)])?
                .encode_counter::<NoLabelSet, u64, f64>(n, None)?;
        }
        Ok(())
    }

    fn encode_durations(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut gateway = BTreeMap::<String, HistogramSum>::new();
        let mut upstream = BTreeMap::<String, HistogramSum>::new();
        for worker in &self.workers {
            for (route, counters) in &*worker.routes() {
                let sum = gateway.entry(route.clone()).or_default();
                sum.add(&counters.gateway);
                let sum = upstream.entry(route.clone()).or_default();
                sum.add(&counters.upstream);
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

    fn encode_levels(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        encode_gauge(
            encoder,
            "connections",
            "Open connections from clients.",
            Level::sum(self.workers.iter().map(|worker| &*worker.connections)),
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
        encode_gauge(
            encoder,
            "live_streams",
            "Open streams that would be cut if their session ended.",
            gauges.live_streams,
        )?;
        encode_counter(
            encoder,
            "streams_cut",
            "Streams cut because their session ended or the lease lapsed.",
            gauges.streams_cut,
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
        encode_counter(
            encoder,
            "log_lines_dropped",
            "Log lines that nobody took off fast enough.",
            dropped(),
        )
    }

    fn encode_certificates(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(observe) = self.certificates.get() else {
            return Ok(());
        };
        let gauges = observe();
        encode_counter(
            encoder,
            "certificate_reloads",
            "How often the certificates were replaced by new ones.",
            gauges.reloads,
        )?;
        encode_gauge(
            encoder,
            "certificates_refused",
            "1 while the files hold certificates that cannot be used, and older ones are shown.",
            u64::from(gauges.refused),
        )
    }

    fn encode_upstreams(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(observe) = self.upstreams.get() else {
            return Ok(());
        };
        let servers = observe();
        let labels = |server: &ServerGauges| {
            [
                ("upstream", server.upstream.to_string()),
                ("server", server.server.to_string()),
            ]
        };
        let mut metric = encoder.encode_descriptor(
            "upstream_server_up",
            "1 while a server of an upstream gets requests.",
            None,
            MetricType::Gauge,
        )?;
        for server in &servers {
            metric
                .encode_family(&labels(server))?
                .encode_gauge(&i64::from(server.is_in))?;
        }
        let mut metric = encoder.encode_descriptor(
            "upstream_ejections",
            "How often a server of an upstream was left alone because it had failed several times in a row.",
            None,
            MetricType::Counter,
        )?;
        for server in &servers {
            metric
                .encode_family(&labels(server))?
                .encode_counter::<NoLabelSet, u64, f64>(&server.ejections, None)?;
        }
        Ok(())
    }

    fn encode_configuration(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(observe) = self.configuration.get() else {
            return Ok(());
        };
        let gauges = observe();
        let mut metric = encoder.encode_descriptor(
            "config",
            "Which configuration is active.",
            None,
            MetricType::Info,
        )?;
        metric.encode_info(&[("hash", gauges.hash.as_str())])?;
        let mut metric = encoder.encode_descriptor(
            "config_reloads",
            "How often the configuration was read anew, by what came of it.",
            None,
            MetricType::Counter,
        )?;
        for (result, n) in [("applied", gauges.applied), ("refused", gauges.refused)] {
            metric
                .encode_family(&[("result", result)])?
                .encode_counter::<NoLabelSet, u64, f64>(&n, None)?;
        }
        encode_gauge(
            encoder,
            "config_refused",
            "1 while the configuration as written is refused, and an older one is active.",
            u64::from(gauges.is_refused),
        )?;
        encode_gauge(
            encoder,
            "config_active_since_timestamp_seconds",
            "When the active configuration was taken.",
            seconds_of(gauges.active_since),
        )?;
        encode_gauge(
            encoder,
            "config_last_reload_timestamp_seconds",
            "When the configuration was read the last time, whatever came of it.",
            seconds_of(gauges.read_at),
        )
    }
}

impl Collector for Counted {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.encode_requests(&mut encoder)?;
        self.encode_durations(&mut encoder)?;
        self.encode_levels(&mut encoder)?;
        self.encode_revocation(&mut encoder)?;
        self.encode_dropped_log_lines(&mut encoder)?;
        self.encode_certificates(&mut encoder)?;
        self.encode_upstreams(&mut encoder)?;
        self.encode_configuration(&mut encoder)
    }
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

fn seconds_of(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_secs()).unwrap_or_default()
}

fn encode_counter(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    value: u64,
) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn encode_histograms(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    bounds: &Bounds,
    by_route: &BTreeMap<String, HistogramSum>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (route, sum) in by_route.iter().filter(|(_, sum)| sum.count() > 0) {
        metric
            .encode_family(&[("route", route)])?
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
