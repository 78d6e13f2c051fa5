//! The gateway's own cookies: found in a request, set, cleared, and kept from the upstream.
//!
//! Reading is a scan of the header's bytes without allocation, since every request pays for it. A value counts only under
//! its exact name; a cookie without a name never does (browsers send `=__Host-x=y` as they got it). Clearing covers each
//! Domain and Path under which the gateway can ever have set a cookie, since a browser removes a cookie only by its exact
//! scope.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use cookie::time::OffsetDateTime;
use cookie::{Cookie, SameSite};
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};
use percent_encoding::percent_decode;

use crate::clock::Timestamp;
use crate::secret::TokenText;

/// How the gateway's cookies are set.
#[derive(Clone, Debug)]
pub struct CookieSettings {
    pub domain: Option<String>,
    /// Path of the access cookie.
    pub path: String,
    /// Path of the refresh cookie.
    pub refresh_path: String,
    /// Further paths under which the refresh cookie can have been set before.
    pub older_refresh_paths: Vec<String>,
    pub secure: bool,
    pub same_site: SameSite,
    /// What the names begin with; absent: the strictest prefix that a cookie's scope allows.
    pub prefix: Option<Prefix>,
    /// Domains that an earlier configuration set cookies for; cleared with the others.
    pub older_domains: Vec<String>,
}

/// What a browser makes of a name's beginning (RFC 6265bis section 4.1.3): who can set a cookie of that name, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// None: anybody below the same domain can set it.
    Plain,
    /// `__Secure-`: over https alone.
    Secure,
    /// `__Host-`: over https, by the host itself, for all its paths.
    Host,
}

impl Prefix {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Secure => "__Secure-",
            Self::Host => "__Host-",
        }
    }

    /// Of those that browsers take for such a scope.
    fn strictest(secure: bool, domain: Option<&str>, path: &str) -> Self {
        match (secure, domain, path) {
            (false, ..) => Self::Plain,
            (true, None, "/") => Self::Host,
            (true, ..) => Self::Secure,
        }
    }
}

/// Reads, sets and clears the gateway's cookies.
#[derive(Clone, Debug)]
pub struct SessionCookies {
    settings: CookieSettings,
    access_name: String,
    refresh_name: String,
    clearing: Vec<HeaderValue>,
    /// The part of `clearing` that the cookies in use are not affected by.
    clearing_others: Vec<HeaderValue>,
    /// The part of `clearing_others` for the access cookie.
    clearing_other_access: Vec<HeaderValue>,
}

/// A cookie as a browser knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    cookie: &'static str,
    name: String,
    path: String,
    domain: Option<String>,
}

impl SessionCookies {
    pub fn new(settings: CookieSettings) -> Self {
        let [access, refresh] = scopes_in_use(&settings);
        let mut cookies = Self {
            access_name: access.name.clone(),
            refresh_name: refresh.name.clone(),
            clearing: Vec::new(),
            clearing_others: Vec::new(),
            clearing_other_access: Vec::new(),
            settings,
        };
        for scope in all_scopes(&cookies.settings) {
            let header = cookies.cleared(&scope.name, &scope.path, scope.domain.as_deref());
            if scope != access && scope != refresh {
                cookies.clearing_others.push(header.clone());
                if scope.cookie == ACCESS {
                    cookies.clearing_other_access.push(header.clone());
                }
            }
            cookies.clearing.push(header);
        }
        cookies
    }

