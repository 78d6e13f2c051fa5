use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use http::StatusCode;

use super::{Metrics, MetricsSettings, RefreshKind, RevocationGauges};
use crate::clock::Timestamp;
use crate::telemetry::{Outcome, RejectionId, RouteId, WorkerMetrics};

const MICRO: Duration = Duration::from_micros(1);

/// Metrics of a gateway with these routes.
struct Told {
    metrics: Metrics,
    routes: Vec<String>,
}

impl Told {
    fn worker(&self, n: usize) -> WorkerMetrics {
        self.metrics.worker(n, &self.routes)
    }
}

impl std::ops::Deref for Told {
    type Target = Metrics;

    fn deref(&self) -> &Metrics {
        &self.metrics
    }
}

fn metrics(routes: &[&str], workers: usize) -> Told {
    Told {
        metrics: Metrics::new(MetricsSettings {
            rejections: &["expired", "revoked"],
            workers,
            started_at: Timestamp::from_secs(1_700_000_000),
        }),
        routes: routes.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn routes_of_another_configuration_count_on_by_their_labels() {
    let metrics = metrics(&["/a", "/b"], 1);
    let before = metrics.worker(0);
    before.record(RouteId::new(0), Outcome::Logout, MICRO, None);
    before.record(RouteId::new(1), Outcome::Logout, MICRO, None);
    before.connection_opened();
    let after = metrics.metrics.worker(0, &["/b".into(), "/c".into()]);
    after.record(RouteId::new(0), Outcome::Logout, MICRO, None);
    after.record(RouteId::new(1), Outcome::Logout, MICRO, None);
    after.record(RouteId::NONE, Outcome::Logout, MICRO, None);
    before.record(RouteId::new(1), Outcome::Logout, MICRO, None);
    after.connection_closed();
    let samples = scrape(&metrics);
    for (route, count) in [("/a", 1.0), ("/b", 3.0), ("/c", 1.0), ("none", 1.0)] {
        let series = format!("portcullis_requests_total{{route=\"{route}\",outcome=\"logout\"}}");
        assert_eq!(samples[&series], count, "{route}");
    }
    assert_eq!(samples["portcullis_connections"], 0.0);
}

/// The samples of a scrape by series, after checking the format.
fn scrape(metrics: &Metrics) -> BTreeMap<String, f64> {
    let text = metrics.encode();
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut described = BTreeSet::new();
    let mut family = String::new();
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(help.ends_with('.') && !help.ends_with(".."), "{line}");
            assert!(described.insert(name.to_owned()), "twice: {line}");
            family = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family, "{line}");
            assert!(
                ["counter", "gauge", "histogram", "info"].contains(&kind),
                "{line}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let suffix = name.strip_prefix(family.as_str()).expect("in its family");
            assert!(
                ["", "_total", "_sum", "_count", "_bucket", "_info"].contains(&suffix),
                "{line}"
            );
            let value = value.parse().unwrap();
            let before = samples.insert(series.to_owned(), value);
            assert_eq!(before, None, "twice: {line}");
        }
    }
    samples
}

