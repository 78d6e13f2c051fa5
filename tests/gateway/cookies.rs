//! Cookies: duplicated, tossed in, renamed, too many. Never by their order, never a crash.

use std::time::Duration;

use crate::support::{Browser, World, wire};

/// T059.
#[test]
fn two_live_sessions_at_once_are_nobody_s_whatever_their_order() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let mut mallory = Browser::logged_in(&gateway, "mallory");
    let pair = |name: &str, value: &str| format!("{name}={value}");
    let (a, m) = (
        pair("sAccessToken", alice.access()),
        pair("sAccessToken", mallory.access()),
    );
    let seen = world.app.seen().len();
    for (first, second) in [(&a, &m), (&m, &a)] {
        let joined = format!("{first}; {second}");
        gateway
            .send("GET", "/app", &[("Cookie", &joined)], "")
            .assert_session_over();
        let lines = [
            ("Cookie", &**first),
            ("X-Between", "1"),
            ("Cookie", &**second),
        ];
        gateway
            .send("GET", "/app", &lines, "")
            .assert_session_over();
    }
    let both = format!(
        "sRefreshToken={}; sRefreshToken={}",
        alice.refresh(),
        mallory.refresh()
    );
    gateway
        .send("POST", "/auth/session/refresh", &[("Cookie", &both)], "")
        .assert_session_over();
    assert_eq!(world.app.seen().len(), seen);
    // Nobody lost anything but those cookies.
    alice.get(&gateway, "/app").assert_served();
    mallory.get(&gateway, "/app").assert_served();
}

#[test]
fn of_several_tokens_the_one_that_is_live_counts() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let mut gone = Browser::logged_in(&gateway, "bob");
    let old = gone.access().to_owned();
    gone.post(&gateway, "/logout");
    let live = alice.access();
    for cookies in [
        format!("sAccessToken={live}; sAccessToken={live}"),
        format!("sAccessToken=garbage; sAccessToken={live}"),
        format!("sAccessToken={live}; sAccessToken=; sAccessToken=a.b.c"),
        format!("sAccessToken={old}; sAccessToken={live}"),
        format!("sAccessToken={live}; sAccessToken={old}"),
    ] {
        let answer = gateway.send("GET", "/app", &[("Cookie", &cookies)], "");
        assert_eq!((answer.status, answer.text()), (200, "hello"));
        assert_eq!(world.app.last().user(), Some("alice"));
    }
}

#[test]
fn more_tokens_than_any_honest_browser_has_are_cleared() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let tossed: String = (0..5).map(|n| format!("sAccessToken=x{n}; ")).collect();
    for cookies in [
        format!("{tossed}sAccessToken={}", alice.access()),
        format!("sAccessToken={}; {tossed}a=b", alice.access()),
    ] {
        gateway
            .send("GET", "/app", &[("Cookie", &cookies)], "")
            .assert_session_over();
    }
}

#[test]
fn a_logout_ends_every_session_that_the_browser_presents() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let mallory = Browser::logged_in(&gateway, "mallory");
    let cookies = format!(
        "sAccessToken={}; sAccessToken={}",
        mallory.access(),
        alice.access()
    );
    gateway
        .send("POST", "/logout", &[("Cookie", &cookies)], "")
        .assert_clears();
    alice.clone().get(&gateway, "/app").assert_session_over();
    mallory.clone().get(&gateway, "/app").assert_session_over();
}

/// T062.
#[test]
fn with_a_prefix_only_the_exact_name_counts() {
    let world = World::with(&[("session.cookies.prefix", "__Host-")]);
    let gateway = world.replica();
    let answer = Browser::new().log_in(&gateway, "alice");
    let cookies = answer.all("set-cookie");
    let token = cookies[0]
        .strip_prefix("__Host-sAccessToken=")
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    for cookie in &cookies {
        assert!(
            cookie.starts_with("__Host-s")
                && cookie.contains("Secure")
                && cookie.contains("Path=/;")
        );
        assert!(!cookie.contains("Domain"));
    }
    let get = |cookie: &str| {
        gateway
            .send("GET", "/app", &[("Cookie", cookie)], "")
            .status
    };
    assert_eq!(get(&format!("__Host-sAccessToken={token}")), 200);
    for name in [
        "sAccessToken",
        "=__Host-sAccessToken",
        "__host-sAccessToken",
        "__Secure-sAccessToken",
        "__Host-sAccessToken\u{200b}",
        "\u{ff3f}_Host-sAccessToken",
        "x__Host-sAccessToken",
    ] {
        assert_eq!(get(&format!("{name}={token}")), 401, "{name}");
    }
    let cleared = gateway.send("POST", "/logout", &[], "");
    let cleared = cleared.all("set-cookie");
    for name in ["__Host-sAccessToken=;", "__Host-sRefreshToken=;"] {
        assert!(cleared.iter().any(|cookie| cookie.starts_with(name)));
    }
    for cookie in cleared {
        let is_host = cookie.starts_with("__Host-");
        assert!(cookie.contains("Secure"));
        assert!(!is_host || (cookie.contains("Path=/;") && !cookie.contains("Domain")));
    }
}

/// T063.
#[test]
fn a_head_that_is_too_large_is_refused_and_the_connection_closed() {
    let world = World::new();
    let gateway = world.replica();
    let large = format!("Cookie: a={}\r\n", "b".repeat(16 * 1024));
    let many = "Cookie: a=b\r\n".repeat(101);
    for cookies in [large, many] {
        let mut connection = gateway.connect();
        let request = format!("GET /public/a HTTP/1.1\r\nHost: g.test\r\n{cookies}\r\n");
        connection.send_what_may_be_refused(request.as_bytes());
        assert_eq!(connection.answer().status, 431);
        assert!(connection.is_closed());
    }
    assert!(world.app.seen().is_empty());
}

