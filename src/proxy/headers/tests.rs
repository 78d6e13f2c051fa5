use std::net::{IpAddr, Ipv4Addr};

use http::header::{CACHE_CONTROL, COOKIE, HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::{prop_assert_eq, proptest};

use super::{HeaderRules, Told, address, protect_from_caches};
use crate::cookie::OwnCookies;

fn rules() -> HeaderRules {
    HeaderRules::new(HeaderName::from_static("x-auth-user-id"))
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        })
        .collect()
}

fn upstream(pairs: &[(&str, &str)], user: Option<&str>) -> Vec<(String, String)> {
    upstream_by(&rules(), pairs, user)
}

fn upstream_by(
    rules: &HeaderRules,
    pairs: &[(&str, &str)],
    user: Option<&str>,
) -> Vec<(String, String)> {
    let assertion = user.map(|user| HeaderValue::try_from(format!("signed {user}")).unwrap());
    let user = user.map(|user| HeaderValue::try_from(user).unwrap());
    let headers = headers(pairs);
    let told = Told {
        certificate: None,
        client: IpAddr::V4(Ipv4Addr::LOCALHOST),
        scheme: "http",
        host: &HeaderValue::from_static("g.test"),
        asked_host: &HeaderValue::from_static("g.test"),
        user: user.as_ref(),
        assertion: assertion.as_ref(),
        own_cookies: OwnCookies::find(headers.get_all(COOKIE)),
        own_bearer: true,
        websocket: false,
    };
    let mut seen: Vec<(String, String)> = rules
        .upstream(headers, &told)
        .as_ref()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    seen.sort();
    seen
}

fn with_told(extra: &[(&str, &str)]) -> Vec<(String, String)> {
    let told = [
        ("host", "g.test"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "g.test"),
        ("x-forwarded-proto", "http"),
    ];
    let mut all: Vec<(String, String)> = told
        .iter()
        .chain(extra)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    all.sort();
    all
}

#[test]
fn the_identity_header_is_the_gateway_s_under_every_alias() {
    for alias in [
        "x-auth-user-id",
        "x_auth_user_id",
        "x-auth_user-id",
        "x.auth.user.id",
        "x-AUTH-user-id",
        "x~auth!user|id",
    ] {
        assert_eq!(
            upstream(&[(alias, "admin")], None),
            with_told(&[]),
            "{alias}"
        );
        let told = with_told(&[("x-auth-user-id", "alice")]);
        assert_eq!(
            upstream(&[(alias, "admin")], Some("alice")),
            told,
            "{alias}"
        );
    }
    assert_eq!(
        upstream(&[("x-auth-user-idx", "1")], None),
        with_told(&[("x-auth-user-idx", "1")])
    );
}

#[test]
fn so_is_the_assertion_header() {
    let name = HeaderName::from_static("x-portcullis-assertion");
    let rules = rules().with_assertion(Some(name));
    for alias in ["x-portcullis-assertion", "X_Portcullis.Assertion"] {
        let sent = [(alias, "forged")];
        assert_eq!(upstream_by(&rules, &sent, None), with_told(&[]));
        let told = with_told(&[
            ("x-auth-user-id", "alice"),
            ("x-portcullis-assertion", "signed alice"),
        ]);
        assert_eq!(upstream_by(&rules, &sent, Some("alice")), told);
        let mut answer = headers(&sent);
        rules.client(&mut answer);
        assert!(answer.is_empty(), "{alias}");
        let mut trailers = headers(&sent);
        rules.trailers(&mut trailers);
        assert!(trailers.is_empty(), "{alias}");
    }
}

#[test]
fn what_other_proxies_would_say_is_not_believed() {
    for name in [
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-server",
        "x-forwarded-uri",
        "x-real-ip",
        "forwarded",
        "x_forwarded_host",
        "x.forwarded.host",
        "x-original-url",
        "x-rewrite-url",
        "x_rewrite_url",
        "x-original-uri",
        "portcullis-login",
        "portcullis_claims",
        "content_length",
        "transfer_encoding",
        "transfer.encoding",
    ] {
        assert_eq!(upstream(&[(name, "evil")], None), with_told(&[]), "{name}");
    }
}

