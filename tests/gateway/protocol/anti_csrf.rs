//! `anti_csrf = "token"`: what a page shows beside its cookies.

use std::time::Duration;

use super::REFRESH;
use crate::support::{Answer, Browser, Replica, World};

const HOUR: Duration = Duration::from_hours(1);

fn token_mode() -> World {
    World::with(&[
        ("session.anti_csrf", "token"),
        ("session.refresh", "client"),
    ])
}

#[track_caller]
fn log_in(gateway: &Replica, user: &str) -> (Browser, String) {
    let mut browser = Browser::new();
    let answer = browser.log_in(gateway, user);
    answer.assert_opened();
    (browser, token_of(&answer))
}

#[track_caller]
fn token_of(answer: &Answer) -> String {
    let token = answer.header("anti-csrf").expect("no anti-csrf");
    assert_eq!(token.len(), 43, "32 bytes in base64url");
    let exposed = answer.all("access-control-expose-headers").join(", ");
    assert!(exposed.contains("anti-csrf"), "{exposed}");
    token.to_owned()
}

/// T093.
#[test]
fn what_changes_something_shows_the_token_and_nothing_is_lost_without() {
    let world = token_mode();
    let gateway = world.replica();
    let (mut alice, token) = log_in(&gateway, "alice");
    let (_, other) = log_in(&gateway, "alice");
    let same_origin = ("Sec-Fetch-Site", "same-origin");
    let cut = &token[..42];
    for wrong in [
        &[same_origin][..],
        &[same_origin, ("anti-csrf", "")],
        &[same_origin, ("anti-csrf", cut)],
        &[same_origin, ("anti-csrf", &other)],
        &[same_origin, ("anti-csrf", &token), ("anti-csrf", &token)],
        &[same_origin, ("rid", "anti-csrf")],
    ] {
        for (method, path) in [
            ("POST", "/app"),
            ("DELETE", "/app"),
            ("PROPFIND", "/app"),
            ("POST", "/logout"),
            ("POST", "/auth/signout"),
            ("POST", "/logout-all"),
        ] {
            alice
                .send(&gateway, method, path, wrong, "")
                .assert_refused(401, "try refresh token");
        }
        alice
            .send(&gateway, "POST", "/opt/x", wrong, "")
            .assert_served();
        assert_eq!(world.app.last().user(), None);
    }
    for method in ["GET", "OPTIONS"] {
        alice
            .send(&gateway, method, "/app", &[], "")
            .assert_served();
    }
    let right = [("anti-csrf", &*token)];
    alice
        .send(&gateway, "POST", "/app", &right, "")
        .assert_served();
    assert_eq!(world.app.last().user(), Some("alice"));
    let answer = alice.send(&gateway, "POST", "/logout", &right, "");
    assert_eq!(answer.status, 200);
    answer.assert_clears();
}

#[test]
fn a_refresh_shows_the_token_and_is_given_it() {
    let world = token_mode();
    let gateway = world.replica();
    let (mut alice, token) = log_in(&gateway, "alice");
    world.pass(HOUR);
    for wrong in [&[][..], &[("anti-csrf", "x")]] {
        alice
            .send(&gateway, "POST", REFRESH, wrong, "")
            .assert_refused(401, "try refresh token");
    }
    assert_eq!(world.store().number("SELECT generation FROM session"), 0);
    let right = [("anti-csrf", &*token)];
    let answer = alice.send(&gateway, "POST", REFRESH, &right, "");
    answer.assert_opened();
    let next = token_of(&answer);
    let next = [("anti-csrf", &*next)];
    alice
        .send(&gateway, "POST", "/app", &next, "")
        .assert_served();
}

/// SDKs before 4.4 send no token with a refresh.
#[test]
fn a_refresh_can_be_let_off_but_not_from_another_site() {
    let world = World::with(&[
        ("session.anti_csrf", "token"),
        ("session.anti_csrf_refresh", "off"),
    ]);
    let gateway = world.replica();
    let (mut alice, _) = log_in(&gateway, "alice");
    for foreign in [
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "https://evil.test"),
    ] {
        alice
            .send(&gateway, "POST", REFRESH, &[foreign], "")
            .assert_refused(401, "cross-site request refused");
    }
    alice.post(&gateway, REFRESH).assert_opened();
}

