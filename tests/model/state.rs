//! A state of the fleet: what each process knows, where each of its tasks stands, and what is in the store.

use crate::checker::Key;

pub const REPLICAS: usize = 3;
pub const LOGOUTS: usize = 3;

/// An age past which nothing changes any more; of trust, that there is none.
pub const TOO_OLD: u8 = 15;

/// What no request may ever be: served as a session after the answer of its logout was sent.
pub const SERVED: u8 = 15;

/// Where the feed of a replica stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Not started.
    #[default]
    Out,
    /// Crashed, or has left.
    Down,
    Idle,
    /// Has read its clock and sent the write of its row (A), which is not committed.
    Started,
    /// A is committed.
    Written,
    /// Has a snapshot of the log (B).
    Read,
    /// What the log brought is in the set.
    Inserted,
    /// The streams are cut.
    Cut,
    /// `applied` has moved; the deadline has not.
    Applied,
    /// Trusts nothing any more; its row is still there.
    Leaving,
    /// Of a broken order: B's snapshot is taken, A is not committed.
    ReadFirst,
    /// Of a broken order: the row confirms what is not in the set.
    Confirmed,
    /// Of a broken order: the deadline has moved, the set is not complete.
    Trusted,
}

const PHASES: [Phase; 13] = [
    Phase::Out,
    Phase::Down,
    Phase::Idle,
    Phase::Started,
    Phase::Written,
    Phase::Read,
    Phase::Inserted,
    Phase::Cut,
    Phase::Applied,
    Phase::Leaving,
    Phase::ReadFirst,
    Phase::Confirmed,
    Phase::Trusted,
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    pub phase: Phase,
    /// Age of the clock reading that this round began with.
    pub started: u8,
    /// Whether this round wrote the row, and may move the deadline.
    pub renews: bool,
    /// The sequences that B brought, as bits.
    pub read: u8,
    pub applied: u8,
    /// The sessions in its set, as bits.
    pub set: u8,
    /// Age of the clock reading that the deadline was counted from.
    pub trust: u8,
    /// Its row in the store: 0 if there is none, else what it says was applied, plus one.
    pub row: u8,
    /// The beat of the row; kept only where it decides something.
    pub beat: u8,
}

impl Replica {
    pub fn is_up(&self) -> bool {
        !matches!(self.phase, Phase::Out | Phase::Down)
    }

    pub fn bits(&self) -> u64 {
        u64::from(self.phase as u8)
            | u64::from(self.started) << 4
            | u64::from(self.renews) << 8
            | u64::from(self.read) << 9
            | u64::from(self.applied) << 12
            | u64::from(self.set) << 14
            | u64::from(self.trust) << 17
            | u64::from(self.row) << 21
            | u64::from(self.beat) << 24
    }
}

/// Where a logout stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    #[default]
    NotAsked,
    /// Sent to the store, not committed.
    Sent,
    /// Found nothing to delete; the head is still to be read.
    NothingFound,
    /// Committed; the store's reply is on its way.
    Committed,
    /// The head was read; the store's reply is on its way, and names no handle.
    HeadRead,
    /// The reply is there, and the clock was read.
    Waiting,
    /// Has a snapshot of the rows.
    Looked,
    Answered,
    /// Its replica died; nobody was told anything.
    Lost,
    /// Its replica died before the commit, which may still happen.
    Orphaned,
    /// Of a broken order: has a sequence, is not committed.
    Drawn,
    /// Of a broken order: knows the rows from before the commit.
    Listed,
}

const STAGES: [Stage; 12] = [
    Stage::NotAsked,
    Stage::Sent,
    Stage::NothingFound,
    Stage::Committed,
    Stage::HeadRead,
    Stage::Waiting,
    Stage::Looked,
    Stage::Answered,
    Stage::Lost,
    Stage::Orphaned,
    Stage::Drawn,
    Stage::Listed,
];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Logout {
    pub stage: Stage,
    /// The replica that was asked.
    pub at: u8,
    pub sequence: u8,
    /// Age of the clock reading that the wait is counted from.
    pub waited: u8,
    /// The rows that had not confirmed when they were read, as bits.
    pub behind: u8,
}

/// Somebody who looks for replicas that have died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaper {
    /// The row that was seen, plus one; 0 for none.
    pub row: u8,
    /// Since when the beat is known.
    pub age: u8,
    pub beat: u8,
    /// Of a broken order: what is about to be deleted whatever its beat is.
    pub decided: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub replicas: [Replica; REPLICAS],
    pub logouts: [Logout; LOGOUTS],
    /// By sequence, the session that it ended, plus one; 0 for none.
    pub log: [u8; LOGOUTS],
    /// One request that may yet be served: 0 for none, else what [`request`] makes.
    pub request: u8,
    pub reapers: [Reaper; 2],
    pub crashes: u8,
    pub leaves: u8,
    /// Small steps that the time took; see `Grid`.
    pub small_steps: u8,
    /// Whether what an assumption excludes has happened.
    pub misfortune: bool,
}

