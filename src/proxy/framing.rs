//! Where requests begin and end, read strictly before hyper reads it.
//!
//! hyper is lenient where RFC 9112 lets it be: it takes a bare LF for the end of a line, two equal lengths for one, a length
//! beside a coding for nothing, white space behind a chunk's size for nothing. Each is something that a proxy in front of this
//! one may read otherwise, and what one of two takes for a body the other takes for a request. So every byte of a client's
//! connection passes this scanner first. It knows one grammar, refuses whatever is outside of it, and follows heads and bodies
//! itself.
//!
//! That hyper agrees is not only tested. The scanner counts the heads that it has approved, and the listener answers a request
//! only if one of these is left: what the scanner took for a body is never served, whoever is right.
//!
//! What hyper checks strictly itself (names, values, versions, what a target may hold) is left to it. The scanner looks for
//! the ends of lines, for three names, and for the mark of a fragment, in one pass and without memory of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::{memchr, memchr2};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::patience::Phase;

/// A client's connection from which nothing ambiguous comes.
pub struct StrictRequests<S> {
    stream: S,
    scanner: Scanner,
    phase: Phase,
}

impl<S> StrictRequests<S> {
    pub fn new(stream: S, phase: Phase) -> Self {
        Self {
            stream,
            scanner: Scanner::new(),
            phase,
        }
    }

    /// The connection below.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// What was read ends where a request ends.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.scanner.state, State::Begin { .. })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictRequests<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match this.scanner.state {
            // hyper looks at a head that came in pieces when it sees its end.
            State::Refused(Refusal::InHead) if buf.remaining() >= END_OF_HEAD.len() => {
                buf.put_slice(END_OF_HEAD);
                this.scanner.state = State::Over;
                return Poll::Ready(Ok(()));
            }
            State::Refused(Refusal::InHead) | State::Over => return Poll::Ready(Ok(())),
            State::Refused(Refusal::InBody) => return Poll::Ready(Err(no_body())),
            _ => {}
        }
        let begin = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        this.scanner.answered(&this.phase);
        let fresh = &mut buf.filled_mut()[begin..];
        let Err(Refused { at, refusal }) = this.scanner.scan(fresh, || this.phase.approve_head())
        else {
            return Poll::Ready(Ok(()));
        };
        match refusal {
            // A byte that no head can have: hyper answers it with 400 and closes.
            Refusal::InHead => {
                fresh[at] = 0;
                buf.set_filled(begin + at + 1);
            }
            Refusal::InBody if at == 0 => return Poll::Ready(Err(no_body())),
            Refusal::InBody => buf.set_filled(begin + at),
        }
        Poll::Ready(Ok(()))
    }
}

fn no_body() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "a chunked body can be read in more than one way",
    )
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictRequests<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// What is made of a connection's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The heads that were approved.
    pub heads: usize,
    /// How many bytes came before the one that was refused; `None`: all are taken.
    pub refused_at: Option<usize>,
}

/// Reads bytes that come in these pieces, from the beginning of a connection on which nothing is answered. The gateway itself
/// reads by [`StrictRequests`]; this is the same scanner without a socket, which `fuzz` holds against other readers.
pub fn scan_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Scanned {
    let (mut scanner, mut heads, mut before) = (Scanner::new(), 0, 0);
    for piece in pieces {
        if let Err(refused) = scanner.scan(piece, || heads += 1) {
            return Scanned {
                heads,
                refused_at: Some(before + refused.at),
            };
        }
        before += piece.len();
    }
    Scanned {
        heads,
        refused_at: None,
    }
}

/// Follows the bytes of a connection, in whatever pieces they come.
struct Scanner {
    state: State,
    /// The byte before the current one, for a CR at the end of a piece.
    last: u8,
    head: Head,
}

