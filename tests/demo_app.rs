//! The sample app of `portcullis demo`, over real sockets and without a gateway: the tests play the gateway's part, which is
//! to send `x-user-id`.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as tests do")]

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use portcullis::cli::demo::app::SampleApp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(10);

struct App {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl App {
    fn start() -> Self {
        let app = SampleApp::bind().unwrap();
        let address = app.local_addr();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(app.run(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            running,
        }
    }

    /// Sends bytes as they are, on a connection of their own, and reads until the app closes it.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is the app's way to end a body that it does not read.
        let _ = in_time(stream.read_to_end(&mut answer)).await;
        String::from_utf8(answer).unwrap()
    }

    async fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: app\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        self.exchange(request.as_bytes()).await
    }

    async fn login(&self, content_type: &str, body: &str) -> String {
        let header = format!("content-type: {content_type}\r\n");
        self.request("POST /login", &header, body).await
    }

    async fn clock(&self) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let mut request = format!("ws://{}/clock", self.address)
            .into_client_request()
            .unwrap();
        request
            .headers_mut()
            .insert("x-user-id", "alice".parse().unwrap());
        in_time(connect_async(request)).await.unwrap().0
    }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("an answer in time")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n")?;
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_login_names_the_user_in_one_header() {
    let app = App::start();
    let form = "application/x-www-form-urlencoded";
    let script = "application/json; charset=utf-8";
    for (content_type, sent, expected_status, user) in [
        (form, "user=alice", "303", "alice"),
        (
            form,
            "user=zo%C3%AB+b%2C100%25",
            "303",
            "zo%C3%AB%20b%2C100%25",
        ),
        (form, "user=+alice+", "303", "alice"),
        (script, r#"{"user":"alice"}"#, "200", "alice"),
        (script, r#"{"user":"zoë"}"#, "200", "zo%C3%AB"),
    ] {
        let answer = app.login(content_type, sent).await;
        assert_eq!(status(&answer), expected_status, "{sent}");
        assert_eq!(header(&answer, "portcullis-login"), Some(user), "{sent}");
        assert_eq!(header(&answer, "set-cookie"), None, "{sent}");
        if content_type == form {
            assert_eq!(header(&answer, "location"), Some("/"), "{sent}");
        }
    }
}

#[tokio::test]
async fn a_refused_login_names_nobody() {
    let app = App::start();
    let form = "application/x-www-form-urlencoded";
    let long = format!("user={}", "a".repeat(8 * 1024));
    let over_long_name = format!("user={}", "a".repeat(129));
    for (content_type, sent, expected_status) in [
        (form, "user=", "400"),
        (form, "user=%20", "400"),
        (form, "name=alice", "400"),
        (form, "user=a%0D%0Ax-user-id:%20b", "400"),
        (form, "user=%ff", "400"),
        (form, &over_long_name, "400"),
        (form, &long, "413"),
        ("application/json", r#"{"user":1}"#, "400"),
        ("application/json", "{", "400"),
        ("application/json", "", "400"),
        ("text/plain", "user=alice", "415"),
    ] {
        let answer = app.login(content_type, sent).await;
        assert_eq!(status(&answer), expected_status, "{sent}");
        assert_eq!(header(&answer, "portcullis-login"), None, "{sent}");
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let app = App::start();
    let chunk = format!("1000\r\n{}\r\n", "a".repeat(0x1000));
    let request = format!(
        "POST /login HTTP/1.1\r\nhost: app\r\nconnection: close\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n{}",
        chunk.repeat(3)
    );
    assert_eq!(status(&app.exchange(request.as_bytes()).await), "413");
}

#[tokio::test]
async fn me_tells_what_the_app_was_told() {
    let app = App::start();
    let headers = "x-user-id: zo%C3%AB\r\nb: 1\r\na: 2\r\nb: 3\r\n";
    let answer = app.request("GET /me", headers, "").await;
    assert_eq!(status(&answer), "200");
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    let told: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(told["user"], "zoë");
    assert_eq!(told["headers"]["x-user-id"], "zo%C3%AB");
    assert_eq!(told["headers"]["b"], "1, 3");
    let names: Vec<_> = told["headers"].as_object().unwrap().keys().collect();
    assert!(names.is_sorted(), "{names:?}");
}

#[tokio::test]
async fn nobody_is_let_in_without_the_gateways_word() {
    let app = App::start();
    for path in ["/me", "/account", "/clock"] {
        for headers in ["", "x-user-id: \r\n", "x-user-id: 50%\r\n"] {
            let answer = app.request(&format!("GET {path}"), headers, "").await;
            assert_eq!(status(&answer), "401", "{path} {headers}");
        }
    }
}

#[tokio::test]
async fn the_account_page_shows_the_name_as_text() {
    let app = App::start();
    let answer = app
        .request("GET /account", "x-user-id: <img%20src=x>{{main}}&\r\n", "")
        .await;
    assert_eq!(status(&answer), "200");
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    assert!(
        body(&answer).contains("&lt;img src=x&gt;{{main}}&amp;"),
        "{answer}"
    );
    assert!(!body(&answer).contains("<img src=x"), "{answer}");
    assert!(!body(&answer).contains("{{user}}") && !body(&answer).contains("{{title}}"));
}

#[tokio::test]
async fn files_are_served_with_a_policy_that_forbids_inline_scripts() {
    let app = App::start();
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let answer = app.request(&format!("GET {path}"), "", "").await;
        assert_eq!(status(&answer), "200", "{path}");
        assert_eq!(header(&answer, "content-type"), Some(content_type));
        let policy = header(&answer, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!body(&answer).is_empty(), "{path}");
        let head = app.request(&format!("HEAD {path}"), "", "").await;
        assert_eq!((status(&head), body(&head)), ("200", ""), "{path}");
    }
}

#[tokio::test]
async fn paths_and_methods_that_the_app_does_not_have() {
    let app = App::start();
    for (line, expected_status, allow) in [
        ("GET /nothing", "404", None),
        ("POST /logout", "404", None),
        ("POST /logout-all", "404", None),
        ("GET //", "404", None),
        ("POST /", "405", Some("GET, HEAD")),
        ("DELETE /login", "405", Some("GET, HEAD, POST")),
        ("HEAD /clock", "405", Some("GET")),
        ("GET /login", "303", None),
    ] {
        let answer = app.request(line, "", "").await;
        assert_eq!(status(&answer), expected_status, "{line}");
        assert_eq!(header(&answer, "allow"), allow, "{line}");
    }
}

#[tokio::test]
async fn the_clock_ticks_answers_pings_and_says_goodbye() {
    let app = App::start();
    let mut clock = app.clock().await;
    for _ in 0..2 {
        let tick = in_time(clock.next()).await.unwrap().unwrap();
        let text = tick.to_text().unwrap();
        assert!(humantime::parse_rfc3339(text).is_ok(), "{text}");
    }
    clock
        .send(Message::Ping(Bytes::from_static(b"still there?")))
        .await
        .unwrap();
    clock.send(Message::text("nobody listens")).await.unwrap();
    loop {
        match in_time(clock.next()).await.unwrap().unwrap() {
            Message::Text(_) => {}
            other => {
                assert_eq!(other, Message::Pong(Bytes::from_static(b"still there?")));
                break;
            }
        }
    }
    clock.close(None).await.unwrap();
    assert_eq!(close_code(&mut clock).await, Some(CloseCode::Normal));
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_told_so() {
    let app = App::start();
    let answer = app.request("GET /clock", "x-user-id: alice\r\n", "").await;
    assert_eq!(status(&answer), "426");
    assert_eq!(header(&answer, "sec-websocket-version"), Some("13"));
}

#[tokio::test]
async fn junk_ends_its_own_connection_only() {
    let app = App::start();
    let mut witness = app.clock().await;
    for (junk, code) in [
        (&b"\x81\x00"[..], 1002_u16), // a client's frame that is not masked
        (b"\xff\xff\xff\xff\xff\xff\xff\xff", 1002),
        (b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),
        (b"\x89\xfe\x01\x00\0\0\0\0", 1002), // a long ping
    ] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let handshake = b"GET /clock HTTP/1.1\r\nhost: app\r\nx-user-id: alice\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(&[handshake, junk].concat()).await.unwrap();
        let mut answer = Vec::new();
        in_time(stream.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{junk:x?}");
        let close = [&[0x88, 0x02], &code.to_be_bytes()[..]].concat();
        assert!(answer.ends_with(&close), "{junk:x?} {answer:x?}");
    }
    let answer = app.exchange(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
    assert_eq!(status(&answer), "400");
    assert!(in_time(witness.next()).await.unwrap().is_ok());
    assert_eq!(status(&app.request("GET /", "", "").await), "200");
}

#[tokio::test]
async fn a_client_that_leaves_without_a_word_leaves_nothing_behind() {
    let app = App::start();
    drop(app.clock().await);
    app.stop.send(()).unwrap();
    in_time(app.running).await.unwrap();
}

#[tokio::test]
async fn shutdown_ends_the_clock_with_going_away() {
    let app = App::start();
    let mut clock = app.clock().await;
    in_time(clock.next()).await.unwrap().unwrap();
    app.stop.send(()).unwrap();
    assert_eq!(close_code(&mut clock).await, Some(CloseCode::Away));
    in_time(app.running).await.unwrap();
}

async fn close_code(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> Option<CloseCode> {
    while let Some(message) = in_time(socket.next()).await {
        if let Message::Close(frame) = message.unwrap() {
            return frame.map(|frame| frame.code);
        }
    }
    None
}
