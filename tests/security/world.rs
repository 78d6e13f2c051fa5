//! A gateway under attack: the built binary, a recorder behind it, and a client that sends the bytes that it is given.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis::session::{KeyState, MasterKey, SigningKey};
use portcullis::store::SessionStore;
use serde_json::Value;

use crate::stores::Store;
use crate::support::tls::write_certificate;
use crate::support::{Answer, Conn, Gateway, Home, Upstream, program};
use crate::transport::{Bridge, Transport};

/// What differs from the usual configuration; each text goes into the section of that name.
#[derive(Clone, Copy, Default)]
pub struct Setup {
    /// Absent: `https://g.test:8443`.
    pub public_url: Option<&'static str>,
    /// The listener takes HTTP/2 with prior knowledge as well as HTTP/1.1.
    pub http2: bool,
    /// The listener speaks TLS, with the certificate `g.pem`.
    pub tls: bool,
    pub server: &'static str,
    pub limits: &'static str,
    pub session: &'static str,
    pub cookies: Option<&'static str>,
    pub identity: &'static str,
    /// The source, in C, of a library that the program finds before the system's.
    pub library: Option<&'static str>,
    /// Absent: `debug`.
    pub log: Option<&'static str>,
    /// Whole sections.
    pub more: &'static str,
}

/// The bytes of one request as the application got them.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub head: String,
    /// With its framing and trailers.
    pub body: Vec<u8>,
}

impl Recorded {
    /// Names in small letters, and values, in their order.
    pub fn headers(&self) -> Vec<(String, &str)> {
        let lines = self.head.lines().skip(1);
        lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let headers = self.headers().into_iter();
        headers
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value)
            .collect()
    }

    pub fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

/// Somebody's session as a browser holds it.
#[derive(Clone, Debug)]
pub struct Held {
    /// `name=value` of the access cookie.
    pub access: String,
    /// `name=value` of the refresh cookie.
    pub refresh: String,
}

impl Held {
    pub fn from_answer(answer: &Answer) -> Self {
        let pair = |part: &str| {
            let pairs = answer
                .set_cookies()
                .map(|set| set.split(';').next().unwrap());
            let mut found = pairs.filter(|pair| pair.split('=').next().unwrap().ends_with(part));
            found.next().unwrap_or_default().to_owned()
        };
        Self {
            access: pair("sAccessToken"),
            refresh: pair("sRefreshToken"),
        }
    }

    /// The token without the name of its cookie.
    pub fn token(&self) -> &str {
        self.access.split_once('=').unwrap().1
    }

    fn part(&self, number: usize) -> Value {
        let part = self.token().split('.').nth(number).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// The header of the access token.
    pub fn header(&self) -> Value {
        self.part(0)
    }

    pub fn claims(&self) -> Value {
        self.part(1)
    }

    pub fn both(&self) -> String {
        format!("{}; {}", self.access, self.refresh)
    }
}

/// What the application does with a path instead of the usual.
type Scripts = Arc<Mutex<Vec<(String, Script)>>>;

#[derive(Clone)]
enum Script {
    /// A stream that does not end.
    Stream,
    /// These lines, which begin with the status, and no body.
    Lines(String),
    /// These bytes and no others.
    Bytes(String),
}

/// One gateway and one recorder. Dropped, it holds the program to what every case holds it to.
pub struct World {
    pub home: Home,
    store: Store,
    gateway: Option<Gateway>,
    other: Option<Gateway>,
    _bridge: Option<Bridge>,
    recorded: Arc<Mutex<Vec<Recorded>>>,
    scripts: Scripts,
    /// Tokens and cookies that were on the wire.
    secrets: RefCell<BTreeSet<String>>,
}

impl World {
    pub fn new() -> Self {
        Self::with(&Setup::default())
    }

