//! The gateway's own cookies: found in a request (`scan`), set, cleared, and kept from the upstream.
//!
//! Clearing covers each Domain and Path under which the gateway can ever have set a cookie, since a browser removes a cookie
//! only by its exact scope.

mod scan;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use cookie::time::OffsetDateTime;
use cookie::{Cookie, SameSite};
use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};

use scan::own_pairs;
pub use scan::{Candidates, OwnCookies, PresentedCookies, sets_own, without_own};

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

    /// What a request presents, by where its cookies of the gateway were found.
    pub fn read<'a>(&self, headers: &'a HeaderMap, own: &OwnCookies) -> PresentedCookies<'a> {
        let mut presented = PresentedCookies::default();
        if !own.any() {
            return presented;
        }
        for header in headers.get_all(COOKIE) {
            for (name, value) in own_pairs(header.as_bytes(), own) {
                if name == self.access_name.as_bytes() {
                    presented.access.add(value);
                } else if name == self.refresh_name.as_bytes() {
                    presented.refresh.add(value);
                }
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

const ACCESS: &str = "sAccessToken";
const REFRESH: &str = "sRefreshToken";
const ID_REFRESH: &str = "sIdRefreshToken";

fn to_header(cookie: &Cookie<'_>) -> HeaderValue {
    HeaderValue::try_from(cookie.to_string()).expect("names, scopes and tokens are visible ASCII")
}

fn offset_date_time(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + at.since(Timestamp::from_millis(0)).min(FURTHEST)
}

/// Year 9999 is the last that a cookie date can hold.
const FURTHEST: Duration = Duration::from_secs(253_402_300_799);
