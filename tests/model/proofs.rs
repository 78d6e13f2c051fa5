//! The protocol as it is: in no state that can be reached is a request served after the answer of its session's logout, or
//! confirmed what was not applied; and from every one all logouts that were begun come to an end.

use std::time::Duration;

use crate::checker::{Explored, explore};
use crate::fleet::{Asked, Config, Fleet};
use crate::rules::Grid;
use crate::state::State;
use crate::story::told;
use crate::{ALICE, BOB, USER_OF_ALICE, show};

/// Explores all of it.
fn holds(what: &str, config: Config) {
    let fleet = Fleet::new(config);
    let explored = match explore(&fleet) {
        Ok(explored) => explored,
        Err(_) => {
            let fleet = Fleet::with_names(fleet.config);
            let violation = explore(&fleet).err().unwrap();
            panic!("{what}: {}", told(&fleet.config, &violation));
        }
    };
    let config = &fleet.config;
    let (crashes, leaves, reapers) = (config.crashes, config.leaves, config.reapers);
    show(&format!(
        "{what}; {crashes} crashes, {leaves} leaves, {reapers} reapers: {} states",
        explored.len()
    ));
    comes_to_an_end(what, &fleet, &explored);
}

fn comes_to_an_end(what: &str, fleet: &Fleet, explored: &Explored) {
    let in_time = |key| Some(fleet.key(fleet.by_time_alone(&State::of(key))?));
    let stuck = explored.stuck(in_time).map(State::of);
    assert_eq!(stuck, None, "{what}: waits on, whatever time passes");
    // A replica that never confirms costs a lease.
    if fleet.config.outdated.is_empty() {
        let at_once = |key| Some(fleet.key(fleet.by_confirmation(&State::of(key))?));
        let stuck = explored.stuck(at_once).map(State::of);
        assert_eq!(stuck, None, "{what}: the confirmations do not suffice");
    }
}

fn calm(serving: usize, joining: usize, logouts: &[Asked]) -> Config {
    Config::calm(serving, joining, logouts)
}

fn seconds(leases: [u64; 3]) -> [Duration; 3] {
    leases.map(Duration::from_secs)
}

/// What `./scripts/test-model` explores with is more than what every run does.
fn at_length<T>(always: T, at_length: T) -> T {
    match std::env::var_os("PORTCULLIS_MODEL_AT_LENGTH") {
        None => always,
        Some(_) => at_length,
    }
}

#[test]
fn two_replicas_and_two_logouts() {
    let config = Config {
        crashes: 1,
        leaves: 1,
        reapers: at_length(0, 1),
        ..calm(2, 0, &[ALICE, BOB])
    };
    holds("2 replicas, 2 logouts", config);
}

#[test]
fn two_replicas_and_a_session_that_is_logged_out_twice() {
    for logouts in [[ALICE, USER_OF_ALICE], [ALICE, ALICE]] {
        let config = Config {
            crashes: 1,
            leaves: 1,
            reapers: at_length(0, 1),
            ..calm(2, 0, &logouts)
        };
        holds("2 replicas, 1 session logged out twice", config);
    }
}

#[test]
fn three_replicas_of_which_one_joins() {
    let config = Config {
        crashes: 1,
        leaves: 1,
        reapers: at_length(0, 1),
        ..calm(2, 1, &[ALICE])
    };
    holds("3 replicas of which 1 joins, 1 logout", config);
}

#[test]
fn three_replicas_and_a_session_that_is_logged_out_twice() {
    let config = match at_length(false, true) {
        false => calm(1, 1, &[ALICE, USER_OF_ALICE]),
        true => calm(2, 1, &[ALICE, USER_OF_ALICE]),
    };
    holds("1 replica joins, 1 session logged out twice", config);
}

#[test]
fn two_reapers() {
    let config = Config {
        crashes: 1,
        leaves: at_length(0, 1),
        reapers: 2,
        ..calm(at_length(1, 2), at_length(1, 0), &[ALICE])
    };
    holds("2 replicas, 1 logout, 2 reapers", config);
}

#[test]
fn leases_of_two_steps() {
    let config = Config {
        leases: seconds([2; 3]),
        crashes: at_length(0, 1),
        leaves: at_length(0, 1),
        reapers: 1,
        ..calm(at_length(1, 2), 1, &[ALICE])
    };
    holds("leases of 2 steps, 1 replica joins, 1 logout", config);
}

#[test]
fn leases_of_different_length() {
    let logouts: &[Asked] = at_length(&[ALICE], &[ALICE, USER_OF_ALICE]);
    let config = Config {
        leases: seconds([1, 2, 1]),
        crashes: 1,
        leaves: 1,
        reapers: at_length(0, 1),
        ..calm(2, 0, logouts)
    };
    holds("leases of 1 and 2 steps", config);
}

#[test]
fn clocks_that_differ_by_two_percent() {
    let config = Config {
        leases: seconds([10; 3]),
        rates: [1000, 1020, 1000],
        grid: Grid::FINE,
        crashes: at_length(0, 1),
        leaves: at_length(0, 1),
        ..calm(2, 0, &[ALICE])
    };
    holds("2 replicas whose clocks differ by 2 %, 1 logout", config);
}

#[test]
fn a_replica_of_an_older_version() {
    let logouts: &[Asked] = at_length(&[ALICE], &[ALICE, BOB]);
    let config = Config {
        outdated: vec![1],
        crashes: 1,
        leaves: 1,
        reapers: 1,
        ..calm(2, 0, logouts)
    };
    holds(
        "2 replicas of which 1 does not understand the entries",
        config,
    );
}

#[test]
fn the_command_line() {
    let config = Config {
        command_line: true,
        crashes: 1,
        leaves: 1,
        reapers: 1,
        ..calm(at_length(1, 2), 1, &[ALICE, BOB])
    };
    holds("a process that is no replica, 2 logouts", config);
}
