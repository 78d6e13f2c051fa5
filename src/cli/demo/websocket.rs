//! The server's side of a WebSocket (RFC 6455), as far as an application that only talks needs it.
//!
//! Made by hand because the sample app sends one short text a second and reads nothing: a handshake and two functions
//! over bytes say that in fewer lines than a library needs to be set up, and the binary carries no second codec.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The longest data frame that is read (and thrown away); a longer one ends the connection.
pub const MAX_PAYLOAD: usize = 4096;
/// What a control frame may hold, and what a server's frame with a one-byte length can (section 5.5).
const MAX_SHORT_PAYLOAD: usize = 125;

/// The `Sec-WebSocket-Accept` that accepts this handshake; `None` if it is not one of version 13.
pub fn accept_handshake(headers: &HeaderMap) -> Option<HeaderValue> {
    let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes();
    let is_handshake = has_token(headers, &UPGRADE, "websocket")
        && has_token(headers, &CONNECTION, "upgrade")
        && headers.get(SEC_WEBSOCKET_VERSION)? == "13"
        && STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16);
    if !is_handshake {
        return None;
    }
    let hashed = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &hashed));
    HeaderValue::try_from(accept).ok()
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// What the other side sent, as far as a talker cares.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Text, binary, a continuation of them, or a pong: nothing to do.
    Ignored,
    /// To be answered with [`pong`].
    Ping(Bytes),
    /// To be answered with [`close`].
    Close,
}

/// Why a connection is ended from this side (section 7.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    Normal = 1000,
    GoingAway = 1001,
    ProtocolError = 1002,
    TooBig = 1009,
}

/// Takes the next whole frame from the front of `buffer`; `None` until enough has arrived.
///
/// A buffer that is emptied by this function whenever bytes arrive never holds more than one frame and one read.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Received>, CloseCode> {
    let [first, second, rest @ ..] = &buffer[..] else {
        return Ok(None);
    };
    let (opcode, short) = (first & 0x0f, usize::from(second & 0x7f));
    let (has_reserved_bits, is_masked) = (first & 0x70 != 0, second & 0x80 != 0);
    let is_control = opcode & 0x08 != 0;
    if has_reserved_bits || !is_masked || !matches!(opcode, 0x0..=0x2 | 0x8..=0xa) {
        return Err(CloseCode::ProtocolError);
    }
    if is_control && (first & 0x80 == 0 || short > MAX_SHORT_PAYLOAD) {
        return Err(CloseCode::ProtocolError);
    }
    let (header, length) = match (short, rest) {
        (0..=MAX_SHORT_PAYLOAD, _) => (2, short),
        (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        (126, _) => return Ok(None),
        _ => return Err(CloseCode::TooBig),
    };
    if length > MAX_PAYLOAD {
        return Err(CloseCode::TooBig);
    }
    if buffer.len() < header + 4 + length {
        return Ok(None);
    }
    buffer.advance(header);
    let mask = buffer.split_to(4);
    let mut payload = buffer.split_to(length);
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok(Some(match opcode {
        0x8 => Received::Close,
        0x9 => Received::Ping(payload.freeze()),
        _ => Received::Ignored,
    }))
}

/// A text frame; what does not fit into a short one is left off.
pub fn text(text: &str) -> Vec<u8> {
    short_frame(
        0x1,
        &text.as_bytes()[..text.floor_char_boundary(MAX_SHORT_PAYLOAD)],
    )
}

/// The answer to a ping.
pub fn pong(payload: &Bytes) -> Vec<u8> {
    short_frame(0xa, payload)
}

/// The last frame of this side.
pub fn close(code: CloseCode) -> Vec<u8> {
    short_frame(0x8, &(code as u16).to_be_bytes())
}

