//! The private listener over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::health::{self, HealthError};
use super::{AdminListener, AdminState, Readiness};
use crate::clock::Timestamp;
use crate::telemetry::{Metrics, MetricsSettings};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

const LIMIT: Duration = Duration::from_secs(20);

struct Admin {
    addr: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Admin {
    async fn start() -> Self {
        let listener = AdminListener::bind(LOOPBACK).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let readiness = Readiness::new();
        let metrics = Metrics::new(MetricsSettings {
            rejections: &[],
            workers: 1,
            started_at: Timestamp::from_secs(0),
        });
        let state = AdminState {
            metrics: metrics.clone(),
            readiness: readiness.clone(),
            host_names: vec!["gateway.internal".into()],
            api: None,
        };
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(listener.serve(state, shutdown.clone()));
        Self {
            addr,
            readiness,
            metrics,
            shutdown,
            serving,
        }
    }

    /// All that is answered to a head, with the connection closed after it.
    async fn send(&self, request_line: &str, headers: &str) -> Reply {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let head = format!("{request_line} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
        Reply {
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path}"), "host: 127.0.0.1\r\n")
            .await
    }

    async fn health(&self, path: &str) -> Result<(), HealthError> {
        health::check(&format!("http://{}{path}", self.addr), LIMIT).await
    }
}

#[derive(Debug)]
struct Reply {
    head: String,
    body: String,
}

impl Reply {
    fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

#[tokio::test]
async fn alive_is_not_ready() {
    let admin = Admin::start().await;
    let live = admin.get("/livez").await;
    assert_eq!((live.status(), live.body.as_str()), (200, "ok\n"));

    let starting = admin.get("/readyz").await;
    assert_eq!(starting.status(), 503);
    assert_eq!(
        starting.body,
        r#"{"status":"not ready","reasons":["starting"]}"#
    );

    admin.readiness.set_started();
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status(), 200);
    assert_eq!(ready.body, r#"{"status":"ready","reasons":[]}"#);
    assert!(ready.has("content-type: application/json"));

    admin.readiness.set_draining();
    assert_eq!(admin.get("/readyz").await.status(), 503);
    assert_eq!(admin.get("/livez").await.status(), 200);
}

#[tokio::test]
async fn metrics_are_shown_and_nothing_is_cached() {
    let admin = Admin::start().await;
    admin.metrics.session_opened();
    let reply = admin.get("/metrics").await;
    assert_eq!(reply.status(), 200);
    assert!(
        reply
            .body
            .contains("\nportcullis_sessions_opened_total 1\n")
    );
    assert!(reply.body.ends_with("# EOF\n"));
    assert!(reply.has("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(reply.has("cache-control: no-store") && reply.has("x-content-type-options: nosniff"));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let admin = Admin::start().await;
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/nothing", 404)] {
        let get = admin.get(path).await;
        let head = admin
            .send(&format!("HEAD {path}"), "host: 127.0.0.1\r\n")
            .await;
        assert_eq!((head.status(), head.body.as_str()), (status, ""), "{path}");
        assert!(head.has(&format!("content-length: {}", get.body.len())));
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let admin = Admin::start().await;
    for path in ["/", "/metrics/", "/livez/..", "/readyz%2f", "/auth/signout"] {
        let reply = admin.get(path).await;
        assert_eq!(reply.status(), 404, "{path}");
        assert!(reply.has("content-type: application/problem+json"));
        assert_eq!(
            reply.body,
            r#"{"type":"urn:problem-type:not-found","title":"Not Found","status":404,"code":"not-found","detail":"there is nothing at this path"}"#
        );
    }
    for method in ["POST", "OPTIONS", "DELETE", "TRACE", "get"] {
        let reply = admin
            .send(&format!("{method} /metrics"), "host: 127.0.0.1\r\n")
            .await;
        assert_eq!(reply.status(), 405, "{method}");
        assert!(reply.has("allow: get, head"), "{method}");
    }
}

/// T119 a, for what needs no key.
#[tokio::test]
async fn web_pages_of_strangers_learn_nothing() {
    let admin = Admin::start().await;
    for (target, headers, status) in [
        ("/metrics", "host: localhost\r\n", 200),
        ("/metrics", "host: gateway.internal:9901\r\n", 200),
        ("/metrics", "host: rebound.example\r\n", 421),
        ("http://rebound.example/metrics", "host: localhost\r\n", 421),
        ("/metrics", "", 400),
        ("/metrics", "host: localhost\r\nhost: localhost\r\n", 400),
        (
            "/metrics",
            "host: localhost\r\norigin: http://evil.example\r\n",
            403,
        ),
        (
            "/metrics",
            "host: localhost\r\nsec-fetch-site: cross-site\r\n",
            403,
        ),
        ("/nothing", "host: rebound.example\r\n", 421),
    ] {
        let reply = admin.send(&format!("GET {target}"), headers).await;
        assert_eq!(reply.status(), status, "{target} {headers:?}");
        assert_eq!(
            reply.body.contains("portcullis"),
            status == 200,
            "{headers:?}"
        );
        assert!(!reply.head.contains("access-control"), "{headers:?}");
    }
}

#[tokio::test]
async fn a_health_check_tells_ready_from_not_ready_and_not_there() {
    let admin = Admin::start().await;
    admin.health("/livez").await.unwrap();
    let error = admin.health("/readyz").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the answer was 503 Service Unavailable: {"status":"not ready","reasons":["starting"]}"#
    );
    admin.readiness.set_started();
    admin.health("/readyz").await.unwrap();
    admin.health("/metrics").await.unwrap();

    admin.shutdown.cancel();
    let Admin { addr, serving, .. } = admin;
    serving.await.unwrap();
    let gone = health::check(&format!("http://{addr}/readyz"), LIMIT).await;
    assert!(matches!(gone, Err(HealthError::Connect { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_health_check_does_not_wait_for_ever_and_takes_no_nonsense() {
    let silent = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}/readyz", silent.local_addr().unwrap());
    let answer = health::check(&url, Duration::from_millis(20)).await;
    assert!(
        matches!(answer, Err(HealthError::Timeout { .. })),
        "{answer:?}"
    );

    let talking = tokio::spawn(async move {
        let (mut stream, _) = silent.accept().await.unwrap();
        // The first is the one of the check that gave up.
        drop(stream);
        (stream, _) = silent.accept().await.unwrap();
        stream.write_all(b"SSH-2.0-x\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let answer = health::check(&url, LIMIT).await;
    assert!(
        matches!(answer, Err(HealthError::Protocol { .. })),
        "{answer:?}"
    );
    talking.await.unwrap();

    for url in ["", "/readyz", "https://127.0.0.1/readyz", "127.0.0.1:9901"] {
        let answer = health::check(url, LIMIT).await;
        assert!(
            matches!(
                answer,
                Err(HealthError::InvalidUrl { .. } | HealthError::UnsupportedUrl { .. })
            ),
            "{url:?}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn serving_ends_though_clients_hold_their_connections() {
    let admin = Admin::start().await;
    let mut idle = TcpStream::connect(admin.addr).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");

    admin.shutdown.cancel();
    let well_before_the_client_times_out = Duration::from_secs(5);
    tokio::time::timeout(well_before_the_client_times_out, admin.serving)
        .await
        .expect("it ends")
        .unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(admin.addr).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_an_error_at_once() {
    let first = AdminListener::bind(LOOPBACK).await.unwrap();
    let second = AdminListener::bind(first.local_addr().unwrap()).await;
    assert_eq!(second.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}