/// A request for `session` at `replica` that has passed the first check.
pub fn request(replica: usize, session: u8) -> u8 {
    1 + narrow(replica) * 4 + session
}

pub fn of_request(request: u8) -> (usize, u8) {
    (usize::from((request - 1) / 4), (request - 1) % 4)
}

impl State {
    pub fn key(&self) -> Key {
        let mut key = [0; 3];
        for (word, replica) in key.iter_mut().zip(&self.replicas) {
            *word = replica.bits();
        }
        for (word, logout) in key.iter_mut().zip(&self.logouts) {
            *word |= u64::from(logout.stage as u8) << 26
                | u64::from(logout.at) << 30
                | u64::from(logout.sequence) << 32
                | u64::from(logout.waited) << 34
                | u64::from(logout.behind) << 38;
        }
        for (word, reaper) in key.iter_mut().zip(&self.reapers) {
            *word |= u64::from(reaper.row) << 41
                | u64::from(reaper.age) << 43
                | u64::from(reaper.beat) << 47
                | u64::from(reaper.decided) << 49;
        }
        key[0] |= u64::from(self.log[0]) << 50
            | u64::from(self.log[1]) << 52
            | u64::from(self.log[2]) << 54;
        key[1] |= u64::from(self.request) << 50
            | u64::from(self.crashes) << 54
            | u64::from(self.leaves) << 56;
        key[2] |= u64::from(self.small_steps) << 50 | u64::from(self.misfortune) << 53;
        key
    }

    pub fn of(key: Key) -> Self {
        let mut state = Self::default();
        for (word, replica) in key.iter().zip(&mut state.replicas) {
            *replica = Replica {
                phase: PHASES[usize::from(bits(*word, 0, 4))],
                started: bits(*word, 4, 4),
                renews: bits(*word, 8, 1) == 1,
                read: bits(*word, 9, 3),
                applied: bits(*word, 12, 2),
                set: bits(*word, 14, 3),
                trust: bits(*word, 17, 4),
                row: bits(*word, 21, 3),
                beat: bits(*word, 24, 2),
            };
        }
        for (word, logout) in key.iter().zip(&mut state.logouts) {
            *logout = Logout {
                stage: STAGES[usize::from(bits(*word, 26, 4))],
                at: bits(*word, 30, 2),
                sequence: bits(*word, 32, 2),
                waited: bits(*word, 34, 4),
                behind: bits(*word, 38, 3),
            };
        }
        for (word, reaper) in key.iter().zip(&mut state.reapers) {
            *reaper = Reaper {
                row: bits(*word, 41, 2),
                age: bits(*word, 43, 4),
                beat: bits(*word, 47, 2),
                decided: bits(*word, 49, 1) == 1,
            };
        }
        state.log = [50, 52, 54].map(|at| bits(key[0], at, 2));
        state.request = bits(key[1], 50, 4);
        state.crashes = bits(key[1], 54, 2);
        state.leaves = bits(key[1], 56, 2);
        state.small_steps = bits(key[2], 50, 3);
        state.misfortune = bits(key[2], 53, 1) == 1;
        state
    }

    /// The newest sequence.
    pub fn head(&self) -> u8 {
        narrow(self.log.iter().filter(|entry| **entry != 0).count())
    }

    /// Whether the session has no row any more.
    pub fn has_ended(&self, session: u8) -> bool {
        self.log.contains(&(session + 1))
    }

    /// The sequences in the log after `applied`, as bits.
    pub fn log_after(&self, applied: u8) -> u8 {
        let mut found = 0;
        for sequence in applied..narrow(LOGOUTS) {
            if self.log[usize::from(sequence)] != 0 {
                found |= 1 << sequence;
            }
        }
        found
    }

    /// The sessions that these sequences ended, both as bits.
    pub fn sessions(&self, sequences: u8) -> u8 {
        let mut sessions = 0;
        for (number, entry) in self.log.iter().enumerate() {
            if sequences & 1 << number != 0 && *entry != 0 {
                sessions |= 1 << (entry - 1);
            }
        }
        sessions
    }
}

fn bits(word: u64, at: u32, width: u32) -> u8 {
    (word >> at) as u8 & ((1 << width) - 1)
}

pub fn narrow(index: usize) -> u8 {
    u8::try_from(index).expect("a small index")
}
