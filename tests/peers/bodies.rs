//! Bodies of HTTP/1.1: their framing, their pace, and their ends.

use std::io::Write;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Work, usually};
use crate::support::{PATIENCE, Upstream, header};

cases! {
    requests_come_in_every_framing: portcullis, nginx, haproxy;
    answers_come_in_every_framing: portcullis, nginx, haproxy;
    trailers_go_both_ways: portcullis, nginx, haproxy;
    each_event_is_passed_on_when_it_comes: portcullis, nginx, haproxy;
    each_piece_of_a_request_is_passed_on_when_it_comes: portcullis, nginx, haproxy;
    a_conversation_goes_both_ways: portcullis, nginx, haproxy;
    an_answer_before_its_request_is_read_is_passed_on: portcullis, nginx, haproxy;
    an_answer_that_breaks_off_does_not_look_whole: portcullis, nginx, haproxy;
    a_client_that_breaks_off_breaks_off_at_the_upstream_too: portcullis, nginx, haproxy;
    large_bodies_arrive_whole_both_ways: portcullis, nginx, haproxy;
}

fn requests_come_in_every_framing(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        let body = peer.body(head);
        tell.send(String::from_utf8(body).unwrap()).unwrap();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for (lines, body, sent) in [
        ("content-length: 5\r\n", "hello", "hello"),
        ("content-length: 0\r\n", "", ""),
        ("", "", ""),
        (
            "transfer-encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            CHUNKED,
        ),
        (
            "Transfer-Encoding: Chunked\r\n",
            "05;a=b\r\nhello\r\n0\r\n\r\n",
            CHUNKED,
        ),
    ] {
        conn.send(format!(
            "POST / HTTP/1.1\r\nhost: g.test\r\n{lines}\r\n{body}"
        ));
        assert_eq!(conn.answer().status, 200);
        let head = upstream.heads().pop().unwrap();
        let length = header(&head, "content-length");
        let is_chunked = header(&head, "transfer-encoding").is_some();
        let sent = match sent {
            CHUNKED => {
                usually(CHUNKED).but(Nginx, "hello", "it has the whole body, and so its length")
            }
            sent => usually(sent),
        };
        let came = told.recv().unwrap();
        sent.assert(make, &&*came, lines);
        let is_measured =
            (lines.is_empty() || length == Some(&came.len().to_string())) && !is_chunked;
        assert_eq!(is_measured, came != CHUNKED, "{head}");
        assert_eq!(is_chunked, came == CHUNKED, "{head}");
    }
}

const CHUNKED: &str = "5\r\nhello\r\n0\r\n\r\n";

fn answers_come_in_every_framing(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        let path = head.split(' ').nth(1).unwrap();
        match path {
            "/length" => peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"),
            "/chunked" => peer.send(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nh\r\n004;x=y\r\nello\r\n0\r\n\r\n",
            ),
            "/both" => peer.send(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ),
            "/twice" => {
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello");
                false
            }
            "/empty" => peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            "/close" => {
                peer.send("HTTP/1.1 200 OK\r\n\r\nhello");
                false
            }
            _ => {
                peer.send("HTTP/1.0 200 OK\r\n\r\nhello");
                false
            }
        }
    });
    let front = Work::to(&upstream).start(make);
    for (path, status) in [
        ("length", usually(200)),
        ("chunked", usually(200)),
        ("both", usually(200)),
        ("twice", usually(200)),
        ("empty", usually(200)),
        ("close", usually(200)),
        ("http10", usually(200)),
    ] {
        let answer = front.get(&format!("/{path}"));
        status.assert(make, &answer.status, path);
        if answer.status != 200 {
            continue;
        }
        let body = if path == "empty" { "" } else { "hello" };
        assert_eq!(answer.text(), body, "{path}");
        let length = answer.header("content-length");
        assert!(
            length.is_none_or(|length| length == "5"),
            "{path}: {}",
            answer.head
        );
    }
}

fn trailers_go_both_ways(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        let body = peer.body(head);
        tell.send(String::from_utf8(body).unwrap()).unwrap();
        let announced = match head.contains("/announced") {
            true => "trailer: x-sum\r\n",
            false => "",
        };
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{announced}\r\n2\r\nhi\r\n0\r\nx-sum: 2\r\n\r\n"
        ))
    });
    let front = Work::to(&upstream).start(make);
    const DROPS: &str = "nginx 1.22 reads trailers and forgets them";
    for (path, announced, up, down) in [
        (
            "/announced",
            "trailer: x-sum\r\n",
            usually("x-sum: 1\r\n").but(Nginx, "", DROPS),
            usually("x-sum: 2\r\n").but(Nginx, "", DROPS),
        ),
        (
            "/sudden",
            "",
            usually("x-sum: 1\r\n").but(Nginx, "", DROPS),
            usually("").but(
                HaProxy,
                "x-sum: 2\r\n",
                "hyper writes no trailer that was not announced to clients, and so neither do we",
            ),
        ),
    ] {
        let mut conn = front.connect();
        conn.send(format!(
            "POST {path} HTTP/1.1\r\nhost: g.test\r\nte: trailers\r\ntransfer-encoding: chunked\r\n{announced}\r\n\
             2\r\nhi\r\n0\r\nx-sum: 1\r\n\r\n"
        ));
        let answer = conn.answer();
        let body = told.recv().unwrap();
        // With a length, if nobody would say any more.
        let trailers = match body.strip_prefix("2\r\nhi\r\n0\r\n") {
            Some(trailers) => trailers.strip_suffix("\r\n").unwrap(),
            None => body.strip_prefix("hi").unwrap(),
        };
        up.assert(make, &trailers, path);
        assert_eq!(answer.text(), "hi");
        down.assert(make, &&*answer.trailers, path);
        conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(conn.answer().status, 200, "the connection is in step");
        told.recv().unwrap();
    }
}

