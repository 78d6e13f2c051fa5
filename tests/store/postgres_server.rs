//! A PostgreSQL of a test's own, to be killed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// Killed, with its data, when it is dropped.
pub struct Server {
    folder: TempDir,
    port: u16,
    process: Child,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.unwrap();
        // Of the user that the server runs as, who need not be the one that the tests run as.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let made = unprivileged(&program("initdb"))
            .args(["-U", "portcullis", "-A", "trust", "--encoding=UTF8"])
            .args(["--locale=C", "--no-sync", "-D"])
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let process = launch(folder.path(), port);
        let server = Self {
            folder,
            port,
            process,
        };
        server.answers().await;
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://portcullis@127.0.0.1:{}/postgres", self.port)
    }

    /// As a power cut does: nobody is told, and nothing is written any more.
    pub fn kill(&mut self) {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        // First the one that would notice that the others end.
        self.process.kill().unwrap();
        for child in children.unwrap_or_default().split_whitespace() {
            // One that has ended by itself is as good.
            let _ = Command::new("kill").args(["-s", "KILL", child]).output();
        }
        self.process.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.process = launch(self.folder.path(), self.port);
        self.answers().await;
    }

    async fn answers(&self) {
        for _ in 0..600 {
            if let Ok(connection) = PgConnection::connect(&self.url()).await {
                connection.close().await.unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        panic!("the server does not start: {log}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn launch(folder: &Path, port: u16) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.join("log"))
        .unwrap();
    let mut command = unprivileged(&program("postgres"));
    command.arg("-D").arg(folder.join("data"));
    command.args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=on",
        "synchronous_commit=on",
    ] {
        command.args(["-c", setting]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// It refuses to run as root.
fn unprivileged(program: &Path) -> Command {
    let mut command = match fs::metadata("/proc/self").unwrap().uid() {
        0 => {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--clear-groups",
                    "--",
                ])
                .arg(program);
            command
        }
        _ => Command::new(program),
    };
    command.current_dir("/");
    command
}

/// Of the newest that Debian's packages have installed.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .max();
    match newest {
        Some(version) => format!("/usr/lib/postgresql/{version}/bin/{name}").into(),
        None => name.into(),
    }
}
