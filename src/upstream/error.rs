//! The ways in which an upstream server fails to answer, and who is to blame.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::http1::MAX_HEAD_BYTES;
use super::multiplexed;
use super::request_body::BoxError;

/// Why there is no answer. Texts name the upstream as the operator does and show nothing of the request.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// The name was not found, nobody listens, or the network has no way there; 502.
    #[error("cannot connect to upstream {upstream}: check its address and that it runs")]
    Connect {
        upstream: Arc<str>,
        #[source]
        cause: io::Error,
    },
    /// Neither accepted nor refused in time; 504.
    #[error("upstream {upstream} did not accept a connection within {after:?}")]
    ConnectTimeout { upstream: Arc<str>, after: Duration },
    /// All connections that there may be are in use, and as many requests as may wait do; 503.
    #[error(
        "upstream {upstream} has no connection free: raise connections or waiting, or add servers"
    )]
    Full { upstream: Arc<str> },
    /// The server's certificate, or ours, was not accepted; 502.
    #[error(
        "no TLS with upstream {upstream}: check its certificate, tls_ca_file, tls_server_name and tls_certificate"
    )]
    Tls {
        upstream: Arc<str>,
        #[source]
        cause: io::Error,
    },
    /// It speaks HTTP/1.1 alone; 502.
    #[error("upstream {upstream} does not speak HTTP/2: set http to \"1.1\" or \"auto\"")]
    NoHttp2 { upstream: Arc<str> },
    /// The whole exchange took too long; 504.
    #[error("upstream {upstream} did not answer within {after:?} in all")]
    TotalTimeout { upstream: Arc<str>, after: Duration },
    /// The answer's head did not come in time; 504.
    #[error("upstream {upstream} did not begin its answer within {after:?}")]
    ResponseTimeout { upstream: Arc<str>, after: Duration },
    /// The connection ended before the answer's head was complete; 502.
    #[error("upstream {upstream} closed the connection without an answer")]
    Closed {
        upstream: Arc<str>,
        #[source]
        cause: ExchangeError,
    },
    /// What came is not the head of an HTTP answer, or longer than we take; 502.
    #[error("upstream {upstream} sent something that is not an HTTP answer")]
    Garbage {
        upstream: Arc<str>,
        #[source]
        cause: ExchangeError,
    },
    /// The answer's body would end elsewhere for another reader, or has a transfer coding besides chunks; 502.
    #[error(
        "upstream {upstream} did not say plainly where its answer ends: check its Content-Length and Transfer-Encoding"
    )]
    Framing { upstream: Arc<str> },
    /// 101 to a request that asked for no upgrade; 502.
    #[error("upstream {upstream} switched protocols without being asked")]
    UnexpectedUpgrade { upstream: Arc<str> },
    /// The client's body broke off or failed while we passed it on; nobody may be left to hear an answer.
    #[error("the body of the request failed on its way to the upstream")]
    RequestBody {
        #[source]
        cause: ExchangeError,
    },
}

/// What was noticed of an exchange that failed.
#[derive(Debug, Error)]
pub enum ExchangeError {
    #[error("the connection was closed")]
    Ended,
    #[error("the connection failed")]
    Failed(#[source] io::Error),
    #[error("what came first is no head of HTTP/1.1")]
    Head(#[source] httparse::Error),
    #[error("a head is longer than {MAX_HEAD_BYTES} bytes")]
    HeadTooLong,
    #[error("too many interim answers")]
    TooManyInterim,
    #[error("an answer came before anything was asked")]
    Unasked,
    #[error("the body is not in chunks as RFC 9112 section 7.1 has them")]
    Chunks,
    #[error("the connection was closed before the end of the body")]
    Incomplete,
    #[error("the request's body failed")]
    RequestBody(#[source] BoxError),
    #[error("the request's body is not as long as was announced")]
    RequestLength,
    #[error("the exchange over HTTP/2 failed")]
    Http2(#[source] hyper::Error),
}

impl ExchangeError {
    /// What came is not HTTP.
    pub(super) fn is_garbage(&self) -> bool {
        match self {
            Self::Head(_) | Self::HeadTooLong | Self::TooManyInterim | Self::Unasked => true,
            Self::Http2(cause) => cause.is_parse() || multiplexed::is_garbage(cause),
            _ => false,
        }
    }

    /// It was the request's body that broke off.
    pub(super) fn is_of_request_body(&self) -> bool {
        match self {
            Self::RequestBody(_) | Self::RequestLength => true,
            Self::Http2(cause) => cause.is_body_write_aborted(),
            _ => false,
        }
    }
}

/// Who has to change something for the request to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Client,
    Upstream,
    /// Whoever runs the gateway: a bound is reached.
    Gateway,
}

impl UpstreamError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::RequestBody { .. } => Fault::Client,
            Self::Full { .. } => Fault::Gateway,
            Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Tls { .. }
            | Self::NoHttp2 { .. }
            | Self::TotalTimeout { .. }
            | Self::ResponseTimeout { .. }
            | Self::Closed { .. }
            | Self::Garbage { .. }
            | Self::Framing { .. }
            | Self::UnexpectedUpgrade { .. } => Fault::Upstream,
        }
    }

    /// Whether the server reset the connection, or the system did in its place.
    pub(super) fn is_reset(&self) -> bool {
        let cause = match self {
            Self::Connect { cause, .. } => {
                return cause.kind() == io::ErrorKind::ConnectionReset;
            }
            Self::Closed { cause, .. } => cause,
            _ => return false,
        };
        let causes = std::iter::successors(cause.source(), |cause| (*cause).source());
        causes
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| {
                matches!(
                    cause.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
                )
            })
    }

    /// The stable name for logs, metrics and error bodies.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "upstream_connect",
            Self::ConnectTimeout { .. } => "upstream_connect_timeout",
            Self::Full { .. } => "upstream_full",
            Self::Tls { .. } => "upstream_tls",
            Self::NoHttp2 { .. } => "upstream_no_http2",
            Self::TotalTimeout { .. } => "upstream_total_timeout",
            Self::ResponseTimeout { .. } => "upstream_response_timeout",
            Self::Closed { .. } => "upstream_closed",
            Self::Garbage { .. } => "upstream_garbage",
            Self::Framing { .. } => "upstream_framing",
            Self::UnexpectedUpgrade { .. } => "upstream_unexpected_upgrade",
            Self::RequestBody { .. } => "request_body",
        }
    }
}
