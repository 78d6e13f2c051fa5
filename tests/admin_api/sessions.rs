//! The life of a session by call.

use std::time::Duration;

use serde_json::json;

use crate::support::{World, cookies_of};

#[test]
fn a_session_opened_by_call_is_one_like_any_other() {
    let world = World::new();
    let gateway = world.gateway();
    let asked = json!({
        "user": "zoë",
        "claims": { "role": "admin" },
        "data": { "cart": [1, 2] },
        "device": { "address": "192.0.2.7", "user_agent": "Phone/1" },
    });
    let reply = gateway.call("POST", "/v1/sessions", Some(asked.clone()));
    assert_eq!(reply.status, 201);
    let handle = reply.json()["handle"].as_str().unwrap().to_owned();
    assert_eq!(
        reply.header("location"),
        Some(format!("/v1/sessions/{handle}").as_str())
    );
    assert_eq!(reply.header("cache-control"), Some("no-store"));

    let session = gateway.open_with(asked);
    assert_eq!(
        gateway.user_of(&session.cookies()).as_deref(),
        Some("zo%C3%AB")
    );
    let shown = gateway.done("GET", &format!("/v1/sessions/{}", session.handle()), None);
    assert_eq!(shown["user"], "zoë");
    assert_eq!(shown["claims"], json!({ "role": "admin" }));
    assert_eq!(shown["data"], json!({ "cart": [1, 2] }));
    assert_eq!(
        (&shown["address"], &shown["user_agent"]),
        (&json!("192.0.2.7"), &json!("Phone/1"))
    );
    for key in [
        "created_at",
        "last_seen_at",
        "idle_expires_at",
        "expires_at",
    ] {
        assert!(shown[key].as_str().unwrap().ends_with('Z'), "{key}");
    }
    for secret in ["access_token", "refresh_token"] {
        let secret = session.0[secret].as_str().unwrap();
        assert!(!shown.to_string().contains(secret));
    }

    // The refresh token works, too.
    world.hands.advance_wall(Duration::from_secs(2 * 3600));
    assert!(gateway.user_of(&session.access_cookie()).is_none());
    let renewed = gateway.browse("/me", &session.cookies());
    assert_eq!(renewed.status, 200);
}

#[test]
fn verifying_says_what_a_request_would_meet() {
    let world = World::new();
    let gateway = world.gateway();
    let session = gateway.open_with(json!({ "user": "alice", "claims": { "role": "reader" } }));
    let valid = gateway.verify(session.access_token());
    assert_eq!(valid["status"], "valid");
    assert_eq!(
        (&valid["user"], &valid["handle"]),
        (&json!("alice"), &session.0["handle"])
    );
    assert_eq!(valid["claims"], json!({ "role": "reader" }));

    let altered = session.access_token().replace('.', ".A");
    for token in [
        "",
        "x",
        "a.b.c",
        session.0["refresh_token"].as_str().unwrap(),
        &altered,
    ] {
        let refused = json!({ "status": "refused", "reason": "invalid" });
        assert_eq!(gateway.verify(token), refused, "{token}");
    }
    world.hands.advance_wall(Duration::from_secs(2 * 3600));
    let expired = json!({ "status": "refused", "reason": "expired" });
    assert_eq!(gateway.verify(session.access_token()), expired);

    let session = gateway.open("alice");
    gateway.done(
        "DELETE",
        &format!("/v1/sessions/{}", session.handle()),
        None,
    );
    let revoked = json!({ "status": "refused", "reason": "revoked" });
    assert_eq!(gateway.verify(session.access_token()), revoked);
    assert!(gateway.user_of(&session.cookies()).is_none());
}

