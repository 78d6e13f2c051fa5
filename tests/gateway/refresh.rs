//! Refreshing: an expired access token is replaced, by the client or in line, and any number at once are one.

use std::time::Duration;

use crate::support::browser::{ACCESS, REFRESH};
use crate::support::{Browser, World, eventually, together};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const ENDPOINT: &str = "/auth/session/refresh";

/// The client is to refresh.
fn client_mode() -> World {
    World::with(&[("session.refresh", "client")])
}

#[test]
fn without_a_usable_token_the_endpoint_says_that_the_session_is_over() {
    let world = client_mode();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let altered = format!("sRefreshToken=A{}", &alice.refresh()[1..]);
    let swapped = format!("sRefreshToken={}", alice.access());
    for cookie in [
        "a=b",
        "sRefreshToken=",
        "sRefreshToken=x",
        &altered,
        &swapped,
    ] {
        let answer = gateway.send("POST", ENDPOINT, &[("Cookie", cookie)], "");
        answer.assert_session_over();
        assert_eq!(answer.message(), "unauthorised");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert!(world.app.seen().iter().all(|seen| seen.path() != ENDPOINT));
    assert_eq!(gateway.send("GET", ENDPOINT, &[], "").status, 405);
}

/// P2 and P6 of the wire protocol.
#[test]
fn an_expired_token_asks_for_a_refresh_which_tells_the_sdks_all_they_need() {
    let world = client_mode();
    let gateway = world.replica();
    let mut alice = Browser::new();
    let login = alice.log_in(&gateway, "alice");
    let old = alice.access().to_owned();
    world.pass(HOUR);
    alice
        .get(&gateway, "/app")
        .assert_refused(401, "try refresh token");
    assert!(alice.has_a_session());
    assert_eq!(world.app.count("/app"), 0);

    let refresh = alice.post(&gateway, ENDPOINT);
    refresh.assert_opened();
    assert_eq!(
        (refresh.text(), refresh.header("content-type")),
        ("{}", Some("application/json"))
    );
    assert_ne!(alice.access(), old);
    let front = refresh.front_token();
    assert_eq!(
        (&front["uid"], &front["up"]),
        (&"alice".into(), &alice.claims())
    );
    let passed =
        front["up"]["iat"].as_i64().unwrap() - login.front_token()["up"]["iat"].as_i64().unwrap();
    assert!((3600..3660).contains(&passed), "made now: {passed}");
    assert_ne!(
        refresh.header("id-refresh-token"),
        login.header("id-refresh-token")
    );

    alice.get(&gateway, "/app").assert_served();
    assert_eq!(world.app.last().user(), Some("alice"));
}

#[test]
fn every_refresh_has_another_mark() {
    let world = client_mode();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let mut marks: Vec<String> = (0..5)
        .map(|_| {
            world.pass(2 * SECOND);
            let answer = alice.post(&gateway, ENDPOINT);
            answer.header("id-refresh-token").unwrap().to_owned()
        })
        .collect();
    marks.sort();
    marks.dedup();
    assert_eq!(marks.len(), 5);
}

#[test]
fn where_the_client_refreshes_the_refresh_token_travels_to_the_endpoint_alone() {
    let world = client_mode();
    let gateway = world.replica();
    let mut alice = Browser::new();
    let answer = alice.log_in(&gateway, "alice");
    let cookies = answer.all("set-cookie");
    assert!(cookies[1].starts_with(REFRESH) && cookies[1].contains("Path=/auth/session/refresh"));
    // Should it come along all the same, it does not refresh in line.
    world.pass(HOUR);
    let cookie = format!("{REFRESH}={}", alice.refresh());
    let answer = gateway.send("GET", "/app", &[("Cookie", &cookie)], "");
    answer.assert_refused(401, "try refresh token");
}

#[test]
fn in_line_an_expired_token_is_replaced_while_its_request_is_served() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let old = alice.clone();
    world.pass(HOUR);
    let answer = alice.get(&gateway, "/app");
    answer.assert_opened();
    assert_eq!(
        (answer.text(), world.app.last().user()),
        ("hello", Some("alice"))
    );
    assert_ne!(
        (alice.access(), alice.refresh()),
        (old.access(), old.refresh())
    );
    alice.get(&gateway, "/app").assert_served();
    // A browser that lost its access token is served likewise.
    alice.forget(ACCESS);
    alice.get(&gateway, "/app").assert_opened();
}

