//! Clients that keep their tokens themselves: in response headers they get them, in `Authorization` they send them.

use std::io::Write;
use std::time::Duration;

use super::REFRESH;
use crate::support::browser::claims_of;
use crate::support::{Answer, Browser, Replica, World};

const HOUR: Duration = Duration::from_hours(1);

/// An app on a phone: it has no cookies.
#[derive(Clone)]
struct Phone {
    access: String,
    refresh: String,
}

impl Phone {
    #[track_caller]
    fn logged_in(gateway: &Replica, user: &str) -> Self {
        let mode = [("st-auth-mode", "header")];
        let answer = gateway.send("POST", "/login", &mode, &format!("user={user}"));
        assert_eq!(answer.header("set-cookie"), None, "{answer:?}");
        Self::given(&answer)
    }

    /// The tokens of an answer that has all that belongs to them.
    #[track_caller]
    fn given(answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("anti-csrf"), None);
        answer.assert_exposed_and_not_stored();
        let exposed = answer.all("access-control-expose-headers").join(", ");
        assert!(exposed.contains("st-access-token") && exposed.contains("st-refresh-token"));
        let phone = Self {
            access: answer.header("st-access-token").unwrap().to_owned(),
            refresh: answer.header("st-refresh-token").unwrap().to_owned(),
        };
        assert_eq!(answer.front_token()["up"], claims_of(&phone.access));
        assert!(answer.header("id-refresh-token").is_some());
        phone
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.access)
    }

    fn send(&self, gateway: &Replica, method: &str, path: &str) -> Answer {
        gateway.send(method, path, &[("Authorization", &self.bearer())], "")
    }

    fn refresh(&self, gateway: &Replica) -> Answer {
        let bearer = format!("Bearer {}", self.refresh);
        gateway.send("POST", REFRESH, &[("Authorization", &bearer)], "")
    }
}

#[track_caller]
fn assert_clears_headers(answer: &Answer) {
    answer.assert_clears();
    assert_eq!(answer.header("st-access-token"), Some(""));
    assert_eq!(answer.header("st-refresh-token"), Some(""));
}

#[test]
fn a_token_in_authorization_is_a_session_and_stays_with_the_gateway() {
    let world = World::new();
    let gateway = world.replica();
    let phone = Phone::logged_in(&gateway, "alice");
    for path in ["/app", "/opt/x"] {
        phone.send(&gateway, "GET", path).assert_served();
        assert_eq!(world.app.last().user(), Some("alice"), "{path}");
        assert_eq!(world.app.last().all("authorization"), [""; 0]);
    }
    phone.send(&gateway, "GET", "/public/x").assert_served();
    assert_eq!(world.app.last().user(), None);
    assert_eq!(world.app.last().all("authorization"), [""; 0]);
}

#[test]
fn who_keeps_the_tokens_refreshes_them() {
    let world = World::new();
    let gateway = world.replica();
    let phone = Phone::logged_in(&gateway, "alice");
    world.pass(HOUR);
    phone
        .send(&gateway, "GET", "/app")
        .assert_refused(401, "try refresh token");
    let answer = phone.refresh(&gateway);
    assert_eq!(answer.text(), "{}");
    assert_eq!(answer.header("set-cookie"), None);
    let next = Phone::given(&answer);
    assert_ne!(next.refresh, phone.refresh);
    next.send(&gateway, "GET", "/app").assert_served();
    assert_eq!(world.app.last().user(), Some("alice"));
}

#[test]
fn only_the_refresh_token_refreshes() {
    let world = World::new();
    let gateway = world.replica();
    let phone = Phone::logged_in(&gateway, "alice");
    let answer = phone.send(&gateway, "POST", REFRESH);
    answer.assert_session_over();
    assert_clears_headers(&answer);
    let refresh = Phone {
        access: phone.refresh.clone(),
        ..phone.clone()
    };
    refresh
        .send(&gateway, "GET", "/app")
        .assert_refused(401, "try refresh token");
    let mode = [("st-auth-mode", "header")];
    assert_clears_headers(&gateway.send("POST", REFRESH, &mode, ""));
    phone.send(&gateway, "GET", "/app").assert_served();
}

