//! HTTP/1.1 to an upstream server: one connection, and one exchange of messages on it at a time (RFC 9112).
//!
//! Our own, for the way that each request takes: hyper's client hands a request through a channel to a connection that is a
//! future of its own, and gives back neither the request nor what has become of it. Here who waits for an answer reads it from the
//! socket, the request stays with its sender until the answer has begun, and so it can go out again without a copy having been
//! made. The parser of heads is hyper's (`httparse`).
//!
//! A body on its way up is sent by whoever waits for the answer; what is left of it when the answer begins is sent by a task, since
//! it must go on while nobody asks for more of the answer.

mod decoder;
mod head;
mod sending;
mod wire;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use super::error::ExchangeError;
use super::exchange::{Exchange, answer_within};
use super::outgoing::Message;
use super::request_body::{RequestBody, Upload};
use super::settings::Timeouts;
use super::slots::Slot;
use super::stream::{Activity, UpstreamStream};
use super::transport::Transport;

use decoder::Decoded;
pub(super) use decoder::Decoder;
use head::HeadReader;
pub(super) use head::MAX_HEAD_BYTES;
use sending::Sender;
pub(super) use wire::MAX_BUFFER_BYTES;
use wire::Wire;

/// A connection; it is closed when this is dropped. Boxed from the beginning: it goes from hand to hand with every request.
pub(super) struct Connection {
    wire: Rc<RefCell<Wire>>,
    activity: Activity,
    heads: HeadReader,
    /// What is left of the answer's body.
    body: Decoder,
    uploading: Uploading,
    /// The server lets it live on.
    is_kept: bool,
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

/// Who sends what is left of the request's body.
enum Uploading {
    Nobody,
    /// Who waits for the answer.
    Here(Box<Sender>),
    Task(SenderTask),
}

/// Ends with the connection.
struct SenderTask {
    task: JoinHandle<()>,
    is_done: Rc<Cell<bool>>,
}

impl Drop for SenderTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Interim answers (RFC 9110 section 15.2) before the final one.
const MAX_INTERIM: usize = 16;

impl Connection {
    /// Nothing is said before the first request.
    pub fn new(transport: Transport, slot: Slot) -> Box<Self> {
        let activity = Activity::new();
        let io = UpstreamStream::new(transport, activity.clone());
        Box::new(Self {
            wire: Rc::new(RefCell::new(Wire::new(io))),
            activity,
            heads: HeadReader::default(),
            body: Decoder::Over,
            uploading: Uploading::Nobody,
            is_kept: true,
            reads_before: 0,
            timer: Box::pin(sleep(Duration::ZERO)),
            _slot: slot,
        })
    }

    /// Sends the request, whose body is taken from it, and waits for the head of the answer.
    pub async fn exchange(
        &mut self,
        message: &mut Message,
        upload: Option<&Upload>,
        timeouts: &Timeouts,
    ) -> Exchange<(), ()> {
        self.reads_before = self.activity.reads();
        self.activity.time_writes(upload.is_some());
        {
            let wire = &mut *self.wire.borrow_mut();
            wire.has_sent = false;
            head::write(message, wire.outbox.small());
        }
        if upload.is_some() {
            let body = std::mem::replace(&mut message.body, RequestBody::empty());
            self.uploading = Uploading::Here(Box::new(Sender::new(body)));
        }
        let Self {
            wire,
            activity,
            heads,
            uploading,
            timer,
            ..
        } = self;
        let mut interim = 0;
        let answer = poll_fn(|cx| {
            let wire = &mut *wire.borrow_mut();
            if let Err(error) = poll_upload(uploading, wire, cx) {
                return Poll::Ready(Exchange::Lost(error));
            }
            poll_head(heads, wire, &mut interim, cx)
        });
        let exchange = answer_within(answer, timer.as_mut(), upload, activity, timeouts).await;
        match exchange {
            Exchange::Answered(answer) => {
                self.is_kept = head::keeps(&answer);
                self.give_upload_to_task();
                Exchange::Answered(answer)
            }
            // Some of the body may have been taken.
            Exchange::NeverSent((), error) if upload.is_some() => Exchange::Lost(error),
            other => other,
        }
    }

    /// The rest of a request's body goes up on its own. Must run within a local runtime.
    fn give_upload_to_task(&mut self) {
        let sender = match std::mem::replace(&mut self.uploading, Uploading::Nobody) {
            Uploading::Here(sender) => sender,
            other => {
                self.uploading = other;
                return;
            }
        };
        let (wire, is_done) = (Rc::clone(&self.wire), Rc::new(Cell::new(false)));
        let task = tokio::task::spawn_local({
            let (is_done, mut sender) = (Rc::clone(&is_done), sender);
            async move {
                let sent = poll_fn(|cx| sender.poll(&mut wire.borrow_mut(), cx)).await;
                match sent {
                    Ok(()) => is_done.set(true),
                    Err(_) => wire.borrow_mut().break_off(),
                }
            }
        });
        self.uploading = Uploading::Task(SenderTask { task, is_done });
    }

