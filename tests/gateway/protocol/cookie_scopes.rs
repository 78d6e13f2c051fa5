//! Names, scopes and duplicates of the gateway's cookies, as browsers see them.

use std::time::Duration;

use super::REFRESH;
use crate::support::{Answer, Browser, Replica, World};

const HOUR: Duration = Duration::from_hours(1);
const OLDER: &str = "prefix = \"\"\nolder_domains = [\"old.g.test\"]";

/// The cookies that an answer sets, as name and value, and the scopes that it clears, as name, Path and Domain.
struct Told {
    set: Vec<(String, String)>,
    cleared: Vec<(String, String, Option<String>)>,
}

fn told(answer: &Answer) -> Told {
    let mut told = Told {
        set: vec![],
        cleared: vec![],
    };
    for cookie in answer.all("set-cookie") {
        let (name, rest) = cookie.split_once('=').unwrap();
        let attribute = |wanted: &str| {
            let mut attributes = rest.split("; ").filter_map(|it| it.split_once('='));
            attributes
                .find(|(name, _)| *name == wanted)
                .map(|(_, value)| value.to_owned())
        };
        match attribute("Max-Age") {
            Some(_) => told.cleared.push((
                name.to_owned(),
                attribute("Path").unwrap(),
                attribute("Domain"),
            )),
            None => told
                .set
                .push((name.to_owned(), rest.split(';').next().unwrap().to_owned())),
        }
    }
    told
}

fn send(gateway: &Replica, method: &str, path: &str, cookies: &str) -> Answer {
    gateway.send(method, path, &[("Cookie", cookies)], "")
}

#[test]
fn on_https_names_have_the_strictest_prefix() {
    for (refresh, refresh_name) in [
        ("transparent", "__Host-sRefreshToken"),
        ("client", "__Secure-sRefreshToken"),
    ] {
        let world = World::with(&[("session.refresh", refresh)]).with_cookies("");
        let gateway = world.replica();
        let login = Browser::new().log_in(&gateway, "alice");
        let set = told(&login).set;
        let [(access, token), (name, _)] = &set[..] else {
            panic!("{set:?}")
        };
        assert_eq!((&**access, &**name), ("__Host-sAccessToken", refresh_name));
        for cookie in login.all("set-cookie") {
            assert!(
                cookie.contains("; Secure;") && !cookie.contains("Domain"),
                "{cookie}"
            );
        }
        send(
            &gateway,
            "GET",
            "/app",
            &format!("__Host-sAccessToken={token}"),
        )
        .assert_served();
        assert_eq!(world.app.last().all("cookie"), [""; 0]);
        for other in [
            format!("sAccessToken={token}"),
            format!("__Secure-sAccessToken={token}"),
            format!("=__Host-sAccessToken={token}"),
            format!("__host-sAccessToken={token}"),
        ] {
            send(&gateway, "GET", "/app", &other).assert_refused(401, "try refresh token");
        }
        let logout = send(
            &gateway,
            "POST",
            "/logout",
            &format!("__Host-sAccessToken={token}"),
        );
        logout.assert_clears();
        let cleared = told(&logout).cleared;
        for name in [
            "__Host-sAccessToken",
            "sAccessToken",
            "__Host-sRefreshToken",
            "sRefreshToken",
        ] {
            assert!(
                cleared.contains(&(name.to_owned(), "/".to_owned(), None)),
                "{name}: {cleared:?}"
            );
        }
        for name in ["__Secure-sRefreshToken", "sRefreshToken"] {
            assert!(
                cleared.contains(&(name.to_owned(), REFRESH.to_owned(), None)),
                "{name}: {cleared:?}"
            );
        }
    }
}

#[test]
fn with_a_domain_the_prefix_is_secure() {
    let world = World::new().with_cookies("domain = \"g.test\"");
    let gateway = world.replica();
    let login = Browser::new().log_in(&gateway, "alice");
    let names: Vec<String> = told(&login).set.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["__Secure-sAccessToken", "__Secure-sRefreshToken"]);
}

