//! What a fleet costs: `cargo bench --bench fleet`, on a quiet machine; less than eight minutes after the build. Prints tables;
//! with `-- --readme` it puts them, with the machine, the date and the versions, into README.md; with `-- --small` it shows in a
//! minute that it works, and measures nothing to speak of.
//!
//! The replicas are processes of the optimised binary, on a database server of the program's own with its data in memory, all on
//! this machine with the clients: what is measured is our own work and the servers', not a disk or a network.

#![expect(clippy::unwrap_used, reason = "a program for people; it may end")]
#![expect(clippy::print_stdout, reason = "its tables are what it is for")]

mod memory;
mod numbers;
mod report;
#[expect(
    dead_code,
    reason = "shared with the tests of the fleet, which use all of it"
)]
#[path = "../../tests/fleet/support/mod.rs"]
mod support;

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use numbers::{Sorted, statements};
use report::Report;
use support::client::Client;
use support::clients::{Ending, Person, Session};
use support::fleet::{Fleet, Settings};
use support::random::Random;
use support::server::Kind;

const STORES: [(Kind, &[&[&str]]); 3] = [
    (Kind::Sqlite, &[&["3s"]]),
    (Kind::Postgres, &[&["3s"], &["3s"; 3], &["3s"; 8]]),
    (Kind::MariaDb, &[&["3s"], &["3s"; 3], &["3s"; 8]]),
];

fn main() {
    let asked_for = |flag: &str| std::env::args().any(|argument| argument == flag);
    let size = match asked_for("--small") {
        true => Size::SMALL,
        false => Size::FULL,
    };
    let mut report = Report::default();
    report.line("| store | replicas | logout p50 ms | p99 ms | logouts/s | stale ms | statements/request | statements/s idle |");
    report.line("|---|---|---|---|---|---|---|---|");
    for (kind, fleets) in STORES {
        for leases in fleets {
            let settings = Settings {
                leases,
                revocation: "",
                is_direct: true,
            };
            report.line(&measure(&Fleet::start(kind, settings), kind, size));
        }
    }
    report.line(&format!(
        "\n| with {} revocations | |\n|---|---|",
        size.revocations
    ));
    memory::measure(&mut report, size.revocations);
    for (kind, _) in STORES {
        memory::measure_start(&mut report, kind, size.revocations);
    }
    if asked_for("--readme") {
        report.write_readme();
    }
}

/// How much of each is done.
#[derive(Clone, Copy)]
struct Size {
    idle: Duration,
    requests: u32,
    /// Of each of four people.
    logouts: usize,
    /// Of each of a crowd.
    crowd_logouts: usize,
    watched: usize,
    revocations: usize,
}

impl Size {
    const FULL: Self = Self {
        idle: Duration::from_secs(8),
        requests: 10_000,
        logouts: 200,
        crowd_logouts: 30,
        watched: 100,
        revocations: 1_000_000,
    };
    const SMALL: Self = Self {
        idle: Duration::from_secs(1),
        requests: 100,
        logouts: 5,
        crowd_logouts: 1,
        watched: 3,
        revocations: 10_000,
    };
}

fn measure(fleet: &Fleet, kind: Kind, size: Size) -> String {
    let replicas = fleet.replicas().len();
    let counted = match kind {
        Kind::Sqlite => "- | -".to_owned(),
        Kind::Postgres | Kind::MariaDb => {
            let idle = idle_statements(fleet, size.idle);
            let per_request = statements_per_request(fleet, idle, size.requests);
            // What the fleet does when idle varies: less than a thousandth of a statement is none, on either side of zero.
            let per_request = (per_request * 1000.0).round() / 1000.0 + 0.0;
            format!("{per_request:.3} | {idle:.1}")
        }
    };
    let times = moderate_load(fleet, size.logouts);
    let rate = full_load(fleet, size.crowd_logouts);
    let stale = staleness(fleet, size.watched);
    format!(
        "| {} | {replicas} | {:.1} | {:.1} | {rate:.0} | {} | {counted} |",
        report::name_of(kind),
        times.percentile(50),
        times.percentile(99),
        stale.as_millis(),
    )
}

