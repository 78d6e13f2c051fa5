//! Chapter 8, as far as it is requests: floods of refreshes, logouts and logins, and what they get to.

use crate::runner::{Case, Tried};
use crate::support::Answer;
use crate::world::{Setup, World, is_401j_that_clears_nothing, is_over, request};

pub const CASES: &[Case] = &[Case {
    name: "t118_refresh_and_logout_floods",
    title: "floods of refreshes and logouts are limited, and made-up tokens never reach the store",
    own: "logins, each address behind a proxy by itself, one session's logouts, tokens of each kind without a store to ask",
    run: t118_refresh_and_logout_floods,
}];

const REFRESH: &str = "/auth/session/refresh";
const LOGOUT: &str = "/auth/signout";

/// Sends until it is refused for being too often: how many were not, and the refusal.
fn until_429(world: &World, path: &str, headers: &[(&str, &str)]) -> (usize, Answer) {
    let mut all = vec![("Sec-Fetch-Site", "same-origin")];
    all.extend(headers);
    let request = request("POST", path, &all);
    let mut conn = world.gateway().connect();
    for allowed in 0..2000 {
        let answer = world.raw_on(&mut conn, &request);
        if answer.status == 429 {
            return (allowed, answer);
        }
    }
    panic!("{path} is never refused");
}

/// Says when to come again, clears nothing.
#[track_caller]
fn is_429(answer: &Answer) {
    assert_eq!(answer.status, 429, "{answer:?}");
    let wait = answer.header("retry-after").unwrap();
    assert!(wait.parse::<u64>().unwrap() >= 1, "{wait}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.set_cookies().count(), 0, "{}", answer.head);
    assert_eq!(answer.header("front-token"), None);
}

fn t118_refresh_and_logout_floods(tried: &mut Tried) {
    let world = World::with(&Setup {
        server: "trusted_proxies = [\"127.0.0.1\"]",
        limits: "logins_per_second = 1\nrefreshes_per_second = 1\nlogouts_per_second = 1",
        ..Default::default()
    });
    let bob = world.login("bob");
    // Ten seconds' worth at once, and what the passing of time adds on a busy machine.
    let allowed_at_once = 10..40;
    for (path, cookie) in [
        ("/login?mallory", ""),
        (REFRESH, "sRefreshToken=AAAA"),
        (LOGOUT, ""),
        ("/auth/signout-all", "sAccessToken=x"),
    ] {
        tried.variant(format!("from one address: {path}"), || {
            let of = |address: &'static str| [("Cookie", cookie), ("X-Forwarded-For", address)];
            let flooding = match path {
                "/auth/signout-all" => "192.0.2.2",
                _ => "192.0.2.1",
            };
            world.recorded();
            let (allowed, refused) = until_429(&world, path, &of(flooding));
            assert!(allowed_at_once.contains(&allowed), "{allowed}");
            is_429(&refused);
            let logins = if path.starts_with("/login") {
                allowed
            } else {
                0
            };
            assert_eq!(world.recorded().len(), logins, "what the application got");
            let mut neighbour = vec![("Sec-Fetch-Site", "same-origin")];
            neighbour.extend(of("192.0.2.9"));
            assert_ne!(world.send("POST", path, &neighbour).status, 429);
            // Who is limited is so for these paths alone.
            let headers = [("Cookie", &*bob.access), ("X-Forwarded-For", flooding)];
            assert_eq!(world.send("GET", "/app/a", &headers).status, 200);
        });
    }
    tried.variant("logouts of one session, from many addresses", || {
        let world = World::with(&Setup {
            limits: "logouts_per_second = 0",
            ..Default::default()
        });
        let alice = world.login("alice");
        let (allowed, refused) = until_429(&world, LOGOUT, &[("Cookie", &alice.access)]);
        assert!((30..90).contains(&allowed), "{allowed}");
        is_429(&refused);
        let other = world.login("alice");
        assert!(world.post(LOGOUT, &other.access).status < 400);
        is_over(&world.get("/app/a", &other.access));
    });
    without_a_store(tried);
}

/// With the sessions out of the store's reach, whatever asks for one is answered with 503: what is not, did not ask.
fn without_a_store(tried: &mut Tried) {
    let world = World::with(&Setup {
        limits: "refreshes_per_second = 0\nlogouts_per_second = 0",
        ..Default::default()
    });
    let alice = world.login("alice");
    let forged_by = World::new().login("alice");
    let text = alice.refresh.split_once('=').unwrap().1.to_owned();
    let with_end = |end: char| format!("{}{end}", &text[..text.len() - 2]);
    let other = if text.as_bytes()[40] == b'A' {
        "B"
    } else {
        "A"
    };
    let altered = format!("{}{other}{}", &text[..40], &text[41..]);
    world.sql("ALTER TABLE session RENAME TO session_elsewhere");
    tried.variant("a token of ours asks the store", || {
        assert_eq!(world.post(REFRESH, &alice.refresh).status, 503);
    });
    for (what, token) in [
        ("altered", altered),
        ("cut", with_end('A')),
        ("made up", "A".repeat(text.len())),
        ("an access token", alice.token().to_owned()),
        (
            "another deployment's",
            forged_by.refresh.split_once('=').unwrap().1.to_owned(),
        ),
    ] {
        tried.variant(format!("without a store, {what}"), || {
            let cookie = format!("sRefreshToken={token}");
            for _ in 0..200 {
                is_over(&world.post(REFRESH, &cookie));
            }
        });
    }
    for (what, cookie) in [
        ("another deployment's", forged_by.access.clone()),
        ("altered", format!("{}x", alice.access)),
        ("made up", "sAccessToken=a.b.c".to_owned()),
        ("a refresh token", format!("sAccessToken={text}")),
    ] {
        tried.variant(format!("without a store, as access token: {what}"), || {
            for _ in 0..50 {
                is_401j_that_clears_nothing(&world.get("/app/a", &cookie));
                assert!(world.post(LOGOUT, &cookie).status < 500);
            }
            world.nothing_recorded();
        });
    }
    tried.variant("afterwards the token is still good", || {
        world.sql("ALTER TABLE session_elsewhere RENAME TO session");
        assert_eq!(world.post(REFRESH, &alice.refresh).status, 200);
    });
}
