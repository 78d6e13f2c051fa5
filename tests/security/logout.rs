//! Chapter 6: Logout requests and redirects: who may send them, and where they lead.

use crate::runner::{Case, Tried};
use crate::support::Answer;
use crate::world::{Held, Setup, World, clears, is_401j, is_401j_that_clears_nothing, is_over};

pub const CASES: &[Case] = &[
    Case {
        name: "t091_logout_by_another_site",
        title: "a logout that another site makes the browser send",
        own: "POST by form, HEAD, same-site, Origin and Referer of another, null, all devices",
        run: t091_logout_by_another_site,
    },
    Case {
        name: "t093_logout_of_the_site_itself",
        title: "a logout of the site itself, with and without anti-CSRF tokens",
        own: "another session's token, a cut and a longer one, custom header, all devices",
        run: t093_logout_of_the_site_itself,
    },
    Case {
        name: "t094_refresh_by_another_site",
        title: "a refresh that another site makes the browser send",
        own: "every mark of another site, in each anti-CSRF mode, without cookies",
        run: t094_refresh_by_another_site,
    },
    Case {
        name: "t095_redirects_after_logout",
        title: "redirects that lead elsewhere",
        own: "twice, both ways round, entries with a slash more, other letters' case, encoded entries, by other parameters",
        run: t095_redirects_after_logout,
    },
    Case {
        name: "t097_redirects_by_referer",
        title: "redirects by Referer or Origin",
        own: "X-Forwarded-Host, X-Auth-Request-Redirect, Host",
        run: t097_redirects_by_referer,
    },
    Case {
        name: "t098_answers_of_a_logout",
        title: "the answer of a logout clears every cookie in every scope",
        own: "a second time, without cookies, with an expired token, with a forged one, with garbage",
        run: t098_answers_of_a_logout,
    },
    Case {
        name: "t100_expired_token_ends_one_device",
        title: "an expired token alone ends no other device",
        own: "forged expired tokens end nothing",
        run: t100_expired_token_ends_one_device,
    },
    Case {
        name: "t103_caches",
        title: "answers that depend on a session are kept by no shared cache",
        own: "no-cache, max-age, Expires, private, public by the application's word, with new tokens, refusals, redirects",
        run: t103_caches,
    },
];

/// How a browser says that another site is behind a request.
const ELSEWHERE: [&[(&str, &str)]; 8] = [
    &[
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "no-cors"),
    ],
    &[("Sec-Fetch-Site", "same-site")],
    &[
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "https://g.test:8443"),
    ],
    &[("Origin", "https://evil.test")],
    &[("Origin", "null")],
    &[("Origin", "http://g.test:8443")],
    &[("Origin", "https://g.test:8443.evil.test")],
    &[("Referer", "https://evil.test/https://g.test:8443/")],
];

#[track_caller]
fn is_alive(world: &World, held: &Held) {
    assert_eq!(world.get("/app/a", &held.access).status, 200);
    world.recorded();
}

fn t091_logout_by_another_site(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let other = world.login("alice");
    for path in ["/auth/signout", "/auth/signout-all"] {
        for method in ["GET", "HEAD"] {
            tried.variant(format!("{method} {path}"), || {
                let mut headers = vec![("Cookie", &*alice.access)];
                headers.extend(ELSEWHERE[0]);
                let mut conn = world.gateway().connect();
                conn.send(crate::world::request(method, path, &headers));
                let answer = conn.bodiless_answer();
                assert_eq!((answer.status, answer.set_cookies().count()), (405, 0));
            });
        }
        for marks in ELSEWHERE {
            tried.variant(format!("{path} {marks:?}"), || {
                let both = alice.both();
                let mut headers = vec![("Cookie", &*both)];
                headers.extend(marks);
                let answer = world.send("POST", path, &headers);
                assert_eq!(
                    (answer.status, answer.set_cookies().count()),
                    (403, 0),
                    "{}",
                    answer.head
                );
                assert_eq!(answer.header("front-token"), None);
            });
        }
    }
    tried.variant("both devices are alive", || {
        is_alive(&world, &alice);
        is_alive(&world, &other);
    });
}

