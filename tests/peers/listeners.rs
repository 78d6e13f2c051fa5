//! Socket files, balancers that say who the client is, and whom of those in front to believe.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Listener, Work, usually};
use crate::support::{Conn, Upstream, eventually, header};

cases! {
    a_socket_file_is_served: portcullis, nginx, haproxy;
    a_balancer_says_who_the_client_is: portcullis, nginx, haproxy;
    a_balancer_that_does_not_say_it_is_closed: portcullis, nginx, haproxy;
    the_last_address_that_is_not_trusted_is_the_client: portcullis, nginx, haproxy;
    nobody_else_says_who_the_client_is: portcullis, nginx, haproxy;
}

fn a_socket_file_is_served(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream)
        .at(&[Listener::Plain, Listener::File])
        .start(make);
    let path = front.work.home.path("front.sock");
    eventually("the file is there", || UnixStream::connect(&path).is_ok());
    for _ in 0..4 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(front.get("/").status, 200);
    assert_eq!(upstream.requests(), 5);
}

const VERSION_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x10\0\0\x50";
const VERSION_2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: g.test\r\n\r\n";

const LAST: &[u8] = b"GET / HTTP/1.1\r\nhost: g.test\r\nconnection: close\r\n\r\n";

fn a_balancer_says_who_the_client_is(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).at(&[Listener::Balanced]).start(make);
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
        let mut conn = Conn::to(front.address);
        conn.send([header_line, REQUEST].concat());
        assert_eq!(conn.answer().status, 200);
        let head = upstream.heads().pop().unwrap();
        assert_eq!(header(&head, "x-forwarded-for"), Some(client));
        // It is said once for all requests of the connection.
        conn.send(REQUEST);
        assert_eq!(conn.answer().status, 200);
        let head = upstream.heads().pop().unwrap();
        assert_eq!(header(&head, "x-forwarded-for"), Some(client));
    }
}

fn a_balancer_that_does_not_say_it_is_closed(make: Make) {
    let upstream = Upstream::application();
    let front = Work::to(&upstream).at(&[Listener::Balanced]).start(make);
    let mut differences = String::new();
    for (beginning, answer) in [
        (&b""[..], usually("")),
        (b"PROXY TCP4 203.0.113.7 127.0.0.1 4096 80\n", usually("")),
        (
            b"PROXY TCP4 203.0.113.777 127.0.0.1 4096 80\r\n",
            usually("")
                .but(
                    Nginx,
                    "HTTP/1.1 200",
                    "it looks at an address when it needs it",
                )
                .but(
                    HaProxy,
                    "HTTP/1.1 200",
                    "it takes any number for a part of an address",
                ),
        ),
        (b"PROXY TCP5 203.0.113.7 127.0.0.1 4096 80\r\n", usually("")),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xcb\0\x71\x07\x7f\0\0\x01\x10\0\0\x50",
            usually(""),
        ),
    ] {
        let mut conn = Conn::to(front.address);
        conn.send([beginning, LAST].concat());
        let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
        if let Some(difference) = answer.difference(make, &&rest[..rest.len().min(12)]) {
            let beginning = String::from_utf8_lossy(beginning);
            writeln!(differences, "{beginning:?}: {difference}").unwrap();
        }
    }
    assert!(differences.is_empty(), "{differences}");
    let before = upstream.requests();
    // A second header is part of the request, and none at all.
    let mut conn = Conn::to(front.address);
    conn.send([VERSION_2, VERSION_2, LAST].concat());
    let rest = String::from_utf8_lossy(&conn.rest()).into_owned();
    assert!(rest.starts_with("HTTP/1.1 400 "), "{rest}");
    assert_eq!(upstream.requests(), before);
}

fn told(make: Make, trusted: Vec<&'static str>, said: &str) -> String {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream);
    work.trusted_proxies = trusted;
    let front = work.start(make);
    let answer = front.ask(&format!(
        "GET / HTTP/1.1\r\nhost: g.test\r\nx-forwarded-for: {said}\r\n\r\n"
    ));
    assert_eq!(answer.status, 200);
    let head = upstream.only_head();
    header(&head, "x-forwarded-for").unwrap().to_owned()
}

fn the_last_address_that_is_not_trusted_is_the_client(make: Make) {
    for (said, client) in [
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7, 10.1.1.1", "192.0.2.7"),
        ("6.6.6.6,192.0.2.7 ,10.1.1.1,10.1.1.2", "192.0.2.7"),
        ("2001:db8::7, 10.1.1.1", "2001:db8::7"),
        (
            "6.6.6.6\r\nx-forwarded-for: 192.0.2.7, 10.1.1.1",
            "192.0.2.7",
        ),
    ] {
        let found = told(make, vec!["127.0.0.0/8", "10.0.0.0/8"], said);
        assert_eq!(found, client, "{said}");
    }
}

fn nobody_else_says_who_the_client_is(make: Make) {
    for trusted in [vec![], vec!["10.0.0.0/8"]] {
        let found = told(make, trusted, "192.0.2.7, 10.1.1.1");
        assert_eq!(found, "127.0.0.1");
    }
}
