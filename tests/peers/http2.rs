//! HTTP/2 from clients and to servers: what is translated, what passes, what is refused.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fronts::Make::{self, HaProxy, Nginx};
use crate::fronts::{Front, Listener, Work, usually};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, block, frame, get,
};
use crate::support::http2::{ask, connect, connect_by_tls, extended_connect, request, run};
use crate::support::{Upstream, header, timed};

cases! {
    a_request_is_translated: portcullis, nginx, haproxy;
    over_tls_it_is_the_same: portcullis, nginx, haproxy;
    many_requests_share_a_connection: portcullis, nginx, haproxy;
    a_body_without_a_length_is_chunked: portcullis, nginx, haproxy;
    trailers_become_trailers: portcullis, nginx, haproxy;
    calls_of_grpc_pass_to_a_server_that_speaks_it: portcullis, haproxy;
    a_websocket_on_a_stream_is_byte_exact: portcullis, haproxy;
    each_event_is_passed_on_when_it_comes: portcullis, nginx, haproxy;
    a_connection_at_rest_is_closed: portcullis, nginx, haproxy;
    malformed_requests_are_refused: portcullis, nginx, haproxy;
    an_answer_that_breaks_off_resets_its_stream: portcullis, nginx, haproxy;
    the_end_is_told_and_requests_are_finished: portcullis, nginx, haproxy;
}

pub fn start(upstream: &Upstream, make: Make) -> Front {
    Work::to(upstream).at(&[Listener::Http2]).start(make)
}

fn a_request_is_translated(make: Make) {
    let upstream = Upstream::answering(
        "HTTP/1.1 203 Very Fine\r\nconnection: x-mine\r\nkeep-alive: timeout=5\r\nx-dup: 1\r\nx-dup: 2\r\ncontent-length: 2\r\n\r\nhi",
    );
    let front = start(&upstream, make);
    run(async {
        let mut client = connect(front.address).await;
        let headers = [
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("te", "trailers"),
            ("x-dup", "1"),
            ("x-dup", "2"),
        ];
        let asked = request(Method::GET, "/a%20b?c=d", &headers, "");
        let (answer, body) = ask(&mut client, asked).await;
        assert_eq!((answer.status().as_u16(), &*body), (203, "hi"));
        let dup: Vec<_> = answer.headers().get_all("x-dup").iter().collect();
        assert_eq!(dup, ["1", "2"]);
    });
    let head = upstream.only_head();
    assert!(head.starts_with("GET /a%20b?c=d HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("g.test"));
    assert_eq!(header(&head, "cookie"), Some("a=1; b=2"));
    assert_eq!(header(&head, "x-forwarded-proto"), Some("http"));
    assert!(
        head.to_lowercase().contains("x-dup: 1\r\nx-dup: 2\r\n"),
        "{head}"
    );
}

fn over_tls_it_is_the_same(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream).at(&[Listener::Tls]);
    work.certify("g", &["g.test"]);
    let front = work.start(make);
    run(async {
        let mut client = connect_by_tls(front.address).await;
        let (answer, body) = ask(&mut client, request(Method::GET, "/", &[], "")).await;
        assert_eq!((answer.status().as_u16(), &*body), (200, "nobody"));
    });
    let head = upstream.only_head();
    assert_eq!(header(&head, "x-forwarded-proto"), Some("https"), "{head}");
}

fn many_requests_share_a_connection(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        let body = peer.body(head);
        let length = body.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: {length}\r\n\r\n"
        ));
        peer.send(body)
    });
    let front = start(&upstream, make);
    run(async {
        let client = connect(front.address).await;
        let asking = (0..90_usize).map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let body = "x".repeat(number * 100);
                let headers = [("content-length", &*body.len().to_string())];
                let asked = request(Method::POST, "/", &headers, &body);
                let (answer, came) = ask(&mut client, asked).await;
                assert_eq!(answer.status(), 200);
                assert_eq!(came.len(), body.len());
            })
        });
        for asked in asking.collect::<Vec<_>>() {
            asked.await.unwrap();
        }
    });
}

