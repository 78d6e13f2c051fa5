//! No other parser finds a session in a `Cookie` header that the gateway did not see, and none of ours is left for the
//! application.
#![no_main]

use cookie::{Cookie, SameSite};
use http::header::{COOKIE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use portcullis::cookie::{CookieSettings, OwnCookies, SessionCookies, sets_own, without_own};

const OWN: [&str; 3] = ["sAccessToken", "sRefreshToken", "sIdRefreshToken"];

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            return;
        };
        // Neither may panic on whatever an application sets.
        let _ = sets_own(&value);
        headers.append(COOKIE, value);
    }
    let cookies = SessionCookies::new(CookieSettings {
        domain: None,
        path: "/".into(),
        refresh_path: "/auth/session/refresh".into(),
        older_refresh_paths: Vec::new(),
        secure: false,
        same_site: SameSite::Lax,
        prefix: None,
        older_domains: Vec::new(),
    });
    let own = OwnCookies::find(headers.get_all(COOKIE));
    let presented = cookies.read(&headers, &own);
    for line in headers.get_all(COOKIE) {
        let Ok(text) = line.to_str() else { continue };
        for pair in Cookie::split_parse(text).flatten() {
            if pair.name() == "sAccessToken" && !pair.value().is_empty() {
                assert!(own.any());
                let seen = presented.access.iter().any(|value| value == pair.value());
                assert!(seen || presented.access.too_many() || pair.value().contains('%'), "a session was not seen");
            }
        }
        let rest = without_own(line);
        let rest = rest.as_ref().map_or("", |rest| rest.to_str().expect("part of a visible text"));
        for (name, _) in browser_pairs(rest) {
            assert!(!is_own(name), "the application sees {name}");
        }
        let others = |text| browser_pairs(text).filter(|(name, _)| !is_own(name)).collect::<Vec<_>>();
        // `=sAccessToken=x` is a cookie without a name to a browser, and ours to others: dropped, too.
        let mut sent = others(text);
        sent.retain(|(name, value)| !name.is_empty() || !looks_own(value));
        assert_eq!(others(rest), sent, "the application gets all others, as they came");
    }
});

/// RFC 6265bis section 5.6, read backwards: what a browser that sent this header has in its jar.
fn browser_pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(';').map(|pair| pair.trim_matches([' ', '\t'])).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or(("", pair));
        (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t']))
    })
}

fn is_own(name: &str) -> bool {
    let bare = without_prefix(name, "__Host-").or_else(|| without_prefix(name, "__Secure-")).unwrap_or(name);
    OWN.contains(&bare)
}

/// Browsers know the prefix in any case (RFC 6265bis section 5.7).
fn without_prefix<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let (begin, rest) = name.split_at_checked(prefix.len())?;
    begin.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn looks_own(value: &str) -> bool {
    is_own(value.split('=').next().unwrap_or_default().trim_matches([' ', '\t']))
}
