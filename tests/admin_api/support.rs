//! Gateways in this process, an application behind them, and a client that speaks to both of their sides.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::Duration;

use portcullis::clock::{Clock, ClockHands};
use portcullis::config::Config;
use portcullis::gateway::Gateway;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const TOKEN: &str = "a-token-that-is-at-least-32-characters-long";

/// What the gateways of one test share: a store, a clock and an application.
pub struct World {
    pub folder: TempDir,
    pub hands: ClockHands,
    clock: Clock,
    app: SocketAddr,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(folder.path().join("admin.token"))
            .unwrap();
        writeln!(file, "{TOKEN}").unwrap();
        let (clock, hands) = Clock::adjustable();
        Self {
            folder,
            hands,
            clock,
            app: start_application(),
        }
    }

    pub fn gateway(&self) -> Running {
        self.gateway_with(&[])
    }

    /// With some keys set otherwise, such as `("admin.listen", "unix:admin.sock")`.
    pub fn gateway_with(&self, settings: &[(&str, &str)]) -> Running {
        let text = format!(
            r#"
            [server]
            listen = "127.0.0.1:0"
            upstream = "http://{}"
            workers = 1
            [admin]
            listen = "127.0.0.1:0"
            token_file = "admin.token"
            [revocation]
            poll = "10ms"
            [[login]]
            path = "/login"
            "#,
            self.app
        );
        let variable = |key: &str| format!("PORTCULLIS_{}", key.replace('.', "__").to_uppercase());
        let environment = settings
            .iter()
            .map(|(key, value)| (variable(key), (*value).to_owned()));
        let config = Config::parse(&text, "test.toml", self.folder.path(), environment).unwrap();
        Running(Some(Gateway::start(&config, self.clock.clone()).unwrap()))
    }
}

/// A gateway that ends with its test.
pub struct Running(Option<Gateway>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(gateway) = self.0.take() {
            gateway.shut_down();
        }
    }
}

impl Running {
    pub fn gateway(&self) -> &Gateway {
        self.0.as_ref().unwrap()
    }

    pub fn admin(&self) -> SocketAddr {
        self.gateway().admin_address().unwrap()
    }

    /// A call of the API with the token.
    pub fn call(&self, method: &str, path: &str, body: Option<Value>) -> Reply {
        let headers = format!("host: localhost\r\nauthorization: Bearer {TOKEN}\r\n");
        let body = body.map(|body| body.to_string());
        send(self.admin(), method, path, &headers, body.as_deref())
    }

    /// The same, where it has to succeed.
    pub fn done(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let reply = self.call(method, path, body);
        assert!(reply.status < 300, "{method} {path}: {reply:?}");
        reply.json()
    }

    /// A session of the user, opened by call.
    pub fn open(&self, user: &str) -> Opened {
        self.open_with(json!({ "user": user }))
    }

    pub fn open_with(&self, body: Value) -> Opened {
        Opened(self.done("POST", "/v1/sessions", Some(body)))
    }

    /// A request of a browser that has these cookies.
    pub fn browse(&self, path: &str, cookies: &str) -> Reply {
        let headers = format!("host: app.test\r\ncookie: {cookies}\r\n");
        send(self.gateway().addresses()[0], "GET", path, &headers, None)
    }

    /// The user that the application says who it was asked by; `None` if it was not asked.
    pub fn user_of(&self, cookies: &str) -> Option<String> {
        let reply = self.browse("/me", cookies);
        (reply.status == 200).then_some(reply.body)
    }

    pub fn verify(&self, token: &str) -> Value {
        self.done(
            "POST",
            "/v1/sessions/verify",
            Some(json!({ "access_token": token })),
        )
    }

    /// A login of the application, which takes everyone's word.
    pub fn log_in(&self, user: &str) -> Reply {
        let headers = format!("host: app.test\r\nx-login: {user}\r\n");
        send(
            self.gateway().addresses()[0],
            "POST",
            "/login",
            &headers,
            None,
        )
    }
}

/// What the API answered when a session was opened.
pub struct Opened(pub Value);

impl Opened {
    pub fn handle(&self) -> &str {
        self.0["handle"].as_str().unwrap()
    }

    pub fn access_token(&self) -> &str {
        self.0["access_token"].as_str().unwrap()
    }

    /// As a browser sends them.
    pub fn cookies(&self) -> String {
        let lines = self.0["set_cookie"].as_array().unwrap();
        cookies_of(lines.iter().map(|line| line.as_str().unwrap()))
    }

    /// The access cookie alone: nothing to refresh with.
    pub fn access_cookie(&self) -> String {
        let cookies = self.cookies();
        let is_access = |pair: &&str| pair.contains("sAccessToken=");
        cookies.split("; ").find(is_access).unwrap().to_owned()
    }
}

/// The pairs of `Set-Cookie` lines.
pub fn cookies_of<'l>(lines: impl Iterator<Item = &'l str>) -> String {
    let pairs: Vec<&str> = lines.map(|line| line.split(';').next().unwrap()).collect();
    pairs.join("; ")
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The code of a problem, which has to be told in one way.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        let code = problem["code"].as_str().unwrap().to_owned();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["type"], format!("urn:problem-type:{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        (self.status, code)
    }
}

pub fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&str>,
) -> Reply {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    exchange(stream, method, path, headers, body)
}

pub fn exchange(
    mut stream: impl Read + Write,
    method: &str,
    path: &str,
    headers: &str,
    body: Option<&str>,
) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n{headers}");
    if let Some(body) = body {
        let length = body.len();
        if !headers.contains("content-type") {
            request.push_str("content-type: application/json\r\n");
        }
        request.push_str(&format!("content-length: {length}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    // Whoever refuses a body early may not read all of it.
    let _ = stream.write_all(body.unwrap_or_default().as_bytes());
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).unwrap();
    let status = status.split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut body = String::new();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    match length {
        Some((_, length)) => {
            let mut bytes = vec![0; length.parse().unwrap()];
            if method != "HEAD" {
                reader.read_exact(&mut bytes).unwrap();
                body = String::from_utf8(bytes).unwrap();
            }
        }
        None => {
            let _ = reader.read_to_string(&mut body);
        }
    }
    Reply {
        status,
        headers,
        body,
    }
}

const LIMIT: Duration = Duration::from_secs(30);

/// Says who it was asked by; at `/login` it lets everyone in.
fn start_application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn serve(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut user, mut login) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "x-user-id" => user = value.to_owned(),
            "x-login" => login = format!("portcullis-login: {value}\r\n"),
            _ => {}
        }
    }
    let length = user.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\n{login}content-length: {length}\r\n\r\n{user}"
    );
    let _ = stream.write_all(answer.as_bytes());
}