/// What HTTP/2 need not say in advance, HTTP/1.1 has to frame.
fn a_body_without_a_length_is_chunked(make: Make) {
    let (tell, told) = mpsc::channel();
    let upstream = Upstream::scripted(move |peer, head| {
        tell.send(peer.body(head)).unwrap();
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    });
    let front = start(&upstream, make);
    let mut conn = Frames::open(front.address);
    conn.send(&frame(HEADERS, END_HEADERS, 1, &post(&[])));
    conn.send(&frame(DATA, 0, 1, b"hel"));
    thread::sleep(Duration::from_millis(50));
    conn.send(&frame(DATA, END_STREAM, 1, b"lo"));
    assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
    let body = String::from_utf8(told.recv().unwrap()).unwrap();
    let head = upstream.only_head();
    assert!(header(&head, "transfer-encoding").is_some(), "{head}");
    assert_eq!(header(&head, "content-length"), None, "{head}");
    let pieces: Vec<&str> = body.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(pieces.concat(), "hello", "{body}");
}

fn post<'a>(more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "g.test"),
    ];
    block(&[&usual, more].concat())
}

fn trailers_become_trailers(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        peer.body(head);
        let announced = match head.contains("/announced") {
            true => "trailer: grpc-status\r\n",
            false => "",
        };
        peer.send(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{announced}\r\n2\r\nhi\r\n0\r\ngrpc-status: 0\r\n\r\n"
        ))
    });
    let front = start(&upstream, make);
    run(async {
        let mut client = connect(front.address).await;
        for path in ["/announced", "/sudden"] {
            let asked = request(Method::GET, path, &[], "");
            let answer = client.send_request(asked).await.unwrap();
            let body = answer.into_body().collect().await.unwrap();
            let trailers = body.trailers().cloned();
            let status = trailers.and_then(|trailers| trailers.get("grpc-status").cloned());
            let status = status.as_ref().map(|status| status.to_str().unwrap());
            let forgets = "nginx 1.22 reads trailers and forgets them";
            let expected = usually(Some("0")).but(Nginx, None, forgets);
            expected.assert(make, &status, path);
            assert_eq!(body.to_bytes(), "hi");
        }
    });
}

/// Speaks HTTP/2 alone, without TLS: sends each body back, and says in a trailer how long it was, and what trailer came.
fn h2_server() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service_fn(echo_call)),
                );
            }
        });
    });
    address
}

type Frames2 = Vec<Result<Frame<Bytes>, Infallible>>;

async fn echo_call(
    request: Request<Incoming>,
) -> Result<
    Response<
        StreamBody<
            futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>,
        >,
    >,
    hyper::Error,
> {
    assert_eq!(request.version(), Version::HTTP_2);
    let body = request.into_body().collect().await?;
    let came = body
        .trailers()
        .and_then(|trailers| trailers.get("x-sum").cloned());
    let bytes = body.to_bytes();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    if let Some(came) = came {
        trailers.insert("x-sum", came);
    }
    let frames: Frames2 = vec![Ok(Frame::data(bytes)), Ok(Frame::trailers(trailers))];
    let mut answer = Response::new(StreamBody::new(futures_util::stream::iter(frames)));
    answer
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    Ok(answer)
}

fn calls_of_grpc_pass_to_a_server_that_speaks_it(make: Make) {
    let mut work = Work::to_servers(&[h2_server()]).at(&[Listener::Http2]);
    work.servers_http2 = true;
    let front = work.start(make);
    run(async {
        let mut client = connect(front.address).await;
        for _ in 0..3 {
            let headers = [("te", "trailers"), ("content-type", "application/grpc")];
            let asked = request(Method::POST, "/a.Service/Call", &headers, "\0\0\0\0\u{2}hi");
            let answer = client.send_request(asked).await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "application/grpc");
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(body.to_bytes(), "\0\0\0\0\u{2}hi");
        }
    });
    let mut conn = Frames::open(front.address);
    let flags = END_HEADERS;
    conn.send(&frame(HEADERS, flags, 1, &post(&[("te", "trailers")])));
    conn.send(&frame(DATA, 0, 1, b"hi"));
    conn.send(&frame(
        HEADERS,
        flags | END_STREAM,
        1,
        &block(&[("x-sum", "2")]),
    ));
    assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
    let trailers = conn.next_of(&[HEADERS]).unwrap();
    assert!(trailers.flags & END_STREAM != 0);
}

