//! Which status means what to the browser SDKs, and what the application cannot make them believe.

use super::REFRESH;
use crate::support::{Browser, World};

#[test]
fn over_is_said_with_the_status_that_the_sdks_were_set_up_for() {
    let world = World::with(&[
        ("session.session_over_status", "440"),
        ("session.refresh", "client"),
        ("session.reuse_grace", "0s"),
    ]);
    let gateway = world.replica();
    assert_eq!(gateway.get("/app").status, 440);
    assert_eq!(gateway.send("POST", REFRESH, &[], "").status, 440);
    let mut alice = Browser::logged_in(&gateway, "alice");
    let mut thief = alice.clone();
    alice.post(&gateway, REFRESH).assert_opened();
    alice.post(&gateway, REFRESH).assert_opened();
    let theft = thief.post(&gateway, REFRESH);
    assert_eq!(
        (theft.status, &*theft.message()),
        (440, "token theft detected")
    );
    let foreign = [("Sec-Fetch-Site", "cross-site")];
    let mut bob = Browser::logged_in(&gateway, "bob");
    let policy = bob.send(&gateway, "POST", "/app", &foreign, "");
    assert_eq!(policy.status, 403, "only what is over");
}

#[test]
fn the_application_s_own_401_can_become_a_403() {
    let rules = r#"
        [[route]]
        path = "/inner/**"
        upstream_401 = "403"
        [[route]]
        path = "/maybe/**"
        auth = "optional"
        upstream_401 = "403"
    "#;
    let world = World::with_rules(&[], rules);
    let gateway = world.replica();
    for path in ["/inner/x", "/maybe/x", "/app"] {
        world
            .app
            .answers(path, "401 Unauthorized\r\nX-Own: 1", "not for you");
    }
    world.app.answers("/inner/gone", "410 Gone", "gone");
    let mut alice = Browser::logged_in(&gateway, "alice");
    for (path, status) in [("/inner/x", 403), ("/maybe/x", 403), ("/app", 401)] {
        let answer = alice.get(&gateway, path);
        assert_eq!(
            (answer.status, answer.text()),
            (status, "not for you"),
            "{path}"
        );
        assert_eq!(answer.header("x-own"), Some("1"));
        answer.assert_says_nothing_of_a_session();
    }
    assert_eq!(alice.get(&gateway, "/inner/gone").status, 410);
    assert_eq!(
        gateway.get("/maybe/x").status,
        401,
        "nobody's session is live"
    );
}

#[test]
fn only_the_gateway_speaks_to_the_sdks() {
    let world = World::new();
    let gateway = world.replica();
    world.app.answers(
        "/app",
        "200 OK\r\nfront-token: remove\r\nid-refresh-token: remove\r\nanti-csrf: x\r\nst-access-token: x\r\nst-refresh-token: x\r\nSet-Cookie: __Secure-sRefreshToken=x; Secure",
        "",
    );
    let mut alice = Browser::logged_in(&gateway, "alice");
    let answer = alice.get(&gateway, "/app");
    answer.assert_served();
    for name in ["anti-csrf", "st-access-token", "st-refresh-token"] {
        assert_eq!(answer.header(name), None);
    }
}
