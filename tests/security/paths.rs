//! Chapter 2: Path, method and host confusion: what was matched is what is forwarded, and what reads in two ways is refused.

use crate::runner::{Case, Tried};
use crate::world::{
    Setup, World, clears, configuration, is_401j_that_clears_nothing, is_over, request,
};

pub const CASES: &[Case] = &[
    Case {
        name: "t019_dot_segments",
        title: "dot segments",
        own: "at the beginning, the end, with parameters (..;), backslashes, after a query mark they are left alone",
        run: t019_dot_segments,
    },
    Case {
        name: "t020_encoded_dot_segments",
        title: "encoded dot segments",
        own: "mixed case, with encoded parameters, single dots",
        run: t020_encoded_dot_segments,
    },
    Case {
        name: "t021_encoded_slashes",
        title: "encoded slashes",
        own: "backslashes, encoded ones, both cases of hex digits, at the end",
        run: t021_encoded_slashes,
    },
    Case {
        name: "t023_repeated_slashes",
        title: "repeated slashes and what looks like an authority",
        own: "with a port, with user information, before a logout, before dots",
        run: t023_repeated_slashes,
    },
    Case {
        name: "t026_public_path_in_the_query",
        title: "a public path in the query",
        own: "in a fragment, encoded query marks, semicolons",
        run: t026_public_path_in_the_query,
    },
    Case {
        name: "t027_bytes_that_no_path_has",
        title: "NUL, CR LF, broken escapes, overlong UTF-8, raw bytes",
        own: "every control raw and encoded, other overlong forms, lone surrogates, half escapes, IIS's %u",
        run: t027_bytes_that_no_path_has,
    },
    Case {
        name: "t028_double_encoding",
        title: "double encoding is single encoding of something else",
        own: "triple, of slashes and of controls, with required routes",
        run: t028_double_encoding,
    },
    Case {
        name: "t029_stripped_prefixes",
        title: "a prefix that is stripped",
        own: "the prefix twice, encoded, after slashes, before an authority, half of it; what follows is encoded",
        run: t029_stripped_prefixes,
    },
    Case {
        name: "t030_absolute_targets",
        title: "a target with an authority that is not the Host",
        own: "user information, another port, another scheme, no path, letters of another case, two Hosts, no Host",
        run: t030_absolute_targets,
    },
    Case {
        name: "t033_letters_and_segments",
        title: "letters of another case, and half segments",
        own: "encoded letters, full-width letters, trailing characters, a slash at the end",
        run: t033_letters_and_segments,
    },
    Case {
        name: "t034_methods",
        title: "methods that the rule does not name",
        own: "mixed case, PRI, unknown words, TRACE and CONNECT on required routes, OPTIONS *",
        run: t034_methods,
    },
    Case {
        name: "t035_preflights",
        title: "OPTIONS with and without the marks of a preflight",
        own: "a forged identity, an origin that is not allowed, null, the own one, on logout and refresh paths",
        run: t035_preflights,
    },
    Case {
        name: "t037_rules_that_leave_a_request_open",
        title: "rules of equal rank, rules that nothing reaches",
        own: "a public rule for everything, a logout that is a login, twice the same path",
        run: t037_rules_that_leave_a_request_open,
    },
    Case {
        name: "t038_spellings_of_a_logout",
        title: "other spellings of a logout path",
        own: "each letter encoded, with a query, in another case, below it, with another method, absolute, by a prefix that is taken \
            away, by headers that claim a method, as a handshake, as another proxy's question",
        run: t038_spellings_of_a_logout,
    },
    Case {
        name: "t039_too_long",
        title: "paths and queries that are too long",
        own: "just below the limits, hidden behind slashes, with a fragment",
        run: t039_too_long,
    },
];

/// 400 for everyone, with a session and without; nothing comes to the application.
fn are_refused<T: AsRef<str>>(tried: &mut Tried, targets: impl IntoIterator<Item = T>) {
    let world = World::new();
    let alice = world.login("alice");
    for target in targets {
        let target = target.as_ref();
        tried.variant(format!("{target:.60?}"), || {
            for cookie in ["", &alice.access] {
                world.is_refused(request("GET", target, &[("Cookie", cookie)]), &[400]);
            }
        });
    }
}

