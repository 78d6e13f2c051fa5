//! The HTTP/1.1 client of one worker to one upstream server.
//!
//! A worker is one thread with one runtime, so everything here is thread-local: `Rc`, `RefCell`, local tasks, no lock.
//! It is built on hyper's connection-level client and a pool of its own rather than on a general client, because a
//! gateway must know what a general client hides: whether a request was written, whether a byte of an answer came,
//! and whose fault a failure is. Three rules follow from that:
//!
//! - **A request is repeated only if nothing can have happened.** One that was never written goes out again on a fresh
//!   connection, whatever it is. One that was written on a *reused* connection which then closed without a byte of an
//!   answer was most likely met by the upstream's idle timeout; it goes out again once, if its method is idempotent
//!   (RFC 9110 section 9.2.2), it had no body and the caller allows it. Nothing else is repeated.
//! - **The body decides the framing.** `Content-Length` and `Transfer-Encoding` of the request are written from the
//!   body's size hint; what the caller left in the head cannot contradict what is sent.
//! - **A connection comes back only when it is at rest**: the answer has ended cleanly, the request's body was sent
//!   whole, both sides speak HTTP/1.1. Everything else is closed.
//!
//! Trailers pass in both directions; hyper writes those of a request only if its `Trailer` header names them.

mod answer;
mod connection;
mod error;
mod pool;
mod request_body;
mod stream;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;

pub use answer::UpstreamBody;
use connection::{Connection, Exchange, connect};
pub use error::{Fault, UpstreamError};
use pool::Pool;
use request_body::{BoxError, RequestBody, Upload};

use crate::clock::Clock;

/// Where an upstream server is, and how patient we are with it.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// What the operator calls it; goes into errors and logs.
    pub name: Arc<str>,
    /// The host and port to connect to; port 80 if none is named. A host name is looked up at each connect.
    pub authority: Authority,
    /// Bounds the name lookup and the TCP handshake together.
    pub connect_timeout: Duration,
    /// Bounds the wait for the answer's head. It counts from the moment the request was handed over or, if it has a
    /// body, from the last byte of it that the upstream took; it does not run while the client owes us the next piece,
    /// because a slow client is not a slow upstream. The answer's body is not bounded by it.
    pub response_timeout: Duration,
    /// An idle connection that is older is not used again. Should be shorter than the upstream's own timeout.
    pub idle_timeout: Duration,
    /// How many idle connections are kept; the oldest goes first.
    pub idle_connections: usize,
}

/// Whether the caller lets a request without body and with an idempotent method go out a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    Allowed,
    Never,
}

/// One worker's connections to one upstream server; cheap to clone within the worker.
#[derive(Clone, Debug)]
pub struct Upstream {
    settings: Rc<UpstreamSettings>,
    pool: Rc<Pool>,
}

impl Upstream {
    /// Nothing is connected before the first request.
    pub fn new(settings: Rc<UpstreamSettings>, clock: Clock) -> Self {
        let pool = Pool::new(settings.idle_connections, settings.idle_timeout, clock);
        Self {
            settings,
            pool: Rc::new(pool),
        }
    }

    /// Sends the request and gives the head of the answer with a streaming body.
    ///
    /// The URI is written as it is (origin-form) and the caller has set `Host`. After a 101 the response carries
    /// hyper's `OnUpgrade` (take it with [`hyper::upgrade::on`]); its connection belongs to the caller. Dropping the
    /// future closes the connection it was using. Must run within a `LocalSet`.
    pub async fn send<B>(
        &self,
        request: Request<B>,
        replay: Replay,
    ) -> Result<Response<UpstreamBody>, UpstreamError>
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let (mut head, body) = request.into_parts();
        let body = RequestBody::new(body);
        let upload = body.upload();
        head.version = Version::HTTP_11;
        write_framing(&mut head.headers, &body);
        let asks_upgrade = head.headers.contains_key(UPGRADE);
        let repeatable =
            replay == Replay::Allowed && upload.is_none() && head.method.is_idempotent();
        let request = Request::from_parts(head, body);

