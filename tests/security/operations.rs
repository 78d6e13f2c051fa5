//! Chapter 9: Operations: the private listener, what is told and what is not, and configurations that would open the door.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::runner::{Case, Tried};
use crate::support::{Conn, eventually};
use crate::world::{ADMIN, Setup, World, configuration, is_401j_that_clears_nothing, request};

pub const CASES: &[Case] = &[
    Case {
        name: "t119a_admin_api",
        title: "the admin API without its token, from a web page, through metrics",
        own: "two tokens, Basic, in a cookie, in the query, cut, another case, dots and slashes in the path",
        run: t119a_admin_api,
    },
    Case {
        name: "t119b_metrics_name_nobody",
        title: "metrics have no user, handle, path or token, and do not grow",
        own: "after a hundred paths, methods and users",
        run: t119b_metrics_name_nobody,
    },
    Case {
        name: "t119c_logs_have_no_secret",
        title: "no token, cookie, Authorization or query in a log at debug and trace",
        own: "cut and altered tokens, the admin token, the master key, anti-CSRF tokens, header mode",
        run: t119c_logs_have_no_secret,
    },
    Case {
        name: "t119d_answers_tell_nothing",
        title: "error answers have no version, path or stack",
        own: "of every kind of refusal, public and private",
        run: t119d_answers_tell_nothing,
    },
    Case {
        name: "t119e_configurations_that_are_refused",
        title: "unknown and repeated keys, readable secrets, weak secrets, a public door",
        own: "the master key for all to read, a short one, an admin API on all addresses",
        run: t119e_configurations_that_are_refused,
    },
    Case {
        name: "t119f_reload",
        title: "a configuration that is invalid is not taken, and what was in force goes on",
        own: "empty, half of it, public doors, a logout that is a login; and back again",
        run: t119f_reload,
    },
    Case {
        name: "t119h_jwks_is_public",
        title: "the published keys have no private part",
        own: "each algorithm; HS256 publishes none",
        run: t119h_jwks_is_public,
    },
];

fn t119a_admin_api(tried: &mut Tried) {
    let world = World::new();
    let bearer = format!("Bearer {ADMIN}");
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let mut all = vec![("Host", "localhost")];
        all.retain(|_| !headers.iter().any(|(name, _)| *name == "Host"));
        all.extend(headers);
        let mut conn = Conn::to(world.gateway().admin());
        world.raw_on(&mut conn, request("GET", path, &all)).status
    };
    for (what, value) in [
        ("none", String::new()),
        ("wrong", format!("Bearer {ADMIN}x")),
        ("cut", format!("Bearer {}", &ADMIN[..ADMIN.len() - 1])),
        ("other case", format!("Bearer {}", ADMIN.to_uppercase())),
        ("Basic", format!("Basic {ADMIN}")),
        ("bare", ADMIN.to_owned()),
        ("two", format!("{bearer}\r\nAuthorization: {bearer}")),
        ("list", format!("{bearer}, {bearer}")),
    ] {
        for path in ["/v1/sessions", "/openapi.json", "/v1/keys", "/v1/nothing"] {
            tried.variant(format!("{what} {path}"), || {
                assert_eq!(ask(path, &[("Authorization", &value)]), 401);
            });
        }
    }
    for (what, path, headers) in [
        ("in a cookie", "/v1/sessions", vec![("Cookie", ADMIN)]),
        (
            "in the query",
            "/v1/sessions?token=an-admin-token-of-more-than-32-characters",
            vec![],
        ),
        ("through metrics", "/metrics/../v1/sessions", vec![]),
        (
            "through metrics, encoded",
            "/metrics%2f..%2fv1%2fsessions",
            vec![],
        ),
        ("through slashes", "//v1/sessions", vec![]),
        (
            "rebound name",
            "/v1/sessions",
            vec![("Authorization", &*bearer), ("Host", "evil.test")],
        ),
        (
            "rebound name at health",
            "/metrics",
            vec![("Host", "evil.test")],
        ),
        (
            "page of another site",
            "/v1/sessions",
            vec![("Authorization", &*bearer), ("Origin", "https://evil.test")],
        ),
        (
            "null page",
            "/v1/sessions",
            vec![("Authorization", &*bearer), ("Origin", "null")],
        ),
        (
            "cross-site",
            "/v1/sessions",
            vec![
                ("Authorization", &*bearer),
                ("Sec-Fetch-Site", "cross-site"),
            ],
        ),
    ] {
        tried.variant(what, || {
            let status = ask(path, &headers);
            assert!([400, 401, 403, 404, 421].contains(&status), "{status}");
        });
    }
    tried.variant("with it", || {
        assert_eq!(ask("/v1/sessions", &[("Authorization", &bearer)]), 200)
    });
    world.nothing_recorded();
}