/// 401 in JSON without a session; nothing comes to the application.
fn need_a_session<T: AsRef<str>>(tried: &mut Tried, targets: impl IntoIterator<Item = T>) {
    let world = World::new();
    for target in targets {
        let target = target.as_ref();
        tried.variant(format!("{target:.60?}"), || {
            is_401j_that_clears_nothing(&world.send("GET", target, &[]));
            world.nothing_recorded();
        });
    }
}

/// Served with a session; the application gets this target.
fn are_forwarded_as(tried: &mut Tried, targets: &[(&str, &str)]) {
    let world = World::new();
    let alice = world.login("alice");
    for (sent, forwarded) in targets {
        tried.variant(sent, || {
            assert_eq!(world.get(sent, &alice.access).status, 200);
            assert_eq!(world.only_recorded().target(), *forwarded);
        });
    }
}

fn t019_dot_segments(tried: &mut Tried) {
    are_refused(
        tried,
        [
            "/public/../app/a",
            "/public/./../app/a",
            "/public/..",
            "/public/../",
            "/..",
            "/.",
            "/./",
            "/../",
            "/public/.",
            "/public/./a",
            "/../public/a",
            "/public/a/../../app/a",
            "/public/..;/app/a",
            "/public/.;/app/a",
            "/public/..;x=y/app/a",
            "/public/..\\app/a",
            "/public\\..\\app",
            "/public/../app?x=y",
            "/public/..?",
        ],
    );
    are_forwarded_as(
        tried,
        &[
            ("/app/...", "/app/..."),
            ("/app/..a", "/app/..a"),
            ("/app/a..", "/app/a.."),
            ("/app/.a", "/app/.a"),
            ("/app/a?x=/../b", "/app/a?x=/../b"),
        ],
    );
}

fn t020_encoded_dot_segments(tried: &mut Tried) {
    are_refused(
        tried,
        [
            "/public/%2e%2e/app/a",
            "/public/%2E%2E/app/a",
            "/public/%2e%2E/app/a",
            "/public/.%2e/app/a",
            "/public/%2e./app/a",
            "/public/%2e/app/a",
            "/public/%2e%2e",
            "/%2e%2e/app",
            "/public/%2e%2e;/app/a",
            "/public/%2e%2e%3b/app/a",
            "/public/..%3bx=y/app/a",
            "/public//%2e%2e//app/a",
        ],
    );
}

fn t021_encoded_slashes(tried: &mut Tried) {
    are_refused(
        tried,
        [
            "/public%2f..%2fapp/a",
            "/public/..%2fapp/a",
            "/public/..%2Fapp/a",
            "/app%2fa",
            "/app%2Fa",
            "/public%2fa",
            "/%2fapp/a",
            "/%2f%2fevil.test",
            "/public/a%2f",
            "/public/a%5cb",
            "/public/..%5capp/a",
            "/public%5C..%5Capp",
            "/public/a\\b",
        ],
    );
}

fn t023_repeated_slashes(tried: &mut Tried) {
    need_a_session(
        tried,
        [
            "//app/a",
            "///app/a",
            "//evil.test/app/a",
            "//evil.test",
            "//public.evil.test/public/a",
            "//u@evil.test/app",
            "//evil.test:80/public/a",
            "////////app////a",
            "//",
        ],
    );
    are_refused(
        tried,
        [
            "/public//../app",
            "//public/../app",
            "//../app",
            "/public//..//app",
        ],
    );
    are_forwarded_as(
        tried,
        &[
            ("//app/a", "/app/a"),
            ("///app///a//", "/app/a/"),
            ("//evil.test/app/a", "/evil.test/app/a"),
            ("//public//a", "/public/a"),
            ("/app//a?x=//y", "/app/a?x=//y"),
        ],
    );
    let world = World::new();
    tried.variant("a logout behind slashes", || {
        let alice = world.login("alice");
        clears(&world.post("//auth///signout", &alice.access));
        world.nothing_recorded();
    });
}

