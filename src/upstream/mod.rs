//! The HTTP client of one worker to one upstream.
//!
//! A worker is one thread with one runtime, so connections are thread-local: `Rc`, `RefCell`, local tasks, no lock. What
//! workers share, [`SharedUpstream`], is where the servers are and how they stand; it is read through atomics, and kept up to
//! date by a task elsewhere. It has a pool and a client for HTTP/1.1 of its own, and uses hyper's for HTTP/2, rather than a
//! general client, because a gateway must know what a general client hides: whether a request was written, whether a byte of an
//! answer came, and whose fault a failure is. These rules follow from that:
//!
//! - **A request is repeated only if nothing can have happened, or if it does not matter.** One that was never written, because
//!   there was no connection, the connection was dead, or the server says that it did nothing (GOAWAY), goes out again, whatever
//!   it is. One that was written to a connection which then closed without a byte of an answer goes out again if its method
//!   is idempotent (RFC 9110 section 9.2.2), it has no body, the caller allows it, and the connection had served before (it
//!   was most likely met by the server's idle timeout), was reset (nobody had read the whole request) or there is
//!   another server to ask. Nothing else is repeated, and nothing more often than `retries`.
//! - **The body decides the framing.** `Content-Length` and `Transfer-Encoding` of the request are written from the
//!   body's size hint; what the caller left in the head cannot contradict what is sent.
//! - **A connection comes back only when it is at rest**: the answer has ended cleanly, the request's body was sent
//!   whole, both sides speak HTTP/1.1. Everything else is closed. HTTP/2 has its streams for that.
//! - **With one server there is nothing to choose**, and nothing is counted.
//!
//! Trailers pass in both directions, in HTTP/1.1 with a body in chunks.

mod addresses;
mod answer;
mod attempt;
mod balance;
mod error;
mod exchange;
mod framing;
mod health;
mod http1;
mod multiplexed;
mod outgoing;
mod pool;
mod request_body;
mod servers;
mod settings;
mod slots;
mod standing;
mod stream;
mod tls;
mod transport;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body;
use tokio::time::{Instant, timeout_at};

pub use answer::{AnswerError, UpstreamBody};
use answer::{Patience, Source};
use attempt::{Answer, Attempt};
use balance::{Candidate, Dice, choose};
pub use error::{ExchangeError, Fault, UpstreamError};
use framing::settle_framing;
use http1::Decoder;
pub use http1::Tunnel;
use outgoing::Message;
pub use outgoing::{FitHeaders, Outgoing};
use pool::Pool;
use request_body::{BoxError, RequestBody, Upload};
pub use servers::{ServerStatus, SharedUpstream};
pub use settings::{
    EjectionSettings, HealthSettings, HttpVersion, MAX_SERVERS, ServerUrl, Timeouts, TlsIdentity,
    TlsSettings, Total, UpstreamSettings,
};
pub use standing::{MAX_EJECTION, Standing, ejection};
pub use tls::TlsSetupError;

use crate::secret::random_bytes;

/// Whether the caller lets a request without body and with an idempotent method go out a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    Allowed,
    Never,
}

/// What the caller says of one request.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub replay: Replay,
    /// Instead of the upstream's own.
    pub timeouts: Option<&'a Timeouts>,
    /// `Host` is to name the server, whatever the caller has set.
    pub host_of_server: bool,
}

impl From<Replay> for Terms<'_> {
    fn from(replay: Replay) -> Self {
        Self {
            replay,
            timeouts: None,
            host_of_server: false,
        }
    }
}

/// One worker's connections to one upstream; cheap to clone within the worker.
#[derive(Clone, Debug)]
pub struct Upstream(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: SharedUpstream,
    /// One per server, in their order.
    pools: Box<[Rc<Pool>]>,
    dice: Dice,
}

/// A request on its way.
struct Order<'a> {
    timeouts: &'a Timeouts,
    upload: Option<Rc<Upload>>,
    host_of_server: bool,
    asks_upgrade: bool,
    /// HEAD: no answer has a body, whatever its head says.
    is_head: bool,
    /// The caller lets it go out again.
    may_repeat: bool,
    /// It may go out again although it may have had its effect.
    is_repeatable: bool,
}

impl Upstream {
    /// Nothing is connected before the first request.
    pub fn new(shared: SharedUpstream) -> Self {
        let known = shared.known();
        let pool = |_: &_| Rc::new(Pool::new(&known.settings, known.clock.clone()));
        let pools = known.servers.iter().map(pool).collect();
        Self(Rc::new(Inner {
            shared,
            pools,
            dice: Dice::new(random_bytes()),
        }))
    }

    /// What it shares with the other workers.
    pub fn shared(&self) -> &SharedUpstream {
        &self.0.shared
    }

