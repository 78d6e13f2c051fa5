use http::Uri;
use percent_encoding::percent_decode_str;
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, prop_assume, proptest};

use super::{AmbiguousPath, CanonicalPath, EncodedSlash};

fn canonical(text: &str) -> String {
    CanonicalPath::parse(text)
        .unwrap_or_else(|reason| panic!("{text:?}: {reason}"))
        .as_str()
        .to_owned()
}

#[test]
fn what_is_canonical_stays_as_it_is() {
    for text in [
        "/",
        "/app/a",
        "/app/",
        "/app/a?x=/public/b",
        "/app/a?/public/",
        "/?/public/a",
        "/a?",
        "/a?b?c",
        "/a?%zz&%00&../..&//&%2f",
        "/public/%252e%252e/app/a",
        "/a%20b/%C3%A9/%E2%82%AC/%F0%9F%98%80",
        "/a;x=1/b;/;c",
        "/.../..a/.a/a./a../.a.",
        "/...;x",
        "/*/**",
        "/{a}/\"b\"/|^[]",
        "/AUTH/signout",
        "/%3F%23%25%3B%2A",
    ] {
        assert_eq!(canonical(text), text);
    }
}

#[test]
fn spellings_of_the_same_path() {
    for (text, expected) in [
        ("//app/a", "/app/a"),
        ("///app/a", "/app/a"),
        ("//evil.test/app/a", "/evil.test/app/a"),
        ("/public//a///", "/public/a/"),
        ("//", "/"),
        ("//?a//b", "/?a//b"),
        ("/auth/%73ignout", "/auth/signout"),
        ("/auth//signout", "/auth/signout"),
        ("/%41%7a%30%2d%2E%5f%7E", "/Az0-._~"),
        ("/%c3%a9%3b%3a", "/%C3%A9%3B%3A"),
        ("/%2e%2e%2e", "/..."),
        ("/a%2eb?%2e%c3", "/a.b?%2e%c3"),
        ("/static//css/x", "/static/css/x"),
    ] {
        assert_eq!(canonical(text), expected, "{text:?}");
    }
}

#[test]
fn what_is_refused() {
    use AmbiguousPath::{
        Backslash, ControlCharacter, DotSegment, EncodedSlash, Fragment, IncompleteEscape,
        MustBeEncoded, NotAbsolute, NotAscii, NotUtf8, WhiteSpace,
    };
    for (text, reason) in [
        // Dot segments, raw.
        ("/public/../app/a", DotSegment),
        ("/public/./../app/a", DotSegment),
        ("/public/..", DotSegment),
        ("/..", DotSegment),
        ("/.", DotSegment),
        ("/./", DotSegment),
        ("/..?", DotSegment),
        ("/public//../app", DotSegment),
        ("/static/../app", DotSegment),
        // Encoded, and with parameters.
        ("/public/%2e%2e/app/a", DotSegment),
        ("/public/%2E%2E/app/a", DotSegment),
        ("/public/.%2e/app/a", DotSegment),
        ("/public/%2e./app/a", DotSegment),
        ("/public/%2e", DotSegment),
        ("/public/..;/app", DotSegment),
        ("/public/..;x=1/app", DotSegment),
        ("/public/..%3b/app", DotSegment),
        ("/public/%2e%2E%3Bx/app", DotSegment),
        ("/public/.;/app", DotSegment),
        // Slashes and backslashes.
        ("/public%2f..%2fapp/a", EncodedSlash),
        ("/public/..%2fapp/a", EncodedSlash),
        ("/static/..%2Fapp/a", EncodedSlash),
        ("/app%2fa", EncodedSlash),
        ("/a\\b", Backslash),
        ("/..\\app", Backslash),
        ("/..%5capp", Backslash),
        ("/a%5Cb", Backslash),
        // Control characters, white space.
        ("/public/%00", ControlCharacter),
        ("/public/a%0d%0aX-Auth-User-Id:%20admin", ControlCharacter),
        ("/a%7f", ControlCharacter),
        ("/a%09", ControlCharacter),
        ("/a%c2%85", ControlCharacter),
        ("/a\0", ControlCharacter),
        ("/a?\r\nb", ControlCharacter),
        ("/a?\x7f", ControlCharacter),
        ("/a b", WhiteSpace),
        ("/a\tb", WhiteSpace),
        ("/a?b c", WhiteSpace),
        // Escapes.
        ("/public/%zz", IncompleteEscape),
        ("/a%", IncompleteEscape),
        ("/a%4", IncompleteEscape),
        ("/a%4/1", IncompleteEscape),
        ("/a%%41", IncompleteEscape),
        ("/%c3%", IncompleteEscape),
        ("/public/%c0%ae%c0%ae/app", NotUtf8),
        ("/%80", NotUtf8),
        ("/%c3", NotUtf8),
        ("/%c3a%a9", NotUtf8),
        ("/%c3/%a9", NotUtf8),
        ("/%e0%80%af", NotUtf8),
        ("/%ed%a0%80", NotUtf8),
        ("/%f4%90%80%80", NotUtf8),
        ("/%ff", NotUtf8),
        // Raw characters.
        ("/é", NotAscii),
        ("/\u{80}", NotAscii),
        ("/a?é", NotAscii),
        ("/a#b", Fragment),
        ("/a?b#c", Fragment),
        ("/app/a#/public/a", Fragment),
        ("/<", MustBeEncoded),
        ("/a?\"", MustBeEncoded),
        // Other forms of a target.
        ("", NotAbsolute),
        ("*", NotAbsolute),
        ("?a", NotAbsolute),
        ("a/b", NotAbsolute),
        ("%2fa", NotAbsolute),
        ("http://g.test/app", NotAbsolute),
    ] {
        assert_eq!(CanonicalPath::parse(text), Err(reason), "{text:?}");
        assert!(!reason.is_too_long());
    }
}

