//! `session.self_service`: users see their own devices, and log one out.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Browser, Replica, World};

const LIST: &str = "/auth/sessions";

fn world() -> World {
    World::with(&[("session.self_service", "true")])
}

#[track_caller]
fn list(browser: &mut Browser, gateway: &Replica) -> Vec<Value> {
    let answer = browser.get(gateway, LIST);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let json: Value = serde_json::from_slice(&answer.body).unwrap();
    json["sessions"].as_array().unwrap().clone()
}

fn path_of(browser: &Browser) -> String {
    format!("{LIST}/{}", browser.handle())
}

#[test]
fn users_see_their_own_devices_and_which_one_they_hold() {
    let world = world();
    let gateway = world.replica();
    let mut laptop = Browser::new();
    let agent = [("User-Agent", "Laptop/1.0")];
    laptop
        .send(&gateway, "POST", "/login", &agent, "user=alice")
        .assert_opened();
    world.pass(Duration::from_secs(5));
    let phone = Browser::logged_in(&gateway, "alice");
    let _bob = Browser::logged_in(&gateway, "bob");
    let sessions = list(&mut laptop, &gateway);
    let handles: Vec<&str> = sessions
        .iter()
        .map(|it| it["handle"].as_str().unwrap())
        .collect();
    assert_eq!(
        handles,
        [phone.handle(), laptop.handle()],
        "the last used first"
    );
    let own = &sessions[1];
    assert_eq!(own["current"], true);
    assert_eq!(sessions[0]["current"], false);
    assert_eq!(own["address"], "127.0.0.1");
    assert_eq!(own["user_agent"], "Laptop/1.0");
    assert!(own["created"].as_str() < sessions[0]["created"].as_str());
    assert!(own["last_seen"].is_string());
    let mut keys: Vec<&String> = own.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "address",
            "created",
            "current",
            "handle",
            "last_seen",
            "user_agent"
        ]
    );
    assert_eq!(world.app.count(LIST), 0);
}

#[test]
fn a_lost_device_is_logged_out_before_the_answer_arrives() {
    let world = world();
    let [here, there] = world.replicas();
    let mut laptop = Browser::logged_in(&here, "alice");
    let mut phone = Browser::logged_in(&there, "alice");
    phone.get(&there, "/app").assert_served();
    let answer = laptop.send(&here, "DELETE", &path_of(&phone), &[], "");
    assert_eq!((answer.status, answer.text()), (200, r#"{"status":"OK"}"#));
    answer.assert_says_nothing_of_a_session();
    phone.get(&there, "/app").assert_session_over();
    assert_eq!(list(&mut laptop, &here).len(), 1);

    let own = path_of(&laptop);
    let answer = laptop.send(&here, "DELETE", &own, &[], "");
    assert_eq!(answer.status, 200);
    answer.assert_clears();
    assert!(!laptop.has_a_session());
}

#[test]
fn other_people_s_sessions_do_not_exist() {
    let world = world();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let mut bob = Browser::logged_in(&gateway, "bob");
    let absent = format!("{LIST}/{}", "A".repeat(22));
    for path in [
        &*path_of(&bob),
        &*absent,
        "/auth/sessions/x",
        "/auth/sessions/%41",
    ] {
        alice
            .send(&gateway, "DELETE", path, &[], "")
            .assert_refused(404, "no such session");
    }
    bob.get(&gateway, "/app").assert_served();
}

#[test]
fn a_session_is_needed_and_another_site_ends_nothing() {
    let world = world();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let path = path_of(&alice);
    gateway.get(LIST).assert_refused(401, "try refresh token");
    gateway
        .send("DELETE", &path, &[], "")
        .assert_refused(401, "try refresh token");
    let foreign = [("Sec-Fetch-Site", "cross-site")];
    alice
        .send(&gateway, "DELETE", &path, &foreign, "")
        .assert_refused(403, "cross-site request refused");
    assert_eq!(list(&mut alice, &gateway).len(), 1);
    let mut copy = alice.clone();
    alice.post(&gateway, "/logout");
    copy.get(&gateway, LIST).assert_session_over();
}

#[test]
fn a_renewal_in_line_is_told_with_the_list() {
    let world = world();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    world.pass(Duration::from_hours(1));
    alice.get(&gateway, LIST).assert_opened();
}

#[test]
fn off_it_is_the_application_s_path() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    alice.get(&gateway, LIST).assert_served();
    assert_eq!(world.app.count(LIST), 1);
}