/// What a head has said so far.
#[derive(Clone, Copy, Default)]
struct Head {
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a request line. RFC 9112 section 2.2 has servers ignore an empty line there; a second one is refused.
    Begin {
        after_empty_line: bool,
    },
    EmptyLineLf,
    RequestLine,
    /// At the first byte of a header line.
    LineBegin,
    /// So many bytes of this name have come.
    Name {
        name: Name,
        matched: usize,
    },
    /// Somewhere in a line that means nothing here.
    Line,
    /// In the value of `Content-Length`.
    Length {
        part: Part,
        value: u64,
    },
    /// In the value of `Transfer-Encoding`; so many bytes of "chunked" have come.
    Coding {
        matched: usize,
        part: Part,
    },
    /// After the CR of a line whose value was read.
    ValueLf,
    /// After the CR of the empty line.
    HeadLf,
    /// So many bytes of a body are to come.
    Body {
        left: u64,
    },
    Chunk(Chunk),
    /// After a head that asks for another protocol. What comes is passed on as it is; that something came forbids that
    /// anything after it is a request.
    Upgrading {
        came: bool,
    },
    Refused(Refusal),
    /// Refused, and hyper knows.
    Over,
}

/// Of a value between white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Before,
    Within,
    After,
}

/// RFC 9112 section 7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size { digits: u8, value: u64 },
    Extension { size: u64 },
    SizeLf { size: u64 },
    Data { left: u64 },
    DataCr,
    DataLf,
    TrailerBegin,
    Trailer,
    LastLf,
}

/// Where something was refused, which decides how hyper gets to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    InHead,
    InBody,
}

/// The byte at this place is the first that is outside of the grammar.
#[derive(Debug, PartialEq, Eq)]
struct Refused {
    at: usize,
    refusal: Refusal,
}

/// The names that decide where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    ContentLength,
    TransferEncoding,
    Upgrade,
}

impl Name {
    const fn text(self) -> &'static [u8] {
        match self {
            Self::ContentLength => b"content-length",
            Self::TransferEncoding => b"transfer-encoding",
            Self::Upgrade => b"upgrade",
        }
    }

    /// The only one that begins so.
    const fn beginning_with(byte: u8) -> Option<Self> {
        match byte {
            b'c' | b'C' => Some(Self::ContentLength),
            b't' | b'T' => Some(Self::TransferEncoding),
            b'u' | b'U' => Some(Self::Upgrade),
            _ => None,
        }
    }
}

impl Scanner {
    fn new() -> Self {
        Self {
            state: BEGIN,
            last: 0,
            head: Head::default(),
        }
    }

    /// Looks whether an upgrade that was asked for has not been made: then the next bytes are a request.
    fn answered(&mut self, phase: &Phase) {
        if self.state == (State::Upgrading { came: false }) && phase.is_at_rest() {
            self.state = BEGIN;
        }
    }

    /// Reads on; calls `approve` at the end of each head.
    fn scan(&mut self, bytes: &[u8], mut approve: impl FnMut()) -> Result<(), Refused> {
        let mut at = 0;
        while at < bytes.len() {
            match self.step(&bytes[at..], &mut approve) {
                Ok(read) => at += read,
                Err((skipped, refusal)) => {
                    self.state = State::Refused(refusal);
                    return Err(Refused {
                        at: at + skipped,
                        refusal,
                    });
                }
            }
            self.last = bytes[at - 1];
        }
        Ok(())
    }

