//! More of each class than is written anywhere: what an attacker tries who has read the list. Named by the number whose class
//! they extend.

use serde_json::json;

use crate::http2::asked;
use crate::runner::{Case, Tried};
use crate::support::Answer;
use crate::support::frames::block;
use crate::world::{
    Held, Recorded, Setup, World, clears, is_401j, is_401j_that_clears_nothing, is_over, request,
};

pub const CASES: &[Case] = &[
    Case {
        name: "t006_what_connection_names",
        title: "Connection names what the gateway decides by, both ways",
        own: "Cookie, Origin, Sec-Fetch-Site, Authorization, Host; of an answer Cache-Control and Set-Cookie",
        run: t006_what_connection_names,
    },
    Case {
        name: "t008_trailers_of_an_answer",
        title: "identity, sessions and logins in the trailers of an answer",
        own: "on login routes and on those with session_control",
        run: t008_trailers_of_an_answer,
    },
    Case {
        name: "t010_other_headers_of_proxies",
        title: "other headers by which proxies and frameworks say path, host or proxy",
        own: "Proxy (CGI's HTTP_PROXY), X-Override-URL, X-Original-Path, X-Envoy-Original-Path, aliases",
        run: t010_other_headers_of_proxies,
    },
    Case {
        name: "t015_early_and_odd_answers",
        title: "interim answers, and cookies that a browser would send under the gateway's names",
        own: "103, 100, 102; nameless cookies, white space, no value, prefixes, many lines",
        run: t015_early_and_odd_answers,
    },
    Case {
        name: "t016_cookies_in_odd_company",
        title: "tokens between quotes, $Version, empty pairs and crumbs never reach the application",
        own: "RFC 2965, cookie sandwiches, percent-encoded tokens, several lines",
        run: t016_cookies_in_odd_company,
    },
    Case {
        name: "t030_hosts_in_doubt",
        title: "hosts that two parsers may read differently",
        own: "user parts, lists, ports, brackets, white space, NUL",
        run: t030_hosts_in_doubt,
    },
    Case {
        name: "t035_origins_that_are_reflected",
        title: "no origin but those allowed is told that it may read",
        own: "of answers, refusals and logouts: null, sub- and superdomains, ports, case, two of them",
        run: t035_origins_that_are_reflected,
    },
    Case {
        name: "t047_claims_by_other_names",
        title: "claims written with escapes, doubled by them, nested, or out of all range",
        own: "signed with the right key",
        run: t047_claims_by_other_names,
    },
    Case {
        name: "t091_sockets_of_another_site",
        title: "a WebSocket that another site's page opens",
        own: "no, null, two and other origins, half a handshake, on optional routes; what is no handshake opens none",
        run: t091_sockets_of_another_site,
    },
    Case {
        name: "t091_actions_of_another_site",
        title: "an unsafe request that another site's page sends",
        own: "contradicting marks, two of each, none and null, the user's own sessions, aliases of the marks",
        run: t091_actions_of_another_site,
    },
    Case {
        name: "t103_answers_that_caches_may_keep",
        title: "answers to a user that a cache could take for everybody's",
        own: "every status, HEAD, several lines, quoted lists, what Connection names",
        run: t103_answers_that_caches_may_keep,
    },
    Case {
        name: "t105_aliases_of_framing",
        title: "other names of framing headers, and what the application takes for a second request",
        own: "underscores, dots, lengths of two bodies, trailers that frame, Expect with other words",
        run: t105_aliases_of_framing,
    },
    Case {
        name: "t115_pseudo_fields_and_crumbs",
        title: "authority and host of HTTP/2 that differ, crumbs, and CONNECT to protected paths",
        own: "hosts twice, with a user part, in another case; crumbs that split a pair; CONNECT to logouts",
        run: t115_pseudo_fields_and_crumbs,
    },
];

