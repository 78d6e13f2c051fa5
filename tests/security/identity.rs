//! Chapter 1: Identity headers and forwarded headers: what the application believes, only the gateway says.

use crate::runner::{Case, Tried};
use crate::support::Answer;
use crate::world::{ADMIN, Held, Recorded, World, is_401j_that_clears_nothing, request};

pub const CASES: &[Case] = &[
    Case {
        name: "t001_identity_on_a_public_route",
        title: "a forged identity header on a public route",
        own: "with a session, HEAD, twice, empty, on the login and on a WebSocket handshake",
        run: t001_identity_on_a_public_route,
    },
    Case {
        name: "t002_identity_on_an_optional_route",
        title: "a forged identity header on an optional route, without a session",
        own: "with an expired or broken token beside it",
        run: t002_identity_on_an_optional_route,
    },
    Case {
        name: "t003_identity_beside_a_session",
        title: "a forged identity header beside a session",
        own: "before and after the cookie, twice, with the right value, white space, 4 KiB",
        run: t003_identity_beside_a_session,
    },
    Case {
        name: "t004_identity_aliases",
        title: "every alias that folds to the identity header",
        own: "each character that a name may have in place of each hyphen, all together, on all kinds of routes",
        run: t004_identity_aliases,
    },
    Case {
        name: "t006_connection_lists_the_identity",
        title: "Connection lists the identity header",
        own: "Host, Cookie, X-Forwarded-For, Content-Length, Transfer-Encoding, in two lines, in capitals, with empty elements",
        run: t006_connection_lists_the_identity,
    },
    Case {
        name: "t008_identity_in_trailers",
        title: "the identity header as a trailer of a chunked body",
        own: "every alias, X-Forwarded-*, Cookie, Authorization, Host, Content-Length, Transfer-Encoding",
        run: t008_identity_in_trailers,
    },
    Case {
        name: "t009_headers_that_claim_another_request",
        title: "headers that claim another path or method",
        own: "aliases, X-Original-Method, X-Original-Host, X-HTTP-Method, X-Method-Override, health probes' User-Agent, Forwarded",
        run: t009_headers_that_claim_another_request,
    },
    Case {
        name: "t010_forged_forwarded_headers",
        title: "forged X-Forwarded-*, Forwarded and X-Real-IP",
        own: "aliases, repeated lines, X-Forwarded-Anything, spoofed lists of addresses",
        run: t010_forged_forwarded_headers,
    },
    Case {
        name: "t012_proto_of_an_untrusted_peer",
        title: "X-Forwarded-Proto of an untrusted peer on a refresh",
        own: "http as well as https, Forwarded: proto=",
        run: t012_proto_of_an_untrusted_peer,
    },
    Case {
        name: "t014_private_paths_on_the_public_listener",
        title: "/healthz, /readyz, /metrics, /admin on the public listener",
        own: "/livez, /v1/sessions, /admin/openapi.json, with the admin token",
        run: t014_private_paths_on_the_public_listener,
    },
    Case {
        name: "t015_application_speaks_for_the_gateway",
        title: "the application's answer has the gateway's headers and cookies",
        own: "every SDK header, aliases of the identity, prefixed cookies, on public, required and login routes",
        run: t015_application_speaks_for_the_gateway,
    },
    Case {
        name: "t016_cookies_of_the_gateway_stay",
        title: "the gateway's cookies are not the application's",
        own: "prefixed, duplicated, legacy, nameless, in several lines, odd white space, on a public route",
        run: t016_cookies_of_the_gateway_stay,
    },
    Case {
        name: "t017_bearer_of_the_gateway_stays",
        title: "the gateway's token in Authorization is not the application's, another's is",
        own: "in any case of the scheme, refresh token, expired, on a public route, foreign Bearer, Basic, two lines",
        run: t017_bearer_of_the_gateway_stays,
    },
    Case {
        name: "t018_user_ids_that_are_no_header",
        title: "user ids with CR, LF, NUL, commas and other scripts",
        own: "DEL, other controls, line separators, long ones, percent signs",
        run: t018_user_ids_that_are_no_header,
    },
];

const IDENTITY: &str = "x-auth-user-id";

