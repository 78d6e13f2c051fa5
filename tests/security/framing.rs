//! Chapter 7: HTTP/1 framing: what reads in two ways is refused, and nothing after it is taken for a request.

use crate::runner::{Case, Tried};
use crate::support::Conn;
use crate::world::{SMUGGLED, World, is_401j, is_401j_that_clears_nothing, request};

pub const CASES: &[Case] = &[
    Case {
        name: "t105_lengths_in_doubt",
        title: "a body whose length is in doubt",
        own: "three lengths, lengths in lists, decimals, empty ones, quoted and parametrised codings, folded lines, in pieces, after a good request",
        run: t105_lengths_in_doubt,
    },
    Case {
        name: "t106_chunks_in_doubt",
        title: "chunks that can be read in two ways",
        own: "white space on either side, bare CR, controls in extensions, no size, sizes of 64 bits, bad trailers, byte by byte",
        run: t106_chunks_in_doubt,
    },
    Case {
        name: "t107_heads_in_doubt",
        title: "heads that are not as they should be",
        own: "every control and DEL, fragments, folded lines, TLS and HTTP/2 to a clear port, other versions, empty lines, in pieces",
        run: t107_heads_in_doubt,
    },
    Case {
        name: "t109_upgrades",
        title: "upgrades to anything but an allowed WebSocket",
        own: "in HTTP/1.0, with a body, lists, a request that comes before the answer, after an upgrade that was refused",
        run: t109_upgrades,
    },
    Case {
        name: "t110_unread_bodies",
        title: "the body of a request that was refused early",
        own: "chunked, with Expect, on logout and public routes, sent in pieces",
        run: t110_unread_bodies,
    },
];

fn t105_lengths_in_doubt(tried: &mut Tried) {
    let world = World::new();
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: Chunked",
        "content-length: 5\r\nx: y\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5\r\ncontent-length: 5\r\ncontent-length: 5",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: 5,5",
        "content-length: 5, 6",
        "content-length: 5 5",
        "content-length: ",
        "content-length: five",
        "content-length: 5.0",
        "content-length: 5;",
        "content-length: \"5\"",
        "content-length: 18446744073709551616",
        "content-length: 18446744073709551621",
        "content-length: 99999999999999999999999999",
        "content-length : 5",
        "content-length\t: 5",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunkedx",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: chunked,chunked",
        "transfer-encoding: ,chunked",
        "transfer-encoding: chunked,",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding: \u{a0}chunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding: ",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: identity\r\ntransfer-encoding: chunked",
        "transfer-encoding : chunked",
        "transfer-encoding:\r\n chunked",
        "transfer-encoding: chunked\r\n , identity",
        " transfer-encoding: chunked",
        "x: y\r\n content-length: 5",
        "content-length: 5\ntransfer-encoding: chunked",
        "x: y\ntransfer-encoding: chunked",
    ] {
        let head = format!("POST /hook HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n\r\n");
        let body = if lines.contains("ransfer") {
            "5\r\nhello\r\n0\r\n\r\n"
        } else {
            "hello"
        };
        let bytes = format!("{head}{body}");
        tried.variant(format!("{lines:?}"), || {
            world.is_refused(&bytes, &[400]);
            is_refused_in_pieces(&world, &bytes);
            is_refused_behind_another(&world, &bytes);
        });
    }
    tried.variant("chunked in HTTP/1.0", || {
        world.is_refused(
            "POST /hook HTTP/1.0\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            &[400],
        );
    });
    // RFC 9110 section 5.5: white space around a value means nothing.
    tried.variant("white space around a length", || {
        let answer =
            world.raw("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length:  \t 5 \r\n\r\nhello");
        assert_eq!(answer.status, 200);
        let recorded = world.only_recorded();
        assert_eq!(
            (recorded.all("content-length"), &*recorded.body),
            (vec!["5"], &b"hello"[..])
        );
    });
}

/// Byte by byte, as a slow network brings it.
fn is_refused_in_pieces(world: &World, bytes: &str) {
    let mut conn = world.gateway().connect();
    for piece in bytes.as_bytes().chunks(7) {
        if conn.try_send(piece).is_err() {
            break;
        }
    }
    let _ = conn.try_send(SMUGGLED);
    is_one_400(&mut conn);
    world.nothing_recorded();
}

