//! What follows a 101: bytes both ways, until one side is done or the session ends.
//!
//! A tunnel outlives its request, so the logout must reach into it. A WebSocket client is told why: the upstream's
//! frame in progress is finished, then comes a close frame of our own. Any other protocol is cut off, for there is no
//! way to say anything in it. What the client still sends goes nowhere from the first moment on.

use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use super::websocket::{FrameTracker, close_frame};

/// What is spoken in the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// RFC 6455: a close frame can be sent in the upstream's place.
    WebSocket,
    /// Anything else.
    Opaque,
}

/// What a tunnel is for.
#[derive(Clone, Copy, Debug)]
pub struct TunnelTerms {
    pub kind: TunnelKind,
    /// It ends when nothing has come through for so long, in either direction; `None`: it may rest.
    pub idle: Option<Duration>,
    /// How long what is written may wait for a client that does not read; `None`: the client's connection sees to that. A stream
    /// of HTTP/2 has no such connection: others go on on it.
    pub write: Option<Duration>,
}

/// Why the gateway ends a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// The session was revoked.
    Revoked,
    /// This replica cannot tell any more whether the session lives.
    Lapsed,
    /// The gateway shuts down.
    Shutdown,
    /// Nothing came through for too long.
    Idle,
    /// It was open for as long as any may be.
    TooOld,
}

impl CutReason {
    /// Code and reason of the close frame. 4401 is ours (RFC 6455 section 7.4.2 leaves 4000 to 4999 to applications);
    /// 1013 and 1001 are registered: a client may connect again, and will be checked again.
    fn close(self) -> (u16, &'static str) {
        match self {
            Self::Revoked => (4401, "session ended"),
            Self::Lapsed => (1013, "try again later"),
            Self::Shutdown => (1001, "going away"),
            Self::Idle => (1001, "idle for too long"),
            Self::TooOld => (1001, "open for too long"),
        }
    }
}

/// What went through a tunnel, and how it ended.
#[derive(Debug)]
pub struct TunnelReport {
    /// Bytes from the client that the upstream's socket took.
    pub client_to_upstream: u64,
    /// Bytes from the upstream that the client's socket took; a close frame of ours is not counted.
    pub upstream_to_client: u64,
    /// How it ended.
    pub end: TunnelEnd,
}

/// How a tunnel ended.
#[derive(Debug)]
pub enum TunnelEnd {
    /// Both sides said that they are done.
    Finished,
    /// One side failed.
    Failed { side: Side, error: io::Error },
    /// The gateway ended it.
    Cut {
        reason: CutReason,
        /// Whether the client was told in a close frame.
        close_frame_sent: bool,
    },
}

/// One end of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
}

/// Bounds the whole farewell: a client that does not read, or an upstream that does not finish its frame, gets none.
const FAREWELL: Duration = Duration::from_secs(1);

/// Per direction; large enough that system calls do not count, small enough for many thousand tunnels.
const BUFFER_BYTES: usize = 8 * 1024;

/// Copies both ways, each as fast as its reader reads, until both sides have ended, one fails, or `end` resolves. When
/// one side has no more to say, the other is told (half-close) and may go on. Both sockets are closed afterwards.
pub async fn run<C, U>(
    mut client: C,
    mut upstream: U,
    end: impl Future<Output = CutReason>,
    terms: TunnelTerms,
) -> TunnelReport
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Pump::new(None);
    let mut down = Pump::new((terms.kind == TunnelKind::WebSocket).then(FrameTracker::new));
    let copied = copy_until(&mut client, &mut upstream, (&mut up, &mut down), end, terms);
    let end = match copied.await {
        Copied::Finished => TunnelEnd::Finished,
        Copied::Failed { side, error } => TunnelEnd::Failed { side, error },
        Copied::Cut(reason) => TunnelEnd::Cut {
            reason,
            close_frame_sent: bid_farewell(client, upstream, &mut down, reason).await,
        },
    };
    TunnelReport {
        client_to_upstream: up.written,
        upstream_to_client: down.written,
        end,
    }
}

enum Copied {
    Finished,
    Failed { side: Side, error: io::Error },
    Cut(CutReason),
}

async fn copy_until<C, U>(
    client: &mut C,
    upstream: &mut U,
    (up, down): (&mut Pump, &mut Pump),
    end: impl Future<Output = CutReason>,
    terms: TunnelTerms,
) -> Copied
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut end = pin!(end);
    let mut idle = terms.idle.map(Rest::new);
    let mut unread = None;
    poll_fn(|cx| {
        if let Poll::Ready(reason) = end.as_mut().poll(cx) {
            return Poll::Ready(Copied::Cut(reason));
        }
        let downwards = down.poll(cx, upstream, client);
        if let Poll::Ready(Err(failure)) = downwards {
            return Poll::Ready(failure.between(Side::Upstream, Side::Client));
        }
        let upwards = up.poll(cx, client, upstream);
        if let Poll::Ready(Err(failure)) = upwards {
            return Poll::Ready(failure.between(Side::Client, Side::Upstream));
        }
        if downwards.is_ready() && upwards.is_ready() {
            return Poll::Ready(Copied::Finished);
        }
        if !down.waits_for_writer() {
            unread = None;
        } else if let Some(limit) = terms.write {
            let rest = unread.get_or_insert_with(|| Rest::new(limit));
            if rest.poll(cx, down.written).is_ready() {
                let (side, error) = (Side::Client, io::ErrorKind::TimedOut.into());
                return Poll::Ready(Copied::Failed { side, error });
            }
        }
        match &mut idle {
            Some(rest) => rest
                .poll(cx, up.written + down.written)
                .map(|()| Copied::Cut(CutReason::Idle)),
            None => Poll::Pending,
        }
    })
    .await
}