fn a_websocket_on_a_stream_is_byte_exact(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        let Some(key) = header(head, "sec-websocket-key") else {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
        };
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        peer.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        ));
        while let Some(byte) = peer.exactly(1) {
            peer.send(byte);
        }
        peer.send("over");
        false
    });
    let front = start(&upstream, make);
    run(async {
        let mut client = connect(front.address).await;
        // The client has to have seen that the front can do it.
        ask(&mut client, request(Method::GET, "/", &[], "")).await;
        let headers = [
            ("sec-websocket-protocol", "chat"),
            ("origin", "http://g.test"),
        ];
        let answer = client
            .send_request(extended_connect("/ws?x=1", &headers))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        let head = upstream.heads().pop().unwrap();
        assert!(head.starts_with("GET /ws?x=1 HTTP/1.1\r\n"), "{head}");
        let upgrade = header(&head, "upgrade").map(str::to_lowercase);
        assert_eq!(upgrade.as_deref(), Some("websocket"));
        let mut socket = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        let bytes: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
        for piece in [&b"\x81\x85\x01\x02\x03\x04hello"[..], b"\xff\x00", &bytes] {
            let mut came = vec![0; piece.len()];
            let (mut reading, mut writing) = tokio::io::split(&mut socket);
            let (wrote, read) =
                tokio::join!(writing.write_all(piece), reading.read_exact(&mut came));
            wrote.unwrap();
            read.unwrap();
            assert!(came == piece);
        }
        socket.shutdown().await.unwrap();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"over");
    });
}

fn each_event_is_passed_on_when_it_comes(make: Make) {
    let (go_on, may_go_on) = mpsc::channel();
    let may_go_on = Mutex::new(may_go_on);
    let upstream = Upstream::scripted(move |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
        while may_go_on.lock().unwrap().recv().is_ok() {
            peer.send("b\r\ndata: one\n\n\r\n");
        }
        peer.rest();
        false
    });
    let front = start(&upstream, make);
    let mut conn = Frames::open(front.address);
    let flags = END_HEADERS | END_STREAM;
    conn.send(&frame(HEADERS, flags, 1, &get("/", &[])));
    assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
    for _ in 0..3 {
        go_on.send(()).unwrap();
        let event = conn.next_of(&[DATA, RST_STREAM]).unwrap();
        assert_eq!(event.payload, b"data: one\n\n");
    }
}

