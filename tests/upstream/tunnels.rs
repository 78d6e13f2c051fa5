//! Tunnels between two real sockets, and their end.

use std::future::pending;
use std::time::Duration;

use portcullis::proxy::tunnel::{
    self, CutReason, Side, TunnelEnd, TunnelKind, TunnelReport, TunnelTerms,
};
use portcullis::proxy::websocket::close_frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

use crate::support::worker;

/// A tunnel that runs, and the sockets of the two who talk through it.
struct Tunnel {
    client: TcpStream,
    upstream: TcpStream,
    cut: Option<oneshot::Sender<CutReason>>,
    report: JoinHandle<TunnelReport>,
}

impl Tunnel {
    async fn open(kind: TunnelKind) -> Self {
        Self::with(TunnelTerms {
            kind,
            idle: None,
            write: None,
        })
        .await
    }

    async fn with(terms: TunnelTerms) -> Self {
        let (client, ours) = connected().await;
        let (theirs, upstream) = connected().await;
        let (cut, end) = oneshot::channel();
        let end = async {
            match end.await {
                Ok(reason) => reason,
                Err(_) => pending().await,
            }
        };
        let report = spawn_local(tunnel::run(ours, theirs, end, terms));
        Self {
            client,
            upstream,
            cut: Some(cut),
            report,
        }
    }

    fn cut(&mut self, reason: CutReason) {
        self.cut.take().unwrap().send(reason).unwrap();
    }

    /// Sends from the upstream and waits until the client has it.
    async fn down(&mut self, bytes: &[u8]) {
        self.upstream.write_all(bytes).await.unwrap();
        let mut received = vec![0; bytes.len()];
        self.client.read_exact(&mut received).await.unwrap();
        assert_eq!(received, bytes);
    }
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    (one.unwrap(), other.unwrap().0)
}

async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    rest
}

#[track_caller]
fn assert_cut(report: &TunnelReport, told: bool) {
    match report.end {
        TunnelEnd::Cut {
            reason: CutReason::Revoked,
            close_frame_sent,
        } => assert_eq!(close_frame_sent, told),
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn every_byte_passes_both_ways_and_is_counted() {
    worker(async {
        let tunnel = Tunnel::open(TunnelKind::Opaque).await;
        let up: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let down: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 241) as u8).collect();
        let (mut from_client, mut to_client) = tunnel.client.into_split();
        let (mut from_upstream, mut to_upstream) = tunnel.upstream.into_split();
        let (mut client_got, mut upstream_got) = (Vec::new(), Vec::new());
        tokio::join!(
            async {
                to_client.write_all(&up).await.unwrap();
                drop(to_client);
            },
            async {
                to_upstream.write_all(&down).await.unwrap();
                drop(to_upstream);
            },
            async { from_client.read_to_end(&mut client_got).await.unwrap() },
            async { from_upstream.read_to_end(&mut upstream_got).await.unwrap() },
        );
        assert!(upstream_got == up && client_got == down);
        let report = tunnel.report.await.unwrap();
        assert!(matches!(report.end, TunnelEnd::Finished));
        assert_eq!(report.client_to_upstream, 3_000_000);
        assert_eq!(report.upstream_to_client, 5_000_000);
    });
}

#[test]
fn who_is_done_may_still_listen() {
    for client_first in [true, false] {
        worker(async {
            let mut tunnel = Tunnel::open(TunnelKind::WebSocket).await;
            let (first, second) = if client_first {
                (&mut tunnel.client, &mut tunnel.upstream)
            } else {
                (&mut tunnel.upstream, &mut tunnel.client)
            };
            first.write_all(b"done").await.unwrap();
            first.shutdown().await.unwrap();
            assert_eq!(rest(second).await, b"done");
            second.write_all(b"not yet").await.unwrap();
            second.shutdown().await.unwrap();
            assert_eq!(rest(first).await, b"not yet");
            assert!(matches!(
                tunnel.report.await.unwrap().end,
                TunnelEnd::Finished
            ));
        });
    }
}

#[test]
fn a_reader_that_does_not_read_holds_the_writer_back() {
    worker(async {
        let tunnel = Tunnel::open(TunnelKind::Opaque).await;
        let mut upstream = tunnel.upstream;
        let flood = async {
            let mut sent = 0_usize;
            loop {
                sent += upstream.write(&[0; 1 << 16]).await.unwrap();
                assert!(sent < 64 << 20, "the tunnel swallows what nobody reads");
            }
        };
        let flooded = tokio::time::timeout(Duration::from_millis(300), flood).await;
        assert!(flooded.is_err(), "held back");
    });
}

#[test]
fn a_side_that_fails_ends_the_tunnel() {
    for failing in [Side::Client, Side::Upstream] {
        worker(async {
            let mut tunnel = Tunnel::open(TunnelKind::Opaque).await;
            tunnel.down(b"hello").await;
            let (failed, mut other) = match failing {
                Side::Client => (tunnel.client, tunnel.upstream),
                Side::Upstream => (tunnel.upstream, tunnel.client),
            };
            failed.set_zero_linger().unwrap();
            drop(failed);
            assert_eq!(rest(&mut other).await, b"");
            match tunnel.report.await.unwrap().end {
                TunnelEnd::Failed { side, .. } => assert_eq!(side, failing),
                other => panic!("{other:?}"),
            }
        });
    }
}

