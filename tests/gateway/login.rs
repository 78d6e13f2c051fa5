//! Logging in: the application names the user, and the gateway opens a session.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::{Browser, World};

#[test]
fn the_application_s_word_opens_a_session_and_each_request_says_who_it_is() {
    let world = World::new();
    let gateway = world.replica();
    gateway.get("/app").assert_refused(401, "try refresh token");
    assert_eq!(world.app.count("/app"), 0);

    let mut alice = Browser::new();
    let answer = alice.log_in(&gateway, "alice");
    answer.assert_opened();
    assert_eq!(answer.text(), "hello");
    assert!(answer.header("portcullis-login").is_none());

    alice.get(&gateway, "/app?x=1").assert_served();
    assert_eq!(world.app.last().target(), "/app?x=1");
    assert_eq!(world.app.last().user(), Some("alice"));
}

#[test]
fn the_cookies_are_for_this_host_and_this_site_and_no_script() {
    let world = World::new();
    let gateway = world.replica();
    let answer = Browser::new().log_in(&gateway, "alice");
    for cookie in answer.all("set-cookie") {
        for attribute in ["HttpOnly", "SameSite=Lax", "Secure", "Path=/", "Expires="] {
            assert!(cookie.contains(attribute), "{attribute} in {cookie}");
        }
        assert!(!cookie.contains("Domain"), "{cookie}");
    }
}

#[test]
fn the_browser_sdks_are_told_user_expiry_and_payload() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::new();
    let answer = alice.log_in(&gateway, "alice");

    let front = answer.front_token();
    assert_eq!(front["uid"], "alice");
    assert_eq!(front["up"], alice.claims());
    let issued = front["up"]["iat"].as_i64().unwrap();
    assert_eq!(front["ate"].as_i64().unwrap() / 1000, issued + 3600);

    let id = answer.header("id-refresh-token").unwrap();
    let (mark, expires) = id.split_once(';').unwrap();
    assert!(mark.len() >= 16);
    let days = (expires.parse::<i64>().unwrap() / 1000 - issued) / (24 * 3600);
    assert_eq!(days, 100);
}

#[test]
fn claims_go_into_the_access_token_and_session_data_into_the_store_alone() {
    let world = World::new();
    let gateway = world.replica();
    let claims = URL_SAFE_NO_PAD.encode(r#"{"role":"editor"}"#);
    world.app.answers(
        "/login",
        &format!(
            "200 OK\r\nportcullis-login: alice\r\nportcullis-claims: {claims}\r\nportcullis-session-data: {{\"cart\":[7]}}"
        ),
        "",
    );
    let mut alice = Browser::new();
    let answer = alice.log_in(&gateway, "alice");
    answer.assert_opened();
    assert_eq!(alice.claims()["claims"]["role"], "editor");
    assert!(
        !answer
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("portcullis-"))
    );
    assert!(!format!("{:?}", answer.front_token()).contains("cart"));
    assert_eq!(
        world
            .store()
            .number("SELECT COUNT(*) FROM session WHERE data = '{\"cart\":[7]}'"),
        1
    );
}

#[test]
fn a_login_that_cannot_be_used_is_a_bad_gateway_and_sets_no_cookie() {
    let world = World::new();
    let gateway = world.replica();
    let long = "x".repeat(129);
    let not_an_object = URL_SAFE_NO_PAD.encode("[1]");
    let huge = URL_SAFE_NO_PAD.encode(format!("{{\"a\":\"{}\"}}", "x".repeat(3000)));
    for said in [
        "portcullis-login: ",
        "portcullis-login: alice\r\nportcullis-login: bob",
        "portcullis-login: alice\r\nportcullis-claims: e30\r\nportcullis-claims: e30",
        "portcullis-login: alice\r\nportcullis-session-data: 1\r\nportcullis-session-data: 2",
        "portcullis-login: ali%0d%0aX-Evil: 1",
        "portcullis-login: %zz",
        "portcullis-login: 100%",
        "portcullis-login: %ff",
        "portcullis-login: %20alice",
        &format!("portcullis-login: {long}"),
        "portcullis-login: alice\r\nportcullis-claims: {\"a\":1}",
        &format!("portcullis-login: alice\r\nportcullis-claims: {not_an_object}"),
        &format!("portcullis-login: alice\r\nportcullis-claims: {huge}"),
        "portcullis-login: alice\r\nportcullis-session-data: {",
    ] {
        world
            .app
            .answers("/login", &format!("200 OK\r\n{said}"), "welcome");
        let answer = Browser::new().log_in(&gateway, "alice");
        answer.assert_refused(502, "the application's login cannot be used");
    }
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 0);
}

