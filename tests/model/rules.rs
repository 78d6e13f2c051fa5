//! What the product decides, as tables: every entry is asked of `portcullis::revocation::protocol`.
//!
//! The model counts time in ages of clock readings, on a grid of moments. An age that changes no decision any more is
//! [`TOO_OLD`], so that there are finitely many states however much time passes.

use std::time::Duration;

use portcullis::clock::{BootTime, Timestamp};
use portcullis::revocation::{Membership, Verdict, protocol};
use portcullis::store::{LogEntry, LogRead, LoggedReason, Mark, ReplicaId, ReplicaRow, Sequence};

use crate::state::{LOGOUTS, REPLICAS, TOO_OLD, narrow};

/// The moments at which something can happen: after any number of large steps and a small one, or a few.
#[derive(Clone, Copy, Debug)]
pub struct Grid {
    pub large: Duration,
    pub small: Duration,
    /// How many small steps there may be.
    pub small_steps: u8,
}

impl Grid {
    /// A step is just longer than the wait for a lease of a second.
    pub const COARSE: Self = Self {
        large: Duration::from_millis(1070),
        small: Duration::ZERO,
        small_steps: 0,
    };

    /// Moments around the end of a lease of ten seconds and of the wait for it, on clocks that run at different rates.
    pub const FINE: Self = Self {
        large: Duration::from_millis(9860),
        small: Duration::from_millis(140),
        small_steps: 1,
    };

    /// What has passed at an age: so many small steps, and large ones for the rest.
    fn passed(&self, age: u8) -> Duration {
        let smalls = self.small_steps + 1;
        self.small * u32::from(age % smalls) + self.large * u32::from(age / smalls)
    }

    /// The age a step later, before it is found to be too old.
    fn older(&self, age: u8, is_small: bool) -> u8 {
        let smalls = self.small_steps + 1;
        let older = if is_small { age + 1 } else { age + smalls };
        older.min(TOO_OLD - 1)
    }
}

/// What the replicas are configured with, and how their clocks run.
#[derive(Clone, Copy, Debug)]
pub struct Replicas {
    pub leases: [Duration; REPLICAS],
    /// What a clock shows after a thousand seconds.
    pub rates: [u32; REPLICAS],
}

/// The product's decisions, by age.
pub struct Rules {
    grid: Grid,
    /// By replica and the age of the round that gave the deadline.
    trusted: [[bool; 16]; REPLICAS],
    /// By revoker, replica that is waited for, and the age of the wait.
    lapsed: [[[bool; 16]; REPLICAS]; REPLICAS],
    /// By what a row says was applied, and the sequence waited for.
    confirmed: [[bool; LOGOUTS + 1]; LOGOUTS + 1],
    /// By replica and the age of the beat.
    died: [[bool; 16]; REPLICAS],
    /// By whether memory is trusted and whether the session is in the set.
    accepts: [[bool; 2]; 2],
    /// Whether a log with an entry of an unknown kind may be confirmed.
    pub confirms_unknown: bool,
}

const NOW: BootTime = BootTime::from_nanos(1_000_000_000_000);

