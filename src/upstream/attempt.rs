//! One try at one server: a connection, an exchange, and what a failure leaves possible.

use http::header::HOST;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming;

use super::error::ExchangeError;
use super::exchange::Exchange;
use super::framing::{from_http2, into_http2, write_http1};
use super::http1::Connection;
use super::multiplexed::{Multiplexed, Stream, was_refused};
use super::outgoing::Message;
use super::pool::{Opening, Pool, Turn, Wanted};
use super::request_body::Upload;
use super::servers::Server;
use super::settings::HttpVersion;
use super::transport::{OpenError, open};
use super::{Order, Upstream, UpstreamError};

/// How a try ended.
pub(super) enum Attempt {
    Answered(Answer),
    Failed(Failed),
}

/// The head of an answer, and on what it came.
pub(super) enum Answer {
    /// With the place of its server. The body is still on the connection.
    Http1(Response<()>, Box<Connection>, usize),
    Http2(Response<Incoming>, Stream),
}

impl Answer {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Http1(answer, ..) => answer.status(),
            Self::Http2(answer, _) => answer.status(),
        }
    }

    pub fn headers(&self) -> &HeaderMap {
        match self {
            Self::Http1(answer, ..) => answer.headers(),
            Self::Http2(answer, _) => answer.headers(),
        }
    }
}

/// What was opened for a request.
enum Way {
    Connection(Box<Connection>),
    Stream(Stream),
}

/// A try without an answer.
pub(super) struct Failed {
    pub error: UpstreamError,
    /// The request, if it may be sent again.
    pub again: Option<Message>,
    /// That it was handed to a dead connection was our mistake: trying again is not counted.
    pub is_free: bool,
    /// The same server would do no better.
    pub elsewhere: bool,
    /// It says something about the server, and not about a connection that had rested for too long.
    pub blames_server: bool,
}

impl Failed {
    /// There is no connection.
    fn not_sent(error: UpstreamError, request: Message) -> Attempt {
        Attempt::Failed(Self {
            // Who is reset while it knocks has met the end of a queue, beside which there may be another.
            elsewhere: !error.is_reset(),
            error,
            again: Some(request),
            is_free: false,
            blames_server: true,
        })
    }

    /// A connection that served before was dead before anything was written.
    fn dead(error: UpstreamError, request: Message) -> Attempt {
        Attempt::Failed(Self {
            error,
            again: Some(request),
            is_free: true,
            elsewhere: false,
            blames_server: false,
        })
    }

    /// The connection closed without a byte of an answer.
    fn perhaps_sent(error: UpstreamError, copy: Option<Message>, is_reused: bool) -> Attempt {
        Attempt::Failed(Self {
            // A fresh one that is reset was never accepted, or closed by who had not read all of it: a server that ends does
            // that to those who wait in its queue, and the next one has one of its own.
            elsewhere: !is_reused && !error.is_reset(),
            error,
            again: copy,
            is_free: false,
            blames_server: !is_reused,
        })
    }

    /// Nothing may be repeated.
    fn over(error: UpstreamError) -> Attempt {
        Attempt::Failed(Self {
            error,
            again: None,
            is_free: false,
            elsewhere: true,
            blames_server: true,
        })
    }
}

impl Upstream {
    pub(super) async fn attempt(
        &self,
        at: usize,
        mut request: Message,
        order: &Order<'_>,
        fresh: bool,
    ) -> Attempt {
        let server = &self.0.shared.known().servers[at];
        let pool = &self.0.pools[at];
        let wanted = Wanted {
            http1: order.asks_upgrade,
            fresh,
        };
        let turn = match pool.turn_now(server, wanted) {
            Some(turn) => Some(turn),
            None => Box::pin(pool.turn(server, wanted, order.timeouts.connect)).await,
        };
        if order.host_of_server {
            request.headers.insert(HOST, server.host.clone());
        }
        let opening = match turn {
            Some(Turn::Reused(connection)) => {
                return self
                    .on_connection(at, connection, request, order, true)
                    .await;
            }
            Some(Turn::Stream(stream)) => {
                return Box::pin(self.on_stream(stream, server, request, order, true)).await;
            }
            Some(Turn::Open(opening)) => opening,
            None => {
                let upstream = self.name();
                return Failed::not_sent(UpstreamError::Full { upstream }, request);
            }
        };
        match Box::pin(self.open(server, pool, opening, order)).await {
            Ok(Way::Connection(connection)) => {
                Box::pin(self.on_connection(at, connection, request, order, false)).await
            }
            Ok(Way::Stream(stream)) => {
                Box::pin(self.on_stream(stream, server, request, order, false)).await
            }
            Err(error) => Failed::not_sent(error, request),
        }
    }