    /// Sends the request and gives the head of the answer with a streaming body.
    ///
    /// After a 101 its connection belongs to the caller ([`UpstreamBody::take_tunnel`]). Dropping the future closes the
    /// connection it was using, or resets its stream. Must run within a `LocalSet`.
    pub async fn send<H, B>(
        &self,
        outgoing: Outgoing<H, B>,
        terms: impl Into<Terms<'_>>,
    ) -> Result<Response<UpstreamBody>, UpstreamError>
    where
        H: FitHeaders,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let terms = terms.into();
        let settings = &self.0.shared.known().settings;
        let request = outgoing.into_message(RequestBody::new);
        let upload = request.body.upload();
        let order = Order {
            timeouts: terms.timeouts.unwrap_or(&settings.timeouts),
            host_of_server: terms.host_of_server,
            asks_upgrade: request.headers.contains_key(UPGRADE),
            is_head: request.method == Method::HEAD,
            may_repeat: terms.replay == Replay::Allowed,
            is_repeatable: terms.replay == Replay::Allowed
                && upload.is_none()
                && request.method.is_idempotent(),
            upload,
        };
        let total = order.timeouts.total;
        let end = total.map(|total| Instant::now() + total.limit);
        let exchange = pin!(self.exchange(request, &order));
        let answer = match end {
            None => exchange.await?,
            Some(end) => timeout_at(end, exchange)
                .await
                .map_err(|_| self.took_too_long(order.timeouts))??,
        };
        let end = end.filter(|_| {
            total.is_some_and(|total| total.for_streams) || !is_stream(answer.headers())
        });
        self.receive(answer, &order, end)
    }

    /// What comes after the head.
    fn receive(
        &self,
        answer: Answer,
        order: &Order<'_>,
        end: Option<Instant>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return match answer {
                // What is left of a body would be taken for the other protocol.
                Answer::Http1(answer, connection, _)
                    if order.asks_upgrade && order.upload.is_none() =>
                {
                    Ok(answer.map(|()| UpstreamBody::tunnel(connection.into_tunnel())))
                }
                _ => Err(UpstreamError::UnexpectedUpgrade {
                    upstream: self.name(),
                }),
            };
        }
        let unclear = || UpstreamError::Framing {
            upstream: self.name(),
        };
        let patience = Patience::new(order.timeouts, end, order.upload.clone());
        let mut answer = match answer {
            Answer::Http1(mut answer, mut connection, server) => {
                let account = settle_framing(answer.headers_mut()).ok_or_else(unclear)?;
                let body = Decoder::of(&answer, account, order.is_head).ok_or_else(unclear)?;
                connection.expect(body);
                let pool = Rc::clone(&self.0.pools[server]);
                let source = Source::Connection { connection, pool };
                answer.map(|()| UpstreamBody::new(source, patience))
            }
            Answer::Http2(mut answer, place) => {
                settle_framing(answer.headers_mut()).ok_or_else(unclear)?;
                answer.map(|incoming| {
                    let source = Source::Stream {
                        incoming,
                        _place: place,
                    };
                    UpstreamBody::new(source, patience)
                })
            }
        };
        // Whoever passes the answer on speaks its own version (RFC 9112 section 2.3), and frames the body in it.
        *answer.version_mut() = Version::HTTP_11;
        Ok(answer)
    }

    /// How many connections wait for a request; one that died is counted until it is met.
    pub fn idle_connections(&self) -> usize {
        self.0.pools.iter().map(|pool| pool.idle()).sum()
    }

    /// Tries servers until one answers or nothing may be tried any more.
    async fn exchange(
        &self,
        mut request: Message,
        order: &Order<'_>,
    ) -> Result<Answer, UpstreamError> {
        let known = self.0.shared.known();
        let mut tried = 0_u64;
        let mut retries = known.settings.retries;
        let mut fresh = false;
        loop {
            let server = self.pick(tried);
            let failed = match self.attempt(server, request, order, fresh).await {
                Attempt::Answered(answer) => {
                    self.report(server, answer.status());
                    return Ok(answer);
                }
                Attempt::Failed(failed) => failed,
            };
            if failed.blames_server && failed.error.fault() == Fault::Upstream {
                self.report_failure(server);
            }
            tried |= 1 << server;
            let has_other = (tried.count_ones() as usize) < self.0.pools.len();
            let Some(again) = failed.again.filter(|_| has_other || !failed.elsewhere) else {
                return Err(failed.error);
            };
            if !failed.is_free || fresh {
                if retries == 0 {
                    return Err(failed.error);
                }
                retries -= 1;
            }
            if !has_other {
                tried = 0;
            }
            fresh = true;
            request = again;
        }
    }

    /// The server for a request that those of `tried` could not serve.
    fn pick(&self, tried: u64) -> usize {
        let servers = &self.0.shared.known().servers;
        if servers.len() == 1 {
            return 0;
        }
        let now = self.0.shared.known().clock.boot();
        let untried = |server: usize| {
            (tried & (1 << server) == 0).then(|| Candidate {
                load: self.0.pools[server].load(),
                weight: servers[server].weight,
            })
        };
        let is_in = |server: usize| servers[server].standing.is_in(now);
        let well = |server: usize| untried(server).filter(|_| is_in(server));
        let random = self.0.dice.roll();
        choose(servers.len(), well, random)
            // None is left that looks well: any is better than none.
            .or_else(|| choose(servers.len(), untried, random))
            .unwrap_or(0)
    }

    fn report(&self, server: usize, status: StatusCode) {
        if self.0.pools.len() == 1 {
            return;
        }
        if matches!(status.as_u16(), 502..=504) {
            self.report_failure(server);
        } else {
            self.0.shared.known().servers[server].standing.succeeded();
        }
    }

    fn report_failure(&self, server: usize) {
        let known = self.0.shared.known();
        if self.0.pools.len() > 1 {
            known.failed(server, known.clock.boot());
        }
    }

    fn took_too_long(&self, timeouts: &Timeouts) -> UpstreamError {
        UpstreamError::TotalTimeout {
            upstream: self.name(),
            after: timeouts.total.map(|total| total.limit).unwrap_or_default(),
        }
    }

    fn name(&self) -> Arc<str> {
        Arc::clone(&self.0.shared.known().settings.name)
    }
}

/// Whether an answer has no end of its own: events for a page, and whatever gRPC does.
fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| {
        kind.starts_with(b"text/event-stream") || kind.starts_with(b"application/grpc")
    })
}
