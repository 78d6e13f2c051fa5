//! Theft: a refresh token that comes back after its successor was used ends the session, for the thief and for the victim.

use std::time::Duration;

use crate::support::{Browser, Replica, World, eventually};

const HOUR: Duration = Duration::from_hours(1);
const GRACE: Duration = Duration::from_secs(31);
const ENDPOINT: &str = "/auth/session/refresh";

fn client_mode() -> World {
    World::with(&[("session.refresh", "client")])
}

/// Waits until the store knows that the newest tokens are in use.
fn use_is_noted(world: &World) {
    eventually("the use of the new token is noted", || {
        world
            .store()
            .number("SELECT used_at IS NOT NULL FROM session")
            == 1
    });
}

#[track_caller]
fn assert_stolen(world: &World, replicas: &[Replica], thief: &mut Browser, victim: &mut Browser) {
    let answer = thief.post(&replicas[0], ENDPOINT);
    answer.assert_session_over();
    assert_eq!(answer.message(), "token theft detected");
    for replica in replicas {
        victim.clone().get(replica, "/app").assert_session_over();
        victim.clone().post(replica, ENDPOINT).assert_session_over();
    }
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 0);
    assert_eq!(
        world
            .store()
            .number("SELECT COUNT(*) FROM revocation WHERE reason = 'theft'"),
        1
    );
}

/// T076, second half.
#[test]
fn a_token_that_comes_back_after_its_successor_was_used_ends_the_session() {
    let world = client_mode();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut thief = alice.clone();
    alice.post(&replicas[0], ENDPOINT).assert_opened();
    alice.get(&replicas[1], "/app").assert_served();
    use_is_noted(&world);
    world.pass(GRACE);
    assert_stolen(&world, &replicas, &mut thief, &mut alice);
    let counted = |replica: &Replica| {
        let metrics = replica.parts().metrics.encode();
        metrics.contains(r#"portcullis_sessions_revoked_total{reason="theft"} 1"#)
    };
    assert!(replicas.iter().filter(|replica| counted(replica)).count() == 1);
}

/// T077.
#[test]
fn a_token_that_comes_back_after_two_rotations_ends_the_session() {
    let world = client_mode();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut thief = alice.clone();
    for replica in &replicas {
        world.pass(HOUR);
        alice.post(replica, ENDPOINT).assert_opened();
    }
    world.pass(GRACE);
    assert_stolen(&world, &replicas, &mut thief, &mut alice);
}

#[test]
fn a_token_much_older_than_its_session_s_newest_is_theft_at_once() {
    let world = client_mode();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut thief = alice.clone();
    for _ in 0..3 {
        world.pass(Duration::from_secs(2));
        alice.post(&replicas[0], ENDPOINT).assert_opened();
    }
    assert_stolen(&world, &replicas, &mut thief, &mut alice);
}

#[test]
fn the_thief_who_comes_first_is_found_by_the_victim() {
    let world = client_mode();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut thief = alice.clone();
    thief.post(&replicas[0], ENDPOINT).assert_opened();
    thief.get(&replicas[0], "/app").assert_served();
    use_is_noted(&world);
    world.pass(GRACE);
    assert_stolen(&world, &replicas, &mut alice, &mut thief);
}

#[test]
fn tokens_that_were_renewed_in_line_are_in_use_once_they_come_back() {
    let world = World::new();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut thief = alice.clone();
    world.pass(HOUR);
    alice.get(&replicas[0], "/app").assert_opened();
    assert_eq!(
        world
            .store()
            .number("SELECT used_at IS NOT NULL FROM session"),
        0
    );
    alice.get(&replicas[0], "/app").assert_served();
    use_is_noted(&world);
    world.pass(GRACE);
    let answer = thief.get(&replicas[1], "/app");
    answer.assert_session_over();
    assert_eq!(answer.message(), "token theft detected");
    alice.get(&replicas[0], "/app").assert_session_over();
}

#[test]
fn other_sessions_of_the_user_go_on() {
    let world = client_mode();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut thief = alice.clone();
    for _ in 0..3 {
        world.pass(Duration::from_secs(2));
        alice.post(&replicas[0], ENDPOINT).assert_opened();
    }
    let mut phone = Browser::logged_in(&replicas[1], "alice");
    thief.post(&replicas[1], ENDPOINT).assert_session_over();
    phone.get(&replicas[0], "/app").assert_served();
    alice.get(&replicas[0], "/app").assert_session_over();
}

/// A thief who refreshes as often as is allowed does not hide behind the limit.
#[test]
fn the_limit_of_refreshes_hides_no_theft() {
    let world = client_mode();
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut thief = alice.clone();
    while thief.post(&replicas[0], ENDPOINT).status == 200 {}
    thief.get(&replicas[0], "/app").assert_served();
    // Longer than requests of one page share an exchange.
    world.pass(Duration::from_secs(2));
    assert_eq!(thief.post(&replicas[0], ENDPOINT).status, 429);
    assert_stolen(&world, &replicas, &mut alice, &mut thief);
}