    pub fn with(setup: &Setup) -> Self {
        let recorded: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let scripts = Scripts::default();
        let upstream = recorder(Arc::clone(&recorded), Arc::clone(&scripts));
        let home = Home::new("");
        // Who speaks TLS to browsers has an https URL.
        let is_clear = setup.public_url.is_some_and(|url| url.starts_with("http:"));
        let transport = match Transport::current() {
            Transport::Tls if is_clear => Transport::Http1,
            transport => transport,
        };
        let setup = Setup {
            http2: setup.http2 || transport == Transport::Http2,
            tls: setup.tls || transport == Transport::Tls,
            ..*setup
        };
        if setup.tls {
            write_certificate(&home.path(""), "g", &["g.test"]);
        }
        let store = Store::new();
        let text = configuration(&setup, upstream.address) + &store.section();
        std::fs::write(home.config(), text).unwrap();
        std::fs::write(home.path("admin.token"), format!("{ADMIN}\n")).unwrap();
        owner_alone(&home.path("admin.token"));
        let mut gateway = match setup.library {
            None => home.start(),
            Some(source) => {
                let mut command = program(&home.path(""));
                command.arg("serve").arg("--config").arg(home.config());
                command.env("LD_PRELOAD", compiled(&home, source));
                Gateway::start(command)
            }
        };
        let bridge = transport.bridge_to(gateway.address);
        if let Some(bridge) = &bridge {
            gateway.address = bridge.address;
        }
        Self {
            gateway: Some(gateway),
            other: None,
            _bridge: bridge,
            home,
            store,
            recorded,
            scripts,
            secrets: RefCell::default(),
        }
    }

    /// A second process on the same store.
    pub fn with_another_replica(mut self) -> Self {
        self.other = Some(self.home.start());
        self
    }

    pub fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub fn replicas(&self) -> Vec<&Gateway> {
        self.gateway.iter().chain(&self.other).collect()
    }

    /// What all replicas have logged so far.
    pub fn log(&self) -> String {
        let logs = self.replicas().into_iter().map(Gateway::log);
        logs.collect::<Vec<_>>().concat()
    }

    /// Time that its threads have had a processor for.
    pub fn cpu_time(&self) -> Duration {
        let process = self.gateway().id();
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // After the name in brackets, from the state on: proc(5), fields 14 and 15, in hundredths of a second.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |at: usize| -> u64 { fields[at].parse().unwrap() };
        Duration::from_millis(10 * (ticks(11) + ticks(12)))
    }

    pub fn metrics(&self) -> String {
        let address = self.gateway().admin();
        let mut conn = Conn::to(address);
        conn.send(format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n"));
        conn.answer().text().to_owned()
    }

    /// What who holds the master key and the store can sign with: the oldest key that still signs.
    pub fn signing_key(&self) -> SigningKey {
        let master = std::fs::read_to_string(self.home.path("portcullis.key")).unwrap();
        let master = MasterKey::parse(master.trim()).unwrap();
        let url = self.store.url(&self.home);
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let keys = runtime.block_on(async {
            let store = SessionStore::open(&url).await.unwrap();
            let keys = store.signing_keys().await.unwrap();
            store.close().await;
            keys
        });
        let mut signing = keys
            .iter()
            .filter(|stored| stored.state == KeyState::Signing);
        signing.next().unwrap().key.unseal(&master).unwrap()
    }

    /// The cookie of a session as it is when its access token has expired.
    pub fn expired(&self, held: &Held) -> String {
        let mut claims = held.claims();
        for claim in ["iat", "exp"] {
            claims[claim] = (claims[claim].as_i64().unwrap() - 7200).into();
        }
        let token = self.signing_key().sign(claims.to_string().as_bytes());
        format!("sAccessToken={}", token.unwrap().expose())
    }

    /// Runs statements on the store as somebody else.
    pub fn sql(&self, statements: &str) {
        self.store.execute(&self.home, statements);
    }

    /// The one number that a query gives.
    pub fn count(&self, query: &str) -> i64 {
        self.store.count(&self.home, query)
    }

    /// Lets nobody write to the store until it is dropped.
    pub fn locked(&self) -> impl Drop {
        self.store.locked(&self.home)
    }

    /// All bytes of the store; not read by this process, which would lose its locks on the file as it closes it.
    pub fn dump(&self) -> Vec<u8> {
        let path = self.home.path("portcullis.db");
        let log = self.home.path("portcullis.db-wal");
        let mut cat = std::process::Command::new("cat");
        cat.args([path, log]).output().unwrap().stdout
    }

    /// The application answers this path with a stream that does not end.
    pub fn streams_at(&self, path: &str) {
        self.plays(path, Script::Stream);
    }

    /// The application answers this path with these lines, which begin with the status, and no body.
    pub fn answers(&self, path: &str, lines: &str) {
        self.plays(path, Script::Lines(lines.to_owned()));
    }

    /// The application answers this path with these bytes.
    pub fn answers_bytes(&self, path: &str, bytes: &str) {
        self.plays(path, Script::Bytes(bytes.to_owned()));
    }

    fn plays(&self, path: &str, script: Script) {
        let mut scripts = self.scripts.lock().unwrap();
        scripts.retain(|(known, _)| known != path);
        scripts.push((path.to_owned(), script));
    }

    /// What has come to the application since this was asked last.
    pub fn recorded(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.recorded.lock().unwrap())
    }