    /// The answer, whose head has come, has this body.
    pub fn expect(&mut self, body: Decoder) {
        self.body = body;
    }

    /// The next piece of the answer's body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            let frame = match self.body.decode(&mut wire.incoming) {
                Ok(Decoded::Data(data)) => Some(Ok(Frame::data(data))),
                Ok(Decoded::Trailers(fields)) => Some(Ok(Frame::trailers(fields))),
                Ok(Decoded::End) => None,
                Ok(Decoded::More) => {
                    if matches!(self.uploading, Uploading::Task(_)) {
                        wire.read_by(cx);
                    }
                    match ready!(wire.poll_receive(cx)) {
                        Ok(0) => self.body.end().err().map(Err),
                        Ok(_) => continue,
                        Err(error) => Some(Err(ExchangeError::Failed(error))),
                    }
                }
                Err(error) => Some(Err(error)),
            };
            return Poll::Ready(frame);
        }
    }

    /// Whether the answer's body has ended.
    pub fn is_end_of_body(&self) -> bool {
        self.body.is_over()
    }

    /// How much of the answer's body is left.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Whether a byte came since the exchange began.
    pub fn has_seen_a_byte(&self) -> bool {
        self.activity.reads() != self.reads_before
    }

    /// Whether it can take a request: its exchange is over on both sides, it is kept, and nothing has come or happened since.
    /// `waker` hears of it when something does.
    pub fn rest(&mut self, waker: &Waker) -> bool {
        if matches!(&self.uploading, Uploading::Task(task) if task.is_done.get()) {
            self.uploading = Uploading::Nobody;
        }
        if !self.is_kept || !self.body.is_over() || !matches!(self.uploading, Uploading::Nobody) {
            return false;
        }
        let wire = &mut *self.wire.borrow_mut();
        wire.shrink();
        wire.is_at_rest(&mut Context::from_waker(waker))
    }

    /// After a 101: the bytes that come and go on it from now on.
    pub fn into_tunnel(self) -> Tunnel {
        self.wire.borrow_mut().give_back_room();
        Tunnel(self.wire)
    }
}

/// What goes up, as far as that is possible now.
fn poll_upload(
    uploading: &mut Uploading,
    wire: &mut Wire,
    cx: &mut Context<'_>,
) -> Result<(), ExchangeError> {
    match uploading {
        Uploading::Here(sender) => {
            if let Poll::Ready(sent) = sender.poll(wire, cx) {
                sent?;
                *uploading = Uploading::Nobody;
            }
        }
        Uploading::Nobody | Uploading::Task(_) => {
            if let Poll::Ready(sent) = wire.poll_send(cx) {
                sent.map_err(ExchangeError::Failed)?;
            }
        }
    }
    Ok(())
}

/// The head of the final answer.
fn poll_head(
    heads: &mut HeadReader,
    wire: &mut Wire,
    interim: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Exchange<(), ()>> {
    loop {
        match heads.read(&mut wire.incoming) {
            Err(error) => return Poll::Ready(Exchange::Lost(error)),
            Ok(Some(_)) if !wire.has_sent => {
                return Poll::Ready(Exchange::NeverSent((), ExchangeError::Unasked));
            }
            Ok(Some(answer)) if !is_interim(&answer) => {
                return Poll::Ready(Exchange::Answered(answer));
            }
            Ok(Some(_)) => {
                *interim += 1;
                if *interim > MAX_INTERIM {
                    return Poll::Ready(Exchange::Lost(ExchangeError::TooManyInterim));
                }
                continue;
            }
            Ok(None) => {}
        }
        let error = match ready!(wire.poll_receive(cx)) {
            Ok(0) => ExchangeError::Ended,
            Ok(_) => continue,
            Err(error) => ExchangeError::Failed(error),
        };
        return Poll::Ready(match wire.has_sent {
            true => Exchange::Lost(error),
            false => Exchange::NeverSent((), error),
        });
    }
}

fn is_interim(answer: &Response<()>) -> bool {
    answer.status().is_informational() && answer.status() != http::StatusCode::SWITCHING_PROTOCOLS
}

/// A connection after its upgrade: bytes both ways, beginning with those that came with the answer. Closed when it is dropped.
#[derive(Debug)]
pub struct Tunnel(Rc<RefCell<Wire>>);

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}
