//! The one path of a request: matched, logged and forwarded.
//!
//! Canonical form: percent-encoded unreserved characters (RFC 3986 section 2.3) are decoded, once; other escapes have
//! upper-case digits; runs of slashes are one slash. Nothing else changes: the path is never decoded further, and the query
//! is passed on as it came.
//!
//! Dot segments, encoded slashes and the like are refused instead of resolved: whatever we made of them, some upstream makes
//! something else of them. Who has an application that wants encoded slashes as part of a name can have them kept: then they
//! are matched and sent as what they are, three characters of a segment, and dot segments between them are refused all the same.

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;
use thiserror::Error;

/// What becomes of a `%2F` in a path. Some applications take it for a slash, some for a character of a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    #[default]
    Reject,
    /// A character of its segment, for patterns and for the upstream.
    Keep,
}

/// A path with its query that no two parsers read differently.
///
/// Cheap to clone. Not in `Debug`: the query, which may hold what is nobody's business.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CanonicalPath(PathAndQuery);

impl CanonicalPath {
    /// Bytes of a path, before anything is decoded.
    pub const MAX_PATH_BYTES: usize = 8192;
    /// Bytes of a query.
    pub const MAX_QUERY_BYTES: usize = 32 * 1024;
    /// Segments of a path, runs of slashes counted as one.
    pub const MAX_SEGMENTS: usize = 256;

    /// From the target of a request in origin form: a path, perhaps with a query. Without encoded slashes.
    pub fn parse(path_and_query: &str) -> Result<Self, AmbiguousPath> {
        let text = rewritten(path_and_query, EncodedSlash::Reject)?;
        let text = text.unwrap_or_else(|| path_and_query.into());
        Self::from_canonical_text(text)
    }

    /// From the target of a request; shares the bytes of `uri` if they are canonical already.
    ///
    /// Scheme and authority of an absolute target are not looked at. A fragment is cut off by [`Uri`] itself.
    pub fn parse_uri(uri: &Uri, slash: EncodedSlash) -> Result<Self, AmbiguousPath> {
        let given = uri.path_and_query().ok_or(AmbiguousPath::NotAbsolute)?;
        match rewritten(given.as_str(), slash)? {
            None => Ok(Self(given.clone())),
            Some(text) => Self::from_canonical_text(text),
        }
    }

    fn from_canonical_text(text: Vec<u8>) -> Result<Self, AmbiguousPath> {
        PathAndQuery::try_from(text)
            .map(Self)
            .map_err(|_| AmbiguousPath::MustBeEncoded)
    }

    /// The path: what patterns are matched with, and what is sent.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// What follows the `?`, if there is one, as it came.
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// Path and query, as sent.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// For a request to an upstream; copies nothing.
    pub fn to_path_and_query(&self) -> PathAndQuery {
        self.0.clone()
    }

    /// What is between the slashes. `/a/` has two segments, the second is empty, and only the last one can be.
    pub fn segments(&self) -> impl Iterator<Item = &str> + Clone {
        self.path().split('/').skip(1)
    }

    /// The path as seen from `prefix`, a canonical path without a slash at its end; `None` if it is not at or below it.
    ///
    /// It stays canonical: with `/static` taken away, `/static` becomes `/`, and `/static/a?b` becomes `/a?b`.
    pub fn strip_prefix(&self, prefix: &str) -> Option<Self> {
        let rest = match self.path().strip_prefix(prefix)? {
            "" => "/",
            rest if rest.starts_with('/') => rest,
            _ => return None,
        };
        let text = match self.query() {
            Some(query) => format!("{rest}?{query}"),
            None => rest.to_owned(),
        };
        PathAndQuery::try_from(text).map(Self).ok()
    }
}

impl fmt::Debug for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let query = if self.query().is_some() { "?.." } else { "" };
        write!(f, "CanonicalPath({}{query})", self.path())
    }
}

