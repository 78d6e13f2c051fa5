//! A folder with a configuration, the gateway that runs on it, and the commands that are run beside it.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use super::{Conn, eventually, within};

/// The `[[upstream]]` that serves whatever no rule names, with `more` keys.
pub fn app(address: SocketAddr, more: &str) -> String {
    format!("[[upstream]]\nname = \"app\"\nservers = [\"http://{address}\"]\n{more}\n")
}

/// An application with a login, a logout, and `/public/**` and `/hook`, which are open to all.
pub fn only_app(address: SocketAddr) -> String {
    let mut text = app(address, "");
    text.push_str(RULES);
    text
}

const RULES: &str = r#"
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

[[route]]
path = "/hook"
methods = ["POST"]
auth = "none"
"#;

/// A folder with a configuration, a store and a master key.
pub struct Home {
    directory: TempDir,
}

impl Home {
    /// `more` is all but the addresses to listen on, which are picked by the system.
    pub fn new(more: &str) -> Self {
        let home = Self {
            // In memory: what other programs do to the disk of a busy machine is not what is tested.
            directory: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
        };
        home.configure(more);
        home
    }

    pub fn configure(&self, more: &str) {
        let mut text = String::from(
            "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\n",
        );
        text.write_str(more).unwrap();
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        self.path("portcullis.toml")
    }

    /// Names of what lies in the folder.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Starts the gateway and waits until it listens.
    pub fn start(&self) -> Gateway {
        let mut command = program(self.directory.path());
        command.arg("serve").arg("--config").arg(self.config());
        Gateway::start(command)
    }

    /// Starts the gateway; nobody reads what it writes to standard error once it listens.
    pub fn start_unheard(&self) -> Gateway {
        let mut command = program(self.directory.path());
        command.arg("serve").arg("--config").arg(self.config());
        Gateway::start_and_listen_to(command, |line| !line.contains("admin listening"))
    }

    /// Runs `portcullis serve` that is expected to fail.
    pub fn fail_to_start(&self) -> Ended {
        self.run(&["serve"])
    }

    /// Runs a command with this folder's configuration.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = program(self.directory.path());
        command.args(arguments).arg("--config").arg(self.config());
        Ended::of(command)
    }

    /// Runs a command as it is, in this folder.
    pub fn run_plain(&self, arguments: &[&str]) -> Ended {
        let mut command = program(self.directory.path());
        command.args(arguments);
        Ended::of(command)
    }

    /// Opens a session by the command line.
    pub fn open_session(&self, user: &str) -> Opened {
        let ended = self.run(&["sessions", "open", "--json", "--user", user]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        Opened::from_json(&ended.stdout)
    }

    /// The handles in `sessions list`.
    pub fn listed(&self) -> Vec<String> {
        let ended = self.run(&["sessions", "list", "--json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let handle = |line: &str| {
            let session: serde_json::Value = serde_json::from_str(line).unwrap();
            session["handle"].as_str().unwrap().to_owned()
        };
        ended.stdout.lines().map(handle).collect()
    }
}

/// The program with nothing of ours in its environment.
pub fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command
        .current_dir(directory)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A session that a command opened.
pub struct Opened {
    pub handle: String,
    /// The value of a `Cookie` header.
    pub cookie: String,
}

impl Opened {
    fn from_json(line: &str) -> Self {
        let opened: serde_json::Value = serde_json::from_str(line).unwrap();
        Self {
            handle: opened["handle"].as_str().unwrap().to_owned(),
            cookie: opened["cookie"].as_str().unwrap().to_owned(),
        }
    }
}

/// A command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Runs it to its end; one that does not end is killed, and fails the test.
    pub fn of(mut command: Command) -> Self {
        let child = command.spawn().unwrap();
        let id = child.id();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(child.wait_with_output()));
        let Ok(output) = told.recv_timeout(super::PATIENCE) else {
            signal(id, "KILL");
            panic!("{command:?} did not end");
        };
        let output = output.unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A gateway that runs. It is killed when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    admin: Option<SocketAddr>,
    child: Child,
    log: Arc<Mutex<String>>,
    /// Nothing that a test sends may make it panic; what a test does to it may.
    may_panic: bool,
    /// Holds the other end of standard error open.
    _alive: mpsc::Sender<()>,
}

