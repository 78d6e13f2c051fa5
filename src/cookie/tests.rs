use cookie::SameSite;
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};
use proptest::prelude::{prop_assert, proptest};

use super::{
    CookieSettings, OwnCookies, Prefix, PresentedCookies, SessionCookies, sets_own, without_own,
};
use crate::clock::Timestamp;
use crate::secret::TokenText;

fn settings() -> CookieSettings {
    CookieSettings {
        domain: None,
        path: "/".into(),
        refresh_path: "/auth/session/refresh".into(),
        older_refresh_paths: vec!["/".into()],
        secure: true,
        same_site: SameSite::Lax,
        prefix: Some(Prefix::Plain),
        older_domains: vec![],
    }
}

fn headers(cookies: &[&'static str]) -> HeaderMap {
    cookies
        .iter()
        .map(|cookie| (COOKIE, HeaderValue::from_static(cookie)))
        .collect()
}

fn own(headers: &HeaderMap) -> OwnCookies {
    OwnCookies::find(headers.get_all(COOKIE))
}

fn read<'a>(cookies: &SessionCookies, headers: &'a HeaderMap) -> PresentedCookies<'a> {
    cookies.read(headers, &own(headers))
}

/// The lines that the upstream gets.
fn stripped(headers: &HeaderMap) -> Vec<String> {
    let mut left = headers.clone();
    own(headers).strip(&mut left);
    let lines = left.get_all(COOKIE).iter();
    lines
        .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
        .collect()
}

fn access(cookies: &SessionCookies, headers: &HeaderMap) -> Vec<String> {
    read(cookies, headers)
        .access
        .iter()
        .map(str::to_owned)
        .collect()
}

#[test]
fn values_are_found_under_their_exact_name() {
    let cookies = SessionCookies::new(settings());
    for (header, found) in [
        ("sAccessToken=a", vec!["a"]),
        ("_ga=1; sAccessToken=a;theme=dark", vec!["a"]),
        (" sAccessToken = a ", vec!["a"]),
        ("sAccessToken=a%2Bb", vec!["a+b"]),
        ("sAccessToken=a; sAccessToken=a", vec!["a"]),
        ("sAccessToken=a; sAccessToken=b", vec!["a", "b"]),
        ("saccesstoken=a", vec![]),
        ("xsAccessToken=a; sAccessToken2=b", vec![]),
        ("=sAccessToken=a", vec![]),
        ("sAccessToken", vec![]),
        ("sAccessToken=", vec![]),
        ("__Host-sAccessToken=a", vec![]),
        ("x=\"1; sAccessToken=a\"", vec!["a\""]),
    ] {
        assert_eq!(access(&cookies, &headers(&[header])), found, "{header}");
    }
    assert_eq!(
        access(&cookies, &headers(&["sAccessToken=a", "sAccessToken=b"])),
        ["a", "b"]
    );
    let many = headers(&[
        "sAccessToken=1; sAccessToken=2; sAccessToken=3; sAccessToken=4; sAccessToken=5",
    ]);
    assert!(read(&cookies, &many).access.too_many());
}

#[test]
fn a_prefix_is_part_of_the_name() {
    let cookies = SessionCookies::new(CookieSettings {
        prefix: Some(Prefix::Host),
        ..settings()
    });
    assert_eq!(
        access(
            &cookies,
            &headers(&["sAccessToken=a; __Host-sAccessToken=b"])
        ),
        ["b"]
    );
    assert_eq!(
        access(&cookies, &headers(&["=__Host-sAccessToken=a"])),
        Vec::<String>::new()
    );
}

#[test]
fn the_upstream_sees_no_cookie_of_the_gateway() {
    for (header, rest) in [
        ("sAccessToken=a; other=1", Some("other=1")),
        (
            "other=1; sRefreshToken=b; x=\"q\";y",
            Some("other=1; x=\"q\";y"),
        ),
        ("sAccessToken=a; sRefreshToken=b; sIdRefreshToken=c", None),
        (
            "__Host-sAccessToken=a; __Host-sRefreshToken=a; __Host-sIdRefreshToken=b; k=v",
            Some("k=v"),
        ),
        (
            "__Secure-sAccessToken=a; __Secure-sRefreshToken=a; __Secure-sIdRefreshToken=b; k=v",
            Some("k=v"),
        ),
        ("=sAccessToken=a; =__Host-sAccessToken=a; k=v", Some("k=v")),
        (
            "sFrontToken=a; sAntiCsrf=b; st-last-access-token-update=1",
            Some("sFrontToken=a; sAntiCsrf=b; st-last-access-token-update=1"),
        ),
    ] {
        let stripped = without_own(&HeaderValue::from_static(header));
        assert_eq!(
            stripped.as_ref().map(|value| value.to_str().unwrap()),
            rest,
            "{header}"
        );
    }
    assert!(sets_own(&HeaderValue::from_static(
        "sAccessToken=evil; Path=/"
    )));
    assert!(sets_own(&HeaderValue::from_static(
        "=sAccessToken=evil; Path=/"
    )));
    assert!(!sets_own(&HeaderValue::from_static(
        "theme=sAccessToken; Path=/"
    )));
}