    async fn open(
        &self,
        server: &Server,
        pool: &Pool,
        mut opening: Opening,
        order: &Order<'_>,
    ) -> Result<Way, UpstreamError> {
        let upstream = || self.name();
        let http = match order.asks_upgrade {
            true => HttpVersion::Http1,
            false => self.0.shared.known().settings.http,
        };
        let limit = order.timeouts.connect;
        let opened = open(server, http, limit)
            .await
            .map_err(|error| match error {
                OpenError::Connect(cause) => UpstreamError::Connect {
                    upstream: upstream(),
                    cause,
                },
                OpenError::TimedOut => UpstreamError::ConnectTimeout {
                    upstream: upstream(),
                    after: limit,
                },
                OpenError::Tls(cause) => UpstreamError::Tls {
                    upstream: upstream(),
                    cause,
                },
                OpenError::NoHttp2 => UpstreamError::NoHttp2 {
                    upstream: upstream(),
                },
            })?;
        let no_slot = || UpstreamError::Full {
            upstream: upstream(),
        };
        let slot = opening.take_slot().ok_or_else(no_slot)?;
        if !opened.http2 {
            if !order.asks_upgrade {
                pool.opened_http1();
            }
            return Ok(Way::Connection(Connection::new(opened.transport, slot)));
        }
        let name = &self.0.shared.known().settings.name;
        let (transport, address) = (opened.transport, opened.address);
        let connection = Multiplexed::start(transport, address, name, pool, slot).await;
        let connection = connection.map_err(|cause| UpstreamError::Closed {
            upstream: upstream(),
            cause: ExchangeError::Http2(cause),
        })?;
        let stream = pool.opened_http2(connection);
        Ok(Way::Stream(stream.ok_or_else(no_slot)?))
    }

    async fn on_connection(
        &self,
        at: usize,
        mut connection: Box<Connection>,
        mut request: Message,
        order: &Order<'_>,
        is_reused: bool,
    ) -> Attempt {
        write_http1(&mut request);
        let upload = order.upload.as_deref();
        let exchange = connection.exchange(&mut request, upload, order.timeouts);
        match exchange.await {
            Exchange::Answered(answer) => Attempt::Answered(Answer::Http1(answer, connection, at)),
            Exchange::NeverSent((), cause) if is_reused => {
                Failed::dead(self.lost(cause, upload), request)
            }
            Exchange::NeverSent((), cause) => Failed::not_sent(self.lost(cause, upload), request),
            Exchange::Lost(cause) if !connection.has_seen_a_byte() => {
                let again = order.is_repeatable.then_some(request);
                Failed::perhaps_sent(self.lost(cause, upload), again, is_reused)
            }
            Exchange::Lost(cause) => Failed::over(self.lost(cause, upload)),
            Exchange::TimedOut => Failed::over(self.timed_out(order)),
        }
    }

    async fn on_stream(
        &self,
        stream: Stream,
        server: &Server,
        request: Message,
        order: &Order<'_>,
        is_reused: bool,
    ) -> Attempt {
        let has_body = order.upload.is_some();
        let copy = (order.may_repeat && !has_body).then(|| request.copy());
        let request = into_http2(request, server.scheme());
        let upload = order.upload.as_deref();
        match stream.exchange(request, upload, order.timeouts).await {
            Exchange::Answered(answer) => Attempt::Answered(Answer::Http2(answer, stream)),
            Exchange::NeverSent(request, cause) if is_reused => {
                Failed::dead(self.lost(cause, upload), from_http2(request))
            }
            Exchange::NeverSent(request, cause) => {
                Failed::not_sent(self.lost(cause, upload), from_http2(request))
            }
            Exchange::Lost(cause) if was_refused(&cause) => {
                Failed::perhaps_sent(self.lost(cause, upload), copy, true)
            }
            Exchange::Lost(cause) => {
                let copy = copy.filter(|_| order.is_repeatable);
                Failed::perhaps_sent(self.lost(cause, upload), copy, is_reused)
            }
            Exchange::TimedOut => Failed::over(self.timed_out(order)),
        }
    }

    fn lost(&self, cause: ExchangeError, upload: Option<&Upload>) -> UpstreamError {
        let upstream = self.name();
        if upload.is_some_and(Upload::has_failed) || cause.is_of_request_body() {
            UpstreamError::RequestBody { cause }
        } else if cause.is_garbage() {
            UpstreamError::Garbage { upstream, cause }
        } else {
            UpstreamError::Closed { upstream, cause }
        }
    }

    fn timed_out(&self, order: &Order<'_>) -> UpstreamError {
        UpstreamError::ResponseTimeout {
            upstream: self.name(),
            after: order.timeouts.response,
        }
    }
}