/// Gives whether the client was told.
async fn bid_farewell<C, U>(
    mut client: C,
    mut upstream: U,
    down: &mut Pump,
    reason: CutReason,
) -> bool
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + Unpin,
{
    let deadline = Instant::now() + FAREWELL;
    let goodbye = say_goodbye(&mut client, &mut upstream, down, reason);
    let told = matches!(timeout_at(deadline, goodbye).await, Ok(Ok(true)));
    drop(upstream);
    if told {
        // To close a socket with unread bytes is to reset it, and a reset may overtake the close frame.
        let _ = timeout_at(
            deadline,
            tokio::io::copy(&mut client, &mut tokio::io::sink()),
        )
        .await;
    }
    told
}

/// Finishes the frame in progress and sends a close frame, if that can be done at all.
async fn say_goodbye<C, U>(
    client: &mut C,
    upstream: &mut U,
    down: &mut Pump,
    reason: CutReason,
) -> io::Result<bool>
where
    C: AsyncWrite + Unpin,
    U: AsyncRead + Unpin,
{
    if !down.finish_frame(upstream, client).await? {
        return Ok(false);
    }
    let (code, text) = reason.close();
    client.write_all(&close_frame(code, text)).await?;
    client.shutdown().await?;
    Ok(true)
}

/// How long nothing has come through.
struct Rest {
    limit: Duration,
    /// Bytes that had come through when it was last looked at.
    moved: u64,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Rest {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            moved: 0,
            since: Instant::now(),
            timer: Box::pin(sleep(limit)),
        }
    }

    /// Ready when it has been too long; wakes then.
    fn poll(&mut self, cx: &mut Context<'_>, moved: u64) -> Poll<()> {
        if moved != self.moved {
            self.moved = moved;
            self.since = Instant::now();
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let end = self.since + self.limit;
            if end <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(end);
        }
    }
}

/// One direction: a buffer, and what has become of its two ends.
struct Pump {
    buffer: Box<[u8]>,
    /// The bytes of the buffer that are read and not yet written.
    pending: Range<usize>,
    /// Written since the last flush.
    unflushed: bool,
    /// The reader has no more.
    ended: bool,
    /// And the writer knows it.
    closed: bool,
    written: u64,
    /// Follows what was written, if that can be interrupted politely.
    tracker: Option<FrameTracker>,
}

/// Which end of a pump failed.
enum PumpError {
    Reader(io::Error),
    Writer(io::Error),
}

impl PumpError {
    fn between(self, reader: Side, writer: Side) -> Copied {
        match self {
            Self::Reader(error) => Copied::Failed {
                side: reader,
                error,
            },
            Self::Writer(error) => Copied::Failed {
                side: writer,
                error,
            },
        }
    }
}

impl Pump {
    fn new(tracker: Option<FrameTracker>) -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            pending: 0..0,
            unflushed: false,
            ended: false,
            closed: false,
            written: 0,
            tracker,
        }
    }

    /// Ready when the reader has ended and the writer was told.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<Result<(), PumpError>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        while !self.closed {
            if !self.pending.is_empty() {
                ready!(self.poll_write(cx, writer)).map_err(PumpError::Writer)?;
            } else if self.ended {
                ready!(Pin::new(&mut *writer).poll_shutdown(cx)).map_err(PumpError::Writer)?;
                self.closed = true;
            } else if self
                .poll_read(cx, reader)
                .map_err(PumpError::Reader)?
                .is_pending()
            {
                if self.unflushed {
                    ready!(Pin::new(&mut *writer).poll_flush(cx)).map_err(PumpError::Writer)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// After it was polled: what has been read is not taken.
    fn waits_for_writer(&self) -> bool {
        !self.pending.is_empty() || (self.ended && !self.closed)
    }

    fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
        self.pending = 0..buffer.filled().len();
        self.ended = self.pending.is_empty();
        Poll::Ready(Ok(()))
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        let count = ready!(Pin::new(writer).poll_write(cx, &self.buffer[self.pending.clone()]))?;
        self.wrote(count)?;
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, count: usize) -> io::Result<()> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let end = self.pending.start + count;
        if let Some(tracker) = &mut self.tracker {
            tracker.advance(&self.buffer[self.pending.start..end]);
        }
        self.pending.start = end;
        self.written += count as u64;
        self.unflushed = true;
        Ok(())
    }

    /// Writes on to the end of the frame in progress and not a byte further. False if a close frame cannot follow.
    async fn finish_frame<R, W>(&mut self, reader: &mut R, writer: &mut W) -> io::Result<bool>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match &self.tracker {
                Some(tracker) if tracker.is_at_boundary() => {
                    return Ok(!tracker.is_closing() && !self.closed);
                }
                Some(tracker) if tracker.is_trackable() => {
                    let rest = tracker.rest_of_frame(&self.buffer[self.pending.clone()]);
                    let start = self.pending.start;
                    if rest > 0 {
                        let count = writer.write(&self.buffer[start..start + rest]).await?;
                        self.wrote(count)?;
                    } else if self.ended {
                        return Ok(false);
                    } else {
                        poll_fn(|cx| self.poll_read(cx, reader)).await?;
                    }
                }
                _ => return Ok(false),
            }
        }
    }
}
