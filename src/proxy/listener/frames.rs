//! Watches the frames that an HTTP/2 client sends, for what the library below does not bound.
//!
//! h2 bounds the size of a header list and the number of CONTINUATION frames it comes in, streams that are open, streams that
//! are reset before they were accepted or for breaking the rules, and empty or tiny DATA frames. It bounds neither the time
//! that a header block takes, nor how many frames a client sends that ask for work and bring nothing: PING and SETTINGS, each
//! of which has to be answered (CVE-2019-9512, CVE-2019-9515), PRIORITY, WINDOW_UPDATE, unknown ones, and RST_STREAM of streams
//! that have reached the application (CVE-2023-44487). Here each of them is paid from an allowance that time, and what the
//! client reads, fill up. Whoever has used it up is told so, and closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::farewell::Farewell;

/// A client's connection whose frames are watched.
pub struct WatchedFrames<S> {
    stream: S,
    /// From the first byte of a header block, or of a frame that is not DATA, to its last.
    limit: Duration,
    frames: Frames,
    allowance: Allowance,
    timer: Option<Pin<Box<Sleep>>>,
    /// What the library writes, so that something can be said between two frames.
    said: Frames,
    /// The allowance is used up.
    farewell: Option<Farewell>,
}

impl<S> WatchedFrames<S> {
    pub fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            frames: Frames::default(),
            allowance: Allowance::new(),
            timer: None,
            said: Frames {
                state: BOUNDARY,
                ..Frames::default()
            },
            farewell: None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WatchedFrames<S> {
    /// Ready when the connection can be closed.
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(farewell) = &mut self.farewell {
            ready!(farewell.poll(cx, &mut self.stream));
        }
        Poll::Ready(Err(io::Error::other(
            "more frames without use than a client may send",
        )))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WatchedFrames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.farewell.is_some() {
            return this.poll_farewell(cx);
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_ready() {
            let Seen { cost, completed } = this.frames.advance(&buf.filled()[before..]);
            if completed {
                this.timer = None;
            }
            if !this.allowance.pay(cost) {
                buf.set_filled(before);
                if this.said.is_between_frames() {
                    let last = this.frames.last_stream;
                    this.farewell = Some(Farewell::after(last, this.limit));
                }
                return this.poll_farewell(cx);
            }
            return read;
        }
        if !this.frames.is_within_head() {
            this.timer = None;
            return Poll::Pending;
        }
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(sleep(this.limit)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WatchedFrames<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.farewell.is_some() {
            // The reading side ends the connection.
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.allowance.note(count);
            self.said.advance(&bytes[..count]);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.farewell.is_some() {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut count)) = written {
            self.allowance.note(count);
            for slice in slices {
                let part = count.min(slice.len());
                self.said.advance(&slice[..part]);
                count -= part;
            }
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Follows the frames by their headers (RFC 9113 section 4.1); holds nothing of them.
#[derive(Debug)]
struct Frames {
    state: State,
    /// A header block has begun that more frames belong to.
    in_block: bool,
    /// The highest that a header block began; 0 if none did.
    last_stream: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Bytes of the preface still to come.
    Preface(usize),
    Header {
        bytes: [u8; HEADER],
        have: usize,
    },
    Payload {
        left: usize,
        is_data: bool,
    },
}

const BOUNDARY: State = State::Header {
    bytes: [0; HEADER],
    have: 0,
};

/// What some bytes amount to.
struct Seen {
    /// Of the frames that began.
    cost: u32,
    /// What was being timed has come.
    completed: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            state: State::Preface(PREFACE),
            in_block: false,
            last_stream: 0,
        }
    }
}

impl Frames {
    fn advance(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen {
            cost: 0,
            completed: false,
        };
        while !bytes.is_empty() {
            let (taken, next) = match self.state {
                State::Preface(left) => {
                    let taken = left.min(bytes.len());
                    match left - taken {
                        0 => (taken, BOUNDARY),
                        left => (taken, State::Preface(left)),
                    }
                }
                State::Payload { left, is_data } => {
                    let taken = left.min(bytes.len());
                    (taken, after_payload(left - taken, is_data))
                }
                State::Header {
                    bytes: mut header,
                    have,
                } => {
                    let taken = (HEADER - have).min(bytes.len());
                    header[have..have + taken].copy_from_slice(&bytes[..taken]);
                    match have + taken {
                        HEADER => (taken, self.begin(header, &mut seen.cost)),
                        have => (
                            taken,
                            State::Header {
                                bytes: header,
                                have,
                            },
                        ),
                    }
                }
            };
            self.state = next;
            bytes = &bytes[taken..];
            seen.completed |= !self.is_within_head();
        }
        seen
    }

    /// A frame of which the header has come.
    fn begin(&mut self, header: [u8; HEADER], cost: &mut u32) -> State {
        let [a, b, c, kind, flags, d, e, f, g] = header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.in_block = flags & END_HEADERS == 0;
        }
        if kind == HEADERS {
            let stream = u32::from_be_bytes([d, e, f, g]) & MAX_STREAM;
            self.last_stream = self.last_stream.max(stream);
        }
        *cost = cost.saturating_add(match kind {
            HEADERS => 0,
            DATA if length > 0 || flags & END_STREAM != 0 => 0,
            RST_STREAM => COST_OF_RESET,
            _ => 1,
        });
        after_payload(length, kind == DATA)
    }

    fn is_between_frames(&self) -> bool {
        !self.in_block && matches!(self.state, State::Header { have: 0, .. })
    }

    /// Whether something has begun that a client has no reason to take its time over.
    fn is_within_head(&self) -> bool {
        self.in_block
            || match self.state {
                State::Preface(left) => left < PREFACE,
                State::Header { have, .. } => have > 0,
                State::Payload { is_data, .. } => !is_data,
            }
    }
}

fn after_payload(left: usize, is_data: bool) -> State {
    match left {
        0 => BOUNDARY,
        left => State::Payload { left, is_data },
    }
}

/// What a client may still send of frames that bring nothing.
#[derive(Debug)]
struct Allowance {
    spare: u32,
    /// Written, and not yet counted.
    bytes: usize,
    filled: Instant,
}

impl Allowance {
    fn new() -> Self {
        Self {
            spare: MOST,
            bytes: 0,
            filled: Instant::now(),
        }
    }

    fn note(&mut self, written: usize) {
        self.bytes = self.bytes.saturating_add(written);
    }

    /// False if it is not enough.
    fn pay(&mut self, cost: u32) -> bool {
        if cost > self.spare {
            // The clock is looked at only now: most clients never come here.
            let now = Instant::now();
            let by_time = now.duration_since(self.filled).as_millis() / MILLIS_EACH;
            let earned = by_time.saturating_add((self.bytes / BYTES_EACH) as u128);
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.spare = self.spare.saturating_add(earned).min(MOST);
            (self.bytes, self.filled) = (0, now);
        }
        match self.spare.checked_sub(cost) {
            Some(left) => {
                self.spare = left;
                true
            }
            None => false,
        }
    }
}

/// `PRI * HTTP/2.0` and what follows (section 3.4).
const PREFACE: usize = 24;
const HEADER: usize = 9;
/// The first bit is reserved.
const MAX_STREAM: u32 = u32::MAX >> 1;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// At once. One read has up to 1800 of the shortest frames, and an honest one has a handful.
const MOST: u32 = 1000;

/// One more each: a hundred per second, and a window update for every few hundred bytes that were sent.
const MILLIS_EACH: u128 = 10;
const BYTES_EACH: usize = 256;

/// The request that it ends may have been passed on.
const COST_OF_RESET: u32 = 4;

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::any;
    use proptest::{prop_assert_eq, proptest};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{Frames, MOST, PREFACE, WatchedFrames};

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
        frame.resize(frame.len() + length, 0xff);
        frame
    }

