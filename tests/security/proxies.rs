//! Chapter 1 again, behind proxies that are believed (`server.trusted_proxies`): they speak of the client's address, scheme and
//! host, and of nothing else; and only they do.

use crate::runner::{Case, Tried};
use crate::support::Answer;
use crate::world::{Recorded, Setup, World, is_401j_that_clears_nothing};

pub const CASES: &[Case] = &[
    Case {
        name: "t010_forwarded_headers_of_trusted_proxies",
        title: "what a trusted proxy forwards, and what its client put in before",
        own: "several lines, hops that hide, ports, too many hops, the other family, other networks, identity and path headers",
        run: t010_forwarded_headers_of_trusted_proxies,
    },
    Case {
        name: "t012_proto_of_trusted_proxies",
        title: "X-Forwarded-Proto of a trusted and of another peer on a refresh",
        own: "both schemes, in both families, lists",
        run: t012_proto_of_trusted_proxies,
    },
];

const TRUSTED: &str = "trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]";
const FORWARDED: &str = "trusted_proxies = [\"127.0.0.1\"]\ntrusted_headers = \"forwarded\"";
const OTHERS: &str = "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]";

fn behind(server: &'static str) -> World {
    World::with(&Setup {
        server,
        ..Default::default()
    })
}

/// One address, one host, one scheme, and no word of what was forged.
#[track_caller]
fn told(recorded: &Recorded, client: &str, host: &str, scheme: &str) {
    assert_eq!(recorded.all("x-forwarded-for"), [client]);
    assert_eq!(recorded.all("x-forwarded-host"), [host]);
    assert_eq!(recorded.all("x-forwarded-proto"), [scheme]);
    assert_eq!(recorded.all("host"), ["g.test:8443"]);
    for word in ["evil", "9.9.9.9", "gopher", "admin"] {
        assert!(!recorded.head.contains(word), "{}", recorded.head);
    }
}