fn t093_logout_of_the_site_itself(tried: &mut Tried) {
    let world = World::new();
    for marks in [
        &[("Sec-Fetch-Site", "same-origin")][..],
        &[("Sec-Fetch-Site", "none")],
        &[("Origin", "https://g.test:8443")],
        &[("Referer", "https://g.test:8443/app")],
        &[],
    ] {
        tried.variant(format!("by origin {marks:?}"), || {
            let alice = world.login("alice");
            let mut headers = vec![("Cookie", &*alice.access)];
            headers.extend(marks);
            let answer = world.send("POST", "/auth/signout", &headers);
            assert_eq!((answer.status, answer.text()), (200, "{\"status\":\"OK\"}"));
            clears(&answer);
        });
    }
    let world = World::with(&Setup {
        session: "anti_csrf = \"token\"",
        ..Default::default()
    });
    let login = world.post("/login?alice", "");
    let alice = Held::from_answer(&login);
    let token = login.header("anti-csrf").unwrap().to_owned();
    let other = world.post("/login?alice", "");
    let others = other.header("anti-csrf").unwrap().to_owned();
    let cut = token[..token.len() - 1].to_owned();
    let longer = format!("{token}A");
    for path in ["/auth/signout", "/auth/signout-all"] {
        for (what, anti_csrf) in [
            ("none", ""),
            ("another session's", &others),
            ("cut", &cut),
            ("longer", &longer),
            ("the word", "anti-csrf"),
        ] {
            tried.variant(format!("by token, {what} at {path}"), || {
                let headers = [
                    ("Cookie", &*alice.access),
                    ("Sec-Fetch-Site", "same-origin"),
                    ("rid", "anti-csrf"),
                    ("anti-csrf", anti_csrf),
                ];
                let answer = world.send("POST", path, &headers);
                is_401j_that_clears_nothing(&answer);
                is_alive(&world, &alice);
            });
        }
    }
    tried.variant("by token, the right one", || {
        let headers = [
            ("Cookie", &*alice.access),
            ("Sec-Fetch-Site", "same-origin"),
            ("anti-csrf", &token),
        ];
        clears(&world.send("POST", "/auth/signout", &headers));
        is_over(&world.get("/app/a", &alice.access));
    });
    let world = World::with(&Setup {
        session: "anti_csrf = \"custom-header\"",
        ..Default::default()
    });
    tried.variant("by header", || {
        let alice = Held::from_answer(&world.send(
            "POST",
            "/login?alice",
            &[("rid", "x"), ("Sec-Fetch-Site", "same-origin")],
        ));
        let cookie = ("Cookie", &*alice.access);
        let answer = world.send("POST", "/auth/signout", &[cookie]);
        assert_eq!((answer.status, answer.set_cookies().count()), (403, 0));
        is_alive(&world, &alice);
        clears(&world.send("POST", "/auth/signout", &[cookie, ("rid", "x")]));
    });
}

fn t094_refresh_by_another_site(tried: &mut Tried) {
    for mode in [
        "anti_csrf = \"origin\"",
        "anti_csrf = \"token\"",
        "anti_csrf = \"custom-header\"",
    ] {
        let world = World::with(&Setup {
            session: mode,
            ..Default::default()
        });
        let login = world.send(
            "POST",
            "/login?alice",
            &[("rid", "x"), ("Sec-Fetch-Site", "same-origin")],
        );
        let alice = Held::from_answer(&login);
        let token = login.header("anti-csrf").unwrap_or_default();
        for marks in ELSEWHERE {
            tried.variant(format!("{mode} {marks:?}"), || {
                for cookie in [&*alice.both(), ""] {
                    let mut headers = vec![("Cookie", cookie)];
                    headers.extend(marks);
                    let answer = world.send("POST", "/auth/session/refresh", &headers);
                    is_401j_that_clears_nothing(&answer);
                }
            });
        }
        tried.variant(format!("{mode}, and nothing was used up"), || {
            let headers = [
                ("Cookie", &*alice.refresh),
                ("rid", "x"),
                ("anti-csrf", token),
                ("Sec-Fetch-Site", "same-origin"),
            ];
            assert_eq!(
                world.send("POST", "/auth/session/refresh", &headers).status,
                200
            );
        });
    }
}

