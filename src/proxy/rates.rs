//! How often a client may log in, refresh and log out: what costs the store, or the application's password check.
//!
//! The generic cell rate algorithm by `governor`: a rate, and a burst of ten seconds' worth for those who were quiet. Counted per
//! address (of IPv6 per /64) over all workers, and logouts per session as well, since a session that has ended can be ended again
//! by whoever holds its token. What is remembered is bounded: addresses that were quiet are forgotten, and when too many are busy at
//! once, further ones are let through uncounted, because a limit per address does not help against those.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::listener::block_of;
use super::rejection::Rejection;
use crate::clock::Clock;
use crate::session::SessionHandle;

/// Settings of this module: requests per second; `None`: as many as come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateSettings {
    pub login: Option<NonZeroU32>,
    pub refresh: Option<NonZeroU32>,
    pub logout: Option<NonZeroU32>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Login,
    Refresh,
    Logout,
}

/// The counts of all workers; cheap to clone.
#[derive(Clone)]
pub struct Rates(Arc<Shared>);

struct Shared {
    settings: RateSettings,
    login: Option<PerKey<IpAddr>>,
    refresh: Option<PerKey<IpAddr>>,
    logout: Option<PerKey<IpAddr>>,
    logout_of_session: PerKey<SessionHandle>,
}

impl Rates {
    pub fn new(settings: RateSettings, clock: &Clock) -> Self {
        let per_address = |rate: Option<NonZeroU32>| {
            rate.map(|rate| PerKey::new(with_burst(rate), clock.clone()))
        };
        let of_session = Quota::per_minute(LOGOUTS_OF_SESSION);
        Self(Arc::new(Shared {
            settings,
            login: per_address(settings.login),
            refresh: per_address(settings.refresh),
            logout: per_address(settings.logout),
            logout_of_session: PerKey::new(of_session, clock.clone()),
        }))
    }

    /// The same counts if the rates are the same, and new ones if not.
    #[must_use]
    pub fn with_settings(&self, settings: RateSettings, clock: &Clock) -> Self {
        match settings == self.0.settings {
            true => self.clone(),
            false => Self::new(settings, clock),
        }
    }

    /// Counts a request of this address, or refuses it.
    pub fn count(&self, what: Counted, client: IpAddr) -> Result<(), Rejection> {
        let counts = match what {
            Counted::Login => &self.0.login,
            Counted::Refresh => &self.0.refresh,
            Counted::Logout => &self.0.logout,
        };
        counts
            .as_ref()
            .map_or(Ok(()), |counts| counts.count(&block_of(client)))
    }

    /// Counts a logout of this session, or refuses it.
    pub fn count_logout(&self, session: SessionHandle) -> Result<(), Rejection> {
        self.0.logout_of_session.count(&session)
    }
}

impl std::fmt::Debug for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

fn with_burst(rate: NonZeroU32) -> Quota {
    let burst = rate.saturating_mul(BURST_SECONDS);
    Quota::per_second(rate).allow_burst(burst)
}

struct PerKey<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, BootClock, NoOpMiddleware<Nanos>>,
    /// When those that were quiet may be forgotten again, in nanoseconds of the clock: looking for them takes a while.
    next_sweep: AtomicU64,
}

impl<K: Hash + Eq + Clone> PerKey<K> {
    fn new(quota: Quota, clock: Clock) -> Self {
        Self {
            limiter: RateLimiter::new(quota, HashMapStateStore::default(), BootClock(clock)),
            next_sweep: AtomicU64::new(0),
        }
    }

    fn count(&self, key: &K) -> Result<(), Rejection> {
        if self.limiter.len() >= MOST_KEYS && !self.makes_room() {
            return Ok(());
        }
        self.limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.limiter.clock().now());
            Rejection::TooManyRequests {
                retry_after: wait.max(Duration::from_secs(1)),
            }
        })
    }
}

