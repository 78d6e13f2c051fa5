//! Which headers travel: from the client to the upstream, and from the upstream to the client.
//!
//! Both ways there is one rule over all names that are present, and upstream one type that only that rule makes. What the
//! gateway says itself (who the caller is, where it came from) is removed first under every name that some framework folds
//! into it (`X_User_Id`, `X.User.Id`), and then set.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName,
    HeaderValue, SET_COOKIE, TE, UPGRADE,
};
use http_body::Frame;

use crate::cookie::{self, OwnCookies};
use crate::upstream::FitHeaders;

/// The rule over all headers, both ways.
#[derive(Clone, Debug)]
pub struct HeaderRules {
    user_header: HeaderName,
    assertion_header: Option<HeaderName>,
}

/// What the gateway tells the upstream of a request.
#[derive(Debug)]
pub struct Told<'a> {
    pub client: IpAddr,
    pub scheme: &'static str,
    pub host: &'a HeaderValue,
    /// The one that the client asked for, which a proxy in front may have replaced.
    pub asked_host: &'a HeaderValue,
    /// The certificate that the client has shown; goes into `Client-Cert` (RFC 9440).
    pub certificate: Option<&'a HeaderValue>,
    /// The identity header; without it the upstream gets none.
    pub user: Option<&'a HeaderValue>,
    /// The same, signed; goes into the assertion header, if the operator named one.
    pub assertion: Option<&'a HeaderValue>,
    /// Where the gateway's cookies are.
    pub own_cookies: OwnCookies,
    /// `Authorization` has a token of the gateway's.
    pub own_bearer: bool,
    /// The request is a WebSocket handshake that may pass.
    pub websocket: bool,
}

/// Headers fit to be sent upstream; only [`HeaderRules::upstream`] makes them.
#[derive(Debug)]
pub struct UpstreamHeaders(HeaderMap);

impl UpstreamHeaders {
    /// Of the upstream, where the operator does not want the client's.
    pub fn set_host(&mut self, host: HeaderValue) {
        self.0.insert(HOST, host);
    }
}

/// To be read; what is changed is changed by the rule.
impl AsRef<HeaderMap> for UpstreamHeaders {
    fn as_ref(&self) -> &HeaderMap {
        &self.0
    }
}

impl FitHeaders for UpstreamHeaders {
    fn into_map(self) -> HeaderMap {
        self.0
    }
}

impl HeaderRules {
    pub fn new(user_header: HeaderName) -> Self {
        Self {
            user_header,
            assertion_header: None,
        }
    }

    /// With a header for signed assertions too.
    pub fn with_assertion(self, assertion_header: Option<HeaderName>) -> Self {
        Self {
            assertion_header,
            ..self
        }
    }

    pub fn upstream(&self, mut headers: HeaderMap, told: &Told<'_>) -> UpstreamHeaders {
        let sets_user = told.user.is_some();
        let found = remove_all(&mut headers, |name| {
            // What is set below replaces what is there.
            is_hop_by_hop(name.as_str())
                || self.is_gateways_word(name.as_str()) && !(sets_user && *name == self.user_header)
        });
        told.own_cookies.strip(&mut headers);
        if told.own_bearer {
            headers.remove(AUTHORIZATION);
        }
        if told.websocket {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        } else if found.accepts_trailers {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        headers.insert(HOST, told.host.clone());
        headers.insert(X_FORWARDED_FOR, address(told.client));
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(told.scheme));
        headers.insert(X_FORWARDED_HOST, told.asked_host.clone());
        if let Some(certificate) = told.certificate {
            headers.insert(CLIENT_CERT, certificate.clone());
        }
        if let Some(user) = told.user {
            headers.insert(self.user_header.clone(), user.clone());
        }
        if let (Some(name), Some(assertion)) = (&self.assertion_header, told.assertion) {
            headers.insert(name.clone(), assertion.clone());
        }
        UpstreamHeaders(headers)
    }

    /// Who the caller is, under the names that the operator chose.
    pub fn identity_headers(&self) -> impl Iterator<Item = &HeaderName> {
        std::iter::once(&self.user_header).chain(&self.assertion_header)
    }

    /// Whether a name among them is that of such a header, or is folded into it by some framework.
    pub fn name_identity(&self, headers: &HeaderMap) -> bool {
        headers.keys().any(|name| self.is_identity(name.as_str()))
    }

