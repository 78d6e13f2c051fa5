//! The steps of the feed, of a logout and of the reaper, each as the product's tasks take them or as a broken rule would.

use crate::fleet::{Break, Fleet, rows, without};
use crate::state::{Logout, Phase, Reaper, Replica, Stage, State, TOO_OLD, narrow, of_request};

impl Fleet {
    /// The next statement, or the next thing done with what the last one brought.
    pub fn feed(&self, state: &State, number: usize, found: &mut Vec<State>) {
        let replica = state.replicas[number];
        let mut go = |next: Replica| {
            let mut state = *state;
            state.replicas[number] = next;
            found.push(state);
        };
        match replica.phase {
            Phase::Down | Phase::Leaving => {}
            // It only asks for logouts.
            Phase::Out if self.config.command_line => {}
            Phase::Out | Phase::Idle => {
                go(Replica {
                    phase: Phase::Started,
                    renews: true,
                    started: 0,
                    ..replica
                });
                // B alone, between renewals.
                if replica.phase == Phase::Idle && state.log_after(replica.applied) != 0 {
                    go(self.read(state, number, Phase::Read));
                }
                if self.breaks(Break::TimerClearsTrust) && replica.trust != TOO_OLD {
                    go(Replica {
                        trust: TOO_OLD,
                        ..replica
                    });
                }
            }
            Phase::Started if self.reads_first(&replica) => {
                go(self.read(state, number, Phase::ReadFirst));
            }
            Phase::Started => {
                found.push(self.write_row(state, number, replica.applied, Phase::Written))
            }
            Phase::ReadFirst => {
                let mut next = self.write_row(state, number, replica.applied, Phase::Read);
                if self.breaks(Break::RenewsInOneStatement) {
                    // What the statement grants counts from when it is done, if it found nothing new.
                    let renewed = &mut next.replicas[number];
                    renewed.started = if renewed.read == 0 { 0 } else { TOO_OLD };
                    if renewed.read == 0 {
                        *renewed = trusting(*renewed, Phase::Idle);
                    }
                }
                found.push(next);
            }
            Phase::Written => go(self.read(state, number, Phase::Read)),
            Phase::Read => self.has_read(state, number, found),
            Phase::Confirmed | Phase::Trusted => go(Replica {
                phase: Phase::Inserted,
                set: replica.set | state.sessions(replica.read),
                ..replica
            }),
            Phase::Inserted => go(Replica {
                phase: Phase::Cut,
                ..replica
            }),
            Phase::Cut => {
                let applied = Replica {
                    applied: last(replica.read),
                    read: 0,
                    ..replica
                };
                go(match replica.renews {
                    true => Replica {
                        phase: Phase::Applied,
                        ..applied
                    },
                    false => idle(applied),
                });
            }
            Phase::Applied => go(self.renewed(replica)),
        }
    }

    fn reads_first(&self, replica: &Replica) -> bool {
        match self.config.broken {
            Some(Break::RenewsInOneStatement | Break::WritesAndReadsInOneTransaction) => true,
            Some(Break::JoinReadsFirst) => replica.row == 0,
            _ => false,
        }
    }

    fn read(&self, state: &State, number: usize, phase: Phase) -> Replica {
        let replica = state.replicas[number];
        Replica {
            phase,
            read: state.log_after(replica.applied),
            ..replica
        }
    }

    /// A, committed.
    fn write_row(&self, state: &State, number: usize, applied: u8, phase: Phase) -> State {
        let mut next = *state;
        let replica = &mut next.replicas[number];
        replica.phase = phase;
        let row = match self.breaks(Break::ReplicaIdConfigured) && number == 1 {
            true => 0,
            false => number,
        };
        let replica = &mut next.replicas[row];
        if self.breaks(Break::BeatBeginsAgain) {
            replica.beat = match replica.row {
                0 => 1,
                _ => (replica.beat + 1).min(3),
            };
        }
        replica.row = applied + 1;
        for reaper in &mut next.reapers {
            let its_row = reaper.row == narrow(row) + 1;
            if its_row && !reaper.decided && !self.breaks(Break::BeatBeginsAgain) {
                // The beat has changed: what was seen is worth nothing.
                *reaper = Default::default();
            }
        }
        next
    }