fn t119b_metrics_name_nobody(tried: &mut Tried) {
    let world = World::new();
    let series = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .collect()
    };
    let kinds = |user: &str, path: &str| {
        let held = world.login(user);
        world.get(path, &held.access);
        world.get(path, "");
        world.send("BREW", path, &[]);
        world.get("/..", "");
        world.get(path, &format!("{}x", held.access));
        world.post("/auth/session/refresh", &held.refresh);
        world.post("/auth/signout", &held.access);
        world.get(path, &held.access);
        held
    };
    kinds("someone", "/first");
    let before = series(&world.metrics());
    let held: Vec<_> = (0..30)
        .map(|number| {
            kinds(
                &format!("user-of-{number}"),
                &format!("/path-{number}/a?q={number}"),
            )
        })
        .collect();
    let metrics = world.metrics();
    tried.variant("no more series", || assert_eq!(series(&metrics), before));
    tried.variant("no names", || {
        // The server that the configuration names has a label; a client has none.
        let labels = metrics
            .split("server=\"")
            .map(|rest| match rest.split_once('"') {
                Some((server, rest)) if server.starts_with("http://127.0.0.1:") => rest,
                _ => rest,
            });
        let metrics = labels.collect::<String>();
        for word in ["user-of", "someone", "path-", "BREW", "127.0.0.1"] {
            assert!(!metrics.contains(word), "{word}");
        }
        for held in &held {
            assert!(!metrics.contains(held.claims()["sid"].as_str().unwrap()));
            assert!(!metrics.contains(held.token()));
        }
    });
}

fn t119c_logs_have_no_secret(tried: &mut Tried) {
    for level in ["debug", "trace"] {
        tried.variant(level, || {
            let world = World::with(&Setup {
                session: "anti_csrf = \"token\"",
                log: Some(level),
                ..Default::default()
            });
            let login = world.post("/login?alice", "");
            let alice = crate::world::Held::from_answer(&login);
            let anti_csrf = login.header("anti-csrf").unwrap();
            world.get("/app/a?secret=of-the-query-that-nobody-logs", &alice.both());
            let headers = [("Cookie", &*alice.refresh), ("anti-csrf", anti_csrf), ("Sec-Fetch-Site", "same-origin")];
            let renewed = world.send("POST", "/auth/session/refresh", &headers);
            let renewed = crate::world::Held::from_answer(&renewed);
            let own = "Bearer a-token-of-the-application's-own";
            world.send("GET", "/app/a", &[("Cookie", &renewed.access), ("Authorization", own)]);
            world.get("/app/a", &renewed.access[..renewed.access.len() / 2]);
            world.get("/app/a", "sAccessToken=something-that-is-no-token-of-ours");
            let asks = [("st-auth-mode", "header"), ("anti-csrf", anti_csrf), ("Sec-Fetch-Site", "same-origin")];
            let opened = world.send("POST", "/login?bob", &asks);
            let bearer = format!("Bearer {}", opened.header("st-refresh-token").unwrap());
            world.send("POST", "/auth/session/refresh", &[("Authorization", &bearer), ("st-auth-mode", "header")]);
            world.admin("GET", "/v1/sessions", "");
            world.raw("GET / HTTP/1.1\r\nHost: g.test\r\nCookie: sAccessToken=token-in-a-broken-request-of-a-client\r\nx y\r\n\r\n");
            let log = world.log();
            assert!(log.contains("portcullis::request"), "{log}");
            let key = std::fs::read_to_string(world.home.path("portcullis.key")).unwrap();
            for secret in [key.trim(), ADMIN, "of-the-query-that-nobody-logs", "no-token-of-ours", "in-a-broken-request"] {
                assert!(!log.contains(secret), "the log has {secret}");
            }
        });
    }
}

fn t119d_answers_tell_nothing(tried: &mut Tried) {
    let world = World::new();
    world.answers("/public/broken", "garbage");
    for request in [
        "GET /private HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /public/broken HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /public/.. HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /auth/signout HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "POST /auth/session/refresh HTTP/1.1\r\nhost: g.test\r\ncontent-length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nx y: z\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\n",
        "TRACE / HTTP/1.1\r\nhost: g.test\r\n\r\n",
        "GET /.well-known/nothing HTTP/1.1\r\nhost: g.test\r\n\r\n",
    ] {
        tried.variant(format!("{request:.30?}"), || {
            let answer = world.raw(request);
            assert!(answer.status >= 400);
            let told = format!("{}{}", answer.head, answer.text()).to_lowercase();
            for word in [
                "server:",
                "x-powered-by",
                "via:",
                "hyper",
                "portcullis",
                "rust",
                "src/",
                "127.0.0.1",
                "panic",
                "/dev/shm",
                "sqlite",
                "0.1.0",
            ] {
                assert!(!told.contains(word), "{word}: {told}");
            }
        });
    }
}