fn t026_public_path_in_the_query(tried: &mut Tried) {
    need_a_session(
        tried,
        [
            "/app/a?x=/public/b",
            "/app/a?/public/",
            "/?/public/a",
            "/app/a?x=y&path=/public/a",
            "/app?/../public/a",
            "/app;/public/a",
            "/app%3f/public/a",
            "/app%23/public/a",
            "/public%3fa",
            "/public%23/a",
            "/public;/a",
            "/public%3b/a",
            "?/public/a",
        ]
        .into_iter()
        .filter(|target| target.starts_with('/')),
    );
}

fn t027_bytes_that_no_path_has(tried: &mut Tried) {
    let encoded_controls = (0..0x20_u8)
        .chain([0x7f])
        .map(|byte| format!("/public/a%{byte:02x}b"));
    let others = [
        "/public/%00",
        "/public/a%00.css",
        "/public/a%0d%0aX-Auth-User-Id:%20admin",
        "/public/%zz",
        "/public/%",
        "/public/%2",
        "/public/%%32",
        "/public/% 2f",
        "/public/%u002e%u002e/app",
        "/public/%c0%ae%c0%ae/app",
        "/public/%c1%9c",
        "/public/%e0%80%ae",
        "/public/%f0%80%80%ae",
        "/public/%ed%a0%80",
        "/public/%f4%90%80%80",
        "/public/%ff",
        "/public/%80",
        "/public/a b",
        "/public/\u{e9}",
        "public/a",
        "*",
        "",
    ]
    .map(str::to_owned);
    are_refused(tried, encoded_controls.chain(others));
    let world = World::new();
    for byte in (0..=0x20_u8).chain(0x7f..=0xff) {
        tried.variant(format!("raw byte {byte:#04x}"), || {
            let mut bytes = b"GET /public/a".to_vec();
            bytes.push(byte);
            bytes.extend(b"b HTTP/1.1\r\nHost: g.test:8443\r\n\r\n");
            world.is_refused(bytes, &[400]);
        });
    }
}

fn t028_double_encoding(tried: &mut Tried) {
    are_forwarded_as(
        tried,
        &[
            ("/public/%252e%252e/app/a", "/public/%252e%252e/app/a"),
            ("/app/%252e%252e/x", "/app/%252e%252e/x"),
            ("/public/%25252e", "/public/%25252e"),
            ("/public/%252f..", "/public/%252f.."),
            ("/public/%250d%250a", "/public/%250d%250a"),
            ("/public/%2500", "/public/%2500"),
            ("/app/%25%32%65", "/app/%252e"),
        ],
    );
    let world = World::new();
    tried.variant("public without a session", || {
        assert_eq!(
            world.send("GET", "/public/%252e%252e/app/a", &[]).status,
            200
        );
        assert_eq!(world.only_recorded().target(), "/public/%252e%252e/app/a");
    });
}