    /// Reads one byte, or a run of bytes that mean nothing. How many there were; or how many there were before one that is
    /// refused.
    fn step(
        &mut self,
        bytes: &[u8],
        approve: &mut impl FnMut(),
    ) -> Result<usize, (usize, Refusal)> {
        let byte = bytes[0];
        let refused = Err((0, Refusal::InHead));
        self.state = match self.state {
            State::Begin { after_empty_line } => match byte {
                b'\r' if !after_empty_line => State::EmptyLineLf,
                b'\r' | b'\n' => return refused,
                _ => {
                    self.head = Head::default();
                    State::RequestLine
                }
            },
            State::EmptyLineLf if byte == b'\n' => State::Begin {
                after_empty_line: true,
            },
            State::RequestLine => return self.request_line(bytes),
            State::LineBegin => match byte {
                b'\r' => State::HeadLf,
                b'\n' => return refused,
                first => match Name::beginning_with(first) {
                    Some(name) => State::Name { name, matched: 1 },
                    None => State::Line,
                },
            },
            State::Line => return self.line(bytes, State::LineBegin, Refusal::InHead),
            State::Name { name, matched } => match name.text().get(matched) {
                Some(expected) if byte.eq_ignore_ascii_case(expected) => State::Name {
                    name,
                    matched: matched + 1,
                },
                None if byte == b':' => self.value_of(name).ok_or((0, Refusal::InHead))?,
                // Another name that begins in the same way; this byte may be the end of its line.
                _ => return self.line(bytes, State::LineBegin, Refusal::InHead),
            },
            State::Length { part, value } => self.length(byte, part, value)?,
            State::Coding { matched, part } => self.coding(byte, matched, part)?,
            State::ValueLf if byte == b'\n' => State::LineBegin,
            State::HeadLf if byte == b'\n' => {
                approve();
                self.after_head()
            }
            State::Body { left } => {
                let read = run(bytes, left);
                self.state = match left - read as u64 {
                    0 => BEGIN,
                    left => State::Body { left },
                };
                return Ok(read);
            }
            State::Chunk(chunk) => return self.chunk(chunk, bytes),
            State::Upgrading { .. } => {
                self.state = State::Upgrading { came: true };
                return Ok(bytes.len());
            }
            State::EmptyLineLf
            | State::ValueLf
            | State::HeadLf
            | State::Refused(_)
            | State::Over => {
                return refused;
            }
        };
        Ok(1)
    }

    /// A fragment is not sent (RFC 9112 section 3.2), and what is cut off by one and kept by another is matched by neither.
    fn request_line(&mut self, bytes: &[u8]) -> Result<usize, (usize, Refusal)> {
        let end = memchr2(b'\n', b'#', bytes);
        let Some(end) = end else {
            return Ok(bytes.len());
        };
        if bytes[end] == b'#' || self.before(bytes, end) != b'\r' {
            return Err((end, Refusal::InHead));
        }
        self.state = State::LineBegin;
        Ok(end + 1)
    }

