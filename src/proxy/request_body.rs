//! The client's body on its way up: how long it may be, and how long it may stand still.
//!
//! A length that is announced is judged before anything is sent. Of what comes in chunks nobody knows the length, so it is
//! counted, and the request to the upstream breaks off where it is too much. A body that fails leaves behind why, for
//! what the upstream's connection says of it is only that it broke off.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;
use tokio::time::{Instant, Sleep, sleep};

use super::headers::HeaderRules;
use super::rejection::Rejection;
use crate::upstream::UpstreamError;

/// What a body may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyBounds {
    /// Content, without what frames it; `None`: as much as the upstream takes.
    pub bytes: Option<u64>,
    /// Between two pieces of it.
    pub idle: Duration,
}

/// A body that is forwarded; what comes as trailers goes by the same rule as headers.
pub struct ForwardedBody {
    incoming: Incoming,
    rules: Rc<HeaderRules>,
    /// `None`: there is nothing to come.
    bounded: Option<Box<Bounded>>,
}

struct Bounded {
    bounds: BodyBounds,
    watch: Rc<Watch>,
    seen: u64,
    /// The client owes the next piece, and the timer says until when.
    waits: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What whoever waits for the answer knows of the body.
#[derive(Debug, Default)]
pub struct Watch {
    fault: Cell<Option<BodyFault>>,
    answered: Cell<bool>,
}

/// Why the gateway broke a body off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyFault {
    #[error("the body of the request is longer than body_bytes")]
    TooLarge,
    #[error("the client sent nothing of the request's body for body_timeout")]
    TooSlow,
}

/// Why a body ended early.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error(transparent)]
    Fault(BodyFault),
    #[error("the client broke off its body")]
    Client(#[source] hyper::Error),
}

impl ForwardedBody {
    /// Refuses what is too long by its own word (RFC 9110 section 15.5.14).
    pub fn new(
        incoming: Incoming,
        rules: Rc<HeaderRules>,
        bounds: BodyBounds,
    ) -> Result<Self, Rejection> {
        let announced = incoming.size_hint().lower();
        if bounds.bytes.is_some_and(|most| announced > most) {
            return Err(Rejection::Body(BodyFault::TooLarge));
        }
        let bounded = (!incoming.is_end_stream()).then(|| {
            Box::new(Bounded {
                bounds,
                watch: Rc::default(),
                seen: 0,
                waits: false,
                timer: None,
            })
        });
        Ok(Self {
            incoming,
            rules,
            bounded,
        })
    }

    /// Shared with the body; none if there is nothing to watch.
    pub fn watch(&self) -> Option<Rc<Watch>> {
        self.bounded
            .as_ref()
            .map(|bounded| Rc::clone(&bounded.watch))
    }
}

impl Watch {
    /// The answer has begun: what the client still sends is half of a conversation, which may pause.
    pub fn answered(&self) {
        self.answered.set(true);
    }

    /// What is to be said of a failure of the upstream, if it was the body's.
    pub fn blame(&self, error: UpstreamError) -> Rejection {
        match self.fault.get() {
            Some(fault) => Rejection::Body(fault),
            None => Rejection::Upstream(error),
        }
    }
}

impl Bounded {
    fn fail(&self, fault: BodyFault) -> BodyError {
        self.watch.fault.set(Some(fault));
        BodyError::Fault(fault)
    }

    fn take(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        self.waits = false;
        self.seen += frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.bounds.bytes {
            Some(most) if self.seen > most => Err(self.fail(BodyFault::TooLarge)),
            _ => Ok(()),
        }
    }

    /// Ready when the client has kept us waiting for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        if self.watch.answered.get() {
            return Poll::Pending;
        }
        let idle = self.bounds.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
        if !self.waits {
            self.waits = true;
            timer.as_mut().reset(Instant::now() + idle);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(self.fail(BodyFault::TooSlow))
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = match (
            Pin::new(&mut this.incoming).poll_frame(cx),
            &mut this.bounded,
        ) {
            (Poll::Ready(frame), None) => frame.map(|frame| frame.map_err(BodyError::Client)),
            (Poll::Pending, None) => return Poll::Pending,
            (Poll::Pending, Some(bounded)) => Some(Err(ready!(bounded.poll_late(cx)))),
            (Poll::Ready(Some(Ok(frame))), Some(bounded)) => {
                Some(bounded.take(&frame).map(|()| frame))
            }
            (Poll::Ready(frame), Some(_)) => frame.map(|frame| frame.map_err(BodyError::Client)),
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| this.rules.frame(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