fn t029_stripped_prefixes(tried: &mut Tried) {
    const STRIPPED: &str =
        "[[route]]\npath = \"/static/**\"\nauth = \"none\"\nstrip_prefix = \"/static\"\n";
    const EXPOSED: &str = "[[route]]\npath = \"/static/**\"\nauth = \"none\"\n\
        strip_prefix = \"/static\"\nexpose_subpaths = true\n";
    tried.variant("a public prefix of servers with required paths", || {
        let world = World::new();
        let setup = Setup {
            more: STRIPPED,
            ..Default::default()
        };
        let text = configuration(&setup, ([127, 0, 0, 1], 9).into());
        std::fs::write(world.home.config(), text).unwrap();
        let ended = world.home.fail_to_start();
        assert_eq!(ended.code, Some(78), "{ended:?}");
        assert!(ended.stderr.contains("expose_subpaths"), "{ended:?}");
    });
    let world = World::with(&Setup {
        more: EXPOSED,
        ..Default::default()
    });
    let alice = world.login("alice");
    for target in [
        "/static/%2e%2e/app/a",
        "/static/../app",
        "/static/..%2fapp/a",
        "/static/..",
        "/static/.",
        "/static/%2fapp/a",
        "/static\\app",
        "/static/..;/app/a",
        "/static//../app",
        "/static/%2e%2e%2fapp",
        "/static/http:%2f%2fevil.test/",
    ] {
        tried.variant(target, || {
            for cookie in ["", &alice.access] {
                world.is_refused(request("GET", target, &[("Cookie", cookie)]), &[400]);
            }
        });
    }
    for (sent, forwarded) in [
        ("/static/css/x", "/css/x"),
        ("/static//css/x", "/css/x"),
        ("//static///css//x", "/css/x"),
        ("/static/static/x", "/static/x"),
        ("/static/", "/"),
        ("/static/css/x?a=/../b", "/css/x?a=/../b"),
        ("/%73tatic/css/x", "/css/x"),
        ("/static/%252e%252e/x", "/%252e%252e/x"),
        ("/static//evil.test/x", "/evil.test/x"),
    ] {
        tried.variant(sent, || {
            let forged = [("X-Auth-User-Id", "admin"), ("Cookie", &*alice.access)];
            assert_eq!(world.send("GET", sent, &forged).status, 200);
            let recorded = world.only_recorded();
            assert_eq!(recorded.target(), forwarded);
            let told = recorded.head.to_ascii_lowercase();
            assert!(!told.contains("x-auth-user-id"), "{told}");
            assert!(!told.contains("x-forwarded-prefix"), "{told}");
        });
    }
    for target in ["/staticx/a", "/STATIC/a", "/a/static/x"] {
        tried.variant(target, || {
            is_401j_that_clears_nothing(&world.send("GET", target, &[]));
            world.nothing_recorded();
        });
    }
}

fn t030_absolute_targets(tried: &mut Tried) {
    let world = World::new();
    for (target, host, status) in [
        ("http://g.test:8443/app/a", "Host: g.test:8443\r\n", 401),
        ("http://G.TEST:8443/app/a", "Host: g.test:8443\r\n", 401),
        ("http://g.test:8443/app/a", "Host: other\r\n", 400),
        ("http://g.test:8443/public/a", "Host: other\r\n", 400),
        ("http://g.test/public/a", "Host: g.test:8443\r\n", 400),
        ("http://g.test:80/public/a", "Host: g.test:8443\r\n", 400),
        (
            "http://u@g.test:8443/public/a",
            "Host: g.test:8443\r\n",
            400,
        ),
        (
            "http://u:p@g.test:8443/public/a",
            "Host: g.test:8443\r\n",
            400,
        ),
        (
            "http://g.test:8443/public/../app",
            "Host: g.test:8443\r\n",
            400,
        ),
        (
            "http://evil.test/public/a",
            "Host: g.test:8443\r\nHost: evil.test\r\n",
            400,
        ),
        ("http://g.test:8443/public/a", "", 400),
        ("/public/a", "", 400),
        ("/public/a", "Host: g.test\r\nHost: g.test\r\n", 400),
        ("/public/a", "Host: \r\n", 400),
        ("/public/a", "Host: g.test/x\r\n", 400),
        ("/public/a", "Host: u@g.test\r\n", 400),
        ("/public/a", "Host: g.test, evil.test\r\n", 400),
        ("/public/a", "Host: g.test evil.test\r\n", 400),
        ("/public/a", "Host: g.test#\r\n", 400),
    ] {
        tried.variant(format!("{target} {host:?}"), || {
            let answer = world.raw(format!("GET {target} HTTP/1.1\r\n{host}\r\n"));
            assert_eq!(answer.status, status, "{}", answer.head);
            world.nothing_recorded();
        });
    }
    tried.variant("the same host", || {
        let answer =
            world.raw("GET http://g.test:8443/public/a?b HTTP/1.1\r\nHost: g.test:8443\r\n\r\n");
        assert_eq!(answer.status, 200);
        let recorded = world.only_recorded();
        assert_eq!(
            (recorded.target(), recorded.all("host")),
            ("/public/a?b", vec!["g.test:8443"])
        );
    });
}

