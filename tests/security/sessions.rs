//! Chapter 5: Refresh, rotation, revocation: what has ended has ended everywhere, at once, and stays so.
//!
//! Two replicas are two processes on one store: a file of SQLite, and then a PostgreSQL.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use portcullis::clock::{Clock, Timestamp};
use portcullis::revocation::RevocationSet;
use portcullis::session::SessionHandle;
use serde_json::{Value, json};

use crate::runner::{Case, Tried};
use crate::support::{Answer, Gateway, eventually};
use crate::world::{Held, Setup, World, clears, is_401j_that_clears_nothing, is_over, request};

pub const CASES: &[Case] = &[
    Case {
        name: "t068_replay_after_logout",
        title: "an access token right after its logout",
        own: "ended by an expired token, by the refresh token, by the admin API; on a kept connection; a hundred times",
        run: t068_replay_after_logout,
    },
    Case {
        name: "t069_replay_on_the_other_replica",
        title: "the same on the other replica, a thousand times",
        own: "both ways, all devices, on connections that are kept",
        run: t069_replay_on_the_other_replica,
    },
    Case {
        name: "t070_refresh_after_logout",
        title: "a refresh after logout, on both replicas",
        own: "the predecessor and the successor of the token, in line",
        run: t070_refresh_after_logout,
    },
    Case {
        name: "t071_all_devices",
        title: "all devices of a user, on both replicas",
        own: "a session opened afterwards lives; another user's lives; a thief's refresh token",
        run: t071_all_devices,
    },
    Case {
        name: "t073_refresh_races_logout",
        title: "200 races of a refresh and a logout of the same session",
        own: "on two replicas, logout of all devices, the new tokens too",
        run: t073_refresh_races_logout,
    },
    Case {
        name: "t075_parallel_refreshes",
        title: "50 parallel refreshes with one token, on two replicas",
        own: "their successors all go on, of one lineage",
        run: t075_parallel_refreshes,
    },
    Case {
        name: "t076_lost_answers_and_late_tokens",
        title: "a lost answer is no theft, a late token is",
        own: "lost several times; on the other replica",
        run: t076_lost_answers_and_late_tokens,
    },
    Case {
        name: "t077_theft_after_two_rotations",
        title: "a stolen token after two rotations ends the session for all",
        own: "other sessions of the user go on; the log has both addresses",
        run: t077_theft_after_two_rotations,
    },
    Case {
        name: "t079_altered_refresh_tokens",
        title: "altered refresh tokens",
        own: "each byte, other lengths, other alphabets, another deployment's; what they cost; no theft",
        run: t079_altered_refresh_tokens,
    },
    Case {
        name: "t080_lifetimes",
        title: "idle and absolute lifetime",
        own: "rotation extends the idle one alone; a logout of an expired session",
        run: t080_lifetimes,
    },
    Case {
        name: "t081_store_away",
        title: "the store does not answer",
        own: "public and optional routes, unknown tokens, the logout is written later",
        run: t081_store_away,
    },
    Case {
        name: "t082_store_read_only",
        title: "the store cannot be written",
        own: "what is read goes on; a logout that could not be written is refused here",
        run: t082_store_read_only,
    },
    Case {
        name: "t083_lease_runs_out",
        title: "a replica that is cut off is not ready when its lease has run out",
        own: "and is ready again afterwards",
        run: t083_lease_runs_out,
    },
    Case {
        name: "t084_million_revocations",
        title: "a million revocations in memory",
        own: "a clock that goes back brings none back",
        run: t084_million_revocations,
    },
    Case {
        name: "t085_open_streams",
        title: "open streams end with their session",
        own: "long poll, all devices, the admin API, rotation alone ends none, another session's goes on",
        run: t085_open_streams,
    },
    Case {
        name: "t087_signing_keys",
        title: "a replaced signing key verifies, a compromised one does not",
        own: "on both replicas, at once; by expired tokens it ends nothing",
        run: t087_signing_keys,
    },
    Case {
        name: "t088_changed_claims",
        title: "changed claims hold at once, on both replicas",
        own: "the old token is refused for good, also after its successor",
        run: t088_changed_claims,
    },
    Case {
        name: "t089_disabled_users",
        title: "a disabled user has no session and gets none",
        own: "on both replicas; enabled again; other users",
        run: t089_disabled_users,
    },
    Case {
        name: "t090_logout_tokens",
        title: "back-channel logout tokens of OpenID Connect",
        own: "",
        run: t090_logout_tokens,
    },
];