impl Rules {
    pub fn of(grid: Grid, replicas: Replicas) -> Self {
        let ages = std::array::from_fn::<u8, 15, _>(narrow);
        let mut rules = Self {
            grid,
            trusted: [[false; 16]; REPLICAS],
            lapsed: [[[true; 16]; REPLICAS]; REPLICAS],
            confirmed: [[false; LOGOUTS + 1]; LOGOUTS + 1],
            died: [[true; 16]; REPLICAS],
            accepts: [[false; 2]; 2],
            confirms_unknown: confirms_unknown(),
        };
        // The reading, by the clock of a replica, of so long ago.
        let read = |by: usize, age: u8| {
            let passed = grid.passed(age) * replicas.rates[by] / 1000;
            BootTime::from_nanos(NOW.as_nanos() - u64::try_from(passed.as_nanos()).unwrap())
        };
        let fastest = (0..REPLICAS)
            .max_by_key(|replica| replicas.rates[*replica])
            .unwrap();
        for (replica, lease) in replicas.leases.into_iter().enumerate() {
            for age in ages {
                let at = usize::from(age);
                let deadline = protocol::deadline(read(replica, age), lease);
                rules.trusted[replica][at] = protocol::is_trusted(NOW, deadline);
                let row = row(0, lease);
                for (revoker, lapsed) in rules.lapsed.iter_mut().enumerate() {
                    let committed_at = read(revoker, age);
                    lapsed[replica][at] =
                        protocol::holds_everywhere(&[row], Sequence::new(1), committed_at, NOW);
                }
                rules.died[replica][at] =
                    protocol::has_died(&row, (row.beat, read(fastest, age)), NOW);
            }
        }
        for (applied, confirmed) in rules.confirmed.iter_mut().enumerate() {
            for (sequence, confirmed) in confirmed.iter_mut().enumerate() {
                let row = row(applied as u64, replicas.leases[0]);
                let sequence = Sequence::new(sequence as u64);
                *confirmed = protocol::holds_everywhere(&[row], sequence, NOW, NOW);
            }
        }
        for (trusted, accepts) in rules.accepts.iter_mut().enumerate() {
            for (revoked, accepts) in accepts.iter_mut().enumerate() {
                let membership = [Membership::Absent, Membership::Revoked][revoked];
                *accepts = protocol::verdict(trusted == 1, membership) == Verdict::Live;
            }
        }
        rules
    }

    pub fn trusts(&self, replica: usize, age: u8) -> bool {
        self.trusted[replica][usize::from(age)]
    }

    pub fn has_lapsed(&self, revoker: usize, replica: usize, age: u8) -> bool {
        self.lapsed[revoker][replica][usize::from(age)]
    }

    pub fn has_confirmed(&self, applied: u8, sequence: u8) -> bool {
        self.confirmed[usize::from(applied)][usize::from(sequence)]
    }

    pub fn has_died(&self, replica: usize, age: u8) -> bool {
        self.died[replica][usize::from(age)]
    }

    pub fn accepts(&self, trusted: bool, in_set: bool) -> bool {
        self.accepts[usize::from(trusted)][usize::from(in_set)]
    }

    /// The age of a round, or of trust.
    pub fn older_round(&self, replica: usize, age: u8, is_small: bool) -> u8 {
        self.normal(age, is_small, |age| !self.trusts(replica, age))
    }

    /// The age of a wait.
    pub fn older_wait(&self, revoker: usize, age: u8, is_small: bool) -> u8 {
        self.normal(age, is_small, |age| {
            (0..REPLICAS).all(|replica| self.has_lapsed(revoker, replica, age))
        })
    }

    /// The age of a beat that was seen.
    pub fn older_beat(&self, replica: usize, age: u8, is_small: bool) -> u8 {
        self.normal(age, is_small, |age| self.has_died(replica, age))
    }

    fn normal(&self, age: u8, is_small: bool, is_too_old: impl Fn(u8) -> bool) -> u8 {
        if age == TOO_OLD {
            return TOO_OLD;
        }
        let older = self.grid.older(age, is_small);
        if is_too_old(older) { TOO_OLD } else { older }
    }
}

fn row(applied: u64, lease: Duration) -> ReplicaRow {
    ReplicaRow {
        id: ReplicaId::random(),
        beat: 1,
        applied: Sequence::new(applied),
        lease,
    }
}

fn confirms_unknown() -> bool {
    let log = LogRead {
        entries: vec![LogEntry {
            sequence: Sequence::new(1),
            handle: None,
            reason: LoggedReason::Unknown("of a later version".to_owned()),
            expires: Timestamp::from_secs(0),
            mark: Mark::from_bytes([0; 8]),
        }],
        mark: None,
    };
    protocol::learnt(None, &log) == protocol::Learnt::UpToDate
}
