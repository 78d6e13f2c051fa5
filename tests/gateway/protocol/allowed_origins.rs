//! Pages of other origins of the same deployment, which may call with credentials.

use super::REFRESH;
use crate::support::{Answer, Browser, World};

const WWW: &str = "https://www.g.test";

fn world() -> World {
    let settings = [
        (
            "session.allowed_origins",
            r#"["https://www.g.test", "https://m.g.test:8443"]"#,
        ),
        ("session.refresh", "client"),
    ];
    World::with_rules(
        &settings,
        "[[route]]\npath = \"/open/**\"\nauth = \"none\"\n",
    )
}

#[track_caller]
fn assert_shared_with(answer: &Answer, origin: Option<&str>) {
    assert_eq!(
        answer.header("access-control-allow-origin"),
        origin,
        "{answer:?}"
    );
    let credentials = answer.header("access-control-allow-credentials");
    assert_eq!(credentials, origin.map(|_| "true"));
    assert!(
        answer
            .all("vary")
            .join(", ")
            .to_lowercase()
            .contains("origin"),
        "{answer:?}"
    );
}

#[test]
fn their_pages_may_act_and_read_the_answers() {
    let world = world();
    let gateway = world.replica();
    let www = [("Origin", WWW), ("Sec-Fetch-Site", "same-site")];
    let mut alice = Browser::new();
    let login = alice.send(&gateway, "POST", "/login", &www, "user=alice");
    login.assert_opened();
    assert_shared_with(&login, Some(WWW));
    let exposed = login.all("access-control-expose-headers").join(", ");
    for name in [
        "front-token",
        "id-refresh-token",
        "anti-csrf",
        "st-access-token",
        "st-refresh-token",
    ] {
        assert!(exposed.contains(name), "{name}");
    }
    for (method, path, status) in [
        ("POST", "/app", 200),
        ("GET", "/app", 200),
        ("POST", REFRESH, 200),
        ("POST", "/auth/signout", 200),
        ("POST", REFRESH, 401),
        ("GET", "/app", 401),
        ("GET", "/auth/signout", 405),
    ] {
        let answer = alice.send(&gateway, method, path, &www, "");
        assert_eq!(answer.status, status, "{method} {path}");
        assert_shared_with(&answer, Some(WWW));
    }
}

#[test]
fn nobody_else_is_let() {
    let world = world();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for origin in [
        "https://evil.test",
        "https://www.g.test.evil.test",
        "http://www.g.test",
        "https://m.g.test",
        "null",
        "*",
    ] {
        let foreign = [("Origin", origin)];
        for (method, path, status) in [
            ("GET", "/app", 200),
            ("POST", "/app", 403),
            ("POST", REFRESH, 401),
            ("POST", "/logout", 403),
        ] {
            let answer = alice.send(&gateway, method, path, &foreign, "");
            assert_eq!(answer.status, status, "{origin} {method} {path}");
            assert_shared_with(&answer, None);
        }
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
        ];
        for (path, status) in [("/app", 200), (REFRESH, 405)] {
            let answer = alice.send(&gateway, "OPTIONS", path, &asked, "");
            assert_eq!(answer.status, status);
            assert_shared_with(&answer, None);
        }
    }
    assert_shared_with(&alice.get(&gateway, "/app"), None);
}

/// T035.
#[test]
fn preflights_are_answered_without_a_session_and_without_the_application() {
    let world = world();
    let gateway = world.replica();
    let asked = [
        ("Origin", WWW),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "x-app-thing"),
    ];
    for path in [
        "/app",
        "/opt/x",
        REFRESH,
        "/auth/signout",
        "/logout",
        "/login",
    ] {
        let answer = gateway.send("OPTIONS", path, &asked, "");
        assert_eq!(answer.status, 204, "{path}");
        assert_shared_with(&answer, Some(WWW));
        assert_eq!(answer.header("access-control-allow-methods"), Some("PUT"));
        let allowed = answer.all("access-control-allow-headers").join(", ");
        for name in [
            "anti-csrf",
            "rid",
            "fdi-version",
            "authorization",
            "st-auth-mode",
            "content-type",
            "x-app-thing",
        ] {
            assert!(
                allowed.split(", ").any(|other| other == name),
                "{name} not in {allowed}"
            );
        }
    }
    assert_eq!(world.app.seen().len(), 0);
    gateway
        .send("OPTIONS", "/open/x", &asked, "")
        .assert_served();
    assert_eq!(world.app.last().line(), "OPTIONS /open/x HTTP/1.1");
    for less in [&asked[..1], &asked[1..], &[]] {
        gateway
            .send("OPTIONS", "/app", less, "")
            .assert_refused(401, "try refresh token");
    }
}

#[test]
fn the_application_has_the_last_word_about_its_own_answers() {
    let world = world();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    world.app.answers(
        "/app",
        "200 OK\r\nAccess-Control-Allow-Origin: https://other.test",
        "x",
    );
    let answer = alice.send(&gateway, "GET", "/app", &[("Origin", WWW)], "");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://other.test")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    let open = alice.send(&gateway, "GET", "/public/x", &[("Origin", WWW)], "");
    assert_eq!(open.header("access-control-allow-origin"), None);
    assert_eq!(open.header("vary"), None);
}

#[test]
fn without_any_nothing_is_said() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let answer = alice.send(&gateway, "GET", "/app", &[("Origin", WWW)], "");
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("vary"), None);
    let asked = [("Origin", WWW), ("Access-Control-Request-Method", "POST")];
    gateway
        .send("OPTIONS", "/app", &asked, "")
        .assert_refused(401, "try refresh token");
}
