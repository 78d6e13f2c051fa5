//! Logging out: when the answer has arrived, nobody is that session any more.

use std::time::Duration;

use crate::support::browser::REFRESH;
use crate::support::{Browser, World};

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn after_the_answer_the_session_is_refused_at_once() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    alice.get(&gateway, "/app").assert_served();
    let mut copy = alice.clone();

    let answer = alice.post(&gateway, "/logout");
    assert_eq!((answer.status, answer.text()), (200, r#"{"status":"OK"}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.assert_clears();
    assert!(!alice.has_a_session());

    let before = world.app.seen().len();
    copy.clone().get(&gateway, "/app").assert_session_over();
    copy.post(&gateway, "/auth/session/refresh")
        .assert_session_over();
    assert_eq!(world.app.seen().len(), before);
}

/// Invariant 12.
#[test]
fn a_second_try_is_free_and_is_answered_in_the_same_way() {
    let world = World::new();
    let gateway = world.replica();
    for path in ["/logout", "/logout/", "/logout-all", "/auth/signout"] {
        let mut alice = Browser::logged_in(&gateway, "alice");
        let copy = alice.clone();
        let first = alice.post(&gateway, path);
        assert_eq!(first.status, 200, "{path}");
        first.assert_clears();
        let undated = |mut answer: crate::support::Answer| {
            answer.headers.retain(|(name, _)| name != "date");
            answer
        };
        let first = undated(first);
        let again = copy.clone().post(&gateway, path);
        assert_eq!(undated(again), first, "{path} once more");
        let without = Browser::new().post(&gateway, path);
        assert_eq!(undated(without), first, "{path} without a cookie");
        let revoked = copy.clone().post(&gateway, path);
        assert_eq!(undated(revoked), first, "{path} after that");
        let nonsense = [("Cookie", "sAccessToken=x.y.z; sRefreshToken=zz")];
        assert_eq!(undated(gateway.send("POST", path, &nonsense, "")), first);
    }
}

#[test]
fn an_expired_token_names_the_session_that_it_ends() {
    let world = World::with(&[("session.refresh", "client")]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let copy = alice.clone();
    world.pass(HOUR + Duration::from_secs(1));
    alice
        .get(&gateway, "/app")
        .assert_refused(401, "try refresh token");
    let answer = alice.post(&gateway, "/logout");
    assert_eq!(answer.status, 200);
    answer.assert_clears();
    copy.clone()
        .post(&gateway, "/auth/session/refresh")
        .assert_session_over();
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 0);
}

#[test]
fn a_forged_token_ends_nothing() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let (unsigned, _) = alice.access().rsplit_once('.').unwrap();
    for forged in [
        format!("{unsigned}."),
        format!("{unsigned}.AAAA"),
        unsigned.to_owned(),
    ] {
        let cookie = format!("sAccessToken={forged}");
        let answer = gateway.send("POST", "/logout", &[("Cookie", &cookie)], "");
        assert_eq!(answer.status, 200);
    }
    alice.get(&gateway, "/app").assert_served();
}

/// T071: all devices of the user, and of nobody else.
#[test]
fn scope_user_ends_all_devices_and_no_other_user_s() {
    let world = World::new();
    let [one, two] = world.replicas();
    let mut laptop = Browser::logged_in(&one, "alice");
    let mut phone = Browser::logged_in(&two, "alice");
    let mut bob = Browser::logged_in(&two, "bob");
    let copy = laptop.clone();
    laptop.post(&one, "/logout-all").assert_clears();
    for replica in [&one, &two] {
        for browser in [&copy, &phone] {
            browser.clone().get(replica, "/app").assert_session_over();
            browser
                .clone()
                .post(replica, "/auth/session/refresh")
                .assert_session_over();
        }
        bob.get(replica, "/app").assert_served();
    }
    phone.log_in(&one, "alice").assert_opened();
    phone.get(&two, "/app").assert_served();
}

