//! Replicas of the gateway, each a process of the built binary, on one database, each through a link of its own.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use portcullis::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::app;
use super::client::{Answer, Client};
use super::link::Link;
use super::process::{eventually, signal};
use super::server::{Kind, Server};

/// Three replicas and what they need.
pub struct Fleet {
    replicas: Vec<Replica>,
    pub server: Mutex<Server>,
    pub clock: Clock,
    pub runtime: Runtime,
    _folder: TempDir,
}

/// How a fleet is configured.
#[derive(Clone, Copy)]
pub struct Settings {
    /// Of each replica; there are as many as this names.
    pub leases: &'static [&'static str],
    /// Further keys of `[revocation]`.
    pub revocation: &'static str,
    /// Past the links, for who measures.
    pub is_direct: bool,
}

/// For how long a replica trusts what it has read, in most stories.
pub const LEASE: Duration = Duration::from_secs(1);

impl Default for Settings {
    fn default() -> Self {
        Self {
            leases: &["1s", "1s", "1s"],
            revocation: "",
            is_direct: false,
        }
    }
}

/// One replica, whether it runs or not.
pub struct Replica {
    pub link: Link,
    config: std::path::PathBuf,
    running: Mutex<Running>,
}

struct Running {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Fleet {
    pub fn start(kind: Kind, settings: Settings) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = Server::start(kind, runtime.handle());
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let token = folder.path().join("admin.token");
        std::fs::write(&token, ADMIN_TOKEN).unwrap();
        std::fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
        let app = app::start();
        let replicas = (settings.leases.iter().enumerate())
            .map(|(number, lease)| {
                let link = Link::to(server.address(), runtime.handle());
                let url = match settings.is_direct {
                    true => server.url(server.address()),
                    false => server.url(link.address),
                };
                let revocation = format!("lease = \"{lease}\"\n{}", settings.revocation);
                let config = folder.path().join(format!("{number}.toml"));
                std::fs::write(
                    &config,
                    configuration(folder.path(), &url, &revocation, app),
                )
                .unwrap();
                let running = Mutex::new(Running::start(&config));
                Replica {
                    link,
                    config,
                    running,
                }
            })
            .collect();
        Self {
            replicas,
            server: Mutex::new(server),
            clock: Clock::system(),
            runtime,
            _folder: folder,
        }
    }

    pub fn replica(&self, number: usize) -> &Replica {
        &self.replicas[number]
    }

    pub fn replicas(&self) -> &[Replica] {
        &self.replicas
    }

    pub fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    /// All that was done to it is undone, and everyone serves again.
    pub fn recover(&self) {
        self.server().thaw();
        for replica in &self.replicas {
            replica.link.heal();
            replica.resume();
        }
        for (number, replica) in self.replicas.iter().enumerate() {
            eventually(&format!("replica {number} is ready"), || replica.is_ready());
        }
    }
}

fn configuration(folder: &Path, url: &str, revocation: &str, app: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
[server.limits]
drain_timeout = "200ms"
[admin]
listen = "127.0.0.1:0"
token_file = "{folder}/admin.token"
[store]
url = "{url}"
master_key_file = "{folder}/master.key"
[revocation]
{revocation}
[telemetry]
access_log = false
[[upstream]]
name = "app"
servers = ["http://{app}"]
[[login]]
path = "/login"
[[logout]]
path = "/logout"
[[logout]]
path = "/logout-all"
scope = "user"
[[route]]
path = "/public/**"
auth = "none"
"#
    )
}

/// Of the API; 32 characters at least.
const ADMIN_TOKEN: &str = "only-for-tests-only-for-tests-only-for-tests";

impl Replica {
    pub fn address(&self) -> SocketAddr {
        self.running().address
    }

    /// A call of the admin API.
    pub fn admin(&self, client: &mut Client, method: &str, target: &str) -> Option<Answer> {
        let admin = self.running().admin;
        let headers = format!("authorization: Bearer {ADMIN_TOKEN}\r\n");
        client.send(admin, method, target, &headers)
    }

    /// Its number as a process.
    pub fn process(&self) -> u32 {
        self.running().child.id()
    }

    pub fn is_ready(&self) -> bool {
        self.readiness().is_some_and(|answer| answer.status == 200)
    }

    pub fn readiness(&self) -> Option<Answer> {
        let admin = self.running().admin;
        Client::default().send(admin, "GET", "/readyz", "")
    }

    /// What it has logged since it was started.
    pub fn log(&self) -> String {
        self.running().log.lock().unwrap().clone()
    }

    /// Nothing of it runs until [`Self::resume`].
    pub fn pause(&self) {
        signal(self.running().child.id(), "STOP");
    }

    pub fn resume(&self) {
        signal(self.running().child.id(), "CONT");
    }

    /// As a power cut does.
    pub fn kill(&self) {
        let mut running = self.running();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// As an administrator does, and waits for its end.
    pub fn stop(&self) {
        let mut running = self.running();
        signal(running.child.id(), "TERM");
        running.child.wait().unwrap();
    }

    /// Another process takes the place of one that has ended.
    pub fn start(&self) {
        let mut running = self.running();
        running.assert_never_panicked();
        *running = Running::start(&self.config);
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap()
    }
}

impl Running {
    /// Waits until it listens.
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .env_clear()
            .args(["serve", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let written = Arc::clone(&log);
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = written.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let find = |marker: &str| -> Option<SocketAddr> {
            let log = log.lock().unwrap();
            let (_, rest) = log.split_once(marker)?;
            rest.lines().next()?.parse().ok()
        };
        let mut addresses = None;
        eventually("the gateway listens", || {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the gateway ended: {}",
                log.lock().unwrap()
            );
            let public = find(": listening address=");
            addresses = public.zip(find(": admin listening address="));
            addresses.is_some()
        });
        let (address, admin) = addresses.unwrap();
        Self {
            child,
            address,
            admin,
            log,
        }
    }

    fn assert_never_panicked(&self) {
        let log = self.log.lock().unwrap();
        assert!(!log.contains("panicked"), "{log}");
    }
}

impl Drop for Running {
    #[expect(clippy::print_stderr, reason = "a test that fails shows why")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log.lock().unwrap();
            eprintln!("--- log of {} ---\n{log}", self.address);
        } else {
            self.assert_never_panicked();
        }
    }
}
