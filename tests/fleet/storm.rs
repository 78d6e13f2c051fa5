//! Many clients, every kind of logout, every fault, and a history that has to hold.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use portcullis::session::SessionHandle;

use crate::faults::{self, Fault};
use crate::support::clients::{Person, Session};
use crate::support::fleet::Fleet;
use crate::support::history::{Findings, History, Outcome};
use crate::support::process::eventually;
use crate::support::random::Random;

/// What to try.
#[derive(Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    /// At least so many.
    pub logouts: usize,
    pub faults: bool,
}

impl Plan {
    /// What the environment asks for, else what a test run has time for.
    pub fn of_environment() -> Self {
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
        Self {
            seed: number("PORTCULLIS_FLEET_SEED").unwrap_or(1),
            logouts: number("PORTCULLIS_FLEET_LOGOUTS")
                .map_or(500, |count| usize::try_from(count).unwrap()),
            faults: true,
        }
    }
}

/// What came of it.
pub struct Aftermath {
    pub findings: Findings,
    pub faults: BTreeMap<Fault, u32>,
    /// Sessions whose logout was answered, and whose rows were looked for.
    pub ended: usize,
}

const PEOPLE: u32 = 6;

/// Runs it, and lets the fleet recover.
pub fn run(fleet: &Fleet, plan: Plan) -> Aftermath {
    let random = Random::new(plan.seed);
    let done = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let each_has_been = AtomicBool::new(!plan.faults);
    let mut bystander = Person::new(fleet, &random, PEOPLE);
    let stays = bystander.log_in("bystander");
    let (mut people, faults) = thread::scope(|scope| {
        let faults = plan
            .faults
            .then(|| scope.spawn(|| faults::befall(fleet, &random, &over, &each_has_been)));
        let people: Vec<_> = (0..PEOPLE)
            .map(|number| {
                let (random, done, each_has_been) = (&random, &done, &each_has_been);
                scope.spawn(move || {
                    let mut person = Person::new(fleet, random, number);
                    while done.load(Ordering::Relaxed) < plan.logouts
                        || !each_has_been.load(Ordering::Relaxed)
                    {
                        person.live();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    person
                })
            })
            .collect();
        let people: Vec<Person<'_>> = people
            .into_iter()
            .map(|person| person.join().unwrap())
            .collect();
        over.store(true, Ordering::Relaxed);
        let faults = faults.map(|faults| faults.join().unwrap());
        (people, faults.unwrap_or_default())
    });
    fleet.recover();
    eventually("the bystander is served everywhere", || {
        bystander
            .look(&stays)
            .iter()
            .all(|outcome| *outcome == Outcome::Served)
    });
    thread::scope(|scope| {
        for person in &mut people {
            scope.spawn(|| {
                for session in person.ended.clone() {
                    person.look(&session);
                }
            });
        }
    });
    let mut history = History::default();
    let mut ended = Vec::new();
    for person in [bystander].into_iter().chain(people) {
        history.merge(person.history);
        ended.extend(person.ended);
    }
    assert_nothing_is_lost(fleet, &ended, &stays);
    Aftermath {
        findings: history.check(),
        faults,
        ended: ended.len(),
    }
}

/// What was answered is in the store, whatever happened since.
fn assert_nothing_is_lost(fleet: &Fleet, ended: &[Session], stays: &Session) {
    let store = fleet.server().open(fleet.runtime.handle());
    let there: HashSet<SessionHandle> = fleet.runtime.block_on(async {
        let (mut there, mut after) = (HashSet::new(), None);
        loop {
            let page = store.all_sessions(after, 500).await.unwrap();
            after = page.last().map(|session| session.handle);
            there.extend(page.iter().map(|session| session.handle));
            if after.is_none() {
                return there;
            }
        }
    });
    fleet.runtime.block_on(store.close());
    for session in ended {
        assert!(
            !there.contains(&session.handle().parse().unwrap()),
            "{session:?} is back"
        );
    }
    assert!(there.contains(&stays.handle().parse().unwrap()));
}
