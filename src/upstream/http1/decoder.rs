//! Where the body of an answer ends, and what of that which came is body (RFC 9112 sections 6 and 7).
//!
//! Pure: it is given what came, and takes from it what it understands.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::SizeHint;
use httparse::{EMPTY_HEADER, Status};
use memchr::memchr;

use super::super::error::ExchangeError;
use super::super::framing::Account;
use super::head::{MAX_FIELDS, MAX_HEAD_BYTES};

/// The rest of a body.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Decoder {
    Over,
    Length(u64),
    Chunked(Chunked),
    /// The end of the connection is the end of the body.
    UntilClose,
}

/// What comes next in a body of chunks.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Chunked {
    next: Next,
    /// Bytes of chunk extensions so far.
    extensions: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Size,
    Data(u64),
    EndOfData,
    Trailers,
}

/// What was in the bytes that came.
#[derive(Debug)]
pub(super) enum Decoded {
    Data(Bytes),
    /// After which there is no more.
    Trailers(HeaderMap),
    End,
    /// It takes further bytes to say.
    More,
}

/// A size, and what a server may have to say beside it.
const MAX_SIZE_LINE: usize = 4 * 1024;

/// Of a body, in all.
const MAX_EXTENSIONS: usize = 16 * 1024;

impl Decoder {
    /// The body that follows a head with this account of it; `None` if there can be none such.
    pub fn of(answer: &Response<()>, account: Account, to_head: bool) -> Option<Self> {
        if to_head || has_no_content(answer.status()) {
            return Some(Self::Over);
        }
        match account {
            // HTTP/1.0 knows of none: who sends one does not frame what follows as it says.
            Account::InChunks if answer.version() == Version::HTTP_10 => None,
            Account::InChunks => Some(Self::Chunked(Chunked {
                next: Next::Size,
                extensions: 0,
            })),
            Account::Length(0) => Some(Self::Over),
            Account::Length(length) => Some(Self::Length(length)),
            Account::Nowhere => Some(Self::UntilClose),
        }
    }

    pub fn is_over(&self) -> bool {
        *self == Self::Over
    }

    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Over => SizeHint::with_exact(0),
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }

    /// Takes the next piece of the body from what came.
    pub(super) fn decode(&mut self, incoming: &mut BytesMut) -> Result<Decoded, ExchangeError> {
        let decoded = match self {
            Self::Over => return Ok(Decoded::End),
            Self::Length(left) => {
                let data = take(incoming, left);
                if *left == 0 {
                    *self = Self::Over;
                }
                return Ok(data);
            }
            Self::UntilClose => {
                let mut endless = u64::MAX;
                return Ok(take(incoming, &mut endless));
            }
            Self::Chunked(chunked) => chunked.decode(incoming)?,
        };
        if matches!(decoded, Decoded::Trailers(_) | Decoded::End) {
            *self = Self::Over;
        }
        Ok(decoded)
    }

    /// The connection has ended: whether the body has too.
    pub(super) fn end(&mut self) -> Result<(), ExchangeError> {
        match self {
            Self::Over | Self::UntilClose => {
                *self = Self::Over;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(ExchangeError::Incomplete),
        }
    }
}

