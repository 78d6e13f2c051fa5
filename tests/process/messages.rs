//! Single messages through the gateway: what is changed on the way, and what is not.

use std::time::Duration;

use crate::support::{Answer, Gateway, Home, Upstream, header, only_app};

fn gateway(upstream: &Upstream) -> (Home, Gateway) {
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    (home, gateway)
}

fn ask(gateway: &Gateway, request: &str) -> Answer {
    let mut conn = gateway.connect();
    conn.send(request);
    conn.answer()
}

#[test]
fn a_head_goes_up_and_down_byte_for_byte_but_for_the_gateways_word() {
    let upstream = Upstream::answering(
        "HTTP/1.1 203 Very Fine\r\nServer: u\r\nx-dup: 1\r\nx-dup: 2\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 2\r\n\
         x-bytes: z\u{fc}\r\n\r\nhi",
    );
    let (_home, gateway) = gateway(&upstream);
    let answer = ask(
        &gateway,
        "GET /public/%7Ea/b%20c?x=%2F&y=a+b&&z HTTP/1.1\r\nHost: g.test:81\r\nAccept: */*\r\nX-Dup: 1\r\nX-Dup: 2\r\nUser-Agent: me\r\n\r\n",
    );
    assert_eq!(
        upstream.only_head(),
        "GET /public/~a/b%20c?x=%2F&y=a+b&&z HTTP/1.1\r\nhost: g.test:81\r\naccept: */*\r\nx-dup: 1\r\nx-dup: 2\r\nuser-agent: me\r\n\
         x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: g.test:81\r\n\r\n"
    );
    assert_eq!(answer.status, 203);
    for line in [
        "server: u\r\n",
        "x-dup: 1\r\nx-dup: 2\r\n",
        "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "x-bytes: z\u{fc}\r\n",
    ] {
        assert!(answer.head.contains(line), "{line}: {}", answer.head);
    }
    assert_eq!(answer.text(), "hi");
}

#[test]
fn hop_by_hop_headers_end_here() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nconnection: x-mine, close\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\
         x-theirs: 2\r\ncontent-length: 0\r\n\r\n",
    );
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    conn.send(
        "GET /public/ HTTP/1.1\r\nhost: g.test\r\nconnection: keep-alive, X-Mine\r\nx-mine: 1\r\nkeep-alive: 5\r\n\
         proxy-connection: keep-alive\r\nproxy-authorization: Basic eDp5\r\nte: gzip\r\nx-theirs: 2\r\n\r\n",
    );
    let answer = conn.answer();
    let head = upstream.only_head();
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "x-mine",
    ] {
        assert_eq!(header(&head, name), None, "{head}");
    }
    assert_eq!(header(&head, "x-theirs"), Some("2"));
    for name in ["connection", "keep-alive", "proxy-authenticate", "x-mine"] {
        assert_eq!(answer.header(name), None, "{}", answer.head);
    }
    assert_eq!(answer.header("x-theirs"), Some("2"));
    // The upstream's wish to close is not the client's.
    conn.send("GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n");
    assert_eq!(conn.answer().status, 200);
}

#[test]
fn a_connection_serves_one_request_after_the_other_in_order() {
    let upstream = Upstream::scripted(|peer, head| {
        let path = head.split(' ').nth(1).unwrap();
        if path.ends_with("/slow") {
            std::thread::sleep(Duration::from_millis(100));
        }
        let length = path.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}"
        ))
    });
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert_eq!(conn.get("/public/a", "").text(), "/public/a");
    }
    // Pipelined: answered in order, with the gateway's own answers in between.
    let paths = [
        "/public/slow",
        "/public/b",
        "/private",
        "/public/c",
        "/..",
        "/public/d",
    ];
    let requests: String = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nhost: g.test\r\n\r\n"))
        .collect();
    conn.send(requests);
    for (path, status) in [
        ("/public/slow", 200),
        ("/public/b", 200),
        ("", 401),
        ("/public/c", 200),
        ("", 400),
    ] {
        let answer = conn.answer();
        assert_eq!(answer.status, status);
        if status == 200 {
            assert_eq!(answer.text(), path);
        }
    }
    assert_eq!(conn.rest(), b"", "after what cannot be read for certain");
    assert_eq!(upstream.requests(), 6);
}

#[test]
fn connection_close_is_obeyed_and_said() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    conn.send("GET /public/ HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n");
    let answer = conn.answer();
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(conn.rest(), b"");
    assert_eq!(header(&upstream.only_head(), "connection"), None);
}

