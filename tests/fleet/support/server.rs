//! A database server of a test's own, which it may restart, kill and freeze.
//!
//! The programs are those that `scripts/databases` installs. They run as an unprivileged user, on a free port of 127.0.0.1, with
//! data in memory where there is a file system for it, and as durable as in production.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis::store::SessionStore;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::process::{eventually, signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    MariaDb,
    /// No server at all: a file, for who measures.
    Sqlite,
}

/// A server that runs; killed and removed when dropped.
pub struct Server {
    kind: Kind,
    folder: TempDir,
    address: SocketAddr,
    /// `None` for a file.
    child: Option<Child>,
}

impl Server {
    pub fn start(kind: Kind, runtime: &Handle) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("portcullis-fleet-")
            .tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let address = free_address();
        make(kind, folder.path());
        let child = run(kind, folder.path(), address);
        let server = Self {
            kind,
            folder,
            address,
            child,
        };
        server.wait_until_it_serves(runtime);
        server
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As it is seen through another address.
    pub fn url(&self, through: SocketAddr) -> String {
        match self.kind {
            Kind::Postgres => {
                format!("postgres://portcullis:{PASSWORD}@{through}/postgres?sslmode=disable")
            }
            Kind::MariaDb => {
                format!("mysql://portcullis:{PASSWORD}@{through}/fleet?ssl-mode=disabled")
            }
            Kind::Sqlite => format!("sqlite:{}", self.folder.path().join("fleet.db").display()),
        }
    }

    /// Ends it in order, as an administrator does, and starts it again.
    pub fn restart(&mut self, runtime: &Handle) {
        let name = match self.kind {
            // A "fast" shutdown: connections are closed.
            Kind::Postgres => "INT",
            Kind::MariaDb | Kind::Sqlite => "TERM",
        };
        let child = self.child.as_mut().unwrap();
        signal(child.id(), name);
        child.wait().unwrap();
        self.run_again(runtime);
    }

    /// As a power cut does.
    pub fn kill_and_start(&mut self, runtime: &Handle) {
        self.end();
        self.run_again(runtime);
    }

    /// What a killed server has forked ends a moment after it, and lets no other start before.
    fn run_again(&mut self, runtime: &Handle) {
        self.child = run(self.kind, self.folder.path(), self.address);
        eventually("the database server serves again", || {
            let child = self.child.as_mut().unwrap();
            if child.try_wait().unwrap().is_some() {
                self.child = run(self.kind, self.folder.path(), self.address);
            }
            let url = self.url(self.address);
            let store = runtime.block_on(SessionStore::open(&url));
            store.map(|store| runtime.block_on(store.close())).is_ok()
        });
    }

    /// It stays there, and answers nothing until [`Self::thaw`].
    pub fn freeze(&self) {
        for process in self.processes() {
            signal(process, "STOP");
        }
    }

    pub fn thaw(&self) {
        for process in self.processes() {
            signal(process, "CONT");
        }
    }

    /// The store, past all links.
    pub fn open(&self, runtime: &Handle) -> SessionStore {
        let mut opened = None;
        eventually("the store opens", || {
            opened = runtime
                .block_on(SessionStore::open(&self.url(self.address)))
                .ok();
            opened.is_some()
        });
        opened.unwrap()
    }

    fn wait_until_it_serves(&self, runtime: &Handle) {
        let store = self.open(runtime);
        runtime.block_on(store.close());
    }

    /// The server and what it has forked.
    fn processes(&self) -> Vec<u32> {
        let Some(id) = self.child.as_ref().map(Child::id) else {
            return Vec::new();
        };
        let children =
            fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children = children
            .split_whitespace()
            .map(|child| child.parse().unwrap());
        std::iter::once(id).chain(children).collect()
    }

