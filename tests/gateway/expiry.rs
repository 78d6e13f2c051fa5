//! What ends by itself: access tokens, idle sessions, old sessions, and entries of the revocation set.

use std::time::Duration;

use portcullis::session::SessionHandle;
use portcullis::store::{Ended, Revocation};

use crate::support::{Browser, World, eventually};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const ENDPOINT: &str = "/auth/session/refresh";

fn short_sessions() -> World {
    World::with(&[
        ("session.refresh", "client"),
        ("session.access_token_lifetime", "1h"),
        ("session.refresh_token_lifetime", "2h"),
        ("session.max_lifetime", "5h"),
        ("revocation.lease", "500ms"),
    ])
}

#[test]
fn an_access_token_is_accepted_for_its_lifetime_and_no_second_longer() {
    let world = short_sessions();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    world.pass(HOUR - 10 * SECOND);
    alice.get(&gateway, "/app").assert_served();
    world.pass(10 * SECOND);
    alice
        .get(&gateway, "/app")
        .assert_refused(401, "try refresh token");
}

#[test]
fn a_session_that_is_not_used_ends() {
    let world = short_sessions();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let mut bob = Browser::logged_in(&gateway, "bob");
    world.pass(HOUR + 50 * 60 * SECOND);
    bob.post(&gateway, ENDPOINT).assert_opened();
    world.pass(20 * 60 * SECOND);
    alice.post(&gateway, ENDPOINT).assert_session_over();
    bob.post(&gateway, ENDPOINT).assert_opened();
}

/// T080.
#[test]
fn a_session_ends_at_its_age_however_often_it_is_refreshed() {
    let world = short_sessions();
    let gateway = world.replica();
    let mut alice = Browser::new();
    let login = alice.log_in(&gateway, "alice");
    let ends = login.front_token()["up"]["iat"].as_i64().unwrap() + 5 * 3600;
    for _ in 0..4 {
        world.pass(HOUR);
        alice.post(&gateway, ENDPOINT).assert_opened();
    }
    world.pass(HOUR / 2);
    let last = alice.post(&gateway, ENDPOINT);
    last.assert_opened();
    let expires = last.front_token()["up"]["exp"].as_i64().unwrap();
    assert!(expires <= ends + 1, "no access token outlives its session");
    world.pass(HOUR / 2 + SECOND);
    alice
        .get(&gateway, "/app")
        .assert_refused(401, "try refresh token");
    alice.post(&gateway, ENDPOINT).assert_session_over();
}

#[test]
fn in_line_an_ended_session_is_cleared() {
    let world = World::with(&[
        ("session.refresh_token_lifetime", "2h"),
        ("session.max_lifetime", "5h"),
    ]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    world.pass(2 * HOUR + SECOND);
    alice.clone().get(&gateway, "/opt/a").assert_clears();
    alice.get(&gateway, "/app").assert_session_over();
}

/// Invariant 4: size evicts nothing.
#[test]
fn a_revocation_stays_whatever_comes_after_it() {
    let world = short_sessions();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    alice.clone().post(&gateway, "/logout").assert_clears();
    let revocations = &gateway.parts().revocations;
    let mut flood = Revocation {
        sequence: revocations.applied(),
        ended: Vec::with_capacity(200_000),
    };
    let expires = portcullis::clock::Clock::system().now() + HOUR;
    flood.ended.resize_with(200_000, || Ended {
        handle: SessionHandle::random(),
        expires,
    });
    revocations.apply(&flood);
    assert_eq!(revocations.set_len(), 200_001);
    world.pass(HOUR - 30 * SECOND);
    // Forgetting has had its turn.
    std::thread::sleep(SECOND);
    assert_eq!(revocations.set_len(), 200_001);
    alice.get(&gateway, "/app").assert_session_over();
    assert!(
        flood
            .ended
            .iter()
            .all(|ended| { revocations.is_revoked(&ended.handle) })
    );
}

/// Invariant 4: an entry goes when its tokens have expired, and a clock that is turned back brings none of them back.
#[test]
fn a_revocation_is_forgotten_after_its_tokens_and_a_clock_turned_back_revives_none() {
    let world = short_sessions();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    alice.clone().post(&gateway, "/logout").assert_clears();
    world.pass(HOUR + 2 * SECOND);
    eventually("the revocation is forgotten", || {
        gateway.parts().revocations.set_len() == 0
    });
    let served = world.app.count("/app");
    world.turn_back(HOUR);
    alice
        .get(&gateway, "/app")
        .assert_refused(401, "try refresh token");
    alice.post(&gateway, ENDPOINT).assert_session_over();
    assert_eq!(world.app.count("/app"), served);
}
