//! `portcullis sessions`, in another process, while the gateway runs on the same file.

use std::time::Duration;

use crate::support::{Home, Upstream, only_app, timed, within};

#[test]
fn a_session_that_was_opened_by_command_works_at_once() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let ended = home.run(&[
        "sessions",
        "open",
        "--user",
        "zoë b",
        "--claims",
        r#"{"role":"admin"}"#,
        "--data",
        r#"{"cart":[1]}"#,
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let line = |name: &str| {
        let found = ended
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(name));
        found.unwrap().to_owned()
    };
    assert_eq!(
        gateway.get("/", &line("Cookie: ")).text(),
        "zo%C3%AB%20b",
        "{ended:?}"
    );
    let show = home.run(&["sessions", "show", "--json", &line("handle: ")]);
    let shown: serde_json::Value = serde_json::from_str(&show.stdout).unwrap();
    assert_eq!(shown["user"], "zoë b");
    assert_eq!(shown["claims"]["role"], "admin");
    assert_eq!(shown["data"]["cart"][0], 1);
    // It can be refreshed as well.
    let refreshed = gateway
        .connect()
        .post("/auth/session/refresh", &line("Cookie: "));
    assert_eq!(refreshed.status, 200, "{refreshed:?}");
    assert_eq!(gateway.status("/", &refreshed.cookies()), 200);
}

#[test]
fn list_and_show_tell_of_sessions_in_words_and_in_json() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    gateway.connect().login("alice");
    let opened = home.open_session("bob");
    let mut listed = home.listed();
    assert_eq!(listed.len(), 2);
    assert!(listed.contains(&opened.handle));
    let of_bob = home.run(&["sessions", "list", "--user", "bob"]);
    assert_eq!(of_bob.code, Some(0));
    assert_eq!(of_bob.stdout.lines().count(), 2, "{of_bob:?}");
    assert!(of_bob.stdout.contains(&opened.handle) && !of_bob.stdout.contains("alice"));

    let show = home.run(&["sessions", "show", &opened.handle]);
    assert!(show.stdout.contains("user        bob\n"), "{show:?}");
    assert_eq!(
        home.run(&["sessions", "revoke", &opened.handle]).code,
        Some(0)
    );
    listed.retain(|handle| *handle != opened.handle);
    assert_eq!(home.listed(), listed);
    let gone = home.run(&["sessions", "show", &opened.handle]);
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert!(gone.stderr.contains(&opened.handle), "{gone:?}");
}

#[test]
fn no_command_prints_a_token_but_open() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let opened = home.open_session("alice");
    gateway.status("/", &opened.cookie);
    let mut told = String::new();
    for arguments in [
        &["sessions", "list"] as &[&str],
        &["sessions", "list", "--json"],
        &["sessions", "show", "--json", &opened.handle],
        &["sessions", "revoke", "--json", &opened.handle],
    ] {
        let ended = home.run(arguments);
        told.push_str(&ended.stdout);
        told.push_str(&ended.stderr);
    }
    told.push_str(&gateway.log());
    for secret in opened.cookie.split("; ") {
        let (_, secret) = secret.split_once('=').unwrap();
        assert!(!told.contains(secret) && !told.contains(&secret[secret.len() - 30..]));
    }
}

#[test]
fn when_revoke_has_returned_the_gateway_refuses() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    for by_user in [false, true].repeat(5) {
        let (one, other) = (home.open_session("alice"), home.open_session("alice"));
        // A connection that stands, so that nothing but the check lies between the command and the refusal.
        let mut conn = gateway.connect();
        assert_eq!(conn.get("/", &one.cookie).status, 200);
        assert_eq!(conn.get("/", &other.cookie).status, 200);
        let ended = if by_user {
            home.run(&["sessions", "revoke-user", "alice"])
        } else {
            home.run(&["sessions", "revoke", &one.handle])
        };
        let refused = conn.get("/", &one.cookie);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_eq!(refused.status, 401, "{ended:?}");
        assert!(refused.clears(), "{refused:?}");
        let expected = if by_user { 401 } else { 200 };
        assert_eq!(conn.get("/", &other.cookie).status, expected);
        let refresh = conn.post("/auth/session/refresh", &one.cookie);
        assert_eq!(refresh.status, 401);
    }
}

