//! Chapter 4: Cookies: more of them than a browser sends, others' under the gateway's names, and what the gateway sets itself.

use crate::runner::{Case, Tried};
use crate::support::Answer;
use crate::world::{Held, Setup, World, clears, configuration, is_over, request};

pub const CASES: &[Case] = &[
    Case {
        name: "t059_two_sessions_in_one_request",
        title: "access cookies of two sessions",
        own: "three, the same one twice, with one that ended, with garbage, quoted, refresh cookies of two, thirty of them",
        run: t059_two_sessions_in_one_request,
    },
    Case {
        name: "t062_names_that_look_like_prefixed_ones",
        title: "nameless cookies and names that look like prefixed ones",
        own: "white space and controls before the name, other letters' case, __Secure-, plain names beside the prefix, tabs",
        run: t062_names_that_look_like_prefixed_ones,
    },
    Case {
        name: "t063_cookies_beyond_the_limits",
        title: "more cookies than a browser sends",
        own: "empty ones, without values, in lines of one, just below the limit",
        run: t063_cookies_beyond_the_limits,
    },
    Case {
        name: "t066_attributes",
        title: "the attributes of every cookie that is set or cleared",
        own: "each SameSite, each prefix, domains that do not fit",
        run: t066_attributes,
    },
];

fn t059_two_sessions_in_one_request(tried: &mut Tried) {
    let world = World::with(&Setup {
        cookies: Some("prefix = \"\"\ndomain = \"g.test\"\nolder_domains = [\"test\"]"),
        ..Default::default()
    });
    let (a, m, third) = (
        world.login("alice"),
        world.login("mallory"),
        world.login("carol"),
    );
    let (alice, mallory) = (&a.access, &m.access);
    let ended = world.login("alice");
    clears(&world.post("/auth/signout", &ended.access));
    let clears_every_scope = |answer: &Answer| {
        is_over(answer);
        for domain in ["Domain=g.test", "Domain=test"] {
            let in_domain = |set: &&str| set.starts_with("sAccessToken=;") && set.contains(domain);
            assert!(
                answer.set_cookies().any(|set| in_domain(&set)),
                "{domain}: {}",
                answer.head
            );
        }
        let host_only = |set: &&str| set.starts_with("sAccessToken=;") && !set.contains("Domain=");
        assert!(
            answer.set_cookies().any(|set| host_only(&set)),
            "{}",
            answer.head
        );
    };
    for (what, cookie) in [
        ("mallory first", format!("{mallory}; {alice}")),
        ("alice first", format!("{alice}; {mallory}")),
        ("two lines", format!("{mallory}\r\nCookie: {alice}")),
        (
            "two lines, the other way",
            format!("{alice}\r\nCookie: {mallory}"),
        ),
        ("three", format!("{alice}; {mallory}; {}", third.access)),
        (
            "with others between",
            format!("{alice}; a=b; {mallory}; c=d"),
        ),
        ("quoted", format!("{alice}; sAccessToken=\"{}\"", m.token())),
        (
            "thirty times garbage",
            format!("{}{alice}; {mallory}", "sAccessToken=x; ".repeat(30)),
        ),
    ] {
        tried.variant(what, || {
            let answer = world.get("/app/a", &cookie);
            assert!(answer.status < 500, "{answer:?}");
            // Garbage may be too much to look through; then it is nobody's.
            if what != "quoted" {
                clears_every_scope(&answer);
            }
            for recorded in world.recorded() {
                assert_eq!(recorded.all("x-auth-user-id"), ["alice"], "{what}");
                assert_eq!(what, "quoted");
            }
        });
    }
    for (what, cookie) in [
        ("the same one twice", format!("{alice}; {alice}")),
        ("with one that ended", format!("{}; {alice}", ended.access)),
        (
            "before one that ended",
            format!("{alice}; {}", ended.access),
        ),
        ("with garbage", format!("sAccessToken=x; {alice}")),
        ("with an empty one", format!("sAccessToken=; {alice}")),
        ("with a forged one", format!("{mallory}x; {alice}")),
    ] {
        tried.variant(what, || {
            let answer = world.get("/app/a", &cookie);
            assert_eq!(answer.status, 200, "{answer:?}");
            let recorded = world.only_recorded();
            assert_eq!(recorded.all("x-auth-user-id"), ["alice"]);
            assert!(recorded.all("cookie").is_empty());
        });
    }
    tried.variant("refresh cookies of two", || {
        let (one, other) = (world.login("alice"), world.login("mallory"));
        for cookie in [
            format!("{}; {}", one.refresh, other.refresh),
            format!("{}; {}", other.refresh, one.refresh),
        ] {
            let answer = world.post("/auth/session/refresh", &cookie);
            is_over(&answer);
        }
        // Neither has ended, and neither is taken for stolen.
        for held in [one, other] {
            assert_eq!(
                world.post("/auth/session/refresh", &held.refresh).status,
                200
            );
        }
    });
}

