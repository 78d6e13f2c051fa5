//! TLS: versions, certificates by name, resumption, certificates that change.

use std::thread;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};

use crate::support::tls::{TlsConn, client, client_that_sees_ocsp, http1, write_certificate};
use crate::support::{Conn, Gateway, Home, Upstream, eventually, only_app, timed};

/// A home whose only public listener speaks TLS with `g.pem`, and `more` in its section.
fn home(upstream: &Upstream, more: &str) -> Home {
    let home = Home::new("");
    home.configure(&format!(
        "[server.tls]\n{more}\n{}",
        only_app(upstream.address)
    ));
    let text = std::fs::read_to_string(home.config()).unwrap();
    let https = "[server]\npublic_url = \"https://g.test\"\n";
    std::fs::write(home.config(), text.replacen("[server]\n", https, 1)).unwrap();
    home
}

const ONE: &str = "certificate = \"g.pem\"\nkey = \"g.key\"";

fn started(upstream: &Upstream) -> (Home, Gateway) {
    let home = home(upstream, ONE);
    write_certificate(&home.path(""), "g", &["g.test", "*.g.test"]);
    let gateway = home.start();
    (home, gateway)
}

/// T032: a connection is for the hosts that its handshake named and its certificate has.
#[test]
fn other_hosts_are_misdirected() {
    let upstream = Upstream::application();
    let home = home(
        &upstream,
        "certificate = [\"g.pem\", \"other.pem\"]\nkey = [\"g.key\", \"other.key\"]",
    );
    write_certificate(&home.path(""), "g", &["g.test", "*.g.test"]);
    write_certificate(&home.path(""), "other", &["other.test"]);
    let gateway = home.start();
    for (asked, host, status) in [
        ("g.test", "g.test", 200),
        ("g.test", "G.test:8443", 200),
        ("g.test", "a.g.test", 200),
        ("g.test", "other.test", 421),
        ("g.test", "evil.test", 421),
        ("g.test", "127.0.0.1", 421),
        ("g.test", "[::1]:443", 421),
        ("other.test", "g.test", 421),
        ("unknown.test", "unknown.test", 200),
        ("unknown.test", "evil.test", 421),
        // Who names no host in the handshake is not held to one.
        ("127.0.0.1", "evil.test", 200),
    ] {
        let seen = upstream.requests();
        let mut conn = TlsConn::open(gateway.address, asked, &http1()).unwrap();
        assert_eq!(
            conn.get(host, "/public/").unwrap(),
            status,
            "{asked}: {host}"
        );
        let reached = upstream.requests() - seen;
        assert_eq!(reached, usize::from(status == 200), "{asked}: {host}");
    }
}

#[test]
fn ocsp_responses_go_with_their_certificates() {
    let upstream = Upstream::application();
    let home = home(
        &upstream,
        "certificate = [\"g.pem\", \"other.pem\"]\nkey = [\"g.key\", \"other.key\"]\nocsp = [\"\", \"other.ocsp\"]",
    );
    write_certificate(&home.path(""), "g", &["g.test"]);
    write_certificate(&home.path(""), "other", &["other.test"]);
    let response = |last: u8| vec![0x30, 3, 0x0a, 1, last];
    std::fs::write(home.path("other.ocsp"), response(0)).unwrap();
    let gateway = home.start();
    let shown = |host: &str| {
        let (config, seen) = client_that_sees_ocsp();
        TlsConn::open(gateway.address, host, &config).unwrap();
        seen.lock().unwrap().clone()
    };
    assert_eq!(
        (shown("g.test"), shown("other.test")),
        (vec![], response(0))
    );
    std::fs::write(home.path("other.ocsp"), "not DER").unwrap();
    gateway.signal("HUP");
    eventually("what cannot be used is told of", || {
        gateway.log().contains("is no OCSP response in DER form")
    });
    assert_eq!(shown("other.test"), response(0));
    std::fs::write(home.path("other.ocsp"), response(1)).unwrap();
    eventually("a new one is taken", || shown("other.test") == response(1));
}

