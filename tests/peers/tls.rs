//! TLS towards clients: names, versions, protocols, resumption, the end of a connection, certificates that change, and clients that show one.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SerialNumber,
};
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ClientConfig, ProtocolVersion};

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Front, Listener, Work, usually, write_both};
use crate::support::tls::{ClientIssuer, TlsConn, client, client_that_sees_ocsp, http1};
use crate::support::{Conn, Upstream, eventually, header};

cases! {
    each_host_gets_its_certificate: portcullis, nginx, haproxy;
    versions_and_protocols: portcullis, nginx, haproxy;
    an_older_version_is_refused_if_it_is_to_be: portcullis, nginx, haproxy;
    sessions_are_resumed: portcullis, nginx, haproxy;
    the_end_of_a_connection_is_said: portcullis, nginx, haproxy;
    the_server_is_told_that_it_was_tls: portcullis, nginx, haproxy;
    an_ocsp_response_goes_with_its_certificate: portcullis, nginx, haproxy;
    a_new_certificate_is_taken: portcullis, nginx, haproxy;
    certificates_change_under_load: portcullis, nginx, haproxy;
    clients_have_to_show_a_certificate: portcullis, nginx, haproxy;
    plain_text_is_no_handshake: portcullis, nginx, haproxy;
    everybody_is_sent_to_tls: portcullis, nginx, haproxy;
}

fn secure(upstream: &Upstream) -> Work {
    let mut work = Work::to(upstream).at(&[Listener::Tls]);
    work.certify("g", &["g.test"]);
    work
}

fn open(front: &Front, config: &Arc<ClientConfig>) -> Option<TlsConn> {
    TlsConn::open(front.address, "g.test", config).ok()
}

fn each_host_gets_its_certificate(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream).at(&[Listener::Tls]);
    let g = work.certify("g", &["g.test"]);
    let other = work.certify("other", &["other.test", "third.test"]);
    let wild = work.certify("wild", &["*.wild.test"]);
    let front = work.start(make);
    let name = |certificate| match certificate {
        _ if certificate == g => "g",
        _ if certificate == other => "other",
        _ if certificate == wild => "wild",
        _ => "unknown",
    };
    for (host, expected) in [
        ("g.test", usually("g")),
        ("G.TEST", usually("g")),
        ("other.test", usually("other")),
        ("third.test", usually("other")),
        ("a.wild.test", usually("wild")),
        (
            "a.b.wild.test",
            usually("g").but(Nginx, "wild", "its wildcards stand for several labels"),
        ),
        ("wild.test", usually("g")),
        ("unknown.test", usually("g")),
        ("127.0.0.1", usually("g")),
    ] {
        let mut conn = TlsConn::open(front.address, host, &http1()).unwrap();
        expected.assert(make, &name(conn.certificate()), host);
        assert_eq!(conn.get(host, "/").unwrap(), 200, "{host}");
    }
}

fn versions_and_protocols(make: Make) {
    let upstream = Upstream::application();
    let front = secure(&upstream).start(make);
    let (v2, v3) = (ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3);
    for (offered, versions, expected) in [
        (
            &["http/1.1"][..],
            &[&TLS12][..],
            usually(Some((v2, Some("http/1.1")))),
        ),
        (
            &["http/1.1"],
            &[&TLS13],
            usually(Some((v3, Some("http/1.1")))),
        ),
        (
            &["http/1.1", "h2"],
            ALL_VERSIONS,
            usually(Some((v3, Some("h2")))),
        ),
        (&["h2"], &[&TLS12], usually(Some((v2, Some("h2"))))),
        (&[], ALL_VERSIONS, usually(Some((v3, None)))),
        (
            &["spdy/3"],
            ALL_VERSIONS,
            usually(None).but(
                HaProxy,
                Some((v3, None)),
                "it goes on without a protocol, against RFC 7301 section 3.2",
            ),
        ),
    ] {
        let conn = open(&front, &client(offered, versions));
        let found = conn.as_ref().map(|conn| (conn.version(), conn.protocol()));
        expected.assert(make, &found, &format!("{offered:?}"));
    }
}

fn an_older_version_is_refused_if_it_is_to_be(make: Make) {
    let upstream = Upstream::application();
    let mut work = secure(&upstream);
    work.minimum_tls_13 = true;
    let front = work.start(make);
    assert!(open(&front, &client(&["http/1.1"], &[&TLS12])).is_none());
    let conn = open(&front, &client(&["http/1.1"], ALL_VERSIONS)).unwrap();
    assert_eq!(conn.version(), ProtocolVersion::TLSv1_3);
}

