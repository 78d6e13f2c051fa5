//! A request's parameters and body, read strictly: what is not described is refused, not ignored.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use tokio::time::timeout;

use super::operations::{Operation, Parameter};
use crate::admin::problem::{Code, Problem};
use crate::identity::UserId;
use crate::session::{KeyId, SessionHandle};
use crate::store::Sequence;

/// What a request says besides its method.
#[derive(Debug)]
pub(super) struct Input {
    /// The one segment of the path that is not given, decoded.
    path: Option<String>,
    query: Vec<(Parameter, String)>,
    pub body: Option<Bytes>,
}

/// Part of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    pub limit: u32,
    pub after: Option<SessionHandle>,
}

impl Input {
    pub fn new(
        path: Option<&str>,
        query: Option<&str>,
        operation: &Operation,
    ) -> Result<Self, Problem> {
        let path = path
            .map(|segment| {
                decoded(segment).ok_or_else(|| invalid("the path", "is not percent-encoded UTF-8"))
            })
            .transpose()?;
        let mut input = Self {
            path,
            query: Vec::new(),
            body: None,
        };
        let pairs = query
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let known = operation.query.iter().find(|known| known.name() == name);
            let Some(known) = known else {
                return Err(invalid(
                    "the query",
                    "has a parameter that is not known here",
                ));
            };
            if input.query.iter().any(|(earlier, _)| earlier == known) {
                return Err(invalid(known.name(), "comes more than once"));
            }
            let value = decoded(value)
                .ok_or_else(|| invalid(known.name(), "is not percent-encoded UTF-8"))?;
            input.query.push((*known, value));
        }
        Ok(input)
    }

    pub fn handle(&self) -> Result<SessionHandle, Problem> {
        let text = self.path.as_deref().unwrap_or_default();
        text.parse()
            .map_err(|error| invalid("the path", &format!("names no session: {error}")))
    }

    pub fn user(&self) -> Result<UserId, Problem> {
        let text = self.path.as_deref().unwrap_or_default();
        UserId::parse(text).map_err(|error| invalid("the path", &format!("names no user: {error}")))
    }

    /// A name that no key has is for the store to find out.
    pub fn key(&self) -> Result<KeyId, Problem> {
        let text = self.path.as_deref().unwrap_or_default();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.len() > MOST_KEY_BYTES || !text.bytes().all(is_name) {
            return Err(invalid("the path", "names no key"));
        }
        Ok(KeyId::from_store(text))
    }

    pub fn page(&self) -> Result<Page, Problem> {
        let after = self.query(Parameter::Cursor).map(|cursor| {
            cursor
                .parse()
                .map_err(|_| invalid("cursor", "is not one that an earlier answer gave"))
        });
        Ok(Page {
            limit: self.limit(Parameter::Limit)?,
            after: after.transpose()?,
        })
    }

    pub fn log_limit(&self) -> Result<u32, Problem> {
        self.limit(Parameter::LogLimit)
    }

    pub fn after(&self) -> Result<Sequence, Problem> {
        let number = self.query(Parameter::After).map_or(Some(0), number);
        number
            .filter(|number| *number <= Parameter::MOST_AFTER)
            .map(Sequence::new)
            .ok_or_else(|| invalid("after", "is no sequence number"))
    }

    /// The body as the type that the call takes.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let body = self.body.as_deref().unwrap_or_default();
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Data => Code::InvalidBody.says(format!("the body does not fit: {error}")),
            _ => Code::MalformedJson.says(format!("the body is not JSON: {error}")),
        })
    }

    fn limit(&self, parameter: Parameter) -> Result<u32, Problem> {
        let (default, most) = parameter.limits();
        let Some(text) = self.query(parameter) else {
            return Ok(default);
        };
        number(text)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| invalid("limit", &format!("is not a number from 1 to {most}")))
    }

    fn query(&self, parameter: Parameter) -> Option<&str> {
        let (_, value) = self.query.iter().find(|(known, _)| *known == parameter)?;
        Some(value)
    }
}

/// Digits and nothing else: the standard parser takes a sign, too.
fn number(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// Percent-decoded once; each `%` has to begin an encoded byte.
fn decoded(text: &str) -> Option<String> {
    let complete = |at: usize| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.match_indices('%').all(|(at, _)| complete(at)) {
        return None;
    }
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

fn invalid(what: &str, why: &str) -> Problem {
    Code::InvalidParameter.says(format!("{what} {why}"))
}

/// A JSON body, bounded in size and time.
pub(super) async fn read_body<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !is_json(headers) {
        return Err(
            Code::UnsupportedMediaType.says("send the body as `Content-Type: application/json`")
        );
    }
    let whole = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    match whole {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Code::BodyTooLarge.says(format!("a body has at most {MAX_BODY_BYTES} bytes")))
        }
        Ok(Err(_)) => Err(Code::MalformedJson.says("the body ended before its time")),
        Err(_) => Err(Code::BodyTimeout.says("the body did not come in time")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else {
        return false;
    };
    let essence = only
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    essence
        .trim_ascii()
        .eq_ignore_ascii_case(b"application/json")
}

const MOST_KEY_BYTES: usize = 64;
const MAX_BODY_BYTES: usize = 256 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::{decoded, number};

    #[test]
    fn a_segment_is_decoded_once() {
        for (text, expected) in [
            ("alice", Some("alice")),
            ("a%2Fb", Some("a/b")),
            ("a%252Fb", Some("a%2Fb")),
            ("a+b", Some("a+b")),
            ("zo%C3%AB", Some("zoë")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%c0%ae", None),
            ("%é1", None),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        for (text, expected) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("+1", None),
            ("-1", None),
            ("1.0", None),
            ("", None),
            ("٣", None),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