#[test]
fn sessions_are_resumed_on_every_worker_and_past_a_change_of_certificates() {
    let upstream = Upstream::application();
    let (home, gateway) = started(&upstream);
    for version in [&TLS12, &TLS13] {
        let config = client(&["http/1.1"], &[version]);
        let connect = || {
            let mut conn = TlsConn::open(gateway.address, "g.test", &config).unwrap();
            assert_eq!(conn.get("g.test", "/public/").unwrap(), 200);
            conn.is_resumed()
        };
        assert!(!connect());
        // Enough for both workers to have had some.
        let resumed = (0..20).filter(|_| connect()).count();
        assert_eq!(resumed, 20);
        write_certificate(&home.path(""), "g", &["g.test"]);
        gateway.signal("HUP");
        eventually("the certificate changes", || {
            gateway.log().contains("new certificates")
        });
        assert!(connect());
    }
}

#[test]
fn a_broken_certificate_keeps_the_old_one_and_is_reported() {
    let upstream = Upstream::application();
    let (home, gateway) = started(&upstream);
    let shown = || {
        TlsConn::open(gateway.address, "g.test", &http1())
            .unwrap()
            .certificate()
    };
    let old = shown();
    let admin = |path: &str| {
        let mut conn = Conn::to(gateway.admin());
        conn.send(format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n",
            gateway.admin()
        ));
        conn.answer()
    };
    // A key of another certificate.
    write_certificate(&home.path(""), "x", &["g.test"]);
    std::fs::copy(home.path("x.key"), home.path("g.key")).unwrap();
    eventually("it is reported", || {
        admin("/readyz")
            .text()
            .contains("certificates: the new ones cannot be used")
    });
    // The log is written behind.
    eventually("it is logged", || {
        gateway
            .log()
            .contains("is not the private key of the certificate in")
    });
    assert_eq!(admin("/readyz").status, 200, "the old one serves");
    assert!(
        admin("/metrics")
            .text()
            .contains("portcullis_certificates_refused 1\n")
    );
    assert!(shown() == old);
    // The same after SIGHUP, with a file that is no certificate.
    std::fs::write(home.path("g.pem"), "-----BEGIN nothing").unwrap();
    gateway.signal("HUP");
    eventually("it is reported", || {
        gateway.log().contains("holds no certificate")
    });
    assert!(shown() == old);
    // What is mended is taken.
    std::fs::copy(home.path("x.pem"), home.path("g.pem")).unwrap();
    eventually("the new certificate is shown", || shown() != old);
    assert!(!admin("/readyz").text().contains("warnings"));
    let metrics = admin("/metrics").text().to_owned();
    assert!(
        metrics.contains("portcullis_certificates_refused 0\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("portcullis_certificate_reloads_total 1\n"),
        "{metrics}"
    );
}

#[test]
fn files_that_cannot_be_used_are_refused_at_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::application();
    let home = home(&upstream, ONE);
    let refused = |home: &Home, because: &str| {
        let ended = home.fail_to_start();
        assert!(
            ended.code != Some(0) && ended.stderr.contains(because),
            "{ended:?}"
        );
    };
    refused(&home, "cannot read");
    write_certificate(&home.path(""), "g", &["g.test"]);
    std::fs::set_permissions(home.path("g.key"), PermissionsExt::from_mode(0o604)).unwrap();
    refused(&home, "can be read by others (mode 0604): chmod 600 it");
    std::fs::set_permissions(home.path("g.key"), PermissionsExt::from_mode(0o640)).unwrap();
    let certificate = std::fs::read(home.path("g.pem")).unwrap();
    std::fs::write(home.path("g.pem"), "").unwrap();
    refused(&home, "holds no certificate in PEM form");
    std::fs::write(home.path("g.pem"), certificate).unwrap();
    std::fs::write(home.path("g.key"), "").unwrap();
    refused(&home, "holds no private key in PEM form");
}

