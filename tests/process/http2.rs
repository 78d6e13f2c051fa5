//! HTTP/2 from clients: the same stages, the same promises.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::frames::{
    END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, frame, get,
};
use crate::support::http2::{Client, ask, connect, connect_by_tls, extended_connect, request, run};
use crate::support::tls::write_certificate;
use crate::support::{Gateway, Home, Upstream, header, only_app};

/// A gateway that speaks HTTP/2 without TLS too, at the only address that it has.
pub fn with_http2(upstream: &Upstream, more: &str) -> (Home, Gateway) {
    let home = Home::new("");
    let text = format!(
        "[server]\nworkers = 2\n[[server.listener]]\naddress = \"127.0.0.1:0\"\nhttp2 = true\n\
        [admin]\nlisten = \"127.0.0.1:0\"\n{more}\n{}",
        only_app(upstream.address)
    );
    std::fs::write(home.config(), text).unwrap();
    let gateway = home.start();
    (home, gateway)
}

/// Each cookie in a line of its own, as browsers send them.
fn crumbs(answer: &Response<()>) -> Vec<(&'static str, String)> {
    let set = answer.headers().get_all("set-cookie").iter();
    let pair =
        |set: &http::HeaderValue| set.to_str().unwrap().split(';').next().unwrap().to_owned();
    set.map(pair).map(|pair| ("cookie", pair)).collect()
}

fn borrowed<'a>(headers: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    headers
        .iter()
        .map(|(name, value)| (*name, &**value))
        .collect()
}

/// Login, request, refresh, logout.
async fn life_of_a_session(mut client: Client, upstream: &Upstream) {
    let (answer, _) = ask(&mut client, request(Method::POST, "/login?alice", &[], "")).await;
    assert_eq!(answer.status(), 200);
    let cookies = crumbs(&answer);
    assert!(cookies.len() > 1, "{answer:?}");
    let mut headers = borrowed(&cookies);
    headers.extend([
        ("cookie", "theme=dark"),
        ("x-user-id", "mallory"),
        ("te", "trailers"),
    ]);
    let (answer, body) = ask(&mut client, request(Method::GET, "/who", &headers, "")).await;
    assert_eq!((answer.status().as_u16(), &*body), (200, "alice"));
    let head = upstream.heads().pop().unwrap();
    assert!(head.starts_with("GET /who HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some("g.test"));
    assert_eq!(
        header(&head, "cookie"),
        Some("theme=dark"),
        "ours are taken out of one line"
    );
    assert_eq!(header(&head, "x-user-id"), Some("alice"));

    let (answer, _) = ask(
        &mut client,
        request(
            Method::POST,
            "/auth/session/refresh",
            &borrowed(&cookies),
            "",
        ),
    )
    .await;
    assert_eq!(answer.status(), 200);
    let renewed = crumbs(&answer);
    let renewed = borrowed(&renewed);
    let (answer, _) = ask(&mut client, request(Method::POST, "/logout", &renewed, "")).await;
    assert_eq!(answer.status(), 200);
    for headers in [renewed, borrowed(&cookies)] {
        let (answer, _) = ask(&mut client, request(Method::GET, "/who", &headers, "")).await;
        assert_eq!(answer.status(), 401);
    }
}

#[test]
fn a_session_lives_and_ends_over_http2() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "");
    run(async { life_of_a_session(connect(gateway.address).await, &upstream).await });
}

#[test]
fn a_session_lives_and_ends_over_http2_and_tls() {
    let upstream = Upstream::application();
    let home = Home::new("");
    write_certificate(&home.path(""), "g", &["g.test"]);
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"https://g.test\"\n[server.tls]\ncertificate = \"g.pem\"\nkey = \"g.key\"\n\
        hsts = \"365d\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{}",
        only_app(upstream.address)
    );
    std::fs::write(home.config(), text).unwrap();
    let gateway = home.start();
    run(async {
        life_of_a_session(connect_by_tls(gateway.address).await, &upstream).await;
        let mut client = connect_by_tls(gateway.address).await;
        let (answer, _) = ask(&mut client, request(Method::GET, "/public/", &[], "")).await;
        assert_eq!(
            answer.headers()["strict-transport-security"],
            "max-age=31536000"
        );
        let head = upstream.heads().pop().unwrap();
        assert_eq!(header(&head, "x-forwarded-proto"), Some("https"));
        let mut elsewhere = request(Method::GET, "/public/", &[], "");
        *elsewhere.uri_mut() = "https://other.test/public/".parse().unwrap();
        let (answer, _) = ask(&mut client, elsewhere).await;
        assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    });
}

