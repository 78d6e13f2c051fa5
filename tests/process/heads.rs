//! Heads that no honest client sends, and heads that are too much.

use crate::support::Attack;

/// T107.
#[test]
fn heads_that_are_not_as_they_should_be() {
    let mut attack = Attack::new();
    let many = format!("{}\r\n", "x: y\r\n".repeat(101));
    let many = format!("GET /public/ HTTP/1.1\r\nhost: g.test\r\n{many}");
    let large = format!(
        "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx: {}\r\n\r\n",
        "y".repeat(17 * 1024)
    );
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "y".repeat(70_000)
    );
    for (what, head, statuses) in [
        (
            "bare CR",
            "GET /public/ HTTP/1.1\rhost: g.test\r\r",
            &[400_u16] as &[u16],
        ),
        (
            "bare CR in a value",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx: a\rb\r\n\r\n",
            &[400],
        ),
        (
            "NUL in a value",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx: a\0b\r\n\r\n",
            &[400],
        ),
        (
            "control in a value",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx: a\x01b\r\n\r\n",
            &[400],
        ),
        (
            "DEL in a value",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx: a\x7fb\r\n\r\n",
            &[400],
        ),
        (
            "space in a name",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx y: z\r\n\r\n",
            &[400],
        ),
        (
            "space after a name",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx : z\r\n\r\n",
            &[400],
        ),
        (
            "no name",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\n: z\r\n\r\n",
            &[400],
        ),
        (
            "no colon",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nxyz\r\n\r\n",
            &[400],
        ),
        (
            "folded",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx: a\r\n b\r\n\r\n",
            &[400],
        ),
        (
            "leading space",
            "GET /public/ HTTP/1.1\r\n host: g.test\r\n\r\n",
            &[400],
        ),
        (
            "HTTP/1.2",
            "GET /public/ HTTP/1.2\r\nhost: g.test\r\n\r\n",
            &[400, 505],
        ),
        (
            "HTTP/0.9",
            "GET /public/ HTTP/0.9\r\nhost: g.test\r\n\r\n",
            &[400, 505],
        ),
        ("no version", "GET /public/\r\n\r\n", &[400]),
        (
            "HTTP/2.0",
            "GET /public/ HTTP/2.0\r\nhost: g.test\r\n\r\n",
            &[400, 505],
        ),
        (
            "small letters",
            "GET /public/ http/1.1\r\nhost: g.test\r\n\r\n",
            &[400],
        ),
        (
            "two spaces",
            "GET  /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n",
            &[400],
        ),
        (
            "two spaces later",
            "GET /public/  HTTP/1.1\r\nhost: g.test\r\n\r\n",
            &[400],
        ),
        (
            "tab",
            "GET\t/public/ HTTP/1.1\r\nhost: g.test\r\n\r\n",
            &[400],
        ),
        (
            "preface",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            &[0, 400, 505],
        ),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", &[400]),
        ("no host", "GET /public/ HTTP/1.1\r\n\r\n", &[400]),
        (
            "two hosts",
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\nhost: g.test\r\n\r\n",
            &[400],
        ),
        ("101 headers", &many, &[431]),
        ("17 KiB", &large, &[431]),
        ("long target", &long, &[414, 431]),
    ] {
        attack.is_refused(what, head.as_bytes(), statuses);
    }
    attack.is_refused(
        "a byte that is no ASCII in the target",
        b"GET /public/\x80 HTTP/1.1\r\nhost: g.test\r\n\r\n",
        &[400],
    );
}

/// T063.
#[test]
fn cookies_beyond_the_limits() {
    let mut attack = Attack::new();
    let large = "a".repeat(16 * 1024);
    let lines = "cookie: a=b\r\n".repeat(101);
    for (what, cookies) in [
        ("16 KiB", format!("cookie: a={large}\r\n")),
        ("101 lines", lines),
        (
            "500 small cookies",
            format!("cookie: {}\r\n", "a=b; ".repeat(500)),
        ),
        (
            "500 cookies",
            format!(
                "cookie: {}\r\n",
                "abcdefghijklmnop=qrstuvwxyz0123456789; ".repeat(500)
            ),
        ),
    ] {
        let head = format!("GET /public/ HTTP/1.1\r\nhost: g.test\r\n{cookies}\r\n");
        attack.is_refused(what, head.as_bytes(), &[431]);
    }
}

/// T034.
#[test]
fn methods() {
    let attack = Attack::new();
    for (line, status) in [
        ("get /public/a", 400),
        ("Get /public/a", 400),
        ("GETT /a", 401),
        ("POST /a", 401),
        ("PATCH /a", 401),
        ("TRACE /public/a", 405),
        ("CONNECT g.test:443", 405),
        ("CONNECT /public/a", 405),
        ("OPTIONS /a", 401),
        ("OPTIONS *", 400),
    ] {
        let mut conn = attack.gateway.connect();
        conn.send(format!("{line} HTTP/1.1\r\nhost: g.test\r\n\r\n"));
        let head = conn.head().unwrap_or_default();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{line}: {head}"
        );
        assert_eq!(attack.upstream.requests(), 0, "{line}");
    }
}