fn t033_letters_and_segments(tried: &mut Tried) {
    need_a_session(
        tried,
        [
            "/PUBLIC/a",
            "/Public/a",
            "/publicx/a",
            "/publi",
            "/%50ublic/a",
            "/public%20/a",
            "/app/public/a",
            "/public.html",
            "/%EF%BD%90ublic/a",
            "/HOOK",
        ],
    );
    let world = World::new();
    for target in ["/public", "/public/", "/%70ublic/a", "/public/a/b/c"] {
        tried.variant(target, || {
            assert_eq!(world.send("GET", target, &[]).status, 200);
            assert!(world.only_recorded().target().starts_with("/public"));
        });
    }
}

fn t034_methods(tried: &mut Tried) {
    let world = World::new();
    for (line, statuses) in [
        ("POST /public/a", &[401][..]),
        ("PATCH /public/a", &[401]),
        ("DELETE /public/a", &[401]),
        ("GETT /public/a", &[401]),
        ("FOO /public/a", &[401]),
        ("PRI /public/a", &[401, 400]),
        ("GET /hook", &[401]),
        ("get /public/a", &[400]),
        ("Get /public/a", &[400]),
        ("gET /public/a", &[400]),
        ("TRACE /public/a", &[405]),
        ("TRACE /app/a", &[405]),
        ("CONNECT g.test:443", &[400, 405]),
        ("CONNECT /public/a", &[400, 405]),
        ("OPTIONS *", &[400]),
        ("GET *", &[400]),
        ("G@T /public/a", &[400]),
        ("G\u{e9}T /public/a", &[400]),
    ] {
        tried.variant(line, || {
            let mut conn = world.gateway().connect();
            conn.send(format!(
                "{line} HTTP/1.1\r\nHost: g.test:8443\r\nContent-Length: 0\r\n\r\n"
            ));
            let answer = conn.bodiless_answer();
            assert!(statuses.contains(&answer.status), "{}", answer.head);
            world.nothing_recorded();
        });
    }
}

fn t035_preflights(tried: &mut Tried) {
    let world = World::with(&Setup {
        session: "allowed_origins = [\"https://www.g.test\"]",
        ..Default::default()
    });
    let method = ("Access-Control-Request-Method", "PUT");
    for (what, headers) in [
        ("bare", vec![]),
        ("origin alone", vec![("Origin", "https://www.g.test")]),
        ("method alone", vec![method]),
        ("foreign", vec![("Origin", "https://evil.test"), method]),
        ("null", vec![("Origin", "null"), method]),
        (
            "alike",
            vec![("Origin", "https://www.g.test.evil.test"), method],
        ),
    ] {
        for target in ["/app/a", "/public/a"] {
            tried.variant(format!("{what} {target}"), || {
                let answer = world.send("OPTIONS", target, &headers);
                assert_eq!(answer.status, 401, "{}", answer.head);
                assert_eq!(answer.header("access-control-allow-methods"), None);
                world.nothing_recorded();
            });
        }
    }
    tried.variant("allowed", || {
        let headers = [
            ("Origin", "https://www.g.test"),
            method,
            ("X-Auth-User-Id", "admin"),
        ];
        let answer = world.send("OPTIONS", "/app/a", &headers);
        assert!(answer.status < 300, "{}", answer.head);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://www.g.test")
        );
        world.nothing_recorded();
    });
    tried.variant("passed on", || {
        let open = World::with(&Setup {
            more: "[[route]]\npath = \"/cors/**\"\nmethods = [\"OPTIONS\"]\nauth = \"none\"\n",
            ..Default::default()
        });
        let headers = [
            ("Origin", "https://evil.test"),
            method,
            ("X_Auth_User_Id", "admin"),
        ];
        assert_eq!(open.send("OPTIONS", "/cors/a", &headers).status, 200);
        assert!(!open.only_recorded().head.contains("admin"));
    });
}

