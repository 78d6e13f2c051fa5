//! Who the caller is, only the gateway says: under one name, once, on every request.

use crate::support::{Browser, World};

/// Names that some framework folds into `X-User-Id`.
const ALIASES: [&str; 9] = [
    "X-User-Id",
    "x-USER-id",
    "X_User_Id",
    "X-User_Id",
    "X_User-Id",
    "X.User.Id",
    "X-User.Id",
    "X~User~Id",
    "X!User|Id",
];

/// Invariant 8: T001, T002, T003, T004.
#[test]
fn the_identity_header_is_set_or_removed_under_every_alias() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for alias in ALIASES {
        let forged = [(alias, "admin"), ("X-Other", "kept"), (alias, "root")];
        for (target, user) in [("/public/a", None), ("/opt/a", None)] {
            gateway.send("GET", target, &forged, "").assert_served();
            assert_eq!(world.app.last().user(), user);
            assert_forgery_is_gone(&world, 0);
        }
        for (target, user, own) in [
            ("/app/a", Some("alice"), 1),
            ("/opt/a", Some("alice"), 1),
            ("/public/a", None, 0),
        ] {
            alice
                .send(&gateway, "GET", target, &forged, "")
                .assert_served();
            assert_eq!(world.app.last().user(), user, "{alias} {target}");
            assert_forgery_is_gone(&world, own);
        }
        alice
            .send(&gateway, "POST", "/hook", &forged, "x")
            .assert_served();
        assert_eq!(world.app.last().user(), None);
        Browser::new()
            .send(&gateway, "POST", "/login", &forged, "user=bob")
            .assert_opened();
        assert_forgery_is_gone(&world, 0);
    }
}

#[track_caller]
fn assert_forgery_is_gone(world: &World, own: usize) {
    let seen = world.app.last();
    let folded = |name: &str| -> String {
        name.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect()
    };
    let named = seen
        .names()
        .into_iter()
        .filter(|name| folded(name) == "x-user-id")
        .count();
    assert_eq!(named, own, "{}", seen.head);
    assert!(
        !seen.head.contains("admin") && !seen.head.contains("root"),
        "{}",
        seen.head
    );
    assert_eq!(seen.all("x-other"), ["kept"]);
}

/// T006.
#[test]
fn a_connection_header_cannot_remove_the_identity() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for listed in [
        "close, X-User-Id",
        "x-user-id",
        "keep-alive, X-USER-ID, X-Forwarded-For, Host",
    ] {
        alice
            .send(&gateway, "GET", "/app", &[("Connection", listed)], "")
            .assert_served();
        let seen = world.app.last();
        assert_eq!(seen.user(), Some("alice"));
        assert_eq!(
            (seen.all("x-forwarded-for"), seen.all("host")),
            (vec!["127.0.0.1"], vec!["g.test"])
        );
    }
}

/// T008.
#[test]
fn a_trailer_cannot_bring_an_identity() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    for target in ["/hook", "/opt/a", "/app/a"] {
        for alias in ALIASES {
            let body = format!("5\r\nhello\r\n0\r\n{alias}: admin\r\nX-Checksum: abc\r\n\r\n");
            let headers = [("Transfer-Encoding", "chunked"), ("Trailer", alias)];
            let answer = gateway.raw(&alice.request("POST", target, &headers, &body));
            answer.assert_served();
            let body = String::from_utf8(world.app.last().body).unwrap();
            assert!(body.contains("hello"), "{body}");
            assert!(!body.contains("admin"), "{target} {alias}: {body}");
        }
    }
}

/// T009: nobody is let in by what a request says about another one.
#[test]
fn headers_of_other_proxies_open_no_door() {
    let world = World::new();
    let gateway = world.replica();
    for (name, value) in [
        ("X-Forwarded-Uri", "/public/a"),
        ("X-Original-URL", "/public/a"),
        ("X-Rewrite-URL", "/public/a"),
        ("X-Original-URI", "/public/a"),
        ("X-Forwarded-Path", "/public/a"),
        ("X-Forwarded-Method", "GET"),
        ("X-Http-Method-Override", "GET"),
        ("User-Agent", "kube-probe/1.30"),
    ] {
        gateway
            .send("GET", "/app/a", &[(name, value)], "")
            .assert_refused(401, "try refresh token");
        let target = "/public/a";
        gateway
            .send("POST", target, &[(name, value)], "")
            .assert_refused(401, "try refresh token");
    }
    // T014: what the private listener has is nothing special here.
    for target in ["/healthz", "/readyz", "/livez", "/metrics", "/admin"] {
        gateway.get(target).assert_refused(401, "try refresh token");
    }
    assert!(world.app.seen().is_empty());
}