impl<K: Hash + Eq + Clone> PerKey<K> {
    fn makes_room(&self) -> bool {
        let now = self.limiter.clock().now().as_u64();
        let due = self.next_sweep.load(Ordering::Relaxed);
        let after = now.saturating_add(SWEEP_PAUSE.as_u64());
        let is_mine = now >= due
            && self
                .next_sweep
                .compare_exchange(due, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_mine {
            self.limiter.retain_recent();
        }
        self.limiter.len() < MOST_KEYS
    }
}

/// The gateway's clock, as `governor` reads it.
#[derive(Clone, Debug)]
struct BootClock(Clock);

impl GovernorClock for BootClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.boot().as_nanos())
    }
}

/// For those who were quiet.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(10).expect("not zero");

/// Of one session in a minute: a client that repeats a lost answer a few times, and no loop.
const LOGOUTS_OF_SESSION: NonZeroU32 = NonZeroU32::new(30).expect("not zero");

/// Between two looks for those that were quiet.
const SWEEP_PAUSE: Nanos = Nanos::new(1_000_000_000);

/// Addresses or sessions that are remembered at once.
const MOST_KEYS: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::{Counted, MOST_KEYS, RateSettings, Rates};
    use crate::clock::Clock;
    use crate::proxy::Rejection;
    use crate::session::SessionHandle;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn two_logins_per_second(clock: &Clock) -> Rates {
        let settings = RateSettings {
            login: NonZeroU32::new(2),
            ..RateSettings::default()
        };
        Rates::new(settings, clock)
    }

    fn allowed(rates: &Rates, client: IpAddr) -> usize {
        (0..1000)
            .take_while(|_| rates.count(Counted::Login, client).is_ok())
            .count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (clock, hands) = Clock::adjustable();
        let rates = two_logins_per_second(&clock);
        assert_eq!(allowed(&rates, HERE), 20);
        let Err(Rejection::TooManyRequests { retry_after }) = rates.count(Counted::Login, HERE)
        else {
            panic!("it is refused");
        };
        assert_eq!(retry_after, Duration::from_secs(1));
        assert_eq!(
            allowed(&rates, "192.0.2.1".parse().unwrap()),
            20,
            "another one"
        );
        assert!(rates.count(Counted::Refresh, HERE).is_ok(), "no limit");
        hands.advance_boot(Duration::from_secs(3));
        assert_eq!(allowed(&rates, HERE), 6);
    }

    #[test]
    fn neighbours_of_a_network_count_together() {
        let (clock, _hands) = Clock::adjustable();
        let rates = two_logins_per_second(&clock);
        assert_eq!(allowed(&rates, "2001:db8::1".parse().unwrap()), 20);
        assert_eq!(allowed(&rates, "2001:db8::ffff:2".parse().unwrap()), 0);
        assert_eq!(allowed(&rates, "2001:db8:0:1::1".parse().unwrap()), 20);
    }

    #[test]
    fn a_session_is_ended_a_few_times() {
        let (clock, _hands) = Clock::adjustable();
        let rates = two_logins_per_second(&clock);
        let session = SessionHandle::random();
        let ended = (0..100).take_while(|_| rates.count_logout(session).is_ok());
        assert_eq!(ended.count(), 30);
        assert!(rates.count_logout(SessionHandle::random()).is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (clock, hands) = Clock::adjustable();
        let rates = two_logins_per_second(&clock);
        for number in 0..2 * u32::try_from(MOST_KEYS).unwrap() {
            let address = Ipv4Addr::from_bits(number);
            assert!(rates.count(Counted::Login, address.into()).is_ok());
        }
        let counts = rates.0.login.as_ref().unwrap();
        // Fewer if that took so long that the first were forgotten meanwhile.
        assert!((1..=MOST_KEYS).contains(&counts.limiter.len()));
        hands.advance_boot(Duration::from_secs(60));
        assert!(rates.count(Counted::Login, HERE).is_ok());
        assert_eq!(counts.limiter.len(), 1, "the quiet ones are forgotten");
    }
}