const REFRESH: &str = "/auth/session/refresh";

/// The streams of [`t085_open_streams`] that are no plain answers of HTTP/1.1.
const OTHER_STREAMS: [&str; 5] = [
    "tests/gateway/streams.rs::a_websocket_is_closed_with_4401_when_its_session_ends",
    "tests/gateway/streams.rs::a_refresh_cuts_nothing",
    "tests/gateway/streams.rs::a_long_poll_that_is_answered_after_the_logout_gets_401",
    "tests/process/http2.rs::a_revocation_resets_the_streams_of_its_session_alone",
    "tests/process/http2.rs::a_revocation_closes_websockets_on_streams",
];

/// Refreshes as often as a test wants, and no honest parallel use: who comes late is a thief.
const NO_GRACE: Setup = Setup {
    public_url: None,
    http2: false,
    tls: false,
    server: "",
    limits: "",
    session: "reuse_grace = \"0s\"\nrefreshes_per_minute = 1000",
    cookies: None,
    identity: "",
    library: None,
    log: None,
    more: "",
};

#[track_caller]
fn is_dead(world: &World, held: &Held) {
    for gateway in world.replicas() {
        is_over(&world.raw_at(gateway, get(&held.access)));
        is_over(&world.raw_at(gateway, post(REFRESH, &held.refresh)));
        is_over(&world.raw_at(gateway, post(REFRESH, &held.both())));
    }
    world.nothing_recorded();
}