impl Gateway {
    /// Waits until it says where it listens.
    pub fn start(command: Command) -> Self {
        Self::start_and_listen_to(command, |_| true)
    }

    fn start_and_listen_to(mut command: Command, go_on: fn(&str) -> bool) -> Self {
        let mut child = command.spawn().unwrap();
        let may_panic = command.get_envs().any(|(name, _)| name == "LD_PRELOAD");
        let log = Arc::new(Mutex::new(String::new()));
        let (alive, ended) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                let mut lines = stderr.lines().map_while(Result::ok);
                for line in &mut lines {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                    drop(log);
                    if !go_on(&line) {
                        break;
                    }
                }
                // The pipe stays open, and fills.
                ended.recv().unwrap_or_default();
                drop(lines);
            }
        });
        let mut gateway = Self {
            address: ([0, 0, 0, 0], 0).into(),
            admin: None,
            child,
            log,
            may_panic,
            _alive: alive,
        };
        eventually("the gateway listens", || {
            assert!(
                gateway.child.try_wait().unwrap().is_none(),
                "the gateway ended: {}",
                gateway.log()
            );
            gateway.address_after(": listening address=").is_some()
        });
        gateway.address = gateway.address_after(": listening address=").unwrap();
        within(Duration::from_millis(200), || {
            gateway
                .address_after(": admin listening address=")
                .is_some()
        });
        gateway.admin = gateway.address_after(": admin listening address=");
        gateway
    }

    /// All that it listens on for clients, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let log = self.log();
        let parts = log.split(": listening address=").skip(1);
        let address = |part: &str| part.lines().next()?.parse().ok();
        parts.filter_map(address).collect()
    }

    fn address_after(&self, marker: &str) -> Option<SocketAddr> {
        let log = self.log();
        let (_, rest) = log.split_once(marker)?;
        rest.lines().next()?.parse().ok()
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin.unwrap()
    }

    pub fn connect(&self) -> Conn {
        Conn::to(self.address)
    }

    /// What it has written to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until it has: its log is written by a thread of its own, and read by one.
    pub fn has_logged(&self, text: &str) {
        eventually(text, || self.log().contains(text));
    }

    pub fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the gateway ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// As a power cut does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Memory in RAM, in KiB; with `peak`, the most that it ever was.
    pub fn resident_kib(&self, peak: bool) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let name = if peak { "VmHWM:" } else { "VmRSS:" };
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .trim()
            .strip_suffix(" kB")
            .unwrap()
            .parse()
            .unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The status of an answer of the private listener.
    pub fn admin_status(&self, path: &str) -> u16 {
        self.admin_get(path).status
    }

    /// An answer of the private listener.
    pub fn admin_get(&self, path: &str) -> super::Answer {
        let mut conn = Conn::to(self.admin());
        let host = self.admin();
        conn.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        conn.answer()
    }

    /// The status of a GET with these cookies, over a connection of its own.
    pub fn status(&self, path: &str, cookie: &str) -> u16 {
        self.get(path, cookie).status
    }

    pub fn get(&self, path: &str, cookie: &str) -> super::Answer {
        self.connect().get(path, cookie)
    }
}

impl Drop for Gateway {
    #[expect(clippy::print_stderr, reason = "a test that fails shows why")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.log();
        if std::thread::panicking() {
            eprintln!("--- log of the gateway ---\n{log}");
        } else {
            assert!(self.may_panic || !log.contains("panicked"), "{log}");
        }
    }
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}