fn each_event_is_passed_on_when_it_comes(make: Make) {
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::scripted(move |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        for piece in ["one", "two", "six"] {
            may_go_on.lock().unwrap().recv().unwrap();
            peer.send(format!("b\r\ndata: {piece}\n\n\r\n"));
        }
        peer.send("0\r\n\r\n")
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
    conn.head().unwrap();
    for piece in ["one", "two", "six"] {
        go_on.send(()).unwrap();
        conn.up_to_text(&format!("data: {piece}\n\n\r\n")).unwrap();
    }
    assert_eq!(conn.up_to_text("0\r\n\r\n").unwrap(), "0\r\n\r\n");
}

fn each_piece_of_a_request_is_passed_on_when_it_comes(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, _| {
        for piece in ["one", "two", "six"] {
            let came = peer.up_to(piece.as_bytes()).unwrap();
            tell.send(came).unwrap();
        }
        peer.up_to(b"0\r\n\r\n").unwrap();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in ["one", "two", "six"] {
        conn.send(format!("3\r\n{piece}\r\n"));
        told.recv_timeout(PATIENCE)
            .expect("it came, and the next was not sent");
    }
    conn.send("0\r\n\r\n");
    assert_eq!(conn.answer().status, 200);
}

/// The answer has begun, and the request goes on.
fn a_conversation_goes_both_ways(make: Make) {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        for piece in ["one", "two", "six"] {
            peer.up_to(piece.as_bytes()).unwrap();
            peer.send(format!("3\r\n{piece}\r\n"));
        }
        peer.up_to(b"0\r\n\r\n").unwrap();
        peer.send("0\r\n\r\n")
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    for _ in 0..2 {
        conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ntransfer-encoding: chunked\r\n\r\n");
        conn.up_to_text("hello\r\n").unwrap();
        for piece in ["one", "two", "six"] {
            conn.send(format!("3\r\n{piece}\r\n"));
            conn.up_to_text(&format!("{piece}\r\n")).unwrap();
        }
        conn.send("0\r\n\r\n");
        assert_eq!(conn.up_to_text("0\r\n\r\n").unwrap(), "0\r\n\r\n");
    }
    assert_eq!(upstream.requests(), 2);
}

fn an_answer_before_its_request_is_read_is_passed_on(make: Make) {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!");
        while peer.skim(usize::MAX) > 0 {}
        false
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 100000000\r\n\r\n");
    let mut writer = conn.writer();
    let sending = thread::spawn(move || {
        // The front closes under it.
        (0..1000).all(|_| writer.write_all(&[b'x'; 100_000]).is_ok())
    });
    let answer = conn.answer();
    assert_eq!((answer.status, answer.text()), (413, "no!"));
    drop(conn);
    let _ = sending.join();
    assert_eq!(front.get("/").status, 413, "it goes on");
}

fn an_answer_that_breaks_off_does_not_look_whole(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        let path = head.split(' ').nth(1).unwrap();
        peer.send(match path {
            "/length" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
            "/chunked" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "/chunk" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhello",
            "/trailers" => {
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: "
            }
            _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n",
        });
        false
    });
    let front = Work::to(&upstream).start(make);
    for path in ["/length", "/chunked", "/chunk", "/trailers", "/garbage"] {
        let mut conn = front.connect();
        conn.send(format!("GET {path} HTTP/1.1\r\nhost: g.test\r\n\r\n"));
        let answer = conn.try_answer();
        assert!(answer.is_none_or(|answer| answer.status == 502), "{path}");
    }
}

fn a_client_that_breaks_off_breaks_off_at_the_upstream_too(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        if head.starts_with("GET ") {
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            while peer.send("5\r\nhello\r\n") {
                thread::sleep(Duration::from_millis(5));
            }
        } else {
            peer.rest();
        }
        tell.send(()).unwrap();
        false
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send("POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: 100\r\n\r\nhello");
    upstream.has_seen(1);
    drop(conn);
    told.recv_timeout(PATIENCE).unwrap();

    let mut conn = front.connect();
    conn.send("GET / HTTP/1.1\r\nhost: g.test\r\n\r\n");
    conn.up_to_text("hello").unwrap();
    drop(conn);
    told.recv_timeout(PATIENCE).unwrap();
}

fn large_bodies_arrive_whole_both_ways(make: Make) {
    const LENGTH: usize = 3 << 20;
    let bytes: Vec<u8> = (0..LENGTH).map(|position| (position % 251) as u8).collect();
    let upstream = Upstream::scripted(|peer, head| {
        let body = peer.body(head);
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
            body.len()
        ));
        peer.send(body)
    });
    let front = Work::to(&upstream).start(make);
    let mut conn = front.connect();
    conn.send(format!(
        "POST / HTTP/1.1\r\nhost: g.test\r\ncontent-length: {LENGTH}\r\n\r\n"
    ));
    conn.send(&bytes);
    assert!(conn.answer().body == bytes);
}
