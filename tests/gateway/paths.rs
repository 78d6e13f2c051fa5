//! What was matched is what is forwarded: one canonical path, and what can be read in two ways is refused.

use crate::support::{Browser, World};

const NOBODY: &str = "try refresh token";

/// Invariant 9: T019, T020, T021, T023, T027 and their kin.
#[test]
fn a_target_that_can_be_read_in_two_ways_is_refused() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let seen = world.app.seen().len();
    for target in [
        "/public/../app/a",
        "/public/./../app/a",
        "/public/..",
        "/..",
        "/.",
        "/public/%2e%2e/app/a",
        "/public/%2E%2E/app/a",
        "/public/.%2e/app/a",
        "/public/%2e./app/a",
        "/public/..;/app/a",
        "/public/..;x=y/app/a",
        "/public/%2e%2e%3b/app/a",
        "/public%2f..%2fapp/a",
        "/public/..%2fapp/a",
        "/public/..%5capp/a",
        "/public/..\\app/a",
        "/public\\..\\app",
        "/app%2fa",
        "/app%2Fa",
        "/public//../app",
        "//public/../app",
        "/public/%00",
        "/public/a%00.css",
        "/public/a%0d%0aX-User-Id:%20admin",
        "/public/%zz",
        "/public/%",
        "/public/%2",
        "/public/%c0%ae%c0%ae/app",
        "/public/\u{80}",
        "/public/a\tb",
        "/public/a b",
        "public/a",
        "*",
        "/app/a#/../b",
        "/app/a#/public/",
    ] {
        for request in [
            alice.request("GET", target, &[], ""),
            format!("GET {target} HTTP/1.1\r\nHost: g.test\r\n\r\n").into_bytes(),
        ] {
            let answer = gateway.raw(&request);
            assert_eq!(answer.status, 400, "{target}");
            answer.assert_says_nothing_of_a_session();
        }
    }
    let raw = gateway.raw(b"GET /public/\x80 HTTP/1.1\r\nHost: g.test\r\n\r\n");
    assert_eq!(raw.status, 400);
    assert_eq!(world.app.seen().len(), seen);
}

/// Invariant 9: T023, T028, T033, T038. Left what is sent, right what is matched, logged and forwarded.
#[test]
fn the_application_gets_the_bytes_that_were_matched() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for (sent, forwarded) in [
        ("/app/a", "/app/a"),
        ("//app/a", "/app/a"),
        ("///app///a//", "/app/a/"),
        ("//evil.test/app/a", "/evil.test/app/a"),
        ("/%61pp/%7ea", "/app/~a"),
        ("/app/%e2%82%ac", "/app/%E2%82%AC"),
        ("/app/a%20b", "/app/a%20b"),
        ("/app/%252e%252e/x", "/app/%252e%252e/x"),
        ("/app/%25%32%65", "/app/%252e"),
        ("/app/...", "/app/..."),
        ("/app/a?x=/../%2f..%2e&y=//", "/app/a?x=/../%2f..%2e&y=//"),
        ("/app?", "/app?"),
        ("/app?a?b", "/app?a?b"),
    ] {
        let answer = alice.get(&gateway, sent);
        assert_eq!(answer.status, 200, "{sent}");
        assert_eq!(world.app.last().target(), forwarded, "{sent}");
    }
}

#[test]
fn what_looks_public_is_public_only_if_what_is_forwarded_is() {
    let world = World::new();
    let gateway = world.replica();
    for target in [
        "/public",
        "/public/",
        "/public/a",
        "//public//a",
        "/%70ublic/a",
        "/public/%252e%252e/app/a",
        "/public/a?/app",
    ] {
        gateway.get(target).assert_served();
        assert!(world.app.last().target().starts_with("/public"), "{target}");
    }
    let seen = world.app.seen().len();
    for target in [
        "//app/a",
        "///app/a",
        "//evil.test/app/a",
        "/PUBLIC/a",
        "/Public/a",
        "/publicx/a",
        "/publi",
        "/app/public/a",
        "/app/a?x=/public/b",
        "/app/a?/public/",
        "/?/public/a",
        "/%50ublic/a",
        "/public%3fa",
        "/public%23",
        "/public%3b/a",
    ] {
        gateway.get(target).assert_refused(401, NOBODY);
    }
    assert_eq!(world.app.seen().len(), seen);
}