#[test]
fn limits() {
    let path = |len: usize| format!("/{}", "a".repeat(len - 1));
    let query = |len: usize| format!("/?{}", "a".repeat(len));
    let long = |text: String| {
        let reason = CanonicalPath::parse(&text).unwrap_err();
        assert!(reason.is_too_long());
        reason
    };
    assert!(CanonicalPath::parse(&path(8192)).is_ok());
    assert_eq!(long(path(8193)), AmbiguousPath::PathTooLong);
    assert_eq!(long("/".repeat(8193)), AmbiguousPath::PathTooLong);
    assert!(CanonicalPath::parse(&query(32 * 1024)).is_ok());
    assert_eq!(long(query(32 * 1024 + 1)), AmbiguousPath::QueryTooLong);
    assert!(CanonicalPath::parse(&"/a".repeat(256)).is_ok());
    assert!(CanonicalPath::parse(&"//a".repeat(256)).is_ok());
    let reason = CanonicalPath::parse(&"/a".repeat(257)).unwrap_err();
    assert_eq!(reason, AmbiguousPath::TooManySegments);
    assert!(!reason.is_too_long());
}

#[test]
fn a_canonical_target_is_not_copied() {
    let bytes = |uri: &Uri| uri.path_and_query().unwrap().as_str().as_ptr();
    let uri = Uri::from_static("/a%20b/%C3%A9?c");
    let path = CanonicalPath::parse_uri(&uri, EncodedSlash::Reject).unwrap();
    assert_eq!(path.as_str().as_ptr(), bytes(&uri));
    let sent = path.to_path_and_query();
    assert_eq!(sent.as_str().as_ptr(), bytes(&uri));
    assert_eq!((path.path(), path.query()), ("/a%20b/%C3%A9", Some("c")));
}

#[test]
fn the_forms_of_a_target() {
    for (target, expected) in [
        ("//evil.test/app/a?b", Ok("/evil.test/app/a?b")),
        ("http://g.test:8443/app//a", Ok("/app/a")),
        ("http://g.test", Ok("/")),
        ("/app/a#/public/a", Ok("/app/a")),
        ("/public/%2e%2e/app", Err(AmbiguousPath::DotSegment)),
        ("g.test:443", Err(AmbiguousPath::NotAbsolute)),
        ("*", Err(AmbiguousPath::NotAbsolute)),
        ("http://g.test?a", Err(AmbiguousPath::NotAbsolute)),
    ] {
        let path = CanonicalPath::parse_uri(&target.parse().unwrap(), EncodedSlash::Reject);
        assert_eq!(
            path.as_ref().map(CanonicalPath::as_str),
            expected.as_ref().copied(),
            "{target:?}"
        );
    }
}