#[test]
fn an_error_answer_opens_nothing_and_passes_without_the_gateway_s_headers() {
    let world = World::new();
    let gateway = world.replica();
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "500 Internal Server Error",
    ] {
        world.app.answers(
            "/login",
            &format!("{status}\r\nportcullis-login: alice"),
            "no",
        );
        let answer = Browser::new().log_in(&gateway, "alice");
        assert_eq!(answer.text(), "no");
        assert!(status.starts_with(&answer.status.to_string()));
        answer.assert_says_nothing_of_a_session();
        assert!(answer.header("portcullis-login").is_none());
    }
    world.app.answers(
        "/login",
        "303 See Other\r\nportcullis-login: alice\r\nLocation: /home",
        "",
    );
    let mut alice = Browser::new();
    let answer = alice.log_in(&gateway, "alice");
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/home"))
    );
    assert!(alice.has_a_session());
}

#[test]
fn only_a_login_route_can_log_in() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for path in ["/app", "/opt/a", "/public/a", "/hook"] {
        world.app.answers(
            path,
            "200 OK\r\nportcullis-login: mallory\r\nportcullis-claims: e30",
            "",
        );
    }
    for (method, path) in [
        ("GET", "/app"),
        ("GET", "/opt/a"),
        ("GET", "/public/a"),
        ("POST", "/hook"),
    ] {
        let answer = alice.send(&gateway, method, path, &[], "");
        answer.assert_served();
        assert!(answer.header("portcullis-login").is_none());
    }
    // The page with the form is served to anyone and opens nothing.
    world
        .app
        .answers("/login", "200 OK\r\nportcullis-login: mallory", "form");
    gateway.get("/login").assert_served();
}

#[test]
fn a_login_ends_the_session_that_the_browser_had() {
    let world = World::new();
    let gateway = world.replica();
    let mut browser = Browser::logged_in(&gateway, "alice");
    let mut before = browser.clone();
    browser.log_in(&gateway, "bob").assert_opened();
    before.get(&gateway, "/app").assert_session_over();
    browser.get(&gateway, "/app").assert_served();
    assert_eq!(world.app.last().user(), Some("bob"));
}

#[test]
fn two_devices_of_a_user_are_two_sessions() {
    let world = World::new();
    let gateway = world.replica();
    let mut laptop = Browser::logged_in(&gateway, "alice");
    let mut phone = Browser::logged_in(&gateway, "alice");
    assert_ne!(laptop.handle(), phone.handle());
    laptop.post(&gateway, "/logout");
    phone.get(&gateway, "/app").assert_served();
}

#[test]
fn pages_are_sent_to_the_login_and_scripts_get_401() {
    let world = World::new();
    let gateway = world.replica();
    let page = gateway.send(
        "GET",
        "/app/a%20b?c=d",
        &[("Sec-Fetch-Mode", "navigate")],
        "",
    );
    assert_eq!(page.status, 303);
    assert_eq!(
        page.header("location"),
        Some("/login?return_to=%2Fapp%2Fa%2520b%3Fc%3Dd")
    );
    let old_browser = gateway.send("GET", "/app", &[("Accept", "text/html,*/*")], "");
    assert_eq!(old_browser.status, 303);
    for headers in [
        &[("Accept", "application/json")][..],
        &[("Accept", "text/html"), ("rid", "session")],
        &[("Sec-Fetch-Mode", "cors"), ("Accept", "text/html")],
    ] {
        gateway
            .send("GET", "/app", headers, "")
            .assert_refused(401, "try refresh token");
    }
    gateway
        .send("POST", "/app", &[("Sec-Fetch-Mode", "navigate")], "a=b")
        .assert_refused(401, "try refresh token");
}

/// What this replica ended itself is known to it, whether it has read of it yet or not.
#[test]
fn a_login_after_a_logout_of_all_devices_is_not_overtaken_by_it() {
    let world = World::with(&[
        ("revocation.acknowledge", "local"),
        ("revocation.poll", "1s"),
    ]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    for _ in 0..20 {
        alice.post(&gateway, "/logout-all").assert_clears();
        alice.log_in(&gateway, "alice").assert_opened();
    }
}
