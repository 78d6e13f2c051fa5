//! Tunnels: byte for byte after the upstream's 101, and not before.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Front, Work, usually};
use crate::support::{Conn, PATIENCE, Upstream, header, timed};

cases! {
    a_tunnel_is_byte_exact_and_closes_by_halves: portcullis, nginx, haproxy;
    the_upstream_may_be_done_first: portcullis, nginx, haproxy;
    a_refused_handshake_is_an_ordinary_answer: portcullis, nginx, haproxy;
    an_ordinary_success_is_no_tunnel: portcullis, nginx, haproxy;
    what_is_sent_with_a_handshake_waits_for_the_tunnel: portcullis, nginx, haproxy;
    no_other_protocol_is_asked_for: portcullis, nginx, haproxy;
    nobody_connects_to_elsewhere: portcullis, nginx, haproxy;
    megabytes_pass_both_ways_at_once: portcullis, nginx, haproxy;
    a_side_that_goes_takes_the_other_with_it: portcullis, nginx, haproxy;
    one_at_rest_is_closed_and_one_in_use_is_not: portcullis, nginx, haproxy;
}

const HANDSHAKE: &str = "connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: chat\r\n";

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

fn open(front: &Front) -> Conn {
    let mut conn = front.connect();
    conn.send(format!(
        "GET /ws?x=1 HTTP/1.1\r\nhost: g.test\r\norigin: http://g.test\r\n{HANDSHAKE}\r\n"
    ));
    conn
}

fn a_tunnel_is_byte_exact_and_closes_by_halves(make: Make) {
    let upstream = echo();
    let front = Work::to(&upstream).start(make);
    let mut socket = open(&front);
    let answer = socket.bodiless_answer();
    assert_eq!(answer.status, 101);
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(answer.header("sec-websocket-protocol"), Some("chat"));
    let head = upstream.only_head();
    assert!(head.starts_with("GET /ws?x=1 HTTP/1.1\r\n"), "{head}");
    let told = |name| header(&head, name).map(str::to_ascii_lowercase);
    assert_eq!(told("connection").as_deref(), Some("upgrade"));
    assert_eq!(told("upgrade").as_deref(), Some("websocket"));
    assert_eq!(told("sec-websocket-version").as_deref(), Some("13"));
    let long = [&[0x82, 0xfe, 0xff, 0xff, 1, 2, 3, 4][..], &[7; 0xffff]].concat();
    for (what, frame) in [
        ("text", &b"\x81\x85\x01\x02\x03\x04hello"[..]),
        ("a fragment", b"\x01\x83\x01\x02\x03\x04hel"),
        ("a ping between fragments", b"\x89\x80\x01\x02\x03\x04"),
        ("the last fragment", b"\x80\x82\x01\x02\x03\x04lo"),
        ("compressed", b"\xc1\x81\x01\x02\x03\x04x"),
        ("binary", &long),
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
    let last = usually(&b"over"[..]).but(
        Nginx,
        b"",
        "a tunnel ends when either side says that it is done",
    );
    last.assert(make, &&*socket.rest(), "the other side");
    assert_eq!(upstream.requests(), 1);
}

fn the_upstream_may_be_done_first(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, _| {
        // Bytes on the heels of the handshake belong to the tunnel.
        peer.send(format!("{SWITCHED}\u{1}\u{2}early"));
        peer.finish();
        tell.send(peer.rest()).unwrap();
        false
    });
    let front = Work::to(&upstream).start(make);
    let mut socket = open(&front);
    assert_eq!(socket.bodiless_answer().status, 101);
    assert_eq!(socket.rest(), b"\x01\x02early");
    let _ = socket.try_send("late");
    socket.finish();
    const ENDS: &str = "a tunnel ends when the server says that it is done";
    let late = usually(&b"late"[..])
        .but(Nginx, b"", ENDS)
        .but(HaProxy, b"", ENDS);
    let came = told.recv_timeout(PATIENCE).unwrap();
    late.assert(make, &&*came, "what the client says then");
}

fn a_refused_handshake_is_an_ordinary_answer(make: Make) {
    let upstream = Upstream::answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let front = Work::to(&upstream).start(make);
    let mut conn = open(&front);
    let answer = conn.answer();
    assert_eq!((answer.status, answer.text()), (403, "no"));
    let again = conn.try_request("GET", "/", "");
    assert!(again.is_none_or(|again| again.status == 403));
}

/// Bytes behind a handshake that became no tunnel are a request or nothing, and no bytes of somebody's tunnel.
fn an_ordinary_success_is_no_tunnel(make: Make) {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno");
    let front = Work::to(&upstream).start(make);
    let mut conn = open(&front);
    let answer = conn.answer();
    assert_eq!((answer.status, answer.text()), (200, "no"));
    let _ =
        conn.try_send("\u{1}\u{2} HTTP/1.1\r\n\r\nGET /hidden HTTP/1.1\r\nhost: g.test\r\n\r\n");
    let rest = String::from_utf8(conn.rest()).unwrap();
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
        "{rest}"
    );
    assert_eq!(upstream.requests(), 1);
}

