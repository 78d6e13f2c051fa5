//! How connections come to workers.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Conn, Gateway, Home, Upstream, only_app};

/// By worker, for how many nanoseconds its thread has computed.
fn computed(gateway: &Gateway) -> BTreeMap<String, u64> {
    let read = |path: &std::path::Path, name| fs::read_to_string(path.join(name)).unwrap();
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.id())).unwrap();
    let tasks = tasks.map(|task| task.unwrap().path());
    tasks
        .map(|task| (read(&task, "comm").trim().to_owned(), task))
        .filter(|(name, _)| name.starts_with("worker-"))
        .map(|(name, task)| {
            let times = read(&task, "schedstat");
            (name, times.split(' ').next().unwrap().parse().unwrap())
        })
        .collect()
}

/// Who computes while it asks.
fn worker_of(gateway: &Gateway, conn: &mut Conn) -> String {
    let before = computed(gateway);
    for _ in 0..40 {
        assert_eq!(conn.get("/public/", "").status, 200);
    }
    let more = |(name, time): (String, u64)| (time - before[&name], name);
    computed(gateway).into_iter().map(more).max().unwrap().1
}

#[test]
fn few_connections_are_spread_evenly_and_keep_being_served() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let mut gateway = home.start();
    let mut open = Vec::new();
    for pair in 0..5 {
        let workers: Vec<String> = (0..2)
            .map(|_| {
                let mut conn = gateway.connect();
                let worker = worker_of(&gateway, &mut conn);
                open.push(conn);
                worker
            })
            .collect();
        assert_ne!(workers[0], workers[1], "pair {pair}");
    }
    for conn in &mut open {
        assert_eq!(conn.get("/public/", "").status, 200);
    }
    // Those that were given away end with the gateway as any other.
    gateway.signal("TERM");
    for conn in &mut open {
        assert_eq!(conn.rest(), b"");
    }
    assert_eq!(gateway.ended().code(), Some(0));
}