#[track_caller]
fn is_alive(world: &World, held: &Held) {
    for gateway in world.replicas() {
        let answer = world.raw_at(gateway, get(&held.access));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    world.recorded();
}

fn get(cookie: &str) -> String {
    request("GET", "/app/a", &[("Cookie", cookie)])
}

fn post(target: &str, cookie: &str) -> String {
    let headers = [("Cookie", cookie), ("Sec-Fetch-Site", "same-origin")];
    request("POST", target, &headers)
}

#[track_caller]
fn refreshed(world: &World, refresh: &str) -> Held {
    let answer = world.post(REFRESH, refresh);
    assert_eq!(answer.status, 200, "{answer:?}");
    Held::from_answer(&answer)
}

fn t068_replay_after_logout(tried: &mut Tried) {
    let world = World::new();
    for _ in 0..100 {
        tried.variant("on the same connection", || {
            let alice = world.login("alice");
            let mut conn = world.gateway().connect();
            assert_eq!(world.raw_on(&mut conn, get(&alice.access)).status, 200);
            world.recorded();
            clears(&world.raw_on(&mut conn, post("/auth/signout", &alice.access)));
            is_over(&world.raw_on(&mut conn, get(&alice.access)));
            world.nothing_recorded();
        });
    }
    for how in ["expired", "refresh", "admin", "all"] {
        tried.variant(how, || {
            let alice = world.login("alice");
            match how {
                "expired" => clears(&world.post("/auth/signout", &world.expired(&alice))),
                "refresh" => clears(&world.post("/auth/signout", &alice.refresh)),
                "all" => clears(&world.post("/auth/signout-all", &alice.access)),
                _ => {
                    let handle = alice.claims()["sid"].as_str().unwrap().to_owned();
                    let answer = world.admin("DELETE", &format!("/v1/sessions/{handle}"), "");
                    assert!(answer.status < 300, "{answer:?}");
                }
            }
            is_dead(&world, &alice);
        });
    }
}

fn t069_replay_on_the_other_replica(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    let replicas = world.replicas();
    let mut conns: Vec<_> = replicas.iter().map(|gateway| gateway.connect()).collect();
    let cookies: Vec<Held> = (0..1000).map(|_| world.login("alice")).collect();
    for (number, alice) in cookies.iter().enumerate() {
        tried.variant(number, || {
            let (here, there) = (number % 2, (number + 1) % 2);
            let answer = world.raw_on(&mut conns[here], post("/auth/signout", &alice.access));
            assert_eq!(answer.status, 200);
            let replayed = world.raw_on(&mut conns[there], get(&alice.access));
            assert_eq!(replayed.status, 401);
        });
    }
    for number in 0..20 {
        tried.variant(format!("all devices {number}"), || {
            let (here, there) = (number % 2, (number + 1) % 2);
            let devices = [world.login("carol"), world.login("carol")];
            let logout = post("/auth/signout-all", &devices[0].access);
            clears(&world.raw_on(&mut conns[here], logout));
            for device in &devices {
                is_over(&world.raw_on(&mut conns[there], get(&device.access)));
            }
        });
    }
    world.nothing_recorded();
    tried.variant("the delay is a metric", || {
        let metrics = world.metrics();
        assert!(
            metrics.contains("portcullis_") && metrics.contains("acknowledge"),
            "no such metric"
        );
    });
}

fn t070_refresh_after_logout(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    tried.variant("the token itself", || {
        let alice = world.login("alice");
        clears(&world.post("/auth/signout", &alice.access));
        is_dead(&world, &alice);
    });
    tried.variant("predecessor and successor", || {
        let alice = world.login("alice");
        let next = refreshed(&world, &alice.refresh);
        clears(&world.post("/auth/signout", &next.access));
        is_dead(&world, &alice);
        is_dead(&world, &next);
    });
    let inline = World::with(&Setup {
        session: "refresh = \"transparent\"",
        ..Default::default()
    });
    tried.variant("in line", || {
        let alice = inline.login("alice");
        let expired = inline.expired(&alice);
        clears(&inline.post("/auth/signout", &alice.access));
        is_over(&inline.get("/app/a", &format!("{expired}; {}", alice.refresh)));
        is_over(&inline.get("/app/a", &alice.refresh));
        inline.nothing_recorded();
    });
}

fn t071_all_devices(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    tried.variant("all of hers, none of his", || {
        let devices: Vec<Held> = (0..5).map(|_| world.login("alice")).collect();
        let stolen = devices[3].clone();
        let next = refreshed(&world, &devices[3].refresh);
        let bob = world.login("bob");
        clears(&world.post("/auth/signout-all", &devices[0].access));
        for device in devices.iter().chain([&stolen, &next]) {
            is_dead(&world, device);
        }
        is_alive(&world, &bob);
        is_alive(&world, &world.login("alice"));
    });
    tried.variant("by the admin API", || {
        let (alice, bob) = (world.login("alice"), world.login("bob"));
        let answer = world.admin(
            "POST",
            "/v1/users/revoke",
            &json!({ "users": ["alice"] }).to_string(),
        );
        assert_eq!(answer.status, 200);
        is_dead(&world, &alice);
        is_alive(&world, &bob);
    });
}

fn t073_refresh_races_logout(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    let replicas = world.replicas();
    for number in 0..200 {
        tried.variant(number, || {
            let alice = world.login("alice");
            let path = if number % 4 == 3 {
                "/auth/signout-all"
            } else {
                "/auth/signout"
            };
            let start = Barrier::new(2);
            let (logout, refresh) = thread::scope(|scope| {
                let both = [
                    (replicas[0], post(path, &alice.access), number % 3),
                    (
                        replicas[(number / 2) % 2],
                        post(REFRESH, &alice.refresh),
                        (number + 1) % 5,
                    ),
                ];
                let [logout, refresh] = both.map(|(gateway, bytes, delay)| {
                    let start = &start;
                    scope.spawn(move || {
                        let mut conn = gateway.connect();
                        start.wait();
                        thread::sleep(Duration::from_micros(delay as u64 * 300));
                        conn.send(bytes);
                        conn.answer()
                    })
                });
                (logout.join().unwrap(), refresh.join().unwrap())
            });
            assert_eq!(logout.status, 200);
            assert!([200, 401].contains(&refresh.status), "{refresh:?}");
            if refresh.status == 200 {
                is_dead(&world, &Held::from_answer(&refresh));
            }
            is_dead(&world, &alice);
        });
    }
}

fn t075_parallel_refreshes(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    let replicas = world.replicas();
    for round in 0..3 {
        tried.variant(format!("round {round}"), || {
            let alice = world.login("alice");
            let start = Barrier::new(50);
            let answers: Vec<Answer> = thread::scope(|scope| {
                let (start, alice) = (&start, &alice);
                let threads: Vec<_> = (0..50)
                    .map(|number| {
                        let gateway = replicas[number % 2];
                        scope.spawn(move || {
                            let mut conn = gateway.connect();
                            start.wait();
                            conn.send(post(REFRESH, &alice.refresh));
                            conn.answer()
                        })
                    })
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            let handle = alice.claims()["sid"].clone();
            let mut successors: Vec<String> = Vec::new();
            for answer in &answers {
                assert_eq!(answer.status, 200, "{answer:?}");
                let held = Held::from_answer(answer);
                assert_eq!(held.claims()["sid"], handle);
                successors.push(held.refresh);
            }
            successors.sort();
            successors.dedup();
            assert_eq!(successors.len(), 1, "one lineage");
            refreshed(&world, &successors[0]);
            assert!(!world.gateway().log().contains("theft"));
        });
    }
}

/// Tries a token until it is taken for stolen: that its successor was used is noted off the way of the request.
fn becomes_theft(world: &World, refresh: &str) -> Answer {
    let mut last = None;
    eventually("the token is taken for stolen", || {
        let answer = world.post(REFRESH, refresh);
        let stolen = answer.status == 401;
        last = Some(answer);
        stolen
    });
    let answer = last.unwrap();
    is_over(&answer);
    assert_eq!(answer.text(), "{\"message\":\"token theft detected\"}");
    answer
}

fn t076_lost_answers_and_late_tokens(tried: &mut Tried) {
    let world = World::with(&NO_GRACE).with_another_replica();
    tried.variant("lost, again, and late", || {
        let alice = world.login("alice");
        for gateway in world.replicas() {
            let mut lost = gateway.connect();
            lost.send(post(REFRESH, &alice.refresh));
        }
        let next = refreshed(&world, &alice.refresh);
        let same = refreshed(&world, &alice.refresh);
        assert_eq!(
            next.refresh, same.refresh,
            "the successor is the same for all who ask"
        );
        is_alive(&world, &same);
        becomes_theft(&world, &alice.refresh);
        is_dead(&world, &same);
        eventually("it is logged", || world.log().contains("theft"));
    });
}

fn t077_theft_after_two_rotations(tried: &mut Tried) {
    let world = World::with(&NO_GRACE).with_another_replica();
    tried.variant("the thief comes late", || {
        let alice = world.login("alice");
        let other = world.login("alice");
        let second = refreshed(&world, &alice.refresh);
        is_alive(&world, &second);
        let third = refreshed(&world, &second.refresh);
        is_alive(&world, &third);
        becomes_theft(&world, &alice.refresh);
        is_dead(&world, &third);
        is_alive(&world, &other);
        let log = world.log();
        let mut audited = log
            .lines()
            .filter(|line| line.contains("refresh_token_reused"));
        let line = audited.next().expect("a line of the theft");
        assert!(
            line.contains("opened_from=") && line.contains("presented_from="),
            "{line}"
        );
    });
    tried.variant("the thief comes first", || {
        let alice = world.login("alice");
        let thief = refreshed(&world, &alice.refresh);
        is_alive(&world, &thief);
        becomes_theft(&world, &alice.refresh);
        is_dead(&world, &thief);
    });
}

fn t079_altered_refresh_tokens(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let mallory = world.login("mallory");
    let unknown = world.post(REFRESH, "");
    is_over(&unknown);
    let text = alice.refresh.split_once('=').unwrap().1.to_owned();
    let theirs = mallory.refresh.split_once('=').unwrap().1.to_owned();
    let refused = |token: &str| {
        let answer = world.post(REFRESH, &format!("sRefreshToken={token}"));
        is_over(&answer);
        assert_eq!(
            (answer.status, &answer.body),
            (unknown.status, &unknown.body)
        );
    };
    tried.variant("each character", || {
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            refused(&format!("{}{other}{}", &text[..at], &text[at + 1..]));
        }
    });
    let elsewhere = World::new().login("alice").refresh;
    for (what, token) in [
        (
            "handle of one, rest of another",
            format!("{}{}", &text[..22], &theirs[22..]),
        ),
        (
            "secret of one, tag of another",
            format!("{}{}", &text[..70], &theirs[70..]),
        ),
        ("shorter", text[..text.len() - 1].to_owned()),
        ("longer", format!("{text}A")),
        ("twice", format!("{text}{text}")),
        ("padded", format!("{text}=")),
        ("empty", String::new()),
        ("zeros", "A".repeat(text.len())),
        (
            "another deployment's",
            elsewhere.split_once('=').unwrap().1.to_owned(),
        ),
        ("percent-encoded NUL", format!("{text}%00")),
    ] {
        tried.variant(what, || refused(&token));
    }
    tried.variant("what they cost", || {
        let before = world.cpu_time();
        for _ in 0..300 {
            world.post(REFRESH, &format!("sRefreshToken=A{}", &text[1..]));
        }
        let each = (world.cpu_time() - before) / 300;
        // Of an unoptimised build.
        assert!(each < Duration::from_millis(5), "{each:?}");
    });
    tried.variant("none of them was theft", || {
        assert!(!world.log().contains("theft"));
        refreshed(&world, &alice.refresh);
    });
}

fn t080_lifetimes(tried: &mut Tried) {
    let world = World::new();
    let now = Clock::system().now().as_secs();
    let past = (now - 7200) * 1000;
    let idle = "UPDATE session SET idle_expires_at = ";
    tried.variant("idle", || {
        let alice = world.login("alice");
        world.sql(&format!("{idle}{past}"));
        is_over(&world.post(REFRESH, &alice.refresh));
    });
    tried.variant("absolute", || {
        let alice = world.login("alice");
        world.sql(&format!(
            "UPDATE session SET idle_expires_at = {past}, expires_at = {past}"
        ));
        is_over(&world.post(REFRESH, &alice.refresh));
    });
    tried.variant("rotation does not extend the absolute one", || {
        let world = World::new();
        let alice = world.login("alice");
        let soon = (now + 3600) * 1000;
        world.sql(&format!(
            "UPDATE session SET idle_expires_at = {soon}, expires_at = {soon}"
        ));
        let next = refreshed(&world, &alice.refresh);
        let count = world.count(&format!(
            "SELECT COUNT(*) FROM session WHERE expires_at = {soon} AND idle_expires_at = {soon}"
        ));
        assert_eq!(count, 1);
        assert!(next.claims()["exp"].as_i64().unwrap() <= now + 3600 + 5);
    });
}

fn t081_store_away(tried: &mut Tried) {
    let world = World::with(&SHORT_LEASE);
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    world.sql(AWAY);
    eventually("the lease runs out", || {
        world.get("/app/a", &alice.access).status == 503
    });
    world.recorded();
    tried.variant("required", || {
        for cookie in [&alice.access, &bob.access] {
            let answer = world.get("/app/a", cookie);
            assert_eq!(
                (answer.status, answer.set_cookies().count()),
                (503, 0),
                "{}",
                answer.head
            );
        }
        is_401j_that_clears_nothing(&world.get("/app/a", ""));
        is_401j_that_clears_nothing(&world.get("/app/a", "sAccessToken=x"));
        world.nothing_recorded();
    });
    tried.variant("public and optional", || {
        assert_eq!(world.get("/public/a", &alice.access).status, 200);
        assert_eq!(world.get("/opt/a", &alice.access).status, 200);
        for recorded in world.recorded() {
            assert!(recorded.all("x-auth-user-id").is_empty());
        }
    });
    tried.variant("refresh", || {
        let answer = world.post(REFRESH, &alice.refresh);
        assert_eq!(
            (answer.status, answer.set_cookies().count()),
            (503, 0),
            "{}",
            answer.head
        );
        is_over(&world.post(REFRESH, "sRefreshToken=x"));
    });
    tried.variant("logout", || {
        let answer = world.post("/auth/signout", &alice.access);
        assert_eq!(answer.status, 503);
        clears(&answer);
    });
    world.sql(BACK);
    tried.variant("back again", || {
        eventually("the store is asked again", || {
            world.get("/app/a", &bob.access).status == 200
        });
        is_over(&world.get("/app/a", &alice.access));
        eventually("the logout is written", || {
            world.count("SELECT COUNT(*) FROM session WHERE user_id = 'alice'") == 0
        });
        is_over(&world.post(REFRESH, &alice.refresh));
    });
}

const SHORT_LEASE: Setup = Setup {
    public_url: None,
    http2: false,
    tls: false,
    server: "",
    limits: "",
    session: "",
    cookies: None,
    identity: "",
    library: None,
    log: None,
    more: "[revocation]\nlease = \"500ms\"\npoll = \"20ms\"\n",
};

const AWAY: &str = "ALTER TABLE session RENAME TO session_away; ALTER TABLE revocation RENAME TO revocation_away; \
    ALTER TABLE replica RENAME TO replica_away";
const BACK: &str = "ALTER TABLE session_away RENAME TO session; ALTER TABLE revocation_away RENAME TO revocation; \
    ALTER TABLE replica_away RENAME TO replica";

fn t082_store_read_only(tried: &mut Tried) {
    let world = World::with(&SHORT_LEASE);
    let (alice, bob) = (world.login("alice"), world.login("bob"));
    // Somebody is in the middle of a transaction.
    let lock = world.locked();
    tried.variant("logout", || {
        let answer = world.post("/auth/signout", &alice.access);
        assert_eq!(answer.status, 503, "{}", answer.head);
        clears(&answer);
        is_over(&world.get("/app/a", &alice.access));
    });
    tried.variant("what is read goes on", || {
        assert_eq!(world.get("/app/a", &bob.access).status, 200);
    });
    tried.variant("refresh and login", || {
        let answer = world.post(REFRESH, &bob.refresh);
        assert_eq!(
            (answer.status, answer.set_cookies().count()),
            (503, 0),
            "{}",
            answer.head
        );
        let answer = world.post("/login?carol", "");
        assert!(
            answer.status >= 500 && answer.set_cookies().count() == 0,
            "{}",
            answer.head
        );
    });
    drop(lock);
    tried.variant("written later", || {
        eventually("the logout is written", || {
            world.count("SELECT COUNT(*) FROM session WHERE user_id = 'alice'") == 0
        });
        refreshed(&world, &bob.refresh);
    });
}

fn t083_lease_runs_out(tried: &mut Tried) {
    let world = World::with(&SHORT_LEASE);
    let alice = world.login("alice");
    tried.variant("ready", || {
        assert_eq!(world.gateway().admin_status("/readyz"), 200)
    });
    world.sql(AWAY);
    tried.variant("cut off", || {
        eventually("it is not ready", || {
            world.gateway().admin_status("/readyz") == 503
        });
        eventually("it refuses", || {
            world.get("/app/a", &alice.access).status == 503
        });
        assert_eq!(world.gateway().admin_status("/livez"), 200);
    });
    world.sql(BACK);
    tried.variant("back", || {
        eventually("it is ready", || {
            world.gateway().admin_status("/readyz") == 200
        });
        assert_eq!(world.get("/app/a", &alice.access).status, 200);
    });
}

fn t084_million_revocations(tried: &mut Tried) {
    const COUNT: usize = 1_000_000;
    let now = Timestamp::from_secs(1_800_000_000);
    let set = RevocationSet::default();
    let handles: Vec<SessionHandle> = (0..COUNT).map(|_| SessionHandle::random()).collect();
    for handle in &handles {
        set.insert(*handle, now + Duration::from_hours(1));
    }
    tried.variant("all are there", || {
        assert_eq!(set.len(), COUNT);
        assert!(handles.iter().all(|handle| set.contains(handle)));
    });
    tried.variant("a look-up takes less than a microsecond", || {
        let clock = Clock::system();
        let mut took: Vec<Duration> = handles
            .chunks(1000)
            .take(500)
            .map(|handles| {
                let started = clock.boot();
                assert!(handles.iter().all(|handle| set.contains(handle)));
                clock.boot().since(started) / 1000
            })
            .collect();
        took.sort_unstable();
        // Of an unoptimised build on a busy machine: the median.
        assert!(took[250] < Duration::from_micros(1), "{:?}", took[250]);
    });
    tried.variant("they vanish when their tokens have expired", || {
        set.forget(now + Duration::from_mins(59));
        assert_eq!(set.len(), COUNT);
        set.forget(now + Duration::from_mins(61));
        assert!(set.is_empty());
    });
}

fn t085_open_streams(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    world.streams_at("/app/stream");
    let [here, there] = world.replicas()[..] else {
        unreachable!("there are two")
    };
    let open = |gateway: &Gateway, held: &Held| -> TcpStream {
        let mut conn = gateway.connect();
        conn.send(request("GET", "/app/stream", &[("Cookie", &held.access)]));
        let head = conn.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        conn.up_to_text("tick").unwrap();
        conn.writer()
    };
    let ends = |mut stream: TcpStream| {
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        let silent = read.as_ref().is_err_and(|error| {
            matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            )
        });
        assert!(!silent, "it goes on");
        assert!(!rest.ends_with(b"0\r\n\r\n"), "it ended as if all had come");
    };
    for (what, gateway) in [("on the other replica", there), ("on this replica", here)] {
        for how in ["/auth/signout", "/auth/signout-all", "admin"] {
            tried.variant(format!("{what}, {how}"), || {
                let (alice, bob) = (world.login("alice"), world.login("bob"));
                let hers = open(gateway, &alice);
                let mut his = open(gateway, &bob);
                let next = refreshed(&world, &alice.refresh);
                his.set_read_timeout(Some(Duration::from_millis(200)))
                    .unwrap();
                match how {
                    "admin" => {
                        let handle = alice.claims()["sid"].as_str().unwrap().to_owned();
                        world.admin("DELETE", &format!("/v1/sessions/{handle}"), "");
                    }
                    path => clears(&world.raw_at(here, post(path, &next.access))),
                }
                ends(hers);
                let read = his.read(&mut [0; 1024]);
                assert!(
                    read.is_err() || read.is_ok_and(|count| count > 0),
                    "his has ended, too"
                );
            });
        }
    }
    for test in OTHER_STREAMS {
        tried.elsewhere(test);
    }
}

fn t087_signing_keys(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    let alice = world.login("alice");
    let kid = alice.header()["kid"].as_str().unwrap().to_owned();
    let expired = world.expired(&alice);
    tried.variant("a successor is published", || {
        let answer = world.admin("POST", "/v1/keys/rotate", "");
        assert!(answer.status < 300, "{answer:?}");
        is_alive(&world, &alice);
    });
    tried.variant("compromised", || {
        let answer = world.admin("DELETE", &format!("/v1/keys/{kid}"), "");
        assert!(answer.status < 300, "{answer:?}");
        for gateway in world.replicas() {
            is_401j_that_clears_nothing(&world.raw_at(gateway, get(&alice.access)));
        }
        world.nothing_recorded();
        // Nor does it name a session to end.
        world.post("/auth/signout", &expired);
        world.post("/auth/signout", &alice.access);
        let next = refreshed(&world, &alice.refresh);
        assert_ne!(next.header()["kid"], json!(kid));
        is_alive(&world, &next);
    });
}

fn t088_changed_claims(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    for round in 0..5 {
        tried.variant(round, || {
            let alice = world.login("alice");
            let handle = alice.claims()["sid"].as_str().unwrap().to_owned();
            let claims = json!({ "role": "none" }).to_string();
            let answer = world.admin("PUT", &format!("/v1/sessions/{handle}/claims"), &claims);
            assert!(answer.status < 300, "{answer:?}");
            for gateway in world.replicas() {
                is_401j_that_clears_nothing(&world.raw_at(gateway, get(&alice.access)));
            }
            let next = refreshed(&world, &alice.refresh);
            assert_eq!(next.claims()["claims"], json!({ "role": "none" }));
            is_alive(&world, &next);
            is_401j_that_clears_nothing(&world.get("/app/a", &alice.access));
        });
    }
}

fn t089_disabled_users(tried: &mut Tried) {
    let world = World::new().with_another_replica();
    let (alice, second, bob) = (
        world.login("alice"),
        world.login("alice"),
        world.login("bob"),
    );
    tried.variant("disabled", || {
        let answer = world.admin("PUT", "/v1/users/alice/disabled", "");
        assert!(answer.status < 300, "{answer:?}");
        is_dead(&world, &alice);
        is_dead(&world, &second);
        is_alive(&world, &bob);
        for gateway in world.replicas() {
            let answer = world.raw_at(gateway, post("/login?alice", ""));
            assert_eq!((answer.status, answer.set_cookies().count()), (403, 0));
        }
    });
    tried.variant("enabled again", || {
        let answer = world.admin("DELETE", "/v1/users/alice/disabled", "");
        assert!(answer.status < 300, "{answer:?}");
        world.recorded();
        is_dead(&world, &alice);
        is_alive(&world, &world.login("alice"));
    });
}

fn t090_logout_tokens(tried: &mut Tried) {
    let world = World::new();
    tried.waits_for("OpenID Connect back-channel logout");
    tried.variant("there is none", || {
        let openapi = world.admin("GET", "/openapi.json", "");
        let openapi: Value = serde_json::from_slice(&openapi.body).unwrap();
        let paths = openapi["paths"].as_object().unwrap();
        assert!(!paths.keys().any(|path| path.contains("backchannel")));
        is_401j_that_clears_nothing(&world.post("/backchannel-logout", ""));
    });
}
