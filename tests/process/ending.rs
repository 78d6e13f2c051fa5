//! The end of a gateway that is told to stop.

use std::thread;
use std::time::Duration;

use crate::support::load::Load;
use crate::support::{Conn, Gateway, Home, Peer, Upstream, eventually, only_app, program, timed};

fn home(upstream: &Upstream, drain: &str) -> Home {
    Home::new(&format!(
        "[server.limits]\ndrain_timeout = \"{drain}\"\n{}",
        only_app(upstream.address)
    ))
}

/// An application that answers `/public/slow` when it has read a byte of body.
fn slow_application() -> Upstream {
    Upstream::scripted(|peer: &mut Peer, head| {
        peer.body(head);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
    })
}

const SLOW: &str = "POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 1\r\n\r\n";

#[test]
fn what_runs_is_finished_and_nothing_new_is_taken() {
    let upstream = slow_application();
    let home = home(&upstream, "30s");
    let mut gateway = home.start();
    let mut idle = gateway.connect();
    assert_eq!(idle.get("/public/", "").status, 200);
    let mut slow = gateway.connect();
    slow.send(SLOW);
    upstream.has_seen(2);
    // A second request waits behind the slow one; it is not begun any more.
    let mut fresh = gateway.connect();
    let address = gateway.address;

    gateway.signal("TERM");
    assert_eq!(idle.rest(), b"", "a connection at rest is closed");
    eventually("new connections are refused", || {
        Conn::try_to(address).is_err()
    });
    eventually("it says that it drains", || {
        gateway.admin_status("/readyz") == 503
    });
    assert_eq!(gateway.admin_status("/livez"), 200);
    assert_eq!(fresh.rest(), b"", "a connection that never asked is closed");
    assert!(gateway.is_running());

    slow.send("x");
    let answer = slow.answer();
    assert_eq!((answer.status, answer.text()), (200, "done"));
    assert_eq!(slow.rest(), b"", "and closed after its answer");
    let (status, took) = timed(|| gateway.ended());
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(upstream.requests(), 2);
}

#[test]
fn what_takes_longer_than_the_limit_is_cut() {
    let upstream = slow_application();
    let home = home(&upstream, "300ms");
    let mut gateway = home.start();
    let mut slow = gateway.connect();
    slow.send(SLOW);
    upstream.has_seen(1);
    let ((), took) = timed(|| {
        gateway.signal("TERM");
        assert_eq!(slow.rest(), b"");
        assert_eq!(gateway.ended().code(), Some(0));
    });
    assert!(took >= Duration::from_millis(300), "{took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    gateway.has_logged("drain_timeout");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let upstream = slow_application();
    let home = home(&upstream, "30s");
    let mut gateway = home.start();
    let mut slow = gateway.connect();
    slow.send(SLOW);
    upstream.has_seen(1);
    gateway.signal("TERM");
    eventually("it drains", || gateway.log().contains("shutting down"));
    let (status, took) = timed(|| {
        gateway.signal("TERM");
        gateway.ended()
    });
    assert_eq!(status.code(), Some(130));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn websockets_are_told_that_it_goes_away() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        );
        peer.rest();
        false
    });
    let home = home(&upstream, "30s");
    let mut gateway = home.start();
    let opened = home.open_session("alice");
    let mut sockets: Vec<Conn> = ["/public/ws", "/ws"]
        .iter()
        .map(|path| {
            let mut socket = gateway.connect();
            socket.send(format!(
                "GET {path} HTTP/1.1\r\nhost: g.test\r\nsec-fetch-site: same-origin\r\ncookie: {}\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                opened.cookie
            ));
            assert_eq!(socket.bodiless_answer().status, 101);
            socket
        })
        .collect();
    let (status, took) = timed(|| {
        gateway.signal("TERM");
        gateway.ended()
    });
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(5), "{took:?}");
    for socket in &mut sockets {
        let rest = socket.rest();
        assert_eq!(rest[0], 0x88, "{rest:?}");
        assert_eq!(rest[2..4], 1001_u16.to_be_bytes(), "{rest:?}");
    }
}

#[test]
fn a_gateway_at_rest_ends_at_once_and_starts_again_on_its_file() {
    let upstream = Upstream::application();
    let home = home(&upstream, "30s");
    let mut cookie = String::new();
    for round in 0..3 {
        let mut gateway: Gateway = home.start();
        if round == 0 {
            cookie = gateway.connect().login("alice").cookies();
        }
        assert_eq!(gateway.status("/", &cookie), 200, "{round}");
        let (status, took) = timed(|| {
            gateway.signal("TERM");
            gateway.ended()
        });
        assert_eq!(status.code(), Some(0));
        assert!(took < Duration::from_secs(3), "{took:?}");
        gateway.has_logged("shut down\n");
    }
}