    /// The only request that came since then.
    #[track_caller]
    pub fn only_recorded(&self) -> Recorded {
        let mut all = self.recorded();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// Nothing came since then.
    #[track_caller]
    pub fn nothing_recorded(&self) {
        let all = self.recorded();
        assert!(all.is_empty(), "the application got {all:?}");
    }

    /// Sends bytes on a connection of their own and reads one answer.
    #[track_caller]
    pub fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut conn = self.gateway().connect();
        self.raw_on(&mut conn, bytes)
    }

    /// The same at one of the replicas.
    #[track_caller]
    pub fn raw_at(&self, gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Answer {
        self.raw_on(&mut gateway.connect(), bytes)
    }

    #[track_caller]
    pub fn raw_on(&self, conn: &mut Conn, bytes: impl AsRef<[u8]>) -> Answer {
        self.note_sent(bytes.as_ref());
        // It may be refused before it was read.
        let _ = conn.try_send(bytes);
        let answer = conn.try_answer().expect("an answer");
        self.note_answered(&answer);
        answer
    }

    /// A request that names the host, and nothing else by itself.
    #[track_caller]
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.raw(request(method, target, headers))
    }

    #[track_caller]
    pub fn get(&self, target: &str, cookie: &str) -> Answer {
        self.send("GET", target, &[("Cookie", cookie)])
    }

    /// A POST of the site itself.
    #[track_caller]
    pub fn post(&self, target: &str, cookie: &str) -> Answer {
        let headers = [("Cookie", cookie), ("Sec-Fetch-Site", "same-origin")];
        self.send("POST", target, &headers)
    }

    /// A call of the admin API with its token.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {ADMIN}");
        let length = body.len().to_string();
        let head = request(
            method,
            path,
            &[
                ("Host", "localhost"),
                ("Authorization", &bearer),
                ("Content-Type", "application/json"),
                ("Content-Length", &length),
            ],
        );
        let mut conn = Conn::to(self.gateway().admin());
        self.raw_on(&mut conn, head + body)
    }

    #[track_caller]
    pub fn login(&self, user: &str) -> Held {
        let answer = self.post(&format!("/login?{user}"), "");
        assert_eq!(answer.status, 200, "{answer:?}");
        self.recorded();
        Held::from_answer(&answer)
    }

