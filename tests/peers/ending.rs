//! Reloads and ends: what has begun is finished, and nobody who asks meanwhile is lost.

use std::time::Duration;

use crate::fronts::{Make, Work};
use crate::support::load::Load;
use crate::support::{Conn, Peer, Upstream, eventually, header};

cases! {
    what_runs_is_finished_and_nothing_new_is_taken: portcullis, nginx, haproxy;
    a_download_under_way_is_finished: portcullis, nginx, haproxy;
    connections_at_rest_are_closed_at_the_end: portcullis, nginx, haproxy;
    a_reload_changes_what_new_requests_get: portcullis, nginx, haproxy;
    a_request_that_has_begun_ends_as_it_began: portcullis, nginx, haproxy;
    tunnels_outlive_a_reload: portcullis, nginx, haproxy;
    reloads_under_load_lose_no_request: portcullis, nginx, haproxy;
    another_takes_over_under_load: portcullis, nginx, haproxy;
}

/// An application that answers when it has read the body.
fn slow_application(text: &'static str) -> Upstream {
    Upstream::scripted(move |peer: &mut Peer, head| {
        peer.body(head);
        let length = text.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
        ))
    })
}

const SLOW: &str = "POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 1\r\n\r\n";

fn what_runs_is_finished_and_nothing_new_is_taken(make: Make) {
    let upstream = slow_application("done");
    let mut front = Work::to(&upstream).start(make);
    let address = front.address;
    let mut slow = front.connect();
    slow.send(SLOW);
    upstream.has_seen(1);
    front.stop();
    eventually("new connections are refused", || {
        Conn::try_to(address).is_err()
    });
    slow.send("x");
    let answer = slow.answer();
    assert_eq!((answer.status, answer.text()), (200, "done"));
    assert_eq!(slow.rest(), b"", "and closed after its answer");
    front.has_ended();
    assert_eq!(upstream.requests(), 1);
}

fn a_download_under_way_is_finished(make: Make) {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc");
        std::thread::sleep(Duration::from_millis(500));
        peer.send("def")
    });
    let mut work = Work::to(&upstream);
    // HAProxy lets it rest for that long even then.
    work.keep_alive_timeout = Duration::from_secs(1);
    let mut front = work.start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
    conn.up_to_text("abc").unwrap();
    front.stop();
    assert_eq!(conn.exactly(3).unwrap(), b"def");
    assert_eq!(conn.rest(), b"");
    front.has_ended();
}

fn connections_at_rest_are_closed_at_the_end(make: Make) {
    let upstream = Upstream::application();
    let mut front = Work::to(&upstream).start(make);
    let mut used = front.connect();
    assert_eq!(used.get("/", "").status, 200);
    front.stop();
    assert_eq!(used.rest(), b"");
    front.has_ended();
}

fn a_reload_changes_what_new_requests_get(make: Make) {
    let (old, new) = (slow_application("old"), slow_application("new"));
    let mut front = Work::to(&old).start(make);
    assert_eq!(front.get("/").text(), "old");
    front.work.servers = vec![new.address.to_string()];
    front.reload();
    eventually("the new server is asked alone", || {
        (0..10).all(|_| front.get("/").text() == "new")
    });
}

fn a_request_that_has_begun_ends_as_it_began(make: Make) {
    let (old, new) = (slow_application("old"), slow_application("new"));
    let mut front = Work::to(&old).start(make);
    let mut slow = front.connect();
    slow.send(SLOW);
    old.has_seen(1);
    front.work.servers = vec![new.address.to_string()];
    front.reload();
    eventually("the new server is asked", || front.get("/").text() == "new");
    slow.send("x");
    assert_eq!(slow.answer().text(), "old");
}

fn tunnels_outlive_a_reload(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        if header(head, "upgrade").is_none() {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nold");
        }
        peer.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        );
        while let Some(byte) = peer.exactly(1) {
            peer.send(byte);
        }
        false
    });
    let new = slow_application("new");
    let mut front = Work::to(&upstream).start(make);
    let mut socket = front.connect();
    socket.send(
        "GET / HTTP/1.1\r\nhost: g.test\r\norigin: http://g.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(socket.bodiless_answer().status, 101);
    front.work.servers = vec![new.address.to_string()];
    front.reload();
    eventually("the new server is asked", || front.get("/").text() == "new");
    for _ in 0..3 {
        socket.send("still");
        assert_eq!(socket.exactly(5).unwrap(), b"still");
    }
}

fn reloads_under_load_lose_no_request(make: Make) {
    let upstreams = [slow_application("alice"), slow_application("alice")];
    let mut front = Work::to(&upstreams[0]).start(make);
    let load = Load::start(front.address, "");
    load.has_done(50);
    for round in 1..=4 {
        let upstream = &upstreams[round % 2];
        let seen = upstream.requests();
        front.work.servers = vec![upstream.address.to_string()];
        front.reload();
        upstream.has_seen(seen + 20);
        load.has_done(load.done() + 50);
    }
    let ended = load.end();
    assert_eq!(ended.failures, Vec::<String>::new());
    if make == Make::Portcullis {
        assert_eq!(ended.repeated, 0, "no connection was closed either");
    }
    assert!(ended.repeated * 10 < ended.done, "{}", ended.repeated);
}

/// Both listen on one address for a while. What came to the queue of the old one and was not accepted is lost by those that do not
/// look after it.
fn another_takes_over_under_load(make: Make) {
    let upstream = slow_application("alice");
    let mut front = Work::to(&upstream).start(make);
    let load = Load::start(front.address, "");
    for _ in 0..2 {
        load.has_done(load.done() + 50);
        front.replace();
    }
    load.has_done(load.done() + 50);
    let ended = load.end();
    let allowed = match make {
        Make::Portcullis => 0,
        Make::Nginx | Make::HaProxy => ended.done / 10,
    };
    assert!(ended.failures.len() <= allowed, "{:?}", ended.failures);
    assert!(ended.repeated * 10 < ended.done, "{}", ended.repeated);
}
