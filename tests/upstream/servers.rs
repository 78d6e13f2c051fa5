//! Several servers: who gets what, what happens when one fails, and how many connections there are.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use portcullis::clock::{Clock, ClockHands};
use portcullis::upstream::{
    Fault, Replay, ServerUrl, SharedUpstream, Terms, Upstream, UpstreamSettings,
};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::Notify;

use crate::support::{
    Server, answering, bodiless, fetch, get, outgoing, plain, post, serve, serve_on, settings,
    text, upstream_of, worker,
};

const ONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none";
const TWO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn settings_of(servers: &[ServerUrl]) -> UpstreamSettings {
    UpstreamSettings {
        servers: servers.to_vec(),
        ..settings("127.0.0.1:1")
    }
}

/// An address that refuses connections as long as the socket lives.
fn refusing() -> (TcpSocket, ServerUrl) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = plain(socket.local_addr().unwrap());
    (socket, url)
}

fn with_clock(settings: UpstreamSettings) -> (SharedUpstream, Upstream, ClockHands) {
    let (clock, hands) = Clock::adjustable();
    let shared = SharedUpstream::new(settings, clock).unwrap();
    (shared.clone(), Upstream::new(shared), hands)
}

fn ejected(shared: &SharedUpstream) -> Vec<bool> {
    let servers = shared.servers();
    servers.iter().map(|server| server.is_ejected).collect()
}

#[test]
fn requests_are_shared() {
    worker(async {
        let servers = [
            answering(ONE).await,
            answering(TWO).await,
            answering(TWO).await,
        ];
        let upstream = upstream_of(settings_of(
            &servers.each_ref().map(|server| plain(server.address)),
        ));
        for _ in 0..300 {
            fetch(&upstream, get("/")).await.unwrap();
        }
        for server in &servers {
            assert!(
                (60..140).contains(&server.requests().len()),
                "{}",
                server.requests().len()
            );
        }
    });
}

#[test]
fn requests_are_shared_by_weight() {
    worker(async {
        let servers = [answering(ONE).await, answering(TWO).await];
        let urls = servers.each_ref().map(|server| plain(server.address));
        let upstream = upstream_of(UpstreamSettings {
            weights: vec![9, 1],
            ..settings_of(&urls)
        });
        for _ in 0..300 {
            fetch(&upstream, get("/")).await.unwrap();
        }
        let (more, less) = (servers[0].requests().len(), servers[1].requests().len());
        assert!(more + less == 300 && (10..60).contains(&less), "{less}");
    });
}