fn t095_redirects_after_logout(tried: &mut Tried) {
    let world = World::new();
    let huge = format!("/{}", "a".repeat(4096));
    let asked = [
        "//evil.test",
        "///evil.test",
        "/\\evil.test",
        "\\/evil.test",
        "https:evil.test",
        "https:/evil.test",
        "https://evil.test",
        "https://g.test@evil.test",
        "https://g.test.evil.test",
        "https://evilg.test",
        "https://www.g.test.evil.test/bye",
        "https://www.g.test:444/bye",
        "https://www.g.test/bye/../x",
        "https://www.g.test/bye/",
        "https://www.g.test/bye?x",
        "https://www.g.test/bye%23x",
        "HTTPS://www.g.test/bye",
        "https://WWW.g.test/bye",
        "http://www.g.test/bye",
        "https://u@www.g.test/bye",
        "javascript:alert(1)",
        "data:text/html,x",
        "%2f%2fevil.test",
        "%252f%252fevil.test",
        "/%09/evil.test",
        "/%0a/evil.test",
        "%0d%0aSet-Cookie:x=1",
        "%0d%0aLocation:%20//evil.test",
        "%20//evil.test",
        "/bye%23@evil",
        "/bye%00",
        "/bye/",
        "/bye?x",
        "/Bye",
        "bye",
        "",
        "/bye%20",
        "%5c%5cevil.test",
        "/%5cevil.test",
        "/bye&redirect=//evil.test",
        "//evil.test&redirect=/bye",
        "/bye;redirect=//evil.test",
        &huge,
    ];
    for asked in asked {
        tried.variant(format!("{asked:.50?}"), || {
            let alice = world.login("alice");
            let headers = [
                ("Cookie", &*alice.access),
                ("Sec-Fetch-Site", "same-origin"),
                ("Sec-Fetch-Mode", "navigate"),
                ("Accept", "text/html"),
            ];
            let answer = world.send("POST", &format!("/auth/signout?redirect={asked}"), &headers);
            if answer.status == 400 {
                return is_alive(&world, &alice);
            }
            assert_eq!(answer.status, 303, "{}", answer.head);
            // The same name twice is no wish; whichever is taken, it is an entry.
            let location = answer.header("location").unwrap();
            assert!(["/", "/bye"].contains(&location), "{location}");
            assert!(location == "/" || asked.contains('&'), "{location}");
            assert_eq!(
                answer
                    .set_cookies()
                    .filter(|set| set.starts_with("x="))
                    .count(),
                0
            );
            clears(&answer);
            is_over(&world.get("/app/a", &alice.access));
        });
    }
    for entry in ["/", "/bye", "https://www.g.test/bye"] {
        tried.variant(format!("the entry {entry}"), || {
            let target = format!("/auth/signout?redirect={}", entry.replace(':', "%3A"));
            let headers = [
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Site", "same-origin"),
            ];
            let answer = world.send("POST", &target, &headers);
            assert_eq!(answer.header("location"), Some(entry));
        });
    }
    for name in ["rd", "return_to", "next", "url", "Redirect", "redirect_uri"] {
        tried.variant(format!("by {name}"), || {
            let headers = [
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Site", "same-origin"),
            ];
            let answer = world.send("POST", &format!("/auth/signout?{name}=/bye"), &headers);
            assert_eq!(answer.header("location"), Some("/"));
        });
    }
}