    /// Makes the headers of the upstream's answer fit for the client.
    pub fn client(&self, headers: &mut HeaderMap) {
        let found = remove_all(headers, |name| {
            is_hop_by_hop(name.as_str()) || self.is_only_ours_to_answer(name.as_str())
        });
        if found.sets_cookies && headers.get_all(SET_COOKIE).iter().any(cookie::sets_own) {
            let kept: Vec<HeaderValue> = headers
                .get_all(SET_COOKIE)
                .iter()
                .filter(|set| !cookie::sets_own(set))
                .cloned()
                .collect();
            headers.remove(SET_COOKIE);
            for set in kept {
                headers.append(SET_COOKIE, set);
            }
        }
    }

    /// Trailers are headers that come late: the same names are removed, and those that steer what came before.
    pub fn trailers(&self, trailers: &mut HeaderMap) {
        remove_all(trailers, |name| {
            is_hop_by_hop(name.as_str())
                || self.is_gateways_word(name.as_str())
                || self.is_only_ours_to_answer(name.as_str())
                || [HOST, CONTENT_LENGTH, COOKIE, SET_COOKIE, AUTHORIZATION].contains(name)
        });
    }

    /// A piece of a body, either way: if it is the trailers, they go by their rule.
    pub fn frame(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_trailers() {
            Ok(mut trailers) => {
                self.trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        }
    }

    /// What the upstream believes because the gateway says it. By the first letter, since most names are none of them.
    fn is_gateways_word(&self, name: &str) -> bool {
        let is_one_of = |words: &[&str]| words.iter().any(|word| equals_folded(name, word));
        let is_fixed = match name.as_bytes().first() {
            Some(b'x') => starts_folded(name, "x-forwarded-") || starts_folded(name, "x-original-"),
            Some(b'p') => starts_folded(name, "portcullis-"),
            // And its chain (RFC 9440 section 4).
            Some(b'c') if starts_folded(name, CLIENT_CERT.as_str()) => true,
            Some(b'c' | b't') => !FRAMING.contains(&name) && is_one_of(&FRAMING),
            _ => false,
        };
        is_fixed || is_one_of(&NOT_FROM_CLIENTS) || self.is_identity(name)
    }

    fn is_identity(&self, name: &str) -> bool {
        let is = |header: &HeaderName| equals_folded(name, header.as_str());
        is(&self.user_header) || self.assertion_header.as_ref().is_some_and(is)
    }

    /// What the client believes because the gateway says it.
    fn is_only_ours_to_answer(&self, name: &str) -> bool {
        let is_fixed = match name.as_bytes().first() {
            Some(b'p') => starts_folded(name, "portcullis-"),
            Some(b'f' | b'i' | b'a' | b's') => SESSION_HEADERS.contains(&name),
            _ => false,
        };
        is_fixed || self.is_identity(name)
    }
}

/// Marks an answer that depends on who asked as not to be kept, unless the application has said itself who may.
pub fn protect_from_caches(headers: &mut HeaderMap) {
    let lines = || headers.get_all(CACHE_CONTROL).iter();
    if lines()
        .flat_map(|line| directives(line.as_bytes()))
        .any(decides)
    {
        return;
    }
    let stated: Vec<&[u8]> = lines().map(HeaderValue::as_bytes).collect();
    let stated = stated.join(&b", "[..]);
    let marked = match stated.is_empty() {
        true => NO_STORE,
        false => HeaderValue::from_bytes(&[b"private, ", &stated[..]].concat()).unwrap_or(NO_STORE),
    };
    headers.insert(CACHE_CONTROL, marked);
}

/// `private` with a list of fields is about these alone, and leaves the rest to shared caches (RFC 9111 section 5.2.2.7).
fn decides(directive: &[u8]) -> bool {
    let is = |word: &str| directive.eq_ignore_ascii_case(word.as_bytes());
    let shared_age = directive
        .get(.."s-maxage=".len())
        .is_some_and(|start| start.eq_ignore_ascii_case(b"s-maxage="));
    is("public") || is("private") || is("no-store") || shared_age
}

/// What is between the commas that are in no quotes.
fn directives(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(move |byte| {
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && !escaped && *byte == b'\\';
        *byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

pub const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the application says about sessions; read from its answer, never passed on.
pub const LOGIN_HEADER: &str = "portcullis-login";
pub const CLAIMS_HEADER: &str = "portcullis-claims";
pub const SESSION_DATA_HEADER: &str = "portcullis-session-data";
pub const LOGOUT_HEADER: &str = "portcullis-logout";

/// What the gateway tells the browser SDKs.
pub const FRONT_TOKEN: HeaderName = HeaderName::from_static("front-token");
pub const ID_REFRESH_TOKEN: HeaderName = HeaderName::from_static("id-refresh-token");
pub const ANTI_CSRF: HeaderName = HeaderName::from_static("anti-csrf");
pub const ST_ACCESS_TOKEN: HeaderName = HeaderName::from_static("st-access-token");
pub const ST_REFRESH_TOKEN: HeaderName = HeaderName::from_static("st-refresh-token");

/// Whether a comma-separated header lists `token`, in any case.
pub fn has_token(value: &HeaderValue, token: &str) -> bool {
    tokens(value).any(|listed| listed.eq_ignore_ascii_case(token.as_bytes()))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
}

/// Told to the browser SDKs by the gateway alone.
const SESSION_HEADERS: [&str; 5] = [
    "front-token",
    "id-refresh-token",
    "anti-csrf",
    "st-access-token",
    "st-refresh-token",
];

/// Where a request came from, or went to, as told by another proxy; some frameworks route by them. `Proxy` becomes `HTTP_PROXY` in
/// the environment of CGI programs, which then send what they ask for there (CVE-2016-5385).
const NOT_FROM_CLIENTS: [&str; 9] = [
    "forwarded",
    "x-forwarded",
    "x-real-ip",
    "x-rewrite-url",
    "x-override-url",
    "x-http-host-override",
    "x-envoy-original-path",
    "x-envoy-original-host",
    "proxy",
];

/// Where a body ends is said by the gateway anew; their aliases (`Content_Length`) would say something else.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the one pass over all headers has met, beside what it removed.
#[derive(Default)]
struct Found {
    accepts_trailers: bool,
    sets_cookies: bool,
}

/// Removes the headers that the rule names, and those that `Connection` lists (RFC 9110 section 7.6.1).
fn remove_all(headers: &mut HeaderMap, rule: impl Fn(&HeaderName) -> bool) -> Found {
    let mut removed: Vec<HeaderName> = Vec::new();
    let mut found = Found::default();
    for name in headers.keys() {
        found.sets_cookies |= *name == SET_COOKIE;
        if !rule(name) {
            continue;
        }
        if *name == CONNECTION {
            for listed in headers.get_all(CONNECTION).iter().flat_map(tokens) {
                removed.extend(HeaderName::from_bytes(listed));
            }
        } else if *name == TE {
            let mut accepted = headers.get_all(TE).iter();
            found.accepts_trailers = accepted.any(|te| has_token(te, "trailers"));
        }
        removed.push(name.clone());
    }
    for name in removed {
        headers.remove(name);
    }
    found
}

/// `Expect` is answered by the gateway itself. `Trailer` stays, since the trailers do. By the first letter, since most names are
/// none of them.
fn is_hop_by_hop(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'c') => name == "connection",
        Some(b'e') => name == "expect",
        Some(b'h') => name == "http2-settings",
        Some(b'k') => name == "keep-alive",
        Some(b'p') => matches!(
            name,
            "proxy-authenticate" | "proxy-authorization" | "proxy-connection"
        ),
        Some(b't') => matches!(name, "te" | "transfer-encoding"),
        Some(b'u') => name == "upgrade",
        _ => false,
    }
}

/// Equal after mapping whatever is neither letter nor digit to `-`. Header names arrive in lower case.
fn equals_folded(name: &str, word: &str) -> bool {
    name.len() == word.len() && starts_folded(name, word)
}

fn starts_folded(name: &str, word: &str) -> bool {
    let fold = |byte: u8| {
        if byte.is_ascii_alphanumeric() {
            byte
        } else {
            b'-'
        }
    };
    name.len() >= word.len()
        && name
            .bytes()
            .zip(word.bytes())
            .all(|(a, b)| fold(a) == fold(b))
}

/// By hand where it is simple: what formats anything costs more than the rest of these rules.
fn address(client: IpAddr) -> HeaderValue {
    let client = match client.to_canonical() {
        IpAddr::V4(client) => client,
        client @ IpAddr::V6(_) => {
            return HeaderValue::try_from(client.to_string()).expect("an address is visible ASCII");
        }
    };
    let (mut text, mut end) = ([0; LONGEST_IPV4], 0);
    let mut push = |byte| {
        text[end] = byte;
        end += 1;
    };
    for (nth, octet) in client.octets().into_iter().enumerate() {
        if nth > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    HeaderValue::from_bytes(&text[..end]).expect("digits and dots are visible ASCII")
}

/// `255.255.255.255`
const LONGEST_IPV4: usize = 15;

#[cfg(test)]
mod tests;
