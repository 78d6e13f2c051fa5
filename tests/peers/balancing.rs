//! Which server a request goes to, and how many may be with one at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::fronts::{Make, Work};
use crate::support::{Conn, Upstream, eventually};

cases! {
    who_is_busy_gets_less: portcullis, nginx, haproxy;
    who_comes_too_much_waits: portcullis, haproxy;
}

/// One does not answer, so what it has been given it keeps. Taken in turns, or by chance, half would be its.
fn who_is_busy_gets_less(make: Make) {
    let busy = Upstream::scripted(|peer, _| {
        peer.rest();
        false
    });
    let quick = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nquick")
    });
    let front = Work::to_servers(&[busy.address, quick.address]).start(make);
    let clients: Vec<Conn> = (0..80)
        .map(|_| {
            let mut client = front.connect();
            client.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
            client.is_silent_for(Duration::from_millis(15));
            client
        })
        .collect();
    let shares = || [busy.requests(), quick.requests()];
    eventually("all are somewhere", || shares().iter().sum::<usize>() == 80);
    assert!(shares()[1] >= 48, "{:?}", shares());
    drop(clients);
}

/// nginx refuses them: it has no queue before a server.
fn who_comes_too_much_waits(make: Make) {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let upstream = Upstream::scripted({
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |peer, _| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(40));
            now.fetch_sub(1, Ordering::SeqCst);
            peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        }
    });
    let mut work = Work::to(&upstream);
    work.connections_per_server = Some(2);
    let front = work.start(make);
    let clients: Vec<Conn> = (0..12)
        .map(|_| {
            let mut client = front.connect();
            client.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
            client
        })
        .collect();
    for mut client in clients {
        assert_eq!(client.answer().text(), "ok");
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=2).contains(&most), "{most} at once");
}