#[test]
fn requests_are_counted_by_route_and_outcome_over_all_workers() {
    let metrics = metrics(&["/", "/public/**"], 2);
    let ok = Outcome::forwarded(StatusCode::OK);
    let revoked = Outcome::Rejected(RejectionId::new(1));
    for (worker, route, outcome) in [
        (0, RouteId::new(0), ok),
        (1, RouteId::new(0), ok),
        (
            1,
            RouteId::new(1),
            Outcome::forwarded(StatusCode::NOT_FOUND),
        ),
        (0, RouteId::new(1), revoked),
        (0, RouteId::new(1), Outcome::Logout),
        (0, RouteId::NONE, revoked),
        (1, RouteId::new(2), revoked),
    ] {
        metrics.worker(worker).record(route, outcome, MICRO, None);
    }

    let samples = scrape(&metrics);
    let requests: BTreeMap<&str, f64> = samples
        .iter()
        .filter_map(|(series, n)| Some((series.strip_prefix("portcullis_requests_total")?, *n)))
        .collect();
    let expected = BTreeMap::from([
        (r#"{route="/",outcome="forwarded_2xx"}"#, 2.0),
        (r#"{route="/public/**",outcome="forwarded_4xx"}"#, 1.0),
        (r#"{route="/public/**",outcome="logout"}"#, 1.0),
        (r#"{route="/public/**",outcome="rejected_revoked"}"#, 1.0),
        (r#"{route="none",outcome="rejected_revoked"}"#, 2.0),
    ]);
    assert_eq!(requests, expected);
}

#[test]
fn durations_are_histograms_that_add_up() {
    let metrics = metrics(&["/"], 2);
    for (worker, gateway_us, upstream_ms) in
        [(0, 20, Some(4)), (1, 30, Some(700)), (1, 2_000_000, None)]
    {
        metrics.worker(worker).record(
            RouteId::new(0),
            Outcome::Login,
            Duration::from_micros(gateway_us),
            upstream_ms.map(Duration::from_millis),
        );
    }

    let samples = scrape(&metrics);
    let gateway =
        |le: &str| samples[&format!(r#"portcullis_gateway_seconds_bucket{{le="{le}",route="/"}}"#)];
    assert_eq!(gateway("0.000025"), 1.0);
    assert_eq!(gateway("0.00005"), 2.0);
    assert_eq!(gateway("1.0"), 2.0);
    assert_eq!(gateway("+Inf"), 3.0);
    let single = |name: &str| samples[&format!(r#"portcullis_{name}{{route="/"}}"#)];
    assert_eq!(single("gateway_seconds_count"), 3.0);
    assert_eq!(single("gateway_seconds_sum"), 2.00005);
    assert_eq!(single("upstream_seconds_count"), 2.0);
    assert_eq!(single("upstream_seconds_sum"), 0.704);
}

#[test]
fn what_is_open_is_what_was_opened_and_not_closed() {
    let metrics = metrics(&[], 2);
    let (one, other) = (metrics.worker(0), metrics.worker(1));
    one.connection_opened();
    one.connection_opened();
    other.connection_opened();
    one.connection_closed();
    assert_eq!(scrape(&metrics)["portcullis_connections"], 2.0);

    other.connection_closed();
    assert_eq!(scrape(&metrics)["portcullis_connections"], 1.0);
}

#[test]
fn what_happens_to_sessions_is_counted() {
    let metrics = metrics(&[], 1);
    metrics.session_opened();
    metrics.session_refreshed(RefreshKind::Rotated);
    metrics.session_refreshed(RefreshKind::Repeated);
    metrics.session_refreshed(RefreshKind::Repeated);
    metrics.refresh_refused("reuse");
    metrics.sessions_revoked("logout", 3);
    metrics.store_error("revoke");
    metrics.logout_acknowledged(Duration::from_millis(40));
    let samples = scrape(&metrics);
    for (series, value) in [
        ("sessions_opened_total", 1.0),
        (r#"sessions_refreshed_total{kind="rotated"}"#, 1.0),
        (r#"sessions_refreshed_total{kind="repeated"}"#, 2.0),
        (r#"refreshes_refused_total{reason="reuse"}"#, 1.0),
        (r#"sessions_revoked_total{reason="logout"}"#, 3.0),
        (r#"store_errors_total{operation="revoke"}"#, 1.0),
        (r#"acknowledge_seconds_bucket{le="0.025"}"#, 0.0),
        (r#"acknowledge_seconds_bucket{le="0.05"}"#, 1.0),
    ] {
        assert_eq!(samples[&format!("portcullis_{series}")], value, "{series}");
    }
}

#[test]
fn the_feed_is_asked_at_each_scrape() {
    let metrics = metrics(&[], 1);
    assert!(!scrape(&metrics).contains_key("portcullis_revocation_set_size"));

    metrics.observe(|| RevocationGauges {
        set_size: 7,
        sequence_applied: 42,
        live_streams: 3,
        streams_cut: 11,
        lease_remaining: Duration::from_millis(2500),
        proof_age: Some(Duration::from_millis(500)),
    });
    metrics.observe_dropped_log_lines(|| 9);
    let samples = scrape(&metrics);
    for (series, value) in [
        ("revocation_set_size", 7.0),
        ("revocation_sequence_applied", 42.0),
        ("live_streams", 3.0),
        ("streams_cut_total", 11.0),
        ("lease_remaining_seconds", 2.5),
        ("lease_proof_age_seconds", 0.5),
        ("log_lines_dropped_total", 9.0),
    ] {
        assert_eq!(samples[&format!("portcullis_{series}")], value, "{series}");
    }
}

#[test]
fn the_process_and_its_version_are_named() {
    let samples = scrape(&metrics(&[], 1));
    let version = env!("CARGO_PKG_VERSION");
    let build = format!(r#"portcullis_build_info{{version="{version}"}}"#);
    assert_eq!(samples[&build], 1.0);
    assert_eq!(samples["process_start_time_seconds"], 1_700_000_000.0);
    assert!(samples["process_resident_memory_bytes"] > 0.0);
    assert!(samples.contains_key("process_cpu_seconds_total"));
}

#[test]
fn routes_with_one_label_are_one_series_and_labels_are_quoted() {
    let metrics = metrics(&["/login", "/login", "/a\"b\\c\nd"], 1);
    for route in 0..3 {
        metrics
            .worker(0)
            .record(RouteId::new(route), Outcome::Login, MICRO, Some(MICRO));
    }
    let samples = scrape(&metrics);
    assert_eq!(
        samples[r#"portcullis_requests_total{route="/login",outcome="login"}"#],
        2.0
    );
    assert_eq!(
        samples[r#"portcullis_requests_total{route="/a\"b\\c\nd",outcome="login"}"#],
        1.0
    );
}

/// T119 b: whatever was recorded, the series are those of the configuration.
#[test]
fn the_number_of_series_is_bounded_by_the_configuration() {
    let metrics = metrics(&["/a", "/b"], 3);
    let outcomes = [
        Outcome::Login,
        Outcome::Logout,
        Outcome::Refresh,
        Outcome::forwarded(StatusCode::CONTINUE),
        Outcome::forwarded(StatusCode::OK),
        Outcome::forwarded(StatusCode::FOUND),
        Outcome::forwarded(StatusCode::NOT_FOUND),
        Outcome::forwarded(StatusCode::BAD_GATEWAY),
    ];
    let rejections = (0..=u8::MAX).map(|id| Outcome::Rejected(RejectionId::new(id)));
    for outcome in outcomes.into_iter().chain(rejections) {
        for route in (0..50).chain([u32::MAX]) {
            let worker = metrics.worker(route as usize % 7);
            worker.record(RouteId::new(route), outcome, MICRO, Some(MICRO));
        }
    }
    let samples = scrape(&metrics);
    let routes = 3; // with "none"
    let outcomes = 8 + 3; // "expired", "revoked", "other"
    let requests = samples
        .keys()
        .filter(|series| series.starts_with("portcullis_requests_total"));
    assert_eq!(requests.count(), routes * outcomes);
    let histograms = samples.keys().filter(|series| {
        series.starts_with("portcullis_gateway") || series.starts_with("portcullis_upstream")
    });
    assert_eq!(histograms.count(), routes * 2 * (15 + 2));
    assert!(samples.keys().all(|series| !series.contains("user")));
}

#[test]
fn nothing_is_lost_when_workers_count_while_the_metrics_are_read() {
    const REQUESTS: u64 = 20_000;
    let metrics = metrics(&["/"], 4);
    thread::scope(|scope| {
        for n in 0..4 {
            let worker = metrics.worker(n);
            scope.spawn(move || {
                for _ in 0..REQUESTS {
                    worker.connection_opened();
                    worker.record(RouteId::new(0), Outcome::Login, MICRO, None);
                    worker.connection_closed();
                }
            });
        }
        let mut before = 0.0;
        for _ in 0..50 {
            let samples = scrape(&metrics);
            let count = samples
                .get(r#"portcullis_requests_total{route="/",outcome="login"}"#)
                .copied()
                .unwrap_or_default();
            assert!(count >= before, "a counter went back");
            before = count;
        }
    });
    let samples = scrape(&metrics);
    let total = 4.0 * 20_000.0;
    assert_eq!(
        samples[r#"portcullis_requests_total{route="/",outcome="login"}"#],
        total
    );
    assert_eq!(
        samples[r#"portcullis_gateway_seconds_count{route="/"}"#],
        total
    );
    assert_eq!(samples["portcullis_connections"], 0.0);
}