/// T063: cookies that are small, but many, in one header or in several.
#[test]
fn more_cookies_than_any_browser_sends_are_refused_and_the_connection_closed() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let own = format!("sAccessToken={}", alice.access());
    let cookies = |count: usize| vec!["a="; count].join(";");
    let (few, half, most) = (cookies(1), cookies(128), cookies(255));
    for lines in [
        &[&*own, &*most, &*few][..],
        &[&*own, &*half, &*half],
        &[&*cookies(257)],
        &[&*cookies(500)],
    ] {
        let headers: Vec<(&str, &str)> = lines.iter().map(|line| ("Cookie", *line)).collect();
        for target in ["/app", "/public/a"] {
            let mut connection = gateway.connect();
            connection.send(&wire::request("GET", target, &headers, ""));
            let answer = connection.answer();
            answer.assert_refused(431, "too many cookies");
            assert!(connection.is_closed());
        }
    }
    let seen = world.app.seen();
    assert!(seen.iter().all(|seen| seen.path() == "/login"));
    let headers = [("Cookie", &*own), ("Cookie", &*most)];
    gateway.send("GET", "/app", &headers, "").assert_served();
    assert_eq!(world.app.last().user(), Some("alice"));
}

/// P13: decoded once.
#[test]
fn a_percent_encoded_token_is_the_token() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let encoded = alice.access().replace('.', "%2E");
    let twice = alice.access().replace('.', "%252E");
    for (value, status) in [(encoded, 200), (twice, 401), ("%ff%fe".into(), 401)] {
        let cookie = format!("sAccessToken={value}");
        assert_eq!(
            gateway
                .send("GET", "/app", &[("Cookie", &cookie)], "")
                .status,
            status
        );
    }
}

/// T098: every domain and path in which a cookie can lie.
#[test]
fn clearing_reaches_every_scope() {
    let world = World::with(&[("session.refresh", "client")])
        .with_cookies("prefix = \"\"\ndomain = \"g.test\"\nolder_domains = [\"old.test\"]");
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for answer in [
        alice.post(&gateway, "/logout"),
        Browser::new().post(&gateway, "/auth/session/refresh"),
    ] {
        answer.assert_clears();
        let cookies = answer.all("set-cookie");
        for name in ["sAccessToken", "sRefreshToken", "sIdRefreshToken"] {
            for domain in ["; Domain=g.test", "; Domain=old.test", ""] {
                let scoped = cookies.iter().any(|cookie| {
                    cookie.starts_with(&format!("{name}=;"))
                        && if domain.is_empty() {
                            !cookie.contains("Domain")
                        } else {
                            cookie.contains(domain)
                        }
                });
                assert!(scoped, "{name}{domain}: {cookies:?}");
            }
        }
        // The refresh cookie may lie at "/" too, from before the client was to refresh.
        for path in ["/", "/auth/session/refresh"] {
            let at = |cookie: &&&str| {
                cookie.starts_with("sRefreshToken=;")
                    && cookie
                        .split("; ")
                        .any(|part| part == format!("Path={path}"))
            };
            assert_eq!(cookies.iter().filter(at).count(), 3, "{path}: {cookies:?}");
        }
    }
}

/// T103.
#[test]
fn what_depends_on_a_session_is_kept_by_no_shared_cache() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for (said, told) in [
        ("200 OK", "no-store"),
        ("200 OK\r\nCache-Control: max-age=60", "private, max-age=60"),
        ("200 OK\r\nCache-Control: no-cache", "private, no-cache"),
        (
            "200 OK\r\nCache-Control: public, max-age=60",
            "public, max-age=60",
        ),
        ("200 OK\r\nCache-Control: private", "private"),
    ] {
        for target in ["/app/x.css", "/opt/x.css"] {
            world.app.answers(target, said, "");
            assert_eq!(
                alice.get(&gateway, target).header("cache-control"),
                Some(told)
            );
        }
    }
    world
        .app
        .answers("/public/x.css", "200 OK\r\nCache-Control: max-age=60", "");
    assert_eq!(
        gateway.get("/public/x.css").header("cache-control"),
        Some("max-age=60")
    );
    // An answer with new tokens is never kept, whatever the application says.
    world.app.answers(
        "/app/x.css",
        "200 OK\r\nCache-Control: public, max-age=60",
        "",
    );
    world.pass(Duration::from_hours(1));
    let answer = alice.get(&gateway, "/app/x.css");
    answer.assert_opened();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// P14: a token of a session that is over, tossed in or left in another scope, takes no other session with it.
#[test]
fn a_token_of_a_session_that_is_over_clears_no_other_session() {
    for refresh in ["transparent", "client"] {
        let world = World::with(&[("session.refresh", refresh)]);
        let gateway = world.replica();
        let alice = Browser::logged_in(&gateway, "alice");
        world.pass(Duration::from_hours(1));
        let mut gone = Browser::logged_in(&gateway, "bob");
        let over = gone.access().to_owned();
        gone.post(&gateway, "/logout").assert_clears();
        let both = format!("sAccessToken={over}; sAccessToken={}", alice.access());
        if refresh == "client" {
            let answer = gateway.send("GET", "/app", &[("Cookie", &both)], "");
            answer.assert_refused(401, "try refresh token");
            answer.assert_says_nothing_of_a_session();
            continue;
        }
        for access in [both, format!("sAccessToken={over}")] {
            let cookies = format!("{access}; sRefreshToken={}", alice.refresh());
            let answer = gateway.send("GET", "/app", &[("Cookie", &cookies)], "");
            assert_eq!((answer.status, answer.text()), (200, "hello"));
            assert_eq!(world.app.last().user(), Some("alice"));
            answer.front_token();
        }
    }
}
