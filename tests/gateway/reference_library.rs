//! What an application had from the library that the gateway takes the place of (`supertokens-node-mysql-ref-jwt` 5.0.4): the
//! scenarios of its own tests, against the gateway.
//!
//! Its words here: `getSession` is a request for a protected path; blacklisting is `check = "feed"`, and without it is
//! `check = "off"`. Its routes name the session in a cookie `sIdRefreshToken` too; here the header `id-refresh-token` does.

mod sessions;

use std::time::Duration;

use crate::support::{Answer, Browser, Replica, World, eventually};

const HOUR: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
const ENDPOINT: &str = "/auth/session/refresh";
const TRY_REFRESH: &str = "try refresh token";
const UNAUTHORISED: &str = "unauthorised";
const USER: &str = "testing";

/// As the library does it: the client refreshes, and reuse is theft at once.
fn world(settings: &[(&str, &str)]) -> World {
    let usual = [("session.refresh", "client"), ("session.reuse_grace", "0s")];
    World::with(&[&usual, settings].concat())
}

/// The path under which an answer sets a cookie, or clears it.
#[track_caller]
fn paths_of<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    let cookies = answer.all("set-cookie").into_iter();
    let named = cookies.filter(|cookie| cookie.starts_with(&format!("{name}=")));
    named
        .map(|cookie| {
            let path = cookie.split("; ").find_map(|it| it.strip_prefix("Path="));
            path.unwrap()
        })
        .collect()
}

