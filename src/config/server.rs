//! `[server]`: what browsers see, and what they can take of the gateway.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use ipnet::IpNet;

use super::listeners::{PublicListener, read_listeners};
use super::reader::Section;
use super::tls::Tls;
use super::upstream::read_short_upstream;
use super::values::{self, PublicUrl};
use crate::route::EncodedSlash;
use crate::upstream::UpstreamSettings;

/// The public side.
#[derive(Clone, Debug)]
pub struct Server {
    /// At least one.
    pub listeners: Vec<PublicListener>,
    /// For those that speak TLS.
    pub tls: Option<Tls>,
    /// Scheme and host that browsers see, if the operator named them.
    pub public_url: Option<PublicUrl>,
    /// Threads that serve requests.
    pub workers: usize,
    /// Whose word on their clients counts.
    pub trusted_proxies: TrustedProxies,
    pub encoded_slash: EncodedSlash,
    pub limits: Limits,
}

impl Server {
    /// The server, and the upstream that its section may name in short.
    pub(super) fn read(section: &mut Section<'_>, base: &Path) -> (Self, Option<UpstreamSettings>) {
        let (tls, has_tls) =
            section.section("tls", |tls| (Tls::read(tls, base), Tls::is_wanted(tls)));
        let public_url = section.optional_text("public_url", PublicUrl::parse);
        let is_https = public_url.as_ref().is_some_and(PublicUrl::is_https);
        if has_tls && !is_https && (public_url.is_some() || !section.has("public_url")) {
            section.conflict(
                "tls",
                "needs server.public_url to begin with https: cookies are marked as secure by it, and redirects lead there",
            );
        }
        let server = Self {
            listeners: read_listeners(section, has_tls, is_https, base),
            tls,
            public_url,
            // More threads than cores only wait for each other.
            workers: section
                .optional_integer("workers", (1, MOST_WORKERS))
                .unwrap_or_else(cores),
            trusted_proxies: TrustedProxies {
                networks: section.texts("trusted_proxies", &[], values::network),
                headers: section.one_of(
                    "trusted_headers",
                    &[
                        ("x-forwarded", ForwardedHeaders::XForwarded),
                        ("forwarded", ForwardedHeaders::Forwarded),
                    ],
                ),
            },
            encoded_slash: section.one_of(
                "encoded_slash",
                &[
                    ("reject", EncodedSlash::Reject),
                    ("keep", EncodedSlash::Keep),
                ],
            ),
            limits: section.section("limits", Limits::read),
        };
        (server, read_short_upstream(section, base))
    }

    /// Where it listens on the network; port 0 lets the system choose.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(PublicListener::tcp)
    }
}

const MOST_WORKERS: i64 = 256;

fn cores() -> usize {
    available_parallelism().map_or(1, |cores| cores.get().min(256))
}

/// Whose word on their clients counts, and how they write it.
#[derive(Clone, Debug)]
pub struct TrustedProxies {
    pub networks: Vec<IpNet>,
    pub headers: ForwardedHeaders,
}

/// The one family of headers that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedHeaders {
    XForwarded,
    /// RFC 7239.
    Forwarded,
}

/// Requests per second from one address; `None`: as many as come.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub login: Option<NonZeroU32>,
    pub refresh: Option<NonZeroU32>,
    pub logout: Option<NonZeroU32>,
}

/// What one client, or all of them, can take of the gateway.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections of clients; more are turned away until one closes.
    pub connections: usize,
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Header lines of a request.
    pub header_count: usize,
    /// From the first byte of a request's head to its last.
    pub head_timeout: Duration,
    /// A connection between two requests.
    pub keep_alive_timeout: Duration,
    /// Open connections from one address (of IPv6: from one /64); `None`: as many as from all.
    pub connections_per_address: Option<usize>,
    /// TLS connections whose handshake is under way; more are closed.
    pub handshakes: usize,
    /// From the beginning of a TLS connection to the end of its handshake, and for a PROXY header.
    pub handshake_timeout: Duration,
    /// The body of a request, unless its rule has its own; `None`: no limit.
    pub body_bytes: Option<u64>,
    /// Between two pieces of a request's body.
    pub body_timeout: Duration,
    /// A client that does not read what is written to it.
    pub write_timeout: Duration,
    /// A WebSocket through which nothing comes.
    pub websocket_idle: Duration,
    /// A WebSocket, or an answer that streams; `None`: it may last.
    pub max_stream_age: Option<Duration>,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: usize,
    /// Requests per second from one address; `None`: as many as come.
    pub rates: Rates,
    /// From the wish to stop to the end of the last request.
    pub drain_timeout: Duration,
}

/// Of a body that is not kept.
pub(super) const BODY_LIMITS: (&str, &str) = ("1", "1024GiB");

impl Limits {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            // Below what a process may have of open files, twice: one for the client, one for the upstream.
            connections: section.integer("connections", 10_000, (1, 1_000_000)),
            // Twice what browsers send with many cookies; hyper's buffer needs 8 KiB.
            header_bytes: section.bytes("header_bytes", "16KiB", ("8KiB", "1MiB")),
            header_count: section.integer("header_count", 100, (10, 1000)),
            // A slow mobile network sends a head in well under a second.
            head_timeout: section.duration("head_timeout", "10s", ("10ms", "10m")),
            // Above the 60s at which common load balancers close theirs, so that it is never us who close under them.
            keep_alive_timeout: section.duration("keep_alive_timeout", "75s", ("10ms", "1h")),
            // Whoever stands behind a load balancer or a large NAT sees few addresses, so none is assumed.
            connections_per_address: section
                .optional_integer("connections_per_address", (1, 1_000_000)),
            // A handshake takes a few round trips: a thousand at once are several thousand new clients per second.
            handshakes: section.integer("handshakes", 1000, (1, 1_000_000)),
            // As long as a head: both are a few packets.
            handshake_timeout: section.duration("handshake_timeout", "10s", ("10ms", "10m")),
            // Only the application knows what its largest upload is; nothing of a body is kept here, whatever its size.
            body_bytes: section.optional_bytes("body_bytes", BODY_LIMITS),
            // Radio networks lose contact for seconds, not for half a minute.
            body_timeout: section.duration("body_timeout", "30s", ("10ms", "1h")),
            // The system takes megabytes ahead: a slow reader needs time to make room for the next piece.
            write_timeout: section.duration("write_timeout", "60s", ("10ms", "1h")),
            // Who means to keep one pings it within minutes, because networks on the way forget it otherwise.
            websocket_idle: section.duration("websocket_idle", "1h", ("10ms", "30d")),
            max_stream_age: section.optional_duration("max_stream_age", ("10ms", "365d")),
            // What RFC 9113 section 6.5.2 names as the least that is of use.
            streams: section.integer("streams", 100, (1, 10_000)),
            // Per address, which may be a whole load balancer's: what a flood of them costs is then a few percent of a core.
            rates: Rates {
                login: rate(section.integer("logins_per_second", 1000, RATES)),
                refresh: rate(section.integer("refreshes_per_second", 1000, RATES)),
                logout: rate(section.integer("logouts_per_second", 1000, RATES)),
            },
            // What container schedulers grant before they kill.
            drain_timeout: section.duration("drain_timeout", "30s", ("0s", "1h")),
        }
    }
}

const RATES: (i64, i64) = (0, 1_000_000);

/// 0 is no limit.
fn rate(per_second: usize) -> Option<NonZeroU32> {
    u32::try_from(per_second).ok().and_then(NonZeroU32::new)
}