/// T100: an expired token alone ends its own session at most, never those of the other devices.
#[test]
fn an_expired_token_alone_never_ends_all_devices() {
    let world = World::with(&[("session.refresh", "client")]);
    let gateway = world.replica();
    let mut laptop = Browser::logged_in(&gateway, "alice");
    let mut phone = Browser::logged_in(&gateway, "alice");
    world.pass(HOUR + Duration::from_secs(1));
    phone
        .post(&gateway, "/auth/session/refresh")
        .assert_opened();
    laptop
        .post(&gateway, "/logout-all")
        .assert_refused(401, "try refresh token");
    laptop.forget(REFRESH);
    laptop
        .post(&gateway, "/logout-all")
        .assert_refused(401, "try refresh token");
    phone.get(&gateway, "/app").assert_served();
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 2);
}

#[test]
fn with_the_refresh_in_line_an_expired_token_and_its_refresh_token_end_all_devices() {
    let world = World::new();
    let gateway = world.replica();
    let mut laptop = Browser::logged_in(&gateway, "alice");
    let mut phone = Browser::logged_in(&gateway, "alice");
    world.pass(HOUR + Duration::from_secs(1));
    let answer = laptop.post(&gateway, "/logout-all");
    assert_eq!(answer.status, 200);
    answer.assert_clears();
    phone.get(&gateway, "/app").assert_session_over();
}

#[test]
fn the_command_line_ends_sessions_as_a_logout_does() {
    let world = World::new();
    let [one, two] = world.replicas();
    let mut laptop = Browser::logged_in(&one, "alice");
    let mut phone = Browser::logged_in(&two, "alice");
    let mut bob = Browser::logged_in(&one, "bob");

    let revoked = world.command(&["sessions", "revoke", &laptop.handle()]);
    assert!(revoked.status.success(), "{revoked:?}");
    laptop.clone().get(&one, "/app").assert_session_over();
    laptop.clone().get(&two, "/app").assert_session_over();
    phone.get(&one, "/app").assert_served();
    assert!(
        world
            .command(&["sessions", "revoke", &laptop.handle()])
            .status
            .success()
    );
    let answer = laptop.post(&one, "/logout");
    assert_eq!(answer.status, 200);
    answer.assert_clears();

    assert!(
        world
            .command(&["sessions", "revoke-user", "alice"])
            .status
            .success()
    );
    phone.clone().get(&one, "/app").assert_session_over();
    phone.clone().get(&two, "/app").assert_session_over();
    bob.get(&two, "/app").assert_served();
}

#[test]
fn the_application_may_see_a_logout_after_it_has_happened() {
    let world = World::with_rules(
        &[],
        "[[logout]]\npath = \"/bye-bye\"\nforward = true\nclear_cookies = [\"theme\"]\nclear_site_data = [\"storage\"]",
    );
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let copy = alice.clone();
    world.app.plays("/bye-bye", |_, stream| {
        use std::io::Write;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nSet-Cookie: seen=1\r\nContent-Length: 4\r\n\r\nbye!");
    });
    let answer = alice.post(&gateway, "/bye-bye");
    assert_eq!(answer.text(), "bye!");
    answer.assert_clears();
    assert_eq!(world.app.last().user(), Some("alice"));
    assert!(world.app.last().all("cookie").is_empty());
    let cookies = answer.all("set-cookie");
    assert!(cookies.contains(&"seen=1"));
    assert!(
        cookies
            .iter()
            .any(|cookie| cookie.starts_with("theme=;") && cookie.contains("Max-Age=0"))
    );
    assert_eq!(answer.header("clear-site-data"), Some("\"storage\""));
    copy.clone().get(&gateway, "/app").assert_session_over();
}

/// Invariant 1: the application is told whose session a logout ended, and of no session that had ended before.
#[test]
fn a_forwarded_logout_names_nobody_whose_session_was_over() {
    for scope in ["session", "user"] {
        let rule = format!("[[logout]]\npath = \"/bye-bye\"\nforward = true\nscope = \"{scope}\"");
        let world = World::with_rules(&[], &rule);
        let replicas = world.replicas();
        let mut alice = Browser::logged_in(&replicas[0], "alice");
        let mut copy = alice.clone();
        alice.post(&replicas[0], "/bye-bye").assert_clears();
        assert_eq!(world.app.last().user(), Some("alice"), "{scope}");
        copy.clone().get(&replicas[1], "/app").assert_session_over();
        copy.post(&replicas[1], "/bye-bye").assert_clears();
        assert_eq!(world.app.count("/bye-bye"), 2);
        assert_eq!(world.app.last().user(), None, "{scope}");
    }
}
