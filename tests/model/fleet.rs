//! The model: how a fleet comes from one state to the next, one statement at a time.
//!
//! Time passes between any two steps, so every pause, slow statement, late reply and lost wake-up is one of the ways. What
//! nobody else can notice is no step of its own: a reply that only lets the same task send its next statement.

use std::time::Duration;

use crate::checker::{Key, Model};
use crate::rules::{Grid, Replicas, Rules};
use crate::state::{Phase, SERVED, Stage, State, TOO_OLD, narrow, of_request};
use crate::symmetry::Symmetry;

/// What is explored.
#[derive(Clone, Debug)]
pub struct Config {
    /// That many replicas serve from the start.
    pub serving: usize,
    /// That many may join.
    pub joining: usize,
    /// Whether those that may join do not, and ask for logouts all the same.
    pub command_line: bool,
    pub leases: [Duration; 3],
    pub rates: [u32; 3],
    pub grid: Grid,
    pub logouts: Vec<Asked>,
    pub crashes: u8,
    pub leaves: u8,
    pub reapers: usize,
    /// Replicas of an older version, which does not understand what the logouts write.
    pub outdated: Vec<usize>,
    /// The rule that is broken, if any.
    pub broken: Option<Break>,
}

/// A logout that somebody may ask any replica for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub session: u8,
    /// Whether the handle comes with it; if not, it is the user whose sessions are to end.
    pub by_handle: bool,
}

/// A rule of the protocol that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    RenewsInOneStatement,
    WritesAndReadsInOneTransaction,
    JoinReadsFirst,
    SequenceDrawnBeforeCommit,
    NumbersGivenOutAgain,
    RowsReadBeforeCommit,
    WaitFromBeforeCommit,
    DeadlineFromAnswer,
    ClockStandsStill,
    TimerClearsTrust,
    SetBeforeDeadline,
    DeadlineBeforeInsert,
    ConfirmsBeforeInsert,
    AlreadyGoneAnswersAtOnce,
    KnownHandleAnswersAtOnce,
    OwnRowSkipped,
    OwnInsertionMovesCursor,
    LeaseInDatabaseClock,
    ReaperIgnoresBeat,
    ReaperByWallClock,
    BeatBeginsAgain,
    ReplicaIdConfigured,
    LeaseOfRevoker,
    RowDeletedBeforeTrust,
    UnknownReasonConfirmed,
    ReadErrorWaitsOwnLease,
    /// Not a rule but an assumption: a failover loses an acknowledged commit.
    CommitLost,
}

impl Config {
    /// Replicas with leases of one step on perfect clocks, and nothing that fails.
    pub fn calm(serving: usize, joining: usize, logouts: &[Asked]) -> Self {
        Self {
            serving,
            joining,
            command_line: false,
            leases: [Duration::from_secs(1); 3],
            rates: [1000; 3],
            grid: Grid::COARSE,
            logouts: logouts.to_vec(),
            crashes: 0,
            leaves: 0,
            reapers: 0,
            outdated: Vec::new(),
            broken: None,
        }
    }

    pub fn replicas(&self) -> usize {
        self.serving + self.joining
    }
}

/// A configuration with the product's decisions in it.
pub struct Fleet {
    pub config: Config,
    pub rules: Rules,
    symmetry: Symmetry,
}

impl Fleet {
    pub fn new(config: Config) -> Self {
        let replicas = Replicas {
            leases: config.leases,
            rates: config.rates,
        };
        let rules = Rules::of(config.grid, replicas);
        Self {
            rules,
            symmetry: Symmetry::of(&config),
            config,
        }
    }

    /// The same with every state for itself, so that a story keeps its names.
    pub fn with_names(config: Config) -> Self {
        Self {
            symmetry: Symmetry::none(),
            ..Self::new(config)
        }
    }

    pub fn breaks(&self, rule: Break) -> bool {
        self.config.broken == Some(rule)
    }

    pub fn start(&self) -> State {
        let mut state = State::default();
        for replica in &mut state.replicas {
            replica.trust = TOO_OLD;
        }
        for replica in &mut state.replicas[..self.config.serving] {
            replica.phase = Phase::Idle;
            replica.trust = 0;
            replica.row = 1;
            replica.beat = u8::from(self.config.broken == Some(Break::BeatBeginsAgain));
        }
        state
    }