fn t037_rules_that_leave_a_request_open(tried: &mut Tried) {
    let world = World::new();
    for (what, rules) in [
        (
            "equal rank",
            "[[route]]\npath = \"/a/*/c\"\nauth = \"none\"\n[[route]]\npath = \"/a/b/*\"\n",
        ),
        (
            "twice",
            "[[route]]\npath = \"/a\"\n[[route]]\npath = \"/a\"\nauth = \"none\"\n",
        ),
        (
            "twice by spelling",
            "[[route]]\npath = \"/a\"\n[[route]]\npath = \"/%61\"\nauth = \"none\"\n",
        ),
        (
            "everything is public",
            "[[route]]\npath = \"/**\"\nauth = \"none\"\n",
        ),
        ("login and logout", "[[logout]]\npath = \"/login\"\n"),
        (
            "refresh path",
            "[[route]]\npath = \"/auth/session/refresh\"\nauth = \"none\"\n",
        ),
        ("dots", "[[route]]\npath = \"/a/../b\"\nauth = \"none\"\n"),
        (
            "encoded slash",
            "[[route]]\npath = \"/a%2fb\"\nauth = \"none\"\n",
        ),
    ] {
        tried.variant(what, || {
            let setup = Setup {
                more: rules,
                ..Default::default()
            };
            let text = configuration(&setup, ([127, 0, 0, 1], 9).into());
            std::fs::write(world.home.config(), text).unwrap();
            let started = world.home.fail_to_start();
            assert_ne!(started.code, Some(0), "{started:?}");
        });
    }
}

fn t038_spellings_of_a_logout(tried: &mut Tried) {
    let world = World::new();
    let encoded = (0..7).map(|at| {
        let name = "signout";
        let letter = name.as_bytes()[at];
        format!("/auth/{}%{letter:02x}{}", &name[..at], &name[at + 1..])
    });
    let others = [
        "/auth/%73ignout",
        "/auth/signout/",
        "/auth//signout",
        "//auth/signout",
        "/%61uth/signout",
        "/auth/signout?x=y",
        "/auth/signout?",
        "http://g.test:8443/auth/signout",
    ]
    .map(str::to_owned);
    for target in encoded.chain(others) {
        tried.variant(&target, || {
            let alice = world.login("alice");
            let answer = world.post(&target, &alice.access);
            assert_eq!(answer.status, 200);
            clears(&answer);
            is_over(&world.get("/app/a", &alice.access));
            world.nothing_recorded();
        });
    }
    for target in [
        "/AUTH/signout",
        "/auth/SIGNOUT",
        "/auth/signout/x",
        "/auth/signoutx",
    ] {
        tried.variant(target, || {
            is_401j_that_clears_nothing(&world.post(target, ""));
            let alice = world.login("alice");
            assert_eq!(world.post(target, &alice.access).status, 200);
            assert_eq!(world.only_recorded().target(), target);
        });
    }
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        tried.variant(method, || {
            let alice = world.login("alice");
            let answer = world.send(method, "/auth/signout", &[("Cookie", &alice.access)]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
            world.nothing_recorded();
        });
    }
    logouts_of_another_shape(tried, &world);
    logouts_behind_a_prefix(tried);
    tried.elsewhere("tests/process/forward_auth.rs::the_form_that_traefik_is_documented_to_ask_in");
}

/// The application would take them for a logout, or for none.
fn logouts_of_another_shape(tried: &mut Tried, world: &World) {
    for claims in [
        ("X-HTTP-Method-Override", "GET"),
        ("X-Method-Override", "GET"),
        ("X-Original-URL", "/public/a"),
        ("X-Rewrite-URL", "/public/a"),
        ("Upgrade", "websocket"),
    ] {
        tried.variant(format!("POST with {}", claims.0), || {
            let alice = world.login("alice");
            let own = ("Sec-Fetch-Site", "same-origin");
            let headers = [("Cookie", &*alice.access), own, claims];
            clears(&world.send("POST", "/auth/signout?_method=GET", &headers));
            is_over(&world.get("/app/a", &alice.access));
            world.nothing_recorded();
        });
    }
    let handshake = [
        ("Connection", "upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA=="),
        ("Origin", "https://g.test:8443"),
    ];
    for (what, method, more) in [
        ("handshake", "GET", &handshake[..]),
        (
            "claims to be POST",
            "GET",
            &[("X-HTTP-Method-Override", "POST")],
        ),
        ("HEAD", "HEAD", &[]),
        ("OPTIONS", "OPTIONS", &[]),
        ("an unknown method", "LOGOUT", &[]),
    ] {
        tried.variant(what, || {
            let alice = world.login("alice");
            let mut headers = vec![("Cookie", &*alice.access)];
            headers.extend(more);
            let mut conn = world.gateway().connect();
            conn.send(request(method, "/auth/signout?_method=POST", &headers));
            assert_eq!(conn.bodiless_answer().status, 405);
            world.nothing_recorded();
            assert_eq!(world.get("/app/a", &alice.access).status, 200);
            world.recorded();
        });
    }
}