#[track_caller]
fn assert_over(answer: &Answer, message: &str) {
    answer.assert_session_over();
    assert_eq!(answer.message(), message);
    assert!(paths_of(answer, "sRefreshToken").contains(&ENDPOINT));
    assert_eq!(answer.header("anti-csrf"), None);
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

/// The library asks for the anti-CSRF token with every `getSession`, here what changes nothing goes without; a refresh goes
/// without in the library.
#[test]
fn create_get_and_refresh_session_with_theft_anti_csrf_and_cookie_paths() {
    let world = world(&[
        ("session.anti_csrf", "token"),
        ("session.anti_csrf_refresh", "off"),
    ]);
    let gateway = world.replica();
    let mut alice = Browser::new();
    let login = alice.log_in(&gateway, USER);
    login.assert_opened();
    assert_eq!(paths_of(&login, "sAccessToken"), ["/"]);
    assert_eq!(paths_of(&login, "sRefreshToken"), [ENDPOINT]);
    let token = login.header("anti-csrf").unwrap();
    let shown = [("anti-csrf", token)];
    let app = String::from_utf8(alice.request("POST", "/app", &shown, "")).unwrap();
    assert!(app.contains("sAccessToken=") && !app.contains("sRefreshToken="));
    alice
        .send(&gateway, "POST", "/app", &shown, "")
        .assert_served();
    assert_eq!(world.app.last().user(), Some(USER));

    world.pass(HOUR);
    alice
        .send(&gateway, "POST", "/app", &shown, "")
        .assert_refused(401, TRY_REFRESH);

    let old = alice.clone();
    let refresh = alice.post(&gateway, ENDPOINT);
    refresh.assert_opened();
    assert_eq!(paths_of(&refresh, "sAccessToken"), ["/"]);
    assert_eq!(paths_of(&refresh, "sRefreshToken"), [ENDPOINT]);
    assert_ne!(alice.access(), old.access());
    assert_ne!(alice.refresh(), old.refresh());
    let mark = |answer: &Answer| answer.header("id-refresh-token").unwrap().to_owned();
    assert_ne!(mark(&refresh), mark(&login));
    let shown = [("anti-csrf", refresh.header("anti-csrf").unwrap())];
    alice
        .send(&gateway, "POST", "/app", &shown, "")
        .assert_served();
    alice
        .post(&gateway, "/app")
        .assert_refused(401, TRY_REFRESH);

    use_is_noted(&world);
    world.pass(SECOND);
    let theft = old.clone().post(&gateway, ENDPOINT);
    assert_over(&theft, "token theft detected");
}

#[test]
fn create_get_and_refresh_session_with_anti_csrf_disabled() {
    let world = world(&[("session.anti_csrf", "off")]);
    let gateway = world.replica();
    let mut alice = Browser::new();
    let login = alice.log_in(&gateway, USER);
    login.assert_opened();
    assert_eq!(login.header("anti-csrf"), None);
    let elsewhere = [("Sec-Fetch-Site", "cross-site")];
    alice
        .send(&gateway, "POST", "/app", &elsewhere, "")
        .assert_served();
    assert_eq!(world.app.last().user(), Some(USER));
    world.pass(HOUR);
    alice
        .post(&gateway, "/app")
        .assert_refused(401, TRY_REFRESH);
    let old = alice.clone();
    let refresh = alice.post(&gateway, ENDPOINT);
    refresh.assert_opened();
    assert_eq!(refresh.header("anti-csrf"), None);
    assert_ne!(alice.access(), old.access());
    assert_ne!(alice.refresh(), old.refresh());
    alice.post(&gateway, "/app").assert_served();
}

/// One login of the user for each replica, each through its own.
fn devices(replicas: &[Replica; 2]) -> [Browser; 2] {
    replicas
        .each_ref()
        .map(|replica| Browser::logged_in(replica, USER))
}

/// Its access token is refused at once, its refresh token too, on every replica.
#[track_caller]
fn assert_revoked(replicas: &[Replica], device: &Browser) {
    for replica in replicas {
        assert_over(&device.clone().get(replica, "/app"), UNAUTHORISED);
        assert_over(&device.clone().post(replica, ENDPOINT), UNAUTHORISED);
    }
}

/// Its access token lives until it expires, and nothing is cleared meanwhile; its refresh token is refused at once.
#[track_caller]
fn assert_revoked_but_for_its_access_token(world: &World, replicas: &[Replica], device: &Browser) {
    for replica in replicas {
        assert_over(&device.clone().post(replica, ENDPOINT), UNAUTHORISED);
        for method in ["GET", "POST"] {
            let answer = device.clone().send(replica, method, "/app", &[], "");
            answer.assert_served();
            assert_eq!(world.app.last().user(), Some(USER));
        }
    }
}

#[track_caller]
fn assert_expired(replicas: &[Replica], device: &Browser) {
    for replica in replicas {
        let refused = device.clone().get(replica, "/app");
        refused.assert_refused(401, TRY_REFRESH);
        assert_over(&device.clone().post(replica, ENDPOINT), UNAUTHORISED);
    }
}

/// Of two devices one is logged out; the other's session goes on either way.
#[test]
fn revoke_session_with_blacklisting() {
    let world = world(&[("revocation.check", "feed")]);
    let replicas = world.replicas();
    let [mut laptop, mut phone] = devices(&replicas);
    let copy = laptop.clone();
    laptop.get(&replicas[1], "/app").assert_served();
    let logout = laptop.post(&replicas[0], "/logout");
    assert_eq!(logout.status, 200);
    logout.assert_clears();
    assert_eq!(logout.header("anti-csrf"), None);
    assert_revoked(&replicas, &copy);
    phone.get(&replicas[0], "/app").assert_served();
    phone.post(&replicas[0], ENDPOINT).assert_opened();
}

#[test]
fn revoke_session_without_blacklisting() {
    let world = world(&[("revocation.check", "off")]);
    let replicas = world.replicas();
    let [mut laptop, mut phone] = devices(&replicas);
    let copy = laptop.clone();
    laptop.get(&replicas[1], "/app").assert_served();
    let logout = laptop.post(&replicas[0], "/logout");
    assert_eq!(logout.status, 200);
    logout.assert_clears();
    assert_eq!(logout.header("anti-csrf"), None);
    assert_revoked_but_for_its_access_token(&world, &replicas, &copy);
    phone.post(&replicas[0], ENDPOINT).assert_opened();
    world.pass(HOUR);
    assert_expired(&replicas, &copy);
}

#[test]
fn refresh_token_expired() {
    let world = world(&[
        ("session.access_token_lifetime", "1h"),
        ("session.refresh_token_lifetime", "2h"),
    ]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, USER);
    alice.get(&gateway, "/app").assert_served();
    world.pass(2 * HOUR);
    alice.get(&gateway, "/app").assert_refused(401, TRY_REFRESH);
    assert!(alice.has_a_session());
    let refresh = alice.post(&gateway, ENDPOINT);
    assert_over(&refresh, UNAUTHORISED);
    assert!(!alice.has_a_session());
}

/// The library clears nothing for who revokes all of its user's sessions; here that is a logout.
#[test]
fn revoke_all_sessions_of_a_user_with_blacklisting() {
    let world = world(&[("revocation.check", "feed")]);
    let replicas = world.replicas();
    let devices = devices(&replicas);
    let mut other = Browser::logged_in(&replicas[0], "somebody else");
    let all = devices[0].clone().post(&replicas[0], "/logout-all");
    assert_eq!(all.status, 200);
    all.assert_clears();
    for device in &devices {
        assert_revoked(&replicas, device);
    }
    other.get(&replicas[1], "/app").assert_served();
}

#[test]
fn revoke_all_sessions_of_a_user_without_blacklisting() {
    let world = world(&[("revocation.check", "off")]);
    let replicas = world.replicas();
    let devices = devices(&replicas);
    let mut other = Browser::logged_in(&replicas[0], "somebody else");
    let all = devices[0].clone().post(&replicas[0], "/logout-all");
    assert_eq!(all.status, 200);
    all.assert_clears();
    for device in &devices {
        assert_revoked_but_for_its_access_token(&world, &replicas, device);
    }
    other.post(&replicas[1], ENDPOINT).assert_opened();
    world.pass(HOUR);
    for device in &devices {
        assert_expired(&replicas, device);
    }
}
