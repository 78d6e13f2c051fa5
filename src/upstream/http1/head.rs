//! The heads of HTTP/1.1: the request's as it is written, and the answer's as it is read (RFC 9112 sections 3 to 5).

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use memchr::memchr_iter;

use super::super::error::ExchangeError;
use super::super::outgoing::Message;

/// Twice what common servers emit at most; the same bound holds for trailers.
pub(in super::super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Of a head, and of trailers.
pub(super) const MAX_FIELDS: usize = 100;

/// Writes the head of a request, whose headers say already how its body is framed.
pub(super) fn write(message: &Message, out: &mut Vec<u8>) {
    let target = message.target.as_str();
    let fields = message.headers.len();
    out.reserve(message.method.as_str().len() + target.len() + 16 + fields * TYPICAL_FIELD);
    out.extend_from_slice(message.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_fields(&message.headers, out);
    out.extend_from_slice(b"\r\n");
}

/// What a field takes, as a rule.
const TYPICAL_FIELD: usize = 48;

pub(super) fn write_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        write_field(name, value, out);
    }
}

pub(super) fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// For fields, at least: hyper reads the client's next head into the same map, which has to hold what the gateway adds as well.
const ROOM: usize = 20;

/// Reads the heads of a connection's answers, one after the other. The values are slices of what came.
#[derive(Default)]
pub(super) struct HeadReader {
    /// So much of a head that is not complete has been looked through.
    seen: usize,
    /// The fields of the head in hand, by their places in it; kept for its room.
    fields: Vec<(HeaderName, Range<usize>)>,
}

impl HeadReader {
    /// The next head, if all of it is there.
    pub fn read(&mut self, incoming: &mut BytesMut) -> Result<Option<Response<()>>, ExchangeError> {
        if incoming.is_empty() || !self.has_news(incoming) {
            return self.wait(incoming);
        }
        let mut lines = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut answer = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default()
            .parse_response_with_uninit_headers(&mut answer, incoming, &mut lines)
            .map_err(ExchangeError::Head)?;
        let Status::Complete(length) = parsed else {
            return self.wait(incoming);
        };
        if length > MAX_HEAD_BYTES {
            return Err(ExchangeError::HeadTooLong);
        }
        let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(ExchangeError::Head(httparse::Error::Status))?;
        let version = match answer.version {
            Some(1) => Version::HTTP_11,
            _ => Version::HTTP_10,
        };
        let reason = answer
            .reason
            .filter(|reason| status.canonical_reason() != Some(reason))
            .and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
        self.fields.clear();
        for line in &*answer.headers {
            let name = HeaderName::from_bytes(line.name.as_bytes())
                .map_err(|_| ExchangeError::Head(httparse::Error::HeaderName))?;
            self.fields.push((name, place(line.value, incoming)));
        }
        self.seen = 0;
        let head = incoming.split_to(length).freeze();
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = self.take_fields(&head)?;
        if let Some(reason) = reason {
            response.extensions_mut().insert(reason);
        }
        Ok(Some(response))
    }

    fn take_fields(&mut self, head: &Bytes) -> Result<HeaderMap, ExchangeError> {
        let mut headers = HeaderMap::with_capacity(self.fields.len().max(ROOM));
        for (name, place) in self.fields.drain(..) {
            let value = HeaderValue::from_maybe_shared(head.slice(place))
                .map_err(|_| ExchangeError::Head(httparse::Error::HeaderValue))?;
            headers.append(name, value);
        }
        Ok(headers)
    }

    fn wait<T>(&mut self, incoming: &BytesMut) -> Result<Option<T>, ExchangeError> {
        self.seen = incoming.len();
        match self.seen > MAX_HEAD_BYTES {
            true => Err(ExchangeError::HeadTooLong),
            false => Ok(None),
        }
    }