fn t006_what_connection_names(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    tried.variant("Cookie", || {
        let cookies = format!("theme=dark; {}", alice.access);
        let headers = [("Connection", "cookie, host"), ("Cookie", &*cookies)];
        assert_eq!(world.send("GET", "/app/a", &headers).status, 200);
        let recorded = world.only_recorded();
        assert_eq!(recorded.all("x-auth-user-id"), ["alice"]);
        assert_eq!(recorded.all("host"), ["g.test:8443"]);
        assert!(!recorded.head.contains(alice.token()), "{}", recorded.head);
    });
    for listed in [
        "origin",
        "sec-fetch-site",
        "Origin, Sec-Fetch-Site, Referer",
    ] {
        tried.variant(listed, || {
            let headers = [
                ("Connection", listed),
                ("Cookie", &*alice.access),
                ("Origin", "https://evil.test"),
                ("Sec-Fetch-Site", "cross-site"),
            ];
            for (target, status) in [
                ("/app/a", 403),
                ("/auth/signout", 403),
                ("/auth/session/refresh", 401),
            ] {
                let answer = world.send("POST", target, &headers);
                assert_eq!((answer.status, answer.set_cookies().count()), (status, 0));
            }
            world.nothing_recorded();
            assert_eq!(world.get("/app/a", &alice.access).status, 200);
            world.recorded();
        });
    }
    for listed in [
        "cache-control",
        "Cache-Control, Vary, Set-Cookie",
        "no-store",
    ] {
        tried.variant(format!("of an answer: {listed}"), || {
            world.answers("/app/listed", &format!("200 OK\r\nConnection: {listed}"));
            is_kept_by_nobody(&world.get("/app/listed", &alice.access));
        });
    }
    let inline = World::with(&Setup {
        session: "refresh = \"transparent\"",
        ..Default::default()
    });
    tried.variant("of an answer that renews", || {
        let alice = inline.login("alice");
        inline.answers(
            "/app/listed",
            "200 OK\r\nConnection: set-cookie, front-token, cache-control",
        );
        let cookies = format!("{}; {}", inline.expired(&alice), alice.refresh);
        let answer = inline.get("/app/listed", &cookies);
        is_kept_by_nobody(&answer);
        assert!(answer.set_cookies().count() >= 2, "{}", answer.head);
        assert!(answer.header("front-token").is_some());
    });
}

#[track_caller]
fn is_kept_by_nobody(answer: &Answer) {
    let control = answer.header("cache-control").unwrap_or_default();
    let control = control.to_ascii_lowercase();
    let says = |word: &str| control.split(',').any(|directive| directive.trim() == word);
    assert!(says("private") || says("no-store"), "{}", answer.head);
}

fn t008_trailers_of_an_answer(tried: &mut Tried) {
    let world = World::with(&Setup {
        more: "[[route]]\npath = \"/control/**\"\nsession_control = true\n",
        ..Default::default()
    });
    let alice = world.login("alice");
    for trailer in [
        "X-Auth-User-Id: admin",
        "x_auth_user_id: admin",
        "Set-Cookie: sAccessToken=evil; Path=/",
        "Set-Cookie: theme=evil",
        "front-token: remove",
        "id-refresh-token: remove",
        "st-access-token: evil",
        "portcullis-login: admin",
        "portcullis-logout: user",
        "Cache-Control: public",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
    ] {
        tried.variant(trailer, || {
            for path in ["/app/t", "/control/t", "/login", "/public/t"] {
                world.answers_bytes(path, &format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\nok\r\n0\r\n{trailer}\r\nx-kept: yes\r\n\r\n"
                ));
                let method = match path {
                    "/login" => "POST",
                    _ => "GET",
                };
                let headers = [
                    ("Cookie", &*alice.access),
                    ("TE", "trailers"),
                    ("Connection", "te"),
                    ("Sec-Fetch-Site", "same-origin"),
                ];
                let answer = world.send(method, path, &headers);
                assert_eq!((answer.status, answer.text()), (200, "ok"), "{answer:?}");
                assert_eq!(answer.set_cookies().count(), 0, "{}", answer.head);
                let (name, _) = trailer.split_once(':').unwrap();
                let name = name.to_ascii_lowercase();
                if name != "cache-control" {
                    let told = format!("{answer:?}").to_ascii_lowercase();
                    let late = told.split("trailers").nth(1).unwrap_or_default();
                    assert!(!late.contains(&name), "{told}");
                }
            }
            // The session goes on: nothing that comes late ends it.
            assert_eq!(world.get("/app/a", &alice.access).status, 200);
            world.recorded();
        });
    }
}

fn t010_other_headers_of_proxies(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    for name in [
        "Proxy",
        "X-Override-URL",
        "X-Original-Path",
        "X_Original_Path",
        "X-Envoy-Original-Path",
        "X-Envoy-Original-Host",
        "X-HTTP-Host-Override",
        "X-Rewrite-URL",
        "X.Rewrite.URL",
        "X-Original-URI",
        "X-Forwarded-Anything-At-All",
        "X-Forwarded",
        "Portcullis-Login",
        "Portcullis_Claims",
    ] {
        tried.variant(name, || {
            for (target, cookie) in [("/app/a", &*alice.access), ("/public/a", "")] {
                let headers = [("Cookie", cookie), (name, "/admin-of-evil")];
                assert_eq!(world.send("GET", target, &headers).status, 200);
                let recorded = world.only_recorded();
                assert_eq!(recorded.target(), target);
                assert!(!recorded.head.contains("evil"), "{}", recorded.head);
            }
            is_401j_that_clears_nothing(&world.send("GET", "/app/a", &[(name, "/public/a")]));
            world.nothing_recorded();
        });
    }
}

