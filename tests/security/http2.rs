//! The chapters that concern requests as such, in HTTP/2, as frames without a library.

use crate::runner::{Case, Tried};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, RST_STREAM, block, frame,
};
use crate::world::{Held, Recorded, Setup, World};

pub const CASES: &[Case] = &[
    Case {
        name: "t004_identity_aliases_http2",
        title: "every alias of the identity header, in HTTP/2",
        own: "on all kinds of routes, twice, before the cookie",
        run: t004_identity_aliases_http2,
    },
    Case {
        name: "t008_identity_in_trailers_http2",
        title: "the identity header as a trailer, in HTTP/2",
        own: "aliases, pseudo headers, framing and cookies as trailers",
        run: t008_identity_in_trailers_http2,
    },
    Case {
        name: "t010_forged_forwarded_headers_http2",
        title: "forged X-Forwarded-* and Forwarded, in HTTP/2",
        own: "all together",
        run: t010_forged_forwarded_headers_http2,
    },
    Case {
        name: "t019_ambiguous_paths_http2",
        title: "dot segments, encoded slashes, controls and authorities in :path",
        own: "what :path alone can have: no slash, a fragment, an empty one, a host",
        run: t019_ambiguous_paths_http2,
    },
    Case {
        name: "t059_two_sessions_in_crumbs_http2",
        title: "access cookies of two sessions in crumbs",
        own: "three crumbs, one with garbage, the application's own between",
        run: t059_two_sessions_in_crumbs_http2,
    },
    Case {
        name: "t063_cookies_beyond_the_limits_http2",
        title: "more cookie crumbs than a browser sends",
        own: "one crumb of 16 KiB, many in one",
        run: t063_cookies_beyond_the_limits_http2,
    },
];

/// A session of a world that speaks HTTP/2 as well as HTTP/1.1.
fn world() -> (World, Held) {
    let world = World::with(&Setup {
        http2: true,
        ..Default::default()
    });
    let alice = world.login("alice");
    (world, alice)
}

fn head<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let usual = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "g.test:8443"),
    ];
    block(&[&usual[..], more].concat())
}

/// What a request without a body is answered with; `None` if its stream or the connection is ended.
pub fn asked(world: &World, fields: &[u8]) -> Option<u16> {
    let mut conn = Frames::open(world.gateway().address);
    conn.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, fields));
    let answer = conn.next_of(&[HEADERS, RST_STREAM, GOAWAY])?;
    (answer.kind == HEADERS).then(|| status(&answer))
}

/// The `:status` of an answer, which comes first: from the static table, or as a text that may be compressed (RFC 7541).
pub fn status(answer: &Frame) -> u16 {
    if let Some(status) = answer.status() {
        return status;
    }
    let length = answer.payload[1];
    let text = &answer.payload[2..2 + usize::from(length & 0x7f)];
    if length & 0x80 == 0 {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    let mut bits = text
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1)));
    let mut take = |count: usize| bits.by_ref().take(count).fold(0, |all, bit| all << 1 | bit);
    (0..3).fold(0, |number, _| {
        // Appendix B: 0, 1 and 2 have five bits, the other digits six.
        let digit = match take(5) {
            short @ 0..3 => short,
            long => (long << 1 | take(1)) - 0b01_1001 + 3,
        };
        number * 10 + digit
    })
}

fn folded(name: &str) -> String {
    let fold = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    name.chars().map(fold).collect()
}

#[track_caller]
fn identity_is(recorded: &Recorded, users: &[&str]) {
    let headers = recorded.headers();
    let told = headers
        .iter()
        .filter(|(name, _)| folded(name) == "x-auth-user-id");
    let told: Vec<&str> = told.map(|(_, value)| *value).collect();
    assert_eq!(told, users, "{}", recorded.head);
    assert!(!recorded.head.contains("admin"), "{}", recorded.head);
}

fn t004_identity_aliases_http2(tried: &mut Tried) {
    let (world, alice) = world();
    for mark in "!#$%&'*+-.^_`|~".chars() {
        tried.variant(mark, || {
            let alias = format!("x{mark}auth{mark}user{mark}id");
            for (path, users) in [
                ("/app/a", &["alice"][..]),
                ("/opt/a", &["alice"]),
                ("/public/a", &[]),
            ] {
                let fields = [
                    (&*alias, "admin"),
                    ("cookie", &*alice.access),
                    (&*alias, "admin"),
                ];
                assert_eq!(asked(&world, &head("GET", path, &fields)), Some(200));
                identity_is(&world.only_recorded(), users);
            }
            let fields = [(&*alias, "admin")];
            assert_eq!(asked(&world, &head("GET", "/app/a", &fields)), Some(401));
            world.nothing_recorded();
        });
    }
}

fn t008_identity_in_trailers_http2(tried: &mut Tried) {
    let (world, alice) = world();
    for name in [
        "x-auth-user-id",
        "x_auth_user_id",
        "x.auth.user.id",
        "x-forwarded-for",
        "x_forwarded_host",
        "cookie",
        "authorization",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        ":path",
        ":method",
        "X-Auth-User-Id",
    ] {
        tried.variant(name, || {
            for path in ["/hook", "/app/a"] {
                let fields = [
                    ("cookie", &*alice.access),
                    ("sec-fetch-site", "same-origin"),
                ];
                let mut conn = Frames::open(world.gateway().address);
                conn.send(&frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &head("POST", path, &fields),
                ));
                conn.send(&frame(DATA, 0, 1, b"hello"));
                let trailers = block(&[(name, "admin"), ("x-checksum", "kept")]);
                conn.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &trailers));
                conn.next_of(&[HEADERS, RST_STREAM, GOAWAY]);
                for recorded in world.recorded() {
                    let body = String::from_utf8_lossy(&recorded.body).into_owned();
                    assert!(!body.contains("admin"), "{body}");
                    assert!(!recorded.head.contains("admin"), "{}", recorded.head);
                }
            }
        });
    }
}