fn a_connection_at_rest_is_closed(make: Make) {
    let upstream = Upstream::application();
    let mut work = Work::to(&upstream).at(&[Listener::Http2]);
    work.keep_alive_timeout = Duration::from_millis(800);
    let front = work.start(make);
    let mut conn = Frames::open(front.address);
    let flags = END_HEADERS | END_STREAM;
    conn.send(&frame(HEADERS, flags, 1, &get("/", &[])));
    assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
    let (_, took) = timed(|| while conn.next().is_some() {});
    assert!(took >= Duration::from_millis(600), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// What has no form in HTTP/2, or would have another one in HTTP/1.1 (RFC 9113 sections 8.1 to 8.3).
fn malformed_requests_are_refused(make: Make) {
    let usual = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "g.test"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&usual[..], more].concat();
    let instead = |name: &'static str, value: &'static str| {
        usual
            .map(|field| match field.0 == name {
                true => (name, value),
                false => field,
            })
            .to_vec()
    };
    const ANY_FIELD: &str = "it takes it for a field as any other";
    let rows = vec![
        (with(&[("x", "a\r\nx-user-id: mallory")]), usually(false)),
        (with(&[("x", "a\nb")]), usually(false)),
        (with(&[("x", "a\0b")]), usually(false)),
        (with(&[("x\r\ny", "a")]), usually(false)),
        (with(&[("X", "a")]), usually(false)),
        (with(&[("", "a")]), usually(false)),
        (with(&[("x y", "a")]), usually(false)),
        (
            with(&[("connection", "close")]),
            usually(false).but(Nginx, true, ANY_FIELD),
        ),
        (
            with(&[("transfer-encoding", "chunked")]),
            usually(false).but(Nginx, true, ANY_FIELD),
        ),
        (
            with(&[("upgrade", "websocket")]),
            usually(false).but(Nginx, true, ANY_FIELD),
        ),
        (
            with(&[("keep-alive", "1")]),
            usually(false).but(Nginx, true, ANY_FIELD),
        ),
        (
            with(&[("proxy-connection", "close")]),
            usually(false).but(Nginx, true, ANY_FIELD),
        ),
        (
            with(&[("te", "gzip")]),
            usually(false).but(Nginx, true, ANY_FIELD),
        ),
        (
            with(&[("host", "other.test")]),
            usually(false).but(HaProxy, true, "it takes :authority, and forgets the other"),
        ),
        (
            with(&[("content-length", "5")]),
            usually(false).but(HaProxy, true, "it forgets the length of what has no body"),
        ),
        (with(&[("content-length", "x")]), usually(false)),
        (with(&[(":path", "/other")]), usually(false)),
        (with(&[("x", "y"), (":scheme", "http")]), usually(false)),
        (with(&[(":status", "200")]), usually(false)),
        (with(&[(":other", "x")]), usually(false)),
        (instead(":path", "/a b"), usually(false)),
        (instead(":path", ""), usually(false)),
        (instead(":path", "public/"), usually(false)),
        (instead(":path", "/ HTTP/1.1\r\nx: y"), usually(false)),
        (instead(":method", "GE T"), usually(false)),
        (instead(":method", "GET / HTTP/1.1\r\nx: y"), usually(false)),
        (instead(":authority", "g.test\r\nx: y"), usually(false)),
        (usual[1..].to_vec(), usually(false)),
        ([usual[0], usual[2], usual[3]].to_vec(), usually(false)),
        ([usual[0], usual[1], usual[3]].to_vec(), usually(false)),
        (with(&[]), usually(true)),
    ];
    let upstream = Upstream::application();
    let front = start(&upstream, make);
    let mut differences = Vec::new();
    for (fields, is_served) in rows {
        let before = upstream.requests();
        let mut conn = Frames::open(front.address);
        conn.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            &block(&fields),
        ));
        let answer = conn.next_of(&[HEADERS, RST_STREAM, GOAWAY]);
        let status = answer.and_then(|answer| (answer.kind == HEADERS).then(|| answer.status())?);
        let reached = upstream.requests() > before;
        assert_eq!(
            reached,
            status == Some(200),
            "{fields:?}: {:?}",
            upstream.heads()
        );
        if let Some(difference) = is_served.difference(make, &reached) {
            differences.push(format!(
                "{fields:?}: {difference}: {:?}",
                upstream.heads().pop()
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn an_answer_that_breaks_off_resets_its_stream(make: Make) {
    let upstream = Upstream::scripted(|peer, head| {
        if head.starts_with("GET /whole ") {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi");
        }
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        false
    });
    let front = start(&upstream, make);
    let mut conn = Frames::open(front.address);
    let flags = END_STREAM | END_HEADERS;
    conn.send(&frame(HEADERS, flags, 1, &get("/", &[])));
    let is_reset = loop {
        let next = conn.next_of(&[HEADERS, DATA, RST_STREAM]).unwrap();
        match next.kind {
            RST_STREAM => break true,
            _ if next.flags & END_STREAM != 0 => break false,
            _ => {}
        }
    };
    let expected = usually(true).but(
        HaProxy,
        false,
        "it ends the stream as if the answer were whole",
    );
    expected.assert(make, &is_reset, "half an answer");
    conn.send(&frame(HEADERS, flags, 3, &get("/whole", &[])));
    let next = conn.next_of(&[HEADERS]).unwrap();
    assert_eq!(next.status(), Some(200), "the connection goes on");
}

fn the_end_is_told_and_requests_are_finished(make: Make) {
    let upstream = Upstream::scripted(|peer, _| {
        thread::sleep(Duration::from_millis(600));
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
    });
    let mut work = Work::to(&upstream).at(&[Listener::Http2]);
    // HAProxy lets the connection rest for that long even then.
    work.write_timeout = Duration::from_secs(2);
    let mut front = work.start(make);
    let mut conn = Frames::open(front.address);
    conn.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &get("/", &[])));
    upstream.has_seen(1);
    front.stop();
    let (mut told, mut answered) = (false, false);
    while let Some(came) = conn.next() {
        told |= came.kind == GOAWAY && came.error() == 0;
        answered |= came.kind == HEADERS && came.status() == Some(200);
        if came.kind == PING && came.flags == 0 {
            conn.send(&frame(PING, 1, 0, &came.payload));
        }
    }
    assert!(told && answered, "{told} {answered}");
    front.has_ended();
}
