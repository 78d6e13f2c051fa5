//! `portcullis sessions move`: nobody is logged out, and nobody is let in again.

use crate::support::databases::{mysql_database, postgres_database};
use crate::support::{Gateway, Home, Upstream, only_app};

#[test]
fn sessions_go_on_where_they_are_moved_to_and_ended_ones_stay_ended() {
    let upstream = Upstream::application();
    let rules = only_app(upstream.address);
    let home = Home::new(&rules);
    let gateway = home.start();
    let quiet = home.open_session("alice").cookie;
    let refreshed = gateway
        .connect()
        .post("/auth/session/refresh", &home.open_session("bob").cookie);
    assert_eq!(refreshed.status, 200);
    let ended = home.open_session("carol");
    assert_eq!(gateway.status("/", &ended.cookie), 200);
    assert_eq!(
        home.run(&["sessions", "revoke", &ended.handle]).code,
        Some(0)
    );
    stop(gateway);

    let stores = [
        "sqlite:portcullis.db",
        &postgres_database(),
        &mysql_database(),
        "sqlite:again.db",
        &mysql_database(),
        &postgres_database(),
    ];
    let mut cookies = refreshed.cookies();
    for step in stores.windows(2) {
        let [from, to] = [step[0], step[1]];
        let moved = home.run_plain(&["sessions", "move", "--json", "--from", from, "--to", to]);
        assert_eq!(moved.code, Some(0), "{moved:?}");
        let counted: serde_json::Value = serde_json::from_str(&moved.stdout).unwrap();
        assert_eq!(counted["sessions"], 2, "{counted}");
        assert!(counted["revocations"].as_u64().unwrap() >= 1, "{counted}");

        home.configure(&format!("{rules}\n[store]\nurl = \"{to}\"\n"));
        let gateway = home.start();
        assert_eq!(gateway.get("/", &quiet).text(), "alice");
        assert_eq!(gateway.get("/", &cookies).text(), "bob");
        assert_ne!(
            gateway.status("/", &ended.cookie),
            200,
            "its access token has not expired"
        );
        let refused = gateway
            .connect()
            .post("/auth/session/refresh", &ended.cookie);
        assert_eq!(refused.status, 401);
        let next = gateway.connect().post("/auth/session/refresh", &cookies);
        assert_eq!(next.status, 200, "{next:?}");
        cookies = next.cookies();
        assert_eq!(gateway.get("/", &cookies).text(), "bob");
        stop(gateway);
    }
}

#[test]
fn nothing_is_moved_into_a_store_that_is_used_or_from_one_that_a_gateway_works_on() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    home.open_session("alice");
    let to = mysql_database();
    let arguments = [
        "sessions",
        "move",
        "--from",
        "sqlite:portcullis.db",
        "--to",
        &to,
    ];
    let refused = home.run_plain(&arguments);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("a gateway works on the store"),
        "{refused:?}"
    );
    stop(gateway);
    assert_eq!(home.run_plain(&arguments).code, Some(0));
    let again = home.run_plain(&arguments);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.stderr.contains("is in use"), "{again:?}");
    for (from, told) in [
        ("sqlite:missing.db", "no session store"),
        ("sqlite:", "not a store URL"),
    ] {
        let refused = home.run_plain(&[
            "sessions",
            "move",
            "--from",
            from,
            "--to",
            &mysql_database(),
        ]);
        assert!(
            refused.code != Some(0) && refused.stderr.contains(told),
            "{refused:?}"
        );
    }
    let other = Home::new(&only_app(upstream.address));
    stop(other.start());
    let path = format!("sqlite:{}", other.path("portcullis.db").display());
    let refused = home.run_plain(&["sessions", "move", "--from", &to, "--to", &path]);
    assert!(refused.stderr.contains("another master key"), "{refused:?}");
}

/// As a service manager would.
fn stop(mut gateway: Gateway) {
    gateway.signal("TERM");
    assert!(gateway.ended().success());
}