#[test]
fn clients_of_http_1_0() {
    let upstream = Upstream::scripted(|peer, head| {
        peer.body(head);
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    });
    let (_home, gateway) = gateway(&upstream);
    for (host, told) in [("host: g.test\r\n", "g.test"), ("", "localhost")] {
        let mut conn = gateway.connect();
        conn.send(format!("GET /public/ HTTP/1.0\r\n{host}\r\n"));
        let answer = conn.answer();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("transfer-encoding"), None, "{}", answer.head);
        assert_eq!(answer.text(), "hello");
        assert_eq!(conn.rest(), b"");
        let head = upstream.heads().pop().unwrap();
        assert!(head.starts_with("GET /public/ HTTP/1.1\r\n"), "{head}");
        assert_eq!(header(&head, "host"), Some(told));
    }
}

#[test]
fn the_absolute_form_is_taken_if_it_names_the_host() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream);
    let answer = ask(
        &gateway,
        "GET http://g.test:81/public/a?b HTTP/1.1\r\nhost: g.test:81\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
    let head = upstream.only_head();
    assert!(head.starts_with("GET /public/a?b HTTP/1.1\r\n"), "{head}");
    for (line, host, status) in [
        ("GET http://g.test/private", "g.test", 401),
        ("GET http://g.test/public/", "other", 400),
        ("GET http://user@g.test/public/", "g.test", 400),
        ("GET http://g.test:81/public/", "g.test", 400),
    ] {
        let answer = ask(
            &gateway,
            &format!("{line} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
        );
        assert_eq!(answer.status, status, "{line}");
    }
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn answers_without_a_body_leave_the_connection_in_step() {
    let upstream = Upstream::scripted(|peer, head| {
        let line = head.lines().next().unwrap();
        peer.send(match line {
            "HEAD /public/length HTTP/1.1" => {
                "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\netag: \"a\"\r\n\r\n"
            }
            "HEAD /public/chunked HTTP/1.1" => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            }
            "GET /public/204 HTTP/1.1" => "HTTP/1.1 204 No Content\r\nx: 204\r\n\r\n",
            "GET /public/304 HTTP/1.1" => {
                "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 1000\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        })
    });
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    for (method, path, status, line) in [
        ("HEAD", "/public/length", 200, "content-length: 1000\r\n"),
        ("HEAD", "/public/chunked", 200, ""),
        ("GET", "/public/204", 204, "x: 204\r\n"),
        ("GET", "/public/304", 304, "etag: \"a\"\r\n"),
    ] {
        conn.send(format!("{method} {path} HTTP/1.1\r\nhost: g.test\r\n\r\n"));
        let answer = conn.bodiless_answer();
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.head.contains(line), "{}", answer.head);
        assert_eq!(conn.get("/public/", "").text(), "hello", "after {path}");
    }
    // The gateway's own answers to HEAD have no body either.
    conn.send("HEAD /private HTTP/1.1\r\nhost: g.test\r\n\r\n");
    assert_eq!(conn.bodiless_answer().status, 401);
    assert_eq!(conn.get("/public/", "").text(), "hello");
}

#[test]
fn interim_answers_of_the_upstream_are_not_taken_for_the_answer() {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    );
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    for _ in 0..2 {
        assert_eq!(conn.get("/public/", "").text(), "hello");
    }
}

#[test]
fn a_body_is_invited_only_if_it_is_wanted() {
    let upstream = Upstream::application();
    let (home, gateway) = gateway(&upstream);
    let expect = |path: &str, cookie: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: g.test\r\nsec-fetch-site: same-origin\r\n{cookie}content-length: 5\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    let cookie = format!("cookie: {}\r\n", home.open_session("alice").cookie);
    for (path, cookie) in [("/hook", ""), ("/a", cookie.as_str())] {
        let mut conn = gateway.connect();
        conn.send(expect(path, cookie));
        assert_eq!(conn.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        conn.send("hello");
        assert_eq!(conn.answer().status, 200, "{path}");
        let head = upstream.heads().pop().unwrap();
        assert_eq!(header(&head, "expect"), None, "{head}");
    }
    let mut conn = gateway.connect();
    conn.send(expect("/a", ""));
    assert_eq!(conn.answer().status, 401);
    // The client does not send what was not invited; the gateway does not wait for it.
    conn.send("GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n");
    let rest = String::from_utf8(conn.rest()).unwrap();
    assert!(rest.is_empty(), "{rest}");
    assert_eq!(upstream.requests(), 2);
}