fn what_is_sent_with_a_handshake_waits_for_the_tunnel(make: Make) {
    let upstream = echo();
    let front = Work::to(&upstream).start(make);
    let mut socket = front.connect();
    socket.send(format!(
        "GET /ws HTTP/1.1\r\nhost: g.test\r\n{HANDSHAKE}\r\nGET /hidden HTTP/1.1\r\n\r\n"
    ));
    assert_eq!(socket.bodiless_answer().status, 101);
    assert_eq!(
        socket.up_to_text("\r\n\r\n").unwrap(),
        "GET /hidden HTTP/1.1\r\n\r\n"
    );
    assert_eq!(upstream.requests(), 1);
}

/// Whoever forwards it lets a client speak to the server past all that looks at requests.
fn no_other_protocol_is_asked_for(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).start(make);
    let answer = front.ask(
        "GET / HTTP/1.1\r\nhost: g.test\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    let asked = header(&upstream.only_head(), "upgrade").is_some();
    let asked_for = usually(false)
        .but(Nginx, true, "as is usual, it is told to forward any")
        .but(HaProxy, true, "it forwards any");
    asked_for.assert(make, &asked, "h2c");
    assert_eq!(answer.status, 200);
}

fn nobody_connects_to_elsewhere(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).start(make);
    let answer = front.ask("CONNECT g.test:443 HTTP/1.1\r\nhost: g.test:443\r\n\r\n");
    let expected = usually((405, 0))
        .but(Nginx, (400, 0), "it cannot read the target")
        .but(
            HaProxy,
            (200, 1),
            "it asks its server, which may know what a tunnel is for",
        );
    let found = (answer.status, upstream.requests());
    expected.assert(make, &found, "status, and requests at the upstream");
}

fn megabytes_pass_both_ways_at_once(make: Make) {
    const TOTAL: usize = 2 << 20;
    let upstream = Upstream::scripted(|peer, _| {
        peer.send(SWITCHED);
        let mut left = TOTAL;
        while left > 0 {
            let piece = peer.exactly(left.min(16 * 1024)).unwrap();
            left -= piece.len();
            peer.send(piece);
        }
        false
    });
    let front = Work::to(&upstream).start(make);
    let mut socket = open(&front);
    assert_eq!(socket.bodiless_answer().status, 101);
    let bytes: Vec<u8> = (0..TOTAL).map(|position| (position % 251) as u8).collect();
    let mut writer = socket.writer();
    std::thread::scope(|scope| {
        scope.spawn(|| std::io::Write::write_all(&mut writer, &bytes).unwrap());
        assert!(socket.exactly(TOTAL).unwrap() == bytes);
    });
    assert_eq!(socket.rest(), b"");
}

fn a_side_that_goes_takes_the_other_with_it(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, _| {
        peer.send(SWITCHED);
        if peer.exactly(4).unwrap_or_default() == b"go!!" {
            return false;
        }
        peer.rest();
        tell.send(()).unwrap();
        false
    });
    let front = Work::to(&upstream).start(make);
    let mut socket = open(&front);
    assert_eq!(socket.bodiless_answer().status, 101);
    socket.send("go!!");
    assert_eq!(socket.rest(), b"");
    let mut socket = open(&front);
    assert_eq!(socket.bodiless_answer().status, 101);
    socket.send("stay");
    drop(socket);
    told.recv_timeout(PATIENCE)
        .expect("the upstream is told that the client is gone");
}

fn one_at_rest_is_closed_and_one_in_use_is_not(make: Make) {
    let upstream = echo();
    let mut work = Work::to(&upstream);
    work.tunnel_idle = Duration::from_millis(1200);
    let front = work.start(make);
    let mut socket = open(&front);
    assert_eq!(socket.bodiless_answer().status, 101);
    let frame = b"\x81\x85\x01\x02\x03\x04hello";
    let ((), in_use) = timed(|| {
        for _ in 0..8 {
            thread::sleep(Duration::from_millis(200));
            socket.send(frame);
            assert_eq!(socket.exactly(frame.len()).unwrap(), frame);
        }
    });
    assert!(
        in_use > Duration::from_millis(1200),
        "longer than it may rest"
    );
    let (last, at_rest) = timed(|| socket.rest());
    assert!(at_rest < Duration::from_secs(6), "{at_rest:?}");
    const WORDLESS: &str = "it closes the connection and says nothing";
    let close = usually(&b"\x88\x13\x03\xe9idle for too long"[..])
        .but(Nginx, b"", WORDLESS)
        .but(HaProxy, b"", WORDLESS);
    close.assert(make, &&*last, "at rest");
}