    /// To the end of a line, which is CR LF.
    fn line(
        &mut self,
        bytes: &[u8],
        next: State,
        refusal: Refusal,
    ) -> Result<usize, (usize, Refusal)> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.state = match next {
                State::LineBegin => State::Line,
                _ => State::Chunk(Chunk::Trailer),
            };
            return Ok(bytes.len());
        };
        if self.before(bytes, end) != b'\r' {
            return Err((end, refusal));
        }
        self.state = next;
        Ok(end + 1)
    }

    fn before(&self, bytes: &[u8], at: usize) -> u8 {
        match at {
            0 => self.last,
            at => bytes[at - 1],
        }
    }

    /// A message has one length or one coding, said once (RFC 9112 section 6.3).
    fn value_of(&mut self, name: Name) -> Option<State> {
        let framed = self.head.length.is_some() || self.head.chunked;
        let part = Part::Before;
        match name {
            Name::Upgrade => {
                self.head.upgrade = true;
                Some(State::Line)
            }
            _ if framed => None,
            Name::ContentLength => Some(State::Length { part, value: 0 }),
            Name::TransferEncoding => Some(State::Coding { matched: 0, part }),
        }
    }

    fn length(&mut self, byte: u8, part: Part, value: u64) -> Result<State, (usize, Refusal)> {
        let length = |part, value| Ok(State::Length { part, value });
        match (byte, part) {
            (b' ' | b'\t', Part::Before) => length(Part::Before, value),
            (b' ' | b'\t', Part::Within | Part::After) => length(Part::After, value),
            (b'0'..=b'9', Part::Before | Part::Within) => {
                let digit = u64::from(byte - b'0');
                let value = value.checked_mul(10).and_then(|it| it.checked_add(digit));
                length(Part::Within, value.ok_or((0, Refusal::InHead))?)
            }
            (b'\r', Part::Within | Part::After) => {
                self.head.length = Some(value);
                Ok(State::ValueLf)
            }
            _ => Err((0, Refusal::InHead)),
        }
    }

    fn coding(&mut self, byte: u8, matched: usize, part: Part) -> Result<State, (usize, Refusal)> {
        let coding = |matched, part| Ok(State::Coding { matched, part });
        match (byte, CODING.get(matched)) {
            (b' ' | b'\t', _) if part == Part::Before => coding(matched, part),
            (b' ' | b'\t', None) => coding(matched, Part::After),
            (byte, Some(expected)) if byte.eq_ignore_ascii_case(expected) => {
                coding(matched + 1, Part::Within)
            }
            (b'\r', None) => {
                self.head.chunked = true;
                Ok(State::ValueLf)
            }
            _ => Err((0, Refusal::InHead)),
        }
    }

    fn after_head(&self) -> State {
        match self.head {
            Head { chunked: true, .. } => State::Chunk(Chunk::FIRST),
            Head {
                length: Some(left @ 1..),
                ..
            } => State::Body { left },
            Head { upgrade: true, .. } => State::Upgrading { came: false },
            _ => BEGIN,
        }
    }

    fn chunk(&mut self, chunk: Chunk, bytes: &[u8]) -> Result<usize, (usize, Refusal)> {
        let byte = bytes[0];
        let next = match (chunk, byte) {
            (Chunk::Size { digits, value }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                if digits < MAX_SIZE_DIGITS =>
            {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Chunk::Size {
                    digits: digits + 1,
                    value: value << 4 | u64::from(digit),
                }
            }
            (Chunk::Size { digits: 1.., value }, b'\r') => Chunk::SizeLf { size: value },
            (Chunk::Size { digits: 1.., value }, b';') => Chunk::Extension { size: value },
            (Chunk::Extension { size }, b'\r') => Chunk::SizeLf { size },
            (Chunk::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => Chunk::Extension { size },
            (Chunk::SizeLf { size: 0 }, b'\n') => Chunk::TrailerBegin,
            (Chunk::SizeLf { size }, b'\n') => Chunk::Data { left: size },
            (Chunk::Data { left }, _) => {
                let read = run(bytes, left);
                self.state = State::Chunk(match left - read as u64 {
                    0 => Chunk::DataCr,
                    left => Chunk::Data { left },
                });
                return Ok(read);
            }
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => Chunk::FIRST,
            (Chunk::TrailerBegin, b'\r') => Chunk::LastLf,
            (Chunk::TrailerBegin | Chunk::Trailer, _) => {
                return self.line(bytes, State::Chunk(Chunk::TrailerBegin), Refusal::InBody);
            }
            (Chunk::LastLf, b'\n') => {
                self.state = BEGIN;
                return Ok(1);
            }
            _ => return Err((0, Refusal::InBody)),
        };
        self.state = State::Chunk(next);
        Ok(1)
    }
}

impl Chunk {
    const FIRST: Self = Self::Size {
        digits: 0,
        value: 0,
    };
}

/// How many of these bytes belong to a body of which so many are left.
fn run(bytes: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
}

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

const BEGIN: State = State::Begin {
    after_empty_line: false,
};

/// The only coding that is understood (RFC 9112 section 7.1).
const CODING: &[u8] = b"chunked";

/// A size of 60 bits at most: no sum of sizes overflows, here or elsewhere.
const MAX_SIZE_DIGITS: u8 = 15;

#[cfg(test)]
mod tests;