fn t097_redirects_by_referer(tried: &mut Tried) {
    let world = World::new();
    for (name, value) in [
        ("Referer", "https://g.test:8443/bye"),
        ("Origin", "https://g.test:8443"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Auth-Request-Redirect", "https://evil.test"),
        ("X-Forwarded-Uri", "//evil.test"),
        ("Host", "evil.test"),
    ] {
        tried.variant(name, || {
            let headers = [
                ("Sec-Fetch-Mode", "navigate"),
                ("Sec-Fetch-Site", "same-origin"),
                (name, value),
            ];
            let answer = world.send("POST", "/auth/signout", &headers);
            assert_eq!(
                (answer.status, answer.header("location")),
                (303, Some("/")),
                "{}",
                answer.head
            );
        });
    }
}

fn t098_answers_of_a_logout(tried: &mut Tried) {
    let world = World::with(&Setup {
        cookies: Some("prefix = \"\"\ndomain = \"g.test\"\nolder_domains = [\"test\"]"),
        ..Default::default()
    });
    let alice = world.login("alice");
    let expired = world.expired(&world.login("alice"));
    let without_date = |answer: &Answer| -> (u16, Vec<String>, Vec<u8>) {
        let lines = answer.head.lines().map(str::to_ascii_lowercase);
        let mut lines: Vec<String> = lines.filter(|line| !line.starts_with("date:")).collect();
        lines.sort();
        (answer.status, lines, answer.body.clone())
    };
    let first = world.post("/auth/signout", &alice.access);
    for (what, cookie) in [
        ("the first time", None),
        ("a second time", Some(alice.access.clone())),
        ("no cookie", Some(String::new())),
        ("expired", Some(expired)),
        ("forged", Some(format!("{}x", alice.access))),
        (
            "garbage",
            Some("sAccessToken=\"\u{1}".replace('\u{1}', "x")),
        ),
        ("refresh token alone", Some(alice.refresh.clone())),
        ("ten tokens", Some(["sAccessToken=x"; 10].join("; "))),
    ] {
        tried.variant(what, || {
            let answer = match cookie {
                Some(cookie) => &world.post("/auth/signout", &cookie),
                None => &first,
            };
            assert_eq!(without_date(answer), without_date(&first));
            clears(answer);
            for name in ["sAccessToken", "sRefreshToken", "sIdRefreshToken"] {
                for domain in [Some("; Domain=g.test"), Some("; Domain=test"), None] {
                    let is_one = |set: &&str| {
                        set.starts_with(&format!("{name}=;"))
                            && match domain {
                                Some(domain) => set
                                    .split_inclusive(';')
                                    .any(|_| format!("{set};").contains(&format!("{domain};"))),
                                None => !set.contains("Domain="),
                            }
                    };
                    assert!(
                        answer.set_cookies().any(|set| is_one(&set)),
                        "{name} {domain:?}: {}",
                        answer.head
                    );
                }
            }
        });
    }
    tried.variant("nobody else has ended", || {
        is_alive(&world, &world.login("bob"))
    });
}

fn t100_expired_token_ends_one_device(tried: &mut Tried) {
    let world = World::new();
    tried.variant("expired", || {
        let (alice, other) = (world.login("alice"), world.login("alice"));
        let expired = world.expired(&alice);
        let answer = world.post("/auth/signout-all", &expired);
        assert!([200, 401].contains(&answer.status), "{}", answer.head);
        is_alive(&world, &other);
    });
    tried.variant("expired and forged", || {
        let alice = world.login("alice");
        let expired = world.expired(&alice);
        for path in ["/auth/signout", "/auth/signout-all"] {
            let (message, signature) = expired.rsplit_once('.').unwrap();
            let other = if signature.starts_with('A') { "B" } else { "A" };
            let forged = format!("{message}.{other}{}", &signature[1..]);
            world.post(path, &forged);
            is_alive(&world, &alice);
        }
    });
    tried.variant("not expired", || {
        let (alice, other) = (world.login("alice"), world.login("alice"));
        clears(&world.post("/auth/signout-all", &alice.access));
        is_over(&world.get("/app/a", &other.access));
    });
}

fn t103_caches(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let control = |answer: &Answer| {
        answer
            .header("cache-control")
            .unwrap_or_default()
            .to_owned()
    };
    for (at, said) in [
        "",
        "Cache-Control: max-age=60",
        "Cache-Control: no-cache",
        "Cache-Control: must-revalidate",
        "Expires: Thu, 31 Dec 2099 23:59:59 GMT",
        "Cache-Control: private",
        "ETag: \"x\"",
        "Cache-Control: max-age=60\r\nSurrogate-Control: max-age=60",
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/app/{at}.css");
        world.answers(&path, format!("200 OK\r\n{said}").trim_end());
        tried.variant(format!("{said:?}"), || {
            for cookie in [&*alice.access, ""] {
                let told = control(&world.get(&path, cookie));
                assert!(
                    told.contains("private") || told.contains("no-store"),
                    "{told}"
                );
            }
        });
    }
    world.answers("/app/open", "200 OK\r\nCache-Control: public, max-age=60");
    tried.variant("public by the application's word", || {
        assert_eq!(
            control(&world.get("/app/open", &alice.access)),
            "public, max-age=60"
        );
    });
    world.answers(
        "/login",
        "200 OK\r\nportcullis-login: alice\r\nCache-Control: public, max-age=60",
    );
    tried.variant("a login", || {
        let answer = world.post("/login", "");
        assert!(answer.set_cookies().count() >= 2);
        assert_eq!(control(&answer), "no-store");
    });
    tried.variant("a refresh", || {
        let bob = Held::from_answer(&world.post("/login", ""));
        let answer = world.post("/auth/session/refresh", &bob.refresh);
        assert!(answer.header("front-token").is_some());
        assert_eq!(control(&answer), "no-store");
    });
    tried.variant("refusals", || {
        is_401j(&world.get("/app/x.css", ""));
        clears(&world.post("/auth/signout", &alice.access));
        let back = world.get("/app/x.css", &alice.access);
        is_over(&back);
        let page = [("Sec-Fetch-Mode", "navigate"), ("Accept", "text/html")];
        let answer = world.send("GET", "/app/x.css", &page);
        assert_eq!((answer.status, &*control(&answer)), (303, "no-store"));
    });
    let inline = World::with(&Setup {
        session: "refresh = \"transparent\"",
        ..Default::default()
    });
    inline.answers("/app/open", "200 OK\r\nCache-Control: public, max-age=60");
    tried.variant("new tokens in line", || {
        let alice = inline.login("alice");
        let cookies = format!("{}; {}", inline.expired(&alice), alice.refresh);
        let answer = inline.get("/app/open", &cookies);
        assert_eq!(answer.status, 200);
        assert!(answer.header("front-token").is_some());
        assert_eq!(control(&answer), "no-store");
    });
}