fn sessions_are_resumed(make: Make) {
    let upstream = Upstream::application();
    let front = secure(&upstream).start(make);
    for version in [&TLS12, &TLS13] {
        let config = client(&["http/1.1"], &[version]);
        let connect = || {
            let mut conn = open(&front, &config).unwrap();
            assert_eq!(conn.get("g.test", "/").unwrap(), 200);
            conn.is_resumed()
        };
        assert!(!connect());
        assert!((0..6).all(|_| connect()));
    }
}

/// Without it nobody can tell an end from a connection that was cut (RFC 8446 section 6.1).
fn the_end_of_a_connection_is_said(make: Make) {
    let upstream = Upstream::application();
    let front = secure(&upstream).start(make);
    for version in [&TLS12, &TLS13] {
        let mut conn = open(&front, &client(&["http/1.1"], &[version])).unwrap();
        let (head, _) = conn
            .exchange("GET / HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n")
            .unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let end = conn.exchange("").unwrap_err().to_string();
        assert!(!end.contains("close_notify"), "{end}");
    }
}

fn the_server_is_told_that_it_was_tls(make: Make) {
    let upstream = Upstream::application();
    let front = secure(&upstream).start(make);
    let mut conn = open(&front, &http1()).unwrap();
    conn.exchange("GET / HTTP/1.1\r\nhost: g.test\r\nx-forwarded-proto: http\r\n\r\n")
        .unwrap();
    let head = upstream.only_head();
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"), "{head}");
}

fn an_ocsp_response_goes_with_its_certificate(make: Make) {
    let upstream = Upstream::application();
    let mut work = secure(&upstream);
    let response = answer_for("g", &work.home.path(""));
    work.certificates[0].has_ocsp = true;
    let front = work.start(make);
    let (config, seen) = client_that_sees_ocsp();
    TlsConn::open(front.address, "g.test", &config).unwrap();
    assert!(*seen.lock().unwrap() == response);
}

/// Issues the certificate anew, by an authority that says that it is good: both are checked by some.
fn answer_for(name: &str, folder: &Path) -> Vec<u8> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
    write("authority.key", key.serialize_pem());
    let authority = CertifiedIssuer::self_signed(params, key).unwrap();
    write("authority.pem", authority.pem());
    let mut params = CertificateParams::new(vec![format!("{name}.test")]).unwrap();
    params.serial_number = Some(SerialNumber::from(1));
    let key =
        KeyPair::from_pem(&std::fs::read_to_string(folder.join(format!("{name}.key"))).unwrap());
    let key = key.unwrap();
    let chain = params.signed_by(&key, &authority).unwrap().pem() + &authority.pem();
    write(&format!("{name}.pem"), chain.clone());
    write(&format!("{name}.both"), chain + &key.serialize_pem());
    write(
        "index.txt",
        "V\t491231235959Z\t\t01\tunknown\t/CN=any\n".to_owned(),
    );
    let pem = format!("{name}.pem");
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl")
            .current_dir(folder)
            .args(["ocsp", "-issuer", "authority.pem"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    openssl(&["-cert", &pem, "-no_nonce", "-reqout", "asked"]);
    let signer = ["-rsigner", "authority.pem", "-rkey", "authority.key"];
    let told = ["-reqin", "asked", "-respout", "told", "-ndays", "1"];
    openssl(
        &[
            &["-index", "index.txt", "-CA", "authority.pem"],
            &signer[..],
            &told,
        ]
        .concat(),
    );
    let response = std::fs::read(folder.join("told")).unwrap();
    for file in [format!("{name}.ocsp"), format!("{name}.both.ocsp")] {
        std::fs::write(folder.join(file), &response).unwrap();
    }
    response
}

fn a_new_certificate_is_taken(make: Make) {
    let upstream = Upstream::application();
    let front = secure(&upstream).start(make);
    let mut before = open(&front, &http1()).unwrap();
    assert_eq!(before.get("g.test", "/").unwrap(), 200);
    let new = write_both(&front.work.home.path(""), "g", &["g.test"]);
    front.reload();
    eventually("the new certificate is shown", || {
        open(&front, &http1()).is_some_and(|conn| conn.certificate() == new)
    });
    let goes_on = before.get("g.test", "/").is_ok();
    // The old workers of the others close what is at rest, sooner or later.
    assert!(goes_on || make != Make::Portcullis);
}

/// Half of the clients come anew for each request. The others stay, which the old workers of the peers do not let them: they come
/// again, as every client does.
fn certificates_change_under_load(make: Make) {
    let upstream = Upstream::application();
    let front = secure(&upstream).start(make);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let config = http1();
    let anew = || open(&front, &config).expect("a connection");
    let ask = |conn: &mut TlsConn| conn.get("g.test", "/").ok();
    let client = |stays: bool| {
        let mut kept = anew();
        while !stop.load(Ordering::Relaxed) {
            if !stays {
                kept = anew();
            }
            let mut status = ask(&mut kept);
            if status.is_none() && stays && make != Make::Portcullis {
                kept = anew();
                status = ask(&mut kept);
            }
            assert_eq!(status, Some(200));
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    let client = &client;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|number| scope.spawn(move || client(number % 2 == 0)))
            .collect();
        let stops = Stops(&stop);
        for _ in 0..3 {
            let new = write_both(&front.work.home.path(""), "g", &["g.test"]);
            front.reload();
            eventually("the new certificate is shown", || {
                // One that has nothing to resume.
                open(&front, &http1()).is_some_and(|conn| conn.certificate() == new)
            });
            let before = served.load(Ordering::Relaxed);
            eventually("the clients go on", || {
                served.load(Ordering::Relaxed) > before + 10
            });
        }
        drop(stops);
        for client in clients {
            client.join().unwrap();
        }
    });
}

