//! What the operator decides about an upstream.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;

/// The servers of an upstream, how they are spoken to, and how patient we are with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// What the operator calls it; goes into errors, logs and metrics.
    pub name: Arc<str>,
    /// From 1 to [`MAX_SERVERS`]; all of them are the same application.
    pub servers: Vec<ServerUrl>,
    /// How many requests each of them gets, compared with the others; in their order, at least 1. Empty: all as many.
    pub weights: Vec<u32>,
    pub http: HttpVersion,
    pub tls: TlsSettings,
    /// Unless a route has its own.
    pub timeouts: Timeouts,
    /// An idle connection that is older is not used again. Should be shorter than the upstream's own timeout.
    pub idle_timeout: Duration,
    /// How many idle connections are kept per worker and server; the oldest goes first.
    pub idle_connections: usize,
    /// How many connections there may be per worker and server, whatever they do.
    pub connections: usize,
    /// How many requests per worker and server may wait for one of them.
    pub waiting: usize,
    /// How often a request may be sent again if that is safe.
    pub retries: usize,
    pub ejection: EjectionSettings,
    /// `None`: nobody asks the servers how they are.
    pub health: Option<HealthSettings>,
    /// Between two look-ups of the servers' names.
    pub resolve_interval: Duration,
}

impl UpstreamSettings {
    /// Whether a server speaks TLS, for which files are read.
    pub fn needs_tls(&self) -> bool {
        self.servers.iter().any(ServerUrl::is_tls)
    }
}

/// Sets of servers are kept as bits of a word.
pub const MAX_SERVERS: usize = 64;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerUrl {
    /// Host and port; without a port it is 80, or 443 with TLS.
    Tcp { tls: bool, authority: Authority },
    /// The path of a socket; spoken to without TLS.
    Unix(PathBuf),
}

impl ServerUrl {
    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }
}

/// As the operator writes it.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp {
                tls: true,
                authority,
            } => write!(f, "https://{authority}"),
            Self::Tcp {
                tls: false,
                authority,
            } => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which HTTP is spoken to the servers. WebSockets are always opened in HTTP/1.1, on connections of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    #[default]
    Http1,
    /// Without TLS by prior knowledge (RFC 9113 section 3.3), with TLS by ALPN.
    Http2,
    /// Whatever the server chooses by ALPN; HTTP/1.1 without TLS.
    Auto,
}

/// How a server proves who it is, and we to it. Files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificates that are trusted; `None`: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Our certificate with its chain, and its key.
    pub identity: Option<TlsIdentity>,
    /// The name that the server's certificate is for, and that it is asked for; `None`: the host of its URL.
    pub server_name: Option<String>,
}

/// What we show to a server that wants to know who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// How long each step of a request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Bounds the connection, TLS included, and before it the wait for a place among the connections.
    pub connect: Duration,
    /// Bounds the wait for the answer's head. It counts from the moment the request was handed over or, if it has a
    /// body, from the last byte of it that the upstream took; it does not run while the client owes us the next piece,
    /// because a slow client is not a slow upstream. The answer's body is not bounded by it.
    pub response: Duration,
    /// How long an answer that has begun may stand still while the client waits for more; up to twice as long if it is not
    /// shorter than `response`, for one timer does for both. It does not run while the client's own body comes, or while
    /// the client does not read.
    pub stall: Duration,
    /// Bounds all of it, from the request to the end of the answer.
    pub total: Option<Total>,
}

/// The time for a whole exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    pub limit: Duration,
    /// Whether `text/event-stream` and gRPC, which have no end of their own, are meant too.
    pub for_streams: bool,
}

/// When a server that fails is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectionSettings {
    /// So many failures in a row; 0: never.
    pub failures: u32,
    /// For how long at first. Each further time in a row it is as much longer, up to [`super::MAX_EJECTION`].
    pub time: Duration,
}

/// How servers are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSettings {
    /// Path and query of a GET.
    pub path: http::uri::PathAndQuery,
    pub interval: Duration,
    pub timeout: Duration,
    /// So many good answers in a row bring a server back.
    pub rise: u32,
    /// So many bad ones take it out.
    pub fall: u32,
    /// What is a good answer; `None`: any from 200 to 299.
    pub status: Option<u16>,
}
