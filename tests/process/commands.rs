//! `serve`, `check`, `health`, and what the command line itself refuses.

use std::net::TcpListener;

use crate::support::{Conn, Ended, Gateway, Home, Upstream, eventually, only_app, program};

#[test]
fn serve_takes_a_file() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let login = gateway.connect().login("alice");
    assert_eq!(gateway.get("/", &login.cookies()).text(), "alice");
    assert_eq!(gateway.get("/", "").status, 401);
    assert_eq!(gateway.admin_status("/readyz"), 200);
}

#[test]
fn serve_takes_flags() {
    let upstream = Upstream::application();
    let directory = tempfile::tempdir().unwrap();
    let mut command = program(directory.path());
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(["--upstream", &format!("http://{}", upstream.address)])
        .args(["--login", "/login", "--login", "/enter"])
        .args(["--logout", "/leave"])
        .args(["--store", "sqlite:elsewhere.db"])
        .env("PORTCULLIS_ADMIN__LISTEN", "off");
    let gateway = Gateway::start(command);
    let cookie = gateway.connect().login("alice").cookies();
    assert_eq!(gateway.get("/", &cookie).text(), "alice");
    assert_eq!(gateway.connect().post("/leave", &cookie).status, 200);
    assert_eq!(gateway.status("/", &cookie), 401);
    assert_eq!(gateway.status("/enter", ""), 200);
    assert!(directory.path().join("elsewhere.db").exists());
    assert!(!directory.path().join("portcullis.db").exists());
}

#[test]
fn the_environment_goes_before_the_file() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let mut command = program(home.config().parent().unwrap());
    command
        .args(["serve", "--config", "portcullis.toml"])
        .env("PORTCULLIS_STORE__URL", "sqlite:other.db")
        .env("PORTCULLIS_IDENTITY__USER_HEADER", "x-told");
    let gateway = Gateway::start(command);
    let cookie = gateway.connect().login("alice").cookies();
    gateway.status("/", &cookie);
    let head = upstream.heads().pop().unwrap();
    assert!(head.contains("x-told: alice\r\n"), "{head}");
    assert!(home.files().contains(&"other.db".to_owned()));
}

#[test]
fn check_finds_nothing_wrong_and_opens_nothing() {
    let home = Home::new(&only_app(([127, 0, 0, 1], 9).into()));
    let ended = home.run(&["check"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.ends_with("portcullis.toml: ok\n"), "{ended:?}");
    assert_eq!(ended.stderr, "");
    assert_eq!(home.files(), ["portcullis.toml"]);
}

const THREE_MISTAKES: &str = r#"
[session]
acces_token_lifetime = "1h"
reuse_grace = "soon"
[[upstream]]
name = "app"
servers = ["ftp://127.0.0.1:3000"]
"#;

#[test]
fn check_tells_every_mistake_at_once() {
    let home = Home::new(THREE_MISTAKES);
    for command in ["check", "serve", "sessions"] {
        let ended = match command {
            "sessions" => home.run(&["sessions", "list"]),
            command => home.run(&[command]),
        };
        assert_eq!(ended.code, Some(78), "{ended:?}");
        for word in [
            "acces_token_lifetime",
            "access_token_lifetime",
            "session.reuse_grace",
            "soon",
            "servers",
            "configuration refused: 3 errors",
        ] {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
        assert_eq!(ended.stdout, "");
        assert_eq!(home.files(), ["portcullis.toml"]);
    }
}

#[test]
fn a_refused_configuration_opens_no_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let home = Home::new("");
    std::fs::write(
        home.config(),
        format!("[server]\nlisten = \"{taken}\"\nnonsense = 1\n"),
    )
    .unwrap();
    // Were it bound first, the port would be what is complained about.
    let ended = home.fail_to_start();
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(!ended.stderr.contains("listen on"), "{ended:?}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let home = Home::new("");
    let ended = home.run_plain(&["check", "--config", "nowhere.toml"]);
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("nowhere.toml"), "{ended:?}");
}

#[test]
fn what_the_command_line_refuses() {
    let home = Home::new("");
    for arguments in [
        &[] as &[&str],
        &["observe"],
        &["serve"],
        &["serve", "--config", "a", "--upstream", "http://127.0.0.1:1"],
        &["sessions"],
        &["sessions", "revoke"],
        &["sessions", "revoke", "no-handle"],
        &["sessions", "open"],
        &["sessions", "list", "--config", "a", "--store", "b"],
        &["check"],
    ] {
        let ended = home.run_plain(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:?}");
        assert!(!ended.stderr.is_empty(), "{arguments:?}");
    }
    assert_eq!(home.files(), ["portcullis.toml"]);
    assert_eq!(home.run_plain(&["--version"]).code, Some(0));
    assert_eq!(home.run_plain(&["--help"]).code, Some(0));
}

#[test]
fn a_port_that_another_program_has_is_named_before_anything_is_made() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    for key in ["PORTCULLIS_SERVER__LISTEN", "PORTCULLIS_ADMIN__LISTEN"] {
        let home = Home::new(&only_app(([127, 0, 0, 1], 9).into()));
        let mut command = program(home.config().parent().unwrap());
        command
            .args(["serve", "--config", "portcullis.toml"])
            .env(key, taken.to_string());
        let ended = Ended::of(command);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains(&taken.to_string()), "{ended:?}");
        assert_eq!(home.files(), ["portcullis.toml"], "{key}");
    }
}

#[test]
fn health_asks_the_private_listener() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let mut gateway = home.start();
    let url = format!("http://{}/readyz", gateway.admin());
    let ended = home.run_plain(&["health", "--url", &url]);
    assert_eq!(ended.code, Some(0), "{ended:?}");

    let mut slow = gateway.connect();
    slow.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 1\r\n\r\n");
    upstream.has_seen(1);
    gateway.signal("TERM");
    eventually("health says that it drains", || {
        let ended = home.run_plain(&["health", "--url", &url]);
        ended.code == Some(1) && ended.stderr.contains("draining")
    });
    slow.send("x");
    assert_eq!(slow.answer().status, 200);
    assert_eq!(gateway.ended().code(), Some(0));
    let ended = home.run_plain(&["health", "--url", &url]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.stderr.contains(&gateway.admin().to_string()),
        "{ended:?}"
    );
}

#[test]
fn the_private_paths_are_not_on_the_public_listener() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    for path in ["/livez", "/readyz", "/metrics", "/healthz", "/admin"] {
        assert_eq!(gateway.status(path, ""), 401, "{path}");
    }
    assert_eq!(upstream.requests(), 0);
    let mut foreign = Conn::to(gateway.admin());
    foreign.send("GET /metrics HTTP/1.1\r\nhost: evil.test\r\n\r\n");
    assert_eq!(foreign.answer().status, 421);
}