/// Why a request target is not taken: someone behind us could read another path in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AmbiguousPath {
    #[error("a path begins with a slash")]
    NotAbsolute,
    #[error("the path has a segment that is . or .., perhaps encoded or with parameters")]
    DotSegment,
    #[error("the path has an encoded slash (%2F)")]
    EncodedSlash,
    #[error("the path has a backslash, raw or encoded")]
    Backslash,
    #[error("the target has a control character, raw or encoded")]
    ControlCharacter,
    #[error("the target has white space; send a space as %20")]
    WhiteSpace,
    #[error("the target has raw characters outside of ASCII; send them percent-encoded")]
    NotAscii,
    #[error("the target has a character that has to be percent-encoded")]
    MustBeEncoded,
    #[error("the path has an incomplete percent-encoding; send a literal % as %25")]
    IncompleteEscape,
    #[error("the path has percent-encoded bytes that are not UTF-8")]
    NotUtf8,
    #[error("the target has a fragment (#)")]
    Fragment,
    #[error("the path has more than {} bytes", CanonicalPath::MAX_PATH_BYTES)]
    PathTooLong,
    #[error("the query has more than {} bytes", CanonicalPath::MAX_QUERY_BYTES)]
    QueryTooLong,
    #[error("the path has more than {} segments", CanonicalPath::MAX_SEGMENTS)]
    TooManySegments,
}

impl AmbiguousPath {
    /// Whether the answer is 414 (URI too long); else it is 400.
    pub fn is_too_long(self) -> bool {
        matches!(self, Self::PathTooLong | Self::QueryTooLong)
    }
}

/// The canonical form of `path_and_query` where it differs from it.
fn rewritten(path_and_query: &str, slash: EncodedSlash) -> Result<Option<Vec<u8>>, AmbiguousPath> {
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    if path.len() > CanonicalPath::MAX_PATH_BYTES {
        return Err(AmbiguousPath::PathTooLong);
    }
    if let Some(query) = query {
        check_query(query)?;
    }
    let Some(mut text) = rewritten_path(path.as_bytes(), slash)? else {
        return Ok(None);
    };
    text.extend_from_slice(&path_and_query.as_bytes()[path.len()..]);
    Ok(Some(text))
}

fn check_query(query: &str) -> Result<(), AmbiguousPath> {
    if query.len() > CanonicalPath::MAX_QUERY_BYTES {
        return Err(AmbiguousPath::QueryTooLong);
    }
    for byte in query.bytes() {
        match byte {
            b'"' | b'<' | b'>' => return Err(AmbiguousPath::MustBeEncoded),
            _ => check_raw(byte)?,
        }
    }
    Ok(())
}

/// What stands for itself nowhere in a target.
fn check_raw(byte: u8) -> Result<(), AmbiguousPath> {
    match byte {
        b' ' | b'\t' => Err(AmbiguousPath::WhiteSpace),
        0x00..=0x1f | 0x7f => Err(AmbiguousPath::ControlCharacter),
        0x80..=0xff => Err(AmbiguousPath::NotAscii),
        b'#' => Err(AmbiguousPath::Fragment),
        _ => Ok(()),
    }
}

/// One pass; allocates from the first change on.
fn rewritten_path(path: &[u8], slash: EncodedSlash) -> Result<Option<Vec<u8>>, AmbiguousPath> {
    let mut rewriter = Rewriter::new(path);
    let mut segments = 0;
    // Where the next segment begins; an encoded slash begins none.
    let mut start = usize::MAX;
    // Since the last slash, encoded or not: how many dots it is, if it is nothing else. Before the first slash there is no segment.
    let mut dots = None;
    while let Some(&byte) = path.get(rewriter.at) {
        match byte {
            _ if segments == 0 && byte != b'/' => return Err(AmbiguousPath::NotAbsolute),
            b'/' if rewriter.at == start => {
                rewriter.replace(1, b"");
                start = rewriter.at;
            }
            b'/' => {
                refuse_dot_segment(dots)?;
                segments += 1;
                if segments > CanonicalPath::MAX_SEGMENTS {
                    return Err(AmbiguousPath::TooManySegments);
                }
                dots = Some(0);
                rewriter.keep(1);
                start = rewriter.at;
            }
            b'%' => match rewriter.escape()? {
                b'.' => dots = dots.map(|dots| dots + 1),
                // Some server takes it for a slash.
                b'/' if slash == EncodedSlash::Keep => {
                    refuse_dot_segment(dots)?;
                    dots = Some(0);
                }
                b'/' => return Err(AmbiguousPath::EncodedSlash),
                // Many servers take `..;x` for `..` with a parameter.
                b';' => {
                    refuse_dot_segment(dots)?;
                    dots = None;
                }
                _ => dots = None,
            },
            b'.' => {
                dots = dots.map(|dots| dots + 1);
                rewriter.keep(1);
            }
            b';' => {
                refuse_dot_segment(dots)?;
                dots = None;
                rewriter.keep(1);
            }
            b'\\' => return Err(AmbiguousPath::Backslash),
            b'<' | b'>' | b'`' => return Err(AmbiguousPath::MustBeEncoded),
            _ => {
                check_raw(byte)?;
                dots = None;
                rewriter.keep(1);
            }
        }
    }
    if segments == 0 {
        return Err(AmbiguousPath::NotAbsolute);
    }
    refuse_dot_segment(dots)?;
    Ok(rewriter.changed)
}