    /// Sends bytes and a request behind them, and reads until the gateway closes: there is at most one answer, of one of these
    /// statuses (0: none at all), and nothing comes to the application.
    #[track_caller]
    pub fn is_refused(&self, bytes: impl AsRef<[u8]>, statuses: &[u16]) {
        self.note_sent(bytes.as_ref());
        let mut conn = self.gateway().connect();
        let _ = conn.try_send([bytes.as_ref(), SMUGGLED.as_bytes()].concat());
        let answers = String::from_utf8_lossy(&conn.rest()).into_owned();
        let got: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).collect();
        match got[..] {
            [] => assert!(statuses.contains(&0), "closed without an answer"),
            [answer] => {
                let status: u16 = answer[..3].parse().unwrap();
                assert!(statuses.contains(&status), "{answer}");
                let answer = answer.to_ascii_lowercase();
                assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
            }
            _ => panic!("{answers}"),
        }
        self.nothing_recorded();
    }

    /// The same, where the connection may just be closed.
    #[track_caller]
    pub fn is_refused_or_closed(&self, bytes: impl AsRef<[u8]>) {
        self.is_refused(bytes, &[0, 400, 505]);
    }

    fn note_sent(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            if ["cookie", "authorization", "anti-csrf"].contains(&&*name.to_ascii_lowercase()) {
                self.note(value);
            }
        }
    }

    fn note_answered(&self, answer: &Answer) {
        for line in answer.head.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            if name == "set-cookie" || name == "anti-csrf" || name.starts_with("st-") {
                self.note(value.split("; ").next().unwrap());
            }
        }
    }

    /// Long enough not to be found by chance.
    fn note(&self, values: &str) {
        let values = values.split([' ', ';', '=', ',', '"']);
        let secrets = values.filter(|value| value.len() >= 20).map(str::to_owned);
        self.secrets.borrow_mut().extend(secrets);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(mut gateway) = self.gateway.take() else {
            return;
        };
        if std::thread::panicking() {
            return;
        }
        assert!(gateway.is_running(), "the gateway has ended");
        let mut log = gateway.log();
        if let Some(mut other) = self.other.take() {
            assert!(other.is_running(), "the other replica has ended");
            log.push_str(&other.log());
        }
        assert!(log.contains("portcullis"), "nothing was logged");
        for secret in self.secrets.take() {
            assert!(!log.contains(&secret), "the log has {secret}");
            // Of a token neither part.
            let (_, signature) = secret.rsplit_once('.').unwrap_or(("", "."));
            let is_part = signature.len() >= 20;
            assert!(
                !(is_part && log.contains(signature)),
                "the log has {signature}"
            );
        }
    }
}

pub fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    let has = |wanted: &str| {
        let mut names = headers.iter().map(|(name, _)| name);
        names.any(|name| name.eq_ignore_ascii_case(wanted))
    };
    if !has("host") {
        request += "Host: g.test:8443\r\n";
    }
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request += &format!("{name}: {value}\r\n");
    }
    if method == "POST" && !has("content-length") && !has("transfer-encoding") {
        request += "Content-Length: 0\r\n";
    }
    request + "\r\n"
}

/// By the compiler that the crate itself is built with.
fn compiled(home: &Home, source: &str) -> PathBuf {
    let (text, library) = (home.path("library.c"), home.path("library.so"));
    std::fs::write(&text, source).unwrap();
    let mut cc = std::process::Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).args([&library, &text]);
    let ended = cc.output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    library
}