fn t015_early_and_odd_answers(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    for early in [
        "100 Continue",
        "102 Processing",
        "103 Early Hints",
        "199 Whatever",
    ] {
        tried.variant(early, || {
            let said = "Set-Cookie: sAccessToken=evil\r\nSet-Cookie: theme=evil\r\nX-Auth-User-Id: evil\r\nfront-token: evil\r\nportcullis-login: evil\r\nportcullis-logout: user\r\n";
            for (method, path) in [("GET", "/app/early"), ("POST", "/login")] {
                world.answers_bytes(path, &format!(
                    "HTTP/1.1 {early}\r\n{said}\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
                ));
                let headers = [
                    ("Cookie", &*alice.access),
                    ("Sec-Fetch-Site", "same-origin"),
                ];
                let answer = world.send(method, path, &headers);
                assert!(!answer.head.contains("evil"), "{}", answer.head);
                assert!([200, 502].contains(&answer.status), "{}", answer.head);
            }
            assert_eq!(world.get("/app/a", &alice.access).status, 200);
            world.recorded();
        });
    }
    for set in [
        "=sAccessToken=evil",
        "= sAccessToken=evil",
        " =\tsAccessToken =evil",
        "sAccessToken",
        "sAccessToken=",
        "sAccessToken =evil",
        "\tsAccessToken\t=\tevil; Path=/",
        "__Host-sAccessToken=evil; Secure; Path=/",
        "__Secure-sRefreshToken=evil; Secure",
        "=__Host-sAccessToken=evil; Secure; Path=/",
        "__host-sAccessToken=evil; Secure; Path=/",
        "__HOST-sRefreshToken=evil; Secure; Path=/",
        "sIdRefreshToken=evil; Domain=g.test",
        "theme=dark\r\nSet-Cookie: sAccessToken=evil\r\nSet-Cookie: sRefreshToken=evil",
        "sAccessToken=evil\r\nset-cookie: SACCESSTOKEN2=kept",
    ] {
        tried.variant(format!("{set:?}"), || {
            for (method, path) in [
                ("GET", "/app/set"),
                ("GET", "/public/set"),
                ("POST", "/login"),
            ] {
                world.answers(path, &format!("200 OK\r\nSet-Cookie: {set}"));
                let headers = [
                    ("Cookie", &*alice.access),
                    ("Sec-Fetch-Site", "same-origin"),
                ];
                let answer = world.send(method, path, &headers);
                let told: Vec<&str> = answer.set_cookies().collect();
                assert!(
                    told.iter()
                        .all(|set| set.starts_with("theme=") || set.starts_with("SACC")),
                    "{told:?}"
                );
            }
            world.recorded();
        });
    }
}

fn t016_cookies_in_odd_company(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let token = alice.token();
    let encoded = token.replace('.', "%2E");
    for (what, cookie) in [
        (
            "$Version",
            format!("$Version=1; sAccessToken={token}; $Path=/; other=1"),
        ),
        (
            "empty pairs",
            format!(";;; sAccessToken={token};;; other=1;"),
        ),
        ("no space", format!("other=1;sAccessToken={token}")),
        ("tabs", format!("other=1;\tsAccessToken\t=\t{token}\t")),
        (
            "sandwich",
            format!("$Version=1; left=\"; sAccessToken={token}; right=\"; other=1"),
        ),
        ("quoted", format!("sAccessToken=\"{token}\"; other=1")),
        ("percent", format!("sAccessToken={encoded}; other=1")),
        ("nameless", format!("=sAccessToken={token}; other=1")),
        (
            "all names",
            format!(
                "sAccessToken={token}; __Host-sAccessToken={token}; __Secure-sAccessToken={token}; sIdRefreshToken={token}; sRefreshToken={token}; other=1"
            ),
        ),
        (
            "two lines",
            format!("other=1\r\nCookie: sAccessToken={token}"),
        ),
        (
            "two lines of it",
            format!("sAccessToken={token}\r\nCookie: other=1; sAccessToken={token}"),
        ),
    ] {
        tried.variant(what, || {
            for target in ["/app/a", "/opt/a", "/public/a"] {
                let answer = world.send("GET", target, &[("Cookie", &cookie)]);
                for recorded in world.recorded() {
                    assert!(!recorded.head.contains(token), "{}", recorded.head);
                    assert!(!recorded.head.contains(&encoded), "{}", recorded.head);
                    let kept = recorded.all("cookie").concat();
                    assert!(kept.contains("other=1"), "{}", recorded.head);
                }
                assert!([200, 401].contains(&answer.status), "{answer:?}");
                assert_ne!((target, answer.status), ("/public/a", 401));
            }
        });
    }
}

