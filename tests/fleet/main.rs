//! The real thing: three replicas as processes of the built binary on one database server, under every fault that can be had,
//! and a history of what clients saw.
//!
//! A run of minutes is `./scripts/test-fleet`; `PORTCULLIS_FLEET_LOGOUTS` and `PORTCULLIS_FLEET_SEED` say how many and which.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are their helpers"
)]

mod checker;
mod faults;
mod stories;
mod storm;
#[expect(dead_code, reason = "shared with benches/fleet, which uses the rest")]
mod support;

use std::time::Duration;

use storm::Plan;
use support::fleet::{Fleet, Settings};
use support::server::Kind;

/// Makes the tests of a database.
macro_rules! on {
    ($name:ident, $kind:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn logouts_hold_under_every_fault() {
                super::logouts_hold_under_every_fault($kind);
            }

            #[test]
            fn the_checker_finds_what_an_acknowledgement_by_one_replica_lets_through() {
                super::the_checker_finds_what_an_acknowledgement_by_one_replica_lets_through($kind);
            }

            #[test]
            fn each_fault_has_its_story() {
                stories::all($kind);
            }

            #[test]
            fn a_logout_waits_for_the_longest_lease() {
                stories::a_logout_waits_for_the_longest_lease($kind);
            }

            #[test]
            fn checked_in_the_database_every_request_reads() {
                stories::checked_in_the_database_every_request_reads($kind);
            }

            #[test]
            fn unchecked_a_token_outlives_its_session() {
                stories::unchecked_a_token_outlives_its_session($kind);
            }
        }
    };
}

on!(postgres, Kind::Postgres);
on!(mariadb, Kind::MariaDb);

#[expect(
    clippy::print_stderr,
    reason = "counts are what the long form is run for"
)]
fn logouts_hold_under_every_fault(kind: Kind) {
    let plan = Plan::of_environment();
    eprintln!("{kind:?}: seed {}", plan.seed);
    let fleet = Fleet::start(kind, Settings::default());
    let aftermath = storm::run(&fleet, plan);
    let storm::Aftermath {
        findings,
        faults,
        ended,
    } = aftermath;
    eprintln!("{kind:?}: {findings}; faults {faults:?}; {ended} ended for good");
    findings.assert_none();
    assert!(findings.answered >= plan.logouts, "{findings}");
    assert!(findings.after_logout >= findings.answered * 3, "{findings}");
}

/// A checker that finds nothing proves nothing.
fn the_checker_finds_what_an_acknowledgement_by_one_replica_lets_through(kind: Kind) {
    let settings = Settings {
        leases: &["3s", "3s", "3s"],
        revocation: "acknowledge = \"local\"",
        ..Settings::default()
    };
    let fleet = Fleet::start(kind, settings);
    fleet.replica(2).link.delay(Duration::from_millis(50));
    let plan = Plan {
        seed: 1,
        logouts: 30,
        faults: false,
    };
    let findings = storm::run(&fleet, plan).findings;
    assert!(!findings.violations.is_empty(), "{findings}");
    assert!(
        findings
            .violations
            .iter()
            .any(|request| request.replica == 2)
    );
}
