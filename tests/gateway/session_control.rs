//! Ending by the application: its answer ends the session, or all of the user's, where the operator lets it.

use crate::support::{Browser, World};

#[test]
fn the_application_ends_this_session_or_all_of_the_user_s() {
    for (word, phone_lives) in [("session", true), ("user", false)] {
        let world = World::new();
        let [here, there] = world.replicas();
        let mut laptop = Browser::logged_in(&here, "alice");
        let phone = Browser::logged_in(&there, "alice");
        let bob = Browser::logged_in(&there, "bob");
        let copy = laptop.clone();
        let said = format!("200 OK\r\nportcullis-logout: {word}\r\nX-Own: 1");
        world.app.answers("/account/delete", &said, "deleted");
        let answer = laptop.post(&here, "/account/delete");
        assert_eq!(
            (answer.status, answer.text(), answer.header("x-own")),
            (200, "deleted", Some("1"))
        );
        assert!(answer.header("portcullis-logout").is_none());
        answer.assert_clears();
        for replica in [&here, &there] {
            copy.clone().get(replica, "/app").assert_session_over();
            let status = phone.clone().get(replica, "/app").status;
            assert_eq!(status == 200, phone_lives, "{word}: {status}");
            bob.clone().get(replica, "/app").assert_served();
        }
    }
}

#[test]
fn what_is_no_such_word_ends_nothing() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for word in ["all", "Session", "user, session", "true", ""] {
        world.app.answers(
            "/account/x",
            &format!("200 OK\r\nportcullis-logout: {word}"),
            "",
        );
        let answer = alice.get(&gateway, "/account/x");
        answer.assert_served();
        assert!(answer.header("portcullis-logout").is_none());
    }
}

#[test]
fn elsewhere_the_application_ends_nothing() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for target in ["/app", "/opt/a", "/public/a"] {
        world
            .app
            .answers(target, "200 OK\r\nportcullis-logout: user", "");
        let answer = alice.get(&gateway, target);
        answer.assert_served();
        assert!(answer.header("portcullis-logout").is_none());
    }
    // Nor does a client who says it.
    let answer = alice.send(
        &gateway,
        "GET",
        "/account/x",
        &[("Portcullis-Logout", "user")],
        "",
    );
    answer.assert_served();
    assert!(world.app.last().all("portcullis-logout").is_empty());
    alice.get(&gateway, "/app").assert_served();
}

#[test]
fn without_a_store_the_session_ends_here_and_the_client_is_told_of_the_failure() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let copy = alice.clone();
    world.app.answers(
        "/account/delete",
        "200 OK\r\nportcullis-logout: session",
        "deleted",
    );
    let outage = world.store().take_away();
    let answer = alice.post(&gateway, "/account/delete");
    assert_eq!(answer.status, 503);
    answer.assert_clears();
    copy.clone().get(&gateway, "/app").assert_session_over();
    drop(outage);
}