/// Clients do not go on when the test has failed.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn clients_have_to_show_a_certificate(make: Make) {
    let upstream = Upstream::application();
    let issuer = ClientIssuer::new("clients");
    let mut work = secure(&upstream);
    std::fs::write(work.home.path("clients.pem"), issuer.pem()).unwrap();
    work.asks_clients = true;
    let front = work.start(make);
    let stranger = ClientIssuer::new("clients");
    const TELLS: &str = "it shakes hands with everybody, and answers with 400";
    let refused = || usually(None).but(Nginx, Some(400), TELLS);
    for version in [&TLS12, &TLS13] {
        let of = |issuer: &ClientIssuer| issuer.client("alice", &["http/1.1"], &[version]);
        for (config, expected) in [
            (of(&issuer), usually(Some(200))),
            (client(&["http/1.1"], &[version]), refused()),
            (of(&stranger), refused()),
        ] {
            let status = open(&front, &config).and_then(|mut conn| conn.get("g.test", "/").ok());
            expected.assert(make, &status, &format!("{version:?}"));
        }
    }
    let status = open(&front, &issuer.expired_client("alice"))
        .and_then(|mut conn| conn.get("g.test", "/").ok());
    refused().assert(make, &status, "expired");
    let nameless = TlsConn::open(front.address, "127.0.0.1", &http1());
    let status = nameless
        .ok()
        .and_then(|mut conn| conn.get("127.0.0.1", "/").ok());
    refused().assert(make, &status, "whatever host is named, or none");
    assert_eq!(upstream.requests(), 2);
}

fn plain_text_is_no_handshake(make: Make) {
    let upstream = Upstream::application();
    let front = secure(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
    let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
    let told = usually(None).but(Nginx, Some("HTTP/1.1 400"), "it answers in plain text");
    let found = rest.starts_with("HTTP/1.1").then(|| &rest[..12]);
    told.assert(make, &found, "plain text");
    assert_eq!(upstream.requests(), 0);
    assert!(open(&front, &http1()).is_some());
}

fn everybody_is_sent_to_tls(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream).at(&[Listener::Redirect, Listener::Tls]);
    work.certify("g", &["g.test"]);
    let front = work.start(make);
    for (request, location) in [
        ("GET / HTTP/1.1\r\nhost: g.test", "/"),
        ("GET /a?b=c&d HTTP/1.1\r\nhost: evil.test", "/a?b=c&d"),
        (
            "POST /a HTTP/1.1\r\nhost: g.test\r\ncontent-length: 0",
            "/a",
        ),
        (
            "GET /@evil.test HTTP/1.1\r\nhost: g.test\r\nx-forwarded-host: evil.test",
            "/@evil.test",
        ),
    ] {
        let mut conn = Conn::to(front.address);
        conn.send(format!("{request}\r\n\r\n"));
        let answer = conn.answer();
        assert_eq!(answer.status, 308, "{request}");
        let expected = format!("https://g.test{location}");
        assert_eq!(answer.header("location"), Some(&*expected), "{request}");
    }
    assert_eq!(upstream.requests(), 0);
    let mut conn = TlsConn::open(front.address_of(1), "g.test", &http1()).unwrap();
    assert_eq!(conn.get("g.test", "/").unwrap(), 200);
}
