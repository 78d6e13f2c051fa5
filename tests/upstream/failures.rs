//! Upstreams that are down, slow or mad, clients that fail, and who is blamed.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use portcullis::clock::Clock;
use portcullis::upstream::{Fault, Replay, SharedUpstream, Upstream, UpstreamError};
use tokio::net::TcpSocket;

use crate::support::{fetch, get, outgoing, post, serve, settings, text, upstream_of, worker};

const SHORT: Duration = Duration::from_millis(80);

async fn failure_of(upstream: &Upstream) -> UpstreamError {
    upstream
        .send(outgoing(get("/")), Replay::Allowed)
        .await
        .unwrap_err()
}

#[track_caller]
fn assert_failure(error: &UpstreamError, fault: Fault, name: &str) {
    assert_eq!((error.fault(), error.name()), (fault, name), "{error:?}");
}

#[test]
fn nobody_listens() {
    worker(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let upstream = upstream_of(settings(&address));
        let error = failure_of(&upstream).await;
        assert_failure(&error, Fault::Upstream, "upstream_connect");
        assert!(error.to_string().contains("app"), "{error}");
    });
}

#[test]
fn nobody_accepts() {
    worker(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(one)) =
            tokio::time::timeout(SHORT, tokio::net::TcpStream::connect(address)).await
        {
            waiting.push(one);
        }
        let mut settings = settings(&address.to_string());
        settings.timeouts.connect = SHORT;
        let upstream = upstream_of(settings);
        let error = failure_of(&upstream).await;
        assert_failure(&error, Fault::Upstream, "upstream_connect_timeout");
    });
}

#[test]
fn a_host_name_is_looked_up() {
    worker(async {
        let server = crate::support::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
        let authority = format!("localhost:{}", server.address.port());
        let shared = SharedUpstream::new(settings(&authority), Clock::system()).unwrap();
        let upstream = Upstream::new(shared.clone());
        let error = failure_of(&upstream).await;
        assert_failure(&error, Fault::Upstream, "upstream_connect");
        shared.look_up_names().await;
        fetch(&upstream, get("/")).await.unwrap();
    });
}

#[test]
fn what_is_no_http_answer_is_refused() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1_000_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    let cases = [
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nname : x\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        &long,
        &endless,
        &many,
    ]
    .map(|case| (case, "upstream_garbage"));
    let unclear = [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\na",
        "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\na",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ]
    .map(|case| (case, "upstream_framing"));
    for (case, name) in cases.into_iter().chain(unclear) {
        let answer: &'static str = case.to_owned().leak();
        worker(async {
            let server = crate::support::answering(answer).await;
            let upstream = server.upstream();
            let error = failure_of(&upstream).await;
            assert_failure(&error, Fault::Upstream, name);
            server.scripts_over(1).await;
            assert_eq!((server.connections(), upstream.idle_connections()), (1, 0));
        });
    }
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_refused() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
            )
            .await;
            peer.closed().await;
        })
        .await;
        let error = failure_of(&server.upstream()).await;
        assert_failure(&error, Fault::Upstream, "upstream_unexpected_upgrade");
        server.scripts_over(1).await;
    });
}

#[test]
fn an_upstream_that_never_answers_is_given_up() {
    worker(async {
        let server = serve(|_, mut peer| async move { peer.closed().await }).await;
        let upstream = server.upstream_with(Clock::system(), |settings| {
            settings.timeouts.response = SHORT
        });
        let error = failure_of(&upstream).await;
        assert_failure(&error, Fault::Upstream, "upstream_response_timeout");
        server.scripts_over(1).await;
    });
}

#[test]
fn the_wait_begins_anew_with_each_request_on_a_connection() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            while peer.request().await.is_some() {
                tokio::time::sleep(SHORT / 2).await;
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await;
            }
        })
        .await;
        let upstream = server.upstream_with(Clock::system(), |settings| {
            settings.timeouts.response = SHORT
        });
        for _ in 0..4 {
            assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "ok");
        }
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn the_body_of_an_answer_may_take_longer_than_its_head() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsl")
                .await;
            tokio::time::sleep(SHORT * 2).await;
            peer.send("ow").await;
        })
        .await;
        let upstream = server.upstream_with(Clock::system(), |settings| {
            settings.timeouts.response = SHORT
        });
        assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "slow");
    });
}

