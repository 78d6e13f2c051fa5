//! Numbers: times in order, and what a database server counts itself.

use std::time::Duration;

use crate::support::fleet::Fleet;
use crate::support::outsider::Outsider;
use crate::support::server::Kind;

/// Times, the shortest first.
pub struct Sorted(Vec<Duration>);

impl Sorted {
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// In milliseconds.
    pub fn percentile(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent).div_ceil(100).max(1) - 1;
        self.0[place].as_secs_f64() * 1000.0
    }
}

/// What the server has executed since its start. PostgreSQL counts transactions, of which every statement outside of one is one.
pub fn statements(fleet: &Fleet) -> u64 {
    let kind = fleet.server().kind();
    let mut outsider = Outsider::of(fleet);
    match kind {
        Kind::Postgres => outsider.number(
            "SELECT sum(xact_commit + xact_rollback)::text FROM pg_stat_database",
        ),
        Kind::MariaDb => outsider.number(
            "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'QUESTIONS'",
        ),
        Kind::Sqlite => unreachable!("a file counts nothing"),
    }
}
