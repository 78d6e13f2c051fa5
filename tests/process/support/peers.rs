//! Proxies of others: to see whether a test would find in them what it is to find in ours, and whether ours understands them.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::{Conn, eventually, within};

/// A port that nobody else is given, for a program that cannot tell which one the system has picked for it. It is bound here with
/// `SO_REUSEPORT`, as that program has to bind it too, and nobody listens here.
pub struct Reserved {
    pub address: SocketAddr,
    _socket: Socket,
}

impl Reserved {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self {
            address,
            _socket: socket,
        }
    }
}

/// A proxy that runs; ended when dropped, with its workers, and its log is shown if the test fails.
pub struct Proxy {
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Proxy {
    /// Waits until it listens.
    pub fn start(mut command: Command, address: SocketAddr, log: &Path) -> Self {
        let out = File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{command:?}: {error}: run scripts/test, which installs it")
            });
        let mut proxy = Self {
            address,
            child,
            log: log.to_owned(),
        };
        eventually("the proxy listens", || {
            assert!(proxy.is_running(), "the proxy ended: {}", proxy.log());
            Conn::try_to(address).is_ok()
        });
        proxy
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Proxy {
    #[expect(clippy::print_stderr, reason = "a test that fails shows why")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the proxy ---\n{}", self.log());
        }
        // Servers with worker processes end these when they are told to.
        let _ = Command::new("kill")
            .args(["-s", "TERM", &self.id().to_string()])
            .stderr(Stdio::null())
            .status();
        let child = &mut self.child;
        let has_ended = || !matches!(child.try_wait(), Ok(None));
        if !within(super::PATIENCE, has_ended) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// HAProxy that sends a PROXY header with each connection; ended when dropped.
pub struct HaProxy {
    pub address: SocketAddr,
    _proxy: Proxy,
    _reserved: Reserved,
    _folder: TempDir,
}

impl HaProxy {
    /// `version` is `send-proxy` or `send-proxy-v2`.
    pub fn before(gateway: SocketAddr, version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let reserved = Reserved::new();
        let address = reserved.address;
        let configuration = format!(
            "global\n  maxconn 64\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
            listen l\n  bind {address}\n  server g {gateway} {version}\n"
        );
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, configuration).unwrap();
        let mut command = Command::new("/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(&path);
        let proxy = Proxy::start(command, address, &folder.path().join("log"));
        Self {
            address,
            _proxy: proxy,
            _reserved: reserved,
            _folder: folder,
        }
    }
}