fn t030_hosts_in_doubt(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    for host in [
        "evil@g.test:8443",
        "g.test:8443@evil",
        "g.test:8443, evil.test",
        "g.test:8443 evil.test",
        "g.test:8443/",
        "g.test:8443/public",
        "g.test:8443#x",
        "g.test:8443?x",
        "g.test\\evil",
        "g.test:84:43",
        "g.test:-1",
        "g.test:+8443",
        "[::1",
        "[::1]evil",
        "[::1%25eth0]",
        "::1",
        "g%2Etest",
        "g.test\t.evil",
        "g.t\u{e9}st",
        "\"g.test\"",
        "",
        "g.test:8443\r\nHost: g.test:8443",
        "g.test:8443\r\n evil.test",
    ] {
        tried.variant(format!("{host:?}"), || {
            let cookie = &alice.access;
            world.is_refused(
                format!("GET /app/a HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n\r\n"),
                &[400],
            );
        });
    }
}

fn t035_origins_that_are_reflected(tried: &mut Tried) {
    let world = World::with(&Setup {
        session: "allowed_origins = [\"https://www.g.test\"]",
        ..Default::default()
    });
    let alice = world.login("alice");
    for origin in [
        "null",
        "https://www.g.test.evil.test",
        "https://evil-www.g.test",
        "https://evil.www.g.test",
        "https://www.g.test:444",
        "http://www.g.test",
        "https://www.g.test/",
        "https://user@www.g.test",
        "https://WWW.g.test.evil",
        "https://g.test",
        "*",
        "https://www.g.test, https://evil.test",
        "https://www.g.test https://evil.test",
        "https://www.g.test\r\nOrigin: https://evil.test",
    ] {
        tried.variant(format!("{origin:?}"), || {
            for (method, target, cookie) in [
                ("GET", "/app/a", &*alice.access),
                ("GET", "/opt/a", &*alice.access),
                ("GET", "/app/a", ""),
                ("POST", "/auth/signout", ""),
                ("POST", "/auth/session/refresh", ""),
                ("OPTIONS", "/auth/session/refresh", ""),
                ("GET", "/.well-known/jwks.json", ""),
            ] {
                let headers = [
                    ("Origin", origin),
                    ("Cookie", cookie),
                    ("Access-Control-Request-Method", "POST"),
                ];
                let answer = world.send(method, target, &headers);
                let told = answer.head.to_ascii_lowercase();
                assert!(!told.contains("access-control-allow-origin"), "{told}");
                assert!(!told.contains("access-control-allow-credentials"), "{told}");
            }
            world.recorded();
        });
    }
    tried.variant("the one allowed, beside another's answer", || {
        let headers = [("Origin", "https://www.g.test"), ("Cookie", &*alice.access)];
        let answer = world.send("GET", "/app/a", &headers);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://www.g.test")
        );
        let vary = answer.header("vary").unwrap_or_default();
        assert!(vary.to_ascii_lowercase().contains("origin"), "{vary}");
    });
}