fn t119e_configurations_that_are_refused(tried: &mut Tried) {
    let address = ([127, 0, 0, 1], 9).into();
    let with = |setup: &Setup| configuration(setup, address);
    let good = with(&Setup::default());
    let refused = |text: &str, before: &dyn Fn(&World)| {
        let world = World::new();
        std::fs::write(world.home.config(), text).unwrap();
        before(&world);
        let started = world.home.fail_to_start();
        assert!(started.code.is_some_and(|code| code != 0), "{started:?}");
    };
    for (what, text) in [
        (
            "unknown key",
            with(&Setup {
                session: "acces_token_lifetime = \"1h\"",
                ..Default::default()
            }),
        ),
        ("unknown section", format!("{good}\n[sessions]\n")),
        (
            "key twice",
            with(&Setup {
                session: "refresh_path = \"/a\"\nrefresh_path = \"/b\"",
                ..Default::default()
            }),
        ),
        ("section twice", format!("{good}\n[identity]\n")),
        (
            "everything public",
            with(&Setup {
                more: "[[route]]\npath = \"/**\"\nauth = \"none\"\n",
                ..Default::default()
            }),
        ),
        (
            "admin API for everyone",
            good.replace(
                "[admin]\nlisten = \"127.0.0.1:0\"",
                "[admin]\nlisten = \"0.0.0.0:0\"",
            ),
        ),
        (
            "identity header that HTTP uses",
            good.replace("X-Auth-User-Id", "Cookie"),
        ),
        (
            "identity header of the gateway",
            good.replace("X-Auth-User-Id", "X-Forwarded-For"),
        ),
        (
            "master key in the file",
            format!("{good}\n[store]\nmaster_key = \"{}\"\n", "A".repeat(43)),
        ),
    ] {
        tried.variant(what, || refused(&text, &|_| {}));
    }
    for name in ["admin.token", "portcullis.key"] {
        for mode in [0o644, 0o604, 0o602, 0o777] {
            tried.variant(format!("{name} with mode {mode:o}"), || {
                refused(&good, &|world| {
                    let readable = std::fs::Permissions::from_mode(mode);
                    std::fs::set_permissions(world.home.path(name), readable).unwrap();
                });
            });
        }
        for weak in ["", "short", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            tried.variant(format!("{name}: {weak:?}"), || {
                refused(&good, &|world| {
                    std::fs::write(world.home.path(name), weak).unwrap()
                });
            });
        }
    }
}

fn t119f_reload(tried: &mut Tried) {
    let world = World::new();
    let alice = world.login("alice");
    let good = std::fs::read_to_string(world.home.config()).unwrap();
    let is_refused = |value: &str| {
        let line = format!("portcullis_config_refused {value}\n");
        eventually("the file is read", || world.metrics().contains(&line));
    };
    for (what, text) in [
        ("empty", String::new()),
        ("half a file", good[..good.len() / 2].to_owned() + "\n[ro"),
        (
            "a value of another type",
            "[server]\nlisten = 1\n".to_owned(),
        ),
        ("an unknown key", good.clone() + "\nauht = \"none\"\n"),
        (
            "everything public",
            good.clone() + "\n[[route]]\npath = \"/**\"\nauth = \"none\"\n",
        ),
        (
            "another identity header that HTTP uses",
            good.replace("X-Auth-User-Id", "Cookie"),
        ),
        (
            "a logout that is a login",
            good.clone() + "\n[[login]]\npath = \"/auth/signout\"\n",
        ),
    ] {
        tried.variant(what, || {
            std::fs::write(world.home.config(), text).unwrap();
            let checked = world.home.run(&["check"]);
            assert!(checked.code.is_some_and(|code| code != 0), "{checked:?}");
            world.gateway().signal("HUP");
            is_refused("1");
            let said = "cannot take the new configuration";
            world.gateway().has_logged(said);
            // What was in force still is.
            is_401j_that_clears_nothing(&world.send("GET", "/app/a", &[]));
            world.nothing_recorded();
            let forged = [("Cookie", &*alice.access), ("X-Auth-User-Id", "admin")];
            assert_eq!(world.send("GET", "/app/a", &forged).status, 200);
            assert_eq!(world.only_recorded().all("x-auth-user-id"), ["alice"]);
            std::fs::write(world.home.config(), &good).unwrap();
            world.gateway().signal("HUP");
            is_refused("0");
        });
    }
    tried.elsewhere(
        "tests/process/reload.rs::a_file_that_is_refused_changes_nothing_and_is_told_why",
    );
}

fn t119h_jwks_is_public(tried: &mut Tried) {
    for (algorithm, session) in [
        ("ES256", "signing_algorithm = \"ES256\""),
        ("EdDSA", "signing_algorithm = \"EdDSA\""),
        ("RS256", "signing_algorithm = \"RS256\""),
    ] {
        tried.variant(algorithm, || {
            let world = World::with(&Setup {
                session,
                ..Default::default()
            });
            let answer = world.send("GET", "/.well-known/jwks.json", &[]);
            let jwks: Value = serde_json::from_slice(&answer.body).unwrap();
            let keys = jwks["keys"].as_array().unwrap();
            assert!(!keys.is_empty());
            for key in keys {
                let public = [
                    "kty", "use", "alg", "kid", "crv", "x", "y", "n", "e", "key_ops",
                ];
                for name in key.as_object().unwrap().keys() {
                    assert!(public.contains(&&**name), "{name}");
                }
                assert_ne!(key["kty"], "oct");
            }
        });
    }
    tried.variant("HS256", || {
        let world = World::with(&Setup {
            session: "signing_algorithm = \"HS256\"",
            ..Default::default()
        });
        assert_eq!(world.send("GET", "/.well-known/jwks.json", &[]).status, 401);
    });
}