/// Even the replica that the command does not wait for follows soon.
#[test]
fn a_revocation_reaches_the_gateway_within_a_quarter_of_a_second() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let opened = home.open_session("alice");
    let mut conn = gateway.connect();
    assert_eq!(conn.get("/", &opened.cookie).status, 200);
    home.run(&["sessions", "revoke", &opened.handle]);
    assert!(within(Duration::from_millis(250), || {
        conn.get("/", &opened.cookie).status == 401
    }));
    let (_, took) = timed(|| home.run(&["sessions", "revoke", &opened.handle]));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn revoke_counts_what_it_ended_and_a_second_try_is_free() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let _gateway = home.start();
    let (one, other) = (home.open_session("alice"), home.open_session("bob"));
    let handles = [one.handle.as_str(), &other.handle];
    let first = home.run(&["sessions", "revoke", handles[0], handles[1], "--json"]);
    let told: serde_json::Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(told["ended"].as_array().unwrap().len(), 2, "{first:?}");
    let second = home.run(&["sessions", "revoke", handles[0], handles[1]]);
    assert_eq!(second.code, Some(0));
    assert!(
        second.stdout.starts_with("0 ended, 2 had ended before"),
        "{second:?}"
    );
    let nobody = home.run(&["sessions", "revoke-user", "nobody"]);
    assert_eq!(nobody.code, Some(0), "{nobody:?}");
}

#[test]
fn a_store_that_is_not_there_is_named_and_not_made() {
    let home = Home::new(&only_app(([127, 0, 0, 1], 9).into()));
    for arguments in [
        &["sessions", "list"] as &[&str],
        &["sessions", "revoke-user", "alice"],
        &["sessions", "open", "--user", "alice"],
    ] {
        let ended = home.run(arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("portcullis.db"), "{ended:?}");
    }
    let ended = home.run_plain(&["sessions", "list", "--store", "sqlite:nowhere.db"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("nowhere.db"), "{ended:?}");
    assert_eq!(home.files(), ["portcullis.toml"]);
}

#[test]
fn commands_work_while_no_gateway_runs() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let mut gateway = home.start();
    let opened = home.open_session("alice");
    let kept = home.open_session("bob");
    gateway.signal("TERM");
    assert_eq!(gateway.ended().code(), Some(0));
    let (ended, took) = timed(|| home.run(&["sessions", "revoke", &opened.handle]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(took < Duration::from_secs(3), "nobody is left to wait for");
    let later = home.open_session("carol");
    let gateway = home.start();
    assert_eq!(gateway.status("/", &opened.cookie), 401);
    assert_eq!(gateway.status("/", &kept.cookie), 200);
    assert_eq!(gateway.get("/", &later.cookie).text(), "carol");
}

#[test]
fn a_user_id_or_json_that_cannot_be_is_refused_in_words() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let _gateway = home.start();
    for (arguments, word) in [
        (&["sessions", "open", "--user", ""] as &[&str], "user"),
        (&["sessions", "open", "--user", "a\nb"], "user"),
        (&["sessions", "revoke-user", ""], "user"),
        (
            &["sessions", "open", "--user", "a", "--claims", "[1]"],
            "claims",
        ),
        (&["sessions", "open", "--user", "a", "--data", "{"], "data"),
    ] {
        let ended = home.run(arguments);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(word), "{arguments:?}: {ended:?}");
    }
    assert_eq!(home.listed(), Vec::<String>::new());
}

#[test]
fn the_fleet_shows_who_follows_the_log() {
    let upstream = Upstream::application();
    let home = Home::new(&format!(
        "[revocation]\nlease = \"500ms\"\n{}",
        only_app(upstream.address)
    ));
    let (first, second) = (home.start(), home.start());
    let cookie = first.connect().login("alice").cookies();
    assert_eq!(second.connect().post("/logout", &cookie).status, 200);
    let ended = home.run(&["fleet", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = |text: &str| -> Vec<serde_json::Value> {
        let line = |line: &str| serde_json::from_str(line).unwrap();
        text.lines().map(line).collect()
    };
    let replicas = lines(&ended.stdout);
    assert_eq!(replicas.len(), 2, "{ended:?}");
    for replica in &replicas {
        assert_eq!(replica["applied"], 1);
        assert_eq!(replica["lag"], 0);
        assert_eq!(replica["lease_ms"], 500);
        assert_eq!(replica["renews"], true);
    }
    // One that stands still says nothing by itself.
    second.signal("STOP");
    let cookie = first.connect().login("bob").cookies();
    assert_eq!(first.connect().post("/logout", &cookie).status, 200);
    let ended = home.run(&["fleet", "--json"]);
    let mut lagging: Vec<_> = lines(&ended.stdout)
        .iter()
        .map(|replica| (replica["lag"].as_u64(), replica["renews"].as_bool()))
        .collect();
    lagging.sort();
    let both = [(Some(0), Some(true)), (Some(1), Some(false))];
    // Others remove its row after two leases.
    match ended.code {
        Some(1) => assert_eq!(lagging, both, "{ended:?}"),
        code => assert_eq!((code, &lagging[..]), (Some(0), &both[..1]), "{ended:?}"),
    }
    second.signal("CONT");
    let plain = home.run(&["fleet"]);
    assert!(plain.stdout.contains("newest sequence"), "{plain:?}");
    assert!(plain.stdout.contains("renewed"), "{plain:?}");
}