#[test]
fn in_line_fifty_requests_of_a_page_are_one_rotation() {
    let world = World::new();
    let gateways = world.replicas();
    let alice = Browser::logged_in(&gateways[0], "alice");
    world.pass(HOUR);
    let answers = together(50, |number| {
        alice.clone().get(&gateways[number % 2], "/app")
    });
    for answer in &answers {
        answer.assert_opened();
    }
    assert_eq!(world.store().number("SELECT generation FROM session"), 1);
}

/// Invariant 7: however many refresh with one token, wherever, all of them have the one successor.
#[test]
fn fifty_parallel_refreshes_through_two_replicas_are_one_lineage() {
    let world = client_mode();
    let gateways = world.replicas();
    let alice = Browser::logged_in(&gateways[0], "alice");
    world.pass(HOUR);
    let mut tabs = together(50, |number| {
        let mut tab = alice.clone();
        tab.post(&gateways[number % 2], ENDPOINT).assert_opened();
        tab
    });
    assert_eq!(world.store().number("SELECT generation FROM session"), 1);
    assert!(tabs.iter().all(|tab| tab.handle() == alice.handle()));
    assert!(tabs.iter().all(|tab| tab.refresh() == tabs[0].refresh()));
    for (number, tab) in tabs.iter_mut().enumerate() {
        tab.get(&gateways[number % 2], "/app").assert_served();
    }
    // And the line goes on, for each of them.
    world.pass(Duration::from_secs(10));
    for tab in &mut tabs[..3] {
        tab.post(&gateways[1], ENDPOINT).assert_opened();
    }
    assert_eq!(world.store().number("SELECT generation FROM session"), 2);
    assert_eq!(
        world
            .store()
            .number("SELECT COUNT(*) FROM revocation WHERE sequence > 0"),
        0
    );
}

/// T076, first half.
#[test]
fn a_lost_answer_may_be_asked_for_again_however_late() {
    let world = client_mode();
    let gateways = world.replicas();
    let mut alice = Browser::logged_in(&gateways[0], "alice");
    for days in [0, 1, 30] {
        world.pass(Duration::from_hours(24 * days) + 2 * SECOND);
        // Its answer is lost.
        alice.clone().post(&gateways[0], ENDPOINT).assert_opened();
    }
    alice.post(&gateways[1], ENDPOINT).assert_opened();
    alice.get(&gateways[0], "/app").assert_served();
    assert_eq!(world.store().number("SELECT generation FROM session"), 1);
}

#[test]
fn a_tab_that_is_late_within_the_grace_period_is_no_thief() {
    let world = client_mode();
    let gateway = world.replica();
    let mut first = Browser::logged_in(&gateway, "alice");
    let mut second = first.clone();
    world.pass(HOUR);
    first.post(&gateway, ENDPOINT).assert_opened();
    first.get(&gateway, "/app").assert_served();
    eventually("the use is noted", || {
        world
            .store()
            .number("SELECT used_at IS NOT NULL FROM session")
            == 1
    });
    world.pass(Duration::from_secs(25));
    second.post(&gateway, ENDPOINT).assert_opened();
    assert_eq!(first.refresh(), second.refresh());
}

#[test]
fn a_client_that_loops_is_stopped_and_loses_nothing() {
    let world = client_mode();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for _ in 0..6 {
        world.pass(2 * SECOND);
        alice.post(&gateway, ENDPOINT).assert_opened();
    }
    world.pass(2 * SECOND);
    let answer = alice.post(&gateway, ENDPOINT);
    answer.assert_refused(429, "too many refreshes");
    assert_eq!(answer.header("retry-after"), Some("60"));
    alice.get(&gateway, "/app").assert_served();
    assert_eq!(world.store().number("SELECT generation FROM session"), 6);
}

#[test]
fn another_status_can_say_that_a_session_is_over() {
    let world = World::with(&[
        ("session.refresh", "client"),
        ("session.session_over_status", "440"),
    ]);
    let gateway = world.replica();
    let answer = Browser::new().post(&gateway, ENDPOINT);
    assert_eq!(answer.status, 440);
    answer.assert_clears();
    assert_eq!(gateway.get("/app").status, 440);
}