fn t047_claims_by_other_names(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let claims = alice.claims().to_string();
    let key = world.signing_key();
    let sub = "\"sub\":\"alice\"";
    assert!(claims.contains(sub), "{claims}");
    let now = alice.claims()["iat"].as_i64().unwrap();
    for (what, forged) in [
        (
            "a second sub by an escape",
            claims.replace(sub, &format!("{sub},\"su\\u0062\":\"bob\"")),
        ),
        (
            "a first sub by an escape",
            claims.replace(sub, &format!("\"\\u0073ub\":\"bob\",{sub}")),
        ),
        (
            "sub nested",
            claims.replace(sub, "\"sub\":{\"sub\":\"alice\"}"),
        ),
        ("sub in a list", claims.replace(sub, "\"sub\":[\"alice\"]")),
        ("sub null", claims.replace(sub, "\"sub\":null")),
        ("sub empty", claims.replace(sub, "\"sub\":\"\"")),
        (
            "sub with a line",
            claims.replace(sub, "\"sub\":\"alice\\r\\nx-auth-user-id: admin\""),
        ),
        (
            "sub with NUL",
            claims.replace(sub, "\"sub\":\"alice\\u0000\""),
        ),
        ("another case", claims.replace(sub, "\"Sub\":\"alice\"")),
        (
            "half a surrogate",
            claims.replace(sub, "\"sub\":\"\\ud800\""),
        ),
        (
            "proto",
            claims.replace(sub, &format!("{sub},\"__proto__\":{{\"sub\":\"bob\"}}")),
        ),
        ("two objects", format!("{claims}{claims}")),
        ("in a list", format!("[{claims}]")),
        ("as a text", json!(claims).to_string()),
        ("comment", claims.replace(sub, &format!("/*x*/{sub}"))),
        ("a comma more", claims.replace(sub, &format!(",{sub}"))),
        ("single quotes", claims.replace('"', "'")),
    ] {
        tried.variant(what, || {
            let token = key.sign(forged.as_bytes()).unwrap();
            let cookie = format!("sAccessToken={}", token.expose());
            is_401j(&world.get("/app/a", &cookie));
            world.nothing_recorded();
        });
    }
    for exp in [
        "1e300",
        "1E9999",
        "-0",
        "-1",
        "0",
        "9223372036854775808",
        "18446744073709551616",
        "1.5",
        "1e3",
        "\"4102444800\"",
        "0x7fffffff",
        "+4102444800",
        "04102444800",
        "NaN",
        "Infinity",
        "true",
        "[4102444800]",
        "{}",
        "null",
    ] {
        tried.variant(format!("exp {exp}"), || {
            let was = format!("\"exp\":{}", alice.claims()["exp"]);
            assert!(claims.contains(&was), "{claims}");
            let forged = claims.replace(&was, &format!("\"exp\":{exp}"));
            let token = key.sign(forged.as_bytes()).unwrap();
            let cookie = format!("sAccessToken={}", token.expose());
            is_401j(&world.get("/app/a", &cookie));
            world.nothing_recorded();
        });
    }
    tried.variant("iat before all time", || {
        let was = format!("\"iat\":{now}");
        for iat in ["-1", "-9223372036854775809", "1e1"] {
            let forged = claims.replace(&was, &format!("\"iat\":{iat}"));
            let token = key.sign(forged.as_bytes()).unwrap();
            let cookie = format!("sAccessToken={}", token.expose());
            is_401j(&world.get("/app/a", &cookie));
        }
        world.nothing_recorded();
    });
}

fn t091_sockets_of_another_site(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let handshake = |target: &str, more: &str| {
        let cookie = &alice.access;
        format!(
            "GET {target} HTTP/1.1\r\nHost: g.test:8443\r\nCookie: {cookie}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n{more}\r\n"
        )
    };
    for more in [
        "Origin: https://evil.test\r\n",
        "Origin: null\r\n",
        "Origin:\r\n",
        "Origin: https://g.test\r\n",
        "Origin: http://g.test:8443\r\n",
        "Origin: https://g.test:8443.evil.test\r\n",
        "Origin: https://g.test:8443/\r\n",
        "Origin: https://g.test:8443\r\nOrigin: https://evil.test\r\n",
        "Origin: https://g.test:8443, https://evil.test\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: https://g.test:8443\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
        "Referer: https://evil.test/\r\n",
    ] {
        tried.variant(format!("{more:?}"), || {
            let answer = world.raw(handshake("/app/ws", more));
            assert_eq!((answer.status, answer.set_cookies().count()), (403, 0));
            world.nothing_recorded();
            // Where a session is not needed, the page gets what anybody gets.
            world.raw(handshake("/opt/ws", more));
            is_anonymous(&world.only_recorded());
        });
    }
    // Whatever is no handshake to the gateway must be none to the application.
    let foreign = "Origin: https://evil.test\r\n";
    for (what, from, to) in [
        (
            "no key",
            "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n",
            "",
        ),
        ("another version", "Version: 13", "Version: 8"),
        ("other letters", "Upgrade: websocket", "uPGRADE: WEBSOCKET"),
        ("a list", "Upgrade: websocket", "Upgrade: h2c, websocket"),
        (
            "with a version",
            "Upgrade: websocket",
            "Upgrade: websocket/13",
        ),
        (
            "two lines",
            "Upgrade: websocket",
            "Upgrade: foo\r\nUpgrade: websocket",
        ),
        ("not named", "Connection: Upgrade", "Connection: keep-alive"),
        (
            "among others",
            "Connection: Upgrade",
            "Connection: keep-alive, foo, upgrade",
        ),
        ("HEAD", "GET ", "HEAD "),
        ("old", "HTTP/1.1", "HTTP/1.0"),
        (
            "another Connection",
            "Connection: Upgrade",
            "Connection: Upgrade, Sec-WebSocket-Key",
        ),
    ] {
        tried.variant(what, || {
            for target in ["/app/ws", "/opt/ws"] {
                let bytes = handshake(target, foreign).replacen(from, to, 1);
                let mut conn = world.gateway().connect();
                conn.send(bytes);
                let answer = conn.bodiless_answer();
                assert_ne!(answer.status, 101, "{}", answer.head);
                for recorded in world.recorded() {
                    let named =
                        recorded.all("connection").concat() + &recorded.all("upgrade").concat();
                    let opens = named.to_ascii_lowercase().contains("upgrade");
                    if opens {
                        is_anonymous(&recorded);
                    }
                }
            }
        });
    }
}

