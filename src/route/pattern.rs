//! Which paths a rule is for.
//!
//! Patterns are small on purpose: the paths that two of them share are again those of one pattern, so whether rules
//! overlap, and which one is more specific, is decided exactly when they are read. Regular expressions would not allow that.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use thiserror::Error;

use super::path::{AmbiguousPath, CanonicalPath};

/// A set of paths: segments that are compared byte for byte, `*` for one segment that is not empty, and at the end `/**`
/// for the path so far and all below it.
///
/// A slash at the end counts: `/a` and `/a/` are two paths; `/a/**` is both of them, and `/a/b`, but not `/ab`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PathPattern {
    pub(super) segments: Vec<Segment>,
    /// Ends in `/**`.
    pub(super) and_below: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// Empty only as the last one, when a path ends in a slash.
    Exact(Box<str>),
    /// `*`
    One,
}

impl PathPattern {
    /// A pattern has to be written in the canonical form of paths, as [`CanonicalPath`] has it.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let canonical = CanonicalPath::parse(text).map_err(|source| not_canonical(text, source))?;
        if canonical.query().is_some() {
            return Err(InvalidPattern::Query);
        }
        if canonical.path() != text {
            return Err(InvalidPattern::NotCanonical {
                canonical: canonical.path().to_owned(),
            });
        }
        let mut segments = Vec::new();
        let mut rest = canonical.segments();
        while let Some(segment) = rest.next() {
            match segment {
                "**" if rest.next().is_none() => {
                    return Ok(Self {
                        segments,
                        and_below: true,
                    });
                }
                "**" => return Err(InvalidPattern::DoubleStarInside),
                "*" => segments.push(Segment::One),
                segment if segment.contains('*') => {
                    return Err(InvalidPattern::StarInSegment(segment.to_owned()));
                }
                segment => segments.push(Segment::Exact(segment.into())),
            }
        }
        Ok(Self {
            segments,
            and_below: false,
        })
    }

    /// Whether `path` is in the set. The table does the same for all patterns at once.
    pub fn matches(&self, path: &CanonicalPath) -> bool {
        let mut rest = path.segments();
        for segment in &self.segments {
            match rest.next() {
                Some(text) if segment.matches(text) => {}
                _ => return false,
            }
        }
        self.and_below || rest.next().is_none()
    }

    /// Whether a path is in both sets.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (short, long) = by_length(self, other);
        let long_enough = short.and_below || short.segments.len() == long.segments.len();
        long_enough
            && short
                .segments
                .iter()
                .zip(&long.segments)
                .all(|(one, other)| one.contains(other) || other.contains(one))
    }

    /// The paths in both sets, if there are any: again one pattern.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if !self.overlaps(other) {
            return None;
        }
        let (short, long) = by_length(self, other);
        let mut segments = long.segments.clone();
        for (segment, shorts) in segments.iter_mut().zip(&short.segments) {
            if segment.contains(shorts) {
                segment.clone_from(shorts);
            }
        }
        Some(Self {
            segments,
            and_below: short.and_below && long.and_below,
        })
    }

    /// Whether every path of `other` is in this set too.
    pub fn contains(&self, other: &Self) -> bool {
        let deep_enough = if self.and_below {
            self.segments.len() <= other.segments.len()
        } else {
            self.segments.len() == other.segments.len() && !other.and_below
        };
        deep_enough
            && self
                .segments
                .iter()
                .zip(&other.segments)
                .all(|(wide, narrow)| wide.contains(narrow))
    }

    /// The set as it is seen without `prefix`, a canonical path without a slash at its end, as
    /// [`CanonicalPath::strip_prefix`] has it; `None` if not all of it is at or below the prefix.
    pub fn stripped(&self, prefix: &str) -> Option<Self> {
        let mut rest = self.segments.iter();
        for taken in prefix.split('/').skip(1) {
            match rest.next()? {
                Segment::Exact(text) if **text == *taken => {}
                _ => return None,
            }
        }
        let mut segments: Vec<Segment> = rest.cloned().collect();
        if segments.is_empty() && !self.and_below {
            segments.push(Segment::Exact("".into()));
        }
        Some(Self {
            segments,
            and_below: self.and_below,
        })
    }

    /// The paths that become these when `prefix` is taken away.
    pub fn below(&self, prefix: &str) -> Self {
        let taken = prefix.split('/').skip(1);
        let taken = taken.map(|segment| Segment::Exact(segment.into()));
        Self {
            segments: taken.chain(self.segments.iter().cloned()).collect(),
            and_below: self.and_below,
        }
    }

    /// A path of the set.
    pub(super) fn example(&self) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(match segment {
                Segment::Exact(text) => text,
                Segment::One => "x",
            });
        }
        if path.is_empty() {
            path.push('/');
        }
        path
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Exact(text) => write!(f, "/{text}")?,
                Segment::One => f.write_str("/*")?,
            }
        }
        f.write_str(if self.and_below { "/**" } else { "" })
    }
}

