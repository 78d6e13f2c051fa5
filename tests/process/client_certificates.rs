//! Certificates of clients: whom they are asked for, whose are taken, and what the application hears of them (T032).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;

use crate::support::tls::{ClientIssuer, TlsConn, http1, write_certificate};
use crate::support::{Gateway, Home, Upstream, eventually, header, only_app};

const NAMES: [&str; 4] = ["g.test", "*.g.test", "other.test", "127.0.0.1"];

/// A gateway that takes certificates of this issuer, with `more` about them.
fn asking(upstream: &Upstream, issuer: &ClientIssuer, more: &str) -> (Home, Gateway) {
    let home = Home::new("");
    let text = format!(
        "[server]\nworkers = 2\npublic_url = \"https://g.test\"\nlisten = [\"127.0.0.1:0\"]\n\
         [[server.listener]]\naddress = \"127.0.0.1:0\"\nmode = \"plain\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [server.tls]\ncertificate = \"g.pem\"\nkey = \"g.key\"\nclient_ca = \"ca.pem\"\n{more}\n{}",
        only_app(upstream.address)
    );
    std::fs::write(home.config(), text).unwrap();
    write_certificate(&home.path(""), "g", &NAMES);
    std::fs::write(home.path("ca.pem"), issuer.pem()).unwrap();
    let gateway = home.start();
    (home, gateway)
}

/// The status; `None` if there is no connection for this client.
fn status(gateway: &Gateway, asked: &str, host: &str, config: &Arc<ClientConfig>) -> Option<u16> {
    let mut conn = TlsConn::open(gateway.address, asked, config).ok()?;
    conn.get(host, "/public/").ok()
}

/// The application is told which one it was (RFC 9440), and by nobody else.
#[test]
fn the_application_gets_the_certificate() {
    let upstream = Upstream::application();
    let issuer = ClientIssuer::new("clients");
    let (_home, gateway) = asking(&upstream, &issuer, "client_certificate = \"optional\"");
    let request = "GET /public/ HTTP/1.1\r\nhost: g.test\r\nclient-cert: :AAAA:\r\n\
                   Client_Cert: :AAAA:\r\nclient-cert-chain: :AAAA:\r\n\r\n";
    let alice = issuer.client("alice", &["http/1.1"], rustls::ALL_VERSIONS);
    for (config, expected) in [(alice, issuer.last()), (http1(), None)] {
        let mut conn = TlsConn::open(gateway.address, "g.test", &config).unwrap();
        conn.exchange(request).unwrap();
        let head = upstream.heads().pop().unwrap();
        let told = expected.map(|der| format!(":{}:", STANDARD.encode(der)));
        assert_eq!(header(&head, "client-cert"), told.as_deref(), "{head}");
        assert!(!head.contains("AAAA"), "{head}");
    }
}

/// Neither the name in the handshake, nor none, nor a listener without TLS, nor a session that is resumed.
#[test]
fn other_hosts_are_no_way_around_a_certificate() {
    let upstream = Upstream::application();
    let issuer = ClientIssuer::new("clients");
    let (home, gateway) = asking(
        &upstream,
        &issuer,
        "client_certificate_hosts = [\"admin.g.test\", \"*.other.test\"]",
    );
    let alice = issuer.client("alice", &["http/1.1"], rustls::ALL_VERSIONS);
    let none = http1();
    for (asked, host, with, without) in [
        ("g.test", "g.test", Some(200), Some(200)),
        ("a.g.test", "a.g.test", Some(200), Some(200)),
        ("admin.g.test", "admin.g.test", Some(200), None),
        ("ADMIN.g.test", "Admin.G.test.:443", Some(200), None),
        ("admin.g.test", "g.test", Some(200), None),
        // Asked of nobody here, so that nobody has shown one.
        ("g.test", "admin.g.test", Some(421), Some(421)),
        ("a.g.test", "admin.g.test:443", Some(421), Some(421)),
        ("a.g.test", "ADMIN.g.test.", Some(421), Some(421)),
        ("127.0.0.1", "admin.g.test", Some(421), Some(421)),
        ("127.0.0.1", "x.other.test", Some(421), Some(421)),
        ("127.0.0.1", "g.test", Some(200), Some(200)),
    ] {
        let seen = upstream.requests();
        let found = [&alice, &none].map(|config| status(&gateway, asked, host, config));
        assert_eq!(found, [with, without], "{asked}: {host}");
        let served = found.iter().filter(|status| **status == Some(200)).count();
        assert_eq!(upstream.requests() - seen, served, "{asked}: {host}");
    }
    let mut resumed = TlsConn::open(gateway.address, "admin.g.test", &alice).unwrap();
    assert_eq!(resumed.get("admin.g.test", "/public/").unwrap(), 200);
    assert!(!resumed.is_resumed());
    let plain = gateway.addresses()[1];
    for (host, expected) in [("admin.g.test", 421), ("g.test", 200)] {
        let mut conn = crate::support::Conn::to(plain);
        conn.send(format!("GET /public/ HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(conn.answer().status, expected, "{host} without TLS");
    }
    // A connection that began when nobody was asked for g.test.
    let mut before = TlsConn::open(gateway.address, "g.test", &alice).unwrap();
    assert_eq!(before.get("g.test", "/public/").unwrap(), 200);
    let text = std::fs::read_to_string(home.config()).unwrap();
    let all = text.replace(
        "client_certificate_hosts = ",
        "client_certificate_hosts = [\"g.test\"] #",
    );
    std::fs::write(home.config(), all).unwrap();
    gateway.signal("HUP");
    eventually("g.test asks too", || {
        status(&gateway, "g.test", "g.test", &none).is_none()
    });
    assert_eq!(before.get("g.test", "/public/").unwrap(), 421);
}

#[test]
fn another_file_of_issuers_is_taken() {
    let upstream = Upstream::application();
    let (first, second) = (ClientIssuer::new("first"), ClientIssuer::new("second"));
    let (home, gateway) = asking(&upstream, &first, "");
    let of = |issuer: &ClientIssuer| {
        let config = issuer.client("alice", &["http/1.1"], rustls::ALL_VERSIONS);
        status(&gateway, "g.test", "g.test", &config)
    };
    assert_eq!((of(&first), of(&second)), (Some(200), None));
    std::fs::write(home.path("ca.pem"), "nothing").unwrap();
    gateway.signal("HUP");
    eventually("what cannot be used is told of", || {
        gateway.log().contains("cannot use the new certificates")
    });
    assert_eq!((of(&first), of(&second)), (Some(200), None));
    std::fs::write(home.path("ca.pem"), second.pem()).unwrap();
    gateway.signal("HUP");
    eventually("the new issuer is known", || of(&second) == Some(200));
    assert_eq!(of(&first), None);
}
