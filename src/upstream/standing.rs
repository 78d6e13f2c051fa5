//! Whether a server gets requests: what its last answers and the health checks say. Shared by all workers through atomics.
//!
//! A server that fails several times in a row is ejected: left alone for a time that grows with each ejection and is bounded.
//! When the time is over it is on probation, the next failure ejects it again, and the first success ends that. Never are
//! more than half of an upstream's servers ejected, so one alone never is; and when none is left, all are tried (the balancing
//! does that): a refusal by the application is better than one by us.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::settings::EjectionSettings;
use crate::clock::BootTime;

/// The longest ejection.
pub const MAX_EJECTION: Duration = Duration::from_secs(300);

/// For how long a server is ejected that has just failed, if it is. `streak` counts its failures in a row with this one,
/// `before` its ejections in a row, `others_out` the other servers of `all` that are ejected now.
pub fn ejection(
    settings: EjectionSettings,
    streak: u32,
    before: u32,
    others_out: usize,
    all: usize,
) -> Option<Duration> {
    let is_bad = settings.failures > 0 && streak >= settings.failures;
    let leaves_half = others_out < all / 2;
    (is_bad && leaves_half).then(|| {
        settings
            .time
            .saturating_mul(before.saturating_add(1))
            .min(MAX_EJECTION)
    })
}

/// What is known of one server.
#[derive(Debug)]
pub struct Standing {
    passes_checks: AtomicBool,
    /// Failures in a row.
    streak: AtomicU32,
    /// Nanoseconds since boot; 0 if it was never ejected.
    ejected_until: AtomicU64,
    /// Ejections in a row.
    in_a_row: AtomicU32,
    /// Ejections since the start.
    ejections: AtomicU64,
}

impl Default for Standing {
    /// Good until something else is known.
    fn default() -> Self {
        Self {
            passes_checks: AtomicBool::new(true),
            streak: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            ejections: AtomicU64::new(0),
        }
    }
}

impl Standing {
    /// Whether it gets requests.
    pub fn is_in(&self, now: BootTime) -> bool {
        self.passes_checks() && !self.is_ejected(now)
    }

    pub fn is_ejected(&self, now: BootTime) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > now.as_nanos()
    }

    pub fn passes_checks(&self) -> bool {
        self.passes_checks.load(Ordering::Relaxed)
    }

    pub fn set_passes_checks(&self, passes: bool) {
        self.passes_checks.store(passes, Ordering::Relaxed);
    }

    /// Ejections since the start.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// It answered as a server that is well. Writes only if there is something to take back.
    pub fn succeeded(&self) {
        if self.streak.load(Ordering::Relaxed) > 0 {
            self.streak.store(0, Ordering::Relaxed);
            self.in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// It failed. Gives the time for which it is ejected, if this is what ejects it.
    pub fn failed(
        &self,
        settings: EjectionSettings,
        now: BootTime,
        others_out: usize,
        all: usize,
    ) -> Option<Duration> {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until > now.as_nanos() {
            return None;
        }
        let streak = self
            .streak
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1);
        let before = self.in_a_row.load(Ordering::Relaxed);
        let time = ejection(settings, streak, before, others_out, all)?;
        // Of workers that see it fail at once, one ejects it.
        self.ejected_until
            .compare_exchange(
                until,
                (now + time).as_nanos(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .ok()?;
        self.in_a_row
            .store(before.saturating_add(1), Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        // Probation: one more is enough.
        self.streak.store(
            settings.failures.saturating_sub(1).max(1),
            Ordering::Relaxed,
        );
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::prop;
    use proptest::{prop_assert, proptest};

    use super::{MAX_EJECTION, Standing, ejection};
    use crate::clock::BootTime;
    use crate::upstream::EjectionSettings;

    const SETTINGS: EjectionSettings = EjectionSettings {
        failures: 3,
        time: Duration::from_secs(10),
    };

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn the_decision() {
        let ten = Some(Duration::from_secs(10));
        for (streak, before, others_out, all, expected) in [
            (2, 0, 0, 4, None),
            (3, 0, 0, 4, ten),
            (9, 0, 0, 4, ten),
            (3, 0, 1, 4, ten),
            (3, 0, 2, 4, None),
            (3, 0, 0, 1, None),
            (3, 0, 0, 2, ten),
            (3, 0, 1, 2, None),
            (3, 0, 0, 3, ten),
            (3, 0, 1, 3, None),
            (3, 2, 0, 2, Some(Duration::from_secs(30))),
            (3, u32::MAX, 0, 2, Some(MAX_EJECTION)),
        ] {
            let time = ejection(SETTINGS, streak, before, others_out, all);
            assert_eq!(time, expected, "{streak} {before} {others_out} of {all}");
        }
        let never = EjectionSettings {
            failures: 0,
            ..SETTINGS
        };
        assert_eq!(ejection(never, u32::MAX, 0, 0, 4), None);
    }

    #[test]
    fn out_on_probation_out_for_longer_and_back() {
        let standing = Standing::default();
        let fail = |now| standing.failed(SETTINGS, now, 0, 2);
        assert_eq!((fail(at(100)), fail(at(100))), (None, None));
        assert!(standing.is_in(at(100)));
        assert_eq!(fail(at(100)), Some(Duration::from_secs(10)));
        assert!(!standing.is_in(at(109)));
        assert_eq!(fail(at(105)), None, "what was under way changes nothing");
        assert!(standing.is_in(at(110)));
        assert_eq!(fail(at(111)), Some(Duration::from_secs(20)));
        assert!(!standing.is_in(at(130)));
        assert!(standing.is_in(at(131)));
        standing.succeeded();
        assert_eq!(
            (fail(at(132)), fail(at(132)), fail(at(132))),
            (None, None, Some(Duration::from_secs(10)))
        );
        assert_eq!(standing.ejections(), 3);
    }

    #[test]
    fn health_checks_have_a_say_of_their_own() {
        let standing = Standing::default();
        standing.set_passes_checks(false);
        standing.succeeded();
        assert!(!standing.is_in(at(1)), "requests do not overrule them");
        standing.set_passes_checks(true);
        assert!(standing.is_in(at(1)));
    }

    proptest! {
        /// Whatever happens to whom and when.
        #[test]
        fn half_of_the_servers_stay(
            all in 1..9_usize,
            events in prop::collection::vec((0..9_usize, 0..4_u64, 0..5_u8), 0..400),
        ) {
            let servers: Vec<Standing> = (0..all).map(|_| Standing::default()).collect();
            let mut now = 1_000;
            for (server, passed, event) in events {
                now += passed;
                let server = server % all;
                if event == 0 {
                    servers[server].succeeded();
                } else {
                    let others_out = (0..all)
                        .filter(|other| *other != server && servers[*other].is_ejected(at(now)))
                        .count();
                    servers[server].failed(SETTINGS, at(now), others_out, all);
                }
                let out = servers.iter().filter(|server| server.is_ejected(at(now))).count();
                prop_assert!(out <= all / 2, "{out} of {all}");
                let far = at(now + MAX_EJECTION.as_secs());
                prop_assert!(servers.iter().all(|server| server.is_in(far)));
            }
        }
    }
}