/// T030: the target's own host must be the request's.
#[test]
fn an_absolute_target_names_the_same_host() {
    let world = World::new();
    let gateway = world.replica();
    let send = |target: &str, hosts: &str| {
        gateway
            .raw(format!("GET {target} HTTP/1.1\r\n{hosts}\r\n").as_bytes())
            .status
    };
    assert_eq!(send("http://g.test/app/a", "Host: g.test\r\n"), 401);
    assert_eq!(send("http://g.test/public/a", "Host: g.test\r\n"), 200);
    assert_eq!(world.app.last().target(), "/public/a");
    assert_eq!(send("http://G.TEST/public/a", "Host: g.test\r\n"), 200);
    for (target, hosts) in [
        ("http://g.test/public/a", "Host: other\r\n"),
        ("http://u@g.test/public/a", "Host: g.test\r\n"),
        ("/public/a", ""),
        ("/public/a", "Host: g.test\r\nHost: g.test\r\n"),
        ("/public/a", "Host: \r\n"),
        ("/public/a", "Host: g.test/x\r\n"),
        ("/public/a", "Host: u@g.test\r\n"),
        ("/public/a", "Host: g.test, evil.test\r\n"),
    ] {
        assert_eq!(send(target, hosts), 400, "{target} {hosts}");
    }
}

/// T034.
#[test]
fn a_rule_stands_for_its_methods_alone() {
    let world = World::new();
    let gateway = world.replica();
    for (method, status) in [
        ("POST", 401),
        ("PATCH", 401),
        ("DELETE", 401),
        ("OPTIONS", 401),
        ("GETT", 401),
        ("get", 400),
        ("Get", 400),
        ("TRACE", 405),
    ] {
        assert_eq!(
            gateway.send(method, "/public/a", &[], "").status,
            status,
            "{method}"
        );
    }
    let connect = gateway.raw(b"CONNECT g.test:443 HTTP/1.1\r\nHost: g.test:443\r\n\r\n");
    assert!([400, 405].contains(&connect.status));
    // T035: a preflight shows no session, so it is nobody's.
    let preflight = [
        ("Origin", "https://g.test"),
        ("Access-Control-Request-Method", "PUT"),
    ];
    gateway
        .send("OPTIONS", "/app/a", &preflight, "")
        .assert_refused(401, NOBODY);
    assert!(world.app.seen().is_empty());
}

/// T038: whatever the application might take for a logout is one, or does not reach it as one.
#[test]
fn a_logout_path_in_any_spelling_is_a_logout() {
    let world = World::new();
    let gateway = world.replica();
    for path in [
        "/logout",
        "/logout/",
        "//logout",
        "/l%6fgout",
        "/logout?x=y",
        "/auth/%73ignout",
        "/auth//signout",
        "/auth/signout",
    ] {
        let alice = Browser::logged_in(&gateway, "alice");
        alice.clone().post(&gateway, path).assert_clears();
        alice.clone().get(&gateway, "/app").assert_session_over();
    }
    let mut alice = Browser::logged_in(&gateway, "alice");
    for path in ["/LOGOUT", "/logout/x", "/logoutx"] {
        alice.post(&gateway, path).assert_served();
        assert_eq!(world.app.last().target(), path);
    }
    for method in ["GET", "PUT", "HEAD", "DELETE"] {
        let request = alice.request(method, "/logout", &[], "");
        let mut connection = gateway.connect();
        connection.send(&request);
        let answer = connection.head();
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("POST")),
            "{method}"
        );
    }
    assert!(
        world
            .app
            .seen()
            .iter()
            .all(|seen| !matches!(seen.path(), "/logout" | "/logout/"))
    );
    alice.get(&gateway, "/app").assert_served();
}

/// T039.
#[test]
fn what_is_too_long_is_refused() {
    let world = World::new();
    let gateway = world.replica();
    let long_path = format!("/public/{}", "a".repeat(8192));
    let many_segments = "/public".to_owned() + &"/a".repeat(256);
    let long_query = format!("/public/a?{}", "a".repeat(65 * 1024));
    for (target, statuses) in [
        (long_path, &[414][..]),
        (many_segments, &[400, 414]),
        (long_query, &[400, 414, 431]),
    ] {
        let mut connection = gateway.connect();
        let request = format!("GET {target} HTTP/1.1\r\nHost: g.test\r\n\r\n");
        connection.send_what_may_be_refused(request.as_bytes());
        let status = connection.head().status;
        assert!(statuses.contains(&status), "{status}: {:.20}", target);
    }
    assert!(world.app.seen().is_empty());
}