    proptest! {
        #[test]
        fn frames_are_followed_however_the_bytes_are_cut(
            frames in vec((0..12_u8, any::<bool>(), 0..40_usize), 0..20),
            size in 1..50_usize,
        ) {
            let mut bytes = vec![b'p'; PREFACE];
            let (mut cost, mut in_block) = (0, false);
            for (kind, flagged, length) in frames {
                let flags = if flagged { 0x5 } else { 0 };
                bytes.extend(frame(kind, flags, length));
                cost += match kind {
                    1 => 0,
                    0 if length > 0 || flagged => 0,
                    3 => 4,
                    _ => 1,
                };
                if kind == 1 || kind == 9 {
                    in_block = !flagged;
                }
            }
            let mut followed = Frames::default();
            let seen: u32 = bytes.chunks(size).map(|chunk| followed.advance(chunk).cost).sum();
            prop_assert_eq!(seen, cost);
            prop_assert_eq!(followed.is_within_head(), in_block);
        }
    }

    const LIMIT: Duration = Duration::from_millis(100);

    /// What a connection comes to on which the client sends this and then nothing.
    async fn read_all(bytes: Vec<u8>) -> Result<(), ErrorKind> {
        let (mut client, gateway) = duplex(1 << 20);
        let mut watched = WatchedFrames::new(gateway, LIMIT);
        client.write_all(&[b'p'; PREFACE]).await.unwrap();
        client.write_all(&bytes).await.unwrap();
        let mut buffer = vec![0; 16 * 1024];
        let read = async {
            loop {
                watched
                    .read(&mut buffer)
                    .await
                    .map_err(|error| error.kind())?;
            }
        };
        tokio::time::timeout(LIMIT * 4, read)
            .await
            .unwrap_or(Ok(()))
    }