    fn has_read(&self, state: &State, number: usize, found: &mut Vec<State>) {
        let replica = state.replicas[number];
        if replica.read == 0 {
            let mut next = *state;
            next.replicas[number] = self.renewed(replica);
            found.push(next);
            return;
        }
        if self.breaks(Break::ConfirmsBeforeInsert) {
            found.push(self.write_row(state, number, last(replica.read), Phase::Confirmed));
            return;
        }
        let mut next = *state;
        next.replicas[number] = if self.config.outdated.contains(&number) {
            match self.rules.confirms_unknown || self.breaks(Break::UnknownReasonConfirmed) {
                true => Replica {
                    phase: Phase::Cut,
                    ..replica
                },
                false => idle(Replica {
                    trust: TOO_OLD,
                    read: 0,
                    ..replica
                }),
            }
        } else if self.breaks(Break::DeadlineBeforeInsert) && replica.renews {
            Replica {
                phase: Phase::Trusted,
                trust: replica.started,
                ..replica
            }
        } else {
            Replica {
                phase: Phase::Inserted,
                set: replica.set | state.sessions(replica.read),
                ..replica
            }
        };
        found.push(next);
    }

    /// The end of a round: the deadline moves.
    fn renewed(&self, replica: Replica) -> Replica {
        if self.breaks(Break::DeadlineFromAnswer) {
            return trusting(
                Replica {
                    started: 0,
                    ..replica
                },
                Phase::Idle,
            );
        }
        trusting(replica, Phase::Idle)
    }

    /// A replica leaves or crashes.
    pub fn endings(&self, state: &State, number: usize, found: &mut Vec<State>) {
        let replica = state.replicas[number];
        if !replica.is_up() {
            return;
        }
        if replica.phase == Phase::Leaving {
            let row = match self.breaks(Break::RowDeletedBeforeTrust) {
                true => replica.row,
                false => 0,
            };
            found.push(ended(state, number, row));
        } else if state.leaves < self.config.leaves && replica.row > 0 {
            let mut next = *state;
            next.leaves += 1;
            let leaving = &mut next.replicas[number];
            *leaving = Replica {
                phase: Phase::Leaving,
                read: 0,
                ..idle(replica)
            };
            leaving.phase = Phase::Leaving;
            match self.breaks(Break::RowDeletedBeforeTrust) {
                true => leaving.row = 0,
                false => leaving.trust = TOO_OLD,
            }
            found.push(next);
        }
        if state.crashes < self.config.crashes {
            let mut next = ended(state, number, replica.row);
            next.crashes += 1;
            found.push(next);
        }
    }

