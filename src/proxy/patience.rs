//! How long a client may take over the head of a request, and when it is at none.
//!
//! hyper has one time limit for two things: a connection that rests between requests, and a head that trickles in. A resting
//! connection deserves patience, a trickling head does not. So hyper has no limit; the listener limits the rest, and this
//! reader, which sees the bytes, a head from its first byte on. It costs a timer only if a head does not come in one piece.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A client's connection whose request heads are timed.
pub struct TimedHeads<S> {
    stream: S,
    limit: Duration,
    phase: Phase,
    /// Part of a head has come.
    begun: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Where in the exchange of requests and answers a connection is; shared by those who read it and whoever serves it, in one
/// thread. Atomic only because hyper wants what it hands out after an upgrade to be `Send`.
#[derive(Clone, Debug)]
pub struct Phase(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The next bytes belong to a head.
    head: AtomicBool,
    /// Heads that were read strictly and not served yet.
    approved: AtomicUsize,
    /// Heads that were served, from the beginning.
    served: AtomicUsize,
    /// hyper has asked for a head since, and not a byte of one has come.
    awaits_head: AtomicBool,
    /// All that hyper has written is with the system.
    flushed: AtomicBool,
}

impl Phase {
    /// Of a connection from which nothing was read yet.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            head: AtomicBool::new(true),
            approved: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            awaits_head: AtomicBool::new(false),
            flushed: AtomicBool::new(true),
        }))
    }

    /// A head has passed the scanner.
    pub fn approve_head(&self) {
        let approved = self.0.approved.load(Ordering::Relaxed);
        self.0.approved.store(approved + 1, Ordering::Relaxed);
    }

    /// The head is complete; what follows is a body, or a protocol of its own. Whether the scanner took it for a head, too:
    /// one that it did not take for any must not be served.
    #[must_use]
    pub fn head_is_complete(&self) -> bool {
        self.0.head.store(false, Ordering::Relaxed);
        self.0.awaits_head.store(false, Ordering::Relaxed);
        let served = self.0.served.load(Ordering::Relaxed);
        self.0
            .served
            .store(served.wrapping_add(1), Ordering::Relaxed);
        let approved = self.0.approved.load(Ordering::Relaxed);
        self.0
            .approved
            .store(approved.saturating_sub(1), Ordering::Relaxed);
        approved > 0
    }

    /// Every head that was approved has been served, and answered.
    pub fn is_at_rest(&self) -> bool {
        self.0.head.load(Ordering::Relaxed) && self.0.approved.load(Ordering::Relaxed) == 0
    }

    /// Every answer has gone out whole, hyper holds no byte of the client's, and waits for the next one.
    pub fn holds_nothing(&self) -> bool {
        self.is_at_rest() && self.0.awaits_head.load(Ordering::Relaxed) && self.has_flushed()
    }

    /// All that was written is with the system.
    pub fn has_flushed(&self) -> bool {
        self.0.flushed.load(Ordering::Relaxed)
    }

    /// How many heads were served so far, for who wants to know whether there was another one.
    pub fn served(&self) -> usize {
        self.0.served.load(Ordering::Relaxed)
    }

    /// Whoever holds this is answering; when it is dropped, the next head may come.
    pub fn until_answered(&self) -> Answering {
        Answering(Some(self.clone()))
    }
}

/// An answer that is being given.
#[derive(Debug)]
pub struct Answering(Option<Phase>);

impl Answering {
    /// The connection changes its protocol: no head will come any more.
    pub fn for_good(mut self) {
        self.0 = None;
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(phase) = &self.0 {
            phase.0.head.store(true, Ordering::Relaxed);
        }
    }
}

