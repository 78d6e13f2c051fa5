//! Floods of HTTP/2: the connection ends or costs nothing, and whoever else asks is served.

use std::io::Write;
use std::thread;

use crate::fronts::{Front, Listener, Make, Work};
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get,
};
use crate::support::{Upstream, within};

cases! {
    streams_that_are_reset: portcullis, nginx, haproxy;
    frames_without_use: portcullis, nginx, haproxy;
    headers_that_go_on: portcullis, nginx, haproxy;
    a_small_block_that_becomes_large: portcullis, nginx, haproxy;
    more_streams_than_allowed: portcullis, nginx, haproxy;
    answers_that_are_not_read: portcullis, nginx, haproxy;
}

const ROUNDS: u32 = 20_000;

/// A front whose second listener is for those who want to know whether it still serves.
fn start(upstream: &Upstream, make: Make) -> Front {
    let front = Work::to(upstream)
        .at(&[Listener::Plain, Listener::Http2])
        .start(make);
    assert_eq!(front.get("/").status, 200);
    front
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get("/", &[]))
}

/// What the front did when all was sent, or when it took no more.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The connection was ended by it.
    Closed,
    /// It took all, and answers a ping behind it.
    Bore,
}

/// Sends what `flood` makes for each round, reads what comes, and looks whether others are served and memory stays.
fn flood(
    front: &Front,
    rounds: u32,
    first: &[u8],
    flood: impl Fn(u32) -> Vec<u8> + Send + 'static,
) -> End {
    let before = front.resident_kib();
    let mut conn = Frames::open(front.address_of(1));
    conn.send(first);
    let mut writer = conn.writer();
    let sending = thread::spawn(move || {
        let sent = (0..rounds).all(|round| writer.write_all(&flood(1 + 2 * round)).is_ok());
        let _ = writer.write_all(&frame(PING, 0, 0, b"the last"));
        sent
    });
    let end = loop {
        match conn.next() {
            None => break End::Closed,
            Some(frame) if frame.kind == PING && frame.payload == b"the last" => break End::Bore,
            Some(_) => {}
        }
    };
    drop(conn);
    let _ = sending.join();
    assert_eq!(front.get("/").status, 200, "others are served");
    let after = front.resident_kib();
    assert!(after < before + 24 * 1024, "from {before} to {after} KiB");
    end
}

/// CVE-2023-44487.
fn streams_that_are_reset(make: Make) {
    let upstream = Upstream::application();
    let front = start(&upstream, make);
    let end = flood(&front, ROUNDS, &[], |stream| {
        let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        [request(stream), reset].concat()
    });
    ends(make, end, "rapid reset");
    let reached = upstream.requests();
    assert!(reached < 2000 || end == End::Bore, "{reached}");
}

fn frames_without_use(make: Make) {
    let upstream = Upstream::application();
    let front = start(&upstream, make);
    let open = frame(HEADERS, END_HEADERS, 1, &get("/", &[]));
    for (what, first, each) in [
        ("pings", vec![], frame(PING, 0, 0, &[0; 8])),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[])),
        (
            "priorities",
            vec![],
            frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]),
        ),
        (
            "windows",
            vec![],
            frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        ),
        ("unknown frames", vec![], frame(0x77, 0, 0, &[])),
        ("empty data", open.clone(), frame(DATA, 0, 1, &[])),
        (
            "data that is all padding",
            open.clone(),
            frame(DATA, 0x8, 1, &[0]),
        ),
    ] {
        let many = each.repeat(100);
        let found = flood(&front, ROUNDS / 100, &first, move |_| many.clone());
        ends(make, found, what);
    }
}

/// The others count other things: whether they end it depends on how fast they are.
fn ends(make: Make, found: End, what: &str) {
    assert!(found == End::Closed || make != Make::Portcullis, "{what}");
}

/// CVE-2024-27316 and its like.
fn headers_that_go_on(make: Make) {
    let upstream = Upstream::application();
    let front = start(&upstream, make);
    for (what, each) in [
        ("empty", frame(CONTINUATION, 0, 1, &[])),
        (
            "growing",
            frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(4000))])),
        ),
    ] {
        let many = each.repeat(20);
        let begun = frame(HEADERS, 0, 1, &get("/", &[]));
        let end = flood(&front, 200, &begun, move |_| many.clone());
        assert_eq!(end, End::Closed, "{what}");
    }
}

/// A header that is sent once and named again and again.
fn a_small_block_that_becomes_large(make: Make) {
    let upstream = Upstream::application();
    let front = start(&upstream, make);
    let before = (upstream.requests(), front.resident_kib());
    // A literal that enters the dynamic table (RFC 7541 section 6.2.1), then its index, 62.
    let mut once = vec![0x40];
    once.extend(&block(&[("x", &"y".repeat(3000))])[1..]);
    let bomb = [get("/", &[]), once, vec![0x80 | 62; 10_000]].concat();
    let mut conn = Frames::open(front.address_of(1));
    for round in 0..20 {
        let flags = END_STREAM | END_HEADERS;
        if conn
            .try_send(&frame(HEADERS, flags, 1 + 2 * round, &bomb))
            .is_err()
        {
            break;
        }
    }
    let refused = conn.next_of(&[HEADERS, RST_STREAM, GOAWAY]);
    assert!(refused.is_none_or(|refused| refused.status() != Some(200)));
    assert_eq!(upstream.requests(), before.0);
    assert_eq!(front.get("/").status, 200);
    let after = front.resident_kib();
    assert!(
        after < before.1 + 24 * 1024,
        "from {} to {after} KiB",
        before.1
    );
}

fn more_streams_than_allowed(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        if head.contains("/held") {
            peer.rest();
            return false;
        }
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let front = start(&upstream, make);
    let before = upstream.requests();
    let mut conn = Frames::open(front.address_of(1));
    for round in 0..300 {
        let flags = END_STREAM | END_HEADERS;
        let held = frame(HEADERS, flags, 1 + 2 * round, &get("/held", &[]));
        if conn.try_send(&held).is_err() {
            break;
        }
    }
    let refused = conn.next_of(&[RST_STREAM, GOAWAY]);
    assert!(refused.is_none_or(|refused| refused.error() != 0));
    within(std::time::Duration::from_millis(200), || {
        upstream.requests() - before > 128
    });
    let reached = upstream.requests() - before;
    assert!(reached <= 128, "{reached}");
    assert_eq!(front.get("/").status, 200);
}

/// The client makes no room for what it asks for.
fn answers_that_are_not_read(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        if !head.contains("/large") {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4194304\r\n\r\n");
        peer.send(vec![b'x'; 4 << 20])
    });
    let front = start(&upstream, make);
    let before = front.resident_kib();
    let mut conn = Frames::open(front.address_of(1));
    // A window of nothing for all streams.
    conn.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for round in 0..60 {
        let flags = END_STREAM | END_HEADERS;
        conn.send(&frame(HEADERS, flags, 1 + 2 * round, &get("/large", &[])));
    }
    upstream.has_seen(61);
    thread::sleep(std::time::Duration::from_millis(300));
    let after = front.resident_kib();
    assert!(after < before + 32 * 1024, "from {before} to {after} KiB");
    assert_eq!(front.get("/").status, 200);
}