/// Names that are the identity header once whatever is neither letter nor digit is a hyphen.
fn aliases() -> Vec<String> {
    let mut all: Vec<String> = [
        "X-Auth-User-Id",
        "x-auth-user-id",
        "X-AUTH-USER-ID",
        "x-AUTH-user-id",
        "X_Auth_User_Id",
        "X-Auth_User-Id",
        "X.Auth.User.Id",
        "X_Auth.User-Id",
    ]
    .map(str::to_owned)
    .into();
    // RFC 9110 section 5.6.2.
    for mark in "!#$%&'*+-.^_`|~".chars() {
        all.push(format!("X{mark}Auth{mark}User{mark}Id"));
        all.push(format!("X-Auth-User{mark}Id"));
        all.push(format!("x{mark}auth-user-id"));
    }
    all
}

fn folded(name: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.to_ascii_lowercase().chars().map(fold).collect()
}

/// The identity, as any framework may read it: these values and no other.
#[track_caller]
fn identity_is(recorded: &Recorded, users: &[&str]) {
    let headers = recorded.headers();
    let told: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| folded(name) == IDENTITY)
        .map(|(_, value)| *value)
        .collect();
    assert_eq!(told, users, "{}", recorded.head);
    assert_eq!(recorded.all(IDENTITY), users, "{}", recorded.head);
    assert!(!recorded.head.contains("admin"), "{}", recorded.head);
}