/// T094, and what a page of another site could do with an answer that clears.
#[test]
fn another_site_changes_and_clears_nothing() {
    for anti_csrf in ["origin", "custom-header", "token"] {
        let world = World::with(&[("session.anti_csrf", anti_csrf)]);
        let gateway = world.replica();
        let mut alice = Browser::logged_in(&gateway, "alice");
        let foreign = [
            ("Origin", "https://evil.test"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "navigate"),
        ];
        for mut browser in [alice.clone(), Browser::new()] {
            let refresh = browser.send(&gateway, "POST", REFRESH, &foreign, "");
            assert_eq!(refresh.status, 401);
            refresh.assert_says_nothing_of_a_session();
            let logout = browser.send(&gateway, "POST", "/logout", &foreign, "");
            assert_eq!(logout.status, 403, "{anti_csrf}");
            logout.assert_says_nothing_of_a_session();
        }
        alice.get(&gateway, "/app").assert_served();
        assert_eq!(world.store().number("SELECT generation FROM session"), 0);
    }
}

#[test]
fn a_forged_request_does_not_even_renew_in_line() {
    let world = World::with(&[("session.anti_csrf", "token")]);
    let gateway = world.replica();
    let (mut alice, token) = log_in(&gateway, "alice");
    world.pass(HOUR);
    alice
        .post(&gateway, "/app")
        .assert_refused(401, "try refresh token");
    assert_eq!(world.store().number("SELECT generation FROM session"), 0);
    let answer = alice.send(&gateway, "POST", "/app", &[("anti-csrf", &*token)], "");
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert_eq!(token_of(&answer), token);
    assert_eq!(world.store().number("SELECT generation FROM session"), 1);
}

#[test]
fn a_rule_has_its_own_word() {
    let rules = r#"
        [[route]]
        path = "/pay/**"
        anti_csrf = "token"
        [[route]]
        path = "/free/**"
        anti_csrf = "off"
        [[logout]]
        path = "/leave"
        anti_csrf = "token"
    "#;
    let world = World::with_rules(&[], rules);
    let gateway = world.replica();
    let (mut alice, token) = log_in(&gateway, "alice");
    let foreign = [("Sec-Fetch-Site", "cross-site")];
    assert_eq!(
        alice.send(&gateway, "POST", "/app", &foreign, "").status,
        403
    );
    alice
        .send(&gateway, "POST", "/free/x", &foreign, "")
        .assert_served();
    for path in ["/pay/x", "/leave"] {
        alice
            .post(&gateway, path)
            .assert_refused(401, "try refresh token");
    }
    let right = [("anti-csrf", &*token)];
    alice
        .send(&gateway, "POST", "/pay/x", &right, "")
        .assert_served();
    alice.post(&gateway, REFRESH).assert_opened();
    assert_eq!(
        alice.send(&gateway, "POST", "/leave", &right, "").status,
        200
    );
    alice
        .get(&gateway, "/app")
        .assert_refused(401, "try refresh token");
}

#[test]
fn handshakes_are_judged_by_where_they_come_from() {
    for anti_csrf in ["custom-header", "token"] {
        let world = World::with(&[("session.anti_csrf", anti_csrf)]);
        let gateway = world.replica();
        let mut alice = Browser::logged_in(&gateway, "alice");
        for (origin, status) in [("https://g.test", 200), ("https://evil.test", 403)] {
            let headers = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Origin", origin),
            ];
            let answer = alice.send(&gateway, "GET", "/app", &headers, "");
            assert_eq!(answer.status, status, "{anti_csrf} {origin}");
        }
    }
}

#[test]
fn a_form_header_is_enough_for_custom_header() {
    let world = World::with(&[("session.anti_csrf", "custom-header")]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for rid in ["", "x"] {
        let answer = alice.send(&gateway, "POST", "/app", &[("rid", rid)], "");
        assert_eq!(answer.status, if rid.is_empty() { 403 } else { 200 });
    }
    let rid = [("rid", "anti-csrf")];
    alice
        .send(&gateway, "POST", REFRESH, &rid, "")
        .assert_opened();
}