#[test]
fn bodies_and_many_requests_share_a_connection() {
    let upstream = Upstream::scripted(|peer, head| {
        let body = peer.body(head);
        let length = body.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: {length}\r\n\r\n"
        ));
        peer.send(body)
    });
    let (_home, gateway) = with_http2(&upstream, "");
    run(async {
        let client = connect(gateway.address).await;
        let asking = (0..300_usize).map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let body = "x".repeat(number * 100);
                let (answer, came) =
                    ask(&mut client, request(Method::POST, "/hook", &[], &body)).await;
                assert_eq!(answer.status(), 200);
                assert_eq!(came.len(), body.len());
            })
        });
        for asked in asking.collect::<Vec<_>>() {
            asked.await.unwrap();
        }
    });
}

#[test]
fn limits_of_the_head_hold_over_http2() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "[server.limits]\nheader_count = 20");
    run(async {
        let mut client = connect(gateway.address).await;
        for (headers, status) in [
            (vec![("x", "y"); 15], 200),
            (vec![("x", "y"); 25], 431),
            (vec![("cookie", "a=b"); 200], 200),
            (vec![("cookie", "a=b"); 257], 431),
            (vec![("x", &*"y".repeat(17 * 1024))], 431),
        ] {
            let (answer, _) =
                ask(&mut client, request(Method::GET, "/public/", &headers, "")).await;
            assert_eq!(answer.status(), status, "{}", headers.len());
        }
    });
    assert_eq!(upstream.requests(), 2);
}

/// T115: what has no form, and what is injected into the request upstream.
#[test]
fn malformed_requests_are_refused() {
    let upstream = Upstream::application();
    let (_home, gateway) = with_http2(&upstream, "");
    let usual = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/public/"),
        (":authority", "g.test"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&usual[..], more].concat();
    let instead = |name: &'static str, value: &'static str| {
        usual
            .map(|field| {
                if field.0 == name {
                    (name, value)
                } else {
                    field
                }
            })
            .to_vec()
    };
    let cases: Vec<Vec<(&str, &str)>> = vec![
        with(&[("x", "a\r\nx-user-id: mallory")]),
        with(&[("x", "a\nb")]),
        with(&[("x", "a\0b")]),
        with(&[("x\r\ny", "a")]),
        with(&[("X", "a")]),
        with(&[("", "a")]),
        with(&[("x y", "a")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "websocket")]),
        with(&[("keep-alive", "1")]),
        with(&[("proxy-connection", "close")]),
        with(&[("te", "gzip")]),
        with(&[("host", "other.test")]),
        with(&[("host", "g.test"), ("host", "g.test")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "5"), ("content-length", "6")]),
        with(&[("content-length", "x")]),
        with(&[(":path", "/private")]),
        with(&[(":method", "POST")]),
        with(&[("x", "y"), (":scheme", "http")]),
        with(&[(":status", "200")]),
        with(&[(":other", "x")]),
        with(&[(":protocol", "websocket")]),
        instead(":path", "/a b"),
        instead(":path", ""),
        instead(":path", "public/"),
        instead(":path", "*"),
        instead(":path", "/public/ HTTP/1.1\r\nx-user-id: mallory"),
        instead(":path", "http://other.test/public/"),
        instead(":scheme", "https\r\nx: y"),
        instead(":scheme", "https://evil"),
        instead(":scheme", "ftp"),
        instead(":method", "GE T"),
        instead(":method", "get"),
        instead(":method", "GET / HTTP/1.1\r\nx: y"),
        instead(":authority", "g.test\r\nx: y"),
        instead(":authority", "user@g.test"),
        instead(":authority", "g.test/x"),
        instead(":authority", ""),
        usual[1..].to_vec(),
        [usual[0], usual[2], usual[3]].to_vec(),
        [usual[0], usual[1], usual[3]].to_vec(),
        vec![(":method", "CONNECT"), (":authority", "g.test:80")],
        vec![
            (":method", "CONNECT"),
            (":protocol", "connect-udp"),
            usual[1],
            usual[2],
            usual[3],
        ],
    ];
    for fields in cases {
        let mut conn = Frames::open(gateway.address);
        let block = crate::support::frames::block(&fields);
        conn.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
        let refused = conn
            .next_of(&[HEADERS, RST_STREAM, GOAWAY])
            .unwrap_or_else(|| panic!("{fields:?}"));
        let status = (refused.kind == HEADERS).then(|| refused.status());
        assert!(
            status.is_none_or(|status| status != Some(200)),
            "{fields:?}: {refused:?}"
        );
    }
    assert_eq!(upstream.heads(), Vec::<String>::new());
    // The writer of frames is no reason for any of it.
    let mut conn = Frames::open(gateway.address);
    conn.send(&frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &get("/public/", &[("host", "g.test")]),
    ));
    assert_eq!(conn.next_of(&[HEADERS]).unwrap().status(), Some(200));
}

