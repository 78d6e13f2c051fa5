//! Which server gets a request: the less loaded of two that chance picks, each by its weight.
//!
//! The least loaded of all would get everything at once from workers that do not see each other; chance alone would not
//! notice a server that is slow. Two picks have most of the good of both (M. Mitzenmacher, "The power of two choices in
//! randomized load balancing", 2001).

/// A server that may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Requests under way.
    pub load: usize,
    /// Its share, compared with the others'; at least 1.
    pub weight: u32,
}

/// The chosen one of `count` servers, or `None` if none may be. `random` is all the chance there is.
pub fn choose(
    count: usize,
    candidate: impl Fn(usize) -> Option<Candidate>,
    random: u64,
) -> Option<usize> {
    let candidates = || (0..count).filter_map(|server| Some((server, candidate(server)?)));
    let shares: u64 = candidates().map(|(_, one)| u64::from(one.weight)).sum();
    let (first, one) = nth_share(candidates(), below(random >> 32, shares)?)?;
    let rest = shares.saturating_sub(u64::from(one.weight));
    let Some(share) = below(random & 0xffff_ffff, rest) else {
        return Some(first);
    };
    let others = candidates().filter(|(server, _)| *server != first);
    let (second, other) = nth_share(others, share)?;
    Some(match other.is_less_loaded_than(one) {
        true => second,
        false => first,
    })
}

impl Candidate {
    fn is_less_loaded_than(self, other: Self) -> bool {
        let scaled = |load: usize, weight: u32| load as u128 * u128::from(weight);
        scaled(self.load, other.weight) < scaled(other.load, self.weight)
    }
}

/// Whose share it is if the shares of all stand in a row.
fn nth_share(
    mut candidates: impl Iterator<Item = (usize, Candidate)>,
    mut share: u64,
) -> Option<(usize, Candidate)> {
    candidates.find(|(_, candidate)| {
        let weight = u64::from(candidate.weight);
        let is_here = share < weight;
        share = share.saturating_sub(weight);
        is_here
    })
}

/// From 32 random bits a number below `bound`; none if there is none.
fn below(bits: u64, bound: u64) -> Option<u64> {
    let scaled = bits.checked_mul(bound)? >> 32;
    (bound > 0).then_some(scaled)
}

/// Chance that is good enough to spread load, and nothing else (xorshift64*, G. Marsaglia and S. Vigna).
#[derive(Debug)]
pub(super) struct Dice(std::cell::Cell<u64>);

impl Dice {
    pub(super) fn new(seed: [u8; 8]) -> Self {
        Self(std::cell::Cell::new(u64::from_le_bytes(seed) | 1))
    }

    pub(super) fn roll(&self) -> u64 {
        let mut state = self.0.get();
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        self.0.set(state);
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop};
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::{Candidate, Dice, choose};

    proptest! {
        #[test]
        fn the_chosen_one_is_eligible_and_not_the_most_loaded(
            servers in prop::collection::vec((any::<bool>(), 0..50_usize), 0..64),
            random: u64,
        ) {
            let eligible: Vec<usize> = (0..servers.len()).filter(|at| servers[*at].0).collect();
            let candidate = |at: usize| {
                let (may, load) = servers[at];
                may.then_some(Candidate { load, weight: 7 })
            };
            let chosen = choose(servers.len(), candidate, random);
            prop_assert_eq!(chosen.is_none(), eligible.is_empty());
            if let Some(chosen) = chosen {
                prop_assert!(eligible.contains(&chosen));
                let loads = eligible.iter().map(|at| servers[*at].1);
                let is_alone_at_the_top =
                    loads.clone().filter(|load| *load >= servers[chosen].1).count() == 1;
                prop_assert!(eligible.len() == 1 || !is_alone_at_the_top);
            }
        }
    }

    #[test]
    fn equal_servers_get_equal_shares() {
        for servers in 1..=8_usize {
            let dice = Dice::new([7; 8]);
            let mut counts = vec![0_usize; servers];
            for _ in 0..servers * 10_000 {
                let idle = |_| Some(Candidate { load: 0, weight: 1 });
                counts[choose(servers, idle, dice.roll()).unwrap()] += 1;
            }
            for count in &counts {
                assert!((9_400..10_600).contains(count), "{counts:?}");
            }
        }
    }

    /// While nothing is under way by chance, and by the load when there is some: each is as loaded as its weight allows.
    #[test]
    fn shares_go_by_weight() {
        let weights = [1, 2, 5];
        let dice = Dice::new([3; 8]);
        let mut counts = [0_usize; 3];
        for _ in 0..80_000 {
            let idle = |server: usize| {
                Some(Candidate {
                    load: 0,
                    weight: weights[server],
                })
            };
            counts[choose(3, idle, dice.roll()).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            let fair = 10_000 * weight as usize;
            assert!(count.abs_diff(fair) < 1_000, "{counts:?}");
        }
        let mut loads = [0_usize; 3];
        for _ in 0..800 {
            let candidate = |server: usize| {
                Some(Candidate {
                    load: loads[server],
                    weight: weights[server],
                })
            };
            loads[choose(3, candidate, dice.roll()).unwrap()] += 1;
        }
        for (load, weight) in loads.iter().zip(weights) {
            assert!(load.abs_diff(100 * weight as usize) < 20, "{loads:?}");
        }
    }

    #[test]
    fn one_that_is_slow_gets_less() {
        let dice = Dice::new([1; 8]);
        let mut counts = [0; 3];
        for _ in 0..30_000 {
            let candidate = |server: usize| {
                let load = usize::from(server == 2) * 10;
                Some(Candidate { load, weight: 1 })
            };
            counts[choose(3, candidate, dice.roll()).unwrap()] += 1;
        }
        assert_eq!(counts[2], 0, "it lost to whichever it met: {counts:?}");
    }
}
