//! Connections of HTTP/1.1 between two requests: from what has rested for a while, hyper is taken away, and nobody notices.

use std::thread;
use std::time::Duration;

use crate::support::{Answer, Conn, Gateway, Home, Upstream, eventually, only_app, timed};

fn gateway(upstream: &Upstream, limits: &str) -> (Home, Gateway) {
    let home = Home::new(&format!(
        "[server.limits]\n{limits}\n{}",
        only_app(upstream.address)
    ));
    let gateway = home.start();
    (home, gateway)
}

/// Longer than it takes until a connection rests.
const WHILE: Duration = Duration::from_millis(800);

const GET: &str = "GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n";

const POST: &str = "POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 5\r\n\r\nhello";

const CHUNKED: &str = "POST /hook HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

#[test]
fn what_has_rested_goes_on_wherever_it_is_taken_up() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream, "");
    let upgrade = GET.replace(
        "host: g.test",
        "host: g.test\r\nconnection: upgrade\r\nupgrade: other",
    );
    // What comes, with rests between, and how many answers there are to each piece.
    for (what, pieces) in [
        ("requests", vec![(GET, 1), (GET, 1), (GET, 1)]),
        ("bodies", vec![(POST, 1), (CHUNKED, 1), (POST, 1), (GET, 1)]),
        ("no upgrade", vec![(&*upgrade, 1), (GET, 1)]),
        ("two at once", vec![(&GET.repeat(2), 2), (GET, 1)]),
        (
            "a part of the next",
            vec![(&format!("{GET}{}", &GET[..20]), 1), (&GET[20..], 1)],
        ),
        ("an empty line", vec![(GET, 1), ("\r\n", 0), (GET, 1)]),
        ("a byte", vec![(GET, 1), ("G", 0), (&GET[1..], 1)]),
        (
            "a part of a body",
            vec![
                (&POST[..POST.len() - 2], 0),
                (&POST[POST.len() - 2..], 1),
                (GET, 1),
            ],
        ),
    ] {
        let mut conn = gateway.connect();
        for (piece, answers) in pieces {
            conn.send(piece);
            for _ in 0..answers {
                assert_eq!(conn.answer().status, 200, "{what}: {piece:?}");
            }
            assert!(conn.is_silent_for(WHILE), "{what}: {piece:?}");
        }
    }
}

#[test]
fn a_head_that_begins_after_a_rest_is_timed_as_any_other() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(
        &upstream,
        "head_timeout = \"400ms\"\nkeep_alive_timeout = \"30s\"",
    );
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/public/", "").status, 200);
    assert!(conn.is_silent_for(WHILE));
    conn.send("GET /publ");
    let (_, took) = timed(|| conn.rest());
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
}

/// Counted from the last request.
#[test]
fn the_rest_ends_in_time() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream, "keep_alive_timeout = \"2s\"");
    let mut conn = gateway.connect();
    for _ in 0..3 {
        assert!(conn.is_silent_for(Duration::from_millis(1200)));
        assert_eq!(conn.get("/public/", "").status, 200);
    }
    let (rest, took) = timed(|| conn.rest());
    assert_eq!(rest, b"");
    assert!(took >= Duration::from_millis(1500), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn a_client_that_goes_away_while_it_rests_frees_its_place() {
    let upstream = Upstream::application();
    let home = Home::new(&format!(
        "[server.limits]\nconnections = 3\n{}",
        only_app(upstream.address)
    ));
    // Each worker has its part of the places.
    let text = std::fs::read_to_string(home.config()).unwrap();
    let alone = text.replace("workers = 2", "workers = 1");
    assert_ne!(text, alone);
    std::fs::write(home.config(), alone).unwrap();
    let gateway = home.start();
    let mut resting: Vec<Conn> = (0..3).map(|_| gateway.connect()).collect();
    for conn in &mut resting[..2] {
        assert_eq!(conn.get("/public/", "").status, 200);
    }
    thread::sleep(WHILE);
    let mut refused = gateway.connect();
    let refused = refused.try_request("GET", "/public/", "");
    let is_served = |answer: Option<Answer>| answer.is_some_and(|answer| answer.status == 200);
    assert!(!is_served(refused), "who rests has a place");
    resting.pop();
    eventually("the place is free", || {
        is_served(gateway.connect().try_request("GET", "/public/", ""))
    });
}

#[test]
fn the_end_of_the_gateway_ends_what_rests() {
    let upstream = Upstream::application();
    let (_home, mut gateway) = gateway(&upstream, "drain_timeout = \"30s\"");
    let mut resting: Vec<Conn> = (0..20).map(|_| gateway.connect()).collect();
    for conn in &mut resting[..10] {
        assert_eq!(conn.get("/public/", "").status, 200);
    }
    thread::sleep(WHILE);
    // Asked for while the gateway ends: it is answered, or was never taken.
    let mut asking = resting.pop().unwrap();
    gateway.signal("TERM");
    asking.send(GET);
    let answered = asking.try_answer();
    if let Some(answer) = &answered {
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close"))
        );
    }
    for conn in &mut resting {
        assert_eq!(conn.rest(), b"");
    }
    let (status, took) = timed(|| gateway.ended());
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(
        answered.is_some(),
        "it was there before the last call ended"
    );
}

/// Of those who rest nothing is left that would have to be had again for the next ones.
#[test]
fn what_rests_takes_a_fraction_of_what_works() {
    let upstream = Upstream::application();
    let (_home, gateway) = gateway(&upstream, "connections = 4000");
    let wave = || -> Vec<Conn> {
        let open = || {
            let mut conn = gateway.connect();
            assert_eq!(conn.get("/private", "").status, 401);
            conn
        };
        let connections = (0..200).map(|_| open()).collect();
        thread::sleep(WHILE);
        connections
    };
    let mut open = wave();
    let before = gateway.resident_kib(false);
    for _ in 0..5 {
        open.extend(wave());
    }
    let each = gateway.resident_kib(false).saturating_sub(before) / 1000;
    assert!(each < 6, "{each} KiB per connection at rest");
}
