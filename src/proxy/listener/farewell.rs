//! How a connection of HTTP/2 ends whose client has used up its allowance: with a GOAWAY that says why.
//!
//! The library below cannot be told to send one for a reason of ours, so it is written here, between two of its frames. Then the
//! connection is closed for writing, and what still comes is read for a moment and thrown away: to close a socket with unread bytes
//! is to reset it, and a reset overtakes what was written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A GOAWAY on its way, and what comes after it.
pub(super) struct Farewell {
    frame: [u8; LENGTH],
    written: usize,
    is_shut: bool,
    /// Bytes that may still be thrown away.
    spare: usize,
    timer: Pin<Box<Sleep>>,
}

impl Farewell {
    /// `stream` is the last one of the client's that may have had an effect (RFC 9113 section 6.8).
    pub fn after(stream: u32, patience: Duration) -> Self {
        let mut frame = [0; LENGTH];
        frame[..HEAD.len()].copy_from_slice(&HEAD);
        frame[9..13].copy_from_slice(&stream.to_be_bytes());
        frame[13..].copy_from_slice(&ENHANCE_YOUR_CALM.to_be_bytes());
        Self {
            frame,
            written: 0,
            is_shut: false,
            spare: MOST_IGNORED,
            timer: Box::pin(sleep(patience.min(PATIENCE))),
        }
    }

    /// Ready when the connection can be closed.
    pub fn poll<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Whoever is gone already is told nothing.
        self.try_poll(cx, stream).map(drop)
    }

    fn try_poll<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        while self.written < LENGTH {
            let rest = &self.frame[self.written..];
            match ready!(Pin::new(&mut *stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Ok(())),
                count => self.written += count,
            }
        }
        if !self.is_shut {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.is_shut = true;
        }
        let mut ignored = [0; 4096];
        while self.spare > 0 {
            let mut buffer = ReadBuf::new(&mut ignored);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
            self.spare = self.spare.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(Ok(()))
    }
}

/// A frame of 8 bytes, GOAWAY, without flags, on the connection itself.
const HEAD: [u8; 9] = [0, 0, 8, 7, 0, 0, 0, 0, 0];
const LENGTH: usize = HEAD.len() + 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Until a client has read it and closes.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a client may have sent before it can have read it.
const MOST_IGNORED: usize = 256 * 1024;
