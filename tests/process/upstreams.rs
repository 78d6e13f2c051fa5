//! Upstreams that fail, and upstreams that share one gateway.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// An upstream that answers with the request line and the `Host` that it got.
fn echo() -> Upstream {
    Upstream::scripted(|peer, head| {
        peer.body(head);
        let line = head.lines().next().unwrap_or_default();
        let text = format!("{line} {}", header(head, "host").unwrap_or_default());
        let length = text.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
        ))
    })
}

/// What was matched is what is forwarded, less the prefix.
#[test]
fn a_prefix_is_taken_away_and_nothing_else() {
    let (one, two) = (echo(), echo());
    let home = Home::new(&format!(
        "{}[[upstream]]\nname = \"files\"\nservers = [\"http://{}\"]\n\
         [[route]]\npath = \"/static/**\"\nstrip_prefix = \"/static\"\nauth = \"none\"\nupstream = \"files\"\n\
         [[route]]\npath = \"/named/**\"\nauth = \"none\"\nhost = \"app.internal\"\n\
         [[route]]\npath = \"/server/**\"\nauth = \"none\"\nhost = \"upstream\"\n",
        app(one.address, ""),
        two.address
    ));
    let gateway = home.start();
    for (target, told) in [
        ("/static/css/x", "/css/x"),
        ("/static//css/x?q=/static", "/css/x?q=/static"),
        ("/static", "/"),
        ("/static/", "/"),
        ("/static?q", "/?q"),
        ("/static/static/a", "/static/a"),
        ("/st%61tic/%61", "/a"),
        ("/static/a%20b", "/a%20b"),
    ] {
        let answer = gateway.get(target, "");
        let line = format!("GET {told} HTTP/1.1 g.test");
        assert_eq!(answer.text(), line, "{target}");
    }
    for target in [
        "/static/%2e%2e/app/a",
        "/static/../app",
        "/static/..%2fapp/a",
        "/static/%2fapp",
        "/static/..;/app",
        "/static/\\app",
    ] {
        assert_eq!(gateway.status(target, ""), 400, "{target}");
    }
    assert_eq!(gateway.status("/staticx", ""), 401);
    assert_eq!(two.requests(), 8);
    assert_eq!(one.requests(), 0);
    let answer = gateway.get("/named/x", "");
    assert_eq!(answer.text(), "GET /named/x HTTP/1.1 app.internal");
    let answer = gateway.get("/server/x", "");
    let line = format!("GET /server/x HTTP/1.1 {}", one.address);
    assert_eq!(answer.text(), line);
    let heads = one.heads();
    assert!(
        heads
            .iter()
            .all(|head| header(head, "x-forwarded-host") == Some("g.test"))
    );
}

/// T021: as part of a name it is matched as one, and sent as it was matched.
#[test]
fn encoded_slashes_are_kept_where_that_is_wanted() {
    let upstream = echo();
    let rules = format!(
        "{}{RULES}[[route]]\npath = \"/name/*/end\"\nauth = \"none\"\n",
        app(upstream.address, "")
    );
    let (rejecting, keeping) = (Home::new(&rules), Home::new(""));
    keeping.configure("");
    let text = std::fs::read_to_string(keeping.config()).unwrap();
    let text = text.replacen("[server]\n", "[server]\nencoded_slash = \"keep\"\n", 1);
    std::fs::write(keeping.config(), text + &rules).unwrap();
    let (rejects, keeps) = (rejecting.start(), keeping.start());
    for (target, told) in [
        ("/public/a%2Fb", Ok("/public/a%2Fb")),
        ("/public/a%2fb?c=%2f", Ok("/public/a%2Fb?c=%2f")),
        ("/public/%2Fb", Ok("/public/%2Fb")),
        ("/name/a%2Fb/end", Ok("/name/a%2Fb/end")),
        ("/name/a/b/end", Err(401)),
        ("/public%2Fa", Err(401)),
        ("/name%2Fa/end", Err(401)),
        ("/public/..%2Fapp/a", Err(400)),
        ("/public/a%2F../app", Err(400)),
        ("/public/a%2F%2e%2e%2Fapp", Err(400)),
    ] {
        let answer = keeps.get(target, "");
        match told {
            Ok(path) => assert_eq!(
                answer.text(),
                format!("GET {path} HTTP/1.1 g.test"),
                "{target}"
            ),
            Err(status) => assert_eq!(answer.status, status, "{target}"),
        }
        let is_plain = !target.contains("%2");
        assert_eq!(rejects.status(target, "") == 400, !is_plain, "{target}");
    }
}