fn t010_forged_forwarded_headers_http2(tried: &mut Tried) {
    let (world, _) = world();
    let forged = [
        ("x-forwarded-for", "9.9.9.9"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-proto", "evil"),
        ("x-forwarded-prefix", "/evil"),
        ("x-real-ip", "9.9.9.9"),
        ("forwarded", "for=9.9.9.9"),
        ("x_forwarded_host", "evil"),
        ("x.forwarded.host", "evil"),
        ("x-original-url", "/evil"),
        ("portcullis-login", "evil"),
    ];
    let mut all: Vec<&[(&str, &str)]> = forged.iter().map(std::slice::from_ref).collect();
    all.push(&forged);
    for fields in all {
        tried.variant(format!("{fields:?}"), || {
            assert_eq!(asked(&world, &head("GET", "/public/a", fields)), Some(200));
            let recorded = world.only_recorded();
            assert_eq!(recorded.all("x-forwarded-for"), ["127.0.0.1"]);
            assert_eq!(recorded.all("host"), ["g.test:8443"]);
            assert!(
                !recorded.head.contains("evil") && !recorded.head.contains("9.9.9.9"),
                "{}",
                recorded.head
            );
        });
    }
}

fn t019_ambiguous_paths_http2(tried: &mut Tried) {
    let (world, alice) = world();
    for path in [
        "/public/../app/a",
        "/public/..",
        "/..",
        "/public/%2e%2e/app/a",
        "/public/.%2E/app",
        "/public/..;/app/a",
        "/public/..%2fapp/a",
        "/app%2fa",
        "/public/a%5cb",
        "/public/a\\b",
        "/public//../app",
        "/public/%00",
        "/public/%zz",
        "/public/%c0%ae",
        "/public/a b",
        "/public/a\tb",
        "/public/a\r\nx-auth-user-id: admin",
        "/public/a\0",
        "public/a",
        "",
        "*",
        "http://other.test/public/a",
    ] {
        tried.variant(format!("{path:?}"), || {
            for cookie in [&[][..], &[("cookie", &*alice.access)]] {
                let status = asked(&world, &head("GET", path, cookie));
                assert!([None, Some(400)].contains(&status), "{status:?}");
                world.nothing_recorded();
            }
        });
    }
    for path in [
        "//app/a",
        "//evil.test/app/a",
        "/app/a?x=/public/b",
        "/PUBLIC/a",
        "/publicx/a",
        "/?/public/a",
    ] {
        tried.variant(path, || {
            assert_eq!(asked(&world, &head("GET", path, &[])), Some(401));
            world.nothing_recorded();
        });
    }
    tried.variant("a fragment", || {
        let status = asked(&world, &head("GET", "/app/a#/public/", &[]));
        assert!([None, Some(400), Some(401)].contains(&status), "{status:?}");
        world.nothing_recorded();
    });
}

fn t059_two_sessions_in_crumbs_http2(tried: &mut Tried) {
    let (world, alice) = world();
    let mallory = world.login("mallory");
    let (a, m) = (("cookie", &*alice.access), ("cookie", &*mallory.access));
    let own = ("cookie", "own=1");
    for (what, crumbs) in [
        ("alice first", vec![a, m]),
        ("mallory first", vec![m, a]),
        ("between", vec![a, own, m]),
        ("three", vec![m, a, m]),
    ] {
        tried.variant(what, || {
            assert_eq!(asked(&world, &head("GET", "/app/a", &crumbs)), Some(401));
            world.nothing_recorded();
        });
    }
    for (what, crumbs) in [
        ("twice", vec![a, a]),
        ("garbage", vec![("cookie", "sAccessToken=x"), own, a]),
    ] {
        tried.variant(what, || {
            assert_eq!(asked(&world, &head("GET", "/app/a", &crumbs)), Some(200));
            let recorded = world.only_recorded();
            identity_is(&recorded, &["alice"]);
            assert!(!recorded.head.contains("sAccessToken"), "{}", recorded.head);
        });
    }
}

fn t063_cookies_beyond_the_limits_http2(tried: &mut Tried) {
    let (world, _) = world();
    let long = "a".repeat(15 * 1024);
    let many = "ab=cd; ".repeat(400);
    for (what, crumbs) in [
        ("500 crumbs", vec![("cookie", "ab=cd"); 500]),
        (
            "one of 15 KiB and another",
            vec![("cookie", &*long), ("cookie", &*long)],
        ),
        ("400 in one", vec![("cookie", &*many)]),
    ] {
        tried.variant(what, || {
            let fields = head("GET", "/public/a", &crumbs);
            let mut conn = Frames::open(world.gateway().address);
            let mut parts = fields.chunks(16_000).peekable();
            let first = parts.next().unwrap();
            let whole = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            conn.send(&frame(HEADERS, END_STREAM | whole, 1, first));
            while let Some(part) = parts.next() {
                let last = if parts.peek().is_none() {
                    END_HEADERS
                } else {
                    0
                };
                let _ = conn.try_send(&frame(9, last, 1, part));
            }
            let answer = conn.next_of(&[HEADERS, RST_STREAM, GOAWAY]);
            if let Some(answer) = answer.filter(|answer| answer.kind == HEADERS) {
                assert_eq!(status(&answer), 431);
            }
            world.nothing_recorded();
        });
    }
}
