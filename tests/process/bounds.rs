//! What bodies, streams and WebSockets may take: length, time, and the patience with those who do not read.

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::http2::with_http2;
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    block, frame, get,
};
use crate::support::{Conn, Gateway, Home, PATIENCE, Upstream, header, only_app, timed};

fn gateway(upstream: &Upstream, limits: &str, more: &str) -> (Home, Gateway) {
    let home = Home::new(&format!(
        "[server.limits]\n{limits}\n{}{more}",
        only_app(upstream.address)
    ));
    let gateway = home.start();
    (home, gateway)
}

/// Reads the whole body of a request, and tells how it ended.
fn reader() -> (Upstream, mpsc::Receiver<usize>) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        let body = peer.body(head);
        tell.send(body.len()).unwrap();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    (upstream, told)
}

const LARGER: &str = "[[route]]\npath = \"/large\"\nauth = \"none\"\nbody_bytes = 20\n";

#[test]
fn bodies_longer_than_allowed_are_refused() {
    let (upstream, _told) = reader();
    let (_home, gateway) = gateway(&upstream, "body_bytes = 10", LARGER);
    let length = |body: &str| format!("content-length: {}\r\n\r\n{body}", body.len());
    let chunks = |body: &str| {
        let chunks: String = body
            .chars()
            .map(|byte| format!("1\r\n{byte}\r\n"))
            .collect();
        format!("transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")
    };
    for (path, bytes, status) in [
        ("/hook", 10, 200),
        ("/hook", 11, 413),
        ("/large", 20, 200),
        ("/large", 21, 413),
    ] {
        for message in [length(&"x".repeat(bytes)), chunks(&"x".repeat(bytes))] {
            let mut conn = gateway.connect();
            conn.send(format!("POST {path} HTTP/1.1\r\nhost: g.test\r\n{message}"));
            let answer = conn.answer();
            assert_eq!(answer.status, status, "{path} {message:?}");
            if status == 413 {
                assert_eq!(answer.header("connection"), Some("close"));
                assert_eq!(conn.rest(), b"");
            }
        }
    }
}

/// Nobody has to send what will not be read.
#[test]
fn an_announced_length_is_judged_before_anything_is_sent() {
    let (upstream, _told) = reader();
    let (_home, gateway) = gateway(&upstream, "body_bytes = \"1MiB\"", "");
    let mut conn = gateway.connect();
    conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 1048577\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(conn.answer().status, 413);
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn a_stream_of_http2_is_refused_alone() {
    let (upstream, _told) = reader();
    let (_home, gateway) = with_http2(&upstream, "[server.limits]\nbody_bytes = 10\n");
    let mut conn = Frames::open(gateway.address);
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/hook"),
        (":authority", "g.test"),
    ];
    conn.send(&frame(HEADERS, END_HEADERS, 1, &block(&post)));
    conn.send(&frame(DATA, 0, 1, b"elevenbytes"));
    let refused = conn.next_of(&[HEADERS]).unwrap();
    let text = String::from_utf8_lossy(&refused.payload).into_owned();
    assert_eq!(refused.status(), None, "413 is not in the table: {text}");
    conn.send(&frame(HEADERS, END_HEADERS, 3, &block(&post)));
    conn.send(&frame(DATA, END_STREAM, 3, b"ten bytes!"));
    assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
}

#[test]
fn a_body_that_stands_still_is_answered_with_408() {
    let (upstream, _told) = reader();
    let (_home, gateway) = gateway(&upstream, "body_timeout = \"500ms\"", "");
    for beginning in [
        "content-length: 5\r\n\r\n",
        "content-length: 5\r\n\r\nhell",
        "transfer-encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let mut conn = gateway.connect();
        conn.send(format!(
            "POST /hook HTTP/1.1\r\nhost: g.test\r\n{beginning}"
        ));
        let (answer, took) = timed(|| conn.answer());
        assert_eq!(answer.status, 408, "{beginning:?}");
        assert!(took >= Duration::from_millis(400), "{took:?}");
        assert_eq!(conn.rest(), b"");
    }
    // One that comes slowly, but comes, takes longer in all.
    let mut conn = gateway.connect();
    conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\n");
    for byte in b"hello" {
        thread::sleep(Duration::from_millis(200));
        conn.send([*byte]);
    }
    assert_eq!(conn.answer().status, 200);
}

/// A conversation may pause: the other half of it has begun.
#[test]
fn a_body_whose_answer_has_begun_may_stand_still() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        let last = peer.exactly(5).unwrap_or_default();
        peer.send([b"5\r\n", &*last, b"\r\n0\r\n\r\n"].concat());
        false
    });
    let (_home, gateway) = gateway(&upstream, "body_timeout = \"300ms\"", "");
    let mut conn = gateway.connect();
    conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\n");
    conn.up_to_text("first\r\n").unwrap();
    assert!(conn.is_silent_for(Duration::from_millis(900)));
    conn.send("hello");
    conn.up_to_text("hello\r\n0\r\n\r\n").unwrap();
}