/// A token that is only ever shown here is in use all the same: its predecessor is a thief's.
#[test]
fn verifying_is_a_use() {
    let world = World::new();
    let gateway = world.gateway_with(&[("session.reuse_grace", "0s")]);
    let session = gateway.open("alice");
    let refresh = |cookies: &str| {
        let headers = format!("host: app.test\r\ncookie: {cookies}\r\n");
        let address = gateway.gateway().addresses()[0];
        crate::support::send(address, "POST", "/auth/session/refresh", &headers, None)
    };
    let first = refresh(&session.cookies());
    assert_eq!(first.status, 200, "{first:?}");
    let lines = first
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie");
    let cookies = cookies_of(lines.map(|(_, line)| line.as_str()));
    let access = cookies
        .split("; ")
        .find_map(|pair| pair.strip_prefix("sAccessToken="))
        .unwrap();
    assert_eq!(gateway.verify(access)["status"], "valid");
    // The note is on its way to the store.
    let path = format!("/v1/sessions/{}", session.handle());
    for _ in 0..500 {
        world.hands.advance_wall(Duration::from_secs(2));
        if refresh(&session.cookies()).status == 401 {
            assert_eq!(
                gateway.call("GET", &path, None).status,
                404,
                "theft ends the session"
            );
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the use was never noted");
}

#[test]
fn data_is_replaced_as_a_whole() {
    let world = World::new();
    let gateway = world.gateway();
    let session = gateway.open("alice");
    let path = format!("/v1/sessions/{}/data", session.handle());
    assert_eq!(gateway.done("GET", &path, None), json!({}));
    for data in [
        json!({ "a": 1 }),
        json!(null),
        json!([1, "é\u{0}"]),
        json!("text"),
    ] {
        let reply = gateway.call("PUT", &path, Some(data.clone()));
        assert_eq!((reply.status, reply.body.as_str()), (204, ""));
        assert_eq!(gateway.done("GET", &path, None), data);
    }
    gateway.done("DELETE", path.strip_suffix("/data").unwrap(), None);
    for method in ["GET", "PUT"] {
        let reply = gateway.call(method, &path, (method == "PUT").then(|| json!({})));
        assert_eq!(
            reply.problem(),
            (404, "session-not-found".into()),
            "{method}"
        );
    }
}

#[test]
fn lists_come_in_pages_and_show_what_is_open() {
    let world = World::new();
    let gateway = world.gateway();
    let mut opened: Vec<String> = (0..7)
        .map(|_| gateway.open("alice").handle().to_owned())
        .collect();
    let other = gateway.open("bob").handle().to_owned();
    for (path, expected) in [
        ("/v1/users/alice/sessions", opened.clone()),
        ("/v1/sessions", [opened.clone(), vec![other]].concat()),
        ("/v1/users/nobody/sessions", Vec::new()),
    ] {
        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = gateway.done("GET", &format!("{path}?limit=3{cursor}"), None);
            let sessions = page["sessions"].as_array().unwrap();
            assert!(sessions.len() <= 3);
            listed.extend(
                sessions
                    .iter()
                    .map(|session| session["handle"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        listed.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(listed, expected, "{path}");
    }

    // The session is over by itself, though its row may still be there.
    world
        .hands
        .advance_wall(Duration::from_secs(101 * 24 * 3600));
    let page = gateway.done("GET", "/v1/users/alice/sessions", None);
    assert_eq!(page["sessions"], json!([]));
    let path = format!("/v1/sessions/{}", opened.remove(0));
    assert_eq!(gateway.call("GET", &path, None).status, 404);
}

#[test]
fn ending_is_counted_and_repeatable() {
    let world = World::new();
    let gateway = world.gateway();
    let [first, second, third] = ["alice", "alice", "bob"].map(|user| gateway.open(user));
    let path = format!("/v1/sessions/{}", first.handle());
    assert_eq!(gateway.done("DELETE", &path, None)["ended"], 1);
    assert_eq!(gateway.done("DELETE", &path, None)["ended"], 0);
    assert_eq!(gateway.call("GET", &path, None).status, 404);
    let handles =
        json!({ "handles": [first.handle(), second.handle(), third.handle(), second.handle()] });
    let ended = gateway.done("POST", "/v1/sessions/revoke", Some(handles.clone()));
    assert_eq!(ended["ended"], 2);
    assert_eq!(
        gateway.done("POST", "/v1/sessions/revoke", Some(handles))["ended"],
        0
    );
    for session in [first, second, third] {
        assert!(gateway.user_of(&session.cookies()).is_none());
    }

    let log = gateway.done("GET", "/v1/revocations?limit=1", None);
    assert_eq!(log["entries"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&log["entries"][0]["reason"], &log["more"]),
        (&json!("admin"), &json!(true))
    );
    let after = &log["next_after"];
    let log = gateway.done(
        "GET",
        &format!("/v1/revocations?after={after}&limit=1"),
        None,
    );
    assert_eq!(
        log["entries"].as_array().unwrap().len(),
        2,
        "a sequence comes as a whole"
    );
    assert_eq!(
        (&log["more"], &log["next_after"]),
        (&json!(false), &ended["sequence"])
    );
}

#[test]
fn a_session_that_is_replaced_ends() {
    let world = World::new();
    let gateway = world.gateway();
    let first = gateway.open("alice");
    let second = gateway.open_with(json!({ "user": "alice", "replaces": first.handle() }));
    assert!(gateway.user_of(&first.cookies()).is_none());
    assert!(gateway.user_of(&second.cookies()).is_some());
}
