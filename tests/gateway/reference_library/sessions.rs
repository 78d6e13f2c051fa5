//! The library's scenarios about sessions themselves: its functions are those of the gateway's store, issuer and revocations.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::clock::Clock;
use portcullis::identity::UserId;
use portcullis::session::SessionHandle;
use portcullis::store::RevocationReason;

use super::{
    ENDPOINT, HOUR, SECOND, TRY_REFRESH, UNAUTHORISED, USER, assert_expired, assert_over,
    assert_revoked, assert_revoked_but_for_its_access_token, devices, use_is_noted, world,
};
use crate::support::{Browser, Replica, World, together};

const THEFT: &str = "token theft detected";

fn done<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(task)
}

fn handle(browser: &Browser) -> SessionHandle {
    browser.handle().parse().unwrap()
}

fn user() -> UserId {
    UserId::parse(USER).unwrap()
}

/// `revokeSessionUsingSessionHandle`: how many sessions ended.
fn revoke(replica: &Replica, handle: SessionHandle) -> usize {
    let revocations = &replica.parts().revocations;
    let revocation = done(revocations.revoke(&[handle], RevocationReason::Admin));
    revocation.unwrap().ended.len()
}

/// `getAllSessionHandlesForUser`, in their order.
fn handles_of(replica: &Replica, user: &str) -> Vec<SessionHandle> {
    let user = UserId::parse(user).unwrap();
    let sessions = done(replica.parts().issuer.sessions_of(&user)).unwrap();
    let mut handles: Vec<_> = sessions.iter().map(|session| session.handle).collect();
    handles.sort();
    handles
}

/// A number is one in the library; here all identifiers are text, and any text will do.
#[test]
fn user_ids_are_numbers_and_json_too() {
    let world = world(&[]);
    let gateway = world.replica();
    for user in [
        "2",
        r#"{"a":"testing"}"#,
        r#"{"a":"testing","i":"supertokens"}"#,
        r#"{"i":"testing"}"#,
    ] {
        let mut browser = Browser::logged_in(&gateway, user);
        assert_eq!(browser.claims()["sub"], user);
        browser.post(&gateway, ENDPOINT).assert_opened();
        assert_eq!(browser.claims()["sub"], user);
        assert_eq!(handles_of(&gateway, user), [handle(&browser)]);
    }
}

#[test]
fn handles_of_a_user_are_listed_until_their_sessions_end() {
    let world = world(&[]);
    let replicas = world.replicas();
    let devices = devices(&replicas);
    Browser::logged_in(&replicas[0], "somebody else");
    let mut handles = devices.each_ref().map(handle);
    handles.sort();
    for replica in &replicas {
        assert_eq!(handles_of(replica, USER), handles);
        assert!(handles_of(replica, "nobody").is_empty());
    }
    assert_eq!(revoke(&replicas[0], handles[0]), 1);
    assert_eq!(handles_of(&replicas[1], USER), handles[1..]);
}