/// On a connection on which all was well so far.
fn is_refused_behind_another(world: &World, bytes: &str) {
    let mut conn = world.gateway().connect();
    let good = "POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 2\r\n\r\nok";
    let _ = conn.try_send(format!("{good}{bytes}{SMUGGLED}"));
    assert_eq!(conn.answer().status, 200);
    is_one_400(&mut conn);
    assert_eq!(world.only_recorded().body, b"ok");
}

fn is_one_400(conn: &mut Conn) {
    let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
    assert!(rest.starts_with("HTTP/1.1 400 "), "{rest}");
    assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "{rest}");
}

fn t106_chunks_in_doubt(tried: &mut Tried) {
    let world = World::new();
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1 << 20));
    let many_extensions =
        "1;x=yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\na\r\n".repeat(1000) + "0\r\n\r\n";
    let long_trailers = format!(
        "5\r\nhello\r\n0\r\n{}\r\n",
        format!("x: {}\r\n", "y".repeat(1000)).repeat(100)
    );
    let many_trailers = format!("5\r\nhello\r\n0\r\n{}\r\n", "x: y\r\n".repeat(200));
    for chunks in [
        "FFFFFFFFFFFFFFFF1\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "0000000000000000005\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a=b\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5g\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n0\n\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5;\n\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n",
        "5\r\nhello\r\n0\r\nx\0: y\r\n\r\n",
        &long_extension,
        &many_extensions,
        &long_trailers,
        &many_trailers,
    ] {
        tried.variant(format!("{chunks:.40?}"), || {
            let head = "POST /hook HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n";
            for piece in [usize::MAX, 3] {
                let bytes = format!("{head}{chunks}{SMUGGLED}");
                let mut conn = world.gateway().connect();
                for piece in bytes.as_bytes()[..bytes.len().min(40_000)].chunks(piece) {
                    if conn.try_send(piece).is_err() {
                        break;
                    }
                }
                conn.finish();
                let answers = String::from_utf8_lossy(&conn.rest()).into_owned();
                assert!(
                    answers.is_empty() || answers.starts_with("HTTP/1.1 400 "),
                    "{answers}"
                );
                assert!(answers.matches("HTTP/1.1 ").count() <= 1, "{answers}");
            }
        });
    }
    tried.variant("none of their ends was a request", || {
        assert_eq!(world.send("GET", "/public/", &[]).status, 200);
        for recorded in world.recorded() {
            let target = recorded.target();
            assert!(["/hook", "/public/"].contains(&target), "{}", recorded.head);
        }
    });
    tried.variant("what follows the last chunk is another request", || {
        let mut conn = world.gateway().connect();
        conn.send(
            "POST /hook HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\n\r\nXYZ /nothing\r\n\r\n",
        );
        assert_eq!(conn.answer().status, 200);
        is_one_400(&mut conn);
        // The broken ones before it may still be on their way.
        for recorded in world.recorded() {
            assert_eq!(recorded.target(), "/hook");
        }
    });
}

