//! WebSockets through the gateway: the handshake is its business, what follows is not.

use std::thread;

use crate::support::{Conn, Gateway, Home, Upstream, header, only_app};

const HANDSHAKE: &str = "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chat\r\nsec-websocket-extensions: permessage-deflate\r\n";

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// Sends back whatever comes, and says goodbye when the client has.
fn echo() -> Upstream {
    Upstream::scripted(|peer, head| {
        if header(head, "upgrade").is_none() {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
        }
        peer.send(SWITCHED);
        while let Some(byte) = peer.exactly(1) {
            peer.send(byte);
        }
        peer.send("over");
        false
    })
}

fn open(gateway: &Gateway, path: &str, cookie: &str) -> Conn {
    let mut conn = gateway.connect();
    conn.send(format!(
        "GET {path} HTTP/1.1\r\nhost: g.test\r\norigin: http://g.test\r\n{HANDSHAKE}{cookie}\r\n"
    ));
    conn
}

#[test]
fn bytes_go_through_as_they_are() {
    let upstream = echo();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let cookie = format!("cookie: {}\r\n", home.open_session("alice").cookie);
    let mut socket = open(&gateway, "/ws?x=1", &cookie);
    let answer = socket.bodiless_answer();
    assert_eq!(answer.status, 101);
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat"));
    let head = upstream.only_head();
    assert!(head.starts_with("GET /ws?x=1 HTTP/1.1\r\n"), "{head}");
    for (name, value) in [
        ("connection", Some("upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ==")),
        ("sec-websocket-version", Some("13")),
        ("sec-websocket-extensions", Some("permessage-deflate")),
        ("x-user-id", Some("alice")),
        ("cookie", None),
    ] {
        assert_eq!(header(&head, name), value, "{name}");
    }
    let long = [&[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4][..], &[7; 0xffff]].concat();
    for (what, frame) in [
        ("text", &b"\x81\x85\x01\x02\x03\x04hello"[..]),
        ("a fragment", b"\x01\x83\x01\x02\x03\x04hel"),
        ("a ping between fragments", b"\x89\x80\x01\x02\x03\x04"),
        ("the last fragment", b"\x80\x82\x01\x02\x03\x04lo"),
        ("a pong", b"\x8a\x81\x01\x02\x03\x04x"),
        ("compressed", b"\xc1\x81\x01\x02\x03\x04x"),
        ("binary", &long),
        (
            "a close code of the application",
            b"\x88\x82\x00\x00\x00\x00\x0f\xa1",
        ),
        (
            "what is no frame at all",
            b"\xff\x00\xff\x00GET / HTTP/1.1\r\n\r\n",
        ),
    ] {
        socket.send(frame);
        assert_eq!(socket.exactly(frame.len()).unwrap(), frame, "{what}");
    }
    // One side is done, the other goes on.
    socket.finish();
    assert_eq!(socket.rest(), b"over");
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn a_tunnel_waits_for_its_reader() {
    const TOTAL: usize = 64 * 1024 * 1024;
    let upstream = Upstream::scripted(|peer, _| {
        peer.send(SWITCHED);
        (0..TOTAL / 65536).all(|_| peer.send([b'x'; 65536]))
    });
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    gateway.status("/private", "");
    let before = gateway.resident_kib(false);
    let mut socket = open(&gateway, "/public/ws", "");
    assert_eq!(socket.bodiless_answer().status, 101);
    thread::sleep(std::time::Duration::from_millis(300));
    let (mut read, mut buffer) = (0, vec![0; 65536]);
    while read < TOTAL {
        let count = socket.read_some(&mut buffer);
        assert_ne!(count, 0);
        read += count;
    }
    let after = gateway.resident_kib(true);
    assert!(after < before + 16 * 1024, "{before} KiB, {after} KiB");
}

#[test]
fn a_logout_by_command_closes_the_sockets_of_the_session_alone() {
    let upstream = echo();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let (alice, bob) = (home.open_session("alice"), home.open_session("bob"));
    let mut sockets: Vec<Conn> = [&alice, &alice, &bob]
        .iter()
        .map(|opened| {
            let mut socket = open(&gateway, "/ws", &format!("cookie: {}\r\n", opened.cookie));
            assert_eq!(socket.bodiless_answer().status, 101);
            socket
        })
        .collect();
    let ended = home.run(&["sessions", "revoke", &alice.handle]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut left = sockets.pop().unwrap();
    for mut socket in sockets {
        let rest = socket.rest();
        assert_eq!(rest[2..4], 4401_u16.to_be_bytes(), "{rest:?}");
    }
    left.send("still here");
    assert_eq!(left.exactly(10).unwrap(), b"still here");
}