    /// Every state that is one step away.
    pub fn steps(&self, state: &State) -> Vec<State> {
        let mut found = Vec::with_capacity(32);
        self.time(state, &mut found);
        self.misfortunes(state, &mut found);
        for replica in 0..self.config.replicas() {
            self.feed(state, replica, &mut found);
            self.endings(state, replica, &mut found);
        }
        for logout in 0..self.config.logouts.len() {
            self.logout(state, logout, &mut found);
        }
        self.requests(state, &mut found);
        for reaper in 0..self.config.reapers {
            self.reaper(state, reaper, &mut found);
        }
        found
    }

    pub fn key(&self, state: State) -> Key {
        self.symmetry.canonical(state).key()
    }

    fn time(&self, state: &State, found: &mut Vec<State>) {
        found.push(self.later(state, false, None));
        if state.small_steps < self.config.grid.small_steps {
            found.push(self.later(state, true, None));
        }
        if self.breaks(Break::ClockStandsStill) {
            for suspended in 0..self.config.replicas() {
                found.push(self.later(state, false, Some(suspended)));
            }
        }
    }

    /// What the assumptions exclude, or a broken rule does not survive.
    fn misfortunes(&self, state: &State, found: &mut Vec<State>) {
        let head = state.head();
        let loses_the_newest = match self.config.broken {
            _ if state.misfortune => return,
            Some(Break::LeaseInDatabaseClock) => false,
            Some(Break::CommitLost) if head > 0 => true,
            // Retention: it is of no use to anyone any more, but for its number.
            Some(Break::NumbersGivenOutAgain) if head > 0 => {
                let replicas = &state.replicas[..self.config.replicas()];
                if replicas
                    .iter()
                    .any(|replica| replica.is_up() && replica.applied < head)
                {
                    return;
                }
                true
            }
            _ => return,
        };
        let mut next = *state;
        next.misfortune = true;
        if loses_the_newest {
            next.log[usize::from(head - 1)] = 0;
        }
        found.push(next);
    }

    /// A step of time later, but for the clock of a replica that is `suspended`.
    pub fn later(&self, state: &State, is_small: bool, suspended: Option<usize>) -> State {
        let (rules, mut later) = (&self.rules, *state);
        later.small_steps += u8::from(is_small);
        for (number, replica) in later.replicas.iter_mut().enumerate() {
            if suspended == Some(number) {
                continue;
            }
            if replica.renews {
                replica.started = rules.older_round(number, replica.started, is_small);
            }
            // The timer that would clear it has not come yet.
            if !self.breaks(Break::TimerClearsTrust) {
                replica.trust = rules.older_round(number, replica.trust, is_small);
            }
        }
        for logout in &mut later.logouts {
            let counts = match logout.stage {
                Stage::Waiting | Stage::Looked => true,
                Stage::Sent | Stage::NothingFound | Stage::Committed | Stage::HeadRead => {
                    self.breaks(Break::WaitFromBeforeCommit)
                }
                _ => false,
            };
            if counts {
                let at = usize::from(logout.at);
                logout.waited = rules.older_wait(at, logout.waited, is_small);
            }
        }
        for reaper in &mut later.reapers {
            if reaper.row > 0 && !reaper.decided {
                let row = usize::from(reaper.row - 1);
                reaper.age = rules.older_beat(row, reaper.age, is_small);
            }
        }
        later
    }

    /// Whether `replica` relies on what it knows.
    pub fn trusts(&self, state: &State, replica: usize) -> bool {
        let replica_state = &state.replicas[replica];
        if self.breaks(Break::TimerClearsTrust) {
            return replica_state.is_up() && replica_state.trust != TOO_OLD;
        }
        replica_state.is_up() && self.rules.trusts(replica, replica_state.trust)
    }

    /// Requests of sessions whose logout was answered. One that the set refuses stays refused, since the set only grows, so
    /// only those that it does not know are followed; one at a time, since they don't notice each other.
    fn requests(&self, state: &State, found: &mut Vec<State>) {
        let deadline_first = !self.breaks(Break::SetBeforeDeadline);
        if state.request != 0 {
            let (replica, session) = of_request(state.request);
            let in_set = state.replicas[replica].set & 1 << session != 0;
            let accepted = match deadline_first {
                true => self.rules.accepts(true, in_set),
                false => self.trusts(state, replica),
            };
            found.push(State {
                request: if accepted { SERVED } else { 0 },
                ..*state
            });
            return;
        }
        for (logout, asked) in state.logouts.iter().zip(&self.config.logouts) {
            if logout.stage != Stage::Answered {
                continue;
            }
            for replica in 0..self.config.replicas() {
                let there = &state.replicas[replica];
                if !there.is_up() || there.set & 1 << asked.session != 0 {
                    continue;
                }
                let trusted = self.trusts(state, replica);
                if !deadline_first || trusted || self.rules.accepts(false, false) {
                    found.push(State {
                        request: crate::state::request(replica, asked.session),
                        ..*state
                    });
                }
            }
        }
    }