    fn end(&mut self) {
        // First the one that would notice that the others end.
        for process in self.processes() {
            signal(process, "KILL");
        }
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn make(kind: Kind, folder: &Path) {
    let data = folder.join("data");
    let password = folder.join("password");
    let first_statements = folder.join("first.sql");
    fs::write(&password, PASSWORD).unwrap();
    fs::write(
        &first_statements,
        format!(
            "CREATE USER IF NOT EXISTS 'portcullis'@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL PRIVILEGES ON *.* TO 'portcullis'@'%';\nCREATE DATABASE IF NOT EXISTS fleet;\n"
        ),
    )
    .unwrap();
    let mut command = match kind {
        Kind::Postgres => {
            let mut command = unprivileged("postgres", &postgres_program("initdb"));
            command
                .args(["-U", "portcullis", "-A", "scram-sha-256", "--encoding=UTF8"])
                .args(["--locale=C", "--no-sync", "-D"])
                .arg(&data)
                .arg(format!("--pwfile={}", password.display()));
            command
        }
        Kind::MariaDb => {
            let mut command = unprivileged("mysql", Path::new("mariadb-install-db"));
            command
                .args(["--no-defaults", "--skip-test-db"])
                .arg("--auth-root-authentication-method=normal")
                .arg(format!("--datadir={}", data.display()));
            command
        }
        Kind::Sqlite => return,
    };
    let made = command.stdout(Stdio::null()).output().unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

fn run(kind: Kind, folder: &Path, address: SocketAddr) -> Option<Child> {
    let data = folder.join("data");
    let port = address.port();
    let mut command = match kind {
        Kind::Postgres => {
            let mut command = unprivileged("postgres", &postgres_program("postgres"));
            command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
            for setting in [
                "listen_addresses=127.0.0.1",
                "unix_socket_directories=",
                "max_connections=200",
                "fsync=on",
                "synchronous_commit=on",
            ] {
                command.args(["-c", setting]);
            }
            command
        }
        Kind::MariaDb => {
            let mut command = unprivileged("mysql", &mariadb_program());
            command
                .args([
                    "--no-defaults",
                    "--bind-address=127.0.0.1",
                    "--skip-name-resolve",
                ])
                .args([
                    "--innodb-flush-log-at-trx-commit=1",
                    "--character-set-server=utf8mb4",
                ])
                .args(["--max-connections=200", "--innodb-buffer-pool-size=64M"])
                .arg(format!("--port={port}"))
                .arg(format!("--datadir={}", data.display()))
                .arg(format!("--socket={}/socket", folder.display()))
                .arg(format!("--pid-file={}/pid", folder.display()))
                .arg(format!("--init-file={}/first.sql", folder.display()));
            command
        }
        Kind::Sqlite => return None,
    };
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    Some(child.unwrap())
}

/// The servers refuse to run as root.
fn unprivileged(user: &str, program: &Path) -> Command {
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={user}"))
            .arg(format!("--regid={user}"))
            .args(["--clear-groups", "--"])
            .arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}

/// Of the newest PostgreSQL that Debian's packages have installed.
pub fn postgres_program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").map(|entries| {
        entries
            .map_while(Result::ok)
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .max()
    });
    match versions {
        Ok(Some(version)) => format!("/usr/lib/postgresql/{version}/bin/{name}").into(),
        _ => name.into(),
    }
}

pub fn mariadb_program() -> PathBuf {
    let debian = PathBuf::from("/usr/sbin/mariadbd");
    if debian.exists() {
        debian
    } else {
        "mariadbd".into()
    }
}

/// Below the range from which the kernel gives out ports by itself, so that it is still free after a restart.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() % 10_000 + TAKEN.fetch_add(997, Ordering::Relaxed);
    (0..2_000)
        .map(|step| {
            (
                [127, 0, 0, 1],
                u16::try_from(20_000 + (first + step * 7) % 12_000).unwrap(),
            )
                .into()
        })
        .find(|address: &SocketAddr| TcpListener::bind(address).is_ok())
        .unwrap()
}

const PASSWORD: &str = "only-for-tests";
