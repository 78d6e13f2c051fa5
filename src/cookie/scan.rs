//! The scan of a `Cookie` header's bytes: without allocation, since every request pays for it.
//!
//! A value counts only under its exact name; a cookie without a name never does (browsers send `=__Host-x=y` as they got it).

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;
use memchr::memchr;
use percent_encoding::percent_decode;

use super::{ACCESS, ID_REFRESH, REFRESH};

/// The gateway's cookies in one request.
#[derive(Debug, Default)]
pub struct PresentedCookies<'a> {
    pub access: Candidates<'a>,
    pub refresh: Candidates<'a>,
    pub(super) any_own: bool,
}

impl PresentedCookies<'_> {
    /// More than one value of a cookie: a scope was duplicated, or somebody tossed one in.
    pub fn has_spare(&self) -> bool {
        self.access.is_duplicated() || self.refresh.is_duplicated()
    }

    /// Whether the request carries a cookie that the upstream must not see.
    pub fn any_own(&self) -> bool {
        self.any_own
    }
}

/// The distinct values of one cookie name: more than one if a scope was duplicated, or somebody tossed one in.
#[derive(Default)]
pub struct Candidates<'a> {
    values: [Option<Cow<'a, str>>; MAX_CANDIDATES],
    too_many: bool,
}

impl<'a> Candidates<'a> {
    pub(super) fn add(&mut self, value: &'a [u8]) {
        let Some(value) = decoded(value) else { return };
        if value.is_empty() {
            return;
        }
        for slot in &mut self.values {
            match slot {
                Some(known) if *known == value => return,
                Some(_) => {}
                None => {
                    *slot = Some(value);
                    return;
                }
            }
        }
        self.too_many = true;
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.values.iter().flatten().map(AsRef::as_ref)
    }

    pub fn is_empty(&self) -> bool {
        self.values[0].is_none()
    }

    /// More than one value.
    pub fn is_duplicated(&self) -> bool {
        self.values[1].is_some()
    }

    /// More distinct values than are worth trying: nobody's browser does that by itself.
    pub fn too_many(&self) -> bool {
        self.too_many
    }
}

impl std::fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Candidates({} redacted)", self.iter().count())
    }
}

/// A `Cookie` header without the gateway's cookies; `None` if nothing else is in it.
pub fn without_own(header: &HeaderValue) -> Option<HeaderValue> {
    let mut rest = Vec::with_capacity(header.len());
    for (name, value, whole) in raw_pairs(header.as_bytes()) {
        if is_own(name, value) || whole.is_empty() {
            continue;
        }
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(whole);
    }
    if rest.is_empty() {
        None
    } else {
        HeaderValue::from_maybe_shared(Bytes::from(rest)).ok()
    }
}

/// Whether one of the gateway's cookies is in a `Cookie` header.
pub fn has_own(header: &HeaderValue) -> bool {
    pairs(header.as_bytes()).any(|(name, value)| is_own(name, value))
}

/// Whether a `Set-Cookie` of the upstream names a cookie of the gateway.
pub fn sets_own(header: &HeaderValue) -> bool {
    pairs(header.as_bytes())
        .next()
        .is_some_and(|(name, value)| is_own(name, value))
}

const MAX_CANDIDATES: usize = 4;

/// Name, value and the pair as written, of each cookie in a header.
fn raw_pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    let mut rest = Some(header);
    std::iter::from_fn(move || {
        let from = rest?;
        let end = memchr(b';', from);
        rest = end.map(|end| &from[end + 1..]);
        let pair = from[..end.unwrap_or(from.len())].trim_ascii();
        Some(match memchr(b'=', pair) {
            Some(at) => (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii(), pair),
            None => (&b""[..], pair, pair),
        })
    })
}

pub(super) fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    raw_pairs(header).map(|(name, value, _)| (name, value))
}

/// Any spelling that this gateway sets under some configuration, or that a careless parser takes for one.
pub(super) fn is_own(name: &[u8], value: &[u8]) -> bool {
    let name = if name.is_empty() {
        value
            .split(|byte| *byte == b'=')
            .next()
            .unwrap_or_default()
            .trim_ascii()
    } else {
        name
    };
    let bare = without_prefix(name, b"__Host-")
        .or_else(|| without_prefix(name, b"__Secure-"))
        .unwrap_or(name);
    bare == ACCESS.as_bytes() || bare == REFRESH.as_bytes() || bare == ID_REFRESH.as_bytes()
}

/// In any case, as browsers take them (RFC 6265bis section 4.1.3).
fn without_prefix<'n>(name: &'n [u8], prefix: &[u8]) -> Option<&'n [u8]> {
    let (start, rest) = name.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Percent-decoded once; tokens have no character that needs it, but clients may encode them all the same.
fn decoded(value: &[u8]) -> Option<Cow<'_, str>> {
    if memchr(b'%', value).is_some() {
        percent_decode(value).decode_utf8().ok()
    } else {
        std::str::from_utf8(value).ok().map(Cow::Borrowed)
    }
}