fn owner_alone(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Keeps the exact bytes of each request; logs in at `/login?<user>`, and answers anything else with its path as JSON.
fn recorder(recorded: Arc<Mutex<Vec<Recorded>>>, scripts: Scripts) -> Upstream {
    Upstream::scripted(move |peer, head| {
        let body = peer.body(head);
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        recorded.lock().unwrap().push(Recorded {
            head: head.to_owned(),
            body,
        });
        let path = target.split('?').next().unwrap_or_default();
        let script = {
            let scripts = scripts.lock().unwrap();
            scripts.iter().find(|(known, _)| known == path).cloned()
        };
        match script {
            Some((_, Script::Stream)) => {
                peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                while peer.send("5\r\ntick\n\r\n") {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return false;
            }
            Some((_, Script::Lines(lines))) => {
                return peer.send(format!("HTTP/1.1 {lines}\r\ncontent-length: 0\r\n\r\n"));
            }
            Some((_, Script::Bytes(bytes))) => return peer.send(bytes),
            None => {}
        }
        let login = target
            .strip_prefix("/login?")
            .map(|user| format!("portcullis-login: {user}\r\n"))
            .unwrap_or_default();
        let body = format!("{{\"path\":\"{path}\"}}");
        let length = body.len();
        peer.send(format!(
            "HTTP/1.1 200 OK\r\n{login}content-length: {length}\r\n\r\n{body}"
        ))
    })
}

/// The configuration file in front of an application.
pub fn configuration(setup: &Setup, upstream: SocketAddr) -> String {
    let Setup {
        server,
        limits,
        session,
        identity,
        more,
        ..
    } = setup;
    let refresh = match session.contains("refresh = ") {
        true => "",
        false => "refresh = \"client\"",
    };
    let (listen, listener) = match setup.http2 {
        false => ("listen = \"127.0.0.1:0\"", ""),
        true => (
            "",
            "[[server.listener]]\naddress = \"127.0.0.1:0\"\nhttp2 = true",
        ),
    };
    let tls = match setup.tls {
        false => "",
        true => "[server.tls]\ncertificate = \"g.pem\"\nkey = \"g.key\"",
    };
    let log = setup.log.unwrap_or("debug");
    let public_url = setup.public_url.unwrap_or("https://g.test:8443");
    let cookies = setup.cookies.unwrap_or("prefix = \"\"");
    format!(
        r#"
[server]
{listen}
public_url = "{public_url}"
workers = 2
{server}
{tls}
[server.limits]
{limits}
[admin]
listen = "127.0.0.1:0"
token_file = "admin.token"
[session]
{refresh}
{session}
[session.cookies]
{cookies}
[identity]
user_header = "X-Auth-User-Id"
{identity}
[telemetry]
log = "{log}"
[[upstream]]
name = "app"
servers = ["http://{upstream}"]
[[login]]
path = "/login"
[[logout]]
path = "/auth/signout"
redirect = "/"
redirect_allow = ["/", "/bye", "https://www.g.test/bye"]
[[logout]]
path = "/auth/signout-all"
scope = "user"
[[route]]
path = "/public/**"
methods = ["GET", "HEAD"]
auth = "none"
[[route]]
path = "/opt/**"
auth = "optional"
[[route]]
path = "/hook"
methods = ["POST"]
auth = "none"
[[route]]
path = "/plain/**"
websocket = false
{listener}
{more}
"#
    )
}

/// Comes after each attack on the same connection; it must never reach the application.
pub const SMUGGLED: &str = "GET /public/smuggled HTTP/1.1\r\nhost: g.test\r\n\r\n";

pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// The key of the admin API.
pub const ADMIN: &str = "an-admin-token-of-more-than-32-characters";

/// **401j**: no session, in JSON, not to be kept, and nothing cleared.
#[track_caller]
pub fn is_401j(answer: &Answer) {
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(body["message"].is_string(), "{body}");
}

/// The same of a session that goes on, or never was: nothing is cleared.
#[track_caller]
pub fn is_401j_that_clears_nothing(answer: &Answer) {
    is_401j(answer);
    assert_eq!(answer.set_cookies().count(), 0, "{}", answer.head);
    for name in ["front-token", "id-refresh-token", "st-access-token"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

/// **CLEAR**: the session's cookies and what the SDKs keep are cleared.
#[track_caller]
pub fn clears(answer: &Answer) {
    for name in ["sAccessToken", "sRefreshToken", "sIdRefreshToken"] {
        let of_name = |set: &&str| set.split('=').next().unwrap().ends_with(name);
        let sets: Vec<&str> = answer.set_cookies().filter(of_name).collect();
        assert!(!sets.is_empty(), "{name} is not cleared: {}", answer.head);
        for set in sets {
            assert!(set.contains("=;"), "{set}");
            assert!(set.contains("Max-Age=0") && set.contains("1970"), "{set}");
        }
    }
    assert_eq!(answer.header("front-token"), Some("remove"));
    assert_eq!(answer.header("id-refresh-token"), Some("remove"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let exposed = answer
        .header("access-control-expose-headers")
        .unwrap_or_default();
    assert!(
        exposed.contains("front-token") && exposed.contains("id-refresh-token"),
        "{exposed}"
    );
}

/// **401 + CLEAR**.
#[track_caller]
pub fn is_over(answer: &Answer) {
    is_401j(answer);
    clears(answer);
}
