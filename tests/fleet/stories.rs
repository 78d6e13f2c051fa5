//! One fault at a time, with what must come of it.

use std::thread;
use std::time::Duration;

use portcullis::clock::Clock;

use crate::support::client::Client;
use crate::support::clients::{Ending, Person, Session, outcome};
use crate::support::fleet::{Fleet, LEASE, Settings};
use crate::support::history::Outcome;
use crate::support::outsider::Outsider;
use crate::support::process::{eventually, within};
use crate::support::random::Random;
use crate::support::server::Kind;

type Story = fn(&Fleet, &mut Person<'_>);

/// All of them, on one fleet, which is whole again after each.
pub fn all(kind: Kind) {
    let fleet = Fleet::start(kind, Settings::default());
    let stories: [(&str, Story); 8] = [
        ("cut off", a_replica_that_is_cut_off_answers_503_and_heals),
        ("reads", a_replica_without_a_lease_reads_the_store),
        ("held head", a_held_head_delays_logouts_and_no_lease),
        (
            "killed",
            a_logout_whose_replica_dies_before_it_answers_holds_elsewhere,
        ),
        ("paused", a_replica_that_stood_still_trusts_nothing),
        ("reaped", a_replica_that_was_reaped_comes_back),
        (
            "logins",
            logins_beside_a_revocation_of_their_user_live_or_not_but_never_half,
        ),
        ("twice", of_two_logouts_of_one_session_neither_answers_early),
    ];
    for (number, (name, story)) in stories.into_iter().enumerate() {
        let mut person = Person::new(&fleet, &Random::new(7), u32::try_from(number).unwrap());
        story(&fleet, &mut person);
        fleet.recover();
        for session in person.ended.clone() {
            person.look(&session);
        }
        let findings = person.history.check();
        assert!(findings.violations.is_empty(), "{name}: {findings}");
        assert!(findings.mistaken.is_empty(), "{name}: {findings}");
    }
}

/// Public pages go on, the load balancer is told, nobody's session ends by it, and logouts elsewhere wait for one lease.
fn a_replica_that_is_cut_off_answers_503_and_heals(fleet: &Fleet, person: &mut Person<'_>) {
    let far = fleet.replica(2);
    for (round, how) in ["cut", "frozen"].into_iter().enumerate() {
        let stays = person.log_in("stays");
        let goes = person.log_in("goes");
        assert_eq!(person.look(&stays), [Outcome::Served; 3]);
        match how {
            "cut" => far.link.cut(),
            _ => far.link.freeze(),
        }
        assert_eq!(
            person.look_at(2, &stays),
            Outcome::Served,
            "within its lease, memory is enough"
        );
        let took =
            person.end_under_watch(std::slice::from_ref(&goes), Ending::Logout, 1, Some(round));
        assert!(took < LEASE * 4, "{how}: a logout took {took:?}");
        eventually("protected pages are unavailable", || {
            person.look_at(2, &stays) == Outcome::Unavailable
        });
        let readiness = far.readiness().unwrap();
        assert_eq!(readiness.status, 503, "{how}");
        assert!(
            readiness.body.contains("lease"),
            "{how}: {}",
            readiness.body
        );
        let public = Client::default().get(far.address(), "/public/page", "");
        assert_eq!(public.unwrap().status, 200, "{how}");
        assert_ne!(person.look_at(2, &goes), Outcome::Served);
        assert_eq!(person.look_at(0, &stays), Outcome::Served);
        for _ in 0..200 {
            let outcome = person.look_at(2, &stays);
            assert_eq!(outcome, Outcome::Unavailable, "{how}");
        }
        far.link.heal();
        eventually("it heals by itself", || {
            far.is_ready() && person.look_at(2, &stays) == Outcome::Served
        });
        assert_eq!(person.look_at(2, &goes), Outcome::Refused);
    }
    let told = far.log().matches("request failed").count();
    assert!((1..10).contains(&told), "{told} lines for 400 requests");
}

/// Its row cannot be written, so it has no lease; the store can be read, so it serves.
fn a_replica_without_a_lease_reads_the_store(fleet: &Fleet, person: &mut Person<'_>) {
    let (stays, goes) = (person.log_in("stays"), person.log_in("goes"));
    let mut outsider = Outsider::of(fleet);
    outsider.run("BEGIN");
    let rows = outsider.count("SELECT id FROM replica FOR UPDATE");
    assert!(rows >= 3);
    eventually("all have lapsed", || {
        fleet.replicas().iter().all(|replica| !replica.is_ready())
    });
    assert_eq!(person.look(&stays), [Outcome::Served; 3]);
    person.end_under_watch(std::slice::from_ref(&goes), Ending::Logout, 1, None);
    assert_eq!(person.look(&goes), [Outcome::Refused; 3]);
    assert_eq!(person.look(&stays), [Outcome::Served; 3]);
    outsider.run("ROLLBACK");
}

/// A revoker that stalls at the head of the log holds up other revokers, and nobody else.
fn a_held_head_delays_logouts_and_no_lease(fleet: &Fleet, person: &mut Person<'_>) {
    let (stays, goes) = (person.log_in("stays"), person.log_in("goes"));
    let mut outsider = Outsider::of(fleet);
    outsider.run("BEGIN");
    outsider.count("SELECT sequence FROM revocation_head WHERE id = 1 FOR UPDATE");
    let address = fleet.replica(0).address();
    thread::scope(|scope| {
        let logout = scope.spawn(|| {
            let answer = Client::default().post(address, "/logout", &goes.cookie);
            answer.map(|answer| answer.status)
        });
        let lapsed = within(LEASE * 3, || {
            assert_eq!(person.look(&stays), [Outcome::Served; 3]);
            !fleet
                .replicas()
                .iter()
                .all(crate::support::fleet::Replica::is_ready)
        });
        assert!(!lapsed, "a held head let a lease run out");
        assert_eq!(
            logout.join().unwrap(),
            Some(503),
            "it was held for longer than anyone waits"
        );
    });
    outsider.run("ROLLBACK");
    person.end_under_watch(std::slice::from_ref(&goes), Ending::Logout, 1, Some(1));
    assert_eq!(person.look(&goes), [Outcome::Refused; 3]);
}

/// One replica is slow to hear of it, so that the answer waits; the one that waits dies; another is asked again.
fn a_logout_whose_replica_dies_before_it_answers_holds_elsewhere(
    fleet: &Fleet,
    person: &mut Person<'_>,
) {
    for _ in 0..3 {
        let session = person.log_in("goes");
        assert_eq!(person.look(&session), [Outcome::Served; 3]);
        let store = fleet.server().open(fleet.runtime.handle());
        fleet.replica(2).link.freeze();
        let address = fleet.replica(0).address();
        thread::scope(|scope| {
            let first = scope.spawn(|| Client::default().post(address, "/logout", &session.cookie));
            let handle = session.handle().parse().unwrap();
            eventually("it is committed", || {
                fleet
                    .runtime
                    .block_on(store.session(handle))
                    .unwrap()
                    .is_none()
            });
            fleet.replica(0).kill();
            assert!(first.join().unwrap().is_none(), "it was answered too early");
        });
        // Nothing is left to delete, and this one answers no sooner than it may.
        person.end_under_watch(std::slice::from_ref(&session), Ending::Logout, 1, Some(1));
        fleet.replica(2).link.heal();
        fleet.replica(0).start();
        eventually("all know", || {
            person.look(&session) == [Outcome::Refused; 3]
        });
        fleet.runtime.block_on(store.close());
    }
}

/// The first thing that it does when it goes on may be to answer a request.
fn a_replica_that_stood_still_trusts_nothing(fleet: &Fleet, person: &mut Person<'_>) {
    for _ in 0..3 {
        let sessions: Vec<Session> = (0..4).map(|_| person.log_in("goes")).collect();
        for session in &sessions {
            assert_eq!(person.look_at(2, session), Outcome::Served);
        }
        let (far, clock) = (fleet.replica(2), Clock::system());
        far.pause();
        // These wait in its sockets, sent before and after the answers of the logouts.
        let address = far.address();
        let outcomes: Vec<_> = thread::scope(|scope| {
            let mut waiting = Vec::new();
            for (number, session) in sessions.iter().enumerate() {
                let answer = Client::default().post(
                    fleet.replica(number % 2).address(),
                    "/logout",
                    &session.cookie,
                );
                assert_eq!(answer.unwrap().status, 200);
                waiting.push(scope.spawn(move || {
                    let sent = clock_of(fleet);
                    let answer = Client::default().get(address, "/", &session.cookie);
                    (sent, outcome(answer.as_ref(), &session.user))
                }));
            }
            thread::sleep(LEASE / 4);
            far.resume();
            waiting.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for (sent, outcome) in outcomes {
            assert_ne!(
                outcome,
                Outcome::Served,
                "sent at {sent:?}, now {:?}",
                clock.boot()
            );
        }
        person.ended.extend(sessions);
    }
}

fn clock_of(fleet: &Fleet) -> portcullis::clock::BootTime {
    fleet.clock.boot()
}

/// Nobody waits any more for one that has been silent for two leases; it is told nothing, and knows what it may not trust.
fn a_replica_that_was_reaped_comes_back(fleet: &Fleet, person: &mut Person<'_>) {
    let store = fleet.server().open(fleet.runtime.handle());
    let replicas = || fleet.runtime.block_on(store.replicas()).unwrap().len();
    eventually("those that were killed before are gone", || replicas() == 3);
    let (stays, goes) = (person.log_in("stays"), person.log_in("goes"));
    assert_eq!(person.look(&goes), [Outcome::Served; 3]);
    let far = fleet.replica(2);
    far.pause();
    eventually("it is reaped", || replicas() == 2);
    let (answer, took) =
        timed(|| Client::default().post(fleet.replica(0).address(), "/logout", &goes.cookie));
    assert_eq!(answer.unwrap().status, 200);
    assert!(took < LEASE, "somebody waited for it: {took:?}");
    far.resume();
    for _ in 0..20 {
        assert_ne!(person.look_at(2, &goes), Outcome::Served);
    }
    eventually("it is a replica again", || {
        replicas() == 3 && far.is_ready() && person.look_at(2, &stays) == Outcome::Served
    });
    assert_eq!(person.look_at(2, &goes), Outcome::Refused);
    fleet.runtime.block_on(store.close());
}

/// Whoever was in before the revocation was asked for is out; of the others, what is served is what the store has.
fn logins_beside_a_revocation_of_their_user_live_or_not_but_never_half(
    fleet: &Fleet,
    person: &mut Person<'_>,
) {
    let store = fleet.server().open(fleet.runtime.handle());
    for trial in 0..15 {
        let user = format!("racer-{trial}");
        let before = [person.log_in(&user), person.log_in(&user)];
        let opened: Vec<Session> = thread::scope(|scope| {
            let logins: Vec<_> = (0..6)
                .map(|number| {
                    let user = &user;
                    scope.spawn(move || {
                        let random = Random::new(trial * 100 + u64::from(number));
                        let mut person = Person::new(fleet, &random, 100 + number);
                        thread::sleep(Duration::from_millis(u64::from(number)));
                        person.log_in_at(number as usize % 3, user)
                    })
                })
                .collect();
            let ending = if trial % 2 == 0 {
                Ending::AdminUser
            } else {
                Ending::LogoutAll
            };
            person.end_under_watch(&before, ending, 1, None);
            logins
                .into_iter()
                .filter_map(|login| login.join().unwrap())
                .collect()
        });
        for session in &before {
            assert_eq!(person.look(session), [Outcome::Refused; 3]);
        }
        for session in opened {
            let handle = session.handle().parse().unwrap();
            let there = fleet
                .runtime
                .block_on(store.session(handle))
                .unwrap()
                .is_some();
            let expected = if there {
                Outcome::Served
            } else {
                Outcome::Refused
            };
            let seen: Vec<Outcome> = (0..3)
                .map(|number| {
                    let address = fleet.replica(number).address();
                    let answer = Client::default().get(address, "/", &session.cookie);
                    outcome(answer.as_ref(), &session.user)
                })
                .collect();
            assert_eq!(seen, [expected; 3]);
        }
    }
    fleet.runtime.block_on(store.close());
}

/// The second finds nothing to end, and still has to wait for everyone.
fn of_two_logouts_of_one_session_neither_answers_early(fleet: &Fleet, person: &mut Person<'_>) {
    fleet.replica(2).link.delay(Duration::from_millis(40));
    for _ in 0..25 {
        let session = person.log_in("goes");
        person.end_under_watch(&[session], Ending::Logout, 3, None);
    }
    for _ in 0..10 {
        let sessions = [person.log_in("goes"), person.log_in("goes")];
        person.end_under_watch(&sessions, Ending::LogoutAll, 2, None);
    }
}

/// Each lease is that replica's own: a logout at one with a short lease waits for one with a long lease.
pub fn a_logout_waits_for_the_longest_lease(kind: Kind) {
    let settings = Settings {
        leases: &["500ms", "3s"],
        revocation: "",
        ..Settings::default()
    };
    let fleet = Fleet::start(kind, settings);
    let mut person = Person::new(&fleet, &Random::new(3), 0);
    let session = person.log_in("goes");
    assert_eq!(person.look(&session), [Outcome::Served; 2]);
    fleet.replica(1).link.freeze();
    let took = person.end_under_watch(&[session], Ending::Logout, 1, Some(0));
    let findings = person.history.check();
    findings.assert_none();
    assert!(findings.stalest > Duration::from_millis(500), "{findings}");
    assert!(
        (Duration::from_millis(1500)..Duration::from_secs(8)).contains(&took),
        "{took:?}"
    );
}

/// `check = "database"`: the row alone decides, at once, whoever removed it.
pub fn checked_in_the_database_every_request_reads(kind: Kind) {
    let settings = Settings {
        leases: &["1s", "1s"],
        revocation: "check = \"database\"",
        ..Settings::default()
    };
    let fleet = Fleet::start(kind, settings);
    let mut person = Person::new(&fleet, &Random::new(4), 0);
    let (by_hand, by_logout) = (person.log_in("hand"), person.log_in("logout"));
    for session in [&by_hand, &by_logout] {
        assert_eq!(person.look(session), [Outcome::Served; 2]);
    }
    person.end_under_watch(std::slice::from_ref(&by_logout), Ending::Logout, 1, Some(0));
    assert_eq!(person.look(&by_logout), [Outcome::Refused; 2]);
    Outsider::of(&fleet).run("DELETE FROM session WHERE user_id = 'hand'");
    assert_eq!(person.look(&by_hand), [Outcome::Refused; 2]);
    let stays = person.log_in("stays");
    fleet.replica(1).link.cut();
    assert_eq!(
        person.look_at(1, &stays),
        Outcome::Unavailable,
        "it cannot read"
    );
    assert_eq!(person.look_at(0, &stays), Outcome::Served);
    fleet.replica(1).link.heal();
    eventually("it heals", || person.look_at(1, &stays) == Outcome::Served);
    assert!(person.history.check().violations.is_empty());
}

/// `check = "off"`: a token is accepted until it expires, as the name says; so the history must show it.
pub fn unchecked_a_token_outlives_its_session(kind: Kind) {
    let settings = Settings {
        leases: &["1s", "1s"],
        revocation: "check = \"off\"",
        ..Settings::default()
    };
    let fleet = Fleet::start(kind, settings);
    let mut person = Person::new(&fleet, &Random::new(5), 0);
    let session = person.log_in("goes");
    person.end_under_watch(std::slice::from_ref(&session), Ending::Logout, 1, Some(0));
    assert_eq!(person.look(&session), [Outcome::Served; 2]);
    assert!(person.history.check().violations.len() >= 2);
    fleet.server().freeze();
    assert_eq!(
        person.look(&session),
        [Outcome::Served; 2],
        "no store is asked"
    );
    fleet.server().thaw();
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let clock = Clock::system();
    let started = clock.boot();
    let result = act();
    (result, clock.boot().since(started))
}
