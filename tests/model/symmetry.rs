//! Replicas that are configured alike may change names, and so may logouts that are alike: one of the states that differ in
//! names only stands for all of them.

use crate::fleet::Config;
use crate::state::{LOGOUTS, Stage, State, narrow, of_request, request};

/// Which names do not matter.
pub struct Symmetry {
    replicas: Option<usize>,
    logouts: Option<Logouts>,
}

#[derive(Clone, Copy)]
enum Logouts {
    /// Of one session each.
    Apart(usize),
    /// All of the same session.
    Together(usize),
}

impl Symmetry {
    /// A broken rule is told as a story, and there names stay.
    pub fn of(config: &Config) -> Self {
        if config.broken.is_some() {
            return Self::none();
        }
        let count = config.replicas();
        let alike = config.outdated.is_empty()
            && config.leases[..count]
                .iter()
                .all(|lease| *lease == config.leases[0])
            && config.rates[..count]
                .iter()
                .all(|rate| *rate == config.rates[0]);
        let asked = &config.logouts;
        let same_kind = asked.iter().all(|one| one.by_handle == asked[0].by_handle);
        let together = asked.iter().all(|one| one.session == asked[0].session);
        let apart = asked
            .iter()
            .enumerate()
            .all(|(number, one)| usize::from(one.session) == number);
        Self {
            replicas: alike.then_some(count),
            logouts: match (same_kind, together, apart) {
                (true, true, _) => Some(Logouts::Together(asked.len())),
                (true, _, true) => Some(Logouts::Apart(asked.len())),
                _ => None,
            },
        }
    }

    pub fn none() -> Self {
        Self {
            replicas: None,
            logouts: None,
        }
    }

    pub fn canonical(&self, mut state: State) -> State {
        if let Some(logouts) = self.logouts {
            let (Logouts::Apart(count) | Logouts::Together(count)) = logouts;
            for &(a, b) in pairs(count) {
                if logout_rank(&state, a) > logout_rank(&state, b) {
                    swap_logouts(&mut state, a, b, matches!(logouts, Logouts::Apart(_)));
                }
            }
        }
        if let Some(count) = self.replicas {
            for &(a, b) in pairs(count) {
                if replica_rank(&state, a) > replica_rank(&state, b) {
                    swap_replicas(&mut state, a, b);
                }
            }
        }
        state
    }
}

/// Whom to compare with whom, in order, to sort so many.
fn pairs(count: usize) -> &'static [(usize, usize)] {
    match count {
        0 | 1 => &[],
        2 => &[(0, 1)],
        _ => &[(0, 1), (1, 2), (0, 1)],
    }
}

/// Without what names a replica.
fn logout_rank(state: &State, number: usize) -> (u8, u8, u8) {
    let logout = &state.logouts[number];
    (logout.stage as u8, logout.sequence, logout.waited)
}

fn replica_rank(state: &State, number: usize) -> (u64, u8) {
    let mut asked = 0;
    for (logout, there) in state.logouts.iter().enumerate() {
        if is_somewhere(there.stage) && usize::from(there.at) == number {
            asked |= 1 << logout;
        }
    }
    (state.replicas[number].bits(), asked)
}

fn swap_replicas(state: &mut State, a: usize, b: usize) {
    state.replicas.swap(a, b);
    for logout in &mut state.logouts {
        if is_somewhere(logout.stage) {
            logout.at = narrow(swapped(usize::from(logout.at), a, b));
        }
        logout.behind = swap_bits(logout.behind, a, b);
    }
    for reaper in &mut state.reapers {
        if reaper.row > 0 {
            reaper.row = 1 + narrow(swapped(usize::from(reaper.row - 1), a, b));
        }
    }
    if state.request > 0 && state.request != crate::state::SERVED {
        let (replica, session) = of_request(state.request);
        state.request = request(swapped(replica, a, b), session);
    }
}

fn swap_logouts(state: &mut State, a: usize, b: usize, and_sessions: bool) {
    state.logouts.swap(a, b);
    if !and_sessions {
        return;
    }
    for replica in &mut state.replicas {
        replica.set = swap_bits(replica.set, a, b);
    }
    for entry in &mut state.log {
        if *entry > 0 {
            *entry = 1 + narrow(swapped(usize::from(*entry - 1), a, b));
        }
    }
    if state.request > 0 && state.request != crate::state::SERVED {
        let (replica, session) = of_request(state.request);
        state.request = request(replica, narrow(swapped(usize::from(session), a, b)));
    }
}

fn is_somewhere(stage: Stage) -> bool {
    !matches!(
        stage,
        Stage::NotAsked | Stage::Answered | Stage::Lost | Stage::Orphaned
    )
}

fn swapped(number: usize, a: usize, b: usize) -> usize {
    match number {
        _ if number == a => b,
        _ if number == b => a,
        _ => number,
    }
}

fn swap_bits(mask: u8, a: usize, b: usize) -> u8 {
    let mut swapped_mask = 0;
    for bit in 0..LOGOUTS {
        if mask & 1 << bit != 0 {
            swapped_mask |= 1 << swapped(bit, a, b);
        }
    }
    swapped_mask
}
