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
fn a_client_of_http_1_0_may_name_no_host() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream);
    assert_eq!(ask(&gateway, "GET /public/ HTTP/1.0\r\n\r\n").status, 200);
    assert_eq!(header(&upstream.only_head(), "host"), Some("localhost"));
}

#[test]
fn the_absolute_form_is_refused_if_it_names_another_host() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream);
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
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn the_gateways_own_answers_to_head_have_no_body() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    conn.send("HEAD /private HTTP/1.1\r\nhost: g.test\r\n\r\n");
    assert_eq!(conn.bodiless_answer().status, 401);
    assert_eq!(conn.get("/public/", "").text(), "nobody");
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
