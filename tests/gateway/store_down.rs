//! The store fails: who cannot be checked is not let in, and nobody loses a session for it.

use std::time::Duration;

use crate::support::{Browser, World, eventually};

const ENDPOINT: &str = "/auth/session/refresh";
const UNAVAILABLE: &str = "sessions cannot be checked now";

fn short_lease() -> World {
    World::with(&[("revocation.lease", "500ms")])
}

/// Invariant 3, and T081, T083.
#[test]
fn past_its_lease_a_replica_without_a_store_refuses_what_it_cannot_check_and_nothing_else() {
    let world = short_lease();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let readiness = &gateway.parts().readiness;
    assert!(readiness.reasons().is_empty());

    let outage = world.store().take_away();
    alice.get(&gateway, "/app").assert_served();
    world.lapse();
    let app = world.app.count("/app");
    for method in ["GET", "POST"] {
        let answer = alice.send(&gateway, method, "/app", &[], "");
        answer.assert_refused(503, UNAVAILABLE);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(world.app.count("/app"), app);
    assert!(!readiness.reasons().is_empty());

    for target in ["/public/a", "/login", "/opt/a"] {
        let answer = alice.get(&gateway, target);
        answer.assert_served();
        assert_eq!(world.app.last().user(), None, "{target}");
    }
    gateway.get("/app").assert_refused(401, "try refresh token");
    alice
        .post(&gateway, ENDPOINT)
        .assert_refused(503, UNAVAILABLE);
    let answer = Browser::new().log_in(&gateway, "bob");
    answer.assert_refused(503, UNAVAILABLE);
    assert!(alice.has_a_session());

    drop(outage);
    eventually("the replica is ready again", || {
        readiness.reasons().is_empty()
    });
    alice.get(&gateway, "/app").assert_served();
    assert_eq!(world.app.last().user(), Some("alice"));
}

#[test]
fn in_line_an_expired_token_without_a_store_loses_nothing() {
    let world = short_lease();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    world.pass(Duration::from_hours(1));
    let outage = world.store().take_away();
    alice.get(&gateway, "/app").assert_refused(503, UNAVAILABLE);
    alice.get(&gateway, "/opt/a").assert_served();
    drop(outage);
    alice.get(&gateway, "/app").assert_opened();
}

/// Invariant 3, its one exception: who asked for a logout has it here and now.
#[test]
fn a_logout_without_a_store_is_said_to_be_unwritten_holds_here_and_is_written_later() {
    for path in ["/logout", "/logout-all", "/auth/signout"] {
        let world = World::new();
        let [here, there] = world.replicas();
        let alice = Browser::logged_in(&here, "alice");
        let phone = Browser::logged_in(&there, "alice");
        let outage = world.store().take_away();
        let answer = alice.clone().post(&here, path);
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1")),
            "{path}"
        );
        answer.assert_clears();
        alice.clone().get(&here, "/app").assert_session_over();
        // A second try is no worse, and no better.
        assert_eq!(alice.clone().post(&here, path).status, 503);
        alice.clone().get(&here, "/app").assert_session_over();

        drop(outage);
        let ended = if path == "/logout-all" { 2 } else { 1 };
        let revoked = "SELECT COUNT(DISTINCT handle) FROM revocation WHERE length(handle) > 0";
        eventually("what was owed is written", || {
            world.store().number(revoked) == ended
        });
        eventually("and the other replica knows", || {
            alice.clone().get(&there, "/app").status == 401
        });
        let phone = phone.clone().get(&here, "/app").status;
        assert_eq!(phone, if path == "/logout-all" { 401 } else { 200 });
        alice.clone().post(&here, path).assert_clears();
    }
}

/// The same past the lease, where the set is not asked before the store.
#[test]
fn a_logout_past_the_lease_holds_here_too() {
    let world = short_lease();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let outage = world.store().take_away();
    world.lapse();
    let answer = alice.clone().post(&gateway, "/logout");
    assert_eq!(answer.status, 503);
    answer.assert_clears();
    alice.clone().get(&gateway, "/app").assert_session_over();
    drop(outage);
    eventually("what was owed is written", || {
        world.store().number("SELECT COUNT(*) FROM session") == 0
    });
    alice.clone().get(&gateway, "/app").assert_session_over();
}

/// T082: what can be read is checked by reading; what has to be written is refused.
#[test]
fn a_store_that_can_only_be_read_serves_who_is_logged_in() {
    let world = short_lease();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let gone = Browser::logged_in(&gateway, "gone");
    gone.clone().post(&gateway, "/logout");
    let lock = world.store().lock();
    world.lapse();
    alice.get(&gateway, "/app").assert_served();
    assert_eq!(world.app.last().user(), Some("alice"));
    gone.clone().get(&gateway, "/app").assert_session_over();

    alice
        .post(&gateway, ENDPOINT)
        .assert_refused(503, UNAVAILABLE);
    let answer = alice.clone().post(&gateway, "/logout");
    assert_eq!(answer.status, 503);
    answer.assert_clears();
    alice.clone().get(&gateway, "/app").assert_session_over();
    drop(lock);
    eventually("the logout is written", || {
        world.store().number("SELECT COUNT(*) FROM session") == 0
    });
}

/// What is owed is written together: one by one it would hold up the feed, and with it the lease.
#[test]
fn logouts_that_are_owed_share_a_transaction() {
    let world = World::new();
    let gateway = world.replica();
    let browsers: Vec<_> = (0..40)
        .map(|number| Browser::logged_in(&gateway, &format!("user-{number}")))
        .collect();
    let outage = world.store().take_away();
    for browser in &browsers {
        for _ in 0..3 {
            assert_eq!(browser.clone().post(&gateway, "/logout").status, 503);
        }
    }
    drop(outage);
    eventually("what was owed is written", || {
        world.store().number("SELECT COUNT(*) FROM session") == 0
    });
    let transactions = "SELECT COUNT(DISTINCT sequence) FROM revocation WHERE reason = 'logout'";
    assert!(world.store().number(transactions) <= 2);
}
