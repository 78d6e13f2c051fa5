//! What an HTTP/2 client can make the gateway do and hold (T113, T114, T116).

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::http2::with_http2;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, block, frame, get,
};
use crate::support::{Gateway, Upstream, timed};

const ENHANCE_YOUR_CALM: u32 = 11;

/// Sends the frames that `flood` makes for each stream until the gateway ends the connection; one that it takes as it is fails
/// the test, by its silence. Whether all of them were sent says nothing: much of it fits into the buffers in between.
fn flood(
    gateway: &Gateway,
    rounds: u32,
    first: &[u8],
    flood: impl Fn(u32) -> Vec<u8> + Send + 'static,
) {
    let mut conn = Frames::open(gateway.address);
    conn.send(first);
    let mut writer = conn.writer();
    let sending = thread::spawn(move || {
        (0..rounds).all(|round| writer.write_all(&flood(1 + 2 * round)).is_ok())
    });
    conn.goaway();
    sending.join().unwrap();
}

/// Its memory stays, and others are served.
fn is_unharmed(gateway: &Gateway, before: u64, what: &str) {
    assert_eq!(gateway.status("/public/", ""), 200, "{what}");
    let after = gateway.resident_kib(true);
    assert!(
        after < before + 32 * 1024,
        "{what}: from {before} to {after} KiB"
    );
}

const ROUNDS: u32 = 100_000;

fn request(stream: u32) -> Vec<u8> {
    frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        stream,
        &get("/public/slow", &[]),
    )
}

#[test]
fn streams_that_are_reset_end_the_connection() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "");
    gateway.status("/public/", "");
    let before = gateway.resident_kib(false);
    let seen = upstream.requests();
    // CVE-2023-44487.
    flood(&gateway, ROUNDS, &[], |stream| {
        [
            request(stream),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ]
        .concat()
    });
    is_unharmed(&gateway, before, "rapid reset");
    let reached = upstream.requests() - seen;
    assert!(reached < 1000, "{reached} reached the application");
    // CVE-2025-8671: the gateway is made to reset them.
    for (what, breach) in [
        (
            "a window of nothing",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4])[3..].to_vec(),
        ),
        (
            "a window that overflows",
            frame(WINDOW_UPDATE, 0, 0, &i32::MAX.to_be_bytes())[3..].to_vec(),
        ),
        (
            "data after the end",
            frame(DATA, 0, 0, b"xxxx")[3..].to_vec(),
        ),
    ] {
        let breach = move |stream: u32| {
            let mut bytes = vec![0, 0, 4];
            bytes.extend(&breach);
            bytes[5..9].copy_from_slice(&stream.to_be_bytes());
            bytes
        };
        flood(&gateway, ROUNDS, &[], move |stream| {
            [request(stream), breach(stream)].concat()
        });
        is_unharmed(&gateway, before, what);
    }
}

#[test]
fn a_reset_of_streams_that_nobody_looked_at_is_answered_with_calm() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "");
    let mut conn = Frames::open(gateway.address);
    let pairs: Vec<u8> = (0..200)
        .flat_map(|round| {
            let stream = 1 + 2 * round;
            [
                request(stream),
                frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
            ]
            .concat()
        })
        .collect();
    conn.send(&pairs);
    assert_eq!(conn.goaway(), Some(ENHANCE_YOUR_CALM));
}

/// As above, where the bound is the gateway's own; and what was answered before is not lost.
#[test]
fn an_allowance_that_is_used_up_is_answered_with_calm() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "");
    for (what, each) in [
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("unknown frames", frame(0x77, 0, 0, &[])),
    ] {
        let mut conn = Frames::open(gateway.address);
        let flags = END_STREAM | END_HEADERS;
        conn.send(&frame(HEADERS, flags, 7, &get("/public/", &[])));
        assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
        conn.send(&each.repeat(4000));
        let goaway = conn.next_of(&[GOAWAY]).expect(what);
        assert_eq!(goaway.error(), ENHANCE_YOUR_CALM, "{what}");
        assert_eq!(goaway.payload[..4], 7_u32.to_be_bytes(), "{what}");
        assert!(conn.next_of(&[GOAWAY]).is_none(), "{what}: and the end");
    }
}

#[test]
fn frames_without_use_end_the_connection() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "");
    gateway.status("/public/", "");
    let before = gateway.resident_kib(false);
    let open = frame(HEADERS, END_HEADERS, 1, &get("/public/", &[]));
    for (what, first, each) in [
        ("pings", vec![], frame(PING, 0, 0, &[0; 8])),
        ("settings", vec![], frame(SETTINGS, 0, 0, &[])),
        (
            "settings that say something",
            vec![],
            frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]),
        ),
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
        (
            "headers that go on",
            frame(HEADERS, 0, 1, &get("/public/", &[])),
            frame(CONTINUATION, 0, 1, &[]),
        ),
        (
            "headers that grow",
            frame(HEADERS, 0, 1, &get("/public/", &[])),
            frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(4000))])),
        ),
    ] {
        let many = each.repeat(100);
        flood(&gateway, ROUNDS / 100, &first, move |_| many.clone());
        is_unharmed(&gateway, before, what);
    }
}