#[test]
fn a_slow_client_is_not_held_against_the_upstream() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.read_to("0\r\n\r\n").await.unwrap();
            tokio::time::sleep(SHORT / 2).await;
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        })
        .await;
        let upstream = server.upstream_with(Clock::system(), |settings| {
            settings.timeouts.response = SHORT
        });
        let pieces = stream::iter(0..3).then(|_| async {
            tokio::time::sleep(SHORT * 2).await;
            Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"piece")))
        });
        let request = Request::post("/").body(StreamBody::new(pieces)).unwrap();
        let answer = upstream
            .send(outgoing(request), Replay::Never)
            .await
            .unwrap();
        assert_eq!(text(answer).await, "ok");
    });
}

#[test]
fn an_upstream_that_stops_reading_is_given_up() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            std::future::pending::<()>().await;
        })
        .await;
        let upstream = server.upstream_with(Clock::system(), |settings| {
            settings.timeouts.response = SHORT
        });
        let body = Full::new(Bytes::from(vec![0; 64 << 20]));
        let pieces = stream::iter(
            body.into_inner()
                .unwrap()
                .chunks(1 << 16)
                .map(Bytes::copy_from_slice)
                .collect::<Vec<_>>(),
        )
        .map(|piece| Ok::<_, io::Error>(Frame::data(piece)));
        let request = Request::post("/").body(StreamBody::new(pieces)).unwrap();
        let error = upstream
            .send(outgoing(request), Replay::Never)
            .await
            .unwrap_err();
        assert_failure(&error, Fault::Upstream, "upstream_response_timeout");
    });
}

#[test]
fn a_body_that_fails_is_the_clients_fault() {
    worker(async {
        let server = serve(|_, mut peer| async move { peer.closed().await }).await;
        let upstream = server.upstream();
        let pieces = stream::iter([
            Ok(Frame::data(Bytes::from_static(b"begun"))),
            Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        ]);
        let request = Request::post("/").body(StreamBody::new(pieces)).unwrap();
        let error = upstream
            .send(outgoing(request), Replay::Never)
            .await
            .unwrap_err();
        assert_failure(&error, Fault::Client, "request_body");
        server.scripts_over(1).await;
    });
}

#[test]
fn a_body_that_breaks_off_never_looks_whole_to_the_upstream() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            assert_eq!(peer.read_to("0\r\n\r\n").await, None);
        })
        .await;
        let pieces = stream::iter([
            Ok(Frame::data(Bytes::from_static(b"begun"))),
            Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        ])
        .then(|piece| async {
            tokio::time::sleep(SHORT / 8).await;
            piece
        });
        let request = Request::post("/").body(StreamBody::new(pieces)).unwrap();
        server
            .upstream()
            .send(outgoing(request), Replay::Never)
            .await
            .unwrap_err();
        server.scripts_over(1).await;
    });
}

#[test]
fn after_any_failure_the_next_request_succeeds() {
    worker(async {
        let server = serve(|number, mut peer| async move {
            peer.request().await.unwrap();
            match number {
                0 => {}
                1 => peer.send("garbage\r\n\r\n").await,
                2 => peer.closed().await,
                // As often as it is tried.
                3..=5 => peer.reset(),
                _ => {
                    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                        .await
                }
            }
        })
        .await;
        let upstream = server.upstream_with(Clock::system(), |settings| {
            settings.timeouts.response = SHORT
        });
        for name in [
            "upstream_closed",
            "upstream_garbage",
            "upstream_response_timeout",
            "upstream_closed",
        ] {
            assert_eq!(failure_of(&upstream).await.name(), name);
        }
        assert_eq!(fetch(&upstream, post("/", "x")).await.unwrap(), "ok");
    });
}