fn refuse_dot_segment(dots: Option<usize>) -> Result<(), AmbiguousPath> {
    match dots {
        Some(1 | 2) => Err(AmbiguousPath::DotSegment),
        _ => Ok(()),
    }
}

/// Goes over a path and copies it only from where it changes.
struct Rewriter<'a> {
    path: &'a [u8],
    at: usize,
    changed: Option<Vec<u8>>,
}

impl<'a> Rewriter<'a> {
    fn new(path: &'a [u8]) -> Self {
        Self {
            path,
            at: 0,
            changed: None,
        }
    }

    fn keep(&mut self, count: usize) {
        let end = self.at + count;
        if let Some(changed) = &mut self.changed {
            changed.extend_from_slice(&self.path[self.at..end]);
        }
        self.at = end;
    }

    fn replace(&mut self, count: usize, with: &[u8]) {
        self.changed
            .get_or_insert_with(|| self.path[..self.at].to_vec())
            .extend_from_slice(with);
        self.at += count;
    }

    /// Takes the escape here, and those that make one character with it; returns the byte that it stands for, the first if
    /// there are several.
    fn escape(&mut self) -> Result<u8, AmbiguousPath> {
        let byte = self.escaped_byte(self.at)?;
        match byte {
            b'\\' => return Err(AmbiguousPath::Backslash),
            0x00..=0x1f | 0x7f => return Err(AmbiguousPath::ControlCharacter),
            _ if is_unreserved(byte) => self.replace(3, &[byte]),
            0x80..=0xff => self.escaped_character(byte)?,
            _ => self.keep_upper_case(byte),
        }
        Ok(byte)
    }

    fn escaped_character(&mut self, first: u8) -> Result<(), AmbiguousPath> {
        let len = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return Err(AmbiguousPath::NotUtf8),
        };
        let mut character = [0; 4];
        for (nth, byte) in character[..len].iter_mut().enumerate() {
            let at = self.at + 3 * nth;
            if self.path.get(at) != Some(&b'%') {
                return Err(AmbiguousPath::NotUtf8);
            }
            *byte = self.escaped_byte(at)?;
        }
        let text = std::str::from_utf8(&character[..len]).map_err(|_| AmbiguousPath::NotUtf8)?;
        if text.contains(char::is_control) {
            return Err(AmbiguousPath::ControlCharacter);
        }
        for byte in &character[..len] {
            self.keep_upper_case(*byte);
        }
        Ok(())
    }

    fn escaped_byte(&self, at: usize) -> Result<u8, AmbiguousPath> {
        let digit = |at| self.path.get(at).copied().and_then(hex_value);
        match (digit(at + 1), digit(at + 2)) {
            (Some(high), Some(low)) => Ok(high << 4 | low),
            _ => Err(AmbiguousPath::IncompleteEscape),
        }
    }

    fn keep_upper_case(&mut self, byte: u8) {
        let upper = [
            b'%',
            UPPER_HEX[usize::from(byte >> 4)],
            UPPER_HEX[usize::from(byte & 0xf)],
        ];
        if self.path[self.at..].starts_with(&upper) {
            self.keep(3);
        } else {
            self.replace(3, &upper);
        }
    }
}

const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[cfg(test)]
mod tests;
