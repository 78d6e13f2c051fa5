//! One HTTP/2 connection to an upstream server, and the streams on it (RFC 9113).
//!
//! A request is a stream; up to [`MAX_STREAMS`], or fewer if the server says so, share a connection. A connection that the
//! server is about to close (GOAWAY) takes no new ones and finishes those it has.

use std::cell::Cell;
use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::error::ExchangeError;
use super::exchange::{Exchange, answer_within};
use super::http1::{MAX_BUFFER_BYTES, MAX_HEAD_BYTES};
use super::pool::Pool;
use super::request_body::{RequestBody, Upload};
use super::settings::Timeouts;
use super::slots::{Slot, Slots};
use super::stream::{Activity, UpstreamStream};
use super::transport::Transport;
use crate::clock::{BootTime, Clock};

/// Streams that share a connection, unless the server allows fewer: what one connection's window has room for.
pub(super) const MAX_STREAMS: usize = 64;

/// What of one answer may lie here unread.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Room for all streams at once, so that a client which does not read holds up none but itself.
const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

/// A connection with its task, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Multiplexed {
    sender: SendRequest<RequestBody>,
    task: JoinHandle<()>,
    activity: Activity,
    streams: Cell<usize>,
    /// How many the server allows, as far as is known.
    allowed: Rc<Cell<usize>>,
    /// It takes no new streams: it has failed in a way that it does not know of.
    retired: Cell<bool>,
    /// When its last stream ended.
    pub idle_since: Cell<BootTime>,
    pub address: Option<SocketAddr>,
    slots: Rc<Slots>,
    clock: Clock,
    _slot: Slot,
}

/// A place for one stream; free again when dropped.
#[derive(Debug)]
pub(super) struct Stream(Rc<Multiplexed>);

impl Multiplexed {
    /// Greets the server and starts the task that drives the connection.
    pub async fn start(
        transport: Transport,
        address: Option<SocketAddr>,
        name: &Arc<str>,
        pool: &Pool,
        slot: Slot,
    ) -> Result<Rc<Self>, hyper::Error> {
        let activity = Activity::new();
        let io = TokioIo::new(UpstreamStream::new(transport, activity.clone()));
        let (sender, driver) = Builder::new(LocalTasks)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEAD_BYTES).unwrap_or(u32::MAX))
            .max_send_buf_size(MAX_BUFFER_BYTES)
            .handshake(io)
            .await?;
        let allowed = Rc::new(Cell::new(MAX_STREAMS));
        let task = tokio::task::spawn_local({
            let (name, allowed) = (Arc::clone(name), Rc::clone(&allowed));
            let mut driver = driver;
            async move {
                let driven = poll_fn(|cx| {
                    let polled = Pin::new(&mut driver).poll(cx);
                    allowed.set(driver.current_max_send_streams().min(MAX_STREAMS));
                    polled
                });
                if let Err(error) = driven.await {
                    tracing::debug!(upstream = &*name, %error, "upstream connection ended with an error");
                }
            }
        });
        Ok(Rc::new(Self {
            sender,
            task,
            activity,
            streams: Cell::new(0),
            allowed,
            retired: Cell::new(false),
            idle_since: Cell::new(pool.clock.boot()),
            address,
            slots: Rc::clone(&pool.slots),
            clock: pool.clock.clone(),
            _slot: slot,
        }))
    }

    /// A place for a stream, if there is one now.
    pub fn stream(self: &Rc<Self>) -> Option<Stream> {
        if !self.is_open() || self.streams.get() >= self.allowed.get() {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        Some(Stream(Rc::clone(self)))
    }

    /// Whether it will take further streams.
    pub fn is_open(&self) -> bool {
        !self.retired.get() && !self.sender.is_closed()
    }

    /// Takes no further streams.
    pub fn retire(&self) {
        self.retired.set(true);
    }

    pub fn streams(&self) -> usize {
        self.streams.get()
    }
}

impl Stream {
    /// Sends the request and waits for the head of the answer.
    pub async fn exchange(
        &self,
        request: Request<RequestBody>,
        upload: Option<&Upload>,
        timeouts: &Timeouts,
    ) -> Exchange<Incoming, Request<RequestBody>> {
        let connection = &self.0;
        let reads_before = connection.activity.reads();
        let sent = connection.sender.clone().try_send_request(request);
        let answer = async {
            match sent.await {
                Ok(answer) => Exchange::Answered(answer),
                Err(mut failure) => match failure.take_message() {
                    Some(request) => {
                        Exchange::NeverSent(request, ExchangeError::Http2(failure.into_error()))
                    }
                    None => Exchange::Lost(ExchangeError::Http2(failure.into_error())),
                },
            }
        };
        let timer = pin!(sleep(timeouts.response));
        let exchange = answer_within(answer, timer, upload, &connection.activity, timeouts).await;
        if matches!(exchange, Exchange::TimedOut) && connection.activity.reads() == reads_before {
            // Not this request is slow: nobody is there.
            connection.retire();
        }
        exchange
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.streams.set(connection.streams.get() - 1);
        connection.idle_since.set(connection.clock.boot());
        connection.slots.wake_one();
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether the server says that it did nothing about the request: it is above the last stream that a GOAWAY names, or was
/// reset with REFUSED_STREAM (RFC 9113 section 8.7).
pub(super) fn was_refused(error: &ExchangeError) -> bool {
    let ExchangeError::Http2(error) = error else {
        return false;
    };
    let h2 = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    h2.is_some_and(|error| {
        let reason = error.reason();
        error.is_remote()
            && (error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM)
                || error.is_go_away() && reason == Some(h2::Reason::NO_ERROR))
    })
}

/// Whether what came is no HTTP/2.
pub(super) fn is_garbage(error: &hyper::Error) -> bool {
    let h2 = error
        .source()
        .and_then(|source| source.downcast_ref::<h2::Error>());
    h2.is_some_and(|error| error.is_library())
}

/// Runs hyper's tasks on this worker.
#[derive(Clone, Debug)]
struct LocalTasks;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        // hyper keeps what it needs to end it.
        drop(tokio::task::spawn_local(async move {
            task.await;
        }));
    }
}