    /// What a request presents.
    pub fn read<'a>(&self, headers: &'a HeaderMap) -> PresentedCookies<'a> {
        let mut presented = PresentedCookies::default();
        for header in headers.get_all(COOKIE) {
            for (name, value) in pairs(header.as_bytes()) {
                if name == self.access_name.as_bytes() {
                    presented.access.add(value);
                } else if name == self.refresh_name.as_bytes() {
                    presented.refresh.add(value);
                }
                presented.any_own |= is_own(name, value);
            }
        }
        presented
    }

    /// The cookies that carry a session's tokens until the session is over.
    pub fn set(
        &self,
        access: &TokenText,
        refresh: &TokenText,
        expires: Timestamp,
    ) -> [HeaderValue; 2] {
        let (name, path) = (&self.refresh_name, &self.settings.refresh_path);
        [
            self.set_access(access.expose(), expires),
            self.cookie(name, refresh.expose(), path, expires),
        ]
    }

    /// The access cookie alone.
    pub fn set_access(&self, access: &str, expires: Timestamp) -> HeaderValue {
        self.cookie(&self.access_name, access, &self.settings.path, expires)
    }

    /// One `Set-Cookie` for each scope that a cookie of the gateway can have.
    pub fn clearing(&self) -> &[HeaderValue] {
        &self.clearing
    }

    /// The same without the scopes that cookies are set in now: what is left there is old, or somebody else's.
    pub fn clearing_others(&self) -> &[HeaderValue] {
        &self.clearing_others
    }

    /// The same for the access cookie alone.
    pub fn clearing_other_access(&self) -> &[HeaderValue] {
        &self.clearing_other_access
    }

    /// One `Set-Cookie` that clears a cookie of the application, as the operator asked for.
    pub fn clearing_of(&self, name: &str) -> HeaderValue {
        self.cleared(name, "/", None)
    }

    fn cleared(&self, name: &str, path: &str, domain: Option<&str>) -> HeaderValue {
        let mut cookie = self.build(name, "", path, domain, OffsetDateTime::UNIX_EPOCH);
        cookie.set_max_age(cookie::time::Duration::ZERO);
        to_header(&cookie)
    }

    fn cookie(&self, name: &str, value: &str, path: &str, expires: Timestamp) -> HeaderValue {
        let domain = self.settings.domain.as_deref();
        to_header(&self.build(name, value, path, domain, offset_date_time(expires)))
    }

    fn build<'c>(
        &self,
        name: &'c str,
        value: &'c str,
        path: &'c str,
        domain: Option<&'c str>,
        expires: OffsetDateTime,
    ) -> Cookie<'c> {
        let mut cookie = Cookie::build((name, value))
            .path(path)
            .secure(self.settings.secure)
            .http_only(true)
            .same_site(self.settings.same_site)
            .expires(expires)
            .build();
        if let Some(domain) = domain {
            cookie.set_domain(domain);
        }
        cookie
    }
}

/// Those of the access and of the refresh cookie, as they are set now.
fn scopes_in_use(settings: &CookieSettings) -> [Scope; 2] {
    let domain = settings.domain.as_deref();
    let scope = |cookie, path: &str| {
        let strictest = Prefix::strictest(settings.secure, domain, path);
        let prefix = match settings.prefix {
            // A refresh cookie that is bound to its path cannot have the stricter one.
            None | Some(Prefix::Host) => strictest,
            Some(prefix) => prefix,
        };
        Scope {
            cookie,
            name: format!("{}{cookie}", prefix.as_str()),
            path: path.to_owned(),
            domain: domain.map(str::to_owned),
        }
    };
    [
        scope(ACCESS, &settings.path),
        scope(REFRESH, &settings.refresh_path),
    ]
}

/// Those in which this deployment can ever have set a cookie: with a Domain and without, since an earlier configuration may
/// have named none, and under the plain name beside the prefixed ones, since it may not always have been on https.
fn all_scopes(settings: &CookieSettings) -> Vec<Scope> {
    let named = settings.domain.iter().chain(&settings.older_domains);
    let domains: BTreeSet<Option<&str>> = std::iter::once(None)
        .chain(named.map(|domain| Some(domain.as_str())))
        .collect();
    let refresh_paths =
        std::iter::once(&settings.refresh_path).chain(&settings.older_refresh_paths);
    let placed = [(ACCESS, &settings.path), (ID_REFRESH, &settings.path)]
        .into_iter()
        .chain(refresh_paths.map(|path| (REFRESH, path)));
    let mut scopes = scopes_in_use(settings).to_vec();
    for (cookie, path) in placed {
        for domain in &domains {
            let strictest = Prefix::strictest(settings.secure, *domain, path);
            let configured = settings.prefix.filter(|prefix| *prefix == Prefix::Secure);
            for prefix in [Prefix::Plain, strictest].into_iter().chain(configured) {
                let scope = Scope {
                    cookie,
                    name: format!("{}{cookie}", prefix.as_str()),
                    path: path.clone(),
                    domain: domain.map(str::to_owned),
                };
                // Left by the reference library, which knew no prefixes.
                let never_set = cookie == ID_REFRESH && prefix != Prefix::Plain;
                if !never_set && !scopes.contains(&scope) {
                    scopes.push(scope);
                }
            }
        }
    }
    scopes
}

