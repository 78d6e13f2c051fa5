//! The body of an answer on its way down, how long it may take, and what becomes of its connection.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep};

use super::error::ExchangeError;
use super::http1::{Connection, Tunnel};
use super::multiplexed::Stream;
use super::pool::Pool;
use super::request_body::Upload;
use super::settings::Timeouts;

/// Streams an answer. Its connection goes back to its pool when the body has ended cleanly; it is closed, or the stream
/// reset, when the body fails, stands still for too long, or is dropped before its end.
#[derive(Debug)]
pub struct UpstreamBody {
    source: Source,
    /// `None`: there is nothing to wait for.
    patience: Option<Patience>,
}

/// Where an answer's body comes from.
#[derive(Debug)]
pub(super) enum Source {
    Connection {
        connection: Box<Connection>,
        /// Where it goes when the body has ended.
        pool: Rc<Pool>,
    },
    Stream {
        incoming: Incoming,
        /// Free again when this is dropped.
        _place: Stream,
    },
    /// It is no body, but a connection that has become something else.
    Tunnel(Tunnel),
    /// There is no more, or nothing that can be believed.
    Over,
}

/// Why an answer broke off.
#[derive(Debug, Error)]
pub enum AnswerError {
    #[error("the connection to the upstream failed")]
    Broken(#[source] ExchangeError),
    #[error("the upstream sent nothing for {0:?} (stall_timeout)")]
    Stalled(Duration),
    #[error("the answer was not complete in time (total_timeout)")]
    TookTooLong,
}

/// How long the answer may stand still, or take.
#[derive(Debug)]
pub(super) struct Patience {
    stall: Duration,
    /// The timer is set anew whenever a wait begins; else it stands from before, which is cheaper, and late by up to one more
    /// time.
    is_exact: bool,
    state: Waiting,
    /// What most answers do without.
    more: Option<Box<More>>,
}

/// For answers that must end, that answer a body, or that have no connection of their own with a timer.
#[derive(Debug, Default)]
struct More {
    end: Option<Instant>,
    upload: Option<Rc<Upload>>,
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Something came, and then nobody has asked for more.
    No,
    /// Nothing came since the timer was looked at.
    SinceTimer,
    /// Nothing came since somebody asked, but the timer is older.
    Anew,
}

impl Patience {
    /// Until `end`, if there is one.
    pub fn new(timeouts: &Timeouts, end: Option<Instant>, upload: Option<Rc<Upload>>) -> Self {
        Self {
            stall: timeouts.stall,
            is_exact: timeouts.stall < timeouts.response || end.is_some(),
            state: Waiting::No,
            more: (end.is_some() || upload.is_some()).then(|| {
                Box::new(More {
                    end,
                    upload,
                    timer: None,
                })
            }),
        }
    }

    /// Gives whether it was too late for all that.
    fn something_came(&mut self) -> bool {
        self.state = Waiting::No;
        self.end().is_some_and(|end| end <= Instant::now())
    }

    fn end(&self) -> Option<Instant> {
        self.more.as_ref()?.end
    }

    /// Whether the time is over; else wakes when it is. By the timer of the connection, if there is one.
    fn poll(&mut self, timer: Option<Pin<&mut Sleep>>, cx: &mut Context<'_>) -> Poll<AnswerError> {
        let end = self.end();
        let upload = self.more.as_ref().and_then(|more| more.upload.clone());
        let mut is_new = false;
        let mut timer = match timer {
            Some(timer) => timer,
            None => {
                let timer = &mut self.more.get_or_insert_default().timer;
                is_new = timer.is_none();
                timer
                    .get_or_insert_with(|| Box::pin(sleep(self.stall)))
                    .as_mut()
            }
        };
        if self.state == Waiting::No {
            self.state = Waiting::Anew;
            if self.is_exact || is_new {
                let deadline = Instant::now() + self.stall;
                timer
                    .as_mut()
                    .reset(end.map_or(deadline, |end| end.min(deadline)));
                self.state = Waiting::SinceTimer;
            }
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if end.is_some_and(|end| end <= now) {
                return Poll::Ready(AnswerError::TookTooLong);
            }
            let since = match self.state {
                Waiting::SinceTimer => timer.deadline(),
                Waiting::Anew | Waiting::No => now + self.stall,
            };
            let deadline = upload
                .as_ref()
                .map_or(since, |upload| since.max(upload.last_asked() + self.stall));
            if deadline <= now {
                return Poll::Ready(AnswerError::Stalled(self.stall));
            }
            self.state = Waiting::SinceTimer;
            timer
                .as_mut()
                .reset(end.map_or(deadline, |end| end.min(deadline)));
        }
        Poll::Pending
    }
}

impl UpstreamBody {
    pub(super) fn new(source: Source, patience: Patience) -> Self {
        let mut body = Self {
            source,
            patience: Some(patience),
        };
        if body.is_end_stream() {
            body.end();
        }
        body
    }

    /// Of an answer after which its connection speaks something else.
    pub(super) fn tunnel(tunnel: Tunnel) -> Self {
        Self {
            source: Source::Tunnel(tunnel),
            patience: None,
        }
    }

    /// After a 101, once: the connection.
    pub fn take_tunnel(&mut self) -> Option<Tunnel> {
        match std::mem::replace(&mut self.source, Source::Over) {
            Source::Tunnel(tunnel) => Some(tunnel),
            other => {
                self.source = other;
                None
            }
        }
    }

    fn end(&mut self) {
        if let Source::Connection { connection, pool } =
            std::mem::replace(&mut self.source, Source::Over)
        {
            pool.check_in(connection);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        let this = &mut *self;
        let (frame, timer) = match &mut this.source {
            Source::Connection { connection, .. } => {
                (connection.poll_frame(cx), Some(connection.timer.as_mut()))
            }
            Source::Stream { incoming, .. } => {
                let frame = Pin::new(incoming).poll_frame(cx);
                (frame.map_err(ExchangeError::Http2), None)
            }
            Source::Tunnel(_) | Source::Over => return Poll::Ready(None),
        };
        let frame = match frame {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(patience) = &mut this.patience else {
                    return Poll::Pending;
                };
                let late = ready!(patience.poll(timer, cx));
                this.source = Source::Over;
                return Poll::Ready(Some(Err(late)));
            }
        };
        if this.patience.as_mut().is_some_and(Patience::something_came) {
            this.source = Source::Over;
            return Poll::Ready(Some(Err(AnswerError::TookTooLong)));
        }
        match &frame {
            // The reader may stop at the last byte or at the trailers, so these are the end as much as the end is.
            Some(Ok(frame)) if frame.is_trailers() || this.is_end_stream() => this.end(),
            Some(Ok(_)) => {}
            Some(Err(_)) => this.source = Source::Over,
            None => this.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(AnswerError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Connection { connection, .. } => connection.is_end_of_body(),
            Source::Stream { incoming, .. } => incoming.is_end_stream(),
            Source::Tunnel(_) | Source::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Connection { connection, .. } => connection.size_hint(),
            Source::Stream { incoming, .. } => incoming.size_hint(),
            Source::Tunnel(_) | Source::Over => SizeHint::with_exact(0),
        }
    }
}
