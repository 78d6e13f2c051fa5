//! What goes up on an HTTP/1.1 connection: the head of a request, and its body in the framing that the head announces.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    HOST, MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};

use super::super::error::ExchangeError;
use super::super::request_body::RequestBody;
use super::head::write_field;
use super::wire::Wire;

/// Bytes on their way out, in this order: the small pieces, copied together; then one large one, as it is, and what ends it.
#[derive(Default)]
pub(super) struct Outbox {
    small: Vec<u8>,
    /// So much of it is out.
    sent: usize,
    large: Bytes,
    tail: &'static [u8],
}

/// Pieces above this are not copied.
const LARGE: usize = 4 * 1024;

/// So much is gathered before it is written.
const GATHERED: usize = 16 * 1024;

impl Outbox {
    /// For what is to follow what is there; only while there [is room](Self::has_room).
    pub fn small(&mut self) -> &mut Vec<u8> {
        &mut self.small
    }

    pub fn is_empty(&self) -> bool {
        self.sent == self.small.len() && self.large.is_empty() && self.tail.is_empty()
    }

    fn has_room(&self) -> bool {
        self.large.is_empty() && self.tail.is_empty() && self.small.len() < GATHERED
    }

    fn push(&mut self, piece: Bytes, tail: &'static [u8]) {
        if piece.len() > LARGE {
            self.large = piece;
            self.tail = tail;
        } else {
            self.small.extend_from_slice(&piece);
            self.small.extend_from_slice(tail);
        }
    }

    /// What is to be written next, if that is one piece.
    pub fn whole(&self) -> Option<&[u8]> {
        (self.large.is_empty() && self.tail.is_empty()).then_some(&self.small[self.sent..])
    }

    /// What is to be written next.
    pub fn pieces(&self) -> [IoSlice<'_>; 3] {
        [&self.small[self.sent..], &self.large, self.tail].map(IoSlice::new)
    }

    /// So much of it is out.
    pub fn advance(&mut self, mut count: usize) {
        let of_small = count.min(self.small.len() - self.sent);
        self.sent += of_small;
        count -= of_small;
        let of_large = count.min(self.large.len());
        self.large.advance(of_large);
        self.tail = self.tail.get(count - of_large..).unwrap_or_default();
        if self.is_empty() {
            self.sent = 0;
            self.small.clear();
            self.small.shrink_to(GATHERED);
        }
    }
}

/// Sends the body of a request.
pub(super) struct Sender {
    body: RequestBody,
    framing: Framing,
    /// All of it has been put into the outbox.
    is_over: bool,
}

enum Framing {
    Chunked,
    /// So much is missing.
    Length(u64),
}

impl Sender {
    /// In the framing that the head has announced.
    pub fn new(body: RequestBody) -> Self {
        Self {
            framing: match body.size_hint().exact() {
                Some(length) => Framing::Length(length),
                None => Framing::Chunked,
            },
            body,
            is_over: false,
        }
    }

    /// Ready when all of it is out, or the body has failed.
    pub fn poll(
        &mut self,
        wire: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ExchangeError>> {
        loop {
            while !self.is_over && wire.outbox.has_room() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(frame)) => {
                        let frame = frame.map_err(ExchangeError::RequestBody)?;
                        self.put(frame, &mut wire.outbox)?;
                    }
                    Poll::Ready(None) => self.finish(None, &mut wire.outbox)?,
                }
            }
            if wire.outbox.is_empty() {
                return match self.is_over {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                };
            }
            ready!(wire.poll_send(cx)).map_err(ExchangeError::Failed)?;
        }
    }

    fn put(&mut self, frame: Frame<Bytes>, outbox: &mut Outbox) -> Result<(), ExchangeError> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.finish(frame.into_trailers().ok(), outbox),
        };
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Chunked => {
                let size = format!("{:x}\r\n", data.len());
                outbox.small().extend_from_slice(size.as_bytes());
                outbox.push(data, b"\r\n");
            }
            Framing::Length(left) => {
                let rest = left.checked_sub(data.len() as u64);
                *left = rest.ok_or(ExchangeError::RequestLength)?;
                outbox.push(data, b"");
            }
        }
        Ok(())
    }

    /// The body is over. Trailers can follow chunks alone.
    fn finish(
        &mut self,
        trailers: Option<HeaderMap>,
        outbox: &mut Outbox,
    ) -> Result<(), ExchangeError> {
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err(ExchangeError::RequestLength),
            Framing::Chunked => {
                let out = outbox.small();
                out.extend_from_slice(b"0\r\n");
                for (name, value) in &trailers.unwrap_or_default() {
                    if !NOT_IN_TRAILERS.contains(name) {
                        write_field(name, value, out);
                    }
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        self.is_over = true;
        Ok(())
    }
}

/// Who folds trailers into the headers would take them for what was said before the body (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [HeaderName; 12] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
];
