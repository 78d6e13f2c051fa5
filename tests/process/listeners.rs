//! Socket files, sockets of systemd, redirects, and who a balancer says the client is.

use std::fmt::Write;
use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use crate::support::peers::HaProxy;
use crate::support::tls::write_certificate;
use crate::support::{Conn, Gateway, Home, Upstream, header, only_app, program, timed};

/// A home with one more listener than the usual one.
fn home(upstream: &Upstream, listener: &str) -> Home {
    Home::new(&format!(
        "[[server.listener]]\n{listener}\n{}",
        only_app(upstream.address)
    ))
}

/// The answer to a request through a socket file.
fn ask(path: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const LAST: &str = "GET /public/ HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n";

#[test]
fn a_socket_file_is_served_by_every_worker_and_goes_with_the_gateway() {
    let upstream = Upstream::application();
    let home = home(
        &upstream,
        "address = \"unix:p.sock\"\nsocket_mode = \"0666\"",
    );
    let path = home.path("p.sock");
    // What a gateway that was killed leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let mut gateway = home.start();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o666);
    for _ in 0..20 {
        assert!(ask(&path, LAST).starts_with("HTTP/1.1 200 "));
    }
    let head = &upstream.heads()[0];
    assert_eq!(header(head, "x-forwarded-for"), Some("127.0.0.1"));
    let other = home.fail_to_start();
    assert!(other.stderr.contains("cannot listen on"), "{other:?}");
    assert!(
        ask(&path, LAST).starts_with("HTTP/1.1 200 "),
        "the first one still listens"
    );
    gateway.signal("TERM");
    assert!(gateway.ended().success());
    assert!(!path.exists());
}

/// As systemd does it: the socket is open already, at descriptor 3.
#[test]
fn a_socket_of_systemd_is_taken_over() {
    const HAND_OVER: &str = "import fcntl, os, socket, sys\n\
        s = socket.create_server(('127.0.0.1', 0)); u = socket.socket(socket.AF_UNIX)\n\
        u.bind('handed.sock'); u.listen(16)\n\
        s, u = (fcntl.fcntl(x.detach(), fcntl.F_DUPFD, 10) for x in (s, u)); os.dup2(s, 3); os.dup2(u, 4)\n\
        os.environ.update(LISTEN_FDS='2', LISTEN_PID=str(os.getpid()))\n\
        os.execv(sys.argv[1], sys.argv[1:])";
    let upstream = Upstream::application();
    let home = home(&upstream, "address = \"systemd:1\"");
    let text = std::fs::read_to_string(home.config()).unwrap();
    let text = text.replacen("listen = \"127.0.0.1:0\"", "listen = \"systemd:0\"", 1);
    std::fs::write(home.config(), text).unwrap();
    let folder = home.path("");
    let mut command = program(&folder);
    let mut by_python = Command::new("/usr/bin/python3");
    by_python
        .current_dir(&folder)
        .env_clear()
        .args(["-c", HAND_OVER])
        .arg(command.get_program())
        .args(["serve", "--config"])
        .arg(home.config())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    std::mem::swap(&mut command, &mut by_python);
    let gateway = Gateway::start(command);
    for _ in 0..8 {
        assert_eq!(gateway.status("/public/", ""), 200);
        assert!(ask(&home.path("handed.sock"), LAST).starts_with("HTTP/1.1 200 "));
    }
    drop(gateway);
    let without = home.fail_to_start();
    assert!(
        without
            .stderr
            .contains("cannot take over socket 0 of systemd"),
        "{without:?}"
    );
}

#[test]
fn a_redirect_leads_to_the_public_url_and_nowhere_else() {
    let upstream = Upstream::application();
    let home = Home::new("");
    write_certificate(&home.path(""), "g", &["g.test"]);
    let text = format!(
        "[server]\npublic_url = \"https://g.test:8443\"\n[server.tls]\ncertificate = \"g.pem\"\nkey = \"g.key\"\n\
        [[server.listener]]\naddress = \"127.0.0.1:0\"\nmode = \"redirect\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{}",
        only_app(upstream.address)
    );
    std::fs::write(home.config(), text).unwrap();
    let gateway = home.start();
    for (request, location) in [
        ("GET / HTTP/1.1\r\nhost: g.test", "/"),
        ("GET /a?b=c&d HTTP/1.1\r\nhost: evil.test", "/a?b=c&d"),
        ("GET http://evil.test/x HTTP/1.1\r\nhost: evil.test", "/x"),
        (
            "POST /logout HTTP/1.1\r\nhost: evil.test\r\ncontent-length: 0",
            "/logout",
        ),
        ("GET //evil.test/ HTTP/1.1\r\nhost: g.test", "/evil.test/"),
        (
            "GET /@evil.test HTTP/1.1\r\nhost: g.test\r\nx-forwarded-host: evil.test",
            "/@evil.test",
        ),
    ] {
        let mut conn = gateway.connect();
        conn.send(format!("{request}\r\n\r\n"));
        let answer = conn.answer();
        assert_eq!(answer.status, 308, "{request}");
        let expected = format!("https://g.test:8443{location}");
        assert_eq!(answer.header("location"), Some(&*expected), "{request}");
        assert!(answer.header("strict-transport-security").is_none());
    }
    let mut conn = gateway.connect();
    conn.send("GET /a%0d%0ab HTTP/1.1\r\nhost: g.test\r\n\r\n");
    assert_eq!(conn.answer().status, 400);
    assert_eq!(upstream.requests(), 0);
}

fn from_balancer(upstream: &Upstream, more: &str) -> (Home, Gateway) {
    let home = home(
        upstream,
        "address = \"127.0.0.1:0\"\nproxy_protocol = [\"127.0.0.0/8\"]",
    );
    let mut text = std::fs::read_to_string(home.config()).unwrap();
    // The only listener, so that it is the one that the tests connect to.
    text = text.replacen("listen = \"127.0.0.1:0\"\nworkers", "workers", 1);
    text.write_str(&format!(
        "\n[server.limits]\nhandshake_timeout = \"1s\"\n{more}"
    ))
    .unwrap();
    std::fs::write(home.config(), text).unwrap();
    let gateway = home.start();
    (home, gateway)
}

const VERSION_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x10\0\0\x50";
const VERSION_2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[test]
fn a_balancer_says_who_the_client_is() {
    let upstream = Upstream::application();
    let (_home, gateway) = from_balancer(&upstream, "");
    let request = "GET /public/ HTTP/1.1\r\nhost: g.test\r\nx-forwarded-for: 6.6.6.6\r\n\r\n";
    for (header_line, client) in [
        (
            &b"PROXY TCP4 203.0.113.7 127.0.0.1 4096 80\r\n"[..],
            "203.0.113.7",
        ),
        (b"PROXY TCP6 2001:db8::7 ::1 4096 80\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (VERSION_2, "203.0.113.7"),
        (VERSION_2_LOCAL, "127.0.0.1"),
    ] {
        for pieces in [1, 7, 1000] {
            let mut conn = gateway.connect();
            for piece in [header_line, request.as_bytes()].concat().chunks(pieces) {
                conn.send(piece);
            }
            assert_eq!(conn.answer().status, 200);
            let head = upstream.heads().pop().unwrap();
            assert_eq!(header(&head, "x-forwarded-for"), Some(client));
            // It is said once for all requests of the connection.
            conn.send(request);
            assert_eq!(conn.answer().status, 200);
        }
    }
}

#[test]
fn a_balancer_that_does_not_say_it_is_closed() {
    let upstream = Upstream::application();
    let (_home, gateway) = from_balancer(&upstream, "");
    for beginning in [
        &b"GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n"[..],
        b"PROXY TCP4 203.0.113.7 127.0.0.1 4096 80 x\r\nGET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 127.0.0.1 4096 80\nGET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n",
        b"",
        b"PROXY TCP4 203",
        &VERSION_2[..20],
    ] {
        let mut conn = gateway.connect();
        conn.send(beginning);
        let (rest, took) = timed(|| conn.rest());
        assert_eq!(rest, b"");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    // A second header is part of the request, and none at all.
    let mut conn = gateway.connect();
    conn.send(
        [
            VERSION_2,
            VERSION_2,
            b"GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n",
        ]
        .concat(),
    );
    assert!(String::from_utf8_lossy(&conn.rest()).starts_with("HTTP/1.1 400 "));
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn nobody_else_is_believed() {
    let upstream = Upstream::application();
    let home = home(
        &upstream,
        "address = \"127.0.0.1:0\"\nproxy_protocol = [\"192.0.2.0/24\", \"unix\"]",
    );
    let text = std::fs::read_to_string(home.config()).unwrap();
    std::fs::write(
        home.config(),
        text.replacen("listen = \"127.0.0.1:0\"\nworkers", "workers", 1),
    )
    .unwrap();
    let gateway = home.start();
    assert_eq!(gateway.status("/public/", ""), 200);
    for header_line in [
        &b"PROXY TCP4 203.0.113.7 127.0.0.1 4096 80\r\n"[..],
        VERSION_2,
    ] {
        let mut conn = gateway.connect();
        conn.send(
            [
                header_line,
                b"GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n",
            ]
            .concat(),
        );
        let rest = conn.rest();
        assert!(
            String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 400 "),
            "{rest:?}"
        );
    }
    assert_eq!(upstream.requests(), 1);
}

#[test]
fn an_address_opens_so_many_connections_over_all_workers() {
    let upstream = Upstream::application();
    let (_home, gateway) = from_balancer(&upstream, "connections_per_address = 3");
    let open = |client: &str| -> Option<Conn> {
        let mut conn = gateway.connect();
        conn.send(format!("PROXY TCP4 {client} 127.0.0.1 4096 80\r\n"));
        let answer = conn.get("/public/", "");
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        (answer.status == 200).then_some(conn)
    };
    let mut first: Vec<Conn> = (0..3).map(|_| open("203.0.113.7").unwrap()).collect();
    for _ in 0..8 {
        assert!(open("203.0.113.7").is_none());
    }
    let _other: Vec<Conn> = (0..3).map(|_| open("203.0.113.8").unwrap()).collect();
    for conn in &mut first {
        assert_eq!(conn.get("/public/", "").status, 200);
    }
    first.pop();
    crate::support::eventually("a place comes free", || open("203.0.113.7").is_some());
}

/// What a balancer of others writes is what is read; its connections come from a source of their own, to tell them apart.
#[test]
fn haproxy_is_understood() {
    let upstream = Upstream::application();
    let (_home, gateway) = from_balancer(&upstream, "");
    for version in [
        "send-proxy source 127.0.0.9",
        "send-proxy-v2 source 127.0.0.9",
    ] {
        let haproxy = HaProxy::before(gateway.address, version);
        let mut conn = Conn::to(haproxy.address);
        for _ in 0..2 {
            assert_eq!(conn.get("/public/", "").status, 200, "{version}");
            let head = upstream.heads().pop().unwrap();
            assert_eq!(
                header(&head, "x-forwarded-for"),
                Some("127.0.0.1"),
                "{version}"
            );
        }
    }
}