#[test]
fn a_websocket_between_frames_is_told_at_once() {
    let codes = [
        (CutReason::Revoked, 4401),
        (CutReason::Lapsed, 1013),
        (CutReason::Shutdown, 1001),
        (CutReason::Idle, 1001),
        (CutReason::TooOld, 1001),
    ];
    for (reason, code) in codes {
        worker(async {
            let mut tunnel = Tunnel::open(TunnelKind::WebSocket).await;
            tunnel.down(b"\x81\x02hi").await;
            tunnel.cut(reason);
            let farewell = rest(&mut tunnel.client).await;
            assert_eq!(farewell[..2], [0x88, farewell.len() as u8 - 2]);
            assert_eq!(u16::from_be_bytes([farewell[2], farewell[3]]), code);
            assert_eq!(rest(&mut tunnel.upstream).await, b"");
        });
    }
}

#[test]
fn a_frame_in_progress_is_finished_before_the_close_frame() {
    worker(async {
        let mut tunnel = Tunnel::open(TunnelKind::WebSocket).await;
        tunnel.down(b"\x81\x05he").await;
        tunnel.cut(CutReason::Revoked);
        tokio::task::yield_now().await;
        tunnel
            .upstream
            .write_all(b"llo\x81\x05never")
            .await
            .unwrap();
        let mut expected = b"llo".to_vec();
        expected.extend(close_frame(4401, "session ended"));
        assert_eq!(rest(&mut tunnel.client).await, expected);
        drop(tunnel.client);
        let report = tunnel.report.await.unwrap();
        assert_cut(&report, true);
        assert_eq!(report.upstream_to_client, 7);
    });
}

#[test]
fn what_the_client_sends_after_the_cut_goes_nowhere() {
    worker(async {
        let mut tunnel = Tunnel::open(TunnelKind::WebSocket).await;
        tunnel.down(b"\x81\x05he").await;
        tunnel.cut(CutReason::Revoked);
        tunnel.client.write_all(b"\x81\x80\0\0\0\0").await.unwrap();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        tunnel.upstream.write_all(b"llo").await.unwrap();
        assert!(rest(&mut tunnel.client).await.ends_with(b"session ended"));
        tunnel.client.write_all(b"\x88\x80\0\0\0\0").await.unwrap();
        drop(tunnel.client);
        let report = tunnel.report.await.unwrap();
        assert_eq!(report.client_to_upstream, 0);
        let mut got = Vec::new();
        let _ = tunnel.upstream.read_to_end(&mut got).await;
        assert_eq!(got, b"");
    });
}

#[test]
fn no_close_frame_where_it_would_not_be_one() {
    let cases: [(&str, TunnelKind, &[u8]); 4] = [
        ("not a websocket", TunnelKind::Opaque, b"\x81\x02hi"),
        ("not followed", TunnelKind::WebSocket, b"\x89\x7e\x01\x00"),
        (
            "closed by the upstream",
            TunnelKind::WebSocket,
            b"\x88\x02\x03\xe8",
        ),
        (
            "a frame that is never finished",
            TunnelKind::WebSocket,
            b"\x81\x05he",
        ),
    ];
    for (what, kind, before) in cases {
        worker(async {
            let mut tunnel = Tunnel::open(kind).await;
            tunnel.down(before).await;
            tunnel.cut(CutReason::Revoked);
            assert_eq!(rest(&mut tunnel.client).await, b"", "{what}");
            assert_cut(&tunnel.report.await.unwrap(), false);
        });
    }
}

#[test]
fn a_client_that_does_not_read_is_cut_all_the_same() {
    worker(async {
        let mut tunnel = Tunnel::open(TunnelKind::WebSocket).await;
        let mut flood = b"\x82\x7f\0\0\0\0\x04\0\0\0".to_vec();
        flood.resize(64 << 20, 0);
        let _ = tokio::time::timeout(
            Duration::from_millis(200),
            tunnel.upstream.write_all(&flood),
        )
        .await;
        tunnel.cut(CutReason::Revoked);
        let report = tokio::time::timeout(Duration::from_secs(3), tunnel.report).await;
        assert_cut(&report.expect("it ends").unwrap(), false);
    });
}

#[test]
fn a_session_that_ended_before_the_tunnel_began_gets_no_byte_through() {
    worker(async {
        let (mut client, ours) = connected().await;
        let (theirs, mut upstream) = connected().await;
        client.write_all(b"\x81\x80\0\0\0\0").await.unwrap();
        upstream.write_all(b"\x81\x02hi").await.unwrap();
        let run = tunnel::run(
            ours,
            theirs,
            async { CutReason::Revoked },
            TunnelTerms {
                kind: TunnelKind::WebSocket,
                idle: None,
                write: None,
            },
        );
        let (report, received) = tokio::join!(run, async {
            let received = rest(&mut client).await;
            drop(client);
            received
        });
        assert_cut(&report, true);
        assert_eq!(received, close_frame(4401, "session ended"));
        assert_eq!(
            (report.client_to_upstream, report.upstream_to_client),
            (0, 0)
        );
    });
}
