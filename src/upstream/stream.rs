//! The socket to an upstream, with an eye on what decides about retries, timeouts and early answers.
//!
//! - It notes whether a byte has come since a request was handed over: after that nothing may be repeated.
//! - It notes when the upstream last took something, while there is a body to take: an upstream that is still busy with a large one
//!   is not late.
//! - It does not report a failed write while there may be something to read. A server may answer before it has read the
//!   whole request, and close (RFC 9112 section 9.5); our next write then fails although the answer lies in the socket,
//!   and an error now would throw it away. So writing stops, reading goes on, and where reading would come to its end it
//!   gives the write's error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use tokio::time::Instant;

use super::transport::Transport;

pub(super) struct UpstreamStream {
    transport: Transport,
    activity: Activity,
    write_error: Option<io::Error>,
    /// The upstream has said that it sends no more.
    ended: bool,
}

/// What a socket has seen. Shared by two parts of one worker; atomic because hyper wants its streams `Send`.
#[derive(Clone, Debug)]
pub(super) struct Activity(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    /// Reads that gave something.
    reads: AtomicU64,
    opened: Instant,
    /// Somebody wants to know when the last write was, which takes a look at the clock each time.
    times_writes: AtomicBool,
    /// In nanoseconds since it was opened.
    last_write: AtomicU64,
}

impl Activity {
    /// Of a socket that was just opened.
    pub(super) fn new() -> Self {
        Self(Arc::new(Seen {
            reads: AtomicU64::new(0),
            opened: Instant::now(),
            times_writes: AtomicBool::new(true),
            last_write: AtomicU64::new(0),
        }))
    }

    /// How often something came. What was the same before and after, has had no byte between.
    pub(super) fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// Whether writes are timed from now on.
    pub(super) fn time_writes(&self, wanted: bool) {
        self.0.times_writes.store(wanted, Ordering::Relaxed);
    }

    /// When the upstream's side last took a byte, as long as writes are timed.
    pub(super) fn last_write(&self) -> Instant {
        self.0.opened + Duration::from_nanos(self.0.last_write.load(Ordering::Relaxed))
    }

    fn read(&self) {
        // One thread alone writes it.
        self.0.reads.store(self.reads() + 1, Ordering::Relaxed);
    }

    fn wrote(&self) {
        if !self.0.times_writes.load(Ordering::Relaxed) {
            return;
        }
        let nanos = self.0.opened.elapsed().as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.0.last_write.store(nanos, Ordering::Relaxed);
    }
}

impl UpstreamStream {
    pub(super) fn new(transport: Transport, activity: Activity) -> Self {
        Self {
            transport,
            activity,
            write_error: None,
            ended: false,
        }
    }

    /// Whether a write has failed, of which nothing was said yet.
    pub(super) fn has_failed(&self) -> bool {
        self.write_error.is_some()
    }

    /// What a write gives: its result, or nothing ever again once one has failed before the end of reading.
    fn after_write(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(count)) => {
                self.activity.wrote();
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) if !self.ended => {
                self.write_error = Some(error);
                Poll::Pending
            }
            other => other,
        }
    }
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.transport).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read();
        } else if polled.is_ready() && buf.remaining() > 0 {
            self.ended = true;
            if let Some(error) = self.write_error.take() {
                return Poll::Ready(Err(error));
            }
        }
        polled
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.write_error.is_some() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.transport).poll_write(cx, bytes);
        self.after_write(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.write_error.is_some() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.transport).poll_write_vectored(cx, slices);
        self.after_write(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
