//! The socket to an upstream, with an ear for what decides about retries and early answers.
//!
//! - It notes whether a byte has come since a request was handed over: after that nothing may be repeated.
//! - It does not report a failed write. A server may answer before it has read the whole request and close
//!   (RFC 9112 section 9.5); our next write then fails although the answer lies in the socket, and an error now would
//!   throw it away. So writing stops, reading goes on, and where reading would come to its end it gives the write's error.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

pub(super) struct UpstreamStream {
    socket: TcpStream,
    ear: Ear,
    write_error: Option<io::Error>,
}

/// Whether a byte came. Shared by two parts of one worker; atomic because hyper wants its streams `Send`.
#[derive(Clone, Debug, Default)]
pub(super) struct Ear(Arc<AtomicBool>);

impl Ear {
    pub(super) fn forget(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(super) fn has_heard(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl UpstreamStream {
    pub(super) fn new(socket: TcpStream, ear: Ear) -> Self {
        Self {
            socket,
            ear,
            write_error: None,
        }
    }

    /// What a write gives: its result, or nothing ever again once one has failed.
    fn keep_error<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Ready(Err(error)) => {
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
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.ear.0.store(true, Ordering::Relaxed);
        } else if let (Poll::Ready(Ok(())), Some(error)) = (&polled, &self.write_error) {
            return Poll::Ready(Err(error.kind().into()));
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
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.keep_error(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.write_error.is_some() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.keep_error(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
