//! The body of a request on its way up, watched.
//!
//! All connections of a pool must take the same type of body, so the caller's is boxed; a request without body, which
//! is most of them, needs no box and no watching.

use std::cell::Cell;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::Instant;

pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// What the connections carry.
pub(super) struct RequestBody(Option<Streaming>);

struct Streaming {
    body: Pin<Box<dyn Body<Data = Bytes, Error = BoxError>>>,
    upload: Rc<Upload>,
}

impl RequestBody {
    pub(super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self(Some(Streaming {
            body: Box::pin(body.map_err(Into::into)),
            upload: Rc::default(),
        }))
    }

    pub(super) fn empty() -> Self {
        Self(None)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How far it has come; none if there is nothing to come.
    pub(super) fn upload(&self) -> Option<Rc<Upload>> {
        self.0
            .as_ref()
            .map(|streaming| Rc::clone(&streaming.upload))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(streaming) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = streaming.body.as_mut().poll_frame(cx);
        let progress = match &polled {
            Poll::Pending => Progress::WaitsForClient,
            Poll::Ready(Some(Err(_))) => Progress::Failed,
            Poll::Ready(Some(Ok(_)) | None) => Progress::UnderWay,
        };
        streaming.upload.record(progress);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|streaming| streaming.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(
            || SizeHint::with_exact(0),
            |streaming| streaming.body.size_hint(),
        )
    }
}

/// How far a request's body has come; shared by the connection that sends it and whoever waits for the answer.
#[derive(Debug)]
pub(super) struct Upload {
    progress: Cell<Progress>,
    /// When the connection last asked for more.
    last: Cell<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// All that the client sent so far, or the whole body, is on its way.
    UnderWay,
    WaitsForClient,
    Failed,
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            progress: Cell::new(Progress::UnderWay),
            last: Cell::new(Instant::now()),
        }
    }
}

impl Upload {
    fn record(&self, progress: Progress) {
        self.progress.set(progress);
        self.last.set(Instant::now());
    }

    /// The body itself failed: the client went away, sent too much or too slowly.
    pub(super) fn has_failed(&self) -> bool {
        self.progress.get() == Progress::Failed
    }

    /// When the connection last asked for more; now, if it waits for the client.
    pub(super) fn last_asked(&self) -> Instant {
        match self.progress.get() {
            Progress::WaitsForClient => Instant::now(),
            Progress::UnderWay | Progress::Failed => self.last.get(),
        }
    }

    /// When the upstream, which took its last bytes at `last_write`, was last not to blame for standing still.
    pub(super) fn last_progress(&self, last_write: Instant) -> Instant {
        match self.progress.get() {
            Progress::WaitsForClient => Instant::now(),
            Progress::UnderWay | Progress::Failed => self.last.get().max(last_write),
        }
    }
}