fn t010_forwarded_headers_of_trusted_proxies(tried: &mut Tried) {
    let own = "g.test:8443";
    let world = behind(TRUSTED);
    let hops = "9.9.9.9, ".repeat(40) + "192.0.2.7";
    let for_ = "X-Forwarded-For";
    for (what, headers, client, host, scheme) in [
        ("one", vec![(for_, "192.0.2.7")], "192.0.2.7", own, "https"),
        (
            "forged before it",
            vec![(for_, "9.9.9.9, 192.0.2.7")],
            "192.0.2.7",
            own,
            "https",
        ),
        (
            "forged as a proxy of ours",
            vec![(for_, "9.9.9.9, 192.0.2.7, 10.1.1.1")],
            "192.0.2.7",
            own,
            "https",
        ),
        (
            "in two lines",
            vec![(for_, "9.9.9.9"), (for_, "192.0.2.7")],
            "192.0.2.7",
            own,
            "https",
        ),
        (
            "with a port",
            vec![(for_, "192.0.2.7:4711")],
            "192.0.2.7",
            own,
            "https",
        ),
        (
            "an address of six in four",
            vec![(for_, "::ffff:192.0.2.7")],
            "192.0.2.7",
            own,
            "https",
        ),
        ("many hops", vec![(for_, &*hops)], "192.0.2.7", own, "https"),
        (
            "who hides",
            vec![(for_, "9.9.9.9, unknown")],
            "127.0.0.1",
            own,
            "https",
        ),
        (
            "no address",
            vec![(for_, "9.9.9.9, evil\tevil")],
            "127.0.0.1",
            own,
            "https",
        ),
        (
            "host and scheme",
            vec![
                ("X-Forwarded-Host", "evil, app.test"),
                ("X-Forwarded-Proto", "gopher, http"),
            ],
            "127.0.0.1",
            "app.test",
            "http",
        ),
        (
            "no host",
            vec![("X-Forwarded-Host", "app.test, e/vil")],
            "127.0.0.1",
            own,
            "https",
        ),
        (
            "no scheme",
            vec![("X-Forwarded-Proto", "gopher")],
            "127.0.0.1",
            own,
            "https",
        ),
        (
            "all else",
            vec![
                ("X-Forwarded-Port", "evil"),
                ("X-Forwarded-Prefix", "/admin"),
                ("X-Forwarded-Server", "evil"),
                ("X-Forwarded-User", "admin"),
                ("X-Real-IP", "9.9.9.9"),
                ("X_Forwarded_For", "9.9.9.9"),
                ("X.Forwarded.Host", "evil"),
                ("Forwarded", "for=9.9.9.9;host=evil"),
                ("X-Auth-User-Id", "admin"),
                ("x_auth_user_id", "admin"),
            ],
            "127.0.0.1",
            own,
            "https",
        ),
    ] {
        tried.variant(what, || {
            assert_eq!(world.send("GET", "/public/a", &headers).status, 200);
            told(&world.only_recorded(), client, host, scheme);
        });
    }
    tried.variant("opens no path", || {
        for (name, value) in [
            ("X-Forwarded-Uri", "/public/a"),
            ("X-Forwarded-Path", "/public/a"),
            ("X-Original-URL", "/public/a"),
            ("X-Forwarded-Method", "GET"),
        ] {
            let headers = [(name, value), (for_, "192.0.2.7")];
            is_401j_that_clears_nothing(&world.send("GET", "/app/a", &headers));
            is_401j_that_clears_nothing(&world.send("POST", "/public/a", &headers));
            world.nothing_recorded();
        }
    });
    let world = behind(FORWARDED);
    for (what, said, client, host, scheme) in [
        (
            "RFC 7239",
            "for=192.0.2.7;proto=https;host=app.test",
            "192.0.2.7",
            "app.test",
            "https",
        ),
        (
            "RFC 7239, forged before it",
            "for=9.9.9.9;host=evil, for=\"192.0.2.7:80\"",
            "192.0.2.7",
            own,
            "https",
        ),
        (
            "RFC 7239, who hides",
            "for=9.9.9.9, for=_hidden",
            "127.0.0.1",
            own,
            "https",
        ),
    ] {
        tried.variant(what, || {
            let other = [("X-Forwarded-Host", "evil"), (for_, "9.9.9.9")];
            let headers = [("Forwarded", said), other[0], other[1]];
            assert_eq!(world.send("GET", "/public/a", &headers).status, 200);
            told(&world.only_recorded(), client, host, scheme);
        });
    }
    let world = behind(OTHERS);
    for header in [
        (for_, "9.9.9.9"),
        (for_, "9.9.9.9, 10.1.1.1"),
        ("X-Forwarded-Host", "evil"),
        ("X-Forwarded-Proto", "http"),
        ("Forwarded", "for=9.9.9.9;host=evil;proto=http"),
    ] {
        tried.variant(format!("from another network: {header:?}"), || {
            assert_eq!(world.send("GET", "/public/a", &[header]).status, 200);
            told(&world.only_recorded(), "127.0.0.1", own, "https");
        });
    }
}

fn t012_proto_of_trusted_proxies(tried: &mut Tried) {
    /// Of each cookie what does not depend on the time.
    fn attributes(answer: &Answer) -> Vec<Vec<String>> {
        let timeless = |part: &&str| !part.starts_with("Expires") && !part.starts_with("Max-Age");
        let parts = |set: &str| -> Vec<String> {
            let parts = set.split("; ").skip(1).filter(timeless);
            parts.map(str::to_owned).collect()
        };
        answer.set_cookies().map(parts).collect()
    }
    for (what, server) in [
        ("trusted", TRUSTED),
        ("RFC 7239", FORWARDED),
        ("another", OTHERS),
    ] {
        let world = behind(server);
        let refreshed = |user: &str, said: &[(&str, &str)]| {
            let held = world.login(user);
            let usual = [
                ("Cookie", &*held.refresh),
                ("Sec-Fetch-Site", "same-origin"),
            ];
            let headers = [&usual[..], said].concat();
            let answer = world.send("POST", "/auth/session/refresh", &headers);
            assert_eq!(answer.status, 200, "{answer:?}");
            attributes(&answer)
        };
        let plain = refreshed("alice", &[]);
        for (name, value) in [
            ("X-Forwarded-Proto", "http"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Proto", "https, http"),
            ("Forwarded", "for=192.0.2.7;proto=http"),
        ] {
            tried.variant(format!("{what} {name}: {value}"), || {
                let claimed = refreshed("bob", &[(name, value)]);
                assert_eq!(plain, claimed);
                for set in claimed {
                    assert!(set.iter().any(|part| part == "Secure"), "{set:?}");
                }
            });
        }
    }
}
