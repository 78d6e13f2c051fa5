//! HTTP/1.1: heads, and what keeps a connection in step.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Work, usually};
use crate::support::{PATIENCE, Upstream, header};

cases! {
    a_head_goes_up_and_down: portcullis, nginx, haproxy;
    hop_by_hop_headers_end_here: portcullis, nginx, haproxy;
    requests_are_answered_in_order: portcullis, nginx, haproxy;
    connection_close_is_obeyed_and_said: portcullis, nginx, haproxy;
    clients_of_http_1_0: portcullis, nginx, haproxy;
    the_absolute_form_is_taken: portcullis, nginx, haproxy;
    answers_without_a_body_leave_the_connection_in_step: portcullis, nginx, haproxy;
    interim_answers_are_not_taken_for_the_answer: portcullis, haproxy;
    who_closes_its_side_is_taken_for_gone: portcullis, nginx, haproxy;
    a_body_is_invited: portcullis, nginx, haproxy;
}

fn a_head_goes_up_and_down(make: Make) {
    let upstream = Upstream::answering(
        "HTTP/1.1 203 Very Fine\r\nx-dup: 1\r\nx-dup: 2\r\ncontent-length: 2\r\nx-empty:\r\n\r\nhi",
    );
    let front = Work::to(&upstream).start(make);
    let answer = front.ask(
        "GET /a/b%20c?x=%2F&y=a+b&&z HTTP/1.1\r\nHost: g.test:81\r\nAccept: */*\r\nX-Dup: 1\r\nX-Dup: 2\r\nUser-Agent: me\r\n\r\n",
    );
    let head = upstream.only_head().to_ascii_lowercase();
    assert!(
        head.starts_with("get /a/b%20c?x=%2f&y=a+b&&z http/1.1\r\n"),
        "{head}"
    );
    for line in [
        "\r\nhost: g.test:81\r\n",
        "\r\naccept: */*\r\n",
        "\r\nx-dup: 1\r\nx-dup: 2\r\n",
        "\r\nuser-agent: me\r\n",
    ] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert_eq!(answer.status, 203);
    let head = answer.head.to_ascii_lowercase();
    assert!(head.contains("x-dup: 1\r\nx-dup: 2\r\n"), "{head}");
    assert_eq!(header(&head, "x-empty"), Some(""));
    assert_eq!(answer.text(), "hi");
}

fn hop_by_hop_headers_end_here(make: Make) {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nconnection: x-mine, close\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\n\
         proxy-authenticate: Basic\r\nx-theirs: 2\r\ncontent-length: 0\r\n\r\n",
    );
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send(
        "GET / HTTP/1.1\r\nhost: g.test\r\nconnection: keep-alive, X-Mine\r\nx-mine: 1\r\nkeep-alive: 5\r\n\
         proxy-connection: keep-alive\r\nproxy-authorization: Basic eDp5\r\nte: gzip\r\nx-theirs: 2\r\n\r\n",
    );
    let answer = conn.answer();
    let head = upstream.only_head();
    const NOT_NAMED: &str = "it does not look at the names in Connection";
    const PROXYS: &str = "it leaves to others what is for proxies";
    for (name, gone) in [
        (
            "x-mine",
            usually(true)
                .but(Nginx, false, NOT_NAMED)
                .but(HaProxy, false, NOT_NAMED),
        ),
        (
            "keep-alive",
            usually(true).but(HaProxy, false, "it leaves Keep-Alive as it is"),
        ),
        (
            "proxy-connection",
            usually(true)
                .but(Nginx, false, "it does not know Proxy-Connection")
                .but(HaProxy, false, "it does not know Proxy-Connection"),
        ),
        (
            "proxy-authorization",
            usually(true)
                .but(Nginx, false, PROXYS)
                .but(HaProxy, false, PROXYS),
        ),
        ("te", usually(true)),
        ("x-theirs", usually(false)),
    ] {
        gone.assert(
            make,
            &header(&head, name).is_none(),
            &format!("{name}: {head}"),
        );
    }
    for (name, gone) in [
        (
            "x-mine",
            usually(true)
                .but(Nginx, false, NOT_NAMED)
                .but(HaProxy, false, NOT_NAMED),
        ),
        (
            "keep-alive",
            usually(true).but(HaProxy, false, "it leaves Keep-Alive as it is"),
        ),
        (
            "proxy-authenticate",
            usually(true)
                .but(Nginx, false, PROXYS)
                .but(HaProxy, false, PROXYS),
        ),
        ("x-theirs", usually(false)),
    ] {
        gone.assert(make, &answer.header(name).is_none(), &answer.head);
    }
    // The upstream's wish to close is not the client's.
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
    assert_eq!(conn.answer().status, 200);
}

