//! What one client can take of the gateway.

use std::time::Duration;

use crate::support::{Conn, Gateway, Home, Upstream, eventually, only_app, timed};

fn gateway(upstream: &Upstream, limits: &str) -> (Home, Gateway) {
    let home = Home::new(&format!(
        "[server.limits]\n{limits}\n{}",
        only_app(upstream.address)
    ));
    let gateway = home.start();
    (home, gateway)
}

#[test]
fn limits_of_the_head_are_as_configured() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream, "header_bytes = \"32KiB\"\nheader_count = 150");
    for (lines, status) in [
        (format!("x: {}\r\n", "y".repeat(30 * 1024)), 200),
        (format!("x: {}\r\n", "y".repeat(33 * 1024)), 431),
        ("x: y\r\n".repeat(149), 200),
        ("x: y\r\n".repeat(150), 431),
    ] {
        let mut conn = gateway.connect();
        conn.send(format!(
            "GET /public/ HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n"
        ));
        assert_eq!(conn.answer().status, status);
    }
}

/// Only heads are timed: a body may be as slow as its sender, and an answer as slow as its reader.
#[test]
fn a_slow_body_is_no_slow_head() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream, "head_timeout = \"200ms\"");
    let mut conn = gateway.connect();
    conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\n");
    for byte in b"hello" {
        std::thread::sleep(Duration::from_millis(120));
        conn.send([*byte]);
    }
    assert_eq!(conn.answer().status, 200);
}

#[test]
fn a_connection_at_rest_is_kept_for_as_long_as_configured() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(
        &upstream,
        "head_timeout = \"300ms\"\nkeep_alive_timeout = \"1500ms\"",
    );
    // One that asked nothing yet, one that the upstream answered, one that the gateway itself answered.
    for (path, status) in [("", 0), ("/public/", 200), ("/private", 401)] {
        let mut conn = gateway.connect();
        if !path.is_empty() {
            assert_eq!(conn.get(path, "").status, status);
        }
        // Longer than a head may take, shorter than a connection may rest.
        assert!(conn.is_silent_for(Duration::from_millis(700)), "{path}");
        assert_eq!(conn.get("/private", "").status, 401, "{path}");
        let (rest, took) = timed(|| conn.rest());
        assert_eq!(rest, b"");
        assert!(took >= Duration::from_millis(1000), "{path}: {took:?}");
        assert!(took < Duration::from_secs(5), "{path}: {took:?}");
    }
}

#[test]
fn connections_beyond_the_limit_are_answered_and_a_place_comes_free() {
    let upstream = Upstream::application();
    let home = Home::new("");
    let more = format!(
        "[server.limits]\nconnections = 4\n{}",
        only_app(upstream.address)
    );
    home.configure(&more.replace("workers = 2", "workers = 1"));
    let gateway = home.start();
    let mut open: Vec<Conn> = Vec::new();
    let mut refused = 0;
    for _ in 0..40 {
        let mut conn = gateway.connect();
        let answer = conn.get("/public/", "");
        match answer.status {
            200 => open.push(conn),
            status => {
                assert_eq!(status, 503);
                assert_eq!(answer.header("retry-after"), Some("1"));
                assert_eq!(answer.header("connection"), Some("close"));
                assert_eq!(answer.text(), "{\"message\":\"too many connections\"}");
                assert_eq!(conn.rest(), b"");
                refused += 1;
            }
        }
    }
    assert!((2..=4).contains(&open.len()), "{}", open.len());
    assert_eq!(open.len() + refused, 40);
    // Those that have a place keep it.
    for conn in &mut open {
        assert_eq!(conn.get("/public/", "").status, 200);
    }
    assert_eq!(gateway.admin_status("/readyz"), 200);
    open.clear();
    eventually("a place comes free", || {
        let mut conn = gateway.connect();
        conn.get("/public/", "").status == 200
    });
}

/// Who says nothing and does not close is told, and is closed; and only so many are at a time.
#[test]
fn few_are_told_that_there_is_no_place() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream, "connections_per_address = 1");
    let mut first = gateway.connect();
    assert_eq!(first.get("/public/", "").status, 200);
    let mut waiting: Vec<Conn> = (0..300).map(|_| gateway.connect()).collect();
    let told = waiting
        .iter_mut()
        .filter_map(Conn::try_answer)
        .filter(|answer| answer.status == 503)
        .count();
    assert!((64..=200).contains(&told), "{told}");
    assert_eq!(first.get("/public/", "").status, 200);
    drop((first, waiting));
    let mut first = None;
    eventually("a place comes free", || {
        let mut conn = gateway.connect();
        let is_served = conn.get("/public/", "").status == 200;
        first = is_served.then_some(conn);
        is_served
    });
    // What a client sends meanwhile does not cost it the answer.
    let mut conn = gateway.connect();
    conn.send(format!(
        "POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 20000\r\n\r\n{}",
        "x".repeat(20_000)
    ));
    assert_eq!(conn.answer().status, 503);
}

#[test]
fn many_connections_at_rest_take_little_memory() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream, "connections = 2000");
    gateway.status("/private", "");
    let before = gateway.resident_kib(false);
    let connections: Vec<Conn> = (0..400)
        .map(|_| {
            let mut conn = gateway.connect();
            assert_eq!(conn.get("/private", "").status, 401);
            conn
        })
        .collect();
    let each = (gateway.resident_kib(false).saturating_sub(before)) / connections.len() as u64;
    assert!(each < 64, "{each} KiB per connection");
}
