//! What one client can take, and what it is told at the bound.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::fronts::Make::{self, HaProxy, Nginx, Portcullis};
use crate::fronts::{Front, Listener, Work, usually};
use crate::support::{Conn, PATIENCE, Upstream, eventually, timed, within};

cases! {
    long_heads_are_refused: portcullis, nginx, haproxy;
    many_header_lines_are_refused: portcullis, haproxy;
    long_targets_are_refused: portcullis, nginx, haproxy;
    long_bodies_are_refused_when_they_are_announced: portcullis, nginx, haproxy;
    long_bodies_are_refused_when_they_are_too_long: portcullis, nginx;
    a_refused_upload_that_goes_on_still_gets_its_answer: portcullis, nginx;
    a_head_that_does_not_come_ends_the_connection: portcullis, nginx, haproxy;
    a_body_that_does_not_come_is_given_up: portcullis, nginx;
    a_handshake_that_does_not_come_is_ended: portcullis, nginx, haproxy;
    an_answer_that_stands_still_is_broken_off: portcullis, nginx, haproxy;
    a_connection_at_rest_is_closed: portcullis, nginx, haproxy;
    a_client_that_does_not_read_is_cut_off: portcullis, nginx, haproxy;
    connections_of_one_address_are_bounded: portcullis, nginx, haproxy;
    logins_of_one_address_are_bounded: portcullis, nginx, haproxy;
}

fn long_heads_are_refused(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream);
    work.head_bytes = 32 * 1024;
    let front = work.start(make);
    let line = |bytes: usize| {
        format!(
            "GET / HTTP/1.1\r\nhost: g.test\r\nx: {}\r\n\r\n",
            "y".repeat(bytes)
        )
    };
    assert_eq!(front.ask(&line(20 * 1024)).status, 200);
    const OLDER: &str = "it answers as before RFC 6585";
    let status = usually(431).but(Nginx, 400, OLDER).but(HaProxy, 400, OLDER);
    status.assert(make, &front.ask(&line(140 * 1024)).status, "one long line");
    assert_eq!(upstream.requests(), 1);
}

fn many_header_lines_are_refused(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).start(make);
    let lines = |count: usize| {
        let lines = "x: y\r\n".repeat(count);
        format!("GET / HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n")
    };
    assert_eq!(front.ask(&lines(80)).status, 200);
    let status = usually(431).but(HaProxy, 400, "it answers as before RFC 6585");
    status.assert(make, &front.ask(&lines(120)).status, "many lines");
    assert_eq!(upstream.requests(), 1);
}

fn long_targets_are_refused(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).start(make);
    let line = |bytes: usize| {
        format!(
            "GET /{} HTTP/1.1\r\nhost: g.test\r\n\r\n",
            "y".repeat(bytes)
        )
    };
    assert_eq!(front.ask(&line(7 * 1024)).status, 200);
    const NO_BOUND: &str = "it has no bound but that of the head";
    let long = usually(414)
        .but(Nginx, 200, NO_BOUND)
        .but(HaProxy, 200, NO_BOUND);
    long.assert(make, &front.ask(&line(9 * 1024)).status, "a long path");
    let before = upstream.requests();
    let longer = usually(414)
        .but(
            Portcullis,
            431,
            "what does not fit is not read, whatever of it is the path",
        )
        .but(HaProxy, 400, "it answers all that does not fit with 400");
    longer.assert(make, &front.ask(&line(70 * 1024)).status, "beyond the head");
    assert_eq!(upstream.requests(), before);
}

fn with_short_bodies(upstream: &Upstream, make: Make) -> Front {
    let mut work = Work::to(upstream);
    work.body_bytes = Some(10);
    work.start(make)
}