#[test]
fn update_session_info() {
    let world = world(&[]);
    let gateway = world.replica();
    let payload = URL_SAFE_NO_PAD.encode(r#"{"a":"testing"}"#);
    let said = format!(
        "200 OK\r\nportcullis-login: {USER}\r\nportcullis-claims: {payload}\r\nportcullis-session-data: {{\"s\":\"session\"}}"
    );
    world.app.answers("/login", &said, "");
    let mut alice = Browser::logged_in(&gateway, USER);
    let (store, handle) = (&gateway.parts().store, handle(&alice));
    let info = || done(store.session(handle)).unwrap().map(|it| it.data);
    assert_eq!(info().as_deref(), Some(r#"{"s":"session"}"#));
    assert!(done(store.replace_data(handle, "2")).unwrap());
    assert_eq!(info().as_deref(), Some("2"));
    // What is in the tokens is something else, and outlives rotations as this does.
    assert_eq!(alice.claims()["claims"]["a"], "testing");
    world.pass(HOUR);
    alice.post(&gateway, ENDPOINT).assert_opened();
    assert_eq!(alice.claims()["claims"]["a"], "testing");
    assert_eq!(info().as_deref(), Some("2"));
    // Of a session that has ended there is nothing, and nothing to update.
    assert_eq!(revoke(&gateway, handle), 1);
    assert_eq!(info(), None);
    assert!(!done(store.replace_data(handle, "3")).unwrap());
}

/// `TRY_REFRESH_TOKEN`: a refresh may help, and nothing is cleared. `UNAUTHORISED`: the session is over, and all is cleared.
/// A request without a single cookie of the session is `UNAUTHORISED` in the library, which has a cookie to know it by; here
/// the client is sent to the refresh path, and is told there.
#[test]
fn errors_of_get_session() {
    let world = world(&[]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, USER);
    let mut bob = Browser::logged_in(&gateway, "bob");
    let parts = |browser: &Browser| -> Vec<String> {
        browser.access().split('.').map(str::to_owned).collect()
    };
    let (own, other) = (parts(&alice), parts(&bob));
    let altered = format!("{}.{}.{}", own[0], other[1], own[2]);
    let unsigned = format!("{}.{}.", own[0], own[1]);
    for token in ["", "x", &altered, &unsigned, alice.refresh()] {
        let cookie = format!("sAccessToken={token}");
        gateway
            .send("GET", "/app", &[("Cookie", &cookie)], "")
            .assert_refused(401, TRY_REFRESH);
    }
    gateway.get("/app").assert_refused(401, TRY_REFRESH);
    let nobody = gateway.send("POST", ENDPOINT, &[], "");
    assert_over(&nobody, UNAUTHORISED);

    alice.get(&gateway, "/app").assert_served();
    revoke(&gateway, handle(&bob));
    assert_over(&bob.get(&gateway, "/app"), UNAUTHORISED);
    world.pass(HOUR);
    alice.get(&gateway, "/app").assert_refused(401, TRY_REFRESH);
    assert!(alice.has_a_session() && !bob.has_a_session());
}

/// Each access token of the library has another anti-CSRF token; here a session has one. Its first `getSession` after a
/// refresh gives another access token; here the one of the refresh stays.
#[test]
fn refresh_session_again_and_again() {
    let world = world(&[("session.anti_csrf", "token")]);
    let gateway = world.replica();
    let mut alice = Browser::new();
    let token = alice.log_in(&gateway, USER);
    let token = token.header("anti-csrf").unwrap();
    let shown = [("anti-csrf", token)];
    let session = alice.handle();
    let mut seen = vec![alice.access().to_owned(), alice.refresh().to_owned()];
    for _ in 0..3 {
        world.pass(HOUR);
        alice
            .send(&gateway, "POST", "/app", &shown, "")
            .assert_refused(401, TRY_REFRESH);
        let refresh = alice.send(&gateway, "POST", ENDPOINT, &shown, "");
        refresh.assert_opened();
        assert_eq!(refresh.header("anti-csrf"), Some(token));
        assert_eq!(alice.handle(), session);
        for token in [alice.access(), alice.refresh()] {
            assert!(!seen.iter().any(|it| it == token), "one came again");
            seen.push(token.to_owned());
        }
        alice
            .send(&gateway, "POST", "/app", &shown, "")
            .assert_served();
    }
}

#[test]
fn a_refresh_in_time_prolongs_a_session_and_a_late_one_is_refused() {
    let world = world(&[
        ("session.access_token_lifetime", "1h"),
        ("session.refresh_token_lifetime", "3h"),
    ]);
    let gateway = world.replica();
    let mut late = Browser::logged_in(&gateway, USER);
    let mut in_time = Browser::logged_in(&gateway, USER);
    late.post(&gateway, ENDPOINT).assert_opened();
    for _ in 0..3 {
        world.pass(2 * HOUR);
        in_time.post(&gateway, ENDPOINT).assert_opened();
    }
    assert_over(&late.post(&gateway, ENDPOINT), UNAUTHORISED);
}

/// The library reports the theft and leaves the session to the application; here it is revoked, everywhere, for the thief and
/// for the user.
#[track_caller]
fn assert_theft_ends_the_session(
    world: &World,
    replicas: &[Replica],
    stolen: &Browser,
    newest: &Browser,
) {
    assert_over(&stolen.clone().post(&replicas[0], ENDPOINT), THEFT);
    assert!(handles_of(&replicas[1], USER).is_empty());
    assert_revoked(replicas, newest);
    assert_eq!(
        world
            .store()
            .number("SELECT COUNT(*) FROM revocation WHERE reason = 'theft'"),
        1
    );
}

#[test]
fn token_theft_s1_r1_s2_r1() {
    let world = world(&[]);
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], USER);
    let stolen = alice.clone();
    world.pass(2 * SECOND);
    alice.post(&replicas[0], ENDPOINT).assert_opened();
    alice.get(&replicas[1], "/app").assert_served();
    use_is_noted(&world);
    world.pass(SECOND);
    assert_theft_ends_the_session(&world, &replicas, &stolen, &alice);
}

#[test]
fn token_theft_s1_r1_r2_r1() {
    let world = world(&[]);
    let replicas = world.replicas();
    let mut alice = Browser::logged_in(&replicas[0], USER);
    let stolen = alice.clone();
    for replica in &replicas {
        world.pass(2 * SECOND);
        alice.post(replica, ENDPOINT).assert_opened();
    }
    world.pass(SECOND);
    assert_theft_ends_the_session(&world, &replicas, &stolen, &alice);
}

/// In the library, children of one parent differ, and the one that is used first makes a thief of the others.
#[test]
fn parallel_refreshes_have_one_successor_and_no_thief() {
    let world = world(&[]);
    let replicas = world.replicas();
    let alice = Browser::logged_in(&replicas[0], USER);
    world.pass(HOUR);
    let tabs = together(8, |number| {
        let mut tab = alice.clone();
        tab.post(&replicas[number % 2], ENDPOINT).assert_opened();
        tab
    });
    assert!(tabs.iter().all(|tab| tab.refresh() == tabs[0].refresh()));
    for tab in &tabs {
        tab.clone().get(&replicas[1], "/app").assert_served();
    }
    world.pass(HOUR);
    tabs[0].clone().post(&replicas[0], ENDPOINT).assert_opened();
}

/// The answer says whether there was a session to end.
#[test]
fn revoke_by_handle_with_blacklisting() {
    for check in ["feed", "database"] {
        let world = world(&[("revocation.check", check)]);
        let replicas = world.replicas();
        let [laptop, mut phone] = devices(&replicas);
        assert_eq!(revoke(&replicas[1], handle(&laptop)), 1, "{check}");
        assert_eq!(revoke(&replicas[0], handle(&laptop)), 0, "{check}");
        assert_revoked(&replicas, &laptop);
        phone.get(&replicas[0], "/app").assert_served();
    }
}

/// The library's "remove refresh token from db but session will be valid until access token expires" is the same.
#[test]
fn revoke_by_handle_without_blacklisting() {
    let world = world(&[("revocation.check", "off")]);
    let replicas = world.replicas();
    let [laptop, mut phone] = devices(&replicas);
    assert_eq!(revoke(&replicas[1], handle(&laptop)), 1);
    assert_eq!(revoke(&replicas[0], handle(&laptop)), 0);
    assert_revoked_but_for_its_access_token(&world, &replicas, &laptop);
    phone.post(&replicas[0], ENDPOINT).assert_opened();
    world.pass(HOUR);
    assert_expired(&replicas, &laptop);
}

/// The library ends one after the other; here all of them end, or none.
#[test]
fn revoke_all_sessions_for_user_by_call() {
    for check in ["feed", "database", "off"] {
        let world = world(&[("revocation.check", check)]);
        let replicas = world.replicas();
        let devices = devices(&replicas);
        let mut other = Browser::logged_in(&replicas[0], "somebody else");
        let revocations = &replicas[1].parts().revocations;
        let all = done(revocations.revoke_user(&user(), &[], RevocationReason::Admin));
        assert_eq!(all.unwrap().ended.len(), 2, "{check}");
        assert!(handles_of(&replicas[0], USER).is_empty());
        for device in &devices {
            match check {
                "off" => assert_revoked_but_for_its_access_token(&world, &replicas, device),
                _ => assert_revoked(&replicas, device),
            }
        }
        other.post(&replicas[0], ENDPOINT).assert_opened();
    }
}

#[test]
fn old_sessions_are_removed() {
    let world = world(&[
        ("session.access_token_lifetime", "1h"),
        ("session.refresh_token_lifetime", "2h"),
    ]);
    let gateway = world.replica();
    for _ in 0..3 {
        Browser::logged_in(&gateway, USER);
    }
    let rows = || world.store().number("SELECT COUNT(*) FROM session");
    assert_eq!(rows(), 3);
    world.pass(3 * HOUR);
    let mut alice = Browser::logged_in(&gateway, USER);
    let now = Clock::system().now() + 3 * HOUR;
    done(gateway.parts().store.remove_expired(now, 100)).unwrap();
    assert_eq!(rows(), 1);
    assert_eq!(handles_of(&gateway, USER), [handle(&alice)]);
    alice.post(&gateway, ENDPOINT).assert_opened();
}