    pub fn logout(&self, state: &State, number: usize, found: &mut Vec<State>) {
        let (logout, asked) = (state.logouts[number], self.config.logouts[number]);
        let session = 1 << asked.session;
        let go = |next: Logout| {
            let mut state = *state;
            state.logouts[number] = next;
            state
        };
        match logout.stage {
            Stage::Answered | Stage::Lost => {}
            Stage::NotAsked => {
                for at in 0..self.config.replicas() {
                    let replica = &state.replicas[at];
                    let asks = replica.is_up() || self.is_command_line(state, at);
                    if !asks || self.config.outdated.contains(&at) {
                        continue;
                    }
                    let known = replica.set & session != 0;
                    let stage = match self.config.broken {
                        Some(Break::KnownHandleAnswersAtOnce) if known => Stage::Answered,
                        _ => Stage::Sent,
                    };
                    let mut next = go(Logout {
                        stage,
                        at: narrow(at),
                        ..logout
                    });
                    if asked.by_handle && replica.is_up() {
                        next.replicas[at].set |= session;
                    }
                    found.push(next);
                }
            }
            Stage::Sent if self.breaks(Break::RowsReadBeforeCommit) => found.push(go(Logout {
                stage: Stage::Listed,
                behind: rows(state),
                ..logout
            })),
            Stage::Sent if self.breaks(Break::SequenceDrawnBeforeCommit) => {
                let drawn = |logout: &&Logout| matches!(logout.stage, Stage::Drawn);
                let drawn = state.logouts.iter().filter(drawn).count();
                found.push(go(Logout {
                    stage: Stage::Drawn,
                    sequence: state.head() + narrow(drawn) + 1,
                    ..logout
                }));
            }
            Stage::Sent | Stage::Listed | Stage::Drawn | Stage::Orphaned => {
                found.push(self.commit(state, number));
            }
            Stage::NothingFound => found.push(go(Logout {
                stage: Stage::HeadRead,
                sequence: state.head(),
                ..logout
            })),
            Stage::Committed | Stage::HeadRead => {
                let mut next = go(Logout {
                    stage: Stage::Waiting,
                    ..logout
                });
                let replica = &mut next.replicas[usize::from(logout.at)];
                // Whoever found nothing to delete was told no handles.
                if logout.stage == Stage::Committed && replica.is_up() {
                    replica.set |= session;
                }
                if self.breaks(Break::OwnInsertionMovesCursor) {
                    replica.applied = replica.applied.max(logout.sequence);
                }
                found.push(next);
            }
            Stage::Waiting | Stage::Looked => self.wait(state, number, found),
        }
    }

    fn is_command_line(&self, state: &State, number: usize) -> bool {
        self.config.command_line && state.replicas[number].phase == Phase::Out
    }

    fn commit(&self, state: &State, number: usize) -> State {
        let mut next = *state;
        let session = self.config.logouts[number].session;
        let before = state.logouts[number];
        let orphaned = before.stage == Stage::Orphaned;
        if state.has_ended(session) {
            next.logouts[number] = match self.breaks(Break::AlreadyGoneAnswersAtOnce) {
                _ if orphaned => lost(),
                true => answered(),
                false => Logout {
                    stage: Stage::NothingFound,
                    ..before
                },
            };
            return next;
        }
        let sequence = match before.stage {
            Stage::Drawn => before.sequence,
            _ => state.head() + 1,
        };
        next.log[usize::from(sequence - 1)] = session + 1;
        next.logouts[number] = match orphaned {
            true => lost(),
            false => Logout {
                stage: Stage::Committed,
                sequence,
                ..before
            },
        };
        next
    }

    fn wait(&self, state: &State, number: usize, found: &mut Vec<State>) {
        let logout = state.logouts[number];
        let mut go = |next: Logout| {
            let mut state = *state;
            state.logouts[number] = next;
            found.push(state);
        };
        // What the rows say now.
        let mut behind = 0;
        for (replica, there) in state.replicas.iter().enumerate() {
            if there.row > 0 && !self.rules.has_confirmed(there.row - 1, logout.sequence) {
                behind |= 1 << replica;
            }
        }
        if self.breaks(Break::OwnRowSkipped) {
            behind = without(behind, logout.at);
        }
        if self.breaks(Break::RowsReadBeforeCommit) {
            behind &= logout.behind;
        }
        go(Logout {
            stage: Stage::Looked,
            behind,
            ..logout
        });
        let at = usize::from(logout.at);
        let gives_up = self.breaks(Break::ReadErrorWaitsOwnLease)
            && self.rules.has_lapsed(at, at, logout.waited);
        if logout.stage == Stage::Looked && self.holds(state, &logout) || gives_up {
            go(answered());
        }
    }

