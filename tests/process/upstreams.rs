//! Upstreams that fail, and upstreams that share one gateway.

use std::time::Duration;

use crate::support::{Home, Upstream, app, eventually, header, only_app, timed};

const RULES: &str = "[[route]]\npath = \"/public/**\"\nauth = \"none\"\n[[route]]\npath = \"/hook\"\nauth = \"none\"\n";

#[test]
fn one_that_is_down_is_502_until_it_is_up() {
    let placeholder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = placeholder.local_addr().unwrap();
    drop(placeholder);
    let home = Home::new(&only_app(address));
    let gateway = home.start();
    for _ in 0..2 {
        let mut conn = gateway.connect();
        let answer = conn.get("/public/", "");
        assert_eq!(answer.status, 502);
        assert!(!answer.text().contains(&address.to_string()));
        assert_eq!(
            conn.get("/public/", "").status,
            502,
            "the connection goes on"
        );
    }
    // Whoever has no session does not learn that it is down.
    assert_eq!(gateway.status("/private", ""), 401);
    eventually("the log tells of it", || {
        gateway.log().contains("upstream_connect")
    });
    let _up = Upstream::scripted_at(address, |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    assert_eq!(gateway.status("/public/", ""), 200);
}

#[test]
fn one_that_takes_too_long_is_504() {
    let upstream = Upstream::scripted(|peer, head| {
        if head.contains("/slow") {
            peer.rest();
            return false;
        }
        // The head in time, the body in its own time.
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe");
        std::thread::sleep(Duration::from_millis(600));
        peer.send("llo")
    });
    let rules = app(upstream.address, "response_timeout = \"300ms\"") + RULES;
    let home = Home::new(&rules);
    let gateway = home.start();
    let (answer, took) = timed(|| gateway.get("/public/slow", ""));
    assert_eq!(answer.status, 504);
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(gateway.get("/public/body", "").text(), "hello");
}

#[test]
fn one_that_talks_garbage_is_502() {
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    for answer in [
        "",
        "garbage\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx y: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        "\x15\x03\x03\x00\x02\x02\x46",
        &large,
    ] {
        let bytes = answer.to_owned();
        let upstream = Upstream::scripted(move |peer, _| {
            peer.send(&bytes);
            peer.finish();
            false
        });
        let home = Home::new(&(app(upstream.address, "") + RULES));
        let gateway = home.start();
        let mut conn = gateway.connect();
        let what = &answer[..answer.len().min(60)];
        conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 0\r\n\r\n");
        let told = conn.answer();
        assert_eq!(told.status, 502, "{what:?}");
        assert_eq!(told.header("x"), None);
        assert_eq!(upstream.requests(), 1, "{what:?}: a POST is not repeated");
    }
}

/// What a server sends without being asked must not become the answer to somebody else's request.
#[test]
fn bytes_beyond_an_answer_are_nobodys() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send(
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nevil!",
        )
    });
    let home = Home::new(&(app(upstream.address, "") + RULES));
    let gateway = home.start();
    for _ in 0..5 {
        assert_eq!(gateway.get("/public/", "").text(), "hello");
    }
}

#[test]
fn paths_choose_between_upstreams() {
    let naming = |name: &'static str| {
        Upstream::scripted(move |peer, head| {
            peer.body(head);
            let user = header(head, "x-user-id").unwrap_or("nobody");
            let text = format!("{name} {user}");
            let length = text.len();
            let login = if head.starts_with("POST /enter ") {
                "portcullis-login: alice\r\n"
            } else {
                ""
            };
            peer.send(format!(
                "HTTP/1.1 200 OK\r\n{login}content-length: {length}\r\n\r\n{text}"
            ))
        })
    };
    let (one, two) = (naming("one"), naming("two"));
    let home = Home::new(&format!(
        "{}[[upstream]]\nname = \"two\"\nservers = [\"http://{}\"]\n\
         [[login]]\npath = \"/enter\"\nupstream = \"two\"\n\
         [[logout]]\npath = \"/leave\"\nforward = true\nupstream = \"two\"\n\
         [[route]]\npath = \"/api/**\"\nupstream = \"two\"\n\
         [[route]]\npath = \"/api/one\"\nupstream = \"app\"\n\
         [[route]]\npath = \"/open/**\"\nauth = \"none\"\nupstream = \"two\"\n",
        app(one.address, ""),
        two.address
    ));
    let gateway = home.start();
    let mut conn = gateway.connect();
    let login = conn.post("/enter", "");
    assert_eq!(login.text(), "two nobody");
    let cookie = login.cookies();
    for (path, text) in [
        ("/", "one alice"),
        ("/api", "two alice"),
        ("/api/x", "two alice"),
        ("/api/one", "one alice"),
        ("/api/one/x", "two alice"),
        ("/apix", "one alice"),
        ("/open/x", "two nobody"),
    ] {
        assert_eq!(conn.get(path, &cookie).text(), text, "{path}");
    }
    assert_eq!(conn.post("/leave", &cookie).text(), "two alice");
    assert_eq!(conn.get("/api", &cookie).status, 401);
}