fn requests_are_answered_in_order(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        let path = head.split(' ').nth(1).unwrap();
        if path.ends_with("/slow") {
            thread::sleep(Duration::from_millis(100));
        }
        let length = path.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{path}"
        ))
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for _ in 0..3 {
        assert_eq!(conn.get("/a", "").text(), "/a");
    }
    let paths = ["/slow", "/b", "/c/slow", "/d"];
    let requests: String = paths
        .iter()
        .map(|path| format!("GET {path} HTTP/1.1\r\nhost: g.test\r\n\r\n"))
        .collect();
    conn.send(requests + "G\0 / HTTP/1.1\r\n\r\n");
    for path in paths {
        assert_eq!(conn.answer().text(), path);
    }
    assert_eq!(conn.answer().status, 400, "what cannot be read");
    assert_eq!(conn.rest(), b"");
    assert_eq!(upstream.requests(), 7);
}

fn connection_close_is_obeyed_and_said(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n");
    let answer = conn.answer();
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(conn.rest(), b"");
    assert_eq!(header(&upstream.only_head(), "connection"), None);
}

fn clients_of_http_1_0(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        peer.body(head);
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.0\r\nhost: g.test\r\n\r\n");
    let answer = conn.answer();
    assert_eq!(answer.status, 200);
    let coding = usually(None).but(
        HaProxy,
        Some("chunked"),
        "it passes on what the server says, whatever the client understands",
    );
    coding.assert(make, &answer.header("transfer-encoding"), &answer.head);
    assert_eq!(answer.text(), "hello");
    assert_eq!(conn.rest(), b"");
    let head = upstream.only_head();
    let line = usually("GET / HTTP/1.1").but(
        HaProxy,
        "GET / HTTP/1.0",
        "it asks in the version that it is asked in",
    );
    line.assert(make, &head.lines().next().unwrap(), "the request line");
    assert_eq!(header(&head, "host"), Some("g.test"));
}

fn the_absolute_form_is_taken(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).start(make);
    let answer = front.ask("GET http://g.test:81/a?b HTTP/1.1\r\nhost: g.test:81\r\n\r\n");
    assert_eq!(answer.status, 200);
    let head = upstream.only_head();
    let line = usually("GET /a?b HTTP/1.1").but(
        HaProxy,
        "GET http://g.test:81/a?b HTTP/1.1",
        "it passes the form on, which every server has to take (RFC 9112 section 3.2.2)",
    );
    line.assert(make, &head.lines().next().unwrap(), "the request line");
    assert_eq!(header(&head, "host"), Some("g.test:81"));
}

fn answers_without_a_body_leave_the_connection_in_step(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        let line = head.lines().next().unwrap();
        peer.send(match line {
            "HEAD /length HTTP/1.1" => {
                "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\netag: \"a\"\r\n\r\n"
            }
            "HEAD /chunked HTTP/1.1" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET /204 HTTP/1.1" => "HTTP/1.1 204 No Content\r\nx: 204\r\n\r\n",
            "GET /304 HTTP/1.1" => "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
            "GET /304-with-length HTTP/1.1" => {
                "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 1000\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        })
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for (method, path, status, line) in [
        ("HEAD", "/length", 200, "content-length: 1000\r\n"),
        ("HEAD", "/chunked", 200, ""),
        ("GET", "/204", 204, "x: 204\r\n"),
        ("GET", "/304", 304, "etag: \"a\"\r\n"),
        ("GET", "/304-with-length", 304, "etag: \"a\"\r\n"),
    ] {
        conn.send(format!("{method} {path} HTTP/1.1\r\nhost: g.test\r\n\r\n"));
        let answer = conn.bodiless_answer();
        assert_eq!(answer.status, status, "{path}");
        let head = answer.head.to_ascii_lowercase();
        assert!(head.contains(line), "{head}");
        assert_eq!(conn.get("/", "").text(), "hello", "after {path}");
    }
}

/// nginx 1.22 takes a 103 for the answer, and its client waits.
fn interim_answers_are_not_taken_for_the_answer(make: Make) {
    let upstream = Upstream::answering(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    );
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for _ in 0..2 {
        conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
        let mut answer = conn.answer();
        let mut hints = 0;
        while answer.status < 200 {
            hints += usize::from(answer.status == 103);
            answer = conn.answer();
        }
        assert_eq!(answer.text(), "hello");
        // RFC 9110 section 15.2 would have it.
        let passed = usually(0).but(
            HaProxy,
            1,
            "hyper has no way to send one, and so neither have we",
        );
        passed.assert(make, &hints, "hints");
    }
}

/// A side that is closed before the answer is there is all that can be seen of a client that went away.
fn who_closes_its_side_is_taken_for_gone(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, _| {
        tell.send(peer.rest()).unwrap();
        false
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n");
    upstream.has_seen(1);
    conn.finish();
    told.recv_timeout(PATIENCE).expect("the upstream is let go");
    let status = usually(None).but(HaProxy, Some(400), "it tells whoever still listens");
    let found = conn.try_answer().map(|answer| answer.status);
    status.assert(make, &found, "half-closed");
}

fn a_body_is_invited(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        if header(head, "expect").is_some() {
            peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        peer.body(head);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for _ in 0..2 {
        conn.send(
            "POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n",
        );
        let invited = conn.head().unwrap().to_ascii_lowercase();
        assert!(
            invited.starts_with("http/1.1 100 continue\r\n"),
            "{invited}"
        );
        conn.send("hello");
        assert_eq!(conn.answer().status, 200);
    }
}