#[test]
fn a_header_wins_over_cookies_which_a_refresh_clears() {
    let world = World::new();
    let gateway = world.replica();
    let phone = Phone::logged_in(&gateway, "bob");
    let mut alice = Browser::logged_in(&gateway, "alice");
    let bearer = phone.bearer();
    alice
        .send(&gateway, "GET", "/app", &[("Authorization", &bearer)], "")
        .assert_served();
    assert_eq!(world.app.last().user(), Some("bob"));
    assert_eq!(world.app.last().all("cookie"), [""; 0]);

    let bearer = format!("Bearer {}", phone.refresh);
    let answer = alice.send(&gateway, "POST", REFRESH, &[("Authorization", &bearer)], "");
    assert_eq!(answer.front_token()["uid"], "bob");
    assert!(answer.header("st-access-token").is_some());
    assert!(!alice.has_a_session());
}

#[test]
fn no_other_site_can_send_a_token_in_a_header() {
    for anti_csrf in ["origin", "custom-header", "token"] {
        let world = World::with(&[("session.anti_csrf", anti_csrf)]);
        let gateway = world.replica();
        let phone = Phone::logged_in(&gateway, "alice");
        let bearer = phone.bearer();
        let foreign = [
            ("Authorization", &*bearer),
            ("Origin", "https://elsewhere.test"),
            ("Sec-Fetch-Site", "cross-site"),
        ];
        gateway.send("POST", "/app", &foreign, "").assert_served();
        assert_eq!(world.app.last().user(), Some("alice"));
        Phone::given(&phone.refresh(&gateway));
        assert_eq!(gateway.send("POST", "/logout", &foreign, "").status, 200);
        assert_eq!(phone.send(&gateway, "GET", "/app").status, 401);
    }
}