impl Segment {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::One => !text.is_empty(),
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match other {
            Self::Exact(text) => self.matches(text),
            Self::One => *self == Self::One,
        }
    }
}

fn by_length<'a>(
    one: &'a PathPattern,
    other: &'a PathPattern,
) -> (&'a PathPattern, &'a PathPattern) {
    if one.segments.len() <= other.segments.len() {
        (one, other)
    } else {
        (other, one)
    }
}

/// Names the canonical form if it is clear which path was meant.
fn not_canonical(text: &str, source: AmbiguousPath) -> InvalidPattern {
    let encoded = utf8_percent_encode(text, ENCODED_IN_PATTERNS).to_string();
    match CanonicalPath::parse(&encoded) {
        Ok(path) if path.query().is_none() => InvalidPattern::NotCanonical {
            canonical: path.path().to_owned(),
        },
        _ => InvalidPattern::NotAPath(source),
    }
}

const ENCODED_IN_PATTERNS: &AsciiSet = &CONTROLS.add(b' ').add(b'<').add(b'>').add(b'`');

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidPattern {
    #[error("no request has such a path")]
    NotAPath(#[source] AmbiguousPath),
    #[error("paths are compared in their canonical form; write {canonical:?}")]
    NotCanonical { canonical: String },
    #[error("a pattern is about the path alone; leave out the ? and what follows")]
    Query,
    #[error("** is allowed only as the last segment; use * for one segment")]
    DoubleStarInside,
    #[error("* stands for a whole segment, not for a part of one as in {0:?}")]
    StarInSegment(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

    use super::super::path::CanonicalPath;
    use super::{InvalidPattern, PathPattern};

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap_or_else(|reason| panic!("{text:?}: {reason}"))
    }

    #[test]
    fn what_a_pattern_matches() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("/", &["/", "//", "/?a"], &["/a"]),
            (
                "/a",
                &["/a", "//a", "/%61", "/a?/b"],
                &["/a/", "/A", "/ab", "/a;x", "/", "/a/a"],
            ),
            ("/a/", &["/a/", "/a//"], &["/a", "/a/b"]),
            ("/*", &["/a", "/%2A", "/;"], &["/", "/a/", "/a/b"]),
            ("/*/", &["/a/"], &["/", "/a", "//"]),
            (
                "/a/*/b",
                &["/a/x/b", "/a/*/b"],
                &["/a/b", "/a/x/y/b", "/a/x/b/"],
            ),
            ("/**", &["/", "/a", "/a/", "/a/b/c"], &[]),
            (
                "/public/**",
                &[
                    "/public",
                    "/public/",
                    "/public/a/b",
                    "/public/%252e%252e/app/a",
                ],
                &[
                    "/PUBLIC/a",
                    "/Public/a",
                    "/publicx/a",
                    "/",
                    "/app/public/a",
                    "/app/a?x=/public/b",
                    "/app/a?/public/",
                    "/?/public/a",
                    "/public;x/a",
                ],
            ),
            ("/*/**", &["/a", "/a/", "/a/b"], &["/"]),
            ("/%C3%A9", &["/%c3%a9"], &["/%C3%A8"]),
            (
                "/auth/signout",
                &["/auth/%73ignout", "/auth//signout"],
                &["/auth/signout/", "/AUTH/signout"],
            ),
        ];
        for (text, matched, others) in cases {
            let pattern = pattern(text);
            assert_eq!(pattern.to_string(), *text);
            let matches = |path: &str| pattern.matches(&CanonicalPath::parse(path).unwrap());
            for path in *matched {
                assert!(matches(path), "{text} and {path}");
            }
            for path in *others {
                assert!(!matches(path), "{text} and {path}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for (text, expected) in [
            ("", "no request has such a path"),
            ("a", "no request has such a path"),
            ("/a/../b", "no request has such a path"),
            ("/%zz", "no request has such a path"),
            ("/a#b", "no request has such a path"),
            (
                "/a//b",
                "paths are compared in their canonical form; write \"/a/b\"",
            ),
            (
                "/%61%2a",
                "paths are compared in their canonical form; write \"/a%2A\"",
            ),
            (
                "/zoë x",
                "paths are compared in their canonical form; write \"/zo%C3%AB%20x\"",
            ),
            (
                "/a?b",
                "a pattern is about the path alone; leave out the ? and what follows",
            ),
            (
                "/a/?",
                "a pattern is about the path alone; leave out the ? and what follows",
            ),
            (
                "/**/a",
                "** is allowed only as the last segment; use * for one segment",
            ),
            (
                "/**/",
                "** is allowed only as the last segment; use * for one segment",
            ),
            (
                "/a*",
                "* stands for a whole segment, not for a part of one as in \"a*\"",
            ),
            (
                "/a/***",
                "* stands for a whole segment, not for a part of one as in \"***\"",
            ),
        ] {
            let reason: InvalidPattern = PathPattern::parse(text).unwrap_err();
            assert_eq!(reason.to_string(), expected, "{text:?}");
        }
    }

    #[test]
    fn inclusion() {
        for (wide, narrow) in [
            ("/**", "/"),
            ("/**", "/*/**"),
            ("/a/**", "/a"),
            ("/a/**", "/a/"),
            ("/a/**", "/a/b/**"),
            ("/*", "/a"),
            ("/*/**", "/a/**"),
            ("/*/b", "/a/b"),
        ] {
            let (wide, narrow) = (pattern(wide), pattern(narrow));
            assert!(
                wide.contains(&narrow) && !narrow.contains(&wide),
                "{wide} {narrow}"
            );
            assert_eq!(wide.intersection(&narrow).unwrap(), narrow);
        }
        for (one, other, both) in [
            ("/a/*", "/*/b", Some("/a/b")),
            ("/a/**", "/*/b/**", Some("/a/b/**")),
            ("/a/**", "/*/*/c", Some("/a/*/c")),
            ("/a/*", "/*/", None),
            ("/*", "/", None),
            ("/*/**", "/", None),
            ("/a", "/a/", None),
            ("/a", "/b/**", None),
        ] {
            let (one, other) = (pattern(one), pattern(other));
            assert!(
                !one.contains(&other) && !other.contains(&one),
                "{one} {other}"
            );
            assert_eq!(one.intersection(&other), both.map(pattern), "{one} {other}");
        }
    }

    #[test]
    fn prefixes() {
        for (text, prefix, stripped) in [
            ("/a/**", "/a", Some("/**")),
            ("/a", "/a", Some("/")),
            ("/a/", "/a", Some("/")),
            ("/a/b/*", "/a/b", Some("/*")),
            ("/a/b/**", "/a", Some("/b/**")),
            ("/ab", "/a", None),
            ("/*/b", "/a", None),
            ("/**", "/a", None),
            ("/a", "/a/b", None),
        ] {
            let found = pattern(text).stripped(prefix);
            assert_eq!(found, stripped.map(pattern), "{text} without {prefix}");
        }
        for (text, prefix, whole) in [
            ("/b", "/a", "/a/b"),
            ("/", "/a", "/a/"),
            ("/**", "/a/b", "/a/b/**"),
            ("/*/", "/a", "/a/*/"),
        ] {
            assert_eq!(
                pattern(text).below(prefix),
                pattern(whole),
                "{prefix} {text}"
            );
        }
    }

    fn patterns() -> impl Strategy<Value = PathPattern> {
        "(/[ab*]){0,3}(/|/\\*\\*)?"
            .prop_filter_map("not a pattern", |text| PathPattern::parse(&text).ok())
    }

    fn paths() -> impl Strategy<Value = CanonicalPath> {
        "(/[abc]){0,5}/?".prop_filter_map("not a path", |text| CanonicalPath::parse(&text).ok())
    }

    proptest! {
        #[test]
        fn a_pattern_reads_as_it_is_written(one in patterns()) {
            prop_assert_eq!(PathPattern::parse(&one.to_string()), Ok(one.clone()));
            prop_assert!(one.matches(&CanonicalPath::parse(&one.example()).unwrap()));
        }

        #[test]
        fn what_is_stripped_of_a_pattern_is_stripped_of_its_paths(
            one in patterns(), path in paths(), prefix in "(/[ab]){1,2}",
        ) {
            if let (Some(seen), Some(left)) = (one.stripped(&prefix), path.strip_prefix(&prefix)) {
                prop_assert!(!one.matches(&path) || seen.matches(&left));
                prop_assert!(!seen.below(&prefix).matches(&path) || seen.matches(&left));
            }
        }

        #[test]
        fn sets_behave_as_sets(one in patterns(), other in patterns(), path in paths()) {
            let (in_one, in_other) = (one.matches(&path), other.matches(&path));
            let both = one.intersection(&other);
            prop_assert_eq!(&both, &other.intersection(&one));
            prop_assert_eq!(both.is_some(), one.overlaps(&other));
            prop_assert_eq!(both.is_some_and(|both| both.matches(&path)), in_one && in_other);
            if one.contains(&other) {
                prop_assert!(in_one || !in_other);
                prop_assert_eq!(one.intersection(&other), Some(other));
            }
        }
    }
}
