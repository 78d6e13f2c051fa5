//! Which server gets a request: the less loaded of two that chance picks.
//!
//! The least loaded of all would get everything at once from workers that do not see each other; chance alone would not
//! notice a server that is slow. Two picks have most of the good of both (M. Mitzenmacher, "The power of two choices in
//! randomized load balancing", 2001).

/// The chosen one of `count` servers, or `None` if none is eligible. `random` is all the chance there is.
pub fn choose(
    count: usize,
    is_eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> usize,
    random: u64,
) -> Option<usize> {
    let eligible = || (0..count).filter(|server| is_eligible(*server));
    let among = eligible().count();
    let first = eligible().nth(below(random >> 32, among)?)?;
    let Some(second) = below(random & 0xffff_ffff, among - 1) else {
        return Some(first);
    };
    // Of the others.
    let second = eligible().filter(|server| *server != first).nth(second)?;
    Some(if load(second) < load(first) {
        second
    } else {
        first
    })
}

/// From 32 random bits an index below `bound`; none if there is none.
fn below(bits: u64, bound: usize) -> Option<usize> {
    let scaled = bits.checked_mul(u64::try_from(bound).ok()?)? >> 32;
    (bound > 0).then(|| usize::try_from(scaled).ok()).flatten()
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

    use super::{Dice, choose};

    proptest! {
        #[test]
        fn the_chosen_one_is_eligible_and_not_the_most_loaded(
            servers in prop::collection::vec((any::<bool>(), 0..50_usize), 0..64),
            random: u64,
        ) {
            let eligible: Vec<usize> = (0..servers.len()).filter(|at| servers[*at].0).collect();
            let chosen = choose(servers.len(), |at| servers[at].0, |at| servers[at].1, random);
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
                counts[choose(servers, |_| true, |_| 0, dice.roll()).unwrap()] += 1;
            }
            for count in &counts {
                assert!((9_400..10_600).contains(count), "{counts:?}");
            }
        }
    }

    #[test]
    fn one_that_is_slow_gets_less() {
        let dice = Dice::new([1; 8]);
        let mut counts = [0; 3];
        for _ in 0..30_000 {
            let load = |server: usize| usize::from(server == 2) * 10;
            counts[choose(3, |_| true, load, dice.roll()).unwrap()] += 1;
        }
        assert_eq!(counts[2], 0, "it lost to whichever it met: {counts:?}");
    }
}