#[track_caller]
fn is_anonymous(recorded: &Recorded) {
    assert!(
        recorded.all("x-auth-user-id").is_empty(),
        "{}",
        recorded.head
    );
    assert!(recorded.all("cookie").is_empty(), "{}", recorded.head);
}

fn t091_actions_of_another_site(tried: &mut Tried) {
    let world = World::with(&Setup {
        session: "self_service = true",
        ..Default::default()
    });
    let alice = world.login("alice");
    for marks in [
        &[
            ("Sec-Fetch-Site", "same-origin"),
            ("Sec-Fetch-Site", "cross-site"),
        ][..],
        &[
            ("Sec-Fetch-Site", "cross-site"),
            ("Origin", "https://g.test:8443"),
        ],
        &[("Sec-Fetch-Site", "Same-Origin")],
        &[("Sec-Fetch-Site", "same-origin, cross-site")],
        &[
            ("Sec-Fetch-Site", "same-site"),
            ("Referer", "https://g.test:8443/"),
        ],
        &[("Origin", "null"), ("Referer", "https://g.test:8443/")],
        &[
            ("Origin", "https://g.test:8443"),
            ("Origin", "https://evil.test"),
        ],
        &[("Origin", "https://g.test:8443 https://evil.test")],
        &[("Origin", "https://g.test:8443\\@evil.test")],
        &[
            ("Origin", "https://evil.test"),
            ("Referer", "https://g.test:8443/"),
        ],
        &[("Origin", "file://")],
        &[("Origin", "https://g.test:8443.")],
        &[("Referer", "https://g.test:8443@evil.test/")],
        &[("Referer", "https://g.test:8443.evil.test/")],
        &[("Referer", "https://evil.test/?https://g.test:8443/")],
        &[("Referer", "https://evil.test\\@g.test:8443/")],
        &[("Referer", "//g.test:8443/")],
        &[("Referer", "about:blank")],
        &[
            ("Sec_Fetch_Site", "same-origin"),
            ("Origin", "https://evil.test"),
        ],
        &[
            ("X-Forwarded-Host", "evil.test"),
            ("Origin", "https://evil.test"),
        ],
    ] {
        tried.variant(format!("{marks:?}"), || {
            for (method, target, status) in [
                ("POST", "/app/a", 403),
                ("LINK", "/app/a", 403),
                ("POST", "/auth/signout", 403),
                ("POST", "/auth/signout-all", 403),
                ("POST", "/auth/session/refresh", 401),
                ("DELETE", "/auth/sessions/AAAAAAAAAAAAAAAAAAAAAA", 403),
            ] {
                let mut headers = vec![("Cookie", &*alice.access)];
                headers.extend(marks);
                let answer = world.send(method, target, &headers);
                assert_eq!(
                    (answer.status, answer.set_cookies().count()),
                    (status, 0),
                    "{target}: {}",
                    answer.head
                );
            }
            world.nothing_recorded();
            let mut headers = vec![("Cookie", &*alice.access)];
            headers.extend(marks);
            world.send("DELETE", "/opt/a", &headers);
            is_anonymous(&world.only_recorded());
            assert_eq!(world.get("/app/a", &alice.access).status, 200);
            world.recorded();
        });
    }
}