#[track_caller]
fn is_served(answer: &Answer) {
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn t001_identity_on_a_public_route(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    for (what, method, headers) in [
        ("alone", "GET", vec![("X-Auth-User-Id", "admin")]),
        ("HEAD", "HEAD", vec![("X-Auth-User-Id", "admin")]),
        (
            "twice",
            "GET",
            vec![("X-Auth-User-Id", "admin"), ("x-auth-user-id", "admin")],
        ),
        (
            "with a session",
            "GET",
            vec![("Cookie", &*alice.access), ("X-Auth-User-Id", "admin")],
        ),
    ] {
        tried.variant(what, || {
            let mut conn = world.gateway().connect();
            conn.send(request(method, "/public/a", &headers));
            assert_eq!(conn.bodiless_answer().status, 200);
            identity_is(&world.only_recorded(), &[]);
        });
    }
    tried.variant("empty", || {
        is_served(&world.raw("GET /public/a HTTP/1.1\r\nHost: g.test\r\nX-Auth-User-Id:\r\n\r\n"));
        identity_is(&world.only_recorded(), &[]);
    });
    tried.variant("login", || {
        is_served(&world.send(
            "POST",
            "/login?alice",
            &[
                ("X-Auth-User-Id", "admin"),
                ("Sec-Fetch-Site", "same-origin"),
            ],
        ));
        identity_is(&world.only_recorded(), &[]);
    });
    tried.variant("handshake", || {
        world.send(
            "GET",
            "/public/a",
            &[
                ("X-Auth-User-Id", "admin"),
                ("Connection", "upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "AQIDBAUGBwgJCgsMDQ4PEA=="),
            ],
        );
        identity_is(&world.only_recorded(), &[]);
    });
}

fn t002_identity_on_an_optional_route(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let broken = format!("{}x", alice.access);
    for (what, cookie) in [
        ("no cookie", ""),
        ("broken token", &*broken),
        ("refresh token alone", &*alice.refresh),
        ("no token", "sAccessToken=admin"),
    ] {
        tried.variant(what, || {
            let headers = [("Cookie", cookie), ("X-Auth-User-Id", "admin")];
            is_served(&world.send("GET", "/opt/a", &headers));
            identity_is(&world.only_recorded(), &[]);
        });
    }
}

fn t003_identity_beside_a_session(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let cookie = ("Cookie", &*alice.access);
    let forged = ("X-Auth-User-Id", "admin");
    let long = "admin".repeat(800);
    for (what, headers) in [
        ("after", vec![cookie, forged]),
        ("before", vec![forged, cookie]),
        ("twice", vec![forged, cookie, forged]),
        ("the right one", vec![cookie, ("X-Auth-User-Id", "alice")]),
        (
            "white space",
            vec![cookie, ("X-Auth-User-Id", "\t admin \t")],
        ),
        ("list", vec![cookie, ("X-Auth-User-Id", "alice, admin")]),
        ("long", vec![cookie, ("X-Auth-User-Id", &*long)]),
    ] {
        for target in ["/app/a", "/opt/a"] {
            tried.variant(format!("{what} {target}"), || {
                is_served(&world.send("GET", target, &headers));
                identity_is(&world.only_recorded(), &["alice"]);
            });
        }
    }
}

fn t004_identity_aliases(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    for alias in aliases() {
        tried.variant(&alias, || {
            for (target, user) in [
                ("/app/a", &["alice"][..]),
                ("/opt/a", &["alice"]),
                ("/public/a", &[]),
            ] {
                let headers = [
                    ("Cookie", &*alice.access),
                    (&*alias, "admin"),
                    ("X-Other", "kept"),
                ];
                is_served(&world.send("GET", target, &headers));
                let recorded = world.only_recorded();
                identity_is(&recorded, user);
                assert_eq!(recorded.all("x-other"), ["kept"]);
            }
        });
    }
    tried.variant("all together", || {
        let aliases = aliases();
        let mut headers: Vec<(&str, &str)> =
            aliases.iter().map(|alias| (&**alias, "admin")).collect();
        headers.push(("Cookie", &alice.access));
        is_served(&world.send("GET", "/app/a", &headers));
        identity_is(&world.only_recorded(), &["alice"]);
    });
}

fn t006_connection_lists_the_identity(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    for listed in [
        "close, X-Auth-User-Id",
        "X-Auth-User-Id",
        "x-auth-user-id, keep-alive",
        ",, X-AUTH-USER-ID ,",
        "Host, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Auth-User-Id",
        "close\r\nConnection: x-auth-user-id",
    ] {
        tried.variant(listed, || {
            let headers = [
                ("Connection", listed),
                ("Cookie", &*alice.access),
                ("X-Auth-User-Id", "admin"),
            ];
            is_served(&world.send("GET", "/app/a", &headers));
            let recorded = world.only_recorded();
            identity_is(&recorded, &["alice"]);
            assert_eq!(recorded.all("host"), ["g.test:8443"]);
            assert_eq!(recorded.all("x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(recorded.all("x-forwarded-proto"), ["https"]);
        });
    }
    for framing in [
        "Content-Length",
        "content-length, transfer-encoding",
        "Transfer-Encoding",
    ] {
        tried.variant(framing, || {
            let head = format!("POST /hook HTTP/1.1\r\nHost: g.test\r\nConnection: {framing}\r\n");
            is_served(&world.raw(format!("{head}Content-Length: 5\r\n\r\nhello")));
            let recorded = world.only_recorded();
            assert_eq!(recorded.all("content-length"), ["5"], "{}", recorded.head);
            assert_eq!(recorded.body, b"hello");
            is_served(&world.raw(format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            )));
            let recorded = world.only_recorded();
            assert_eq!(
                recorded.all("transfer-encoding"),
                ["chunked"],
                "{}",
                recorded.head
            );
        });
    }
    tried.variant("the session itself", || {
        let headers = [("Connection", "Cookie"), ("Cookie", &*alice.access)];
        is_served(&world.send("GET", "/app/a", &headers));
        identity_is(&world.only_recorded(), &["alice"]);
    });
}

fn t008_identity_in_trailers(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let others = [
        "X-Forwarded-For",
        "x_forwarded_host",
        "Cookie",
        "Authorization",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Portcullis-Login",
        "front-token",
    ]
    .map(str::to_owned);
    for name in aliases().into_iter().chain(others) {
        tried.variant(&name, || {
            for target in ["/hook", "/opt/a", "/app/a"] {
                let headers = [
                    ("Cookie", &*alice.access),
                    ("Sec-Fetch-Site", "same-origin"),
                    ("Transfer-Encoding", "chunked"),
                    ("Trailer", &*name),
                ];
                let head = request("POST", target, &headers);
                let body = format!("5\r\nhello\r\n0\r\n{name}: admin\r\nX-Checksum: kept\r\n\r\n");
                is_served(&world.raw(head + &body));
                let recorded = world.only_recorded();
                let body = String::from_utf8(recorded.body).unwrap();
                assert!(body.contains("hello") && !body.contains("admin"), "{body}");
            }
        });
    }
}

fn t009_headers_that_claim_another_request(tried: &mut Tried) {
    let world = World::new();
    for (name, value) in [
        ("X-Forwarded-Uri", "/public/a"),
        ("X_Forwarded_Uri", "/public/a"),
        ("X-Original-URL", "/public/a"),
        ("X.Original.URL", "/public/a"),
        ("X-Rewrite-URL", "/public/a"),
        ("X-Original-URI", "/public/a"),
        ("X-Original-Method", "GET"),
        ("X-Original-Host", "g.test"),
        ("X-Forwarded-Path", "/public/a"),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Host", "public.test"),
        ("X-Http-Method-Override", "GET"),
        ("X-HTTP-Method", "GET"),
        ("X-Method-Override", "GET"),
        ("Forwarded", "for=127.0.0.1;host=public.test;proto=https"),
        ("User-Agent", "kube-probe/1.30"),
        ("User-Agent", "GoogleHC/1.0"),
        ("User-Agent", "ELB-HealthChecker/2.0"),
        ("X-Envoy-Original-Path", "/public/a"),
        ("X-Auth-Request-Redirect", "/public/a"),
    ] {
        tried.variant(format!("{name}: {value}"), || {
            is_401j_that_clears_nothing(&world.send("GET", "/app/a", &[(name, value)]));
            is_401j_that_clears_nothing(&world.send("POST", "/public/a", &[(name, value)]));
            world.nothing_recorded();
        });
    }
}

fn t010_forged_forwarded_headers(tried: &mut Tried) {
    let world = World::new();
    let forged = [
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-For", "127.0.0.1, 9.9.9.9"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Proto", "gopher"),
        ("X-Forwarded-Port", "1"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Server", "evil"),
        ("X-Forwarded-Ssl", "evil"),
        ("X-Forwarded-Anything", "evil"),
        ("X-Real-IP", "9.9.9.9"),
        ("X_Real_IP", "9.9.9.9"),
        ("Forwarded", "for=9.9.9.9"),
        ("X_Forwarded_Host", "evil"),
        ("X.Forwarded.Host", "evil"),
        ("x~forwarded~for", "9.9.9.9"),
        ("Portcullis-Login", "evil"),
    ];
    let are_the_gateway_s = |recorded: &Recorded| {
        assert_eq!(recorded.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(recorded.all("x-forwarded-host"), ["g.test:8443"]);
        assert_eq!(recorded.all("x-forwarded-proto"), ["https"]);
        assert_eq!(recorded.all("host"), ["g.test:8443"]);
        for word in ["evil", "9.9.9.9", "gopher", "port: 1"] {
            assert!(!recorded.head.contains(word), "{}", recorded.head);
        }
    };
    for header in forged {
        tried.variant(format!("{header:?}"), || {
            is_served(&world.send("GET", "/public/a", &[header, header]));
            are_the_gateway_s(&world.only_recorded());
        });
    }
    tried.variant("all together", || {
        is_served(&world.send("GET", "/public/a", &forged));
        are_the_gateway_s(&world.only_recorded());
    });
}

fn t012_proto_of_an_untrusted_peer(tried: &mut Tried) {
    let world = World::new();
    for (name, value) in [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Proto", "http"),
        ("Forwarded", "proto=http"),
        ("X-Forwarded-Ssl", "off"),
    ] {
        tried.variant(format!("{name}: {value}"), || {
            let alice = world.login("alice");
            let cookies = [
                ("Cookie", &*alice.refresh),
                ("Sec-Fetch-Site", "same-origin"),
            ];
            let plain = world.send("POST", "/auth/session/refresh", &cookies);
            let bob = world.login("bob");
            let cookies = [
                ("Cookie", &*bob.refresh),
                ("Sec-Fetch-Site", "same-origin"),
                (name, value),
            ];
            let claimed = world.send("POST", "/auth/session/refresh", &cookies);
            assert_eq!((plain.status, claimed.status), (200, 200));
            let attributes = |answer: &Answer| -> Vec<Vec<String>> {
                let parts = |set: &str| set.split("; ").skip(1).map(str::to_owned).collect();
                answer.set_cookies().map(parts).collect()
            };
            let without_time = |answer: &Answer| -> Vec<Vec<String>> {
                let timeless =
                    |part: &String| !part.starts_with("Expires") && !part.starts_with("Max-Age");
                let sets = attributes(answer).into_iter();
                sets.map(|set| set.into_iter().filter(timeless).collect())
                    .collect()
            };
            assert_eq!(without_time(&plain), without_time(&claimed));
            for set in attributes(&claimed) {
                assert!(set.iter().any(|part| part == "Secure"), "{set:?}");
            }
        });
    }
    tried.variant("a clear-text deployment", || {
        let clear = World::with(&crate::world::Setup {
            public_url: Some("http://g.test:8080"),
            ..Default::default()
        });
        let answer = clear.send(
            "POST",
            "/login?alice",
            &[
                ("X-Forwarded-Proto", "https"),
                ("Sec-Fetch-Site", "same-origin"),
                ("Host", "g.test:8080"),
            ],
        );
        assert!(answer.set_cookies().count() >= 2);
        assert!(
            answer.set_cookies().all(|set| !set.contains("Secure")),
            "{}",
            answer.head
        );
    });
}

fn t014_private_paths_on_the_public_listener(tried: &mut Tried) {
    let world = World::new();
    let bearer = format!("Bearer {ADMIN}");
    for path in [
        "/healthz",
        "/readyz",
        "/livez",
        "/metrics",
        "/admin",
        "/admin/",
        "/v1/sessions",
        "/openapi.json",
        "/api/v1/sessions",
        "/",
    ] {
        tried.variant(path, || {
            is_401j_that_clears_nothing(&world.send("GET", path, &[]));
            is_401j_that_clears_nothing(&world.send("GET", path, &[("Authorization", &bearer)]));
            world.nothing_recorded();
        });
    }
}

fn t015_application_speaks_for_the_gateway(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let lines = "200 OK\r\nX-Auth-User-Id: x\r\nX_Auth_User_Id: x\r\nX.Auth.User.Id: x\r\nfront-token: x\r\n\
        id-refresh-token: x\r\nanti-csrf: x\r\nst-access-token: x\r\nst-refresh-token: x\r\nPortcullis-Login: mallory\r\n\
        Portcullis-Logout: user\r\nSet-Cookie: sAccessToken=evil\r\nset-cookie: sRefreshToken=evil; Path=/\r\n\
        Set-Cookie: __Host-sAccessToken=evil; Secure; Path=/\r\nSet-Cookie: sIdRefreshToken=evil\r\n\
        Set-Cookie:  sAccessToken = evil\r\nSet-Cookie: theme=dark";
    for path in ["/app/a", "/public/a", "/opt/a", "/login"] {
        world.answers(path, lines);
        tried.variant(path, || {
            let answer = world.get(path, &alice.access);
            assert_eq!(answer.status, 200);
            let sets: Vec<&str> = answer.set_cookies().collect();
            assert_eq!(sets, ["theme=dark"]);
            for line in answer.head.lines().skip(1).filter(|line| !line.is_empty()) {
                let name = folded(line.split(':').next().unwrap());
                let own = [IDENTITY, "front-token", "id-refresh-token", "anti-csrf"];
                assert!(!own.contains(&&*name), "{line}");
                assert!(
                    !name.starts_with("portcullis-") && !name.starts_with("st-"),
                    "{line}"
                );
            }
        });
    }
    tried.variant("the session goes on", || {
        assert_eq!(world.get("/app/b", &alice.access).status, 200);
    });
}

fn t016_cookies_of_the_gateway_stay(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let Held { access, refresh } = &alice;
    for (cookie, left) in [
        (access.clone(), &[][..]),
        (format!("{access}; other=1"), &["other=1"]),
        (format!("other=1; {access}"), &["other=1"]),
        (
            format!("a=b; {}; c=\"d e\"", alice.both()),
            &["a=b; c=\"d e\""],
        ),
        (format!("{access}; {access}; other=1"), &["other=1"]),
        (format!("{access};{refresh};other=1"), &["other=1"]),
        (format!("{access};  \t other=1"), &["other=1"]),
        (
            format!("{access}; sIdRefreshToken=1; other=1"),
            &["other=1"],
        ),
        (
            format!("{access}; __Host-sAccessToken=2; __Secure-sRefreshToken=3; other=1"),
            &["other=1"],
        ),
        (format!("{access}\r\nCookie: other=1"), &["other=1"]),
        (
            format!("other=1; x=sAccessToken=y; {access}"),
            &["other=1; x=sAccessToken=y"],
        ),
    ] {
        tried.variant(&cookie[..12.min(cookie.len())], || {
            for target in ["/app/a", "/public/a"] {
                is_served(&world.get(target, &cookie));
                assert_eq!(world.only_recorded().all("cookie"), left, "{target}");
            }
        });
    }
    for nameless in ["=sAccessToken=", "sAccessToken"] {
        tried.variant(nameless, || {
            is_served(&world.get("/app/a", &format!("{access}; {nameless}; other=1")));
            let recorded = world.only_recorded();
            assert!(
                !recorded.head.contains("sAccessToken="),
                "{}",
                recorded.head
            );
        });
    }
}

fn t017_bearer_of_the_gateway_stays(tried: &mut Tried) {
    let world = World::new();
    let asks = [
        ("st-auth-mode", "header"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let opened = world.send("POST", "/login?alice", &asks);
    let access = opened.header("st-access-token").unwrap().to_owned();
    let refresh = opened.header("st-refresh-token").unwrap().to_owned();
    world.recorded();
    for scheme in ["Bearer", "bearer", "BEARER"] {
        tried.variant(scheme, || {
            for target in ["/app/a", "/public/a"] {
                let bearer = format!("{scheme} {access}");
                is_served(&world.send("GET", target, &[("Authorization", &bearer)]));
                let recorded = world.only_recorded();
                assert!(
                    recorded.all("authorization").is_empty(),
                    "{}",
                    recorded.head
                );
                assert!(!recorded.head.contains(&access));
            }
        });
    }
    for (what, token) in [
        ("refresh token", &refresh),
        ("altered token", &format!("{access}x")),
    ] {
        tried.variant(what, || {
            let bearer = format!("Bearer {token}");
            is_served(&world.send("GET", "/public/a", &[("Authorization", &bearer)]));
            let recorded = world.only_recorded();
            assert!(
                recorded.all("authorization").is_empty(),
                "{}",
                recorded.head
            );
        });
    }
    let alice = world.login("alice");
    tried.variant("the token of a cookie", || {
        let bearer = format!("Bearer {}", alice.token());
        is_served(&world.send("GET", "/public/a", &[("Authorization", &bearer)]));
        assert!(world.only_recorded().all("authorization").is_empty());
    });
    for foreign in [
        "Bearer somebody-else's",
        "Basic Zm9v",
        "Digest x=y",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
    ] {
        tried.variant(foreign, || {
            let headers = [("Cookie", &*alice.access), ("Authorization", foreign)];
            is_served(&world.send("GET", "/app/a", &headers));
            assert_eq!(world.only_recorded().all("authorization"), [foreign]);
        });
    }
    tried.variant("two lines", || {
        let bearer = format!("Bearer {access}");
        let headers = [("Authorization", &*bearer), ("Authorization", "Basic Zm9v")];
        let answer = world.send("GET", "/public/a", &headers);
        let recorded = world.recorded();
        assert!(answer.status == 400 || recorded.iter().all(|seen| !seen.head.contains(&access)));
    });
}

fn t018_user_ids_that_are_no_header(tried: &mut Tried) {
    let world = World::new();
    let long = "x".repeat(128);
    for user in [
        "a\r\nX-Auth-User-Id: admin",
        "a\nb",
        "a\rb",
        "a\0b",
        "a\u{7f}",
        "a\u{1}",
        "a\u{85}b",
        "a\u{2028}b",
        "alice,admin",
        "alice; admin",
        "zoë",
        "\u{202e}nimda",
        "100%25",
        "\"quoted\"",
        &long,
    ] {
        tried.variant(format!("{user:.30?}"), || {
            let Some(cookie) = opened_by_api(&world, user) else {
                return;
            };
            is_served(&world.get("/app/a", &cookie));
            let recorded = world.only_recorded();
            let told = recorded.all(IDENTITY);
            assert_eq!(told.len(), 1, "{}", recorded.head);
            assert!(!told[0].contains(','), "{told:?}");
            assert!(told[0].bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            let decoded = percent_encoding::percent_decode_str(told[0])
                .decode_utf8()
                .unwrap();
            assert_eq!(decoded, user);
        });
    }
}

/// The access cookie of a session that the admin API opened; `None` if it refused.
fn opened_by_api(world: &World, user: &str) -> Option<String> {
    let body = serde_json::json!({ "user": user }).to_string();
    let answer = world.admin("POST", "/v1/sessions", &body);
    match answer.status {
        400 | 422 => None,
        201 => {
            let opened: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let token = opened["access_token"].as_str().unwrap();
            Some(format!("sAccessToken={token}"))
        }
        _ => panic!("{answer:?}"),
    }
}