/// T010.
#[test]
fn where_a_request_came_from_only_the_gateway_says() {
    let world = World::new();
    let gateway = world.replica();
    let forged = [
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Server", "evil"),
        ("X-Real-IP", "9.9.9.9"),
        ("Forwarded", "for=9.9.9.9"),
        ("X_Forwarded_Host", "evil.test"),
        ("X.Forwarded.Host", "evil.test"),
        ("Portcullis-Login", "evil"),
    ];
    gateway
        .send("GET", "/public/a", &forged, "")
        .assert_served();
    let seen = world.app.last();
    assert_eq!(seen.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.all("x-forwarded-host"), ["g.test"]);
    assert_eq!(seen.all("x-forwarded-proto"), ["https"]);
    for forged in [
        "evil",
        "9.9.9.9",
        "gopher",
        "X-Forwarded-Port",
        "x-forwarded-port",
    ] {
        assert!(!seen.head.contains(forged), "{}", seen.head);
    }
}

/// T015, T067.
#[test]
fn the_application_cannot_speak_in_the_gateway_s_name() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let said = "200 OK\r\nX-User-Id: x\r\nX_User_Id: x\r\nfront-token: x\r\nid-refresh-token: x\r\nanti-csrf: x\r\n\
        st-access-token: x\r\nPortcullis-Anything: x\r\nSet-Cookie: sAccessToken=evil\r\nSet-Cookie: theme=dark\r\n\
        Set-Cookie: __Host-sRefreshToken=evil; Path=/\r\nSet-Cookie: sIdRefreshToken=evil";
    for (target, browser) in [
        ("/app", &mut alice),
        ("/public/a", &mut Browser::new()),
        ("/login", &mut Browser::new()),
    ] {
        world.app.answers(target, said, "");
        let answer = browser.get(&gateway, target);
        assert_eq!(answer.all("set-cookie"), ["theme=dark"]);
        for name in [
            "x-user-id",
            "x_user_id",
            "front-token",
            "id-refresh-token",
            "anti-csrf",
            "st-access-token",
            "portcullis-anything",
        ] {
            assert!(answer.all(name).is_empty(), "{name} at {target}");
        }
    }
}

/// T016, T017.
#[test]
fn the_application_sees_no_cookie_of_the_gateway_and_all_of_its_own() {
    let world = World::new();
    let gateway = world.replica();
    let alice = Browser::logged_in(&gateway, "alice");
    let own = format!(
        "sAccessToken={}; sRefreshToken={}",
        alice.access(),
        alice.refresh()
    );
    for (cookie, seen) in [
        (own.clone(), vec![]),
        (format!("{own}; other=1"), vec!["other=1"]),
        (format!("a=b; {own}; c=\"d e\""), vec!["a=b; c=\"d e\""]),
        (
            format!(
                "{own}; sIdRefreshToken=1; __Host-sAccessToken=2; __Secure-sRefreshToken=3; x=y"
            ),
            vec!["x=y"],
        ),
        (
            format!("{own}; =sAccessToken=z; sAccessTokens=kept"),
            vec!["sAccessTokens=kept"],
        ),
    ] {
        let headers = [("Cookie", &*cookie), ("Authorization", "Basic Zm9v")];
        gateway.send("GET", "/app", &headers, "").assert_served();
        assert_eq!(world.app.last().all("cookie"), seen);
        assert_eq!(world.app.last().all("authorization"), ["Basic Zm9v"]);
    }
    let two_lines = [("Cookie", &*own), ("Cookie", "other=1")];
    gateway
        .send("GET", "/public/a", &two_lines, "")
        .assert_served();
    assert_eq!(world.app.last().all("cookie"), ["other=1"]);
}

/// T018, T058: any user id is one value of one header, and two ids are never one user.
#[test]
fn an_unusual_user_id_is_one_value_and_itself() {
    let world = World::new();
    let gateway = world.replica();
    let mut browsers: Vec<(Browser, &str)> = [
        ("zoë", "zo%C3%AB"),
        ("zoe\u{308}", "zoe%CC%88"),
        ("a, b", "a%2C%20b"),
        ("100%25", "100%25"),
        ("a", "a"),
        ("A", "A"),
        ("1", "1"),
        ("' OR 1=1 --", "'%20OR%201=1%20--"),
    ]
    .map(|(user, header)| (Browser::logged_in(&gateway, user), header))
    .into();
    for (browser, header) in &mut browsers {
        browser.get(&gateway, "/app").assert_served();
        assert_eq!(world.app.last().user(), Some(*header));
    }
    // All devices of one of them: the others go on.
    browsers[4]
        .0
        .clone()
        .post(&gateway, "/logout-all")
        .assert_clears();
    for (number, (browser, _)) in browsers.iter_mut().enumerate() {
        let status = browser.get(&gateway, "/app").status;
        assert_eq!(status, if number == 4 { 401 } else { 200 });
    }
}
