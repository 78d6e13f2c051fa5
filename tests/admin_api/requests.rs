//! Requests that are not as they should be.

use serde_json::{Value, json};

use crate::support::{TOKEN, World, send};

#[test]
fn each_mistake_has_its_problem() {
    let world = World::new();
    let gateway = world.gateway();
    let unknown = "AAAAAAAAAAAAAAAAAAAAAA";
    let session = format!("/v1/sessions/{unknown}");
    for (method, path, body, status, code) in [
        ("GET", "/v1/nothing", None, 404, "not-found"),
        ("GET", "/v1/sessions/", None, 404, "not-found"),
        ("PUT", "/v1/sessions", None, 405, "method-not-allowed"),
        (
            "GET",
            "/v1/sessions/verify",
            None,
            405,
            "method-not-allowed",
        ),
        ("GET", "/v1/sessions/short", None, 400, "invalid-parameter"),
        ("GET", session.as_str(), None, 404, "session-not-found"),
        (
            "GET",
            "/v1/sessions?limit=0",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/sessions?limit=201",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/sessions?limit=1&limit=2",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/sessions?cursor=x",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/sessions?unknown=1",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/revocations?after=-1",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/users/%/sessions",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/users/%ff/sessions",
            None,
            400,
            "invalid-parameter",
        ),
        (
            "GET",
            "/v1/users/%20a/sessions",
            None,
            400,
            "invalid-parameter",
        ),
        ("POST", "/v1/sessions", Some("{"), 400, "malformed-json"),
        ("POST", "/v1/sessions", Some(""), 400, "malformed-json"),
        ("POST", "/v1/sessions", Some("{}"), 422, "invalid-body"),
        (
            "POST",
            "/v1/sessions",
            Some(r#"{"user":1}"#),
            422,
            "invalid-body",
        ),
        (
            "POST",
            "/v1/sessions",
            Some(r#"{"user":"a","user":"b"}"#),
            422,
            "invalid-body",
        ),
        (
            "POST",
            "/v1/sessions",
            Some(r#"{"user":"a","admin":true}"#),
            422,
            "invalid-body",
        ),
        (
            "POST",
            "/v1/sessions",
            Some(r#"{"user":"a","claims":[]}"#),
            422,
            "invalid-body",
        ),
        (
            "POST",
            "/v1/sessions/revoke",
            Some(r#"{"handles":[]}"#),
            422,
            "invalid-body",
        ),
        (
            "POST",
            "/v1/users/revoke",
            Some(r#"{"users":[]}"#),
            422,
            "invalid-body",
        ),
    ] {
        let headers = format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
        let reply = send(gateway.admin(), method, path, &headers, body);
        assert_eq!(
            reply.problem(),
            (status, code.to_owned()),
            "{method} {path} {body:?}"
        );
        assert_eq!(reply.header("allow").is_some(), status == 405);
    }
}

#[test]
fn bodies_are_json_and_have_a_limit() {
    let world = World::new();
    let gateway = world.gateway();
    let headers = format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
    let send = |headers: &str, body: &str| {
        send(gateway.admin(), "POST", "/v1/sessions", headers, Some(body)).problem()
    };
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "",
    ] {
        let headers = format!("{headers}content-type: {content_type}\r\n");
        let refused = (415, "unsupported-media-type".to_owned());
        assert_eq!(send(&headers, r#"{"user":"a"}"#), refused, "{content_type}");
    }
    let long = json!({ "user": "a", "data": "x".repeat(256 * 1024) }).to_string();
    assert_eq!(send(&headers, &long), (413, "body-too-large".into()));
    let data = json!({ "user": "a", "data": "x".repeat(64 * 1024) }).to_string();
    assert_eq!(send(&headers, &data), (422, "invalid-body".into()));
}

/// T018, T058: what is no user id is refused at the door, and what looks alike is someone else.
#[test]
fn user_ids_are_taken_as_they_are() {
    let world = World::new();
    let gateway = world.gateway();
    for user in ["", " a", "a ", "a\r\nx-user-id: root", "a\0", "a\u{85}"] {
        let reply = gateway.call("POST", "/v1/sessions", Some(json!({ "user": user })));
        assert_eq!(reply.problem(), (422, "invalid-body".into()), "{user:?}");
    }
    let long = gateway.call(
        "POST",
        "/v1/sessions",
        Some(json!({ "user": "é".repeat(129) })),
    );
    assert_eq!(long.status, 422);

    let alike = [
        ("alice", "alice"),
        ("Alice", "Alice"),
        ("1", "1"),
        ("é", "%C3%A9"),
        ("e\u{301}", "e%CC%81"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("a+b", "a+b"),
        ("a b", "a%20b"),
        ("a,b", "a,b"),
    ];
    let sessions: Vec<_> = alike.iter().map(|(user, _)| gateway.open(user)).collect();
    for (session, (user, _)) in sessions.iter().zip(alike) {
        let told = gateway.user_of(&session.cookies()).unwrap();
        assert!(
            told.bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b','),
            "{told}"
        );
        assert_eq!(session.0["user"], user);
    }
    for (at, (user, encoded)) in alike.iter().enumerate() {
        let ended = gateway.done("DELETE", &format!("/v1/users/{encoded}/sessions"), None);
        assert_eq!(ended["ended"], 1, "{user}");
        for (later, session) in sessions.iter().enumerate() {
            let lives = gateway.user_of(&session.cookies()).is_some();
            assert_eq!(
                lives,
                later > at,
                "{user} ended, {} looked at",
                alike[later].0
            );
        }
    }
}

#[test]
fn the_description_is_served_and_names_each_operation() {
    let world = World::new();
    let gateway = world.gateway();
    let described = gateway.done("GET", "/openapi.json", None);
    assert_eq!(described["openapi"], "3.1.0");
    let paths = described["paths"].as_object().unwrap();
    assert!(paths.len() >= 11);
    let secured = Value::from(vec![json!({ "token": [] })]);
    assert_eq!(described["security"], secured);
    let head = gateway.call("HEAD", "/openapi.json", None);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}