        let (mut answer, connection) = self
            .exchange(request, upload.as_deref(), repeatable)
            .await?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            if !asks_upgrade {
                return Err(UpstreamError::UnexpectedUpgrade {
                    upstream: self.name(),
                });
            }
            connection.leave_to_upgrade();
            return Ok(answer.map(UpstreamBody::detached));
        }
        if !settle_framing(answer.headers_mut()) {
            return Err(UpstreamError::Framing {
                upstream: self.name(),
            });
        }
        // To a server that answered in HTTP/1.0 hyper speaks HTTP/1.0 from then on, which cannot frame a body of
        // unknown length.
        let pool = (answer.version() == Version::HTTP_11).then(|| Rc::clone(&self.pool));
        // Whoever passes the answer on speaks its own version (RFC 9112 section 2.3), and frames the body in it.
        *answer.version_mut() = Version::HTTP_11;
        Ok(answer.map(|body| UpstreamBody::new(body, connection, pool)))
    }

    /// How many connections wait for a request; one that died is counted until it is met.
    pub fn idle_connections(&self) -> usize {
        self.pool.len()
    }

    /// On an idle connection if there is one, and on a fresh one if that turns out to be dead.
    async fn exchange(
        &self,
        mut request: Request<RequestBody>,
        upload: Option<&Upload>,
        repeatable: bool,
    ) -> Result<(Response<Incoming>, Connection), UpstreamError> {
        let timeout = self.settings.response_timeout;
        if let Some(mut connection) = self.pool.check_out() {
            let copy = repeatable.then(|| copy_of(&request));
            request = match (connection.exchange(request, upload, timeout).await, copy) {
                (Exchange::Answered(answer), _) => return Ok((answer, connection)),
                (Exchange::NeverSent(request, _), _) => request,
                (Exchange::Lost(_), Some(copy)) if !connection.has_seen_a_byte() => copy,
                (Exchange::Lost(cause), _) => return Err(self.lost(cause, upload)),
                (Exchange::TimedOut, _) => return Err(self.timed_out()),
            };
        }
        let mut connection = connect(&self.settings).await?;
        match connection.exchange(request, upload, timeout).await {
            Exchange::Answered(answer) => Ok((answer, connection)),
            Exchange::NeverSent(_, cause) | Exchange::Lost(cause) => Err(self.lost(cause, upload)),
            Exchange::TimedOut => Err(self.timed_out()),
        }
    }

    fn lost(&self, cause: hyper::Error, upload: Option<&Upload>) -> UpstreamError {
        let upstream = self.name();
        if upload.is_some_and(Upload::has_failed) || cause.is_body_write_aborted() {
            UpstreamError::RequestBody { cause }
        } else if cause.is_parse() {
            UpstreamError::Garbage { upstream, cause }
        } else {
            UpstreamError::Closed { upstream, cause }
        }
    }

    fn timed_out(&self) -> UpstreamError {
        UpstreamError::ResponseTimeout {
            upstream: self.name(),
            after: self.settings.response_timeout,
        }
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.settings.name)
    }
}

/// What a body of unknown length, of known length and no body need in the head, whatever stood there before.
fn write_framing(headers: &mut HeaderMap, body: &RequestBody) {
    if body.is_empty() {
        headers.remove(TRANSFER_ENCODING);
        // A POST that said "0" goes on saying it; a length that no body fulfils would eat the next request.
        if headers.contains_key(CONTENT_LENGTH) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if let Some(length) = body.size_hint().exact() {
        headers.remove(TRANSFER_ENCODING);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Leaves one account of where an answer ends, the one that hyper reads its body by: of a length beside chunks nothing is left
/// (RFC 9112 section 6.3), a length that is said twice is said once. False if the answer can be read in two ways, or is coded
/// in a way that nobody past the upstream would know of.
fn settle_framing(headers: &mut HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let only_chunked =
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        headers.remove(CONTENT_LENGTH);
        return only_chunked;
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return true;
    };
    if lengths.next().is_none() && is_number(first.as_bytes()) {
        return true;
    }
    let mut all = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let said = all.next().unwrap_or_default();
    if !is_number(said) || all.any(|again| again != said) {
        return false;
    }
    let Ok(length) = HeaderValue::from_bytes(said) else {
        return false;
    };
    headers.insert(CONTENT_LENGTH, length);
    true
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// The same request again; only for one without body.
fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