/// T116: who connects and says nothing, or begins and does not go on.
#[test]
fn a_handshake_that_does_not_come_is_ended_and_keeps_nobody_out() {
    let upstream = Upstream::application();
    let home = home(
        &upstream,
        &format!("{ONE}\n[server.limits]\nhandshake_timeout = \"1s\""),
    );
    write_certificate(&home.path(""), "g", &["g.test"]);
    let gateway = home.start();
    let mut silent: Vec<Conn> = (0..10).map(|_| gateway.connect()).collect();
    silent[0].send(b"\x16\x03\x01\x02\x00\x01");
    let mut conn = TlsConn::open(gateway.address, "g.test", &http1()).unwrap();
    assert_eq!(conn.get("g.test", "/public/").unwrap(), 200);
    let (_, took) = timed(|| {
        silent
            .iter_mut()
            .for_each(|conn| assert_eq!(conn.rest(), b""))
    });
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(
        conn.get("g.test", "/public/").unwrap(),
        200,
        "it was not for this one"
    );
    assert!(refused_for(&gateway, "late"));
}

/// T116: none of them is ended by the time that a handshake may take.
#[test]
fn handshakes_above_their_bound_are_closed_at_once_and_then_there_is_room_again() {
    let upstream = Upstream::application();
    let limits = "[server.limits]\nhandshake_timeout = \"60s\"\nhandshakes = 40";
    let home = home(&upstream, &format!("{ONE}\n{limits}"));
    write_certificate(&home.path(""), "g", &["g.test"]);
    let gateway = home.start();
    let mut many: Vec<Conn> = (0..60).map(|_| gateway.connect()).collect();
    eventually("no more than the bound are left", || {
        many.retain_mut(|conn| conn.is_silent_for(Duration::from_millis(1)));
        many.len() <= 40
    });
    assert!(refused_for(&gateway, "handshakes"));
    assert!(!refused_for(&gateway, "late"));
    drop(many);
    eventually("there is room again", || {
        TlsConn::open(gateway.address, "g.test", &http1()).is_ok()
    });
}

/// Whether the gateway's metrics say that it refused a connection for this reason.
fn refused_for(gateway: &Gateway, reason: &str) -> bool {
    let mut admin = Conn::to(gateway.admin());
    let host = gateway.admin();
    admin.send(format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    let metrics = admin.answer().text().to_owned();
    let name = format!("portcullis_connections_refused_total{{reason=\"{reason}\"}} ");
    let sample = metrics.lines().find_map(|line| line.strip_prefix(&name));
    sample.is_some_and(|count| count != "0")
}

#[test]
fn connections_at_rest_are_closed_and_heads_are_timed_over_tls_too() {
    let upstream = Upstream::application();
    let home = home(
        &upstream,
        &format!(
            "{ONE}\n[server.limits]\nhead_timeout = \"300ms\"\nkeep_alive_timeout = \"1500ms\""
        ),
    );
    write_certificate(&home.path(""), "g", &["g.test"]);
    let gateway = home.start();
    let mut resting = TlsConn::open(gateway.address, "g.test", &http1()).unwrap();
    for _ in 0..3 {
        assert_eq!(resting.get("g.test", "/public/").unwrap(), 200);
        // Longer than a head may take.
        thread::sleep(Duration::from_millis(700));
    }
    assert_eq!(resting.get("g.test", "/public/").unwrap(), 200);
    let (begun, took) = timed(|| {
        let mut begun = TlsConn::open(gateway.address, "g.test", &http1()).unwrap();
        begun.exchange("GET /public/ HTTP/1.1\r\nhost:")
    });
    assert!(begun.is_err() || begun.unwrap().0.starts_with("HTTP/1.1 408"));
    assert!(took < Duration::from_millis(1400), "{took:?}");
    let (ended, took) = timed(|| resting.exchange(""));
    let ended = ended.unwrap_err().to_string();
    assert!(!ended.contains("close_notify"), "{ended}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn tls_connections_at_rest_take_little_memory() {
    let upstream = Upstream::application();
    let (_home, gateway) = started(&upstream);
    let config = http1();
    let open = || {
        let mut conn = TlsConn::open(gateway.address, "g.test", &config).unwrap();
        assert_eq!(conn.get("g.test", "/private").unwrap(), 401);
        conn
    };
    drop(open());
    let before = gateway.resident_kib(false);
    let connections: Vec<TlsConn> = (0..400).map(|_| open()).collect();
    let each = (gateway.resident_kib(false).saturating_sub(before)) / connections.len() as u64;
    assert!(each < 64, "{each} KiB per connection");
}
