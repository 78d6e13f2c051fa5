//! A proxy of others, to see whether a test would find in it what it is to find in ours.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;

/// nginx that speaks HTTP/2 without TLS; ended when dropped.
pub struct Nginx {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

/// `None` if it is not installed.
pub fn start() -> Option<Nginx> {
    const PROGRAM: &str = "/usr/sbin/nginx";
    if !std::path::Path::new(PROGRAM).exists() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let configuration = format!(
        "daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log error.log;\n\
        events {{ worker_connections 64; }}\n\
        http {{ access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;\n\
        server {{ listen {address} http2; location / {{ return 200 'ok'; }} }} }}\n"
    );
    let path = folder.path().join("nginx.conf");
    std::fs::write(&path, configuration).unwrap();
    let child = Command::new(PROGRAM)
        .arg("-p")
        .arg(folder.path())
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("nginx listens", || TcpStream::connect(address).is_ok());
    Some(Nginx {
        address,
        child,
        _folder: folder,
    })
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
