//! What is written to a client of HTTP/2 is gathered, and sent when the connection has no more to say.
//!
//! h2 writes and flushes with each frame of DATA. With several streams under way, each of their small answers would be a TLS
//! record and a system call of its own; what has come up in one go can go out in one.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A client's connection, shared by who speaks on it and who sends what was said.
pub struct Gathered<S>(Rc<RefCell<Gathering<S>>>);

struct Gathering<S> {
    stream: S,
    /// What was written and not sent. Empty and without room of its own while there is nothing.
    held: Vec<u8>,
    /// So much of it is sent.
    sent: usize,
    /// The stream below may hold something.
    unflushed: bool,
    /// Who speaks waits for room.
    waits: bool,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    pub fn new(stream: S) -> Self {
        Self(Rc::new(RefCell::new(Gathering {
            stream,
            held: Vec::new(),
            sent: 0,
            unflushed: false,
            waits: false,
        })))
    }

    /// Sends what is held. To be called whenever who speaks has come to a stand.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.0.borrow_mut();
        ready!(gathering.poll_send(cx))?;
        if std::mem::take(&mut gathering.waits) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Gathering<S> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let written =
                ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.unflushed = true;
        }
        if !self.held.is_empty() {
            (self.held, self.sent) = (Vec::new(), 0);
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.held.len() + length > MOST {
            self.waits = true;
            ready!(self.poll_send(cx))?;
            self.waits = false;
        }
        if length > MOST {
            self.unflushed = true;
            return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        }
        if self.held.capacity() == 0 {
            self.held.reserve_exact(length.max(FIRST));
        }
        for slice in slices {
            self.held.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0
            .borrow_mut()
            .poll_write(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to [`Gathered::poll_send`], which comes after what may be written yet.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gathering = self.0.borrow_mut();
        ready!(gathering.poll_send(cx))?;
        Pin::new(&mut gathering.stream).poll_shutdown(cx)
    }
}

/// As much as a TLS record has (RFC 8446 section 5.1). More is not held, but goes through.
const MOST: usize = 16 * 1024;

/// The room for a few small answers.
const FIRST: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::pin::Pin;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};

    use super::{Gathered, MOST};

    #[tokio::test]
    async fn nothing_is_sent_before_all_is_said() {
        let (mut client, gateway) = duplex(1024);
        let mut gathered = Gathered::new(gateway);
        gathered.write_all(b"one ").await.unwrap();
        gathered.flush().await.unwrap();
        let slices = [IoSlice::new(b"two "), IoSlice::new(b"three")];
        let written = poll_fn(|cx| Pin::new(&mut gathered).poll_write_vectored(cx, &slices)).await;
        assert_eq!(written.unwrap(), 9);
        let mut came = [0; 64];
        let early = tokio::time::timeout(Duration::from_millis(50), client.read(&mut came)).await;
        assert!(early.is_err(), "{early:?}");
        poll_fn(|cx| gathered.poll_send(cx)).await.unwrap();
        let count = client.read(&mut came).await.unwrap();
        assert_eq!(&came[..count], b"one two three");
        assert_eq!(gathered.0.borrow().held.capacity(), 0);
    }

    /// Whatever the pieces and however slowly they are taken, the bytes are those that were written, and few are held.
    #[tokio::test]
    async fn bytes_keep_their_order_and_are_bounded() {
        let (mut client, gateway) = duplex(3000);
        let mut gathered = Gathered::new(gateway);
        let sizes = [1, 5000, MOST, 9, 3 * MOST, 10_000, 10_000, 1, MOST - 1, 2];
        let said: Vec<u8> = (0..sizes.iter().sum()).map(|at: usize| at as u8).collect();
        let expected = said.clone();
        let speak = async move {
            let mut rest = &said[..];
            for size in sizes {
                let (piece, after) = rest.split_at(size);
                gathered.write_all(piece).await.unwrap();
                assert!(gathered.0.borrow().held.len() <= MOST);
                rest = after;
            }
            gathered.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let (_, read) = tokio::join!(speak, client.read_to_end(&mut heard));
        read.unwrap();
        assert!(heard == expected);
    }

    #[tokio::test]
    async fn who_does_not_read_is_not_written_for_without_end() {
        let (_client, gateway) = duplex(64);
        let mut gathered = Gathered::new(gateway);
        let endless = async {
            let mut taken = 0;
            while taken < 100 * MOST {
                taken += gathered.write(&[0; 1000]).await.unwrap();
            }
        };
        let bounded = tokio::time::timeout(Duration::from_millis(100), endless).await;
        assert!(bounded.is_err());
    }
}
