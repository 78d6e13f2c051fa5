//! Who the caller is, as the upstream may believe it.

use std::fmt;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

/// The name under which the application knows a user: its own, taken as it is.
///
/// 1 to 128 characters, no control characters, no white space at the ends. Two ids are the same user only if they are
/// the same bytes: no case folding, no Unicode normalisation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(String);

impl UserId {
    pub const MAX_CHARS: usize = 128;

    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        if text.is_empty() {
            return Err(InvalidUserId::Empty);
        }
        if text.chars().count() > Self::MAX_CHARS {
            return Err(InvalidUserId::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidUserId::ControlCharacter);
        }
        if text.trim() != text {
            return Err(InvalidUserId::OuterSpace);
        }
        Ok(Self(text.to_owned()))
    }

    /// From a header: UTF-8, percent-encoded where [`Self::to_header_value`] would encode, so that an application can send back
    /// what it was sent.
    pub fn from_header_value(value: &HeaderValue) -> Result<Self, InvalidUserId> {
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| InvalidUserId::NotUtf8)?;
        if !text.contains('%') {
            return Self::parse(text);
        }
        if !percent_sequences_are_complete(text) {
            return Err(InvalidUserId::BadPercentEncoding);
        }
        let decoded = percent_decode_str(text)
            .decode_utf8()
            .map_err(|_| InvalidUserId::NotUtf8)?;
        Self::parse(&decoded)
    }

    /// For a header: everything outside of visible ASCII, `%` and `,` percent-encoded, so that no id can be read as two
    /// values or as another id.
    pub fn to_header_value(&self) -> HeaderValue {
        let text = utf8_percent_encode(&self.0, ENCODED_IN_HEADERS).to_string();
        HeaderValue::try_from(text).expect("percent-encoded text is visible ASCII")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no user id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidUserId {
    #[error("a user id cannot be empty")]
    Empty,
    #[error("a user id has at most {} characters", UserId::MAX_CHARS)]
    TooLong,
    #[error("a user id cannot have control characters")]
    ControlCharacter,
    #[error("a user id cannot begin or end with white space")]
    OuterSpace,
    #[error("a user id is UTF-8")]
    NotUtf8,
    #[error(
        "a % in the header of a user id begins a percent-encoded byte; send a literal % as %25"
    )]
    BadPercentEncoding,
}

const ENCODED_IN_HEADERS: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b',');

fn percent_sequences_are_complete(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| {
            bytes.get(at + 1).is_some_and(u8::is_ascii_hexdigit)
                && bytes.get(at + 2).is_some_and(u8::is_ascii_hexdigit)
        })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{InvalidUserId, UserId};

    #[test]
    fn what_the_app_was_sent_it_can_send_back() {
        for id in [
            "alice",
            "alice@example.com",
            "a b",
            "zoë",
            "100%",
            "a,b",
            "用户",
            "1",
        ] {
            let id = UserId::parse(id).unwrap();
            let header = id.to_header_value();
            assert!(
                header.as_bytes().iter().all(u8::is_ascii_graphic),
                "{header:?}"
            );
            assert_eq!(UserId::from_header_value(&header), Ok(id));
        }
    }

    #[test]
    fn raw_utf8_is_taken_from_a_header() {
        let header = HeaderValue::from_bytes("zoë".as_bytes()).unwrap();
        assert_eq!(UserId::from_header_value(&header).unwrap().as_str(), "zoë");
    }

    #[test]
    fn what_is_no_user_id() {
        let refused = [
            ("", InvalidUserId::Empty),
            (" a", InvalidUserId::OuterSpace),
            ("a ", InvalidUserId::OuterSpace),
            ("a\u{a0}", InvalidUserId::OuterSpace),
            ("a\r\nx: y", InvalidUserId::ControlCharacter),
            ("a\0", InvalidUserId::ControlCharacter),
            ("a\u{85}b", InvalidUserId::ControlCharacter),
        ];
        for (text, reason) in refused {
            assert_eq!(UserId::parse(text), Err(reason), "{text:?}");
        }
        assert_eq!(UserId::parse(&"é".repeat(129)), Err(InvalidUserId::TooLong));
        assert!(UserId::parse(&"é".repeat(128)).is_ok());
        for (header, reason) in [
            ("50%", InvalidUserId::BadPercentEncoding),
            ("%zz", InvalidUserId::BadPercentEncoding),
            ("%0d%0ax", InvalidUserId::ControlCharacter),
            ("%c0%ae", InvalidUserId::NotUtf8),
        ] {
            assert_eq!(
                UserId::from_header_value(&HeaderValue::from_static(header)),
                Err(reason),
                "{header:?}"
            );
        }
    }

    #[test]
    fn ids_are_compared_as_bytes() {
        let distinct = ["a", "A", "1", "01", "e\u{301}", "é"].map(|id| UserId::parse(id).unwrap());
        for (at, one) in distinct.iter().enumerate() {
            assert!(distinct[at + 1..].iter().all(|other| other != one));
        }
    }
}
