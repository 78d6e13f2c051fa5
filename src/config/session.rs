//! `[session]` and its cookies.

use cookie::SameSite;

use super::reader::Section;
use super::rule_sections::literal_path;
use super::values::{self, PublicUrl, shown_duration};
use crate::cookie::{CookieSettings, Prefix};
use crate::session::{Lifetimes, SigningAlgorithm};

/// What is known of where browsers find us.
#[derive(Clone, Copy)]
pub(super) enum Site<'a> {
    Unnamed,
    At(&'a PublicUrl),
    /// Named, but not so that it can be read: what depends on it is not judged.
    Broken,
}

/// `[session]`, `[session.cookies]`, and the other spelling of the refresh path.
pub(super) fn read_session(root: &mut Section<'_>, site: Site<'_>) -> (Session, CookieSettings) {
    let (mut session, mut cookies, has_path) = root.section("session", |section| {
        let session = Session::read(section);
        let cookies = section.section("cookies", |cookies| read_cookies(cookies, site));
        (session, cookies, section.has("refresh_path"))
    });
    root.section("refresh", |section| {
        let Some(path) = section.optional_text("path", literal_path) else {
            return;
        };
        if has_path {
            section.conflict(
                "path",
                "session.refresh_path is given too, and means the same: keep one of them",
            );
        }
        session.refresh_path = path;
    });
    check_own_paths_are_reached(root, &session, &cookies);
    bind_refresh_cookie(&session, &mut cookies);
    (session, cookies)
}

/// Whether browsers send a cookie with this `Path` to `request_path` (RFC 6265 section 5.1.4).
pub(super) fn cookie_reaches(cookie_path: &str, request_path: &str) -> bool {
    match request_path.strip_prefix(cookie_path) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || cookie_path.ends_with('/'),
        None => false,
    }
}

fn check_own_paths_are_reached(root: &Section<'_>, session: &Session, cookies: &CookieSettings) {
    let mut paths = vec![
        ("session.refresh_path", &session.refresh_path),
        ("session.signout_path", &session.signout_path),
    ];
    if let Some(path) = &session.self_service {
        paths.push(("session.self_service_path", path));
    }
    for (key, path) in paths {
        if !cookie_reaches(&cookies.path, path) {
            root.conflict(
                "session",
                &format!(
                    "with session.cookies.path = {:?} browsers send no cookies to {key}, which is {path:?}: move it below that path",
                    cookies.path
                ),
            );
        }
    }
}

/// With transparent refresh the refresh cookie has to come with every request, else it is kept out of them. Where it would
/// be had the operator chosen the other, it may still be from before.
fn bind_refresh_cookie(session: &Session, cookies: &mut CookieSettings) {
    let everywhere = cookies.path.clone();
    let there_alone = session.refresh_path.clone();
    let (path, older) = match session.refresh {
        Refresh::Transparent => (everywhere, there_alone),
        Refresh::Client => (there_alone, everywhere),
    };
    cookies.refresh_path = path;
    cookies.older_refresh_paths = vec![older];
}

/// How sessions live, and what requests that change something must prove.
#[derive(Clone, Debug)]
pub struct Session {
    pub lifetimes: Lifetimes,
    pub refresh: Refresh,
    /// Where clients refresh; a path without wildcards.
    pub refresh_path: String,
    /// Where clients log out without any rule that says so; a path without wildcards.
    pub signout_path: String,
    /// Where users see their own sessions and end them; `None`: nowhere.
    pub self_service: Option<String>,
    pub anti_csrf: AntiCsrf,
    /// Whether a refresh has to show what `anti_csrf` asks for, or only where it comes from.
    pub anti_csrf_on_refresh: bool,
    /// Other origins whose pages may call with the session's cookies.
    pub allowed_origins: Vec<PublicUrl>,
    /// Clients may keep their tokens themselves and send them in headers.
    pub header_mode: bool,
    /// Of keys that are made from now on.
    pub signing_algorithm: SigningAlgorithm,
    /// Status of the answer that tells a client that its session is over: 401 or 440.
    pub session_over_status: u16,
    /// Refreshes of one session; more are answered with 429.
    pub refreshes_per_minute: usize,
}