    /// Whether what was seen of the rows suffices by now.
    pub fn holds(&self, state: &State, logout: &Logout) -> bool {
        let at = usize::from(logout.at);
        (0..self.config.replicas()).all(|replica| {
            let lease_of = match self.breaks(Break::LeaseOfRevoker) {
                true => at,
                false => replica,
            };
            logout.behind & 1 << replica == 0
                || self.rules.has_lapsed(at, lease_of, logout.waited)
                || self.breaks(Break::LeaseInDatabaseClock) && state.misfortune
        })
    }

    /// Looks at a row, and later deletes it if nothing has moved.
    pub fn reaper(&self, state: &State, number: usize, found: &mut Vec<State>) {
        let reaper = state.reapers[number];
        if reaper.row == 0 {
            for (row, replica) in state.replicas.iter().enumerate() {
                if replica.row > 0 {
                    let mut next = *state;
                    next.reapers[number] = Reaper {
                        row: narrow(row) + 1,
                        age: 0,
                        beat: replica.beat,
                        decided: false,
                    };
                    found.push(next);
                }
            }
            return;
        }
        let row = usize::from(reaper.row - 1);
        let there = &state.replicas[row];
        // Of beats that are counted, three is three or more.
        let unchanged = there.row > 0 && there.beat == reaper.beat && there.beat < 3;
        let has_died =
            self.rules.has_died(row, reaper.age) || self.breaks(Break::ReaperByWallClock);
        if reaper.decided || unchanged && has_died && !self.breaks(Break::ReaperIgnoresBeat) {
            let mut next = *state;
            delete_row(&mut next, row);
            next.reapers[number] = Reaper::default();
            found.push(next);
            return;
        }
        let mut next = *state;
        next.reapers[number] = match unchanged && has_died {
            true => Reaper {
                decided: true,
                age: 0,
                ..reaper
            },
            false => Reaper::default(),
        };
        found.push(next);
    }
}

/// A process that is no more, with its row if it still has one.
fn ended(state: &State, number: usize, row: u8) -> State {
    let mut next = *state;
    if row == 0 {
        delete_row(&mut next, number);
    }
    let replica = &mut next.replicas[number];
    *replica = Replica {
        phase: Phase::Down,
        trust: TOO_OLD,
        row: replica.row,
        beat: replica.beat,
        ..Replica::default()
    };
    for logout in &mut next.logouts {
        if usize::from(logout.at) != number {
            continue;
        }
        match logout.stage {
            Stage::NotAsked | Stage::Answered | Stage::Lost | Stage::Orphaned => {}
            Stage::Sent => {
                *logout = Logout {
                    stage: Stage::Orphaned,
                    ..Logout::default()
                }
            }
            _ => *logout = lost(),
        }
    }
    if next.request > 0 && of_request(next.request).0 == number {
        next.request = 0;
    }
    next
}

fn delete_row(state: &mut State, number: usize) {
    let replica = &mut state.replicas[number];
    let counts_beats = replica.beat > 0;
    (replica.row, replica.beat) = (0, 0);
    for reaper in &mut state.reapers {
        if usize::from(reaper.row) == number + 1 && !reaper.decided && !counts_beats {
            *reaper = Reaper::default();
        }
    }
}

fn answered() -> Logout {
    Logout {
        stage: Stage::Answered,
        ..Logout::default()
    }
}

fn lost() -> Logout {
    Logout {
        stage: Stage::Lost,
        ..Logout::default()
    }
}

/// The sequence that a reader of these takes itself to be at.
fn last(read: u8) -> u8 {
    narrow(8 - read.leading_zeros() as usize)
}

/// What the deadline moves by.
fn trusting(replica: Replica, phase: Phase) -> Replica {
    let mut next = idle(replica);
    next.phase = phase;
    if replica.renews {
        next.trust = replica.started;
    }
    next
}

fn idle(replica: Replica) -> Replica {
    Replica {
        phase: Phase::Idle,
        started: 0,
        renews: false,
        read: 0,
        ..replica
    }
}
