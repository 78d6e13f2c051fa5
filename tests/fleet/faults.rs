//! What befalls a fleet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::fleet::Fleet;
use crate::support::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A way to the database that is slow, within what a round may take.
    SlowLink,
    /// One that is too slow for any round.
    VerySlowLink,
    /// One whose connections end and are not taken any more.
    CutLink,
    /// One whose connections end in one direction.
    HalfClosedLink,
    /// One that swallows everything, for less or more than a lease.
    FrozenLink,
    /// A process that stands still, for less or more than a lease, and goes on.
    PausedReplica,
    KilledReplica,
    StoppedReplica,
    RestartedDatabase,
    KilledDatabase,
    FrozenDatabase,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::SlowLink,
        Self::VerySlowLink,
        Self::CutLink,
        Self::HalfClosedLink,
        Self::FrozenLink,
        Self::PausedReplica,
        Self::KilledReplica,
        Self::StoppedReplica,
        Self::RestartedDatabase,
        Self::KilledDatabase,
        Self::FrozenDatabase,
    ];

    /// Happens, lasts, and is undone.
    fn befall(self, fleet: &Fleet, random: &mut Random) {
        let replica = fleet.replica(random.below(fleet.replicas().len()));
        let link = &replica.link;
        let a_while = Duration::from_millis(random.between(300, 2_600));
        match self {
            Self::SlowLink => {
                link.delay(Duration::from_millis(random.between(5, 80)));
                thread::sleep(a_while);
                link.heal();
            }
            Self::VerySlowLink => {
                link.delay(Duration::from_millis(random.between(200, 600)));
                thread::sleep(a_while);
                link.heal();
            }
            Self::CutLink => {
                link.cut();
                thread::sleep(a_while);
                link.heal();
            }
            Self::HalfClosedLink => link.half_close(),
            Self::FrozenLink => {
                link.freeze();
                thread::sleep(a_while);
                link.heal();
            }
            Self::PausedReplica => {
                replica.pause();
                thread::sleep(a_while);
                replica.resume();
            }
            Self::KilledReplica => {
                replica.kill();
                replica.start();
            }
            Self::StoppedReplica => {
                replica.stop();
                replica.start();
            }
            Self::RestartedDatabase => fleet.server().restart(fleet.runtime.handle()),
            Self::KilledDatabase => fleet.server().kill_and_start(fleet.runtime.handle()),
            Self::FrozenDatabase => {
                fleet.server().freeze();
                thread::sleep(a_while);
                fleet.server().thaw();
            }
        }
    }
}

/// One after the other, each at least once and all equally often, until it is `over`; how often each happened.
pub fn befall(
    fleet: &Fleet,
    random: &Random,
    over: &AtomicBool,
    each_has_been: &AtomicBool,
) -> BTreeMap<Fault, u32> {
    let mut random = random.fork(0x000f_a017);
    let _end = LetGo(each_has_been);
    let mut counts = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        let mut faults = Fault::ALL;
        random.shuffle(&mut faults);
        for fault in faults {
            if over.load(Ordering::Relaxed) {
                break;
            }
            fault.befall(fleet, &mut random);
            *counts.entry(fault).or_default() += 1;
            thread::sleep(Duration::from_millis(random.between(100, 700)));
        }
        each_has_been.store(counts.len() == Fault::ALL.len(), Ordering::Relaxed);
    }
    counts
}

/// Nobody waits for the faults of a thread that has died.
struct LetGo<'a>(&'a AtomicBool);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
