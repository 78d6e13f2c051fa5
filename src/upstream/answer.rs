//! The body of an answer on its way down, and what becomes of its connection.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::Connection;
use super::pool::Pool;

/// Streams an answer. The connection goes back to its pool when the body has ended cleanly; it is closed when the body
/// fails or is dropped before its end.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

/// A connection in use by an answer.
#[derive(Debug)]
struct Lease {
    connection: Connection,
    /// Where the connection goes; none if it is to be closed in any case.
    pool: Option<Rc<Pool>>,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, connection: Connection, pool: Option<Rc<Pool>>) -> Self {
        let mut body = Self {
            incoming,
            lease: Some(Lease { connection, pool }),
        };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    /// Of an answer whose connection went elsewhere.
    pub(super) fn detached(incoming: Incoming) -> Self {
        Self {
            incoming,
            lease: None,
        }
    }

    fn end(&mut self) {
        if let Some(Lease {
            connection,
            pool: Some(pool),
        }) = self.lease.take()
        {
            pool.check_in(connection);
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            // The reader may stop at the last byte or at the trailers, so these are the end as much as the end is.
            Some(Ok(frame)) if frame.is_trailers() || self.incoming.is_end_stream() => self.end(),
            Some(Ok(_)) => {}
            Some(Err(_)) => self.lease = None,
            None => self.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