fn t107_heads_in_doubt(tried: &mut Tried) {
    let world = World::new();
    let many = "x: y\r\n".repeat(101);
    let large = format!("x: {}\r\n", "y".repeat(17 * 1024));
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "y".repeat(70_000)
    );
    let get = |lines: &str| format!("GET /public/ HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n");
    for (what, head, statuses) in [
        (
            "bare LF",
            "GET /public/ HTTP/1.1\nhost: g.test\n\n".to_owned(),
            &[400_u16][..],
        ),
        (
            "bare LF in the request line",
            "GET /public/ HTTP/1.1\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        ("bare LF at a header", get("x: y\n"), &[400]),
        (
            "bare LF at the end",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\n\n".to_owned(),
            &[400],
        ),
        (
            "LF CR",
            "GET /public/ HTTP/1.1\n\rhost: g.test\n\r\n\r".to_owned(),
            &[400],
        ),
        (
            "bare CR",
            "GET /public/ HTTP/1.1\rhost: g.test\r\r".to_owned(),
            &[400],
        ),
        ("bare CR in a value", get("x: a\rb\r\n"), &[400]),
        ("bare CR in a name", get("x\ry: b\r\n"), &[400]),
        ("space in a name", get("x y: z\r\n"), &[400]),
        ("space after a name", get("x : z\r\n"), &[400]),
        ("no name", get(": z\r\n"), &[400]),
        ("no colon", get("xyz\r\n"), &[400]),
        ("folded", get("x: a\r\n b\r\n"), &[400]),
        ("folded with a tab", get("x: a\r\n\tb\r\n"), &[400]),
        ("brackets in a name", get("x(y): z\r\n"), &[400]),
        (
            "letters beyond ASCII in a name",
            get("x\u{e9}: z\r\n"),
            &[400],
        ),
        (
            "leading space",
            "GET /public/ HTTP/1.1\r\n host: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "two empty lines",
            "\r\n\r\nGET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a bare LF before",
            "\nGET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a space before",
            " GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "HTTP/1.2",
            "GET /public/ HTTP/1.2\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400, 505],
        ),
        (
            "HTTP/0.9",
            "GET /public/ HTTP/0.9\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400, 505],
        ),
        (
            "HTTP/2.0",
            "GET /public/ HTTP/2.0\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400, 505],
        ),
        (
            "HTTP/1.10",
            "GET /public/ HTTP/1.10\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400, 505],
        ),
        (
            "HTTP/01.1",
            "GET /public/ HTTP/01.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400, 505],
        ),
        ("no version", "GET /public/\r\n\r\n".to_owned(), &[400]),
        (
            "small letters",
            "GET /public/ http/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "two spaces",
            "GET  /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "two spaces later",
            "GET /public/  HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "a space at the end",
            "GET /public/ HTTP/1.1 \r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "tab",
            "GET\t/public/ HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "fragment",
            "GET /public/#a HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "fragment after a query",
            "GET /app/a?b#/public/ HTTP/1.1\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "TLS",
            "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "no host",
            "GET /public/ HTTP/1.1\r\n\r\n".to_owned(),
            &[400],
        ),
        (
            "two hosts",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nhost: g.test\r\n\r\n".to_owned(),
            &[400],
        ),
        ("101 headers", get(&many), &[431]),
        ("17 KiB", get(&large), &[431]),
        ("long target", long, &[414, 431]),
    ] {
        tried.variant(what, || {
            world.is_refused(&head, statuses);
            if head.len() < 1000 {
                let mut conn = world.gateway().connect();
                for byte in head.as_bytes() {
                    if conn.try_send([*byte]).is_err() {
                        break;
                    }
                }
                let _ = conn.try_send(SMUGGLED);
                let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
                assert_eq!(rest.matches("HTTP/1.1 ").count(), 1, "byte by byte: {rest}");
                world.nothing_recorded();
            }
        });
    }
    for control in (0..0x20_u8).chain([0x7f]).filter(|byte| *byte != b'\t') {
        tried.variant(format!("control {control:#04x}"), || {
            for (before, after) in [("x: a", "b\r\n"), ("x", ": b\r\n"), ("x: ", "\r\n")] {
                let mut bytes = b"GET /public/ HTTP/1.1\r\nhost: g.test\r\n".to_vec();
                bytes.extend(before.as_bytes());
                bytes.push(control);
                bytes.extend(after.as_bytes());
                bytes.extend(b"\r\n");
                world.is_refused(bytes, &[400]);
            }
        });
    }
    tried.variant("the beginning of HTTP/2", || {
        world.is_refused_or_closed("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    });
    tried.variant("one empty line before is no harm", || {
        assert_eq!(
            world
                .raw("\r\nGET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n")
                .status,
            200
        );
        world.only_recorded();
    });
}

fn t109_upgrades(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let websocket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n";
    for (what, target, lines) in [
        (
            "h2c",
            "/app/a",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n".to_owned(),
        ),
        ("TLS", "/app/a", "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n".to_owned()),
        ("unknown", "/app/a", "Connection: upgrade\r\nUpgrade: foo/2\r\n".to_owned()),
        ("list", "/app/a", "Connection: upgrade\r\nUpgrade: h2c, foo\r\n".to_owned()),
        ("websocket = false", "/plain/a", format!("Connection: upgrade\r\n{websocket}")),
        ("not in Connection", "/app/a", websocket.to_owned()),
    ] {
        tried.variant(what, || {
            let mut conn = world.gateway().connect();
            let cookie = &alice.access;
            let head = format!("GET {target} HTTP/1.1\r\nHost: g.test:8443\r\nCookie: {cookie}\r\n{lines}\r\n");
            assert_eq!(world.raw_on(&mut conn, head).status, 200);
            let recorded = world.only_recorded();
            for name in ["upgrade", "http2-settings", "connection"] {
                assert!(recorded.all(name).is_empty(), "{}", recorded.head);
            }
            // It was a request like any other, and so is the next.
            let next = request("GET", "/public/next", &[]);
            assert_eq!(world.raw_on(&mut conn, next).status, 200);
            assert_eq!(world.only_recorded().target(), "/public/next");
        });
    }
    tried.variant("in HTTP/1.0", || {
        let cookie = &alice.access;
        let lines = format!("Connection: upgrade\r\n{websocket}");
        let answer = world.raw(format!(
            "GET /app/a HTTP/1.0\r\nHost: g.test:8443\r\nCookie: {cookie}\r\n{lines}\r\n"
        ));
        assert_eq!(answer.status, 200);
        assert!(world.only_recorded().all("upgrade").is_empty());
    });
    tried.variant("without a session", || {
        let answer = world.raw(format!(
            "GET /app/a HTTP/1.1\r\nHost: g.test:8443\r\nConnection: upgrade\r\n{websocket}\r\n"
        ));
        is_401j_that_clears_nothing(&answer);
        world.nothing_recorded();
    });
    for (what, lines) in [
        (
            "a request before the answer",
            "Connection: upgrade\r\nUpgrade: foo\r\n".to_owned(),
        ),
        (
            "a request before the answer to a handshake",
            format!("Connection: upgrade\r\n{websocket}"),
        ),
    ] {
        tried.variant(what, || {
            let mut conn = world.gateway().connect();
            let cookie = &alice.access;
            let head = format!(
                "GET /app/a HTTP/1.1\r\nHost: g.test:8443\r\nCookie: {cookie}\r\n{lines}\r\n"
            );
            conn.send(format!("{head}{SMUGGLED}"));
            let _ = conn.answer();
            let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
            assert!(
                rest.is_empty() || rest.starts_with("HTTP/1.1 400 "),
                "{rest}"
            );
            assert_eq!(world.only_recorded().target(), "/app/a");
        });
    }
}

fn t110_unread_bodies(tried: &mut Tried) {
    let world = World::new();
    let body = SMUGGLED.repeat(100_000 / SMUGGLED.len() + 1);
    let length = body.len();
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    for (what, target, framing, body) in [
        ("length", "/a", format!("content-length: {length}"), &body),
        (
            "chunked",
            "/a",
            "transfer-encoding: chunked".to_owned(),
            &chunked,
        ),
        (
            "method that is not allowed",
            "/auth/session/refresh/x",
            format!("content-length: {length}"),
            &body,
        ),
        (
            "refresh",
            "/auth/session/refresh",
            format!("content-length: {length}"),
            &body,
        ),
        (
            "refresh, chunked",
            "/auth/session/refresh",
            "transfer-encoding: chunked".to_owned(),
            &chunked,
        ),
        (
            "expected",
            "/a",
            format!("expect: 100-continue\r\ncontent-length: {length}"),
            &body,
        ),
    ] {
        tried.variant(what, || {
            let mut conn = world.gateway().connect();
            conn.send(format!(
                "POST {target} HTTP/1.1\r\nhost: g.test\r\n{framing}\r\n\r\n"
            ));
            is_401j(&conn.answer());
            let _ = conn.try_send(format!(
                "{body}GET /public/next HTTP/1.1\r\nhost: g.test\r\n\r\n"
            ));
            conn.finish();
            let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
            // Drained, and then the next request is answered; or closed.
            assert!(rest.matches("HTTP/1.1 ").count() <= 1, "{rest}");
            for recorded in world.recorded() {
                assert_eq!(recorded.target(), "/public/next");
            }
        });
    }
    tried.variant("all at once", || {
        let mut conn = world.gateway().connect();
        let _ = conn.try_send(format!(
            "POST /a HTTP/1.1\r\nhost: g.test\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        is_401j(&conn.answer());
        conn.finish();
        let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
        assert_eq!(rest.matches("HTTP/1.1 ").count(), 0, "{rest}");
        world.nothing_recorded();
    });
}