fn long_bodies_are_refused_when_they_are_announced(make: Make) {
    let upstream = Upstream::application();
    let front = with_short_bodies(&upstream, make);
    for (length, status) in [(10, 200), (11, 413)] {
        let body = "x".repeat(length);
        let answer = front.ask(&format!(
            "POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(answer.status, status, "{length}");
    }
    // Nobody has to send what will not be read.
    let answer = front.ask(
        "POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 1048577\r\nexpect: 100-continue\r\n\r\n",
    );
    assert_eq!(answer.status, 413);
    assert_eq!(upstream.requests(), 1);
}

fn long_bodies_are_refused_when_they_are_too_long(make: Make) {
    let upstream = Upstream::application();
    let front = with_short_bodies(&upstream, make);
    for (length, status) in [(10, 200), (11, 413)] {
        let chunks = "1\r\nx\r\n".repeat(length);
        let answer = front.ask(&format!(
            "POST / HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
        ));
        assert_eq!(answer.status, status, "{length}");
    }
}

/// The answer is not lost because the client was still sending when its connection ended. HAProxy closes, and the system resets.
fn a_refused_upload_that_goes_on_still_gets_its_answer(make: Make) {
    let upstream = Upstream::application();
    let front = with_short_bodies(&upstream, make);
    for _ in 0..10 {
        let mut conn = front.connect();
        conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 10000000\r\n\r\n");
        let mut writer = conn.writer();
        let sending =
            thread::spawn(move || (0..100).all(|_| writer.write_all(&[0; 65536]).is_ok()));
        thread::sleep(Duration::from_millis(5));
        assert_eq!(conn.answer().status, 413);
        drop(conn);
        let _ = sending.join();
    }
    assert_eq!(upstream.requests(), 0);
}

/// T116: half a head, a byte now and then, and half of the second head on a connection.
fn a_head_that_does_not_come_ends_the_connection(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream);
    work.head_timeout = Duration::from_millis(400);
    let front = work.start(make);
    for beginning in ["G", "GET / HTTP/1.1\r\nhost: g.test\r\nx:"] {
        for after_a_request in [false, true] {
            let mut conn = front.connect();
            if after_a_request {
                assert_eq!(conn.get("/", "").status, 200);
            }
            conn.send(beginning);
            let (rest, took) = timed(|| conn.rest());
            let rest = String::from_utf8(rest).unwrap();
            assert!(
                rest.is_empty() || rest.starts_with("HTTP/1.1 408 "),
                "{rest}"
            );
            assert!(took < Duration::from_secs(4), "{beginning:?}: {took:?}");
        }
    }
    // A byte now and then does not buy more time.
    let mut slow = front.connect();
    let (_, took) = timed(|| {
        let request = b"GET / HTTP/1.1\r\nhost: g.test\r\nx: ".iter();
        for byte in request.chain(std::iter::repeat(&b'y')) {
            if slow.try_send([*byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// HAProxy times a body that it collects before it asks the server; of one that passes it waits for the server's answer.
fn a_body_that_does_not_come_is_given_up(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream);
    work.body_timeout = Duration::from_millis(400);
    let front = work.start(make);
    let mut conn = front.connect();
    conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\nhel");
    let (rest, took) = timed(|| conn.rest());
    let rest = String::from_utf8(rest).unwrap();
    let told = usually(Some("HTTP/1.1 408")).but(Nginx, None, "it closes, and says nothing");
    let found = rest.get(..12);
    told.assert(make, &found, &rest);
    assert!(took >= Duration::from_millis(350), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

fn a_handshake_that_does_not_come_is_ended(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream).at(&[Listener::Tls, Listener::Balanced]);
    work.certify("g", &["g.test"]);
    work.head_timeout = Duration::from_millis(500);
    // The only one that HAProxy has for a handshake of TLS.
    work.body_timeout = Duration::from_millis(500);
    let front = work.start(make);
    for (listener, beginning) in [
        (0, &b""[..]),
        (0, b"\x16\x03\x01\x02\x00\x01"),
        (1, b""),
        (1, b"PROXY TCP4 203"),
        (1, b"\r\n\r\n\0\r\nQUIT\n\x21\x11"),
    ] {
        let mut conn = Conn::to(front.address_of(listener));
        conn.send(beginning);
        let (_, took) = timed(|| conn.rest());
        assert!(took < Duration::from_secs(4), "{beginning:?}: {took:?}");
    }
    assert_eq!(upstream.requests(), 0);
}

/// The head was in time, and then nothing comes.
fn an_answer_that_stands_still_is_broken_off(make: Make) {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello");
        peer.rest();
        false
    });
    let mut work = Work::to(&upstream);
    work.response_timeout = Duration::from_millis(500);
    work.stall_timeout = Duration::from_millis(500);
    let front = work.start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
    conn.up_to_text("hello").unwrap();
    let (rest, took) = timed(|| conn.rest());
    assert_eq!(rest, b"", "it does not look whole");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

fn a_connection_at_rest_is_closed(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream);
    work.keep_alive_timeout = Duration::from_millis(800);
    let front = work.start(make);
    let mut conn = front.connect();
    assert_eq!(conn.get("/", "").status, 200);
    assert!(conn.is_silent_for(Duration::from_millis(300)));
    assert_eq!(conn.get("/", "").status, 200);
    let (rest, took) = timed(|| conn.rest());
    assert_eq!(rest, b"");
    assert!(took >= Duration::from_millis(700), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

fn a_client_that_does_not_read_is_cut_off(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        while peer.send(&chunk) {}
        tell.send(()).unwrap();
        false
    });
    let mut work = Work::to(&upstream);
    work.write_timeout = Duration::from_millis(600);
    let front = work.start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
    conn.head().unwrap();
    told.recv_timeout(PATIENCE).expect("the upstream is let go");
}

fn connections_of_one_address_are_bounded(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        if head.contains("/held") {
            peer.rest();
            return false;
        }
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")
    });
    let mut work = Work::to(&upstream);
    work.connections_per_address = Some(3);
    let front = work.start(make);
    // Whoever looked whether it listens may not be gone yet.
    let hold = || {
        let seen = upstream.requests();
        let mut conn = Conn::try_to(front.address).ok()?;
        conn.try_send("GET /held HTTP/1.1\r\nhost: g.test\r\n\r\n")
            .ok()?;
        within(Duration::from_millis(300), || upstream.requests() > seen).then_some(conn)
    };
    let mut held = Vec::new();
    eventually("three are held", || {
        held.extend(hold());
        held.len() == 3
    });
    let status = usually(Some(503)).but(HaProxy, None, "it closes, and says nothing");
    for _ in 0..3 {
        let mut conn = front.connect();
        let answer = conn.try_request("GET", "/", "");
        status.assert(make, &answer.map(|answer| answer.status), "the fourth");
    }
    drop(held);
    eventually("a place comes free", || {
        let answer = Conn::try_to(front.address)
            .ok()
            .and_then(|mut conn| conn.try_request("GET", "/", ""));
        answer.is_some_and(|answer| answer.status == 200)
    });
}

fn logins_of_one_address_are_bounded(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream);
    work.logins_per_second = Some(1);
    let front = work.start(make);
    let mut allowed = 0;
    let refused = loop {
        let answer = front.connect().post("/login", "");
        if answer.status == 429 {
            break answer;
        }
        assert_eq!(answer.status, 200);
        allowed += 1;
        assert!(allowed < 100, "it was never refused");
    };
    // With what the passing of time adds on a busy machine.
    assert!((10..30).contains(&allowed), "{allowed}");
    let waits = usually(true).but(Nginx, false, "it does not say when to come again");
    waits.assert(
        make,
        &refused.header("retry-after").is_some(),
        "Retry-After",
    );
    assert_eq!(upstream.requests(), allowed);
    assert_eq!(front.get("/").status, 200, "everything else goes on");
}