fn t103_answers_that_caches_may_keep(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    for (at, status) in [
        "200 OK",
        "203 X",
        "206 Partial Content",
        "300 X",
        "301 X",
        "304 Not Modified",
        "308 X",
        "404 Not Found",
        "405 X",
        "410 Gone",
        "414 X",
        "501 X",
    ]
    .into_iter()
    .enumerate()
    {
        tried.variant(status, || {
            let path = format!("/app/status-{at}");
            world.answers(
                &path,
                &format!("{status}\r\nETag: \"x\"\r\nLast-Modified: Thu, 01 Jan 2015 00:00:00 GMT"),
            );
            for method in ["GET", "HEAD"] {
                let mut conn = world.gateway().connect();
                conn.send(request(method, &path, &[("Cookie", &alice.access)]));
                is_kept_by_nobody(&conn.bodiless_answer());
            }
        });
    }
    for (at, (said, kept)) in [
        ("max-age=60\r\nCache-Control: no-cache", "no-cache"),
        (
            "max-age=60\r\nCache-Control: must-revalidate",
            "must-revalidate",
        ),
        ("no-cache=\"x, public, y\"", ""),
        ("max-age=60, no-cache=\"private\"", ""),
        ("private=\"x-secret\"", ""),
        ("max-age=60;public", ""),
        ("xpublic", ""),
        ("\"public\"", ""),
        ("max-age=60\r\nConnection: cache-control", ""),
        ("", ""),
    ]
    .into_iter()
    .enumerate()
    {
        tried.variant(format!("{said:?}"), || {
            let path = format!("/app/said-{at}");
            world.answers(&path, &format!("200 OK\r\nCache-Control: {said}"));
            let answer = world.get(&path, &alice.access);
            let told: Vec<&str> = answer
                .head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .filter(|(name, _)| name.eq_ignore_ascii_case("cache-control"))
                .map(|(_, value)| value)
                .collect();
            let told = told.join(",");
            let is_said = told
                .split(',')
                .any(|word| ["private", "no-store"].contains(&word.trim()));
            assert!(is_said, "{told}");
            assert!(told.contains(kept), "{told}");
        });
    }
}

fn t105_aliases_of_framing(tried: &mut Tried) {
    let world = World::new();
    for alias in [
        "Content_Length: 100",
        "Content.Length: 0",
        "Transfer_Encoding: chunked",
        "Transfer.Encoding: chunked",
        "transfer!encoding: chunked",
        "Keep-Alive: timeout=1000",
        "Proxy-Connection: keep-alive",
        "TE: chunked",
        "Trailer: content-length, transfer-encoding, x-auth-user-id",
    ] {
        tried.variant(alias, || {
            let answer = world.raw(format!(
                "POST /hook HTTP/1.1\r\nHost: g.test\r\n{alias}\r\nContent-Length: 5\r\n\r\nhello"
            ));
            assert_eq!(answer.status, 200, "{answer:?}");
            let recorded = world.only_recorded();
            assert_eq!(recorded.all("content-length"), ["5"], "{}", recorded.head);
            assert_eq!(recorded.body, b"hello");
            let (name, _) = alias.split_once(':').unwrap();
            if name != "Trailer" {
                assert!(
                    recorded.all(&name.to_ascii_lowercase()).is_empty(),
                    "{}",
                    recorded.head
                );
            }
        });
    }
    for trailer in [
        "content-length: 100",
        "transfer-encoding: chunked",
        "host: evil.test",
        "content_length: 100",
        "connection: close",
        "x-forwarded-for: 9.9.9.9",
        "cookie: sAccessToken=x",
    ] {
        tried.variant(format!("trailer {trailer}"), || {
            let answer = world.raw(format!(
                "POST /hook HTTP/1.1\r\nHost: g.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"
            ));
            match answer.status {
                200 => {
                    let recorded = world.only_recorded();
                    let body = String::from_utf8_lossy(&recorded.body).to_ascii_lowercase();
                    let (name, _) = trailer.split_once(':').unwrap();
                    assert!(!body.contains(name), "{body}");
                }
                400 => world.nothing_recorded(),
                _ => panic!("{answer:?}"),
            }
        });
    }
    for expect in [
        "200-ok",
        "100-continue, 100-continue",
        "100-Continue\r\nExpect: x",
        "",
    ] {
        tried.variant(format!("Expect: {expect}"), || {
            let mut conn = world.gateway().connect();
            conn.send(format!(
                "POST /app/a HTTP/1.1\r\nHost: g.test\r\nExpect: {expect}\r\nContent-Length: 5\r\n\r\n"
            ));
            let answer = conn.answer();
            assert!([400, 401, 417].contains(&answer.status), "{}", answer.head);
            world.nothing_recorded();
        });
    }
}

