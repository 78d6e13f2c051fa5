//! The socket of an HTTP/1.1 connection, with what came and nobody has read yet, and what is to go out.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::super::stream::UpstreamStream;
use super::sending::Outbox;

/// What one connection may read ahead of a slow client.
pub(in super::super) const MAX_BUFFER_BYTES: usize = 256 * 1024;

/// Room for a read, at first; answers that fill it get more.
const MIN_BUFFER_BYTES: usize = 8 * 1024;

pub(super) struct Wire {
    io: UpstreamStream,
    pub incoming: BytesMut,
    pub outbox: Outbox,
    /// For the next read.
    room: usize,
    /// Something of the message in hand is out.
    pub has_sent: bool,
    /// The request's body broke off while its answer came: what else comes answers something else.
    is_broken: bool,
    /// Who reads, while somebody else writes.
    reader: Option<Waker>,
}

/// Without what came and what goes: there are secrets in it.
impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    pub fn new(io: UpstreamStream) -> Self {
        Self {
            io,
            incoming: BytesMut::new(),
            outbox: Outbox::default(),
            room: MIN_BUFFER_BYTES,
            has_sent: false,
            is_broken: false,
            reader: None,
        }
    }

    /// Ready when all of the outbox is out.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let io = Pin::new(&mut self.io);
            let count = ready!(match self.outbox.whole() {
                Some(bytes) => io.poll_write(cx, bytes),
                None => io.poll_write_vectored(cx, &self.outbox.pieces()),
            })?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.has_sent = true;
            self.outbox.advance(count);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Whether what is in the outbox will never be out.
    pub fn has_failed(&self) -> bool {
        self.io.has_failed()
    }

    /// Adds what comes next to what came; 0 is the end.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.incoming.reserve(self.room);
        let most = self.incoming.capacity() - self.incoming.len();
        let count = ready!(pin!(self.io.read_buf(&mut self.incoming)).poll(cx))?;
        if count == most {
            self.room = (self.room * 2).min(MAX_BUFFER_BYTES);
        } else if count < self.room / 4 {
            self.room = (self.room / 2).max(MIN_BUFFER_BYTES);
        }
        Poll::Ready(Ok(count))
    }

    /// The reader is to hear of it when [`Self::break_off`] is called.
    pub fn read_by(&mut self, cx: &Context<'_>) {
        match &mut self.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Nothing more of this connection is to be believed.
    pub fn break_off(&mut self) {
        self.is_broken = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Between two messages: whether nothing has happened to it, nor come. `cx` hears of it when something does.
    pub fn is_at_rest(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.incoming.is_empty() || !self.outbox.is_empty() || self.has_failed() {
            return false;
        }
        let mut byte = [0];
        let mut nothing = ReadBuf::new(&mut byte);
        Pin::new(&mut self.io)
            .poll_read(cx, &mut nothing)
            .is_pending()
    }

    /// Gives back what HTTP alone has a use for.
    pub fn give_back_room(&mut self) {
        self.outbox = Outbox::default();
        if self.incoming.is_empty() {
            self.incoming = BytesMut::new();
        }
    }

    /// Gives back the room that a large answer took.
    pub fn shrink(&mut self) {
        if self.room > MIN_BUFFER_BYTES {
            self.room = MIN_BUFFER_BYTES;
            self.incoming = BytesMut::new();
        }
    }
}

/// As a plain stream of bytes, after HTTP: first what came early.
impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.incoming.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let count = self.incoming.len().min(buf.remaining());
        buf.put_slice(&self.incoming.split_to(count));
        self.give_back_room();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
