//! One HTTP/1.1 connection to an upstream server, and one exchange of messages on it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep, sleep};

use super::driver::Driver;
use super::request_body::{RequestBody, Upload};
use super::settings::Timeouts;
use super::slots::Slot;
use super::stream::{Activity, UpstreamStream};
use super::transport::Transport;

/// Twice what common servers emit at most; the same bound holds for trailers. hyper's own bound of 100 fields stays.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Bounds what one connection may read ahead of a slow client, or hold of a body for a slow upstream.
pub(super) const MAX_BUFFER_BYTES: usize = 256 * 1024;

/// A connection; it is closed when this is dropped. Boxed from the beginning: it goes from hand to hand with every request.
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    activity: Activity,
    /// Of its reads, when the exchange began.
    reads_before: u64,
    /// Lives as long as the connection: moving a timer forward is much cheaper than registering one per request.
    pub timer: Pin<Box<Sleep>>,
    _slot: Slot,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

/// How an exchange ended.
pub(super) enum Exchange {
    Answered(Response<Incoming>),
    /// The connection was dead before anything was written; here is the request again.
    NeverSent(Request<RequestBody>, hyper::Error),
    /// Some of the request may have been written.
    Lost(hyper::Error),
    TimedOut,
}

impl Connection {
    /// Begins to speak HTTP/1.1.
    pub async fn start(
        transport: Transport,
        name: &Arc<str>,
        slot: Slot,
    ) -> Result<Box<Self>, hyper::Error> {
        let activity = Activity::new();
        let io = TokioIo::new(UpstreamStream::new(transport, activity.clone()));
        let (sender, connection) = Builder::new()
            .max_buf_size(MAX_BUFFER_BYTES)
            .max_header_size(MAX_HEAD_BYTES)
            .handshake(io)
            .await?;
        Ok(Box::new(Self {
            sender,
            driver: Driver::new(connection, name),
            activity,
            reads_before: 0,
            timer: Box::pin(sleep(std::time::Duration::ZERO)),
            _slot: slot,
        }))
    }

    /// Sends the request and waits for the head of the answer. What has a body, or may become another protocol, is driven by a
    /// task.
    pub async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        upload: Option<&Upload>,
        asks_upgrade: bool,
        timeouts: &Timeouts,
    ) -> Exchange {
        self.reads_before = self.activity.reads();
        self.activity.time_writes(upload.is_some());
        if upload.is_some() || asks_upgrade {
            self.driver.give_to_task();
        }
        let (sender, driver) = (&mut self.sender, &mut self.driver);
        let mut answer = pin!(driver.hand(|| sender.try_send_request(request)));
        let (timer, activity) = (self.timer.as_mut(), &self.activity);
        let answer = poll_fn(|cx| driver.poll(cx, |cx| answer.as_mut().poll(cx)));
        answer_within(answer, timer, upload, activity, timeouts).await
    }

    /// What comes of the answer's body, as far as that is possible now.
    pub fn poll_body<T>(
        &mut self,
        cx: &mut Context<'_>,
        wanted: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.driver.poll(cx, wanted)
    }

    /// Whether a byte came since the exchange began.
    pub fn has_seen_a_byte(&self) -> bool {
        self.activity.reads() != self.reads_before
    }

    /// Whether it can take a request now.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// While it rests, `waker` learns that something has happened to it.
    pub fn rest(&self, waker: &Waker) {
        self.driver.rest(waker);
    }

    /// Whether it can take a request, after a look at what has become of it.
    pub fn is_still_ready(&mut self) -> bool {
        self.driver.look();
        self.is_ready()
    }

    /// It lives on until it has given the socket to whoever holds the answer's `OnUpgrade`, which ends it.
    pub fn leave_to_upgrade(mut self) {
        self.driver.leave();
    }
}

/// Waits for an answer as long as the upstream is not late.
pub(super) async fn answer_within(
    answer: impl Future<
        Output = Result<
            Response<Incoming>,
            hyper::client::conn::TrySendError<Request<RequestBody>>,
        >,
    >,
    mut timer: Pin<&mut Sleep>,
    upload: Option<&Upload>,
    activity: &Activity,
    timeouts: &Timeouts,
) -> Exchange {
    let timeout = timeouts.response;
    let mut answer = pin!(answer);
    timer.as_mut().reset(Instant::now() + timeout);
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(match answer {
                Ok(answer) => Exchange::Answered(answer),
                Err(mut failure) => match failure.take_message() {
                    Some(request) => Exchange::NeverSent(request, failure.into_error()),
                    None => Exchange::Lost(failure.into_error()),
                },
            });
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let deadline = match upload {
                Some(upload) => upload.last_progress(activity.last_write()) + timeout,
                None => return Poll::Ready(Exchange::TimedOut),
            };
            if deadline <= Instant::now() {
                return Poll::Ready(Exchange::TimedOut);
            }
            timer.as_mut().reset(deadline);
        }
    })
    .await
}
