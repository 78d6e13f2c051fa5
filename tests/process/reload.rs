//! Another configuration in the place of the active one, while the gateway runs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::load::Load;
use crate::support::tls::{TlsConn, http1, write_certificate};
use crate::support::{Conn, Gateway, Home, Peer, Upstream, app, eventually, header, only_app};

/// `more`, and a rule that opens `/app` to all.
fn opened(more: &str) -> String {
    format!("{more}\n[[route]]\npath = \"/app\"\nauth = \"none\"\n")
}

fn ready(gateway: &Gateway) -> Value {
    serde_json::from_slice(&gateway.admin_get("/readyz").body).unwrap()
}

fn hash(gateway: &Gateway) -> String {
    let ready = ready(gateway);
    ready["configuration"]["hash"].as_str().unwrap().to_owned()
}

fn metric(gateway: &Gateway, series: &str) -> Option<f64> {
    let answer = gateway.admin_get("/metrics");
    let line = answer.text().lines().find_map(|line| {
        let value = line.strip_prefix(series)?;
        value.strip_prefix(' ')
    })?;
    Some(line.parse().unwrap())
}

/// Waits until another configuration is active than that with this hash, and gives its hash.
fn another_than(gateway: &Gateway, before: &str) -> String {
    eventually("another configuration is active", || {
        hash(gateway) != before
    });
    hash(gateway)
}