/// A login that is under way when the signal comes is answered with its cookies, and they hold afterwards.
#[test]
fn no_answer_loses_its_cookies() {
    let upstream = Upstream::scripted(|peer, head| {
        peer.body(head);
        std::thread::sleep(Duration::from_millis(200));
        peer.send("HTTP/1.1 200 OK\r\nportcullis-login: alice\r\ncontent-length: 0\r\n\r\n")
    });
    let home = home(&upstream, "30s");
    let mut gateway = home.start();
    let mut login = gateway.connect();
    login.send("POST /login HTTP/1.1\r\nhost: g.test\r\nsec-fetch-site: same-origin\r\ncontent-length: 0\r\n\r\n");
    upstream.has_seen(1);
    gateway.signal("TERM");
    let cookie = login.answer().cookies();
    assert!(cookie.contains("sAccessToken="), "{cookie}");
    assert_eq!(gateway.ended().code(), Some(0));
    let gateway = home.start();
    assert_eq!(gateway.status("/", &cookie), 200);
}

/// Workers share their port by `SO_REUSEPORT`, and so do two gateways of one operator while one takes over from the other.
#[test]
fn a_restart_may_overlap() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let mut old = home.start();
    let cookie = old.connect().login("alice").cookies();
    let mut command = program(home.config().parent().unwrap());
    command
        .args(["serve", "--config", "portcullis.toml"])
        .env("PORTCULLIS_SERVER__LISTEN", old.address.to_string());
    let new = Gateway::start(command);
    for _ in 0..20 {
        assert_eq!(new.status("/", &cookie), 200);
    }
    let second = old.connect().login("alice").cookies();
    let mut conn = Conn::to(new.address);
    assert_eq!(conn.post("/logout", &second).status, 200);
    for _ in 0..20 {
        assert_eq!(new.status("/", &second), 401);
    }
    old.signal("TERM");
    assert_eq!(old.ended().code(), Some(0));
    for _ in 0..20 {
        assert_eq!(new.status("/", &cookie), 200);
    }
}

/// Clients go on asking while one gateway takes over from the other, three times.
#[test]
fn a_restart_that_overlaps_fails_no_request_under_load() {
    let upstream = Upstream::application();
    let home = home(&upstream, "30s");
    let mut old = home.start();
    let address = old.address;
    let cookie = old.connect().login("alice").cookies();
    let load = Load::start(address, &cookie);
    for _ in 0..3 {
        load.has_done(load.done() + 100);
        let mut command = program(home.config().parent().unwrap());
        command
            .args(["serve", "--config", "portcullis.toml"])
            .env("PORTCULLIS_SERVER__LISTEN", address.to_string());
        let new = Gateway::start(command);
        load.has_done(load.done() + 100);
        old.signal("TERM");
        assert_eq!(old.ended().code(), Some(0));
        old = new;
    }
    load.has_done(load.done() + 100);
    let ended = load.end();
    assert_eq!(ended.failures, Vec::<String>::new());
    assert!(ended.repeated * 50 < ended.done, "{}", ended.repeated);
}

/// T119 i: under load every login that the application saw is answered whole, and its session lives.
#[test]
fn no_answer_is_lost_under_load() {
    let upstream = Upstream::application();
    let home = home(&upstream, "30s");
    let mut gateway = home.start();
    let address = gateway.address;
    let clients: Vec<_> = (0..6)
        .map(|client| {
            thread::spawn(move || {
                let mut cookies = Vec::new();
                let Ok(mut conn) = Conn::try_to(address) else {
                    return cookies;
                };
                for number in 0.. {
                    let path = format!("/login?user-{client}-{number}");
                    let Some(answer) = conn.try_request("POST", &path, "") else {
                        break;
                    };
                    assert_eq!(answer.status, 200, "{answer:?}");
                    cookies.push(answer.cookies());
                }
                cookies
            })
        })
        .collect();
    upstream.has_seen(60);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(0));
    let cookies: Vec<String> = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect();
    assert_eq!(cookies.len(), upstream.requests());
    let gateway = home.start();
    let mut conn = gateway.connect();
    for cookie in &cookies {
        assert_eq!(conn.get("/", cookie).status, 200);
    }
    assert_eq!(home.listed().len(), cookies.len());
}

/// The process stands still while clients connect and the end is announced, so it meets both at once.
#[test]
fn who_was_waiting_to_be_accepted_is_answered() {
    let upstream = Upstream::application();
    let home = home(&upstream, "30s");
    let mut gateway = home.start();
    gateway.signal("STOP");
    let mut waiting: Vec<Conn> = (0..400)
        .map(|_| {
            let mut conn = gateway.connect();
            conn.send("GET /app HTTP/1.1\r\nhost: g.test\r\n\r\n");
            conn
        })
        .collect();
    gateway.signal("TERM");
    gateway.signal("CONT");
    for conn in &mut waiting {
        assert_eq!(conn.answer().status, 401);
    }
    assert_eq!(gateway.ended().code(), Some(0));
}