/// A header that is sent once and named ten thousand times, and cookies in as many crumbs.
#[test]
fn a_small_block_does_not_become_large() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "");
    gateway.status("/public/", "");
    let before = gateway.resident_kib(false);
    let seen = upstream.requests();
    // A literal that enters the dynamic table (RFC 7541 section 6.2.1), then its index, 62, again and again.
    let mut once = vec![0x40];
    once.extend(&block(&[("x", &"y".repeat(3000))])[1..]);
    let bombs = [
        (
            "named again",
            [get("/public/", &[]), once, vec![0x80 | 62; 10_000]].concat(),
        ),
        (
            "crumbs",
            [get("/public/", &[]), block(&vec![("cookie", "a=b"); 1200])].concat(),
        ),
    ];
    for (what, bomb) in bombs {
        let mut conn = Frames::open(gateway.address);
        for round in 0..50 {
            if conn
                .try_send(&frame(
                    HEADERS,
                    END_STREAM | END_HEADERS,
                    1 + 2 * round,
                    &bomb,
                ))
                .is_err()
            {
                break;
            }
        }
        let refused = conn.next_of(&[HEADERS, RST_STREAM, GOAWAY]);
        assert!(
            refused.is_none_or(|refused| refused.status() != Some(200)),
            "{what}"
        );
        is_unharmed(&gateway, before, what);
    }
    assert_eq!(
        upstream.requests() - seen,
        2,
        "those that asked whether all is well"
    );
}

/// The client makes no room for what it asks for.
#[test]
fn answers_that_are_not_read_are_not_held() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4194304\r\n\r\n");
        peer.send(vec![b'x'; 4 << 20])
    });
    let (_home, gateway) = with_http2(&upstream, "");
    gateway.status("/private", "");
    let before = gateway.resident_kib(false);
    let mut conn = Frames::open(gateway.address);
    // A window of nothing for all streams, and about as many of them as may be open.
    conn.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    for round in 0..95 {
        conn.send(&request(1 + 2 * round));
    }
    upstream.has_seen(90);
    thread::sleep(Duration::from_millis(500));
    let after = gateway.resident_kib(true);
    assert!(after < before + 64 * 1024, "from {before} to {after} KiB");
    // More than may be open: they are refused, or the connection is ended.
    for round in 95..1000 {
        if conn.try_send(&request(1 + 2 * round)).is_err() {
            break;
        }
    }
    while conn.next().is_some_and(|frame| frame.kind != RST_STREAM) {}
    assert!(upstream.requests() <= 110, "{}", upstream.requests());
    let after = gateway.resident_kib(true);
    assert!(after < before + 64 * 1024, "from {before} to {after} KiB");
}

#[test]
fn heads_that_do_not_come_and_connections_at_rest_are_ended() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(
        &upstream,
        "[server.limits]\nhead_timeout = \"300ms\"\nkeep_alive_timeout = \"1500ms\"",
    );
    let unfinished = [
        ("half a preface", true, b"PRI * HTTP/2.0\r\n".to_vec()),
        ("half a frame", false, vec![0, 0, 9]),
        ("half a header block", false, request(1)[..20].to_vec()),
        (
            "a block without an end",
            false,
            frame(HEADERS, 0, 1, &get("/public/", &[])),
        ),
    ];
    let open = |silent| match silent {
        true => Frames::silent(gateway.address),
        false => Frames::open(gateway.address),
    };
    for (what, silent, bytes) in unfinished {
        let mut conn = open(silent);
        conn.send(&bytes);
        let (_, took) = timed(|| while conn.next().is_some() {});
        assert!(took < Duration::from_millis(1400), "{what}: {took:?}");
    }
    let resting = [
        ("nothing was sent", true, vec![]),
        ("nothing was asked", false, vec![]),
        ("all was answered", false, request(1)),
    ];
    for (what, silent, bytes) in resting {
        let mut conn = open(silent);
        conn.send(&bytes);
        let (_, took) = timed(|| while conn.next().is_some() {});
        let is_rest = Duration::from_millis(1200)..Duration::from_secs(6);
        assert!(is_rest.contains(&took), "{what}: {took:?}");
    }
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn a_slow_body_and_a_long_answer_are_not_rest() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(
        &upstream,
        "[server.limits]\nhead_timeout = \"200ms\"\nkeep_alive_timeout = \"500ms\"",
    );
    let mut conn = Frames::open(gateway.address);
    let fields = block(&[
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/hook"),
        (":authority", "g.test"),
        ("content-length", "8"),
    ]);
    conn.send(&frame(HEADERS, END_HEADERS, 1, &fields));
    for round in 0..8 {
        thread::sleep(Duration::from_millis(150));
        let flags = if round == 7 { END_STREAM } else { 0 };
        conn.send(&frame(DATA, flags, 1, b"x"));
    }
    assert_eq!(
        conn.next_of(&[HEADERS, RST_STREAM, GOAWAY])
            .unwrap()
            .status(),
        Some(200)
    );
}