#[test]
fn hop_by_hop_headers_end_here() {
    let sent = [
        ("connection", "close, X-Auth-User-Id, x-custom"),
        ("keep-alive", "timeout=5"),
        ("x-custom", "1"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAA"),
        ("te", "gzip"),
        ("proxy-authorization", "Basic x"),
        ("expect", "100-continue"),
        ("accept", "*/*"),
    ];
    assert_eq!(
        upstream(&sent, Some("alice")),
        with_told(&[("accept", "*/*"), ("x-auth-user-id", "alice")])
    );
    let told = with_told(&[("connection", "te"), ("te", "trailers")]);
    assert_eq!(upstream(&[("te", "trailers, gzip")], None), told);
}

#[test]
fn own_cookies_end_here() {
    assert_eq!(
        upstream(&[("cookie", "sAccessToken=a; other=1")], None),
        with_told(&[("cookie", "other=1")])
    );
    assert_eq!(
        upstream(&[("cookie", "sAccessToken=a")], None),
        with_told(&[])
    );
    // `Connection` takes the line away before they are.
    let lines = [("cookie", "sAccessToken=a; x=1"), ("connection", "cookie")];
    assert_eq!(upstream(&lines, None), with_told(&[]));
}

#[test]
fn own_bearers_end_here() {
    assert_eq!(
        upstream(&[("authorization", "Bearer x")], None),
        with_told(&[])
    );
}

#[test]
fn the_application_cannot_speak_for_the_gateway() {
    let mut answer = headers(&[
        ("x-auth-user-id", "x"),
        ("x_auth_user_id", "x"),
        ("front-token", "x"),
        ("id-refresh-token", "x"),
        ("portcullis-login", "root"),
        ("connection", "keep-alive"),
        ("etag", "1"),
    ]);
    answer.append(
        "set-cookie",
        HeaderValue::from_static("sAccessToken=evil; Path=/"),
    );
    answer.append("set-cookie", HeaderValue::from_static("theme=dark"));
    rules().client(&mut answer);
    let left: Vec<(&str, &str)> = answer
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(left, [("etag", "1"), ("set-cookie", "theme=dark")]);
}

#[test]
fn trailers_carry_no_identity_and_no_framing() {
    let mut trailers = headers(&[
        ("x_auth_user_id", "admin"),
        ("content-length", "5"),
        ("grpc-status", "0"),
        ("cookie", "a=b"),
        ("authorization", "Bearer a"),
    ]);
    rules().trailers(&mut trailers);
    assert_eq!(trailers, headers(&[("grpc-status", "0")]));
}

#[test]
fn answers_to_a_user_are_kept_by_nobody_unless_the_application_says_so() {
    for (stated, sent) in [
        (&[][..], "no-store"),
        (&[""], "no-store"),
        (&["max-age=60"], "private, max-age=60"),
        (&["public, max-age=60"], "public, max-age=60"),
        (&["S-MaxAge=5"], "S-MaxAge=5"),
        (&["private"], "private"),
        (&["no-cache"], "private, no-cache"),
        (&["max-age=60", "no-cache"], "private, max-age=60, no-cache"),
        (&["max-age=60", "public"], "max-age=60"),
        // Said of some fields, or within quotes.
        (
            &["private=\"set-cookie\""],
            "private, private=\"set-cookie\"",
        ),
        (
            &["no-cache=\"a, public, b\""],
            "private, no-cache=\"a, public, b\"",
        ),
        (&["x=\"\\\", public\""], "private, x=\"\\\", public\""),
        (&["x=\"\\\\\", public"], "x=\"\\\\\", public"),
        (&["publicly"], "private, publicly"),
    ] {
        let mut headers = HeaderMap::new();
        for value in stated {
            headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
        }
        protect_from_caches(&mut headers);
        assert_eq!(headers[CACHE_CONTROL], sent, "{stated:?}");
    }
}

proptest! {
    #[test]
    fn no_name_that_folds_to_the_identity_header_passes(
        separators in proptest::collection::vec("[-_.!#$%&'*+^`|~]", 3)
    ) {
        let name = format!("X{}auth{}User{}ID", separators[0], separators[1], separators[2]);
        prop_assert_eq!(upstream(&[(name.as_str(), "admin")], None), with_told(&[]));
    }
}

proptest! {
    #[test]
    fn an_address_is_written_as_it_is_shown(octets: [u8; 4], words: [u16; 8]) {
        for client in [IpAddr::from(octets), IpAddr::from(words), IpAddr::V6(Ipv4Addr::from(octets).to_ipv6_mapped())] {
            let written = address(client);
            prop_assert_eq!(written.to_str().unwrap(), client.to_canonical().to_string());
        }
    }
}

#[test]
fn no_name_is_missed_for_its_first_letter() {
    use super::{FRAMING, NOT_FROM_CLIENTS, SESSION_HEADERS, is_hop_by_hop};
    let rules = rules();
    let fixed = [
        "x-forwarded-for",
        "portcullis-login",
        "x-original-url",
        "x-auth-user-id",
    ];
    for word in NOT_FROM_CLIENTS.into_iter().chain(fixed) {
        assert!(rules.is_gateways_word(word), "{word}");
        assert!(rules.is_gateways_word(&word.replace('-', "_")), "{word}");
    }
    for word in FRAMING {
        assert!(!rules.is_gateways_word(word), "{word}");
        assert!(rules.is_gateways_word(&word.replace('-', ".")), "{word}");
    }
    for word in SESSION_HEADERS
        .into_iter()
        .chain(["portcullis-claims", "x-auth-user-id"])
    {
        assert!(rules.is_only_ours_to_answer(word), "{word}");
    }
    for name in [
        "connection",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ] {
        assert!(is_hop_by_hop(name), "{name}");
    }
}