/// Who sees to it that an access token is replaced when it has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The gateway, in line with whatever request comes; and the client, if it asks.
    Transparent,
    /// The client, at the refresh path.
    Client,
}

/// What a request that changes something has to show besides its cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiCsrf {
    /// `Sec-Fetch-Site` or `Origin` of this site.
    Origin,
    /// A header that no form can send.
    CustomHeader,
    /// The session's own token, in a header.
    Token,
    Off,
}

/// As the file writes them; the first needs nothing of the client: every browser of today sends these headers.
pub(super) const ANTI_CSRF: [(&str, AntiCsrf); 4] = [
    ("origin", AntiCsrf::Origin),
    ("custom-header", AntiCsrf::CustomHeader),
    ("token", AntiCsrf::Token),
    ("off", AntiCsrf::Off),
];

impl Session {
    fn read(section: &mut Section<'_>) -> Self {
        let lifetimes = Lifetimes {
            // SuperTokens' values. A revocation is remembered for as long as access tokens live, hence their limit.
            access: section.duration("access_token_lifetime", "1h", ("1s", "1d")),
            idle: section.duration("refresh_token_lifetime", "100d", ("1s", "3650d")),
            // A stolen browser profile is worth nothing after a year.
            absolute: section.duration("max_lifetime", "365d", ("1s", "3650d")),
            // Longer than any answer takes to get lost and be asked for again.
            reuse_grace: section.duration("reuse_grace", "30s", ("0s", "5m")),
        };
        check_lifetimes(section, &lifetimes);
        Self {
            lifetimes,
            // Works for pages and scripts that know nothing of sessions.
            refresh: section.one_of(
                "refresh",
                &[
                    ("transparent", Refresh::Transparent),
                    ("client", Refresh::Client),
                ],
            ),
            // Both paths are those that the SuperTokens SDKs call unless told otherwise.
            refresh_path: section.text("refresh_path", "/auth/session/refresh", literal_path),
            signout_path: section.text("signout_path", "/auth/signout", literal_path),
            self_service: read_self_service(section),
            anti_csrf: section.one_of("anti_csrf", &ANTI_CSRF),
            // SDKs of the generation before 4.4 send nothing that a refresh could be asked for.
            anti_csrf_on_refresh: section
                .one_of("anti_csrf_refresh", &[("token", true), ("off", false)]),
            // The pages are the application's own, from the same host.
            allowed_origins: section.texts("allowed_origins", &[], values::origin),
            // Costs browsers nothing: a token that came in a cookie never leaves in a header.
            header_mode: section.bool("header_mode", true),
            // Small signatures, verified everywhere.
            signing_algorithm: section.one_of(
                "signing_algorithm",
                &SigningAlgorithm::ALL.map(|it| (it.name(), it)),
            ),
            session_over_status: read_session_over_status(section),
            // Current SDKs give up after ten in a row; a session needs one per hour.
            refreshes_per_minute: section.integer("refreshes_per_minute", 6, (1, 1000)),
        }
    }
}

/// Blames the longer one of two if it was written, else the shorter.
fn check_lifetimes(section: &Section<'_>, lifetimes: &Lifetimes) {
    let [access, idle, absolute] = [
        "access_token_lifetime",
        "refresh_token_lifetime",
        "max_lifetime",
    ];
    let idle_is = shown_duration(lifetimes.idle);
    if lifetimes.access >= lifetimes.idle {
        if section.has(idle) {
            let access_is = shown_duration(lifetimes.access);
            section.refuse(idle, &format!("more than {access}, which is {access_is}"));
        } else {
            section.refuse(access, &format!("less than {idle}, which is {idle_is}"));
        }
    }
    if lifetimes.idle > lifetimes.absolute {
        if section.has(absolute) {
            section.refuse(absolute, &format!("at least {idle}, which is {idle_is}"));
        } else {
            let absolute_is = shown_duration(lifetimes.absolute);
            section.refuse(idle, &format!("at most {absolute}, which is {absolute_is}"));
        }
    }
}