fn has_no_content(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Up to `left` bytes, which are counted.
fn take(incoming: &mut BytesMut, left: &mut u64) -> Decoded {
    if incoming.is_empty() {
        return Decoded::More;
    }
    let count = usize::try_from(*left).map_or(incoming.len(), |left| left.min(incoming.len()));
    *left -= count as u64;
    Decoded::Data(incoming.split_to(count).freeze())
}

impl Chunked {
    fn decode(&mut self, incoming: &mut BytesMut) -> Result<Decoded, ExchangeError> {
        loop {
            match &mut self.next {
                Next::Size => {
                    let Some(end) = memchr(b'\n', incoming) else {
                        return more_within(MAX_SIZE_LINE, incoming);
                    };
                    let (size, extensions) = size_of(&incoming[..end])?;
                    incoming.advance(end + 1);
                    self.extensions += extensions;
                    if self.extensions > MAX_EXTENSIONS {
                        return Err(ExchangeError::Chunks);
                    }
                    self.next = match size {
                        0 => Next::Trailers,
                        size => Next::Data(size),
                    };
                }
                Next::Data(left) => {
                    let data = take(incoming, left);
                    if *left == 0 {
                        self.next = Next::EndOfData;
                    }
                    return Ok(data);
                }
                Next::EndOfData => {
                    match &incoming[..] {
                        [b'\r', b'\n', ..] => incoming.advance(2),
                        [] | [b'\r'] => return Ok(Decoded::More),
                        _ => return Err(ExchangeError::Chunks),
                    }
                    self.next = Next::Size;
                }
                Next::Trailers => return trailers(incoming),
            }
        }
    }
}

/// The size in the line that begins a chunk, without its line feed, and how much is said beside it.
fn size_of(line: &[u8]) -> Result<(u64, usize), ExchangeError> {
    let line = line.strip_suffix(b"\r").ok_or(ExchangeError::Chunks)?;
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let (size, extensions) = line.split_at(digits.count());
    let is_extension = match extensions.trim_ascii_start() {
        // Some servers pad the size.
        [] => true,
        [b';', rest @ ..] => rest
            .iter()
            .all(|byte| *byte == b'\t' || !byte.is_ascii_control()),
        _ => false,
    };
    // No sign, no more digits than a size can have.
    if !is_extension || size.is_empty() || size.len() > 16 {
        return Err(ExchangeError::Chunks);
    }
    let size = str::from_utf8(size).map_err(|_| ExchangeError::Chunks)?;
    let size = u64::from_str_radix(size, 16).map_err(|_| ExchangeError::Chunks)?;
    Ok((size, extensions.len()))
}

fn trailers(incoming: &mut BytesMut) -> Result<Decoded, ExchangeError> {
    if incoming.starts_with(b"\r\n") {
        incoming.advance(2);
        return Ok(Decoded::End);
    }
    let mut lines = [EMPTY_HEADER; MAX_FIELDS];
    let parsed = httparse::parse_headers(incoming, &mut lines).map_err(ExchangeError::Head)?;
    let Status::Complete((length, lines)) = parsed else {
        return more_within(MAX_HEAD_BYTES, incoming);
    };
    if length > MAX_HEAD_BYTES {
        return Err(ExchangeError::HeadTooLong);
    }
    let mut fields = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| ExchangeError::Head(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_bytes(line.value)
            .map_err(|_| ExchangeError::Head(httparse::Error::HeaderValue))?;
        fields.append(name, value);
    }
    incoming.advance(length);
    Ok(match fields.is_empty() {
        true => Decoded::End,
        false => Decoded::Trailers(fields),
    })
}

fn more_within(most: usize, incoming: &[u8]) -> Result<Decoded, ExchangeError> {
    match incoming.len() > most {
        true => Err(ExchangeError::Chunks),
        false => Ok(Decoded::More),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chunked() -> Decoder {
        Decoder::Chunked(Chunked {
            next: Next::Size,
            extensions: 0,
        })
    }

    /// The body, its trailers, and what is left, when it comes in these pieces.
    fn decoded<'a>(
        mut decoder: Decoder,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), ExchangeError> {
        let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
        let mut incoming = BytesMut::new();
        for piece in pieces {
            incoming.extend_from_slice(piece);
            loop {
                match decoder.decode(&mut incoming)? {
                    Decoded::Data(data) => body.extend_from_slice(&data),
                    Decoded::Trailers(fields) => trailers = fields,
                    Decoded::End | Decoded::More => break,
                }
            }
        }
        decoder.end()?;
        Ok((body, trailers, incoming.to_vec()))
    }

    proptest! {
        #[test]
        fn a_body_in_chunks_is_the_same_however_it_comes(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            with_trailer: bool,
            step in 1..50_usize,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X}; a=\"b\"\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(if with_trailer { b"0\r\nsum: 7\r\n\r\n" } else { b"0\r\n\r\n" });
            wire.extend_from_slice(b"next");
            let (body, trailers, left) = decoded(chunked(), wire.chunks(step)).unwrap();
            prop_assert_eq!(body, chunks.concat());
            prop_assert_eq!(trailers.contains_key("sum"), with_trailer);
            prop_assert!(b"next".ends_with(&left));
        }
    }

    #[test]
    fn what_is_not_chunked_is_refused() {
        for wire in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "10000000000000000\r\nhello\r\n0\r\n\r\n",
            "00000000000000005\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        ] {
            let read = decoded(chunked(), [wire.as_bytes()].into_iter());
            assert!(read.is_err(), "{wire:?}: {read:?}");
        }
        let extension = format!("1;{}\r\nx\r\n", "a".repeat(2_000));
        let extended = extension.repeat(10);
        assert!(decoded(chunked(), [extended.as_bytes()].into_iter()).is_err());
        let endless = format!("1;{}", "a".repeat(MAX_SIZE_LINE));
        assert!(decoded(chunked(), [endless.as_bytes()].into_iter()).is_err());
    }

    #[test]
    fn a_body_that_breaks_off_is_not_whole() {
        for wire in ["", "5", "5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n"] {
            assert!(
                decoded(chunked(), [wire.as_bytes()].into_iter()).is_err(),
                "{wire:?}"
            );
        }
        assert!(decoded(Decoder::Length(3), [&b"ab"[..]].into_iter()).is_err());
        let (body, _, left) = decoded(Decoder::Length(3), [&b"abcd"[..]].into_iter()).unwrap();
        assert_eq!((&body[..], &left[..]), (&b"abc"[..], &b"d"[..]));
        let (body, ..) = decoded(Decoder::UntilClose, [&b"ab"[..], b"cd"].into_iter()).unwrap();
        assert_eq!(body, b"abcd");
    }

    #[test]
    fn the_head_says_how_the_body_ends() {
        const FIVE: Account = Account::Length(5);
        for (status, account, to_head, expected) in [
            (200, FIVE, false, Decoder::Length(5)),
            (200, FIVE, true, Decoder::Over),
            (200, Account::Length(0), false, Decoder::Over),
            (304, FIVE, false, Decoder::Over),
            (204, Account::InChunks, false, Decoder::Over),
            (200, Account::InChunks, false, chunked()),
            (200, Account::Nowhere, false, Decoder::UntilClose),
        ] {
            let answer = Response::builder().status(status).body(()).unwrap();
            let decoder = Decoder::of(&answer, account, to_head);
            assert_eq!(decoder, Some(expected), "{status} {account:?} {to_head}");
        }
        let old = Response::builder().version(Version::HTTP_10).body(());
        let decoder = Decoder::of(&old.unwrap(), Account::InChunks, false);
        assert_eq!(decoder, None);
    }
}