#[test]
fn a_server_that_is_busy_gets_less() {
    worker(async {
        let held = Rc::new(Notify::new());
        let slow = serve({
            let held = Rc::clone(&held);
            move |_, mut peer| {
                let held = Rc::clone(&held);
                async move {
                    while peer.request().await.is_some() {
                        held.notified().await;
                        peer.send(ONE).await;
                    }
                }
            }
        })
        .await;
        let quick = answering(TWO).await;
        let upstream = upstream_of(settings_of(&[plain(slow.address), plain(quick.address)]));
        let clients: Vec<_> = (0..100)
            .map(|_| {
                let upstream = upstream.clone();
                tokio::task::spawn_local(async move { fetch(&upstream, get("/")).await.unwrap() })
            })
            .collect();
        while quick.requests().len() + slow.requests().len() < 100 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            fetch(&upstream, get("/")).await.unwrap();
        }
        let before = slow.requests().len();
        assert!(before <= 55, "{before}: none of the last hundred");
        for _ in 0..before {
            held.notify_one();
            tokio::task::yield_now().await;
        }
        while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
            held.notify_one();
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn whatever_could_not_be_sent_goes_elsewhere() {
    worker(async {
        let (_socket, dead) = refusing();
        let alive = answering(TWO).await;
        let upstream = upstream_of(settings_of(&[dead, plain(alive.address)]));
        for round in 0..50 {
            assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "two", "{round}");
            assert_eq!(fetch(&upstream, post("/", "body")).await.unwrap(), "two");
        }
    });
}

#[test]
fn without_retries_it_does_not() {
    worker(async {
        let (_socket, dead) = refusing();
        let alive = answering(TWO).await;
        let mut settings = settings_of(&[dead, plain(alive.address)]);
        settings.retries = 0;
        settings.ejection.failures = 0;
        let upstream = upstream_of(settings);
        let mut failed = 0;
        for _ in 0..100 {
            failed += usize::from(fetch(&upstream, get("/")).await.is_err());
        }
        assert!((30..70).contains(&failed), "{failed}");
    });
}

#[test]
fn what_a_fresh_connection_swallows_goes_elsewhere_only_if_it_may() {
    for (method, is_answered) in [
        (Method::GET, true),
        (Method::DELETE, true),
        (Method::POST, false),
        (Method::PATCH, false),
    ] {
        worker(async {
            let swallows = serve(|_, mut peer| async move {
                peer.request().await.unwrap();
            })
            .await;
            let alive = answering(TWO).await;
            let mut settings = settings_of(&[plain(swallows.address), plain(alive.address)]);
            settings.ejection.failures = 0;
            let upstream = upstream_of(settings);
            let mut answered = 0;
            for _ in 0..40 {
                let sent = upstream
                    .send(outgoing(bodiless(method.clone(), "/")), Replay::Allowed)
                    .await;
                answered += usize::from(sent.is_ok());
            }
            assert_eq!(answered == 40, is_answered, "{method}: {answered}");
            assert_eq!(
                alive.requests().len(),
                answered,
                "nothing came twice to one that answers"
            );
        });
    }
}

#[test]
fn one_that_fails_is_left_alone_and_tried_again() {
    worker(async {
        let (_socket, dead) = refusing();
        let alive = answering(TWO).await;
        let mut settings = settings_of(&[dead, plain(alive.address)]);
        settings.ejection.failures = 3;
        let (shared, upstream, hands) = with_clock(settings);
        for _ in 0..50 {
            fetch(&upstream, get("/")).await.unwrap();
        }
        assert_eq!(ejected(&shared), [true, false]);
        assert_eq!(shared.servers()[0].ejections, 1);
        hands.advance_boot(Duration::from_secs(10));
        assert_eq!(ejected(&shared), [false, false]);
        for _ in 0..50 {
            fetch(&upstream, get("/")).await.unwrap();
        }
        assert_eq!(shared.servers()[0].ejections, 2, "one failure was enough");
        hands.advance_boot(Duration::from_secs(19));
        assert_eq!(ejected(&shared), [true, false], "for longer");
    });
}

#[test]
fn answers_of_a_broken_gateway_count_too() {
    worker(async {
        let broken = answering(BUSY).await;
        let alive = answering(TWO).await;
        let (shared, upstream, _) =
            with_clock(settings_of(&[plain(broken.address), plain(alive.address)]));
        for _ in 0..50 {
            upstream
                .send(outgoing(get("/")), Replay::Allowed)
                .await
                .unwrap();
        }
        assert_eq!(ejected(&shared), [true, false]);
        assert_eq!(
            broken.requests().len(),
            3,
            "each was the answer to its request"
        );
    });
}

#[test]
fn one_alone_is_never_left_alone() {
    worker(async {
        let broken = answering(BUSY).await;
        let (shared, upstream, _) = with_clock(settings_of(&[plain(broken.address)]));
        for _ in 0..20 {
            upstream
                .send(outgoing(get("/")), Replay::Allowed)
                .await
                .unwrap();
        }
        assert_eq!(ejected(&shared), [false]);
        assert_eq!(broken.requests().len(), 20);
    });
}

#[test]
fn connections_are_bounded_and_so_are_those_who_wait() {
    worker(async {
        let held = Rc::new(Notify::new());
        let server = holding(&held).await;
        let mut settings = settings_of(&[plain(server.address)]);
        settings.connections = 4;
        settings.waiting = 8;
        let upstream = upstream_of(settings);
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let upstream = upstream.clone();
                tokio::task::spawn_local(async move { fetch(&upstream, get("/")).await })
            })
            .collect();
        while server.requests().len() < 4 {
            tokio::task::yield_now().await;
        }
        while !clients.iter().all(tokio::task::JoinHandle::is_finished) {
            held.notify_one();
            tokio::task::yield_now().await;
        }
        let answers = join_all(clients).await;
        let refused: Vec<_> = answers
            .into_iter()
            .filter_map(|answer| answer.unwrap().err())
            .collect();
        assert_eq!(refused.len(), 8);
        for error in &refused {
            assert_eq!(
                (error.name(), error.fault()),
                ("upstream_full", Fault::Gateway)
            );
        }
        assert_eq!((server.connections(), server.requests().len()), (4, 12));
    });
}

