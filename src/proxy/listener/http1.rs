//! HTTP/1.1 on a connection (RFC 9112), in bursts with rests between them.
//!
//! hyper serves a burst: requests that follow each other soon. What it needs for that (a buffer of 8 KiB, the room of a request
//! that is being served) it would keep for as long as the connection lasts, and most connections do nothing most of the time.
//! So when nothing has come for a while, and hyper holds nothing of the client's or of an answer, it is taken away; what
//! rests is the socket and a timer. The next byte begins a new burst. A busy connection pays with one look per
//! [`REST_AFTER`].

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http::header::CONNECTION;
use http::{HeaderValue, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::framing::StrictRequests;
use super::super::patience::{Phase, TimedHeads};
use super::super::reply::Underway;
use super::connection::{ConnectionInfo, LAST_CALL, last_call};
use super::slow_reader::TimedWrites;
use super::stream::ClientStream;
use super::{Current, ListenerSettings};
use crate::causes::Causes;

/// What hyper reads and writes.
type Http1Stream = TimedHeads<StrictRequests<TimedWrites>>;

/// Serves until the client or `stop` ends it, or it has rested for as long as it may.
pub(super) async fn serve_http1(
    current: Rc<Current>,
    stream: ClientStream,
    info: Rc<ConnectionInfo>,
    settings: &ListenerSettings,
    stop: &CancellationToken,
) {
    let phase = Phase::new();
    // Of what is not bare, bytes can have been read that the system will not tell of again.
    let mut rests = stream.is_bare();
    let stream = TimedWrites::new(stream, settings.write_timeout);
    let stream = StrictRequests::new(stream, phase.clone());
    let mut stream = TimedHeads::new(stream, settings.head_timeout, phase.clone());
    let connection = Connection {
        current,
        info,
        phase,
        settings,
    };
    let mut until = Instant::now() + settings.keep_alive_timeout;
    loop {
        if rests && !wakes(&stream, until, stop).await {
            // The end is told over TLS too; who is gone already does not hear it.
            let _ = stream.shutdown().await;
            return;
        }
        // In a box, so that what rests does not make room for it.
        match Box::pin(connection.burst(stream, until)).await {
            Some(rested) => (stream, until) = rested,
            None => return,
        }
        rests = true;
    }
}

/// Whether something comes before the end of the rest, or of the gateway.
async fn wakes(stream: &Http1Stream, until: Instant, stop: &CancellationToken) -> bool {
    let socket = stream.get_ref().get_ref().get_ref();
    tokio::select! {
        biased;
        // An error is found again by who reads.
        _ = socket.wakes() => true,
        () = sleep_until(until) => false,
        () = last_call(stop) => false,
    }
}

/// Takes what a client goes on to send after the last answer that it gets, and throws it away. If the connection were closed at
/// once, the system would reset it at the next byte, and the answer with it, unless the client has read it (RFC 9112
/// section 9.6).
async fn linger(stream: &Http1Stream) {
    let socket = stream.get_ref().get_ref().get_ref();
    // Over when the time is, or the client has gone.
    let _ = timeout(LINGER, socket.discard()).await;
}

/// What a burst needs beside the stream.
struct Connection<'a> {
    current: Rc<Current>,
    info: Rc<ConnectionInfo>,
    phase: Phase,
    settings: &'a ListenerSettings,
}

impl Connection<'_> {
    /// Serves what comes, until nothing has come for a while: then gives the stream back, and until when it may rest.
    async fn burst(
        &self,
        stream: Http1Stream,
        mut until: Instant,
    ) -> Option<(Http1Stream, Instant)> {
        let phase = &self.phase;
        let service = service_fn(|request| {
            let approved = phase.head_is_complete();
            let (current, answering) = (Rc::clone(&self.current), phase.until_answered());
            let info = Rc::clone(&self.info);
            async move {
                if !approved {
                    return Ok(current.get().proxy.refuse_unapproved());
                }
                let mut reply = current.get().proxy.handle(request, info).await;
                if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
                    answering.for_good();
                    return Ok::<_, Infallible>(reply);
                }
                if current.ends.get() {
                    // So that the client does not send another one into a connection that is being closed.
                    let headers = reply.headers_mut();
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(reply.map(|body| body.underway(Underway::Http1(answering))))
            }
        });
        let mut connection = http1_builder(self.settings)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let look_after = REST_AFTER.min(self.settings.keep_alive_timeout);
        let mut look = pin!(sleep(look_after));
        let mut served = phase.served();
        let mut last_called = false;
        loop {
            let ended = tokio::select! {
                biased;
                ended = &mut connection => Some(ended),
                () = look.as_mut() => None,
            };
            if let Some(ended) = ended {
                if let Err(error) = ended {
                    debug!(
                        error = %Causes(&error),
                        "a client connection ended early"
                    );
                }
                let mut stream = connection.into_parts()?.io.into_inner();
                if phase.has_flushed() && !stream.get_ref().is_between_requests() {
                    // Whose head came too late has not been told yet.
                    let _ = stream.shutdown().await;
                    linger(&stream).await;
                }
                return None;
            }
            let now = Instant::now();
            if self.current.ends.get() {
                // The first look leaves a moment to requests that are on their way already.
                if last_called {
                    Pin::new(&mut connection).graceful_shutdown();
                }
                last_called = true;
                look.as_mut().reset(now + LAST_CALL);
                continue;
            }
            if served != phase.served() {
                served = phase.served();
                until = now + self.settings.keep_alive_timeout;
            } else if phase.holds_nothing() {
                break;
            }
            look.as_mut().reset(now + look_after);
        }
        let stream = connection.into_parts()?.io.into_inner();
        Some((stream, until))
    }
}

fn http1_builder(settings: &ListenerSettings) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_header_size(settings.header_bytes)
        .max_buf_size(settings.header_bytes.max(MIN_BUFFER));
    if settings.header_count != HYPERS_HEADERS {
        builder.max_headers(settings.header_count);
    }
    builder
}

/// A connection on which nothing was asked for so long, twice at most, has no burst. Shorter than people think, longer than
/// programs do.
const REST_AFTER: Duration = Duration::from_millis(100);

/// Longer than an answer takes to the client.
const LINGER: Duration = Duration::from_secs(2);

/// So many header lines hyper reads on the stack; for any other number it allocates with each request.
const HYPERS_HEADERS: usize = 100;

/// hyper takes no smaller buffer.
const MIN_BUFFER: usize = 8192;