    #[tokio::test]
    async fn a_header_block_is_timed_and_a_body_is_not() {
        let unfinished = Err(ErrorKind::TimedOut);
        for (what, bytes, expected) in [
            ("nothing", vec![], Ok(())),
            ("half a frame header", vec![0, 0, 5, 0], unfinished),
            (
                "half a header block",
                frame(1, 0x4, 9)[..12].to_vec(),
                unfinished,
            ),
            ("a block without an end", frame(1, 0, 9), unfinished),
            (
                "one that goes on",
                [frame(1, 0, 9), frame(9, 0, 9)].concat(),
                unfinished,
            ),
            (
                "one that ends",
                [frame(1, 0, 9), frame(9, 4, 9)].concat(),
                Ok(()),
            ),
            ("half a body", frame(0, 0, 9)[..12].to_vec(), Ok(())),
            ("half a ping", frame(6, 0, 8)[..12].to_vec(), unfinished),
        ] {
            assert_eq!(read_all(bytes).await, expected, "{what}");
        }
    }

    #[tokio::test]
    async fn frames_without_use_are_paid_for() {
        let closed = Err(ErrorKind::Other);
        let most = MOST as usize;
        for (what, bytes, expected) in [
            (
                "as many pings as may come",
                frame(6, 0, 8).repeat(most),
                Ok(()),
            ),
            ("more", frame(6, 0, 8).repeat(most + 50), closed),
            (
                "resets cost more",
                frame(3, 0, 4).repeat(most / 4 + 20),
                closed,
            ),
            (
                "requests cost nothing",
                frame(1, 5, 9).repeat(most * 3),
                Ok(()),
            ),
            ("nor do bodies", frame(0, 0, 1).repeat(most * 3), Ok(())),
            ("empty ones do", frame(0, 0, 0).repeat(most + 50), closed),
            (
                "and unknown ones",
                frame(0x77, 0, 0).repeat(most + 50),
                closed,
            ),
        ] {
            assert_eq!(read_all(bytes).await, expected, "{what}");
        }
    }

    #[tokio::test]
    async fn what_is_read_pays_for_windows() {
        let (client, gateway) = duplex(1 << 20);
        let (mut reading, mut writing) = tokio::io::split(client);
        let mut watched = WatchedFrames::new(gateway, LIMIT);
        tokio::spawn(async move { tokio::io::copy(&mut reading, &mut tokio::io::sink()).await });
        writing.write_all(&[b'p'; PREFACE]).await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        for _ in 0..20 {
            watched
                .write_all(&vec![0; 300 * MOST as usize])
                .await
                .unwrap();
            writing
                .write_all(&frame(8, 0, 4).repeat(MOST as usize))
                .await
                .unwrap();
            assert!(watched.read(&mut buffer).await.unwrap() > 0);
        }
    }
}