/// Of the whole fleet, per second.
fn idle_statements(fleet: &Fleet, long: Duration) -> f64 {
    thread::sleep(Duration::from_secs(3));
    let (first, started) = (statements(fleet), fleet.clock.boot());
    thread::sleep(long);
    let (last, ended) = (statements(fleet), fleet.clock.boot());
    (last - first) as f64 / ended.since(started).as_secs_f64()
}

/// Beyond what the fleet does when idle, by the server's own count.
fn statements_per_request(fleet: &Fleet, idle: f64, requests: u32) -> f64 {
    let mut person = Person::new(fleet, &Random::new(1), 0);
    let session = person.log_in("reader");
    person.look(&session);
    thread::sleep(Duration::from_secs(2));
    let (first, started) = (statements(fleet), fleet.clock.boot());
    let mut client = Client::default();
    for _ in 0..requests {
        let answer = client.get(fleet.replica(0).address(), "/", &session.cookie);
        assert_eq!(answer.unwrap().status, 200);
    }
    thread::sleep(Duration::from_secs(2));
    let (last, ended) = (statements(fleet), fleet.clock.boot());
    let expected = idle * ended.since(started).as_secs_f64();
    ((last - first) as f64 - expected) / f64::from(requests)
}

/// Four people who log in and out, one after the other, anywhere.
fn moderate_load(fleet: &Fleet, logouts: usize) -> Sorted {
    let times = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 1..=4 {
            let times = &times;
            scope.spawn(move || {
                let mut person = Person::new(fleet, &Random::new(2), number);
                let mut client = Client::default();
                for round in 0..logouts {
                    let session = person.log_in(&format!("user-{number}-{round}"));
                    let started = fleet.clock.boot();
                    log_out(fleet, &mut client, round, &session);
                    let took = fleet.clock.boot().since(started);
                    times.lock().unwrap().push(took);
                }
            });
        }
    });
    Sorted::new(times.into_inner().unwrap())
}

/// As many logouts at once as there are clients.
fn full_load(fleet: &Fleet, each: usize) -> f64 {
    const CLIENTS: usize = 96;
    let sessions: Vec<Vec<Session>> = thread::scope(|scope| {
        let logins: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn(move || {
                    let number = u32::try_from(number).unwrap();
                    let mut person = Person::new(fleet, &Random::new(3), number);
                    let log_in = |round| person.log_in(&format!("crowd-{number}-{round}"));
                    (0..each).map(log_in).collect()
                })
            })
            .collect();
        logins
            .into_iter()
            .map(|login| login.join().unwrap())
            .collect()
    });
    let started = fleet.clock.boot();
    thread::scope(|scope| {
        for (number, sessions) in sessions.iter().enumerate() {
            scope.spawn(move || {
                let mut client = Client::default();
                for session in sessions {
                    log_out(fleet, &mut client, number, session);
                }
            });
        }
    });
    (CLIENTS * each) as f64 / fleet.clock.boot().since(started).as_secs_f64()
}

fn log_out(fleet: &Fleet, client: &mut Client, number: usize, session: &Session) {
    let replica = fleet.replica(number % fleet.replicas().len());
    let answer = client.post(replica.address(), "/logout", &session.cookie);
    assert_eq!(answer.unwrap().status, 200);
}

/// The longest time after a logout was asked for that any replica still served.
fn staleness(fleet: &Fleet, rounds: usize) -> Duration {
    let mut person = Person::new(fleet, &Random::new(4), 100);
    for round in 0..rounds {
        let session = person.log_in(&format!("stale-{round}"));
        person.end_under_watch(&[session], Ending::Logout, 1, None);
    }
    let findings = person.history.check();
    findings.assert_none();
    findings.stalest
}
