//! `revocation.check`: what a request with a valid access token is checked against.

use crate::support::{Browser, World};

/// Of a row that is simply gone only who reads the row knows: the feed tells of revocations, and `off` asks nobody.
#[test]
fn database_reads_the_session_for_each_request_and_the_others_do_not() {
    for (check, notices) in [("database", true), ("feed", false), ("off", false)] {
        let world = World::with(&[("revocation.check", check)]);
        let replicas = world.replicas();
        let alice = Browser::logged_in(&replicas[0], "alice");
        let mut bob = Browser::logged_in(&replicas[1], "bob");
        let gone = world
            .store()
            .number("DELETE FROM session WHERE user_id = 'alice' RETURNING 1");
        assert_eq!(gone, 1);
        for replica in &replicas {
            let answer = alice.clone().get(replica, "/app");
            match notices {
                true => answer.assert_session_over(),
                false => answer.assert_served(),
            }
            bob.get(replica, "/app").assert_served();
        }
    }
}

/// Invariant 3: who can check nothing lets nobody in and clears nothing; who need not check goes on.
#[test]
fn without_a_store_only_who_has_to_ask_it_refuses() {
    for (check, at_once, past_the_lease) in [
        ("database", 503, 503),
        ("feed", 200, 503),
        ("off", 200, 200),
    ] {
        let world = World::with(&[("revocation.check", check), ("revocation.lease", "500ms")]);
        let gateway = world.replica();
        let mut alice = Browser::logged_in(&gateway, "alice");
        alice.get(&gateway, "/app").assert_served();
        let outage = world.store().take_away();
        let mut get = |status| {
            let answer = alice.get(&gateway, "/app");
            assert_eq!(answer.status, status, "{check}: {answer:?}");
            answer.assert_says_nothing_of_a_session();
        };
        get(at_once);
        world.lapse();
        get(past_the_lease);
        gateway.get("/public/a").assert_served();
        drop(outage);
        get(200);
    }
}

/// What is off is the check of access tokens: a logout ends the session in the store, and its refresh token with it.
#[test]
fn off_a_logged_out_browser_is_let_in_by_a_copied_access_token_alone() {
    let world = World::with(&[("revocation.check", "off")]);
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], "alice");
    let mut copy = alice.clone();
    alice.post(&replicas[0], "/logout").assert_clears();
    assert!(!alice.has_a_session());
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 0);
    for replica in &replicas {
        copy.get(replica, "/app").assert_served();
        assert_eq!(world.app.last().user(), Some("alice"));
    }
    // In line, too, the refresh token is worth nothing.
    copy.forget("sAccessToken");
    copy.get(&replicas[1], "/app").assert_session_over();
}

/// An exchange that is shared with the requests of the same page is no older than the end of its session.
#[test]
fn a_refresh_that_is_shared_is_checked_as_a_request_is() {
    for (check, same_replica, refresh) in [
        ("database", false, "client"),
        ("database", false, "transparent"),
        ("off", true, "client"),
    ] {
        let world = World::with(&[
            ("revocation.check", check),
            ("revocation.acknowledge", "local"),
            ("revocation.poll", "1s"),
            ("session.refresh", refresh),
        ]);
        let [here, there] = world.replicas();
        let alice = Browser::logged_in(&here, "alice");
        let mut tab = alice.clone();
        tab.forget("sAccessToken");
        let mut late = tab.clone();
        let (method, target) = match refresh {
            "client" => ("POST", "/auth/session/refresh"),
            _ => ("GET", "/app"),
        };
        tab.send(&there, method, target, &[], "").assert_opened();
        let logout = if same_replica { &there } else { &here };
        alice.clone().post(logout, "/logout").assert_clears();
        late.send(&there, method, target, &[], "")
            .assert_session_over();
    }
}