/// Sends without end, and tells when it cannot any more.
fn flood() -> (Upstream, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        if head.starts_with("GET /public/short") {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        }
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        while peer.send(&chunk) {}
        tell.send(()).unwrap();
        false
    });
    (upstream, told)
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let (upstream, told) = flood();
    let (_home, gateway) = gateway(&upstream, "write_timeout = \"700ms\"", "");
    let mut conn = gateway.connect();
    conn.send("GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n");
    conn.head().unwrap();
    told.recv_timeout(PATIENCE).expect("the upstream is let go");
}

/// The connection is alive, and one stream of it is not read.
#[test]
fn a_stream_without_room_is_reset_alone() {
    let (upstream, told) = flood();
    // Room for the beginning of the answer, and for nothing at all.
    for window in [65_535_u32, 0] {
        let (_home, gateway) =
            with_http2(&upstream, "[server.limits]\nwrite_timeout = \"700ms\"\n");
        let mut conn = Frames::open(gateway.address);
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        conn.send(&frame(SETTINGS, 0, 0, &setting));
        let flags = END_HEADERS | END_STREAM;
        conn.send(&frame(HEADERS, flags, 1, &get("/public/", &[])));
        let reset = conn.next_of(&[RST_STREAM]).unwrap();
        assert_eq!(reset.error(), 8, "CANCEL (window {window})");
        told.recv_timeout(PATIENCE).expect("the upstream is let go");
        conn.send(&frame(HEADERS, flags, 3, &get("/public/short", &[])));
        assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
        conn.send(&frame(PING, 0, 0, b"there it"));
        assert_eq!(conn.next_of(&[PING]).unwrap().payload, b"there it");
    }
}

/// It is read, if slowly: each time some of it, and in all for longer than anything may wait.
#[test]
fn a_stream_that_is_read_slowly_goes_on() {
    let (upstream, _told) = flood();
    let (_home, gateway) = with_http2(&upstream, "[server.limits]\nwrite_timeout = \"1s\"\n");
    let mut conn = Frames::open(gateway.address);
    let flags = END_HEADERS | END_STREAM;
    conn.send(&frame(HEADERS, flags, 1, &get("/public/", &[])));
    let room = |bytes: u32, stream| frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    conn.send(&room(1 << 24, 0));
    let (mut may_come, mut came) = (65_535, 0);
    for round in 0..150 {
        while came < may_come {
            let next = conn.next_of(&[DATA, RST_STREAM]).unwrap();
            assert_eq!(next.kind, DATA, "reset in round {round}");
            came += next.payload.len();
        }
        // Less than a piece of the answer, so that one lies ready whenever there is room.
        thread::sleep(Duration::from_millis(20));
        conn.send(&room(4096, 1));
        may_come += 4096;
    }
}

/// Three events, each when the test says so, and then nothing.
fn events() -> (Upstream, mpsc::Sender<()>) {
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::scripted(move |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        while may_go_on.lock().unwrap().recv().is_ok() {
            peer.send("b\r\ndata: one\n\n\r\n");
        }
        peer.rest();
        false
    });
    (upstream, go_on)
}

#[test]
fn each_event_arrives_while_the_next_is_not_sent_in_http2_too() {
    let (upstream, go_on) = events();
    let (_home, gateway) = with_http2(&upstream, "[server.limits]\nwrite_timeout = \"300ms\"\n");
    let mut conn = Frames::open(gateway.address);
    conn.send(&frame(
        HEADERS,
        END_HEADERS | END_STREAM,
        1,
        &get("/public/", &[]),
    ));
    assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
    for _ in 0..3 {
        // Who waits for the upstream, for longer than a client may make us wait, is not to blame.
        thread::sleep(Duration::from_millis(500));
        go_on.send(()).unwrap();
        let event = conn.next_of(&[DATA, RST_STREAM]).unwrap();
        assert_eq!(event.payload, b"data: one\n\n");
    }
}

#[test]
fn streams_end_when_they_are_too_old() {
    for is_somebodys in [false, true] {
        let (upstream, go_on) = events();
        let (home, gateway) = gateway(&upstream, "max_stream_age = \"700ms\"", "");
        let (path, cookie) = match is_somebodys {
            false => ("/public/", String::new()),
            true => (
                "/mine",
                format!("cookie: {}\r\n", home.open_session("alice").cookie),
            ),
        };
        let mut conn = gateway.connect();
        conn.send(format!(
            "GET {path} HTTP/1.1\r\nhost: g.test\r\n{cookie}\r\n"
        ));
        go_on.send(()).unwrap();
        conn.up_to_text("data: one\n\n\r\n").unwrap();
        let (rest, took) = timed(|| conn.rest());
        assert_eq!(rest, b"", "{path}: an end would look whole");
        assert!(took < Duration::from_secs(5), "{path}: {took:?}");
    }
}

