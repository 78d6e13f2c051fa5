//! The head of a request in the version that is spoken, and one account of where a body ends.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use http_body::Body;

use super::outgoing::Message;
use super::request_body::RequestBody;

/// As HTTP/1.1 has it: the framing that fits the body, whatever stood there before (RFC 9112 section 6).
pub(super) fn write_http1(message: &mut Message) {
    let length = Length::of(&message.body);
    write_framing(&mut message.headers, length);
}

/// As HTTP/2 has it: host and scheme in pseudo headers, nothing about the connection, lengths only as a hint (RFC 9113
/// section 8). `te: trailers` stays: without it a gRPC server does not answer.
pub(super) fn into_http2(mut message: Message, scheme: Scheme) -> Request<RequestBody> {
    let length = Length::of(&message.body);
    let headers = &mut message.headers;
    let host = headers.remove(HOST);
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    match length {
        Length::NoBody => keep_zero(headers),
        Length::Known(length) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Length::Unknown => {
            headers.remove(CONTENT_LENGTH);
        }
    }
    let mut request = Request::new(message.body);
    *request.method_mut() = message.method;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = message.headers;
    *request.uri_mut() = Uri::from(message.target.clone());
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if let Some(authority) = authority {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme);
        parts.authority = Some(authority);
        parts.path_and_query = Some(message.target);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// Undoes [`into_http2`], for a request that was not sent.
pub(super) fn from_http2(request: Request<RequestBody>) -> Message {
    let (head, body) = request.into_parts();
    let (mut headers, uri) = (head.headers, head.uri.into_parts());
    let host = uri
        .authority
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    if let Some(host) = host {
        headers.insert(HOST, host);
    }
    if headers.contains_key(TE) {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    Message {
        method: head.method,
        target: uri.path_and_query.unwrap_or(PathAndQuery::from_static("/")),
        headers,
        body,
    }
}

/// How much body there is.
#[derive(Clone, Copy)]
enum Length {
    NoBody,
    Known(u64),
    Unknown,
}

impl Length {
    fn of(body: &RequestBody) -> Self {
        match body.size_hint().exact() {
            _ if body.is_empty() => Self::NoBody,
            Some(length) => Self::Known(length),
            None => Self::Unknown,
        }
    }
}

/// What a body of unknown length, of known length and no body need in the head, whatever stood there before.
fn write_framing(headers: &mut HeaderMap, length: Length) {
    match length {
        Length::NoBody => {
            headers.remove(TRANSFER_ENCODING);
            keep_zero(headers);
        }
        Length::Known(length) => {
            headers.remove(TRANSFER_ENCODING);
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        Length::Unknown => {
            headers.remove(CONTENT_LENGTH);
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
}

/// A POST that said "0" goes on saying it; a length that no body fulfils would eat the next request.
fn keep_zero(headers: &mut HeaderMap) {
    if headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Where the head of an answer says that its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    InChunks,
    Length(u64),
    Nowhere,
}

/// Leaves one account of where an answer ends, the one that its body is read by: of a length beside chunks nothing is left
/// (RFC 9112 section 6.3), a length that is said twice is said once. None if the answer can be read in two ways, or is coded
/// in a way that nobody past the upstream would know of.
pub(super) fn settle_framing(headers: &mut HeaderMap) -> Option<Account> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let only_chunked =
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        headers.remove(CONTENT_LENGTH);
        return only_chunked.then_some(Account::InChunks);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Some(Account::Nowhere);
    };
    if lengths.next().is_none()
        && let Some(length) = number(first.as_bytes())
    {
        return Some(Account::Length(length));
    }
    let mut all = headers
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let said = all.next().unwrap_or_default();
    let length = number(said)?;
    if all.any(|again| again != said) {
        return None;
    }
    let said = HeaderValue::from_bytes(said).ok()?;
    headers.insert(CONTENT_LENGTH, said);
    Some(Account::Length(length))
}

/// Of digits alone, and no more than can be counted.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
