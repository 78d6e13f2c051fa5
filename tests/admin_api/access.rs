//! Who may call, and from where.

use std::os::unix::net::UnixStream;

use crate::support::{TOKEN, World, exchange, send};

/// T119 a.
#[test]
fn only_the_token_opens_the_api_and_only_here() {
    let world = World::new();
    let gateway = world.gateway();
    let ask = |headers: &str| {
        let headers = format!("host: localhost\r\n{headers}");
        send(gateway.admin(), "GET", "/v1/sessions", &headers, None)
    };
    for headers in [
        String::new(),
        "authorization: Bearer \r\n".to_owned(),
        format!("authorization: Bearer {TOKEN}x\r\n"),
        format!("authorization: Basic {TOKEN}\r\n"),
        format!("authorization: Bearer {TOKEN}\r\nauthorization: Bearer {TOKEN}\r\n"),
        format!("cookie: token={TOKEN}\r\n"),
    ] {
        let reply = ask(&headers);
        assert_eq!(reply.problem(), (401, "unauthorized".into()), "{headers}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    }
    let authorization = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask(&authorization).status, 200);

    // Nobody learns from outside what is there.
    for path in ["/openapi.json", "/v1/fleet", "/v1/nothing"] {
        let reply = send(gateway.admin(), "GET", path, "host: localhost\r\n", None);
        assert_eq!(reply.status, 401, "{path}");
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        let reply = send(gateway.admin(), "GET", path, "host: localhost\r\n", None);
        assert_eq!(reply.status, 200, "{path}");
    }

    // A page on this machine, with the token or not.
    for (headers, expected) in [
        (
            "host: rebound.example\r\n",
            (421, "foreign-host".to_owned()),
        ),
        (
            "host: localhost\r\norigin: https://evil.example\r\n",
            (403, "foreign-origin".into()),
        ),
        (
            "host: localhost\r\nsec-fetch-site: cross-site\r\n",
            (403, "foreign-origin".into()),
        ),
    ] {
        let headers = format!("{headers}{authorization}");
        let reply = send(gateway.admin(), "GET", "/v1/sessions", &headers, None);
        assert_eq!(reply.problem(), expected, "{headers}");
    }

    // The public side knows nothing of it.
    let public = gateway.gateway().addresses()[0];
    let headers = format!("host: app.test\r\naccept: application/json\r\n{authorization}");
    for path in ["/v1/sessions", "/openapi.json", "/metrics"] {
        let reply = send(public, "GET", path, &headers, None);
        assert_eq!(reply.status, 401, "{path}: {reply:?}");
        assert!(!reply.body.contains("sessions\":["), "{path}");
    }
}

#[test]
fn without_a_token_file_there_is_no_api() {
    let world = World::new();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:0\"\nhost_names = [\"gateway.internal\"]\n[store]\nurl = \"sqlite:{}\"\n",
        world.folder.path().join("other.db").display()
    );
    let config = portcullis::config::Config::parse(
        &text,
        "test.toml",
        world.folder.path(),
        std::iter::empty::<(String, String)>(),
    )
    .unwrap();
    let gateway =
        portcullis::gateway::Gateway::start(&config, portcullis::clock::Clock::system()).unwrap();
    let address = gateway.admin_address().unwrap();
    let headers = format!("host: gateway.internal\r\nauthorization: Bearer {TOKEN}\r\n");
    for path in ["/v1/sessions", "/v1/fleet", "/openapi.json"] {
        let reply = send(address, "GET", path, &headers, None);
        assert_eq!(reply.problem(), (404, "not-found".into()), "{path}");
    }
    assert_eq!(send(address, "GET", "/livez", &headers, None).status, 200);
    gateway.shut_down();
}

#[test]
fn the_api_is_reached_through_a_socket_file() {
    let world = World::new();
    let gateway = world.gateway_with(&[("admin.listen", "unix:admin.sock")]);
    assert_eq!(gateway.gateway().admin_address(), None);
    let path = world.folder.path().join("admin.sock");
    let stream = UnixStream::connect(&path).unwrap();
    let headers = format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
    let reply = exchange(stream, "GET", "/v1/fleet", &headers, None);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["replicas"].as_array().unwrap().len(), 1);
    drop(gateway);
    assert!(!path.exists());
}