/// To the application `/x/auth/signout` is its own logout.
fn logouts_behind_a_prefix(tried: &mut Tried) {
    let text = |rules: &'static str| {
        let setup = Setup {
            more: rules,
            ..Default::default()
        };
        configuration(&setup, ([127, 0, 0, 1], 9).into())
    };
    let world = World::new();
    for (what, rules) in [
        (
            "behind a prefix",
            "[[route]]\npath = \"/x/**\"\nstrip_prefix = \"/x\"\n",
        ),
        (
            "behind a prefix of two segments, by GET",
            "[[route]]\npath = \"/x/y/**\"\nmethods = [\"GET\"]\nstrip_prefix = \"/x/y\"\n",
        ),
        (
            "by another upstream of the same server",
            "[[upstream]]\nname = \"same\"\nservers = [\"http://localhost:9\"]\n\
             [[route]]\npath = \"/x/**\"\nupstream = \"same\"\nstrip_prefix = \"/x\"\n",
        ),
        (
            "by another Host",
            "[[route]]\npath = \"/x/**\"\nhost = \"app.internal\"\nstrip_prefix = \"/x\"\n",
        ),
    ] {
        tried.variant(what, || {
            std::fs::write(world.home.config(), text(rules)).unwrap();
            let ended = world.home.fail_to_start();
            assert_eq!(ended.code, Some(78), "{ended:?}");
            assert!(ended.stderr.contains("past the [[logout]]"), "{ended:?}");
        });
    }
    let world = World::with(&Setup {
        more: "[[route]]\npath = \"/x/auth/**\"\nstrip_prefix = \"/x\"\n\
            [[logout]]\npath = \"/x/auth/signout\"\n[[logout]]\npath = \"/x/auth/signout-all\"\n",
        ..Default::default()
    });
    for target in [
        "/x/auth/signout",
        "/x/auth/signout/",
        "/x//auth///signout",
        "/%78/auth/%73ignout",
        "/x/auth/signout-all?a",
    ] {
        tried.variant(target, || {
            let alice = world.login("alice");
            clears(&world.post(target, &alice.access));
            is_over(&world.get("/x/auth/me", &alice.access));
            world.nothing_recorded();
        });
    }
}

fn t039_too_long(tried: &mut Tried) {
    let world = World::new();
    for (what, target) in [
        ("path of 8193 bytes", format!("/{}", "a".repeat(8192))),
        (
            "public path of 8193 bytes",
            format!("/public/{}", "a".repeat(8185)),
        ),
        ("257 segments", "/a".repeat(257)),
        (
            "257 segments, public",
            "/public".to_owned() + &"/a".repeat(256),
        ),
        (
            "65 KiB of query",
            format!("/public/a?{}", "a".repeat(65 * 1024)),
        ),
        ("slashes", format!("/{}public/a", "/".repeat(9000))),
    ] {
        tried.variant(what, || {
            let mut conn = world.gateway().connect();
            let _ = conn.try_send(request("GET", &target, &[]));
            let answer = conn.bodiless_answer();
            assert!([400, 414, 431].contains(&answer.status), "{}", answer.head);
            world.nothing_recorded();
        });
    }
    tried.variant("just short enough", || {
        let target = format!("/public/{}", "a".repeat(8000));
        assert_eq!(world.send("GET", &target, &[]).status, 200);
        assert_eq!(world.only_recorded().target(), target);
    });
}