    /// A row that confirms what its replica has not done.
    fn confirms_what_is_not_applied(&self, state: &State) -> bool {
        state.replicas.iter().any(|replica| {
            if !replica.is_up() || replica.row < 2 {
                return false;
            }
            let confirmed = !state.log_after(replica.row - 1) & state.log_after(0);
            let uncut = match replica.phase {
                Phase::Inserted => replica.read,
                _ => 0,
            };
            confirmed & uncut != 0 || state.sessions(confirmed) & !replica.set != 0
        })
    }

    /// The next step towards the end of all logouts that were begun, though no replica does anything any more and only the
    /// waits go on; `None` if none is left.
    pub fn by_time_alone(&self, state: &State) -> Option<State> {
        for number in 0..self.config.logouts.len() {
            let logout = &state.logouts[number];
            match logout.stage {
                Stage::NotAsked | Stage::Answered | Stage::Lost => continue,
                Stage::Looked if !self.holds(state, logout) => {
                    return Some(self.later(state, false, None));
                }
                _ => {}
            }
            let mut found = Vec::new();
            self.logout(state, number, &mut found);
            return found.pop();
        }
        None
    }

    /// The same while no time passes: the replicas do their rounds, and their confirmations suffice. `None` also if a row is
    /// there whose replica has gone, since only time helps then.
    pub fn by_confirmation(&self, state: &State) -> Option<State> {
        let gone = |phase| matches!(phase, Phase::Out | Phase::Down);
        let replicas = &state.replicas[..self.config.replicas()];
        if replicas
            .iter()
            .any(|replica| gone(replica.phase) && replica.row > 0)
        {
            return None;
        }
        let waits = |logout: &&crate::state::Logout| {
            !matches!(
                logout.stage,
                Stage::NotAsked | Stage::Answered | Stage::Lost
            )
        };
        state.logouts.iter().find(waits)?;
        let mut found = Vec::new();
        for number in 0..self.config.logouts.len() {
            let stage = state.logouts[number].stage;
            if !matches!(
                stage,
                Stage::NotAsked | Stage::Answered | Stage::Lost | Stage::Waiting | Stage::Looked
            ) {
                self.logout(state, number, &mut found);
                return found.first().copied();
            }
        }
        for (number, replica) in replicas.iter().enumerate() {
            let confirmed = replica.row == state.head() + 1 && replica.phase == Phase::Idle;
            if replica.phase == Phase::Leaving {
                self.endings(state, number, &mut found);
                return found.first().copied();
            }
            if replica.is_up() && !confirmed {
                self.feed(state, number, &mut found);
                return found.first().copied();
            }
        }
        for number in 0..self.config.logouts.len() {
            if matches!(state.logouts[number].stage, Stage::Waiting | Stage::Looked) {
                self.logout(state, number, &mut found);
                return found.last().copied();
            }
        }
        None
    }
}

impl Model for Fleet {
    fn initial(&self) -> Key {
        self.key(self.start())
    }

    fn successors(&self, key: Key, found: &mut Vec<Key>) {
        let state = State::of(key);
        if state.request != SERVED {
            found.extend(self.steps(&state).into_iter().map(|state| self.key(state)));
        }
    }

    fn violation(&self, key: Key) -> Option<&'static str> {
        let state = State::of(key);
        if state.request == SERVED {
            return Some("a request was served after the answer of its session's logout");
        }
        // What a broken rule leads to in the end is the above.
        let rules_hold = self.config.broken.is_none();
        (rules_hold && self.confirms_what_is_not_applied(&state))
            .then_some("a replica's row confirms what it has not applied")
    }
}

/// As bits, without whoever is at `number`.
pub fn without(mask: u8, number: u8) -> u8 {
    mask & !(1 << number)
}

/// As bits, the replicas that have a row.
pub fn rows(state: &State) -> u8 {
    let mut mask = 0;
    for (number, replica) in state.replicas.iter().enumerate() {
        if replica.row > 0 {
            mask |= 1 << narrow(number);
        }
    }
    mask
}