#[test]
fn a_stream_of_http2_that_is_too_old_is_reset() {
    let (upstream, go_on) = events();
    let (_home, gateway) = with_http2(&upstream, "[server.limits]\nmax_stream_age = \"500ms\"\n");
    let mut conn = Frames::open(gateway.address);
    let flags = END_HEADERS | END_STREAM;
    conn.send(&frame(HEADERS, flags, 1, &get("/public/", &[])));
    go_on.send(()).unwrap();
    assert_eq!(conn.next_of(&[DATA]).unwrap().payload, b"data: one\n\n");
    assert!(conn.next_of(&[RST_STREAM]).is_some());
    drop(go_on);
}

const HANDSHAKE: &str = "GET /public/ws HTTP/1.1\r\nhost: g.test\r\norigin: http://g.test\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A WebSocket that sends back whatever comes.
fn socket(gateway: &Gateway) -> Conn {
    let mut conn = gateway.connect();
    conn.send(HANDSHAKE);
    assert_eq!(conn.bodiless_answer().status, 101);
    conn
}

fn echo() -> Upstream {
    Upstream::scripted(|peer, _| {
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        while let Some(byte) = peer.exactly(1) {
            peer.send(byte);
        }
        false
    })
}

const PING_FRAME: &[u8] = b"\x89\x80\x00\x00\x00\x00";

#[test]
fn websockets_end_when_nothing_comes_or_after_their_time() {
    let upstream = echo();
    for (limits, pings, text) in [
        ("websocket_idle = \"600ms\"", 0, "idle for too long"),
        ("websocket_idle = \"600ms\"", 6, "idle for too long"),
        ("max_stream_age = \"600ms\"", 0, "open for too long"),
    ] {
        let (_home, gateway) = gateway(&upstream, limits, "");
        let mut socket = socket(&gateway);
        for _ in 0..pings {
            thread::sleep(Duration::from_millis(200));
            socket.send(PING_FRAME);
            assert_eq!(socket.exactly(6).unwrap(), PING_FRAME);
        }
        let closed = socket.rest();
        let expected = [&[0x88, 2 + text.len() as u8][..], &1001_u16.to_be_bytes()].concat();
        assert_eq!(closed, [&expected, text.as_bytes()].concat(), "{limits}");
    }
}

/// The write side of a tunnel is timed as that of an answer is.
#[test]
fn a_websocket_that_is_not_read_is_cut_off() {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, _| {
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        while peer.send([b'x'; 65536]) {}
        tell.send(()).unwrap();
        false
    });
    let (_home, gateway) = gateway(&upstream, "write_timeout = \"700ms\"", "");
    let open = socket(&gateway);
    told.recv_timeout(PATIENCE).expect("the upstream is let go");
    drop(open);
}

/// On a stream of HTTP/2 the connection is alive, and the client makes no room: beyond some bytes, or for any.
#[test]
fn a_websocket_on_a_stream_without_room_is_cut_off_alone() {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        let Some(key) = header(head, "sec-websocket-key") else {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        };
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        peer.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-accept: {accept}\r\n\r\n"
        ));
        while peer.send([b'x'; 65536]) {}
        tell.send(()).unwrap();
        false
    });
    for window in [65_535_u32, 0] {
        let (_home, gateway) =
            with_http2(&upstream, "[server.limits]\nwrite_timeout = \"700ms\"\n");
        let mut conn = Frames::open(gateway.address);
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        conn.send(&frame(SETTINGS, 0, 0, &setting));
        let connect = block(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/public/ws"),
            (":authority", "g.test"),
            ("origin", "http://g.test"),
            ("sec-websocket-version", "13"),
        ]);
        conn.send(&frame(HEADERS, END_HEADERS, 1, &connect));
        assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
        told.recv_timeout(PATIENCE).expect("the upstream is let go");
        let flags = END_HEADERS | END_STREAM;
        conn.send(&frame(HEADERS, flags, 3, &get("/public/short", &[])));
        assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
    }
}

/// The same for a head: its answer is there, and only then comes the rest of it.
#[test]
fn a_refused_head_that_goes_on_still_gets_its_answer() {
    let (upstream, _told) = reader();
    let (_home, gateway) = gateway(&upstream, "", "");
    let more = "x".repeat(70_000);
    for (head, status) in [
        (format!("GET /?{more}"), 431),
        (
            format!("GET / HTTP/1.1\r\nhost: g.test\r\nx-more: {more}"),
            431,
        ),
        ("GET / HTTP/1.1\r\n\nhost: g.test\r\n".to_owned(), 400),
        (
            "POST /hook HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: x\r\n\r\n".to_owned(),
            400,
        ),
    ] {
        let mut conn = gateway.connect();
        conn.send(head);
        let answered = conn.writer().peek(&mut [0]).unwrap();
        assert_eq!(answered, 1);
        for _ in 0..4 {
            // The second would fail, after a reset that came for the first.
            conn.send(&more);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(conn.answer().status, status);
        assert_eq!(conn.rest(), b"");
    }
}
