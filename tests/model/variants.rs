//! Every rule of the protocol, broken: the checker finds how a request is served that must not be. With the rule, it finds
//! nothing in the same configuration.

use std::time::Duration;

use crate::checker::explore;
use crate::fleet::{Asked, Break, Config, Fleet};
use crate::story::told;
use crate::{ALICE, BOB, USER_OF_ALICE, show};

/// Breaks a rule and expects what follows from it. What there is with the rule is explored here if it is small; two logouts
/// are in `proofs`, with more faults.
fn fails(rule: Break, config: Config) {
    if config.logouts.len() == 1 {
        holds(&config);
    }
    let broken = Config {
        broken: Some(rule),
        ..config
    };
    expect_violation(&format!("{rule:?}"), broken);
}

fn expect_violation(what: &str, config: Config) {
    let fleet = Fleet::new(config);
    match explore(&fleet) {
        Ok(explored) => panic!("{what}: nothing is wrong in {} states", explored.len()),
        Err(violation) => show(&format!("{what}: {}", told(&fleet.config, &violation))),
    }
}

fn holds(config: &Config) {
    let fleet = Fleet::new(config.clone());
    if let Err(violation) = explore(&fleet) {
        panic!("with the rule: {}", told(&fleet.config, &violation));
    }
}

fn two(logouts: &[Asked]) -> Config {
    Config::calm(2, 0, logouts)
}

fn one_and_a_joiner() -> Config {
    Config::calm(1, 1, &[ALICE])
}

fn one_and_the_command_line(logouts: &[Asked]) -> Config {
    Config {
        command_line: true,
        ..Config::calm(1, 1, logouts)
    }
}

fn with_a_longer_lease() -> Config {
    Config {
        leases: [1, 2, 1].map(Duration::from_secs),
        ..two(&[ALICE])
    }
}

#[test]
fn renewing_in_one_statement_if_applied_is_the_head() {
    fails(Break::RenewsInOneStatement, two(&[ALICE]));
}

#[test]
fn writing_and_reading_in_one_transaction() {
    fails(Break::WritesAndReadsInOneTransaction, one_and_a_joiner());
}

#[test]
fn joining_by_reading_before_registering() {
    fails(Break::JoinReadsFirst, one_and_a_joiner());
}

#[test]
fn a_sequence_that_is_drawn_before_the_commit() {
    fails(Break::SequenceDrawnBeforeCommit, two(&[ALICE, BOB]));
}

#[test]
fn a_number_that_is_given_out_again() {
    let config = one_and_the_command_line(&[ALICE, BOB]);
    fails(Break::NumbersGivenOutAgain, config);
}

#[test]
fn rows_to_wait_for_that_are_read_before_the_commit() {
    fails(Break::RowsReadBeforeCommit, one_and_a_joiner());
}

#[test]
fn a_wait_that_counts_from_before_the_commit() {
    fails(Break::WaitFromBeforeCommit, two(&[ALICE]));
}

#[test]
fn a_deadline_that_counts_from_the_answer() {
    fails(Break::DeadlineFromAnswer, two(&[ALICE]));
}

#[test]
fn a_clock_that_stands_still_in_suspend() {
    fails(Break::ClockStandsStill, two(&[ALICE]));
}

#[test]
fn trust_that_a_timer_ends() {
    fails(Break::TimerClearsTrust, two(&[ALICE]));
}

#[test]
fn the_set_before_the_deadline() {
    fails(Break::SetBeforeDeadline, two(&[ALICE]));
}

#[test]
fn the_deadline_moved_before_the_insertion() {
    fails(Break::DeadlineBeforeInsert, two(&[ALICE]));
}

#[test]
fn a_row_that_confirms_before_the_insertion() {
    fails(Break::ConfirmsBeforeInsert, two(&[ALICE]));
}

#[test]
fn a_second_logout_that_does_not_wait() {
    fails(
        Break::AlreadyGoneAnswersAtOnce,
        two(&[ALICE, USER_OF_ALICE]),
    );
}

#[test]
fn a_second_logout_that_trusts_its_own_set() {
    fails(Break::KnownHandleAnswersAtOnce, two(&[ALICE, ALICE]));
}

#[test]
fn an_own_row_that_is_not_waited_for() {
    fails(Break::OwnRowSkipped, two(&[ALICE, USER_OF_ALICE]));
}

#[test]
fn a_cursor_that_the_own_insertion_moves() {
    fails(Break::OwnInsertionMovesCursor, two(&[ALICE, BOB]));
}

#[test]
fn a_lease_by_the_clock_of_the_database() {
    fails(Break::LeaseInDatabaseClock, two(&[ALICE]));
}

#[test]
fn a_reaper_that_ignores_the_beat() {
    let config = Config {
        reapers: 1,
        ..two(&[ALICE])
    };
    fails(Break::ReaperIgnoresBeat, config);
}

#[test]
fn a_reaper_by_a_wall_clock() {
    let config = Config {
        reapers: 1,
        ..two(&[ALICE])
    };
    fails(Break::ReaperByWallClock, config);
}

#[test]
fn a_beat_that_begins_again_with_the_row() {
    let config = Config {
        reapers: 2,
        ..one_and_the_command_line(&[ALICE])
    };
    fails(Break::BeatBeginsAgain, config);
}

#[test]
fn a_replica_id_from_the_configuration() {
    fails(Break::ReplicaIdConfigured, one_and_a_joiner());
}

#[test]
fn the_lease_of_the_revoker_for_all() {
    fails(Break::LeaseOfRevoker, with_a_longer_lease());
}

#[test]
fn a_row_deleted_while_requests_are_still_served() {
    let config = Config {
        leaves: 1,
        ..two(&[ALICE])
    };
    fails(Break::RowDeletedBeforeTrust, config);
}

#[test]
fn a_reason_that_is_confirmed_though_unknown() {
    let config = Config {
        outdated: vec![1],
        ..two(&[ALICE])
    };
    fails(Break::UnknownReasonConfirmed, config);
}

#[test]
fn rows_that_cannot_be_read_and_the_own_lease_for_all() {
    fails(Break::ReadErrorWaitsOwnLease, with_a_longer_lease());
}

#[test]
fn without_the_assumption_that_commits_last() {
    fails(Break::CommitLost, one_and_a_joiner());
}

#[test]
fn without_the_assumption_that_clocks_run_alike() {
    let config = Config {
        leases: [Duration::from_secs(10); 3],
        rates: [1000, 1050, 1000],
        grid: crate::rules::Grid::FINE,
        ..two(&[ALICE])
    };
    expect_violation("clocks that differ by 5 %", config);
}