/// The gateway's cookies in one request.
#[derive(Debug, Default)]
pub struct PresentedCookies<'a> {
    pub access: Candidates<'a>,
    pub refresh: Candidates<'a>,
    any_own: bool,
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
    fn add(&mut self, value: &'a [u8]) {
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
        HeaderValue::from_bytes(&rest).ok()
    }
}

/// Whether a `Set-Cookie` of the upstream names a cookie of the gateway.
pub fn sets_own(header: &HeaderValue) -> bool {
    pairs(header.as_bytes())
        .next()
        .is_some_and(|(name, value)| is_own(name, value))
}

const ACCESS: &str = "sAccessToken";
const REFRESH: &str = "sRefreshToken";
const ID_REFRESH: &str = "sIdRefreshToken";
const MAX_CANDIDATES: usize = 4;

/// Name, value and the pair as written, of each cookie in a header.
fn raw_pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8], &[u8])> {
    header.split(|byte| *byte == b';').map(|pair| {
        let pair = pair.trim_ascii();
        match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (pair[..at].trim_ascii(), pair[at + 1..].trim_ascii(), pair),
            None => (&b""[..], pair, pair),
        }
    })
}

fn pairs(header: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    raw_pairs(header).map(|(name, value, _)| (name, value))
}

/// Any spelling that this gateway sets under some configuration, or that a careless parser takes for one.
fn is_own(name: &[u8], value: &[u8]) -> bool {
    let name = if name.is_empty() {
        value
            .split(|byte| *byte == b'=')
            .next()
            .unwrap_or_default()
            .trim_ascii()
    } else {
        name
    };
    let bare = name
        .strip_prefix(b"__Host-")
        .or_else(|| name.strip_prefix(b"__Secure-"))
        .unwrap_or(name);
    bare == ACCESS.as_bytes() || bare == REFRESH.as_bytes() || bare == ID_REFRESH.as_bytes()
}

/// Percent-decoded once; tokens have no character that needs it, but clients may encode them all the same.
fn decoded(value: &[u8]) -> Option<Cow<'_, str>> {
    if value.contains(&b'%') {
        percent_decode(value).decode_utf8().ok()
    } else {
        std::str::from_utf8(value).ok().map(Cow::Borrowed)
    }
}

fn to_header(cookie: &Cookie<'_>) -> HeaderValue {
    HeaderValue::try_from(cookie.to_string()).expect("names, scopes and tokens are visible ASCII")
}

fn offset_date_time(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + at.since(Timestamp::from_millis(0)).min(FURTHEST)
}

/// Year 9999 is the last that a cookie date can hold.
const FURTHEST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use cookie::SameSite;
    use http::HeaderValue;
    use http::header::{COOKIE, HeaderMap};
    use proptest::prelude::{prop_assert, proptest};

    use super::{CookieSettings, Prefix, SessionCookies, sets_own, without_own};
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

    fn access(cookies: &SessionCookies, headers: &HeaderMap) -> Vec<String> {
        cookies
            .read(headers)
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
        assert!(cookies.read(&many).access.too_many());
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
                Some("other=1; x=\"q\"; y"),
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
            let presented = cookies.read(&map);
            for theirs in cookie::Cookie::split_parse(header.as_str()).flatten() {
                if theirs.name() == "sAccessToken" && !theirs.value().is_empty() && !theirs.value().contains('%') && !presented.access.too_many() {
                    prop_assert!(presented.access.iter().any(|ours| ours == theirs.value()));
                }
            }
            if let Some(rest) = without_own(&value) {
                let map: HeaderMap = [(COOKIE, rest)].into_iter().collect();
                let again = cookies.read(&map);
                prop_assert!(again.access.is_empty() && again.refresh.is_empty() && !again.any_own());
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(0x20_u8..=0xff, 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let map: HeaderMap = [(COOKIE, value.clone())].into_iter().collect();
                let _ = SessionCookies::new(settings()).read(&map);
                let _ = without_own(&value);
            }
        }
    }
}