#[test]
fn who_waits_too_long_is_told_so() {
    worker(async {
        let held = Rc::new(Notify::new());
        let server = holding(&held).await;
        let mut settings = settings_of(&[plain(server.address)]);
        settings.connections = 1;
        settings.timeouts.connect = Duration::from_millis(50);
        let upstream = upstream_of(settings);
        let first = tokio::task::spawn_local({
            let upstream = upstream.clone();
            async move { fetch(&upstream, get("/")).await }
        });
        while server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        let error = fetch(&upstream, get("/")).await.unwrap_err();
        assert_eq!(error.name(), "upstream_full");
        held.notify_one();
        assert_eq!(first.await.unwrap().unwrap(), "one");
        held.notify_one();
        assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "one");
    });
}

async fn holding(held: &Rc<Notify>) -> Server {
    let held = Rc::clone(held);
    serve(move |_, mut peer| {
        let held = Rc::clone(&held);
        async move {
            while peer.request().await.is_some() {
                held.notified().await;
                peer.send(ONE).await;
            }
        }
    })
    .await
}

#[test]
fn a_socket_file_is_a_server_too() {
    worker(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::task::spawn_local(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(async move {
                    use tokio::io::{AsyncReadExt, AsyncWriteExt};
                    let mut head = vec![0; 4096];
                    let count = socket.read(&mut head).await.unwrap();
                    assert!(head[..count].starts_with(b"GET /x HTTP/1.1\r\nhost: localhost\r\n"));
                    socket.write_all(ONE.as_bytes()).await.unwrap();
                });
            }
        });
        let upstream = upstream_of(settings_of(&[ServerUrl::Unix(path)]));
        let terms = Terms {
            host_of_server: true,
            ..Replay::Allowed.into()
        };
        let answer = upstream.send(outgoing(get("/x")), terms).await.unwrap();
        assert_eq!(text(answer).await, "one");
        let gone = upstream_of(settings_of(&[ServerUrl::Unix(folder.path().join("gone"))]));
        let error = fetch(&gone, get("/")).await.unwrap_err();
        assert_eq!(error.name(), "upstream_connect");
    });
}

#[test]
fn host_names_the_server_where_it_is_asked_to() {
    worker(async {
        let server = answering(ONE).await;
        let upstream = server.upstream();
        let terms = Terms {
            host_of_server: true,
            ..Replay::Allowed.into()
        };
        text(upstream.send(outgoing(get("/")), terms).await.unwrap()).await;
        fetch(&upstream, get("/")).await.unwrap();
        let heads = server.heads();
        assert!(
            heads[0].contains(&format!("host: {}\r\n", server.address)),
            "{}",
            heads[0]
        );
        assert!(heads[1].contains("host: app.test\r\n"), "{}", heads[1]);
    });
}

/// A restart: for a while nobody listens, and all connections of before are dead.
#[test]
fn a_restart_under_load_fails_no_idempotent_request() {
    worker(async {
        let stop = Rc::new(Notify::new());
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = first.local_addr().unwrap();
        let mortal = serve_on(first, {
            let stop = Rc::clone(&stop);
            move |_, mut peer| {
                let stop = Rc::clone(&stop);
                async move {
                    loop {
                        tokio::select! {
                            () = stop.notified() => return peer.reset(),
                            head = peer.request() => if head.is_none() { return },
                        }
                        tokio::task::yield_now().await;
                        peer.send(ONE).await;
                    }
                }
            }
        });
        let other = answering(TWO).await;
        let upstream = upstream_of(settings_of(&[plain(address), plain(other.address)]));
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let upstream = upstream.clone();
                tokio::task::spawn_local(async move {
                    for _ in 0..200 {
                        fetch(&upstream, get("/")).await.unwrap();
                    }
                })
            })
            .collect();
        while mortal.requests().len() < 200 {
            tokio::task::yield_now().await;
        }
        mortal.stop();
        stop.notify_waiters();
        while other.requests().len() < 800 {
            tokio::task::yield_now().await;
        }
        for client in clients {
            client.await.unwrap();
        }
    });
}
