//! Connections that become something else.

use std::future::pending;

use http::{Request, StatusCode};
use http_body_util::Empty;
use portcullis::proxy::tunnel::{self, Side, TunnelEnd, TunnelKind, TunnelTerms};
use portcullis::upstream::Replay;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Server, fetch, get, outgoing, serve, text, worker};

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

fn upgrade() -> Request<Empty<bytes::Bytes>> {
    Request::get("/ws")
        .header("host", "app.test")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(Empty::new())
        .unwrap()
}

/// Switches, says hello in the same breath, and echoes until the client is done.
async fn echo_server() -> Server {
    serve(|_, mut peer| async move {
        peer.request().await.unwrap();
        peer.send(&format!("{SWITCH}hello")).await;
        let (mut from, mut to) = peer.socket.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
        to.write_all(b"goodbye").await.unwrap();
    })
    .await
}

#[test]
fn after_a_101_the_caller_has_the_connection_with_all_that_came_early() {
    worker(async {
        let server = echo_server().await;
        let upstream = server.upstream();
        let mut answer = upstream
            .send(outgoing(upgrade()), Replay::Never)
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(answer.headers()["upgrade"], "websocket");

        let mut socket = answer.body_mut().take_tunnel().unwrap();
        let mut hello = [0; 5];
        socket.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
        socket.write_all(b"echo").await.unwrap();
        socket.shutdown().await.unwrap();
        let mut rest = String::new();
        socket.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "echogoodbye");
        drop(socket);
        assert_eq!(upstream.idle_connections(), 0);
    });
}

#[test]
fn an_upgrade_that_nobody_takes_closes_the_connection() {
    worker(async {
        let server = echo_server().await;
        let answer = server
            .upstream()
            .send(outgoing(upgrade()), Replay::Never)
            .await
            .unwrap();
        drop(answer);
        server.scripts_over(1).await;
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            while peer.request().await.is_some() {
                peer.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
                    .await;
            }
        })
        .await;
        let upstream = server.upstream();
        let answer = upstream
            .send(outgoing(upgrade()), Replay::Never)
            .await
            .unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN);
        assert_eq!(text(answer).await, "no");
        assert_eq!(fetch(&upstream, get("/")).await.unwrap(), "no");
        assert_eq!(server.connections(), 1);
    });
}

#[test]
fn a_tunnel_ends_when_the_upstream_goes_away_after_its_last_word() {
    worker(async {
        let server = serve(|_, mut peer| async move {
            peer.request().await.unwrap();
            peer.send(SWITCH).await;
            peer.socket.shutdown().await.unwrap();
            peer.read_to("anybody").await.unwrap();
            peer.reset();
        })
        .await;
        let mut answer = server
            .upstream()
            .send(outgoing(upgrade()), Replay::Never)
            .await
            .unwrap();
        let socket = answer.body_mut().take_tunnel().unwrap();
        let (mut client, ours) = tokio::io::duplex(64);
        let terms = TunnelTerms {
            kind: TunnelKind::Opaque,
            idle: None,
            write: None,
        };
        let tunnel = tunnel::run(ours, socket, pending(), terms);
        let (report, ()) = tokio::join!(tunnel, async {
            client.write_all(b"anybody").await.unwrap();
            while client.write_all(b" there?").await.is_ok() {
                tokio::task::yield_now().await;
            }
        });
        assert!(matches!(
            report.end,
            TunnelEnd::Failed {
                side: Side::Upstream,
                ..
            }
        ));
    });
}
