//! What the gateway tells about itself, and what it must not: tokens are in no line, no metric and no byte of the store.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use portcullis::gateway::GatewayError;

use crate::support::{Browser, Connection, World, eventually, wire};

/// The real binary, with its logs in a file.
struct Process {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: std::path::PathBuf,
}

impl Process {
    fn start(world: &World, settings: &[(&str, &str)]) -> Self {
        let folder = world.folder();
        let (config, log) = (folder.join("portcullis.toml"), folder.join("log"));
        std::fs::write(&config, world.configuration()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("serve").arg("--config").arg(&config);
        command.env("PORTCULLIS_ADMIN__LISTEN", "127.0.0.1:0");
        for (key, value) in settings {
            command.env(
                format!("PORTCULLIS_{}", key.replace('.', "__").to_uppercase()),
                value,
            );
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut process = Self {
            child,
            address: SocketAddr::from(([0; 4], 0)),
            admin: SocketAddr::from(([0; 4], 0)),
            log,
        };
        eventually("it listens", || {
            process.logged().contains("admin listening")
        });
        let log = process.logged();
        let address_in = |what: &str| {
            let line = log.lines().find(|line| line.contains(what)).unwrap();
            let (_, rest) = line.split_once("address=").unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        process.address = address_in(" listening ");
        process.admin = address_in("admin listening");
        process
    }

    fn logged(&self) -> String {
        let mut text = String::new();
        std::fs::File::open(&self.log)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn send(&self, browser: &mut Browser, method: &str, target: &str, body: &str) -> wire::Answer {
        let mut connection = Connection::open(self.address);
        connection.send(&browser.request(method, target, &[], body));
        let answer = connection.answer();
        browser.keep(&answer);
        answer
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every form in which a token could turn up.
fn secrets_of(browser: &Browser) -> Vec<String> {
    let signature = browser.access().rsplit('.').next().unwrap().to_owned();
    let secret = URL_SAFE_NO_PAD.decode(browser.refresh()).unwrap()[20..52].to_vec();
    vec![
        signature,
        browser.refresh()[27..].to_owned(),
        STANDARD.encode(&secret),
        hex(&secret),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Invariant 11: the whole life of a session at the most talkative level, and the audit of a theft.
#[test]
fn no_line_and_no_metric_has_a_token() {
    let world = World::new();
    let process = Process::start(
        &world,
        &[
            ("telemetry.log", "trace"),
            ("session.reuse_grace", "0s"),
            ("session.refresh", "client"),
            ("session.refreshes_per_minute", "1000"),
        ],
    );
    let mut alice = Browser::new();
    process
        .send(
            &mut alice,
            "POST",
            "/login?token=in-the-query",
            "user=alice",
        )
        .assert_opened();
    let mut thief = alice.clone();
    let mut secrets = secrets_of(&alice);
    secrets.push("in-the-query".into());
    for _ in 0..3 {
        process
            .send(&mut alice, "POST", "/auth/session/refresh", "")
            .assert_opened();
        secrets.extend(secrets_of(&alice));
    }
    process
        .send(&mut alice, "GET", "/app?access_token=in-the-query", "")
        .assert_served();
    let in_path = format!("/public/../{}", alice.refresh());
    assert_eq!(process.send(&mut alice, "GET", &in_path, "").status, 400);
    for broken in [
        "portcullis-login: a\r\nportcullis-claims: in-the-claims",
        "portcullis-login: %ffin-the-claims",
    ] {
        world
            .app
            .answers("/login", &format!("200 OK\r\n{broken}"), "");
        process
            .send(&mut Browser::new(), "POST", "/login", "")
            .assert_refused(502, "the application's login cannot be used");
    }
    secrets.push("in-the-claims".into());
    process
        .send(&mut thief, "POST", "/auth/session/refresh", "")
        .assert_session_over();
    process
        .send(&mut alice.clone(), "GET", "/app", "")
        .assert_session_over();
    process
        .send(&mut alice, "POST", "/logout", "")
        .assert_clears();
    let key = std::fs::read_to_string(world.folder().join("master.key")).unwrap();
    secrets.push(key.trim().to_owned());

    let mut connection = Connection::open(process.admin);
    connection.send(&wire::request(
        "GET",
        "/metrics",
        &[("Host", "localhost")],
        "",
    ));
    let metrics = connection.answer();
    assert_eq!(metrics.status, 200);
    eventually("the last request is logged", || {
        process.logged().contains(r#"path="/logout""#)
    });
    let log = process.logged();
    for secret in &secrets {
        assert!(
            !log.contains(secret),
            "{:?}",
            log.lines().find(|line| line.contains(secret))
        );
        assert!(!metrics.text().contains(secret));
    }

    let audit: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("refresh_token_reused"))
        .collect();
    assert_eq!(audit.len(), 1);
    for field in [
        "portcullis::audit",
        "alice",
        "opened_from=\"127.0.0.1\"",
        "presented_from=\"127.0.0.1\"",
    ] {
        assert!(audit[0].contains(field), "{field} in {}", audit[0]);
    }
    for line in [
        "reason=\"theft\"",
        "reason=\"session_over\"",
        "user=\"alice\"",
        "path=\"/app\"",
        "outcome=\"login\"",
    ] {
        assert!(log.contains(line), "{line}");
    }
}

/// Invariant 11: nothing in a dump of the store is a credential, and nothing is one with the old ones in hand.
#[test]
fn a_dump_of_the_store_logs_nobody_in() {
    let world = World::with(&[("session.refresh", "client")]);
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    let first = alice.clone();
    world.pass(Duration::from_secs(2));
    alice
        .post(&gateway, "/auth/session/refresh")
        .assert_opened();
    let dump = world.store().dump();
    assert!(wire::find(&dump, b"alice").is_some(), "this is the store");
    for browser in [&first, &alice] {
        let secret = URL_SAFE_NO_PAD.decode(browser.refresh()).unwrap()[20..52].to_vec();
        assert!(wire::find(&dump, &secret).is_none());
        for text in secrets_of(browser) {
            assert!(wire::find(&dump, text.as_bytes()).is_none(), "{text}");
        }
    }
    let key = std::fs::read_to_string(world.folder().join("master.key")).unwrap();
    let key = URL_SAFE_NO_PAD.decode(key.trim()).unwrap();
    assert!(wire::find(&dump, &key).is_none());
    // What stands there, in the place of the secret of a refresh token: the tag is of somebody without the master key.
    let token = URL_SAFE_NO_PAD.decode(alice.refresh()).unwrap();
    for column in ["secret", "refresh_hash"] {
        let stored = world.store().blob(&format!("SELECT {column} FROM session"));
        for tag in [&token[52..], &[0; 16]] {
            let forged = [&token[..20], &stored, tag].concat();
            let cookie = format!("sRefreshToken={}", URL_SAFE_NO_PAD.encode(&forged));
            let answer = gateway.send("POST", "/auth/session/refresh", &[("Cookie", &cookie)], "");
            answer.assert_session_over();
        }
    }
    alice.get(&gateway, "/app").assert_served();
}

/// With another master key the store is of no use, not even to a gateway.
#[test]
fn a_gateway_with_another_master_key_does_not_start_on_the_store() {
    let world = World::new();
    let mut alice = {
        let gateway = world.replica();
        Browser::logged_in(&gateway, "alice")
    };
    let key = world.folder().join("master.key");
    let right = std::fs::read(&key).unwrap();
    std::fs::write(&key, format!("{}\n", URL_SAFE_NO_PAD.encode([7; 32]))).unwrap();
    assert!(matches!(
        world.try_replica(),
        Err(GatewayError::MasterKey(_))
    ));
    std::fs::write(&key, right).unwrap();
    alice.get(&world.replica(), "/app").assert_served();
}

#[test]
fn what_happened_is_counted() {
    let world = World::new();
    let gateway = world.replica();
    let mut alice = Browser::logged_in(&gateway, "alice");
    alice.get(&gateway, "/app").assert_served();
    gateway.get("/app").assert_refused(401, "try refresh token");
    world.pass(Duration::from_hours(1));
    alice.get(&gateway, "/app").assert_opened();
    alice.post(&gateway, "/logout").assert_clears();
    let mut carol = Browser::logged_in(&gateway, "carol");
    carol.log_in(&gateway, "carol").assert_opened();
    let text = gateway.parts().metrics.encode();
    for counted in [
        r#"portcullis_sessions_opened_total 3"#,
        r#"portcullis_sessions_refreshed_total{kind="rotated"} 1"#,
        r#"portcullis_sessions_revoked_total{reason="logout"} 1"#,
        r#"portcullis_sessions_revoked_total{reason="replaced"} 1"#,
        r#"outcome="rejected_no_session"} 1"#,
    ] {
        assert!(text.contains(counted), "{counted}\n{text}");
    }
    assert!(!text.contains("alice"));
}
