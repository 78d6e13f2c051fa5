//! The scan of a `Cookie` header's bytes: without allocation, since every request pays for it.
//!
//! A value counts only under its exact name; a cookie without a name never does (browsers send `=__Host-x=y` as they got it).

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};
use memchr::memchr;
use percent_encoding::percent_decode;

use super::{ACCESS, ID_REFRESH, REFRESH};

/// The gateway's cookies in one request.
#[derive(Debug, Default)]
pub struct PresentedCookies<'a> {
    pub access: Candidates<'a>,
    pub refresh: Candidates<'a>,
}

impl PresentedCookies<'_> {
    /// More than one value of a cookie: a scope was duplicated, or somebody tossed one in.
    pub fn has_spare(&self) -> bool {
        self.access.is_duplicated() || self.refresh.is_duplicated()
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

/// Where the gateway's cookies are in the `Cookie` headers of a request: looked for once, and read and stripped by that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnCookies {
    #[default]
    None,
    /// So many, in the only line.
    InOneLine {
        places: [Place; MAX_PLACES],
        count: u8,
    },
    /// In one of several lines, or more of them than there is room for: to be looked for again.
    Scattered,
}

/// A cookie in a line, with the semicolon that ends it, if one does: where it begins, and where the next one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    from: u32,
    to: u32,
}

/// More are nobody's honest cookies: the access and the refresh cookie, the one of the reference library, and a spare.
const MAX_PLACES: usize = 4;

impl OwnCookies {
    /// In all `Cookie` headers of a request.
    pub fn find<'h>(lines: impl IntoIterator<Item = &'h HeaderValue>) -> Self {
        let mut lines = lines.into_iter();
        let Some(line) = lines.next() else {
            return Self::None;
        };
        let (mut places, mut count) = ([Place::default(); MAX_PLACES], 0);
        for pair in raw_pairs(line.as_bytes()).filter(RawPair::is_own) {
            let Some(place) = places.get_mut(usize::from(count)) else {
                return Self::Scattered;
            };
            let (Ok(from), Ok(to)) = (u32::try_from(pair.from), u32::try_from(pair.to)) else {
                return Self::Scattered;
            };
            *place = Place { from, to };
            count += 1;
        }
        match (count, lines.next()) {
            (0, None) => Self::None,
            (count, None) => Self::InOneLine { places, count },
            (0, Some(other)) if !has_own(other) && !lines.any(has_own) => Self::None,
            (_, Some(_)) => Self::Scattered,
        }
    }

    pub fn any(&self) -> bool {
        *self != Self::None
    }

    /// Takes them out of the headers that they were found in.
    pub fn strip(&self, headers: &mut HeaderMap) {
        match self {
            Self::None => {}
            Self::InOneLine { places, count } => {
                let Some(line) = headers.get_mut(COOKIE) else {
                    return;
                };
                let own = places[..usize::from(*count)].iter().map(Place::range);
                let taken: usize = own.clone().map(|place| place.len()).sum();
                match cut(line.as_bytes(), line.len().saturating_sub(taken), own) {
                    Some(rest) => *line = rest,
                    None => drop(headers.remove(COOKIE)),
                }
            }
            Self::Scattered => {
                let lines = headers.get_all(COOKIE).iter();
                let kept: Vec<HeaderValue> = lines.filter_map(without_own).collect();
                headers.remove(COOKIE);
                for rest in kept {
                    headers.append(COOKIE, rest);
                }
            }
        }
    }
}

impl Place {
    fn range(&self) -> Range<usize> {
        self.from as usize..self.to as usize
    }
}

/// A `Cookie` header without the gateway's cookies; `None` if nothing else is in it.
pub fn without_own(header: &HeaderValue) -> Option<HeaderValue> {
    let line = header.as_bytes();
    let own = raw_pairs(line).filter(RawPair::is_own);
    cut(line, line.len(), own.map(|pair| pair.from..pair.to))
}

/// What is left of a line of cookies without some of them, in order: about as much as there is `room`. The others stay as they
/// were written, each still between semicolons.
fn cut(
    line: &[u8],
    room: usize,
    without: impl Iterator<Item = Range<usize>>,
) -> Option<HeaderValue> {
    let (mut rest, mut from) = (Vec::with_capacity(room), 0);
    let end = line.len()..line.len();
    for gap in without.chain([end]) {
        let piece = trim_separators(line.get(from..gap.start)?);
        from = gap.end;
        if piece.is_empty() {
            continue;
        }
        if !rest.is_empty() {
            rest.extend_from_slice(b"; ");
        }
        rest.extend_from_slice(piece);
    }
    if rest.is_empty() {
        return None;
    }
    // As long as its text: without a second allocation, which says how long it is.
    HeaderValue::from_maybe_shared(Bytes::from(rest.into_boxed_slice())).ok()
}

fn trim_separators(mut piece: &[u8]) -> &[u8] {
    let is_separator = |byte: &u8| *byte == b';' || byte.is_ascii_whitespace();
    while let [first, rest @ ..] = piece
        && is_separator(first)
    {
        piece = rest;
    }
    while let [rest @ .., last] = piece
        && is_separator(last)
    {
        piece = rest;
    }
    piece
}

/// Whether one of the gateway's cookies is in a `Cookie` header.
fn has_own(header: &HeaderValue) -> bool {
    raw_pairs(header.as_bytes()).any(|pair| pair.is_own())
}

/// Whether a `Set-Cookie` of the upstream names a cookie of the gateway.
pub fn sets_own(header: &HeaderValue) -> bool {
    pairs(header.as_bytes())
        .next()
        .is_some_and(|(name, value)| is_own(name, value))
}

const MAX_CANDIDATES: usize = 4;

/// A cookie in a header, as it is written, and where: `to` is where the next one begins.
#[derive(Clone, Copy)]
struct RawPair<'h> {
    name: &'h [u8],
    value: &'h [u8],
    from: usize,
    to: usize,
}

impl RawPair<'_> {
    fn is_own(&self) -> bool {
        is_own(self.name, self.value)
    }
}

fn raw_pairs(header: &[u8]) -> impl Iterator<Item = RawPair<'_>> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let from = next?;
        let rest = &header[from..];
        let end = memchr(b';', rest);
        next = end.map(|end| from + end + 1);
        let (name, value) = split(&rest[..end.unwrap_or(rest.len())]);
        Some(RawPair {
            name,
            value,
            from,
            to: next.unwrap_or(header.len()),
        })
    })
}

/// A pair without a name is all value.
fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    let pair = pair.trim_ascii();
    match memchr(b'=', pair) {
        Some(at) => (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii()),
        None => (&b""[..], pair),
    }
}

pub(super) fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    raw_pairs(header).map(|pair| (pair.name, pair.value))
}

/// The pairs of a line that the gateway's cookies were found in: those alone, if it is the only one.
pub(super) fn own_pairs<'h>(
    line: &'h [u8],
    own: &OwnCookies,
) -> impl Iterator<Item = (&'h [u8], &'h [u8])> {
    let (places, count, anywhere) = match own {
        OwnCookies::None => Default::default(),
        OwnCookies::InOneLine { places, count } => (*places, usize::from(*count), None),
        OwnCookies::Scattered => (Default::default(), 0, Some(pairs(line))),
    };
    let found = places.into_iter().take(count).map(|place| {
        let pair = line.get(place.range()).unwrap_or_default();
        split(pair.strip_suffix(b";").unwrap_or(pair))
    });
    found.chain(anywhere.into_iter().flatten())
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