#[test]
fn a_revocation_resets_the_streams_of_its_session_alone() {
    let upstream = Upstream::scripted(|peer, _| {
        peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        peer.rest();
        false
    });
    let (home, gateway) = with_http2(&upstream, "");
    let (alice, bob) = (home.open_session("alice"), home.open_session("bob"));
    run(async {
        let client = connect(gateway.address).await;
        let stream = |cookie: &str| {
            let mut client = client.clone();
            let request = request(Method::GET, "/events", &[("cookie", cookie)], "");
            async move {
                let mut body = client.send_request(request).await.unwrap().into_body();
                assert_eq!(next(&mut body).await.unwrap(), "first");
                body
            }
        };
        let (mut of_alice, mut of_bob) = (stream(&alice.cookie).await, stream(&bob.cookie).await);
        let handle = alice.handle.clone();
        let home = &home;
        let ended = std::thread::scope(|scope| {
            scope
                .spawn(|| home.run(&["sessions", "revoke", &handle]))
                .join()
        });
        assert_eq!(ended.unwrap().code, Some(0));
        assert!(next(&mut of_alice).await.is_err(), "it is cut");
        let silent = tokio::time::timeout(Duration::from_millis(300), next(&mut of_bob)).await;
        assert!(silent.is_err(), "the other goes on: {silent:?}");
    });
}

async fn next(body: &mut Incoming) -> Result<Bytes, hyper::Error> {
    body.frame()
        .await
        .unwrap()
        .map(|frame| frame.into_data().unwrap())
}

const ACCEPTS: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n";

/// Shakes hands as RFC 6455 says, and sends back whatever comes.
fn echo() -> Upstream {
    Upstream::scripted(|peer, head| {
        let Some(key) = header(head, "sec-websocket-key") else {
            return peer.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain");
        };
        let accept = match head.contains("/wrong") {
            true => "c3VyZWx5IG5vdCB0aGlzIG9uZQ==".to_owned(),
            false => tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes()),
        };
        peer.send(format!("{ACCEPTS}Sec-WebSocket-Accept: {accept}\r\n\r\n"));
        while let Some(byte) = peer.exactly(1) {
            peer.send(byte);
        }
        peer.send("over");
        false
    })
}

