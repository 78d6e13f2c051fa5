//! A request with a valid token asks nobody but the application.

use std::time::Duration;

use crate::support::{Browser, World, eventually, together};

/// Invariant 2: the tables are away, so that whatever is asked of the store fails, and the file is locked, so that it would
/// wait first; a thousand requests of two sessions notice neither.
#[test]
fn a_thousand_requests_within_the_lease_ask_nothing_of_the_store() {
    let world = World::with(&[("revocation.lease", "60s"), ("session.refresh", "client")]);
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let mut bob = Browser::logged_in(&gateway, "bob");
    bob.post(&gateway, "/auth/session/refresh").assert_opened();
    let _outage = world.store().take_away_and_lock();

    let targets = ["/app", "/opt/a", "/app/b?c", "/account/x"];
    let longest = together(4, |number| {
        let user = [("alice", &alice), ("bob", &bob)][number % 2];
        let request = user.1.request("GET", targets[number], &[], "");
        let mut connection = gateway.connect();
        // The store's locks are waited for two seconds: nobody waits for half of that.
        connection
            .stream
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        for _ in 0..250 {
            connection.send(&request);
            connection.answer().assert_served();
        }
    });
    assert_eq!(longest.len(), 4);
    let served = world
        .app
        .seen()
        .into_iter()
        .filter(|seen| seen.line().starts_with("GET"));
    let users: Vec<String> = served
        .filter_map(|seen| seen.user().map(str::to_owned))
        .collect();
    assert_eq!(users.iter().filter(|user| *user == "alice").count(), 500);
    assert_eq!(users.iter().filter(|user| *user == "bob").count(), 500);
}

/// What the test above takes for granted: the sabotage does stop whoever asks.
#[test]
fn the_first_request_past_the_lease_asks_the_store() {
    let world = World::with(&[("revocation.lease", "60s")]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let outage = world.store().take_away();
    alice.get(&gateway, "/app").assert_served();
    world.lapse();
    assert_eq!(alice.get(&gateway, "/app").status, 503);
    drop(outage);
    eventually("the store answers again", || {
        alice.get(&gateway, "/app").status == 200
    });
}