fn t062_names_that_look_like_prefixed_ones(tried: &mut Tried) {
    let world = World::with(&Setup {
        cookies: Some("prefix = \"__Host-\""),
        ..Default::default()
    });
    let alice = world.login("alice");
    let token = alice.token();
    let name = "__Host-sAccessToken";
    assert!(alice.access.starts_with(name), "{}", alice.access);
    for look_alike in [
        format!("={name}={token}"),
        format!("= {name}={token}"),
        format!("\u{200b}{name}={token}"),
        format!("{name}\u{200b}={token}"),
        format!("\u{feff}{name}={token}"),
        format!("\u{ff3f}\u{ff3f}Host-sAccessToken={token}"),
        format!("__Host\u{2010}sAccessToken={token}"),
        format!("__Host-\u{455}AccessToken={token}"),
        format!("__host-sAccessToken={token}"),
        format!("__HOST-SACCESSTOKEN={token}"),
        format!("__Secure-sAccessToken={token}"),
        format!("sAccessToken={token}"),
        format!("%5F%5FHost-sAccessToken={token}"),
        format!("x=\"{name}={token}\""),
        format!("x=y {name}={token}"),
        format!("x=y, {name}={token}"),
        name.to_owned(),
        format!("$Version=1, {name}={token}"),
    ] {
        tried.variant(format!("{:.24?}", look_alike), || {
            let answer = world.get("/app/a", &look_alike);
            assert!([400, 401].contains(&answer.status), "{answer:?}");
            world.nothing_recorded();
        });
    }
    tried.variant("what is set", || {
        let answer = world.post("/login?alice", "");
        let set: Vec<&str> = answer.set_cookies().collect();
        for set in set.iter().filter(|set| set.starts_with("__Host-")) {
            assert!(
                set.contains("; Secure") && set.contains("; Path=/;") && !set.contains("Domain"),
                "{set}"
            );
        }
        assert!(
            set.iter().all(|set| set.starts_with("__Host-")
                || set.starts_with("__Secure-")
                || set.starts_with("sIdRefreshToken")),
            "{set:?}"
        );
    });
}

fn t063_cookies_beyond_the_limits(tried: &mut Tried) {
    let world = World::new();
    for (what, lines) in [
        ("16 KiB", format!("cookie: a={}\r\n", "a".repeat(16 * 1024))),
        ("101 lines", "cookie: a=b\r\n".repeat(101)),
        (
            "500 small cookies",
            format!("cookie: {}\r\n", "a=b; ".repeat(500)),
        ),
        (
            "500 cookies",
            format!(
                "cookie: {}\r\n",
                "abcdefghijklmnop=qrstuvwxyz0123456789; ".repeat(500)
            ),
        ),
        (
            "500 without values",
            format!("cookie: {}\r\n", "abcdef=; ".repeat(500)),
        ),
        (
            "500 of the gateway's name",
            format!("cookie: {}\r\n", "sAccessToken=x; ".repeat(500)),
        ),
        (
            "500 in 50 lines",
            format!("cookie: {}\r\n", "ab=cd; ".repeat(10)).repeat(50),
        ),
    ] {
        tried.variant(what, || {
            let head = format!("GET /public/ HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n");
            world.is_refused(head, &[431]);
        });
    }
    tried.variant("as many as a browser has", || {
        let cookies: Vec<String> = (0..180).map(|number| format!("c{number}=v")).collect();
        assert_eq!(world.get("/public/a", &cookies.join("; ")).status, 200);
        assert_eq!(world.only_recorded().all("cookie"), [cookies.join("; ")]);
    });
}