    /// Whether the head may be complete now. A head that comes byte by byte is not parsed with each of them.
    fn has_news(&self, incoming: &[u8]) -> bool {
        let from = self.seen.saturating_sub(2);
        let news = incoming.get(from..).unwrap_or_default();
        self.seen == 0 || memchr_iter(b'\n', news).any(|at| ends_here(&news[at..]))
    }
}

/// An empty line follows the end of this one.
fn ends_here(from_line_end: &[u8]) -> bool {
    matches!(
        from_line_end,
        [b'\n', b'\n', ..] | [b'\n', b'\r', b'\n', ..]
    )
}

/// Where `part` is in `whole`.
fn place(part: &[u8], whole: &[u8]) -> Range<usize> {
    if part.is_empty() {
        return 0..0;
    }
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

/// Whether the server lets the connection live on after this answer (RFC 9112 section 9.3). What it says in HTTP/1.0 about that is
/// not asked: a body of unknown length could not be framed there.
pub(super) fn keeps(answer: &Response<()>) -> bool {
    let lines = answer.headers().get_all(CONNECTION).iter();
    let mut options = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    answer.version() == Version::HTTP_11
        && !options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"HTTP/1.1 200 OK\r\nServer:  x \r\nset-cookie: a=b\r\nSet-Cookie: c=\xe9\r\nEmpty:\r\n\r\n";

    fn read(bytes: &[u8]) -> Result<Option<Response<()>>, ExchangeError> {
        HeadReader::default().read(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_head_is_read_however_it_comes() {
        for step in 1..=HEAD.len() {
            let (mut reader, mut incoming) = (HeadReader::default(), BytesMut::new());
            let mut read = None;
            for piece in HEAD.chunks(step) {
                assert!(read.is_none());
                incoming.extend_from_slice(piece);
                read = reader.read(&mut incoming).unwrap();
            }
            let answer = read.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["server"], "x");
            assert_eq!(answer.headers()["empty"], "");
            let cookies: Vec<_> = answer.headers().get_all("set-cookie").iter().collect();
            assert_eq!(cookies.len(), 2);
            assert_eq!(cookies[1].as_bytes(), b"c=\xe9");
            assert!(answer.extensions().get::<ReasonPhrase>().is_none());
            assert!(incoming.is_empty());
        }
    }

    #[test]
    fn what_follows_a_head_stays() {
        let mut incoming = BytesMut::from(&b"HTTP/1.0 299 Own words\r\n\r\nbody"[..]);
        let answer = HeadReader::default().read(&mut incoming).unwrap().unwrap();
        assert_eq!(answer.version(), Version::HTTP_10);
        let reason = answer.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Own words");
        assert_eq!(incoming, "body");
    }

    #[test]
    fn what_is_no_head_is_refused() {
        let long = [
            b"HTTP/1.1 200 OK\r\na: ",
            vec![b'x'; MAX_HEAD_BYTES].as_slice(),
        ]
        .concat();
        let fields = b"a: b\r\n".repeat(MAX_FIELDS + 1);
        let many = [b"HTTP/1.1 200 OK\r\n", fields.as_slice(), b"\r\n"].concat();
        for garbage in [
            b"SSH-2.0-OpenSSH_9.2\r\n".as_slice(),
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 99 Low\r\n\r\n",
            b"HTTP/1.1 099 Low\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nname : value\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\na: \x00\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            &long,
            &many,
        ] {
            let shown = String::from_utf8_lossy(&garbage[..garbage.len().min(60)]);
            assert!(read(garbage).is_err(), "{shown:?}");
        }
    }

    #[test]
    fn a_connection_is_kept_unless_the_server_says_otherwise() {
        for (head, kept) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\n\r\n", false),
            (
                "HTTP/1.1 200 OK\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n",
                false,
            ),
            ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n", false),
        ] {
            let answer = read(head.as_bytes()).unwrap().unwrap();
            assert_eq!(keeps(&answer), kept, "{head:?}");
        }
    }
}