/// The path is read even if it is not used, so that mistakes in it are known at once.
fn read_self_service(section: &mut Section<'_>) -> Option<String> {
    // Who stole a session could end the owner's others with it.
    let is_on = section.bool("self_service", false);
    let path = section.text("self_service_path", "/auth/sessions", literal_path);
    is_on.then_some(path)
}

fn read_session_over_status(section: &mut Section<'_>) -> u16 {
    // 440 is for SDKs of the first generation.
    match section.integer("session_over_status", 401, (0, 999)) {
        440 => 440,
        401 => 401,
        _ => {
            section.refuse("session_over_status", "401 or 440");
            401
        }
    }
}

fn read_cookies(section: &mut Section<'_>, site: Site<'_>) -> CookieSettings {
    let cookies = CookieSettings {
        domain: section.optional_text("domain", values::domain),
        path: section.text("path", "/", values::cookie_path),
        refresh_path: String::new(),
        older_refresh_paths: Vec::new(),
        // What a browser gets over https it must not send over http.
        secure: section.optional_bool("secure").unwrap_or(match site {
            Site::Unnamed => false,
            Site::At(url) => url.is_https(),
            Site::Broken => true,
        }),
        // Links from other sites arrive logged in, forms from other sites do not.
        same_site: section.one_of(
            "same_site",
            &[
                ("lax", SameSite::Lax),
                ("strict", SameSite::Strict),
                ("none", SameSite::None),
            ],
        ),
        // No SDK reads these cookies, so their names are free: the strictest that browsers know is the default.
        prefix: section.optional_one_of(
            "prefix",
            &[
                ("", Prefix::Plain),
                ("__Host-", Prefix::Host),
                ("__Secure-", Prefix::Secure),
            ],
        ),
        older_domains: section.texts("older_domains", &[], values::domain),
    };
    check_domain(&cookies, section, site);
    check_secure(&cookies, section);
    if cookies.prefix == Some(Prefix::Host) {
        check_host_prefix(&cookies, section);
    }
    cookies
}

fn check_domain(cookies: &CookieSettings, section: &Section<'_>, site: Site<'_>) {
    let Some(domain) = &cookies.domain else {
        return;
    };
    let url = match site {
        Site::At(url) => url,
        Site::Broken => return,
        Site::Unnamed => {
            section.conflict(
                "domain",
                "needs server.public_url: it is that URL's host, or a domain above it",
            );
            return;
        }
    };
    let is_parent = domain.contains('.')
        && url
            .host()
            .strip_suffix(domain.as_str())
            .is_some_and(|sub| sub.ends_with('.'));
    if *domain != url.host() && !is_parent {
        section.refuse(
            "domain",
            &format!(
                "the host of server.public_url, \"{}\", or a domain above it",
                url.host()
            ),
        );
    }
}

fn check_secure(cookies: &CookieSettings, section: &Section<'_>) {
    if cookies.secure {
        return;
    }
    if cookies.same_site == SameSite::None {
        section.conflict(
            "same_site",
            r#""none" needs secure = true: browsers drop the cookie otherwise"#,
        );
    }
    if let Some(prefix) = cookies.prefix.filter(|prefix| *prefix != Prefix::Plain) {
        section.conflict(
            "prefix",
            &format!(
                "{:?} needs secure = true: browsers drop the cookie otherwise",
                prefix.as_str()
            ),
        );
    }
}

fn check_host_prefix(cookies: &CookieSettings, section: &Section<'_>) {
    if cookies.domain.is_some() {
        section.conflict(
            "prefix",
            r#""__Host-" does not go with a domain: browsers drop the cookie"#,
        );
    }
    if cookies.path != "/" {
        section.conflict(
            "prefix",
            r#""__Host-" needs path = "/": browsers drop the cookie otherwise"#,
        );
    }
}