fn t066_attributes(tried: &mut Tried) {
    let all_of = |answer: &Answer, wanted: &[&str], unwanted: &[&str]| {
        assert!(answer.set_cookies().count() >= 2, "{}", answer.head);
        for set in answer.set_cookies() {
            for part in wanted {
                assert!(set.split("; ").any(|found| found == *part), "{part}: {set}");
            }
            for part in unwanted {
                assert!(
                    !set.split("; ").any(|found| found.starts_with(part)),
                    "{part}: {set}"
                );
            }
            let is_for_scripts =
                set.starts_with("sIdRefreshToken") || set.starts_with("__Secure-sIdRefreshToken");
            assert!(is_for_scripts || set.contains("; HttpOnly"), "{set}");
        }
    };
    for (what, public_url, cookies, wanted, unwanted) in [
        (
            "https",
            "https://g.test:8443",
            "prefix = \"\"",
            &["Secure", "SameSite=Lax"][..],
            &["Domain"][..],
        ),
        (
            "http",
            "http://g.test:8080",
            "prefix = \"\"",
            &["SameSite=Lax"],
            &["Secure", "Domain"],
        ),
        (
            "strict",
            "https://g.test:8443",
            "prefix = \"\"\nsame_site = \"strict\"",
            &["Secure", "SameSite=Strict"],
            &["Domain"],
        ),
        (
            "none",
            "https://g.test:8443",
            "prefix = \"\"\nsame_site = \"none\"",
            &["Secure", "SameSite=None"],
            &["Domain"],
        ),
        (
            "domain",
            "https://g.test:8443",
            "prefix = \"\"\ndomain = \"g.test\"",
            &["Secure", "Domain=g.test"],
            &[],
        ),
    ] {
        tried.variant(what, || {
            let world = World::with(&Setup {
                public_url: Some(public_url),
                cookies: Some(cookies),
                ..Default::default()
            });
            let host = public_url.split("//").nth(1).unwrap();
            let post = |target: &str, cookie: &str| {
                let headers = [
                    ("Host", host),
                    ("Cookie", cookie),
                    ("Sec-Fetch-Site", "same-origin"),
                ];
                world.raw(request("POST", target, &headers))
            };
            let login = post("/login?alice", "");
            all_of(&login, wanted, unwanted);
            let refresh = post("/auth/session/refresh", &Held::from_answer(&login).both());
            assert_eq!(refresh.status, 200);
            all_of(&refresh, wanted, unwanted);
            let logout = post("/auth/signout", &Held::from_answer(&refresh).both());
            clears(&logout);
            let secure_as_wanted = wanted.contains(&"Secure");
            assert!(
                logout
                    .set_cookies()
                    .all(|set| set.contains("; Secure") == secure_as_wanted),
                "{}",
                logout.head
            );
        });
    }
    let world = World::new();
    for (what, public_url, cookies) in [
        (
            "none without Secure",
            "http://g.test:8080",
            "same_site = \"none\"",
        ),
        (
            "none and not Secure",
            "https://g.test:8443",
            "same_site = \"none\"\nsecure = false",
        ),
        (
            "another's domain",
            "https://g.test:8443",
            "domain = \"evil.test\"",
        ),
        (
            "part of a label",
            "https://ag.test:8443",
            "domain = \"g.test\"",
        ),
        (
            "a domain below",
            "https://g.test:8443",
            "domain = \"a.g.test\"",
        ),
        (
            "__Host- with a domain",
            "https://g.test:8443",
            "prefix = \"__Host-\"\ndomain = \"g.test\"",
        ),
        (
            "__Host- with a path",
            "https://g.test:8443",
            "prefix = \"__Host-\"\npath = \"/a\"",
        ),
        (
            "__Secure- without https",
            "http://g.test:8080",
            "prefix = \"__Secure-\"",
        ),
    ] {
        tried.variant(what, || {
            let setup = Setup {
                public_url: Some(public_url),
                cookies: Some(cookies),
                ..Default::default()
            };
            let text = configuration(&setup, ([127, 0, 0, 1], 9).into());
            std::fs::write(world.home.config(), text).unwrap();
            assert_ne!(world.home.fail_to_start().code, Some(0));
        });
    }
}
