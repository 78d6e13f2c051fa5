//! A million revocations: their memory, a look among them, and a start with them.

use std::hint::black_box;
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::revocation::RevocationSet;
use portcullis::session::SessionHandle;

use crate::support::fleet::{Fleet, Settings};
use crate::support::outsider::Outsider;
use crate::support::server::Kind;

const MANY: usize = 1_000_000;

/// In this process.
pub fn measure() {
    let clock = Clock::system();
    let handles: Vec<SessionHandle> = (0..MANY).map(|_| SessionHandle::random()).collect();
    let others: Vec<SessionHandle> = (0..MANY).map(|_| SessionHandle::random()).collect();
    let before = resident_mib("self", "VmRSS:");
    let set = RevocationSet::default();
    let expires = clock.now() + Duration::from_hours(1);
    for handle in &handles {
        set.insert(*handle, expires);
    }
    let after = resident_mib("self", "VmRSS:");
    println!("| memory of the set | {:.0} MiB |", after - before);
    for (what, asked) in [("present", &handles), ("absent", &others)] {
        let started = clock.boot();
        let found = asked
            .iter()
            .filter(|handle| black_box(&set).contains(handle))
            .count();
        let took = clock.boot().since(started);
        black_box(found);
        println!(
            "| a lookup, {what} | {:.0} ns |",
            took.as_nanos() as f64 / MANY as f64
        );
    }
}

/// Of a gateway.
pub fn measure_start(kind: Kind) {
    let settings = Settings {
        leases: &["3s"],
        revocation: "",
        is_direct: true,
    };
    let fleet = Fleet::start(kind, settings);
    let replica = fleet.replica(0);
    let idle = resident_mib(&replica.process().to_string(), "VmRSS:");
    replica.stop();
    let expires = (fleet.clock.now() + Duration::from_hours(1)).as_millis();
    let fill = match kind {
        Kind::Postgres => format!(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT n, decode(md5(n::text), 'hex'), 'logout', {expires}, decode('0011223344556677', 'hex') FROM generate_series(1, {MANY}) n"
        ),
        Kind::MariaDb => format!(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT seq, UNHEX(MD5(seq)), 'logout', {expires}, UNHEX('0011223344556677') FROM seq_1_to_{MANY}"
        ),
    };
    let mut outsider = Outsider::of(&fleet);
    outsider.run(&fill);
    outsider.run(&format!(
        "UPDATE revocation_head SET sequence = {MANY} WHERE id = 1"
    ));
    let started = fleet.clock.boot();
    replica.start();
    let took = fleet.clock.boot().since(started);
    let process = replica.process().to_string();
    let (now, peak) = (
        resident_mib(&process, "VmRSS:"),
        resident_mib(&process, "VmHWM:"),
    );
    println!(
        "| start of a gateway, {kind:?} | {:.2} s |",
        took.as_secs_f64()
    );
    println!("| its memory, {kind:?} | {now:.0} MiB ({peak:.0} at most; {idle:.0} with none) |");
}

fn resident_mib(process: &str, name: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib: f64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib / 1024.0
}