#[test]
fn a_route_has_its_own_patience() {
    let upstream = Upstream::scripted(|peer, head| {
        let kind = match head.contains("/events") {
            true => "text/event-stream",
            false => "text/plain",
        };
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 100\r\n\r\n"
        ));
        for _ in 0..20 {
            if head.contains("/drip") || head.contains("/events") {
                peer.send("12345");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    });
    let route = |path: &str, more: &str| {
        format!("[[route]]\npath = \"{path}/**\"\nauth = \"none\"\n{more}\n")
    };
    let home = Home::new(
        &[
            app(upstream.address, "total_timeout = \"300ms\""),
            route(
                "/still",
                "stall_timeout = \"100ms\"\ntotal_timeout = \"30s\"",
            ),
            route(
                "/still-lazy",
                "response_timeout = \"100ms\"\nstall_timeout = \"150ms\"\ntotal_timeout = \"30s\"",
            ),
            route(
                "/drip",
                "stall_timeout = \"300ms\"\ntotal_timeout = \"30s\"",
            ),
            route("/drip-in-all", "stall_timeout = \"10s\""),
            route("/events", ""),
            route("/events-in-all", "total_timeout = \"300ms\""),
        ]
        .concat(),
    );
    let gateway = home.start();
    for (path, is_whole) in [
        ("/still/", false),
        ("/still-lazy/", false),
        ("/drip/", true),
        ("/drip-in-all/", false),
        ("/events/", true),
        ("/events-in-all/", false),
    ] {
        let mut conn = gateway.connect();
        conn.send(format!("GET {path} HTTP/1.1\r\nhost: g.test\r\n\r\n"));
        let head = conn.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}");
        let (body, took) = timed(|| conn.exactly(100));
        assert_eq!(body.is_some(), is_whole, "{path} {took:?}");
        assert!(
            is_whole || took < Duration::from_millis(900),
            "{path} {took:?}"
        );
    }
}

#[test]
fn one_that_fails_its_health_checks_gets_nothing_until_it_passes() {
    let sick = Arc::new(AtomicBool::new(false));
    let answering = |name: &'static str, sick: Arc<AtomicBool>| {
        Upstream::scripted(move |peer, head| {
            if head.starts_with("GET /healthz ") {
                let status = match sick.load(Ordering::Relaxed) {
                    true => "500 Sick",
                    false => "204 Well",
                };
                peer.send(format!("HTTP/1.1 {status}\r\n\r\n"));
                return false;
            }
            peer.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{name}"
            ))
        })
    };
    let one = answering("one", Arc::clone(&sick));
    let two = answering("two", Arc::default());
    let home = Home::new(&format!(
        "[[upstream]]\nname = \"app\"\nservers = [\"http://{}\", \"http://{}\"]\nhealth_path = \"/healthz\"\nhealth_interval = \"20ms\"\n{RULES}",
        one.address, two.address
    ));
    let gateway = home.start();
    let shares = || {
        let answers = (0..40).map(|_| gateway.get("/public/", ""));
        answers.filter(|answer| answer.text() == "one").count()
    };
    let is_up = |up: u8| {
        let answer = gateway.admin_get("/metrics");
        answer.text().contains(&format!(
            "portcullis_upstream_server_up{{upstream=\"app\",server=\"http://{}\"}} {up}\n",
            one.address
        ))
    };
    assert!((5..35).contains(&shares()));
    assert!(is_up(1));
    sick.store(true, Ordering::Relaxed);
    eventually("it is found to be sick", || is_up(0));
    assert_eq!(shares(), 0);
    let ready = gateway.admin_get("/readyz");
    let ready = ready.text();
    let warning = format!(
        "upstream servers: http://{} of app fails its health checks",
        one.address
    );
    assert!(ready.contains(&warning), "{ready}");
    assert_eq!(gateway.admin_status("/readyz"), 200);
    gateway.has_logged("fails its health checks and gets no requests");
    sick.store(false, Ordering::Relaxed);
    eventually("it is found to be well", || is_up(1));
    assert!((5..35).contains(&shares()));
}

#[test]
fn a_name_that_is_not_there_yet_keeps_nothing_from_starting() {
    let home = Home::new(&format!(
        "[[upstream]]\nname = \"app\"\nservers = [\"http://no-such-name.invalid:3000\"]\n{RULES}"
    ));
    let gateway = home.start();
    assert_eq!(gateway.status("/public/", ""), 502);
    gateway.has_logged("cannot look up the name of an upstream's server");
    gateway.has_logged("no-such-name.invalid");
}
