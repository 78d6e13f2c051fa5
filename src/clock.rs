//! Time, passed in.
//!
//! One [`Clock`] is made at start and handed to whoever needs the time; the operating system's clocks are read here and
//! nowhere else (clippy.toml forbids it). Two kinds of time are kept apart by type:
//!
//! - [`Timestamp`]: the wall clock, for what is stored, signed or shown. It may jump.
//! - [`BootTime`]: `CLOCK_BOOTTIME`, for leases. It never jumps and, unlike `CLOCK_MONOTONIC` (Rust's `Instant`), goes
//!   on while the machine is suspended, so that a replica that slept knows it.
//!
//! Tests turn the hands of a clock ([`Clock::adjustable`]) instead of sleeping.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The source of time; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    hands: Option<ClockHands>,
}

impl Clock {
    /// The operating system's clocks.
    pub fn system() -> Self {
        Self::default()
    }

    /// The operating system's clocks plus what the returned hands are turned by.
    pub fn adjustable() -> (Self, ClockHands) {
        let hands = ClockHands::default();
        (
            Self {
                hands: Some(hands.clone()),
            },
            hands,
        )
    }

    /// The wall clock, now.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    pub fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let offset = self
            .hands
            .as_ref()
            .map_or(0, |hands| hands.0.wall_ms.load(Ordering::Relaxed));
        Timestamp::from_millis(
            i64::try_from(since_epoch.as_millis())
                .unwrap_or(i64::MAX)
                .saturating_add(offset),
        )
    }

    /// Time since boot, suspend included, now.
    pub fn boot(&self) -> BootTime {
        let time = clock_gettime(ClockId::Boottime);
        let nanos = time
            .tv_sec
            .saturating_mul(1_000_000_000)
            .saturating_add(time.tv_nsec);
        let offset_ms = self
            .hands
            .as_ref()
            .map_or(0, |hands| hands.0.boot_ms.load(Ordering::Relaxed));
        BootTime(
            u64::try_from(nanos.saturating_add(offset_ms.saturating_mul(1_000_000))).unwrap_or(0),
        )
    }
}

/// Moves an adjustable clock.
#[derive(Clone, Debug, Default)]
pub struct ClockHands(Arc<Offsets>);

#[derive(Debug, Default)]
struct Offsets {
    wall_ms: AtomicI64,
    boot_ms: AtomicI64,
}

impl ClockHands {
    /// Turns the wall clock forward; leases do not notice.
    pub fn advance_wall(&self, by: Duration) {
        self.0.wall_ms.fetch_add(millis(by), Ordering::Relaxed);
    }

    /// Turns the wall clock back; leases do not notice.
    pub fn rewind_wall(&self, by: Duration) {
        self.0.wall_ms.fetch_sub(millis(by), Ordering::Relaxed);
    }

    /// Lets time since boot pass, as a suspend does; the wall clock does not notice.
    pub fn advance_boot(&self, by: Duration) {
        self.0.boot_ms.fetch_add(millis(by), Ordering::Relaxed);
    }
}

/// Wall-clock time in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, as the `NumericDate` of RFC 7519 section 2 counts.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same moment as the standard library and the HTTP date crates express it.
    pub fn to_system_time(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.0).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)))
    }
}

/// RFC 3339 in UTC, to the second.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_rfc3339_seconds(self.to_system_time()).fmt(f)
    }
}

/// Time since boot in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(u64);

impl BootTime {
    /// Before every reading of a clock.
    pub const ZERO: Self = Self(0);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
