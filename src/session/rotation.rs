//! Rotate, repeat, theft or over? A pure decision on what the store has, what was presented, and the time.
//!
//! Refresh tokens of a session are numbered by generation and each is derived from the one before, so "which token was
//! presented" is a number. A token that comes back is a lost answer or a thief; the difference is whether its successor
//! was used: by someone who refreshed with it or who showed its access token.

use std::time::Duration;

use crate::clock::Timestamp;

/// What the store knows of a session's refresh tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The newest token; 0 is the login's.
    pub generation: u32,
    /// When the newest token was first used by way of its access token; a refresh with it makes a newer one.
    pub used_at: Option<Timestamp>,
    /// When the token before the newest was first used, either way.
    pub predecessor_used_at: Option<Timestamp>,
    /// The session is over unless refreshed before.
    pub idle_expires_at: Timestamp,
    /// The session is over then in any case.
    pub expires_at: Timestamp,
}

impl Lineage {
    /// Of a session that begins now.
    pub fn begin(now: Timestamp, idle: Duration, absolute: Duration) -> Self {
        let expires_at = now + absolute;
        Self {
            generation: 0,
            used_at: None,
            predecessor_used_at: None,
            idle_expires_at: expires_at.min(now + idle),
            expires_at,
        }
    }

    /// After the newest token was exchanged for its successor.
    pub fn rotated(self, now: Timestamp, idle: Duration) -> Self {
        Self {
            generation: self.generation + 1,
            used_at: None,
            predecessor_used_at: Some(self.used_at.unwrap_or(now)),
            idle_expires_at: self.expires_at.min(now + idle),
            expires_at: self.expires_at,
        }
    }

    /// Why the session ended by itself, if it did.
    pub fn over(&self, now: Timestamp) -> Option<OverReason> {
        if now >= self.expires_at {
            Some(OverReason::Absolute)
        } else if now >= self.idle_expires_at {
            Some(OverReason::Idle)
        } else {
            None
        }
    }

    /// When the successor of `generation` was first used, as far back as is known.
    fn successor_of(&self, generation: u32) -> Successor {
        match self.generation - generation {
            1 => self.used_at.map_or(Successor::Unused, Successor::UsedAt),
            2 => self
                .predecessor_used_at
                .map_or(Successor::UsedLongAgo, Successor::UsedAt),
            _ => Successor::UsedLongAgo,
        }
    }
}

enum Successor {
    Unused,
    UsedAt(Timestamp),
    UsedLongAgo,
}

/// What a presented refresh token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is the newest: exchange it for its successor.
    Rotate,
    /// It was exchanged before, and may come again: hand out the newest once more, `steps` derivations after it.
    Repeat { steps: u32 },
    /// Its successor was used, and not just now: someone else has it too.
    Theft,
    /// The session has ended by itself.
    Over(OverReason),
    /// The store never issued it: the store is older than the token (restored from a backup).
    Unknown,
}

/// Why a session ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverReason {
    /// Not refreshed for the idle lifetime.
    Idle,
    /// As old as a session can get.
    Absolute,
}