#[test]
fn a_logout_ends_the_session_and_empties_the_headers() {
    let world = World::new();
    let gateway = world.replica();
    for path in ["/logout", "/auth/signout", "/logout-all"] {
        let phone = Phone::logged_in(&gateway, "alice");
        let answer = phone.send(&gateway, "POST", path);
        assert_eq!((answer.status, answer.text()), (200, r#"{"status":"OK"}"#));
        assert_clears_headers(&answer);
        let refused = phone.send(&gateway, "GET", "/app");
        refused.assert_session_over();
        assert_clears_headers(&refused);
        let refused = phone.refresh(&gateway);
        refused.assert_session_over();
        assert_clears_headers(&refused);
    }
    let phone = Phone::logged_in(&gateway, "alice");
    world.pass(HOUR * 2);
    assert_eq!(phone.send(&gateway, "POST", "/logout").status, 200);
    assert_eq!(
        phone.refresh(&gateway).status,
        401,
        "an expired token names it"
    );
}

/// T017.
#[test]
fn what_is_not_ours_in_authorization_is_the_application_s() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let opaque = "A".repeat(91);
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2cudGVzdCIsInN1YiI6ImFsaWNlIn0.c2ln";
    for value in [
        "Basic YWxpY2U6c2VjcmV0".to_owned(),
        format!("Bearer {opaque}"),
        format!("Bearer {jwt}"),
        format!("DPoP {jwt}"),
        "Digest username=\"a\", nonce=\"b\"".to_owned(),
        "Bearer".to_owned(),
    ] {
        let headers = [("Authorization", &*value)];
        for path in ["/app", "/public/x"] {
            alice
                .send(&gateway, "GET", path, &headers, "")
                .assert_served();
            assert_eq!(world.app.last().all("authorization"), [&value], "{path}");
        }
        assert_eq!(
            world.app.seen().iter().rev().nth(1).unwrap().user(),
            Some("alice")
        );
    }
}

#[test]
fn what_is_ours_never_reaches_the_application_however_it_is_said() {
    let world = World::new();
    let gateway = world.replica();
    let phone = Phone::logged_in(&gateway, "alice");
    let Phone { access, refresh } = &phone;
    let (message, _) = access.rsplit_once('.').unwrap();
    for value in [
        format!("Bearer {access}"),
        format!("bearer   {access}"),
        format!("Bearer {refresh}"),
        format!("Token {access}"),
        format!("Bearer {access}, Basic x"),
        format!("Bearer token=\"{access}\""),
        format!("Bearer {message}.AAAA"),
        access.clone(),
    ] {
        for path in ["/public/x", "/opt/x", "/login"] {
            gateway
                .send("GET", path, &[("Authorization", &*value)], "")
                .assert_served();
            assert_eq!(world.app.last().all("authorization"), [""; 0], "{value}");
        }
    }
    let bearer = phone.bearer();
    let both = [("Authorization", "Basic x"), ("Authorization", &*bearer)];
    gateway.send("GET", "/public/x", &both, "").assert_served();
    assert_eq!(world.app.last().all("authorization"), [""; 0]);
    let refused = gateway.send("GET", "/app", &both, "");
    refused.assert_refused(401, "try refresh token");
}

#[test]
fn where_headers_do_not_count_they_are_still_kept_from_the_application() {
    let both_modes = World::new();
    let world = World::with(&[("session.header_mode", "false")]);
    let gateway = world.replica();
    let mode = [("st-auth-mode", "header")];
    let answer = gateway.send("POST", "/login", &mode, "user=alice");
    answer.assert_opened();
    assert_eq!(answer.header("st-access-token"), None);
    let mut alice = Browser::new();
    alice.keep(&answer);
    let bearer = format!("Bearer {}", alice.access());
    let headers = [("Authorization", &*bearer)];
    gateway
        .send("GET", "/app", &headers, "")
        .assert_refused(401, "try refresh token");
    gateway
        .send("GET", "/public/x", &headers, "")
        .assert_served();
    assert_eq!(world.app.last().all("authorization"), [""; 0]);
    let mut bob = Browser::logged_in(&gateway, "bob");
    bob.send(&gateway, "GET", "/app", &headers, "")
        .assert_served();
    assert_eq!(world.app.last().user(), Some("bob"), "cookies count");
    drop(both_modes);
}

/// Else a script that was smuggled into a page could read what the browser keeps from it.
#[test]
fn what_came_in_a_cookie_never_leaves_in_a_header() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let mode = [("st-auth-mode", "header")];
    let answer = alice.send(&gateway, "POST", REFRESH, &mode, "");
    answer.assert_opened();
    assert_eq!(answer.header("st-access-token"), None);
    assert_eq!(answer.header("st-refresh-token"), None);
}

#[test]
fn a_login_in_header_mode_replaces_the_session_of_the_cookies() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let mut copy = alice.clone();
    let mode = [("st-auth-mode", "header")];
    let answer = alice.send(&gateway, "POST", "/login", &mode, "user=alice");
    Phone::given(&answer);
    assert!(!alice.has_a_session());
    copy.get(&gateway, "/app").assert_session_over();
}

#[test]
fn handshakes_carry_the_token_too() {
    let world = World::new();
    let gateway = world.replica();
    world.app.plays("/ws", |_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
    });
    let phone = Phone::logged_in(&gateway, "alice");
    let bearer = phone.bearer();
    let handshake = |authorization: &str| {
        let mut connection = gateway.connect();
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Origin", "capacitor://localhost"),
            ("Authorization", authorization),
        ];
        connection.send(&crate::support::wire::request("GET", "/ws", &headers, ""));
        connection.head().status
    };
    assert_eq!(handshake(&bearer), 101);
    assert_eq!(world.app.last().user(), Some("alice"));
    assert_eq!(world.app.last().all("authorization"), [""; 0]);
    assert_eq!(handshake("Bearer x"), 401);
}
