//! Many revocations: their memory, a look among them, and a start with them.

use std::hint::black_box;
use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::revocation::RevocationSet;
use portcullis::session::SessionHandle;

use crate::report::{self, Report};
use crate::support::fleet::{Fleet, Settings};
use crate::support::outsider::Outsider;
use crate::support::server::Kind;

/// In this process.
pub fn measure(report: &mut Report, many: usize) {
    let clock = Clock::system();
    let handles: Vec<SessionHandle> = (0..many).map(|_| SessionHandle::random()).collect();
    let others: Vec<SessionHandle> = (0..many).map(|_| SessionHandle::random()).collect();
    let before = resident_mib("self", "VmRSS:");
    let set = RevocationSet::default();
    let expires = clock.now() + Duration::from_hours(1);
    for handle in &handles {
        set.insert(*handle, expires);
    }
    let after = resident_mib("self", "VmRSS:");
    report.line(&format!(
        "| memory of the set | {:.0} MiB |",
        after - before
    ));
    for (what, asked) in [("present", &handles), ("absent", &others)] {
        let started = clock.boot();
        let found = asked
            .iter()
            .filter(|handle| black_box(&set).contains(handle))
            .count();
        let took = clock.boot().since(started);
        black_box(found);
        report.line(&format!(
            "| a lookup, {what} | {:.0} ns |",
            took.as_nanos() as f64 / many as f64
        ));
    }
}

/// Of a gateway.
pub fn measure_start(report: &mut Report, kind: Kind, many: usize) {
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
             SELECT n, decode(md5(n::text), 'hex'), 'logout', {expires}, decode('0011223344556677', 'hex') FROM generate_series(1, {many}) n"
        ),
        Kind::MariaDb => format!(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT seq, UNHEX(MD5(seq)), 'logout', {expires}, UNHEX('0011223344556677') FROM seq_1_to_{many}"
        ),
        Kind::Sqlite => format!(
            "INSERT INTO revocation (sequence, handle, reason, expires, mark)
             WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {many})
             SELECT n, randomblob(16), 'logout', {expires}, x'0011223344556677' FROM counted"
        ),
    };
    let mut outsider = Outsider::of(&fleet);
    outsider.run(&fill);
    outsider.run(&format!(
        "UPDATE revocation_head SET sequence = {many} WHERE id = 1"
    ));
    let started = fleet.clock.boot();
    replica.start();
    let took = fleet.clock.boot().since(started);
    let process = replica.process().to_string();
    let (now, peak) = (
        resident_mib(&process, "VmRSS:"),
        resident_mib(&process, "VmHWM:"),
    );
    let name = report::name_of(kind);
    report.line(&format!(
        "| start of a gateway, {name} | {:.2} s |",
        took.as_secs_f64()
    ));
    report.line(&format!(
        "| its memory, {name} | {now:.0} MiB ({peak:.0} at most; {idle:.0} with none) |"
    ));
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
