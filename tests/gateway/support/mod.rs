//! A world for each test: an application that does what it is told, a store of its own, a clock that is turned by hand, and
//! as many replicas of the gateway as the story needs. Everything is talked to over real sockets.

pub mod app;
pub mod browser;
pub mod store;
pub mod wire;

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Barrier;
use std::time::Duration;

use portcullis::clock::{Clock, ClockHands};
use portcullis::config::Config;
use portcullis::gateway::{Gateway, GatewayError, Parts};
use tempfile::TempDir;

pub use app::App;
pub use browser::Browser;
pub use store::StoreFile;
pub use wire::{Answer, Connection};

/// Everything around the gateways of one test.
pub struct World {
    /// The application behind the gateways.
    pub app: App,
    folder: TempDir,
    clock: Clock,
    hands: ClockHands,
    environment: Vec<(String, String)>,
    rules: String,
    /// What `[session.cookies]` says; plain names unless a test is about names.
    cookies: String,
}

impl World {
    /// The usual configuration: see [`World::configuration`].
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The usual configuration with some keys set otherwise, such as `("session.refresh", "client")`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::with_rules(settings, "")
    }

    /// The same, and further `[[route]]`s, `[[login]]`s or `[[logout]]`s.
    pub fn with_rules(settings: &[(&str, &str)], rules: &str) -> Self {
        let (clock, hands) = Clock::adjustable();
        let environment = settings
            .iter()
            .map(|(key, value)| {
                let variable = key.replace('.', "__").to_uppercase();
                (format!("PORTCULLIS_{variable}"), (*value).to_owned())
            })
            .collect();
        Self {
            app: App::start(),
            folder: in_memory_if_possible(),
            clock,
            hands,
            environment,
            rules: rules.to_owned(),
            cookies: "prefix = \"\"".to_owned(),
        }
    }

    /// The same with other lines in `[session.cookies]`.
    pub fn with_cookies(self, cookies: &str) -> Self {
        Self {
            cookies: cookies.to_owned(),
            ..self
        }
    }

    /// Sets a key for the replicas that start from now on.
    pub fn set(&mut self, key: &str, value: &str) {
        let variable = key.replace('.', "__").to_uppercase();
        self.environment
            .push((format!("PORTCULLIS_{variable}"), value.to_owned()));
    }

    /// Starts a replica; all of a world share the store and the clock.
    pub fn replica(&self) -> Replica {
        self.try_replica().unwrap()
    }

    pub fn try_replica(&self) -> Result<Replica, GatewayError> {
        let gateway = Gateway::start(&self.config(), self.clock.clone())?;
        Ok(Replica {
            address: gateway.addresses()[0],
            gateway: Some(gateway),
        })
    }

    pub fn replicas(&self) -> [Replica; 2] {
        [self.replica(), self.replica()]
    }

    fn config(&self) -> Config {
        let folder = self.folder.path();
        Config::parse(
            &self.configuration(),
            "test.toml",
            folder,
            self.environment.iter().cloned(),
        )
        .unwrap()
    }

    /// The configuration file of this world.
    pub fn configuration(&self) -> String {
        let Self {
            app,
            rules,
            cookies,
            ..
        } = self;
        format!(
            r#"
            [server]
            listen = "127.0.0.1:0"
            public_url = "https://g.test"
            workers = 2
            [server.limits]
            drain_timeout = "200ms"
            [admin]
            listen = "off"
            [store]
            url = "sqlite:sessions.db"
            master_key_file = "master.key"
            [session.cookies]
            {cookies}
            [revocation]
            poll = "10ms"
            [[upstream]]
            name = "app"
            servers = ["http://{}"]
            [[login]]
            path = "/login"
            [[logout]]
            path = "/logout"
            redirect = "/bye"
            redirect_allow = ["/", "https://www.g.test/bye"]
            [[logout]]
            path = "/logout-all"
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
            path = "/account/**"
            session_control = true
            {rules}
            "#,
            app.address
        )
    }

    /// Turns the wall clock forward: tokens and sessions grow old, leases do not.
    pub fn pass(&self, time: Duration) {
        self.hands.advance_wall(time);
    }

    /// Turns the wall clock back.
    pub fn turn_back(&self, time: Duration) {
        self.hands.rewind_wall(time);
    }

    /// Lets all leases that run now run out.
    pub fn lapse(&self) {
        self.hands.advance_boot(Duration::from_mins(2));
    }

    /// The session store's file.
    pub fn store(&self) -> StoreFile {
        StoreFile::at(self.folder.path().join("sessions.db"))
    }

    /// Where the files of this world are.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Runs `portcullis` with these arguments, on this world's store.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let store = format!("sqlite:{}", self.store().path().display());
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(arguments)
            .args(["--store", &store])
            .output()
            .unwrap()
    }
}

/// A disk that is busy with something else can hold up a commit for longer than the store lets anyone wait.
fn in_memory_if_possible() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A gateway that runs in this process until it is dropped.
pub struct Replica {
    pub address: SocketAddr,
    gateway: Option<Gateway>,
}

impl Replica {
    /// What the gateway is made of.
    pub fn parts(&self) -> &Parts {
        self.gateway.as_ref().unwrap().parts()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Sends bytes as they are, on a connection of their own.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut connection = self.connect();
        connection.send(request);
        connection.answer()
    }

    /// Sends a request on a connection of its own.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.raw(&wire::request(method, target, headers, body))
    }

    /// Asks for a page without a cookie.
    pub fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], "")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.shut_down();
        }
    }
}

/// Waits for something that happens by itself, and fails if it does not.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("did not happen within ten seconds: {what}");
}

/// Does something `count` times at once; each is told its number.
pub fn together<T: Send>(count: usize, task: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    std::thread::scope(|scope| {
        let start_one = |number| {
            let (task, start) = (&task, &start);
            scope.spawn(move || {
                start.wait();
                task(number)
            })
        };
        let threads: Vec<_> = (0..count).map(start_one).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    })
}