#[test]
fn of_several_access_cookies_the_live_one_is_taken_and_settled() {
    let world = World::with(&[]).with_cookies(OLDER);
    let gateway = world.replica();
    let mut ended = Browser::logged_in(&gateway, "mallory");
    let old = ended.access().to_owned();
    ended.post(&gateway, "/logout");
    let alice = Browser::logged_in(&gateway, "alice");
    let live = alice.access();
    for cookies in [
        format!("sAccessToken={old}; sAccessToken={live}"),
        format!("sAccessToken={live}; sAccessToken={old}"),
        format!("sAccessToken={live}; sAccessToken=garbage"),
    ] {
        let answer = send(&gateway, "GET", "/app", &cookies);
        assert_eq!((answer.status, answer.text()), (200, "hello"), "{cookies}");
        assert_eq!(world.app.last().user(), Some("alice"));
        let told = told(&answer);
        assert_eq!(told.set, [("sAccessToken".to_owned(), live.to_owned())]);
        let old_domain = Some("old.g.test".to_owned());
        assert!(
            told.cleared
                .contains(&("sAccessToken".to_owned(), "/".to_owned(), old_domain))
        );
        assert!(
            !told
                .cleared
                .contains(&("sAccessToken".to_owned(), "/".to_owned(), None))
        );
        assert!(
            told.cleared
                .iter()
                .all(|(name, ..)| name.ends_with("sAccessToken"))
        );
        assert_eq!(answer.header("front-token"), None);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    let once = format!("sAccessToken={live}; sAccessToken={live}");
    send(&gateway, "GET", "/app", &once).assert_served();
}

/// T059.
#[test]
fn two_live_sessions_are_nobody_s_honest_cookies() {
    let world = World::new().with_cookies(OLDER);
    let gateway = world.replica();
    let [alice, mallory] = ["alice", "mallory"].map(|user| Browser::logged_in(&gateway, user));
    for (one, other) in [(&alice, &mallory), (&mallory, &alice)] {
        let access = format!(
            "sAccessToken={}; sAccessToken={}",
            one.access(),
            other.access()
        );
        let lines = [
            ("Cookie", &*format!("sAccessToken={}", one.access())),
            ("Cookie", &*format!("sAccessToken={}", other.access())),
        ];
        let refresh = format!(
            "sRefreshToken={}; sRefreshToken={}",
            one.refresh(),
            other.refresh()
        );
        for answer in [
            send(&gateway, "GET", "/app", &access),
            gateway.send("GET", "/app", &lines, ""),
            send(&gateway, "GET", "/app", &refresh),
            send(&gateway, "POST", REFRESH, &refresh),
        ] {
            answer.assert_session_over();
            let cleared = told(&answer).cleared;
            for name in ["sAccessToken", "sRefreshToken", "sIdRefreshToken"] {
                for domain in [None, Some("old.g.test".to_owned())] {
                    assert!(
                        cleared.contains(&(name.to_owned(), "/".to_owned(), domain)),
                        "{name}"
                    );
                }
            }
        }
    }
    assert_eq!(world.app.count("/app"), 0);
}

#[test]
fn of_several_refresh_cookies_the_live_one_is_renewed_and_the_rest_goes() {
    let world = World::new().with_cookies(OLDER);
    let gateway = world.replica();
    let mut ended = Browser::logged_in(&gateway, "mallory");
    let old = ended.refresh().to_owned();
    ended.post(&gateway, "/logout");
    for (method, path) in [("POST", REFRESH), ("GET", "/app")] {
        for dead_first in [true, false] {
            let alice = Browser::logged_in(&gateway, "alice");
            world.pass(HOUR);
            let mut tokens = [&*old, alice.refresh()];
            if !dead_first {
                tokens.reverse();
            }
            let [one, other] = tokens;
            let answer = send(
                &gateway,
                method,
                path,
                &format!("sRefreshToken={one}; sRefreshToken={other}"),
            );
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.front_token()["uid"], "alice");
            let told = told(&answer);
            assert_eq!(told.set.len(), 2);
            let scope = |domain: Option<&str>| {
                (
                    "sRefreshToken".to_owned(),
                    "/".to_owned(),
                    domain.map(str::to_owned),
                )
            };
            assert!(
                told.cleared.contains(&scope(Some("old.g.test"))),
                "{:?}",
                told.cleared
            );
            assert!(!told.cleared.contains(&scope(None)), "the one that is set");
        }
    }
    let both = format!("sRefreshToken={old}; sRefreshToken={old}");
    send(&gateway, "POST", REFRESH, &both).assert_session_over();
}

#[test]
fn of_one_session_the_newest_refresh_token_counts() {
    let world = World::with(&[("session.refresh", "client")]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let first = alice.refresh().to_owned();
    alice.post(&gateway, REFRESH).assert_opened();
    alice.get(&gateway, "/app").assert_served();
    world.pass(HOUR);
    let both = format!("sRefreshToken={first}; sRefreshToken={}", alice.refresh());
    let answer = send(&gateway, "POST", REFRESH, &both);
    assert_eq!(answer.status, 200, "not a theft: {answer:?}");
}