#[test]
fn a_rule_comes_and_goes_with_the_file() {
    let upstream = Upstream::application();
    let text = only_app(upstream.address);
    let home = Home::new(&text);
    let gateway = home.start();
    let mut kept = gateway.connect();
    assert_eq!(kept.get("/app", "").status, 401);
    let first = hash(&gateway);
    assert_eq!(first.len(), 16);

    home.configure(&opened(&text));
    let second = another_than(&gateway, &first);
    assert_eq!(kept.get("/app", "").status, 200, "on the same connection");
    assert_eq!(gateway.status("/app", ""), 200);
    let told = "changed=\"route[/app].auth, route[/app].path\"";
    eventually("the log says what changed", || gateway.log().contains(told));
    assert_eq!(
        metric(
            &gateway,
            &format!("portcullis_config_info{{hash=\"{second}\"}}")
        ),
        Some(1.0)
    );

    home.configure(&format!("{text}\n# nothing but a remark\n"));
    assert_eq!(another_than(&gateway, &second), first, "of the same words");
    assert_eq!(kept.get("/app", "").status, 401);
    let applied = metric(
        &gateway,
        "portcullis_config_reloads_total{result=\"applied\"}",
    );
    assert_eq!(applied, Some(2.0));
    let ready = ready(&gateway);
    assert!(
        ready["configuration"]["since"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert!(ready.get("warnings").is_none(), "{ready}");
    let requests = "portcullis_requests_total{route=\"/app\",outcome=\"forwarded_2xx\"}";
    assert_eq!(metric(&gateway, requests), Some(2.0), "counted on");
}

#[test]
fn a_hangup_reads_it_at_once_even_if_it_is_the_same() {
    let upstream = Upstream::application();
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    let before = hash(&gateway);
    gateway.signal("HUP");
    eventually("it is read", || {
        gateway.log().contains("a new configuration is active") && gateway.log().contains("no key")
    });
    assert_eq!(hash(&gateway), before);
    home.configure(&opened(&only_app(upstream.address)));
    gateway.signal("HUP");
    another_than(&gateway, &before);
    assert_eq!(gateway.status("/app", ""), 200);
}

#[test]
fn without_a_file_there_is_nothing_to_read() {
    let upstream = Upstream::application();
    let home = Home::new("");
    let mut command = crate::support::program(&home.path(""));
    let server = format!("http://{}", upstream.address);
    command.args(["serve", "--listen", "127.0.0.1:0", "--upstream", &server]);
    command.env("PORTCULLIS_ADMIN__LISTEN", "127.0.0.1:0");
    let gateway = Gateway::start(command);
    gateway.signal("HUP");
    eventually("it says so", || gateway.log().contains("given as flags"));
    assert_eq!(gateway.status("/", ""), 401);
}

#[test]
fn a_file_that_is_refused_changes_nothing_and_is_told_why() {
    let upstream = Upstream::application();
    let text = only_app(upstream.address);
    let home = Home::new(&text);
    let gateway = home.start();
    let before = hash(&gateway);
    let ca = home.path("no-ca.pem").display().to_string();
    for (more, reason) in [
        (
            "[session]\nacess_token_lifetime = \"5m\"\n",
            "acess_token_lifetime",
        ),
        ("[session\n", "portcullis.toml:"),
        ("[session]\nreuse_grace = \"soon\"\n", "soon"),
        (
            &format!(
                "[[upstream]]\nname = \"b\"\nservers = [\"https://127.0.0.1:1\"]\ntls_ca_file = \"{ca}\"\n"
            ),
            "no-ca.pem",
        ),
    ] {
        let refused = metric(
            &gateway,
            "portcullis_config_reloads_total{result=\"refused\"}",
        );
        home.configure(&opened(&format!("{text}\n{more}")));
        gateway.signal("HUP");
        eventually("it is refused", || {
            metric(
                &gateway,
                "portcullis_config_reloads_total{result=\"refused\"}",
            ) > refused
        });
        assert_eq!(metric(&gateway, "portcullis_config_refused"), Some(1.0));
        let ready = ready(&gateway);
        assert_eq!(ready["status"], "ready");
        let warning = ready["warnings"][0].as_str().unwrap();
        assert!(
            warning.starts_with("configuration: the one as written is refused: ")
                && warning.contains(reason),
            "{warning}"
        );
        eventually("the log says why", || gateway.log().contains(reason));
        assert_eq!(hash(&gateway), before);
        assert_eq!(gateway.status("/app", ""), 401);
    }
    home.configure(&text);
    eventually("all is well again", || {
        metric(&gateway, "portcullis_config_refused") == Some(0.0)
    });
    assert!(ready(&gateway).get("warnings").is_none());
}

#[test]
fn what_needs_a_restart_is_refused_by_name_and_nothing_else_is_taken() {
    let upstream = Upstream::application();
    let text = only_app(upstream.address);
    let home = Home::new(&text);
    let gateway = home.start();
    let before = hash(&gateway);
    for (section, key) in [
        ("[store]\nurl = \"sqlite:hunter2.db\"\n", "store.url"),
        (
            "[store]\nmaster_key_file = \"other.key\"\n",
            "store.master_key_file",
        ),
        ("[revocation]\nlease = \"5s\"\n", "revocation.lease"),
        ("[keys]\nrotate_after = \"1d\"\n", "keys.rotate_after"),
        (
            "[session]\naccess_token_lifetime = \"5m\"\n",
            "session.access_token_lifetime",
        ),
        ("[telemetry]\nlog = \"debug\"\n", "telemetry.log"),
    ] {
        home.configure(&opened(&format!("{text}\n{section}")));
        gateway.signal("HUP");
        let expected = format!("restart to change {key}");
        eventually("it is refused", || gateway.log().contains(&expected));
        let ready = ready(&gateway);
        let warning = ready["warnings"][0].as_str().unwrap();
        assert!(warning.ends_with(&expected), "{warning}");
        assert_eq!(hash(&gateway), before);
        assert_eq!(gateway.status("/app", ""), 401, "the rule beside it");
    }
    home.configure(&opened(&text));
    let written = std::fs::read_to_string(home.config()).unwrap();
    let more_workers =
        written.replace("workers = 2", "workers = 3\npublic_url = \"http://g.test\"");
    std::fs::write(home.config(), more_workers).unwrap();
    gateway.signal("HUP");
    eventually("all are named", || {
        let expected = "restart to change server.public_url, server.workers";
        gateway.log().contains(expected)
    });
    assert!(!gateway.log().contains("hunter2"), "{}", gateway.log());
}

/// T119 h: an upstream is exchanged, rules come and go; no client sees anything of it.
#[test]
fn twenty_reloads_under_load_lose_no_request() {
    let upstreams = [Upstream::application(), Upstream::application()];
    let home = Home::new(&only_app(upstreams[0].address));
    let gateway = home.start();
    let cookie = gateway.connect().login("alice").cookies();
    let load = Load::start(gateway.address, &cookie);
    load.has_done(100);
    let mut active = hash(&gateway);
    for round in 1..=20 {
        let upstream = &upstreams[round / 2 % 2];
        let text = match round % 2 {
            0 => only_app(upstream.address),
            _ => opened(&only_app(upstream.address)),
        };
        let servers = app(upstream.address, "");
        let other = app(upstream.address, &format!("retries = {}", 2 + round % 3));
        let text = text.replace(&servers, &other);
        home.configure(&text);
        gateway.signal("HUP");
        active = another_than(&gateway, &active);
        let done = load.done();
        load.has_done(done + 20);
    }
    let ended = load.end();
    assert_eq!(ended.failures, Vec::<String>::new());
    assert_eq!(ended.repeated, 0, "no connection was closed either");
    assert!(upstreams.iter().all(|upstream| upstream.requests() > 50));
    let applied = metric(
        &gateway,
        "portcullis_config_reloads_total{result=\"applied\"}",
    );
    assert_eq!(applied, Some(20.0));
}

/// WebSockets echo, `/public/drip` never ends, and the rest is the application.
fn streaming(name: &'static str) -> Upstream {
    Upstream::scripted(move |peer: &mut Peer, head| {
        let target = head.split(' ').nth(1).unwrap_or_default();
        if header(head, "upgrade").is_some() {
            peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
            while let Some(bytes) = peer.exactly(8) {
                peer.send(bytes);
            }
            return false;
        }
        if target == "/drip" {
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while peer.send("3\r\ndrp\r\n") {
                thread::sleep(Duration::from_millis(20));
            }
            return false;
        }
        peer.body(head);
        let login = match target.strip_prefix("/login?") {
            Some(user) => format!("portcullis-login: {user}\r\n"),
            None => String::new(),
        };
        let length = name.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\n{login}content-length: {length}\r\n\r\n{name}"
        ))
    })
}