#[test]
fn where_they_were_found_is_where_they_are_taken_out() {
    let five =
        "a=1; sAccessToken=1; sAccessToken=2; sRefreshToken=3; sAccessToken=4; sAccessToken=5; z";
    for (lines, rest) in [
        (&[][..], &[][..]),
        (&["a=1;b=2 ;; c"], &["a=1;b=2 ;; c"]),
        (&["sAccessToken=x"], &[]),
        (&["sAccessToken=x;"], &[]),
        (&[" ; sAccessToken=x ; ;"], &[]),
        (&["sAccessToken=x; a=1"], &["a=1"]),
        (&["a=1; sAccessToken=x"], &["a=1"]),
        (&["a=1;sAccessToken=x;b=2"], &["a=1; b=2"]),
        (
            &["a=1; sAccessToken=x; sRefreshToken=y; b=2;c"],
            &["a=1; b=2;c"],
        ),
        (
            &["sRefreshToken=y; a=1; sAccessToken=x; b=2"],
            &["a=1; b=2"],
        ),
        (&[five], &["a=1; z"]),
        (&["a=1", "b=2"], &["a=1", "b=2"]),
        (&["a=1", "sAccessToken=x; b=2"], &["a=1", "b=2"]),
        (&["sAccessToken=x", "b=2"], &["b=2"]),
        (&["sAccessToken=x", "sRefreshToken=y"], &[]),
        (
            &["a=1", "b=2", "c=3; =sAccessToken=x"],
            &["a=1", "b=2", "c=3"],
        ),
    ] {
        let headers = headers(lines);
        assert_eq!(stripped(&headers), rest, "{lines:?}");
        assert_eq!(
            own(&headers).any(),
            stripped(&headers) != lines,
            "{lines:?}"
        );
    }
}

/// Should the line have become another one since, rather none of it is sent than a wrong part.
#[test]
fn a_line_that_is_shorter_than_it_was_is_not_sent() {
    let found = own(&headers(&["a=1; b=2; sAccessToken=x"]));
    let mut shorter = headers(&["a=1"]);
    found.strip(&mut shorter);
    assert!(!shorter.contains_key(COOKIE));
    assert!(
        SessionCookies::new(settings())
            .read(&headers(&["a"]), &found)
            .access
            .is_empty()
    );
}

#[test]
fn cookies_are_set_and_cleared_in_the_same_scopes() {
    let cookies = SessionCookies::new(CookieSettings {
        domain: Some("example.com".into()),
        older_domains: vec!["old.example.com".into()],
        ..settings()
    });
    let token = |text: &str| TokenText::new(text.into());
    let [access, refresh] = cookies.set(
        &token("a"),
        &token("r"),
        Timestamp::from_secs(1_800_000_000),
    );
    assert_eq!(
        access.to_str().unwrap(),
        "sAccessToken=a; HttpOnly; SameSite=Lax; Secure; Path=/; Domain=example.com; Expires=Fri, 15 Jan 2027 08:00:00 GMT"
    );
    assert!(
        refresh
            .to_str()
            .unwrap()
            .contains("; Path=/auth/session/refresh; Domain=example.com;")
    );
    let clearing: Vec<&str> = cookies
        .clearing()
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    for (name, path) in [
        ("sAccessToken", "/"),
        ("sIdRefreshToken", "/"),
        ("sRefreshToken", "/auth/session/refresh"),
        ("sRefreshToken", "/"),
    ] {
        for domain in ["example.com", "old.example.com"] {
            let expected = format!(
                "{name}=; HttpOnly; SameSite=Lax; Secure; Path={path}; Domain={domain}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
            );
            assert!(
                clearing.contains(&expected.as_str()),
                "{expected} not in {clearing:#?}"
            );
        }
    }
    assert_eq!(
        clearing.len(),
        21,
        "each also without a Domain and, but for the last, with a prefix: {clearing:#?}"
    );
}