#[test]
fn a_websocket_on_a_stream_is_byte_exact_and_closes_by_halves() {
    let upstream = echo();
    let (home, gateway) = with_http2(&upstream, "");
    let alice = home.open_session("alice");
    run(async {
        let mut client = connect(gateway.address).await;
        // The client has to have seen that the gateway can do it.
        ask(&mut client, request(Method::GET, "/public/", &[], "")).await;
        let headers = [
            ("cookie", &*alice.cookie),
            ("sec-websocket-protocol", "chat"),
            ("origin", "http://g.test"),
        ];
        let answer = client
            .send_request(extended_connect("/ws?x=1", &headers))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
        for name in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        let head = upstream.heads().pop().unwrap();
        assert!(head.starts_with("GET /ws?x=1 HTTP/1.1\r\n"), "{head}");
        for (name, value) in [
            ("upgrade", Some("websocket")),
            ("connection", Some("upgrade")),
            ("sec-websocket-version", Some("13")),
            ("sec-websocket-protocol", Some("chat")),
            ("x-user-id", Some("alice")),
            ("host", Some("g.test")),
            ("cookie", None),
        ] {
            assert_eq!(header(&head, name), value, "{name}");
        }
        let mut socket = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
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

#[test]
fn a_revocation_closes_websockets_on_streams() {
    let upstream = echo();
    let (home, gateway) = with_http2(&upstream, "");
    let (alice, bob) = (home.open_session("alice"), home.open_session("bob"));
    run(async {
        let mut client = connect(gateway.address).await;
        ask(&mut client, request(Method::GET, "/public/", &[], "")).await;
        let mut sockets = Vec::new();
        for cookie in [&alice.cookie, &bob.cookie] {
            let headers = [("cookie", &**cookie), ("origin", "http://g.test")];
            let answer = client
                .send_request(extended_connect("/ws", &headers))
                .await
                .unwrap();
            assert_eq!(answer.status(), 200);
            sockets.push(TokioIo::new(hyper::upgrade::on(answer).await.unwrap()));
        }
        let (home, handle) = (&home, &alice.handle);
        let ended = std::thread::scope(|scope| {
            scope
                .spawn(|| home.run(&["sessions", "revoke", handle]))
                .join()
        });
        assert_eq!(ended.unwrap().code, Some(0));
        let mut rest = Vec::new();
        sockets[0].read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest[2..4], 4401_u16.to_be_bytes(), "{rest:?}");
        let mut came = [0; 5];
        sockets[1].write_all(b"still").await.unwrap();
        sockets[1].read_exact(&mut came).await.unwrap();
        assert_eq!(&came, b"still");
    });
}

#[test]
fn a_websocket_that_the_upstream_does_not_open_is_no_success() {
    let upstream = echo();
    let (home, gateway) = with_http2(
        &upstream,
        "[[route]]\npath = \"/none\"\nwebsocket = false\nauth = \"none\"\n",
    );
    let alice = home.open_session("alice");
    run(async {
        let mut client = connect(gateway.address).await;
        ask(&mut client, request(Method::GET, "/public/", &[], "")).await;
        let cookie = ("cookie", &*alice.cookie);
        let own = ("origin", "http://g.test");
        for (path, headers, status) in [
            ("/ws", &[][..], 401),
            (
                "/ws",
                &[
                    cookie,
                    ("origin", "http://evil.test"),
                    ("sec-fetch-site", "cross-site"),
                ],
                403,
            ),
            ("/wrong", &[cookie, own], 502),
            ("/none", &[own], 405),
            ("/.well-known/jwks.json", &[own], 405),
            ("/logout", &[cookie, own], 405),
        ] {
            let mut request = extended_connect(path, headers);
            if headers.len() > 2 {
                request.headers_mut().remove("sec-fetch-site");
                request
                    .headers_mut()
                    .insert("sec-fetch-site", "cross-site".parse().unwrap());
            }
            let answer = client.send_request(request).await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
        }
    });
}

#[test]
fn the_end_of_the_gateway_is_told_and_requests_are_finished() {
    let upstream = Upstream::scripted(|peer, _| {
        std::thread::sleep(Duration::from_millis(700));
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone")
    });
    let (_home, mut gateway) = with_http2(&upstream, "");
    let mut conn = Frames::open(gateway.address);
    conn.send(&frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &get("/public/", &[]),
    ));
    upstream.has_seen(1);
    gateway.signal("TERM");
    let goaway = conn.next_of(&[GOAWAY]).unwrap();
    assert_eq!(goaway.error(), 0);
    // h2 waits for the answer to a ping before it says which stream was the last.
    let mut answered = false;
    while let Some(came) = conn.next() {
        answered |= came.kind == HEADERS && came.status() == Some(200);
        if came.kind == crate::support::frames::PING && came.flags == 0 {
            conn.send(&frame(crate::support::frames::PING, 1, 0, &came.payload));
        }
    }
    assert!(answered);
    assert!(gateway.ended().success());
}
