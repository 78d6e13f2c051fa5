//! Other sites: a browser sends cookies along with what another site makes it send.

use std::time::Duration;

use crate::support::{Browser, World};

/// Ways in which a browser says that another site is behind a request.
const ELSEWHERE: [&[(&str, &str)]; 7] = [
    &[("Sec-Fetch-Site", "cross-site")],
    &[("Sec-Fetch-Site", "same-site")],
    &[
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "https://g.test"),
    ],
    &[("Origin", "https://evil.test")],
    &[("Origin", "null")],
    &[("Origin", "http://g.test")],
    &[("Referer", "https://evil.test/https://g.test/")],
];

const HERE: [&[(&str, &str)]; 5] = [
    &[("Sec-Fetch-Site", "same-origin")],
    &[("Sec-Fetch-Site", "none")],
    &[("Origin", "https://g.test")],
    &[("Referer", "https://g.test/app")],
    &[],
];

/// T091, T093.
#[test]
fn another_site_logs_nobody_out() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for path in ["/auth/signout", "/logout", "/logout-all"] {
        let image = [
            ("Sec-Fetch-Site", "cross-site"),
            ("Sec-Fetch-Mode", "no-cors"),
        ];
        let answer = alice.send(&gateway, "GET", path, &image, "");
        answer.assert_refused(405, "method not allowed");
        for headers in ELSEWHERE {
            let answer = alice.send(&gateway, "POST", path, headers, "");
            answer.assert_refused(403, "cross-site request refused");
        }
    }
    alice.get(&gateway, "/app").assert_served();
    for headers in HERE {
        let mut alice = Browser::logged_in(&gateway, "alice");
        alice
            .send(&gateway, "POST", "/logout", headers, "")
            .assert_clears();
    }
}

/// T094.
#[test]
fn another_site_refreshes_nothing_and_clears_nothing() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for headers in ELSEWHERE {
        let answer = alice.send(&gateway, "POST", "/auth/session/refresh", headers, "");
        answer.assert_refused(401, "cross-site request refused");
        let answer = gateway.send("POST", "/auth/session/refresh", headers, "");
        answer.assert_refused(401, "cross-site request refused");
    }
    assert_eq!(world.store().number("SELECT generation FROM session"), 0);
    alice.get(&gateway, "/app").assert_served();
}

#[test]
fn another_site_changes_nothing_in_a_user_s_name() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let seen = world.app.seen().len();
    for headers in ELSEWHERE {
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let answer = alice.send(&gateway, method, "/app", headers, "");
            answer.assert_refused(403, "cross-site request refused");
        }
        gateway
            .send("POST", "/app", headers, "")
            .assert_refused(401, "try refresh token");
    }
    assert_eq!(world.app.seen().len(), seen);
    for headers in ELSEWHERE {
        // Where no session is needed there is none, and a link may be followed.
        for path in ["/opt/a", "/hook"] {
            alice
                .send(&gateway, "POST", path, headers, "a=b")
                .assert_served();
            assert_eq!(world.app.last().user(), None);
        }
        alice
            .send(&gateway, "GET", "/app", headers, "")
            .assert_served();
        assert_eq!(world.app.last().user(), Some("alice"));
    }
    for headers in HERE {
        alice
            .send(&gateway, "POST", "/app", headers, "")
            .assert_served();
        assert_eq!(world.app.last().user(), Some("alice"));
    }
}

#[test]
fn another_site_s_request_renews_no_expired_token() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    world.pass(Duration::from_hours(1));
    for path in ["/app", "/opt/a"] {
        let answer = alice.send(&gateway, "POST", path, ELSEWHERE[0], "");
        answer.assert_says_nothing_of_a_session();
    }
    assert_eq!(world.store().number("SELECT generation FROM session"), 0);
}

#[test]
fn another_site_opens_no_websocket() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let handshake = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for headers in ELSEWHERE {
        let headers = [&handshake[..], headers].concat();
        let answer = alice.send(&gateway, "GET", "/app/ws", &headers, "");
        answer.assert_refused(403, "cross-site request refused");
    }
    assert_eq!(world.app.count("/app/ws"), 0);
    let page = [
        &handshake[..],
        &[("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")],
    ]
    .concat();
    gateway
        .send("GET", "/app/ws", &page, "")
        .assert_refused(401, "try refresh token");
}

#[test]
fn a_header_that_forms_cannot_send_can_be_asked_for_instead() {
    let world = World::with(&[("session.anti_csrf", "custom-header")]);
    let gateway = world.replica();
    let mut alice = Browser::new();
    alice
        .send(
            &gateway,
            "POST",
            "/login",
            &[("rid", "session")],
            "user=alice",
        )
        .assert_opened();
    alice
        .post(&gateway, "/app")
        .assert_refused(403, "cross-site request refused");
    alice
        .send(&gateway, "POST", "/app", &[("rid", "")], "")
        .assert_refused(403, "cross-site request refused");
    alice
        .send(&gateway, "POST", "/app", &[("rid", "session")], "")
        .assert_served();
    alice
        .post(&gateway, "/logout")
        .assert_refused(403, "cross-site request refused");
    alice
        .send(&gateway, "POST", "/logout", &[("rid", "session")], "")
        .assert_clears();
}