fn websocket(gateway: &Gateway, cookie: &str) -> Conn {
    let mut socket = gateway.connect();
    socket.send(format!(
        "GET /ws HTTP/1.1\r\nhost: g.test\r\nsec-fetch-site: same-origin\r\ncookie: {cookie}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(socket.bodiless_answer().status, 101);
    socket
}

/// A masked frame of two letters, which the upstream sends back as it is.
const FRAME: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];

#[test]
fn sessions_tunnels_and_streams_outlive_it_and_a_logout_ends_them() {
    let (old, new) = (streaming("old"), streaming("new"));
    let home = Home::new(&only_app(old.address));
    let gateway = home.start();
    let cookie = gateway.connect().login("alice").cookies();
    let mut socket = websocket(&gateway, &cookie);
    let mut stream = gateway.connect();
    stream.send(format!(
        "GET /drip HTTP/1.1\r\nhost: g.test\r\ncookie: {cookie}\r\n\r\n"
    ));
    stream.up_to_text("drp").unwrap();

    let before = hash(&gateway);
    let session = "[session]\nreuse_grace = \"10s\"\nrefresh_token_lifetime = \"50d\"\n";
    home.configure(&format!("{}\n{session}", only_app(new.address)));
    another_than(&gateway, &before);

    let answer = gateway.get("/", &cookie);
    assert_eq!((answer.status, answer.text()), (200, "new"));
    for _ in 0..3 {
        socket.send(FRAME);
        assert_eq!(socket.exactly(FRAME.len()).unwrap(), FRAME);
        stream.up_to_text("drp").unwrap();
    }
    assert_eq!(gateway.connect().post("/logout", &cookie).status, 200);
    let rest = socket.rest();
    assert_eq!(rest[2..4], 4401_u16.to_be_bytes(), "{rest:?}");
    let rest = String::from_utf8(stream.rest()).unwrap();
    assert!(!rest.ends_with("0\r\n\r\n"), "cut, and not ended: {rest}");
    assert_eq!(gateway.status("/", &cookie), 401);
}

#[test]
fn a_request_that_has_begun_ends_as_it_began() {
    let upstream = Upstream::scripted(|peer, head| {
        peer.body(head);
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
    });
    let text = only_app(upstream.address);
    let home = Home::new(&text);
    let gateway = home.start();
    let mut slow = gateway.connect();
    slow.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 1\r\n\r\n");
    upstream.has_seen(1);
    let before = hash(&gateway);
    let closed = text.replace("auth = \"none\"", "auth = \"required\"");
    home.configure(&closed.replace(&upstream.address.to_string(), "127.0.0.1:1"));
    another_than(&gateway, &before);
    slow.send("x");
    assert_eq!(slow.answer().text(), "done");
    let again = slow.post("/hook", "");
    assert_eq!(again.status, 401, "the next one goes by the new rules");
}

#[test]
fn limits_and_cookies_are_those_of_the_new_one() {
    let upstream = Upstream::application();
    let text = only_app(upstream.address);
    let home = Home::new(&text);
    let gateway = home.start();
    let before = hash(&gateway);
    let mut kept = gateway.connect();
    assert_eq!(kept.get("/public/", "").status, 200);
    home.configure(&format!(
        "[server.limits]\nconnections_per_address = 1\nheader_count = 10\n[session.cookies]\nsame_site = \"strict\"\n{text}"
    ));
    another_than(&gateway, &before);
    let login = kept.login("alice");
    assert!(
        login
            .set_cookies()
            .any(|set| set.contains("SameSite=Strict")),
        "{login:?}"
    );
    let mut holds = gateway.connect();
    assert_eq!(holds.get("/public/", "").status, 200);
    let mut refused = gateway.connect();
    assert_eq!(refused.get("/public/", "").status, 503);
    let lines = "x-line: 1\r\n".repeat(12);
    holds.send(format!(
        "GET /public/ HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n"
    ));
    assert_eq!(holds.answer().status, 431);
}

#[test]
fn certificates_of_other_files_are_shown_to_new_connections() {
    let upstream = Upstream::application();
    let home = Home::new("");
    let write = |name: &str| {
        home.configure(&format!(
            "[server.tls]\ncertificate = \"{name}.pem\"\nkey = \"{name}.key\"\n{}",
            only_app(upstream.address)
        ));
        let text = std::fs::read_to_string(home.config()).unwrap();
        let https = "[server]\npublic_url = \"https://g.test\"\n";
        std::fs::write(home.config(), text.replacen("[server]\n", https, 1)).unwrap();
    };
    let one = write_certificate(&home.path(""), "one", &["g.test"]);
    let two = write_certificate(&home.path(""), "two", &["g.test"]);
    write("one");
    let gateway = home.start();
    let mut kept = TlsConn::open(gateway.address, "g.test", &http1()).unwrap();
    assert_eq!(kept.certificate(), one);
    let before = hash(&gateway);
    write("missing");
    gateway.signal("HUP");
    eventually("it is refused", || gateway.log().contains("missing.pem"));
    assert_eq!(hash(&gateway), before);
    write("two");
    another_than(&gateway, &before);
    let fresh = TlsConn::open(gateway.address, "g.test", &http1()).unwrap();
    assert_eq!(fresh.certificate(), two);
    assert_eq!(kept.get("g.test", "/public/").unwrap(), 200);

    let text = std::fs::read_to_string(home.config()).unwrap();
    let plain = text.replace(
        "[server.tls]\ncertificate = \"two.pem\"\nkey = \"two.key\"\n",
        "",
    );
    std::fs::write(home.config(), plain).unwrap();
    eventually("a listener does not change what it speaks", || {
        gateway.log().contains("restart to change server.tls")
    });
}

/// A reload is no storm of new connections.
#[test]
fn an_upstream_that_stays_keeps_its_connections() {
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let noted = Arc::clone(&seen);
    let upstream = Upstream::scripted(move |peer, head| {
        peer.body(head);
        // A thread serves one connection.
        noted.lock().unwrap().insert(thread::current().id());
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    });
    let text = only_app(upstream.address);
    let home = Home::new(&text);
    let gateway = home.start();
    let mut client = gateway.connect();
    assert_eq!(client.get("/public/", "").status, 200);
    let before = hash(&gateway);
    home.configure(&opened(&text));
    let second = another_than(&gateway, &before);
    assert_eq!(client.get("/app", "").status, 200);
    assert_eq!(seen.lock().unwrap().len(), 1);
    let closed = format!("{}\nretries = 1\n", app(upstream.address, ""));
    home.configure(&text.replace(&app(upstream.address, ""), &closed));
    another_than(&gateway, &second);
    assert_eq!(client.get("/public/", "").status, 200);
    assert_eq!(
        seen.lock().unwrap().len(),
        2,
        "another upstream by its settings"
    );
}