/// Decides on the token of `generation`, presented now.
pub fn decide(
    lineage: &Lineage,
    generation: u32,
    now: Timestamp,
    reuse_grace: Duration,
) -> Decision {
    if let Some(reason) = lineage.over(now) {
        return Decision::Over(reason);
    }
    if generation > lineage.generation {
        return Decision::Unknown;
    }
    if generation == lineage.generation {
        return Decision::Rotate;
    }
    let steps = lineage.generation - generation;
    match lineage.successor_of(generation) {
        Successor::Unused => Decision::Repeat { steps },
        Successor::UsedAt(at) if now < at + reuse_grace => Decision::Repeat { steps },
        Successor::UsedAt(_) | Successor::UsedLongAgo => Decision::Theft,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::{Just, Strategy, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::{Decision, Lineage, OverReason, decide};
    use crate::clock::Timestamp;

    const GRACE: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(1_000);
    const ABSOLUTE: Duration = Duration::from_secs(10_000);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn lineage(generation: u32, used_at: Option<i64>, predecessor_used_at: Option<i64>) -> Lineage {
        Lineage {
            generation,
            used_at: used_at.map(at),
            predecessor_used_at: predecessor_used_at.map(at),
            idle_expires_at: at(1_000),
            expires_at: at(10_000),
        }
    }

    #[test]
    fn table() {
        let cases = [
            (
                "the newest is exchanged",
                lineage(0, None, None),
                0,
                10,
                Decision::Rotate,
            ),
            (
                "the newest is exchanged though its access token was used",
                lineage(3, Some(5), Some(1)),
                3,
                999,
                Decision::Rotate,
            ),
            (
                "a lost answer comes again",
                lineage(1, None, Some(10)),
                0,
                11,
                Decision::Repeat { steps: 1 },
            ),
            (
                "a lost answer comes again, however late",
                lineage(1, None, Some(10)),
                0,
                999,
                Decision::Repeat { steps: 1 },
            ),
            (
                "within the grace after the successor's access token was used",
                lineage(1, Some(20), Some(10)),
                0,
                49,
                Decision::Repeat { steps: 1 },
            ),
            (
                "after the grace it is theft",
                lineage(1, Some(20), Some(10)),
                0,
                50,
                Decision::Theft,
            ),
            (
                "within the grace after a refresh with the successor",
                lineage(2, None, Some(20)),
                0,
                49,
                Decision::Repeat { steps: 2 },
            ),
            (
                "after the grace that follows a refresh with the successor",
                lineage(2, None, Some(20)),
                0,
                50,
                Decision::Theft,
            ),
            (
                "older than that is theft at once",
                lineage(3, None, Some(20)),
                0,
                20,
                Decision::Theft,
            ),
            (
                "idle for too long",
                lineage(0, None, None),
                0,
                1_000,
                Decision::Over(OverReason::Idle),
            ),
            (
                "theft of what is over is over",
                lineage(5, None, None),
                0,
                1_000,
                Decision::Over(OverReason::Idle),
            ),
            (
                "newer than the store",
                lineage(1, None, None),
                2,
                10,
                Decision::Unknown,
            ),
        ];
        for (what, lineage, generation, now, expected) in cases {
            assert_eq!(
                decide(&lineage, generation, at(now), GRACE),
                expected,
                "{what}"
            );
        }
    }

    #[test]
    fn the_absolute_end_is_not_moved_by_rotation() {
        let mut lineage = Lineage::begin(at(0), IDLE, ABSOLUTE);
        for secs in (900..10_000).step_by(900) {
            assert_eq!(
                decide(&lineage, lineage.generation, at(secs), GRACE),
                Decision::Rotate
            );
            lineage = lineage.rotated(at(secs), IDLE);
            assert!(lineage.idle_expires_at <= lineage.expires_at);
        }
        assert_eq!(
            decide(&lineage, lineage.generation, at(10_000), GRACE),
            Decision::Over(OverReason::Absolute)
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// Somebody refreshes with the token of this many generations ago.
        Refresh {
            back: u32,
        },
        /// The newest access token is shown.
        Use,
        Wait {
            secs: i64,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..4_u32).prop_map(|back| Step::Refresh { back }),
            Just(Step::Use),
            (0..40_i64).prop_map(|secs| Step::Wait { secs }),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Against a memory of every first use: a token is theft only if its successor was used, and always once the
        /// grace after that use has passed.
        #[test]
        fn theft_means_that_the_successor_was_used(steps in steps()) {
            let mut now = at(0);
            let mut lineage = Lineage::begin(now, IDLE * 100, ABSOLUTE * 100);
            let mut first_use: Vec<Option<Timestamp>> = vec![None];
            for step in steps {
                match step {
                    Step::Wait { secs } => now = now + Duration::from_secs(secs.unsigned_abs()),
                    Step::Use => {
                        lineage.used_at.get_or_insert(now);
                        first_use.last_mut().unwrap().get_or_insert(now);
                    }
                    Step::Refresh { back } => {
                        let generation = lineage.generation.saturating_sub(back);
                        let successor = first_use.get(generation as usize + 1).copied();
                        match decide(&lineage, generation, now, GRACE) {
                            Decision::Rotate => {
                                prop_assert_eq!(generation, lineage.generation);
                                first_use.last_mut().unwrap().get_or_insert(now);
                                first_use.push(None);
                                lineage = lineage.rotated(now, IDLE * 100);
                            }
                            Decision::Repeat { steps } => {
                                prop_assert_eq!(generation + steps, lineage.generation);
                                let successor = successor.unwrap();
                                prop_assert!(successor.is_none_or(|used| now < used + GRACE));
                            }
                            Decision::Theft => {
                                let used = successor.unwrap();
                                prop_assert!(used.is_some());
                                prop_assert!(now >= used.unwrap() + GRACE || lineage.generation - generation > 2);
                            }
                            Decision::Over(_) | Decision::Unknown => prop_assert!(false, "neither happens here"),
                        }
                    }
                }
            }
        }
    }
}
