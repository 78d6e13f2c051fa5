//! `server.listen`, and `[[server.listener]]` where more is to be said of one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::reader::Section;
use super::values::{self, Reason};

/// Where clients connect, and what is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicListener {
    pub address: ListenAddress,
    pub mode: ListenMode,
    /// HTTP/2 is spoken too: over TLS if the client asks for it, without TLS if it begins with it.
    pub http2: bool,
    /// Whose connections begin with a PROXY header.
    pub proxy_protocol: Vec<ProxyPeer>,
    /// Permissions of a socket file.
    pub socket_mode: u32,
}

/// An address of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// Port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
    /// A socket that systemd hands over: its position, from 0.
    Inherited(usize),
}

/// What is spoken at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenMode {
    Plain,
    Tls,
    /// Plain, and every answer sends the client to the public URL.
    Redirect,
    /// Plain, and another proxy asks whether requests may pass.
    ForwardAuth(Asker),
}

/// Which proxy asks, by what it can do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// nginx, HAProxy and Apache.
    Subrequest,
    Traefik,
    Caddy,
    Envoy,
}

/// Who may say where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyPeer {
    Network(IpNet),
    /// Whoever can open the socket file.
    Unix,
}

impl PublicListener {
    /// The address, if it is one of the network.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self.address {
            ListenAddress::Tcp(address) => Some(address),
            ListenAddress::Unix(_) | ListenAddress::Inherited(_) => None,
        }
    }
}

pub(super) fn read_listeners(
    section: &mut Section<'_>,
    has_tls: bool,
    is_https: bool,
    base: &Path,
) -> Vec<PublicListener> {
    // Whoever opens the gateway to a network says so.
    let listen = section.texts("listen", &["127.0.0.1:8080"], |text| address(text, base));
    if section.has("listen") && section.count("listen") == 0 {
        section.refuse("listen", "at least one address, each of them once");
    }
    let named = section.sections("listener", |listener| {
        read_listener(listener, has_tls, is_https, base)
    });
    let mode = match has_tls {
        true => ListenMode::Tls,
        false => ListenMode::Plain,
    };
    let short = listen.into_iter().map(|address| PublicListener {
        address,
        mode,
        http2: has_tls,
        proxy_protocol: Vec::new(),
        socket_mode: SOCKET_MODE,
    });
    let all: Vec<_> = match section.has("listener") && !section.has("listen") {
        true => named.into_iter().flatten().collect(),
        false => short.chain(named.into_iter().flatten()).collect(),
    };
    let is_repeated = |(at, listener): (usize, &PublicListener)| {
        let picked = listener.tcp().is_some_and(|address| address.port() == 0);
        !picked
            && all[..at]
                .iter()
                .any(|other| other.address == listener.address)
    };
    if all.iter().enumerate().any(is_repeated) {
        let key = match section.has("listen") {
            true => "listen",
            false => "listener",
        };
        section.refuse(key, "at least one address, each of them once");
    }
    all
}

fn read_listener(
    section: &mut Section<'_>,
    has_tls: bool,
    is_https: bool,
    base: &Path,
) -> Option<PublicListener> {
    let address = section.required_text("address", ADDRESSES, |text| address(text, base));
    let mode = section.optional_one_of(
        "mode",
        &[
            ("tls", ListenMode::Tls),
            ("plain", ListenMode::Plain),
            ("redirect", ListenMode::Redirect),
            ("forward-auth", ListenMode::ForwardAuth(Asker::Subrequest)),
        ],
    );
    let mode = asked_by(section, mode);
    if mode == Some(ListenMode::Tls) && !has_tls {
        section.conflict("mode", "needs server.tls.certificate and server.tls.key");
    }
    if mode == Some(ListenMode::Redirect) && !is_https {
        section.conflict(
            "mode",
            "needs server.public_url to begin with https: redirects lead there",
        );
    }
    let mode = mode.unwrap_or(match has_tls {
        true => ListenMode::Tls,
        false => ListenMode::Plain,
    });
    // Browsers speak HTTP/2 over TLS alone.
    let http2 = section
        .optional_bool("http2")
        .unwrap_or(mode == ListenMode::Tls);
    let proxy_protocol = section.texts("proxy_protocol", &[], proxy_peer);
    let socket_mode = section.text("socket_mode", "0660", socket_mode);
    let is_file = matches!(address, Some(ListenAddress::Unix(_)));
    if section.has("socket_mode") && address.is_some() && !is_file {
        section.conflict(
            "socket_mode",
            "is for socket files: the address has to be \"unix:\" and a path",
        );
    }
    Some(PublicListener {
        address: address?,
        mode,
        http2,
        proxy_protocol,
        socket_mode,
    })
}

/// Who asks, where somebody does: each makes something else of an answer.
fn asked_by(section: &mut Section<'_>, mode: Option<ListenMode>) -> Option<ListenMode> {
    let asker = section.optional_one_of(
        "asked_by",
        &[
            ("nginx", Asker::Subrequest),
            ("haproxy", Asker::Subrequest),
            ("apache", Asker::Subrequest),
            ("traefik", Asker::Traefik),
            ("caddy", Asker::Caddy),
            ("envoy", Asker::Envoy),
        ],
    );
    match (mode, asker) {
        (Some(ListenMode::ForwardAuth(_)), Some(asker)) => Some(ListenMode::ForwardAuth(asker)),
        (Some(ListenMode::ForwardAuth(_)), None) => {
            section.conflict(
                "asked_by",
                "is needed where mode is \"forward-auth\": which proxy asks there?",
            );
            mode
        }
        (_, Some(_)) => {
            section.conflict(
                "asked_by",
                "is for listeners whose mode is \"forward-auth\"",
            );
            mode
        }
        (_, None) => mode,
    }
}

fn address(text: &str, base: &Path) -> Result<ListenAddress, Reason> {
    if let Some(path) = text.strip_prefix("unix:") {
        // sockaddr_un(7): longer paths cannot be bound.
        let path = values::file(path, base)
            .ok()
            .filter(|path| path.as_os_str().len() < 108);
        return path
            .map(ListenAddress::Unix)
            .ok_or_else(|| r#"a path of at most 107 bytes after "unix:""#.into());
    }
    if let Some(position) = text.strip_prefix("systemd:") {
        let position = position.parse().ok().filter(|position| *position < 1000);
        return position
            .map(ListenAddress::Inherited)
            .ok_or_else(|| r#"the position of a socket after "systemd:", from 0"#.into());
    }
    let allowed = |_| Reason::from(ADDRESSES);
    values::socket_address(text)
        .map(ListenAddress::Tcp)
        .map_err(allowed)
}

fn proxy_peer(text: &str) -> Result<ProxyPeer, Reason> {
    if text == "unix" {
        return Ok(ProxyPeer::Unix);
    }
    values::network(text).map(ProxyPeer::Network)
}

fn socket_mode(text: &str) -> Result<u32, Reason> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777 && text.len() <= 4)
        .ok_or_else(|| r#"permissions of a file such as "0660""#.into())
}

/// For the owner and the group, in which the web server in front is.
const SOCKET_MODE: u32 = 0o660;

const ADDRESSES: &str = r#"an IP address and a port such as "127.0.0.1:8080" or "[::1]:8080", "unix:" and a path, or "systemd:" and a position"#;
