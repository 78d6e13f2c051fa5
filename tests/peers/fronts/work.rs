//! What a front is to do, in words that are nobody's configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{Front, Make};
use crate::support::tls::write_certificate;
use crate::support::{Home, Upstream};

/// All that can be asked of a front. A case says what it is about, and takes the rest as it is.
pub struct Work {
    /// For files: those of the configuration and those that it names.
    pub home: Home,
    pub listeners: Vec<Listener>,
    /// Of the only upstream: an address, or `unix:` and a path.
    pub servers: Vec<String>,
    /// For listeners with TLS, the one for everybody first.
    pub certificates: Vec<Certificate>,
    /// Whether clients have to show a certificate that was issued by `clients.pem`.
    pub asks_clients: bool,
    pub minimum_tls_13: bool,
    /// How servers are met by TLS.
    pub servers_tls: Option<ServersTls>,
    /// Whether servers are met by HTTP/2.
    pub servers_http2: bool,
    pub connect_timeout: Duration,
    /// Until the head of an answer.
    pub response_timeout: Duration,
    /// Between two pieces of an answer; the others know one time for both.
    pub stall_timeout: Duration,
    /// Between two pieces that come through a tunnel, either way.
    pub tunnel_idle: Duration,
    /// To one server, at once; who comes too much waits.
    pub connections_per_server: Option<usize>,
    /// Whether each server is asked for `/healthz`, often.
    pub asks_health: bool,
    /// Of a request.
    pub head_bytes: usize,
    pub body_bytes: Option<usize>,
    /// And of a handshake of TLS, or a PROXY header.
    pub head_timeout: Duration,
    pub body_timeout: Duration,
    pub keep_alive_timeout: Duration,
    pub write_timeout: Duration,
    pub connections_per_address: Option<usize>,
    /// For one address, with ten seconds' worth at once.
    pub logins_per_second: Option<usize>,
    /// Networks of proxies in front, which say who the client is in `X-Forwarded-For`.
    pub trusted_proxies: Vec<&'static str>,
    /// Paths that are forwarded otherwise.
    pub rules: Vec<Rule>,
}

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Plain,
    /// HTTP/2 with prior knowledge.
    Http2,
    Tls,
    /// Everything is sent to `https://g.test`.
    Redirect,
    /// Behind a balancer, which begins with a PROXY header.
    Balanced,
    /// Plain, at `front.sock` in the folder.
    File,
}

/// In `NAME.pem` and `NAME.key`; in `NAME.both` for those who want it in one file.
pub struct Certificate {
    pub name: &'static str,
    pub hosts: &'static [&'static str],
    /// Whether `NAME.ocsp` goes with it.
    pub has_ocsp: bool,
}

pub struct ServersTls {
    /// What the servers' certificates are for.
    pub name: &'static str,
    /// File in the folder with those who are trusted.
    pub ca: &'static str,
    /// The certificate that is shown, by its name.
    pub shows: Option<&'static str>,
}

/// For a path and all below it.
pub struct Rule {
    pub path: &'static str,
    /// Whether the server is told the path without it.
    pub is_stripped: bool,
    /// What the server is told as the host.
    pub host: Option<&'static str>,
}

impl Work {
    pub fn to(upstream: &Upstream) -> Self {
        Self::to_servers(&[upstream.address])
    }

    pub fn to_servers(servers: &[SocketAddr]) -> Self {
        Self {
            home: Home::new(""),
            listeners: vec![Listener::Plain],
            servers: servers.iter().map(ToString::to_string).collect(),
            certificates: Vec::new(),
            asks_clients: false,
            minimum_tls_13: false,
            servers_tls: None,
            servers_http2: false,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(20),
            tunnel_idle: Duration::from_secs(60),
            connections_per_server: None,
            asks_health: false,
            head_bytes: 16 * 1024,
            body_bytes: None,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(20),
            connections_per_address: None,
            logins_per_second: None,
            trusted_proxies: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Listeners of these kinds, in this order.
    pub fn at(mut self, listeners: &[Listener]) -> Self {
        self.listeners = listeners.to_vec();
        self
    }

    /// Writes a certificate for these hosts, and shows it to those who ask for them.
    pub fn certify(
        &mut self,
        name: &'static str,
        hosts: &'static [&'static str],
    ) -> CertificateDer<'static> {
        self.certificates.push(Certificate {
            name,
            hosts,
            has_ocsp: false,
        });
        write_both(&self.home.path(""), name, hosts)
    }

    pub fn start(self, make: Make) -> Front {
        Front::start(self, make)
    }
}

/// A certificate in all the files that somebody reads it from.
pub fn write_both(folder: &Path, name: &str, hosts: &[&str]) -> CertificateDer<'static> {
    let certificate = write_certificate(folder, name, hosts);
    let read = |ending: &str| std::fs::read(folder.join(format!("{name}.{ending}"))).unwrap();
    let both = [read("pem"), read("key")].concat();
    std::fs::write(folder.join(format!("{name}.both")), both).unwrap();
    certificate
}