#[test]
fn a_prefix_is_taken_away_by_whole_segments() {
    for (text, prefix, expected) in [
        ("/static//css/x?y", "/static", Some("/css/x?y")),
        ("/static", "/static", Some("/")),
        ("/static?y", "/static", Some("/?y")),
        ("/static/", "/static", Some("/")),
        ("/staticx", "/static", None),
        ("/app", "/static", None),
        ("/static/css", "/static/", None),
        ("/a/b", "", Some("/a/b")),
    ] {
        let path = CanonicalPath::parse(text).unwrap();
        let stripped = path.strip_prefix(prefix);
        assert_eq!(
            stripped.as_ref().map(CanonicalPath::as_str),
            expected,
            "{text:?}"
        );
    }
}

#[test]
fn segments_show_a_slash_at_the_end() {
    for (text, expected) in [
        ("/", &[""][..]),
        ("/a", &["a"]),
        ("/a/?b/c", &["a", ""]),
        ("/a//b", &["a", "b"]),
    ] {
        let path = CanonicalPath::parse(text).unwrap();
        assert!(path.segments().eq(expected.iter().copied()), "{text:?}");
    }
}

#[test]
fn debug_keeps_the_query_to_itself() {
    let path = CanonicalPath::parse("/a?token=1").unwrap();
    assert_eq!(format!("{path:?}"), "CanonicalPath(/a?..)");
}

/// Nothing to object to, however these are put together.
const HARMLESS: &[&str] = &[
    "/",
    "//",
    "a",
    "B",
    "~",
    "%7e",
    "%41",
    "%2D",
    "%c3%a9",
    "%E2%82%ac",
    "%25",
    "%252e",
    "%20",
    ";",
    "%3b",
    "*",
    ":",
    "@",
    "{",
    "x.y",
];
const HARMFUL: &[&str] = &[
    ".", "..", "%2e", "%2E", "/.", "/..", "%2f", "%5c", "\\", "%00", "%0a", "%c2%80", "%c3", "%a9",
    "%c0%ae", "%", "%4", "%zz", " ", "\t", "\0", "é", "#", "<",
];

fn put_together(parts: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(parts), 0..12)
        .prop_map(|parts| format!("/{}", parts.concat()))
}

/// Mostly harmless, so that a good part is accepted.
fn target() -> impl Strategy<Value = String> {
    let part = proptest::prop_oneof![
        6 => prop::sample::select(HARMLESS),
        1 => prop::sample::select(HARMFUL),
    ];
    let query = prop::option::of("[a/.%?;=]{0,6}");
    (prop::collection::vec(part, 0..10), query).prop_map(|(parts, query)| {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("/{}{query}", parts.concat())
    })
}

fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8().unwrap().into_owned()
}

