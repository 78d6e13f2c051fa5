//! Bodies: as long as they like, both ways, at the pace of the slower side.

use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::support::{Conn, Gateway, Home, Upstream, header, only_app};

fn gateway(upstream: &Upstream) -> (Home, Gateway) {
    let home = Home::new(&only_app(upstream.address));
    let gateway = home.start();
    (home, gateway)
}

#[test]
fn trailers_go_both_ways_without_what_is_not_theirs_to_say() {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        let body = peer.body(head);
        tell.send(String::from_utf8(body).unwrap()).unwrap();
        peer.send(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-user-id\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 2\r\n\
             x-user-id: evil\r\nset-cookie: sAccessToken=evil\r\nfront-token: evil\r\ncontent-length: 9\r\n\r\n",
        )
    });
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    conn.send(
        "POST /hook HTTP/1.1\r\nhost: g.test\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-user-id\r\n\r\n\
         2\r\nhi\r\n0\r\nx-sum: 1\r\nx-user-id: evil\r\nX_User_Id: evil\r\nhost: evil\r\ncontent-length: 9\r\n\r\n",
    );
    let answer = conn.answer();
    assert_eq!(told.recv().unwrap(), "2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n");
    assert_eq!(answer.text(), "hi");
    assert_eq!(answer.trailers, "x-sum: 2\r\n");
    assert_eq!(header(&upstream.only_head(), "te"), Some("trailers"));
    // The connection is in step.
    conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(conn.answer().status, 200);
}

const LARGE: usize = 200 * 1024 * 1024;
const PIECE: usize = 64 * 1024;

/// What memory may grow by for one large body, whatever its size.
const ALLOWED_KIB: u64 = 32 * 1024;

#[test]
fn a_large_download_waits_for_its_reader() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n"
        ));
        (0..LARGE / PIECE).all(|_| peer.send([b'x'; PIECE]))
    });
    let (_home, gateway) = gateway(&upstream);
    gateway.status("/private", "");
    let before = gateway.resident_kib(false);
    let mut conn = gateway.connect();
    conn.send("GET /public/ HTTP/1.1\r\nhost: g.test\r\n\r\n");
    conn.head().unwrap();
    // Long enough for a gateway that does not wait to have taken all of it.
    thread::sleep(Duration::from_millis(700));
    let mut read = conn.exactly(PIECE).unwrap().len();
    let mut buffer = vec![0; PIECE];
    while read < LARGE {
        let count = conn.read_some(&mut buffer);
        assert_ne!(count, 0, "it broke off at {read}");
        read += count;
    }
    let after = gateway.resident_kib(true);
    assert!(after < before + ALLOWED_KIB, "{before} KiB, {after} KiB");
    assert_eq!(read, LARGE);
}

#[test]
fn a_large_upload_waits_for_its_reader() {
    let upstream = Upstream::scripted(|peer, _| {
        thread::sleep(Duration::from_millis(700));
        let mut left = LARGE;
        while left > 0 {
            let count = peer.skim(left);
            if count == 0 {
                return false;
            }
            left -= count;
        }
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfull")
    });
    let (_home, gateway) = gateway(&upstream);
    gateway.status("/private", "");
    let before = gateway.resident_kib(false);
    let mut conn = gateway.connect();
    conn.send(format!(
        "POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: {LARGE}\r\n\r\n"
    ));
    for _ in 0..LARGE / PIECE {
        conn.send([b'x'; PIECE]);
    }
    assert_eq!(conn.answer().text(), "full");
    let after = gateway.resident_kib(true);
    assert!(after < before + ALLOWED_KIB, "{before} KiB, {after} KiB");
}

#[test]
fn an_answer_that_comes_before_its_request_is_read_is_passed_on() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!");
        peer.finish();
        false
    });
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    conn.send("POST /hook HTTP/1.1\r\nhost: g.test\r\ncontent-length: 100000000\r\n\r\n");
    let mut writer = conn.writer();
    let sending = thread::spawn(move || {
        // The gateway closes under it.
        (0..1000).all(|_| writer.write_all(&[b'x'; 100_000]).is_ok())
    });
    let answer = conn.answer();
    assert_eq!((answer.status, answer.text()), (413, "no!"));
    drop(conn);
    let _ = sending.join();
    assert_eq!(gateway.status("/private", ""), 401);
}

/// Whether what came is the beginning of an answer that is visibly not whole.
fn is_broken(conn: &mut Conn) -> bool {
    conn.try_answer().is_none()
}

/// With 1.0 the end of the connection is the end of the answer, so that only a reset can tell that it broke off.
#[test]
fn an_answer_that_breaks_off_in_http_1_0_is_cut_short() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello");
        false
    });
    let (_home, gateway) = gateway(&upstream);
    let mut conn = gateway.connect();
    conn.send("GET /public/ HTTP/1.0\r\nhost: g.test\r\n\r\n");
    assert!(is_broken(&mut conn));
}