fn t115_pseudo_fields_and_crumbs(tried: &mut Tried) {
    let world = World::with(&Setup {
        http2: true,
        ..Default::default()
    });
    let alice = world.login("alice");
    let cookie = ("cookie", &*alice.access);
    let fields = |method: &'static str, path: &'static str, more: &[(&str, &str)]| {
        let usual = [(":method", method), (":scheme", "http"), (":path", path)];
        block(&[&usual[..], more].concat())
    };
    let ours = (":authority", "g.test:8443");
    for (what, more, served) in [
        (
            "the same host",
            vec![ours, cookie, ("host", "g.test:8443")],
            true,
        ),
        ("host alone", vec![cookie, ("host", "g.test:8443")], true),
        (
            "another case",
            vec![ours, cookie, ("host", "G.TEST:8443")],
            true,
        ),
        (
            "another host",
            vec![ours, cookie, ("host", "evil.test")],
            false,
        ),
        (
            "another port",
            vec![ours, cookie, ("host", "g.test")],
            false,
        ),
        (
            "two hosts",
            vec![
                ours,
                cookie,
                ("host", "g.test:8443"),
                ("host", "g.test:8443"),
            ],
            false,
        ),
        (
            "a user",
            vec![(":authority", "evil@g.test:8443"), cookie],
            false,
        ),
        (
            "a user alone",
            vec![cookie, ("host", "evil@g.test:8443")],
            false,
        ),
        (
            "a path",
            vec![(":authority", "g.test:8443/public"), cookie],
            false,
        ),
        ("no host", vec![cookie], false),
        (
            "an empty authority",
            vec![(":authority", ""), cookie],
            false,
        ),
        (
            "a late path",
            vec![ours, cookie, (":path", "/public/a")],
            false,
        ),
        ("a status", vec![(":status", "200"), ours, cookie], false),
        (
            "a protocol",
            vec![(":protocol", "websocket"), ours, cookie],
            false,
        ),
        (
            "Connection",
            vec![ours, cookie, ("connection", "x-auth-user-id")],
            false,
        ),
        (
            "Upgrade",
            vec![ours, cookie, ("upgrade", "websocket")],
            false,
        ),
        ("TE", vec![ours, cookie, ("te", "chunked")], false),
        (
            "capitals",
            vec![ours, cookie, ("X-Auth-User-Id", "admin")],
            false,
        ),
    ] {
        tried.variant(what, || {
            let status = asked(&world, &fields("GET", "/app/a", &more));
            if served {
                assert_eq!(status, Some(200));
                let recorded = world.only_recorded();
                assert_eq!(recorded.all("x-auth-user-id"), ["alice"]);
                assert_eq!(recorded.all("host").len(), 1);
            } else {
                assert!(matches!(status, None | Some(400 | 405)), "{status:?}");
                world.nothing_recorded();
            }
        });
    }
    tried.variant("crumbs are one line", || {
        let more = [ours, ("cookie", "a=1"), cookie, ("cookie", "b=2; c=3")];
        assert_eq!(asked(&world, &fields("GET", "/app/a", &more)), Some(200));
        let recorded = world.only_recorded();
        assert_eq!(recorded.all("cookie"), ["a=1; b=2; c=3"]);
        assert_eq!(recorded.all("x-auth-user-id"), ["alice"]);
    });
    tried.variant("crumbs that split a pair", || {
        let (left, right) = alice.access.split_at(30);
        let more = [ours, ("cookie", left), ("cookie", right)];
        assert_eq!(asked(&world, &fields("GET", "/app/a", &more)), Some(401));
        world.nothing_recorded();
    });
    for (path, more, statuses) in [
        ("/app/ws", vec![ours], &[401][..]),
        (
            "/app/ws",
            vec![ours, cookie, ("origin", "https://evil.test")],
            &[403],
        ),
        ("/auth/signout", vec![ours, cookie], &[405]),
        ("/auth/session/refresh", vec![ours, cookie], &[405]),
        ("/login", vec![ours, cookie], &[405, 400]),
        ("/plain/a", vec![ours, cookie], &[405]),
        ("/public/../app/ws", vec![ours, cookie], &[400]),
    ] {
        tried.variant(format!("CONNECT {path} {}", more.len()), || {
            let connect = [&[(":protocol", "websocket")][..], &more].concat();
            let status = asked(&world, &fields("CONNECT", path, &connect));
            assert!(
                status.is_some_and(|status| statuses.contains(&status)),
                "{status:?}"
            );
            world.nothing_recorded();
        });
    }
    tried.variant("CONNECT by another site to an optional path", || {
        let connect = [(":protocol", "websocket"), ours, cookie, ("origin", "null")];
        asked(&world, &fields("CONNECT", "/opt/ws", &connect));
        is_anonymous(&world.only_recorded());
    });
    tried.variant("the session goes on", || {
        let answer = world.get("/app/a", &alice.access);
        assert_eq!(answer.status, 200);
        clears(&world.post("/auth/signout", &alice.access));
        is_over(&world.get("/app/a", &alice.access));
        let _: Held = world.login("alice");
    });
}