fn merged(mut path: String) -> String {
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

#[test]
fn an_encoded_slash_that_is_kept_belongs_to_its_segment() {
    use AmbiguousPath::{Backslash, DotSegment};
    let keep = |text: &str| CanonicalPath::parse_uri(&text.parse().unwrap(), EncodedSlash::Keep);
    for (target, path, segments) in [
        ("/api/a%2fb/c", "/api/a%2Fb/c", &["api", "a%2Fb", "c"][..]),
        ("/public%2fa", "/public%2Fa", &["public%2Fa"]),
        ("/a%2F/b", "/a%2F/b", &["a%2F", "b"]),
        ("/a/%2Fb", "/a/%2Fb", &["a", "%2Fb"]),
        ("/%2F/", "/%2F/", &["%2F", ""]),
        ("/%2f%2f//b", "/%2F%2F/b", &["%2F%2F", "b"]),
        ("/a%252Fb", "/a%252Fb", &["a%252Fb"]),
        ("/a%2F...", "/a%2F...", &["a%2F..."]),
    ] {
        let found = keep(target).unwrap();
        assert_eq!(found.path(), path, "{target}");
        assert!(found.segments().eq(segments.iter().copied()), "{target}");
        assert_eq!(keep(found.as_str()), Ok(found), "{target}");
    }
    for (target, reason) in [
        ("/public/..%2fapp/a", DotSegment),
        ("/public%2f..%2fapp", DotSegment),
        ("/public%2f..", DotSegment),
        ("/public%2F%2e%2E/app", DotSegment),
        ("/public%2f.%2fapp", DotSegment),
        ("/public%2f..;x/app", DotSegment),
        ("/public%2f..%3bx%2fapp", DotSegment),
        ("/%2f../app", DotSegment),
        ("/a%2fb%5c..", Backslash),
    ] {
        assert_eq!(keep(target), Err(reason), "{target}");
    }
    let below = keep("/static/%2fb").unwrap().strip_prefix("/static");
    assert_eq!(below.unwrap().path(), "/%2Fb");
    assert_eq!(keep("/static%2fb").unwrap().strip_prefix("/static"), None);
}

proptest! {
    #[test]
    fn what_is_taken_reads_in_one_way_only(text in target()) {
        let Ok(path) = CanonicalPath::parse(&text) else { return Ok(()) };
        let read = decoded(path.path());

        prop_assert_eq!(CanonicalPath::parse(path.as_str()), Ok(path.clone()));
        let (given, query) = text.split_once('?').map_or((&*text, None), |(p, q)| (p, Some(q)));
        prop_assert_eq!(path.query(), query);
        prop_assert_eq!(&read, &merged(decoded(given)));

        prop_assert!(path.path().starts_with('/') && !path.path().contains("//"));
        prop_assert!(!read.contains(|char: char| char.is_control() || char == '\\'));
        let segments = path.segments().map(decoded);
        prop_assert!(read.split('/').skip(1).map(str::to_owned).eq(segments));
        for segment in read.split('/') {
            let stem = segment.split(';').next().unwrap();
            prop_assert!(stem != "." && stem != "..");
        }
        for (at, _) in path.path().match_indices('%') {
            let escape = &path.path()[at..at + 3];
            prop_assert_eq!(escape, escape.to_ascii_uppercase());
            let byte = percent_decode_str(escape).next().unwrap();
            prop_assert!(!(byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)));
        }
    }

    #[test]
    fn what_is_harmless_is_taken(text in put_together(HARMLESS)) {
        prop_assert!(CanonicalPath::parse(&text).is_ok());
    }

    #[test]
    fn a_uri_gives_what_its_text_gives(text in target()) {
        prop_assume!(!text.contains('#'));
        if let Ok(uri) = text.parse::<Uri>() {
            prop_assert_eq!(CanonicalPath::parse_uri(&uri, EncodedSlash::Reject), CanonicalPath::parse(&text));
        }
    }

    /// Whoever takes an encoded slash for a slash reads a path without dot segments too.
    #[test]
    fn kept_slashes_hide_nothing(text in target()) {
        prop_assume!(!text.contains('#'));
        let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
        let Ok(path) = CanonicalPath::parse_uri(&uri, EncodedSlash::Keep) else { return Ok(()) };
        let again = path.as_str().parse::<Uri>().unwrap();
        prop_assert_eq!(CanonicalPath::parse_uri(&again, EncodedSlash::Keep), Ok(path.clone()));
        let as_slashes = path.as_str().replacen("%2F", "/", path.path().matches("%2F").count());
        prop_assert!(CanonicalPath::parse(&as_slashes).is_ok(), "{}", as_slashes);
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,40}|/[\\x00-\\x7fé%/.;]{0,40}") {
        let _ = CanonicalPath::parse(&text);
    }

    #[test]
    fn a_stripped_path_is_canonical(text in put_together(HARMLESS), at in 0usize..12) {
        let path = CanonicalPath::parse(&text).unwrap();
        let prefix: String = path.segments().take(at).map(|segment| format!("/{segment}")).collect();
        prop_assume!(!prefix.ends_with('/'));
        let stripped = path.strip_prefix(&prefix).unwrap();
        prop_assert_eq!(CanonicalPath::parse(stripped.as_str()), Ok(stripped));
    }
}