#[test]
fn the_strictest_prefix_that_a_scope_allows_is_the_default() {
    let bound = "/auth/session/refresh";
    for (secure, prefix, domain, refresh_path, names) in [
        (false, None, None, "/", ["sAccessToken", "sRefreshToken"]),
        (
            true,
            None,
            None,
            "/",
            ["__Host-sAccessToken", "__Host-sRefreshToken"],
        ),
        (
            true,
            None,
            None,
            bound,
            ["__Host-sAccessToken", "__Secure-sRefreshToken"],
        ),
        (
            true,
            None,
            Some("a.test"),
            "/",
            ["__Secure-sAccessToken", "__Secure-sRefreshToken"],
        ),
        (
            true,
            Some(Prefix::Plain),
            None,
            "/",
            ["sAccessToken", "sRefreshToken"],
        ),
        (
            true,
            Some(Prefix::Secure),
            None,
            "/",
            ["__Secure-sAccessToken", "__Secure-sRefreshToken"],
        ),
        (
            true,
            Some(Prefix::Host),
            None,
            bound,
            ["__Host-sAccessToken", "__Secure-sRefreshToken"],
        ),
    ] {
        let cookies = SessionCookies::new(CookieSettings {
            secure,
            prefix,
            domain: domain.map(str::to_owned),
            refresh_path: refresh_path.into(),
            older_refresh_paths: vec![],
            ..settings()
        });
        let token = TokenText::new("t".into());
        let set = cookies.set(&token, &token, Timestamp::from_secs(0));
        for (set, name) in set.iter().zip(names) {
            let set = set.to_str().unwrap();
            assert!(set.starts_with(&format!("{name}=t;")), "{set}");
            let is_host = name.starts_with("__Host-");
            assert!(
                !is_host || set.contains("; Path=/;") && !set.contains("Domain"),
                "{set}"
            );
            assert!(
                !name.starts_with("__") || set.contains("; Secure;"),
                "{set}"
            );
        }
    }
}

#[test]
fn names_of_before_are_cleared_and_those_in_use_can_be_spared() {
    let cookies = SessionCookies::new(CookieSettings {
        prefix: None,
        ..settings()
    });
    let names = |headers: &[HeaderValue]| {
        let scope = |header: &HeaderValue| {
            let text = header.to_str().unwrap();
            let path = text.split("; Path=").nth(1).unwrap();
            let path = path.split(';').next().unwrap();
            format!("{} {path}", text.split('=').next().unwrap())
        };
        let mut names: Vec<String> = headers.iter().map(scope).collect();
        names.sort();
        names
    };
    let bound = "/auth/session/refresh";
    let mut others = vec![
        "sAccessToken /".to_owned(),
        "sIdRefreshToken /".to_owned(),
        "__Host-sRefreshToken /".to_owned(),
        "sRefreshToken /".to_owned(),
        format!("sRefreshToken {bound}"),
    ];
    others.sort();
    assert_eq!(names(cookies.clearing_others()), others);
    assert_eq!(names(cookies.clearing_other_access()), ["sAccessToken /"]);
    others.push("__Host-sAccessToken /".to_owned());
    others.push(format!("__Secure-sRefreshToken {bound}"));
    others.sort();
    assert_eq!(names(cookies.clearing()), others);
}

/// Tokens are base64url and dots, which cookies hold as they are (RFC 6265 section 4.1.1).
#[test]
fn percent_coding_is_undone_once_and_not_needed_to_write() {
    let cookies = SessionCookies::new(settings());
    let set = cookies.set_access("aZ09-_.", Timestamp::from_secs(0));
    assert!(set.to_str().unwrap().starts_with("sAccessToken=aZ09-_.;"));
    for (sent, read) in [
        ("aZ09-_.", "aZ09-_."),
        ("a%2Eb", "a.b"),
        ("a%252Eb", "a%2Eb"),
    ] {
        let header = HeaderValue::try_from(format!("sAccessToken={sent}")).unwrap();
        let map: HeaderMap = [(COOKIE, header)].into_iter().collect();
        assert_eq!(access(&cookies, &map), [read], "{sent}");
    }
}

proptest! {
    /// On well-formed headers the scan agrees with the `cookie` crate, and what is stripped is never found again.
    #[test]
    fn agrees_with_the_cookie_crate(header in "([a-zA-Z_]{1,13}|sAccessToken|sRefreshToken)=[a-z%0-9.=\"]{0,8}(; ?([a-zA-Z_]{1,13}|sAccessToken)=[a-z0-9.]{0,8}){0,5}") {
        let cookies = SessionCookies::new(settings());
        let value = HeaderValue::try_from(header.as_str()).unwrap();
        let map: HeaderMap = [(COOKIE, value.clone())].into_iter().collect();
        let presented = read(&cookies, &map);
        for theirs in cookie::Cookie::split_parse(header.as_str()).flatten() {
            if theirs.name() == "sAccessToken" && !theirs.value().is_empty() && !theirs.value().contains('%') && !presented.access.too_many() {
                prop_assert!(presented.access.iter().any(|ours| ours == theirs.value()));
            }
        }
        if let Some(rest) = without_own(&value) {
            let map: HeaderMap = [(COOKIE, rest)].into_iter().collect();
            let again = read(&cookies, &map);
            prop_assert!(again.access.is_empty() && again.refresh.is_empty() && !own(&map).any());
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(0x20_u8..=0xff, 0..200)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let map: HeaderMap = [(COOKIE, value.clone())].into_iter().collect();
            let _ = read(&SessionCookies::new(settings()), &map);
            let _ = without_own(&value);
        }
    }
}
