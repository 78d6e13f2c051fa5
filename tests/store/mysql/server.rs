//! A MariaDB of a test's own, to be frozen, killed and misconfigured.

use std::io;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, MySqlConnection};
use tempfile::TempDir;

use super::run;

/// Killed, with its data, when it is dropped.
pub struct Server {
    folder: TempDir,
    port: u16,
    process: Child,
}

impl Server {
    pub async fn start() -> Self {
        let folder = match tempfile::tempdir_in("/dev/shm") {
            Ok(folder) => folder,
            Err(_) => tempfile::tempdir().unwrap(),
        };
        let data = format!("--datadir={}", folder.path().join("data").display());
        let made = Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                &data,
            ])
            .args(as_whom())
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = launch(&folder, port);
        let server = Self {
            folder,
            port,
            process,
        };
        let mut administrator = server.administrator().await;
        run(
            &mut administrator,
            "CREATE DATABASE portcullis; CREATE USER app@127.0.0.1; GRANT ALL ON `portcullis%`.* TO app@127.0.0.1",
        )
        .await;
        server
    }

    /// Of a user without the privileges that administrators have.
    pub fn url(&self) -> String {
        format!("mysql://app@127.0.0.1:{}/portcullis", self.port)
    }

    /// Waits until the server answers.
    pub async fn administrator(&self) -> MySqlConnection {
        let options = MySqlConnectOptions::new()
            .username("root")
            .socket(self.folder.path().join("socket"));
        for _ in 0..600 {
            match options.connect().await {
                Ok(connection) => return connection,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        panic!("the server does not start: {log}");
    }

    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.process = launch(&self.folder, self.port);
        self.administrator().await;
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let done = Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap();
        assert!(done.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _: io::Result<()> = self.process.kill();
        let _ = self.process.wait();
    }
}

fn launch(folder: &TempDir, port: u16) -> Child {
    let at = |name: &str| folder.path().join(name).display().to_string();
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(at("log"))
        .unwrap();
    let program = ["/usr/sbin/mariadbd", "mariadbd"];
    let program = program
        .into_iter()
        .find(|path| std::fs::exists(path).unwrap())
        .unwrap_or(program[1]);
    Command::new(program)
        .args([
            "--no-defaults",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=16M",
        ])
        .arg(format!("--datadir={}", at("data")))
        .arg(format!("--socket={}", at("socket")))
        .arg(format!("--pid-file={}", at("pid")))
        .arg(format!("--port={port}"))
        .args(as_whom())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// It refuses to run as root unless that is said.
fn as_whom() -> Option<&'static str> {
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    (uid == 0).then_some("--user=root")
}
