//! HTTP/2 on a connection (RFC 9113).

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::Method;
use http::header::CONNECTION;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::AsyncWrite;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::reply::{Underway, answer_to_head};
use super::activity::Running;
use super::connection::{ConnectionInfo, last_call};
use super::frames::WatchedFrames;
use super::gathered::Gathered;
use super::slow_reader::TimedWrites;
use super::stalled::{Progress, bounded};
use super::stream::ClientStream;
use super::{Current, ListenerSettings};
use crate::causes::Causes;

/// Serves until the client or `stop` ends it, or nothing runs on it for as long as a connection may rest.
pub(super) async fn serve_http2(
    current: Rc<Current>,
    stream: ClientStream,
    info: Rc<ConnectionInfo>,
    settings: &ListenerSettings,
    stop: &CancellationToken,
) {
    let service = service_fn(|request| {
        let (served, info) = (current.get(), Rc::clone(&info));
        let running = Running::on(&info);
        let is_head = request.method() == Method::HEAD;
        async move {
            let progress = Progress::of_this_stream();
            let mut reply = served.proxy.handle(request, info).await;
            if is_head {
                reply = answer_to_head(reply);
            }
            // There is no such header in HTTP/2 (RFC 9113 section 8.2.2).
            reply.headers_mut().remove(CONNECTION);
            progress.asked(true);
            Ok::<_, Infallible>(reply.map(|body| body.underway(Underway::Http2(running, progress))))
        }
    });
    let stream = TimedWrites::new(stream, settings.write_timeout);
    let stream = WatchedFrames::new(stream, settings.head_timeout);
    let stream = Gathered::new(stream);
    let connection = http2::Builder::new(OnThisThread {
        write_timeout: settings.write_timeout,
    })
    .timer(TokioTimer::new())
    .max_concurrent_streams(settings.streams)
    .max_header_list_size(u32::try_from(settings.header_bytes).unwrap_or(u32::MAX))
    .initial_stream_window_size(STREAM_WINDOW)
    .initial_connection_window_size(CONNECTION_WINDOW)
    .max_send_buf_size(SEND_BUFFER)
    .max_pending_accept_reset_streams(PENDING_RESETS)
    .max_local_error_reset_streams(ERROR_RESETS)
    .keep_alive_interval(PING_INTERVAL)
    .keep_alive_timeout(PING_TIMEOUT)
    .enable_connect_protocol()
    .serve_connection(TokioIo::new(stream.clone()), service);
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = sent(connection.as_mut(), &stream) => Some(served),
        () = last_call(stop) => None,
        () = info.activity.rested(settings.keep_alive_timeout) => None,
    };
    let served = match served {
        Some(served) => served,
        None => {
            connection.as_mut().graceful_shutdown();
            // Who does not close after a GOAWAY, when all is done, is closed.
            tokio::select! {
                served = sent(connection, &stream) => served,
                () = info.activity.rested(GOODBYE) => Ok(()),
            }
        }
    };
    if let Err(error) = served {
        debug!(
            error = %Causes(&error),
            "a client connection ended early"
        );
    }
}

/// Serves, and sends what was written each time that there is no more to do.
async fn sent<S: AsyncWrite + Unpin>(
    mut serving: Pin<&mut impl Future<Output = hyper::Result<()>>>,
    stream: &Gathered<S>,
) -> Result<(), Ended> {
    poll_fn(|cx| {
        if let Poll::Ready(served) = serving.as_mut().poll(cx) {
            return Poll::Ready(served.map_err(Ended::Served));
        }
        match stream.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(Ended::NotSent(error))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Why a connection ended early.
#[derive(Debug, Error)]
enum Ended {
    #[error("the client broke it off, or the rules")]
    Served(#[source] hyper::Error),
    #[error("the client does not take what is sent")]
    NotSent(#[source] io::Error),
}

/// Runs the requests of a connection where it is served, each for as long as its client makes room for the answer.
#[derive(Clone, Copy)]
struct OnThisThread {
    write_timeout: Duration,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisThread {
    fn execute(&self, request: F) {
        tokio::task::spawn_local(bounded(request, self.write_timeout));
    }
}

/// What a client may send ahead on one stream, and on all of them: what a connection can make the gateway hold.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What is held of an answer for a client that has not made room for it.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were reset before they were looked at (CVE-2023-44487); then the connection ends.
const PENDING_RESETS: usize = 20;

/// Streams that the client made the gateway reset by breaking the rules (CVE-2025-8671); then the connection ends.
const ERROR_RESETS: usize = 100;

/// Whether the client is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// For the last frames of a connection that is over.
const GOODBYE: Duration = Duration::from_secs(1);