impl<S> TimedHeads<S> {
    pub fn new(stream: S, limit: Duration, phase: Phase) -> Self {
        Self {
            stream,
            limit,
            phase,
            begun: false,
            timer: None,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedHeads<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        let awaits_head = read.is_pending() && !this.begun && this.phase.is_at_rest();
        let shared = &this.phase.0;
        shared.awaits_head.store(awaits_head, Ordering::Relaxed);
        if !shared.head.load(Ordering::Relaxed) {
            this.begun = false;
            this.timer = None;
            return read;
        }
        match read {
            Poll::Ready(read) => {
                this.begun = true;
                Poll::Ready(read)
            }
            Poll::Pending if !this.begun => Poll::Pending,
            Poll::Pending => {
                let timer = this
                    .timer
                    .get_or_insert_with(|| Box::pin(sleep(this.limit)));
                timer
                    .as_mut()
                    .poll(cx)
                    .map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S> TimedHeads<S> {
    /// The connection below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// hyper writes until nothing is left, and flushes then.
    fn is_flushed(&self, flushed: bool) {
        self.phase.0.flushed.store(flushed, Ordering::Relaxed);
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedHeads<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed(false);
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.is_flushed(matches!(flushed, Poll::Ready(Ok(()))));
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.is_flushed(matches!(shut, Poll::Ready(Ok(()))));
        shut
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.is_flushed(false);
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{Phase, TimedHeads};

    const LIMIT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn a_connection_may_rest_but_a_head_may_not() {
        let (mut client, gateway) = duplex(64);
        let mut timed = TimedHeads::new(gateway, LIMIT, Phase::new());
        let mut byte = [0];
        let rested = tokio::time::timeout(LIMIT * 3, timed.read(&mut byte)).await;
        assert!(rested.is_err(), "nothing has begun: {rested:?}");
        client.write_all(b"G").await.unwrap();
        timed.read_exact(&mut byte).await.unwrap();
        assert_eq!(
            timed.read(&mut byte).await.unwrap_err().kind(),
            ErrorKind::TimedOut
        );
    }

    #[tokio::test]
    async fn trickling_on_buys_no_time() {
        let (mut client, gateway) = duplex(64);
        let mut timed = TimedHeads::new(gateway, LIMIT, Phase::new());
        let trickle = async {
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        };
        let mut buffer = [0; 64];
        let read = async {
            loop {
                if let Err(error) = timed.read(&mut buffer).await {
                    return error.kind();
                }
            }
        };
        let bounded = tokio::time::timeout(LIMIT * 5, async {
            tokio::select! { kind = read => kind, () = trickle => unreachable!("the reader ends first") }
        });
        assert_eq!(bounded.await, Ok(ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn bodies_and_answers_are_not_timed() {
        let (mut client, gateway) = duplex(64);
        let phase = Phase::new();
        let mut timed = TimedHeads::new(gateway, LIMIT, phase.clone());
        let mut byte = [0];
        client.write_all(b"G").await.unwrap();
        timed.read_exact(&mut byte).await.unwrap();
        assert!(!phase.head_is_complete(), "nobody has approved it");
        let answering = phase.until_answered();
        assert!(
            tokio::time::timeout(LIMIT * 2, timed.read(&mut byte))
                .await
                .is_err()
        );
        drop(answering);
        assert!(
            tokio::time::timeout(LIMIT * 2, timed.read(&mut byte))
                .await
                .is_err(),
            "resting again"
        );
        client.write_all(b"G").await.unwrap();
        timed.read_exact(&mut byte).await.unwrap();
        assert_eq!(
            timed.read(&mut byte).await.unwrap_err().kind(),
            ErrorKind::TimedOut
        );
    }

    /// What the listener goes by before it takes hyper away from a connection.
    #[tokio::test]
    async fn a_connection_holds_nothing_when_the_next_head_is_awaited_and_all_is_written() {
        let (mut client, gateway) = duplex(64);
        let phase = Phase::new();
        let mut timed = TimedHeads::new(gateway, LIMIT, phase.clone());
        let mut byte = [0];
        assert!(!phase.holds_nothing(), "nobody has asked for a head");
        assert!(poll_once(timed.read(&mut byte)).await.is_none());
        assert!(phase.holds_nothing());
        client.write_all(b"G").await.unwrap();
        timed.read_exact(&mut byte).await.unwrap();
        assert!(!phase.holds_nothing());
        assert!(poll_once(timed.read(&mut byte)).await.is_none());
        assert!(!phase.holds_nothing(), "part of a head has come");
        phase.approve_head();
        assert!(phase.head_is_complete());
        let answering = phase.until_answered();
        assert!(poll_once(timed.read(&mut byte)).await.is_none());
        assert!(!phase.holds_nothing(), "it is not answered");
        timed.write_all(b"HTTP").await.unwrap();
        drop(answering);
        assert!(!phase.holds_nothing(), "nobody has asked for the next head");
        assert!(poll_once(timed.read(&mut byte)).await.is_none());
        assert!(!phase.holds_nothing(), "it is not flushed");
        timed.flush().await.unwrap();
        assert!(phase.holds_nothing());
        phase.approve_head();
        assert!(!phase.holds_nothing(), "there is another head");
        assert_eq!(phase.served(), 1);
    }

    async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
        tokio::time::timeout(Duration::ZERO, future).await.ok()
    }
}