fn short_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().min(MAX_SHORT_PAYLOAD);
    let mut frame = vec![0x80 | opcode, u8::try_from(length).unwrap_or(0)];
    frame.extend_from_slice(&payload[..length]);
    frame
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::{any, prop, prop_assert, proptest};

    use super::{CloseCode, MAX_PAYLOAD, Received, accept_handshake, close, take_frame, text};

    fn handshake(changes: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let sample = [
            ("upgrade", "websocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        for (name, value) in sample.iter().chain(changes) {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    #[test]
    fn the_sample_of_rfc_6455_section_1_3() {
        assert_eq!(
            accept_handshake(&handshake(&[])).unwrap(),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn what_is_no_handshake() {
        for change in [
            ("upgrade", "h2c"),
            ("connection", "keep-alive"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "c2hvcnQ="),
            ("sec-websocket-key", "?"),
        ] {
            assert_eq!(accept_handshake(&handshake(&[change])), None, "{change:?}");
        }
        assert_eq!(accept_handshake(&HeaderMap::new()), None);
    }

    type Taken = Result<Option<Received>, CloseCode>;

    #[test]
    fn frames_of_a_client() {
        let mask = [1, 2, 3, 4];
        let masked_hey = [b'h' ^ 1, b'e' ^ 2, b'y' ^ 3];
        let hey = [&[0x89, 0x83][..], &mask, &masked_hey].concat();
        let table: [(&[u8], Taken); 15] = [
            (&[], Ok(None)),
            (&[0x81], Ok(None)),
            (&hey, Ok(Some(Received::Ping(Bytes::from_static(b"hey"))))),
            (&hey[..hey.len() - 1], Ok(None)),
            (&[0x81, 0x80, 1, 2, 3, 4], Ok(Some(Received::Ignored))),
            (&[0x8a, 0x80, 1, 2, 3, 4], Ok(Some(Received::Ignored))),
            (&[0x88, 0x80, 1, 2, 3, 4], Ok(Some(Received::Close))),
            (&[0x81, 0x00], Err(CloseCode::ProtocolError)), // not masked
            (&[0xc1, 0x80], Err(CloseCode::ProtocolError)), // reserved bit
            (&[0x83, 0x80], Err(CloseCode::ProtocolError)), // unknown opcode
            (&[0x09, 0x80], Err(CloseCode::ProtocolError)), // control frame in pieces
            (&[0x88, 0xfe], Err(CloseCode::ProtocolError)), // long control frame
            (&[0x82, 0xfe], Ok(None)),
            (&[0x82, 0xfe, 0x10, 0x01], Err(CloseCode::TooBig)),
            (&[0x82, 0xff], Err(CloseCode::TooBig)),
        ];
        for (bytes, expected) in table {
            assert_eq!(
                take_frame(&mut BytesMut::from(bytes)),
                expected,
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn frames_are_taken_one_after_the_other() {
        let mut buffer =
            BytesMut::from(&[0x81, 0x81, 0, 0, 0, 0, b'x', 0x88, 0x80, 0, 0, 0, 0][..]);
        assert_eq!(take_frame(&mut buffer), Ok(Some(Received::Ignored)));
        assert_eq!(take_frame(&mut buffer), Ok(Some(Received::Close)));
        assert_eq!(take_frame(&mut buffer), Ok(None));
    }

    #[test]
    fn frames_of_the_server() {
        assert_eq!(text("hi"), [0x81, 2, b'h', b'i']);
        assert_eq!(text(&"é".repeat(100)).len(), 2 + 124);
        assert_eq!(close(CloseCode::GoingAway), [0x88, 2, 0x03, 0xe9]);
    }

    proptest! {
        #[test]
        fn whatever_arrives_little_is_kept(junk in prop::collection::vec(any::<u8>(), 0..9000)) {
            let mut buffer = BytesMut::from(&junk[..]);
            while let Ok(Some(_)) = take_frame(&mut buffer) {}
            if take_frame(&mut buffer).is_ok() {
                prop_assert!(buffer.len() < 2 + 2 + 4 + MAX_PAYLOAD);
            }
        }
    }
}
