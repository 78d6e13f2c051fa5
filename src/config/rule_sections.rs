//! `[[login]]`, `[[logout]]` and `[[route]]` as they are written, one by one.

use std::error::Error;

use super::reader::Section;
use super::rules::{
    Auth, ClearSiteData, ForwardRule, LoginRule, LogoutRule, LogoutScope, RouteTimeouts,
    RuleTarget, Unauthenticated, Upstream401, UpstreamHost, WrittenRule,
};
use super::server::BODY_LIMITS;
use super::session::{ANTI_CSRF, cookie_reaches};
use super::upstream::{CONNECT_LIMITS, RESPONSE_LIMITS, STALL_LIMITS, Upstreams};
use super::values::{self, Reason, RedirectTarget};
use crate::route::{InvalidMethods, InvalidPattern, MethodSet, PathPattern};

/// Logins, logouts and routes.
pub(super) type RulesByKind = (Vec<WrittenRule>, Vec<WrittenRule>, Vec<WrittenRule>);

/// `[[login]]`, `[[logout]]` and `[[route]]`, without those that are broken.
pub(super) fn read_rules(
    root: &mut Section<'_>,
    upstreams: &Upstreams,
    cookie_path: &str,
) -> RulesByKind {
    let mut is_first = true;
    let logins = root.sections("login", |section| {
        read_login(section, upstreams, std::mem::take(&mut is_first))
    });
    let logouts = root.sections("logout", |section| {
        read_logout(section, upstreams, cookie_path)
    });
    let has_login = root.count("login") > 0;
    let routes = root.sections("route", |section| read_route(section, upstreams, has_login));
    let whole = |rules: Vec<Option<WrittenRule>>| rules.into_iter().flatten().collect();
    (whole(logins), whole(logouts), whole(routes))
}

fn read_login(
    section: &mut Section<'_>,
    upstreams: &Upstreams,
    is_first: bool,
) -> Option<WrittenRule> {
    let pattern = read_path(section);
    let methods = read_post_methods(section);
    let upstream = upstreams.of_rule(section);
    let anti_csrf = section.optional_one_of("anti_csrf", &ANTI_CSRF);
    let pattern = pattern?;
    if is_first && pattern.to_string().contains('*') {
        section.refuse(
            "path",
            "a path without wildcards: the first [[login]] is where visitors without a session are sent",
        );
        return None;
    }
    let target = RuleTarget::Login(LoginRule {
        upstream,
        anti_csrf,
    });
    Some(WrittenRule::new(
        pattern,
        methods?,
        section.origin_of("path"),
        target,
    ))
}

fn read_logout(
    section: &mut Section<'_>,
    upstreams: &Upstreams,
    cookie_path: &str,
) -> Option<WrittenRule> {
    let pattern = read_path(section);
    let methods = read_post_methods(section);
    // The least surprise: other devices stay logged in.
    let scope = section.one_of(
        "scope",
        &[
            ("session", LogoutScope::Session),
            ("user", LogoutScope::User),
        ],
    );
    let redirect = section.text("redirect", "/", RedirectTarget::parse);
    let mut redirect_allow = section.texts("redirect_allow", &[], RedirectTarget::parse);
    if !redirect_allow.contains(&redirect) {
        redirect_allow.push(redirect.clone());
    }
    let target = RuleTarget::Logout(LogoutRule {
        scope,
        redirect,
        redirect_allow,
        // The gateway alone ends the session; the application need not know.
        forward: section.bool("forward", false),
        clear_cookies: section.texts("clear_cookies", &[], values::cookie_name),
        // Costs a browser seconds, and the application its caches: only if asked for.
        clear_site_data: section.texts("clear_site_data", &[], ClearSiteData::parse),
        upstream: upstreams.of_rule(section),
        anti_csrf: section.optional_one_of("anti_csrf", &ANTI_CSRF),
    });
    let pattern = pattern?;
    if !cookie_reaches(cookie_path, &pattern.to_string()) {
        section.refuse(
            "path",
            &format!("a path below session.cookies.path, which is {cookie_path:?}: browsers send no cookies to others, so nobody would be logged out"),
        );
    }
    Some(WrittenRule::new(
        pattern,
        methods?,
        section.origin_of("path"),
        target,
    ))
}

fn read_route(
    section: &mut Section<'_>,
    upstreams: &Upstreams,
    has_login: bool,
) -> Option<WrittenRule> {
    let pattern = read_path(section);
    let methods = read_methods(section);
    let target = ForwardRule {
        // What is protected is not laid open by a rule that forgot to say so.
        auth: section.one_of(
            "auth",
            &[
                ("required", Auth::Required),
                ("optional", Auth::Optional),
                ("none", Auth::None),
            ],
        ),
        upstream: upstreams.of_rule(section),
        websocket: section.bool("websocket", true),
        unauthenticated: section.one_of(
            "unauthenticated",
            &[
                ("auto", Unauthenticated::Auto),
                ("redirect", Unauthenticated::Redirect),
                ("401", Unauthenticated::Status401),
            ],
        ),
        // Only where the operator expects it: an answer that quotes a stranger's headers must not log anyone out.
        session_control: section.bool("session_control", false),
        // Whether a 401 means the session or something of the application's own, only the operator knows.
        upstream_401: section.one_of(
            "upstream_401",
            &[("pass", Upstream401::Pass), ("403", Upstream401::Forbidden)],
        ),
        anti_csrf: section.optional_one_of("anti_csrf", &ANTI_CSRF),
        strip_prefix: section.optional_text("strip_prefix", prefix),
        exposes_subpaths: section.bool("expose_subpaths", false),
        // The application makes links from it.
        host: section.text("host", "keep", upstream_host),
        body_bytes: section.optional_bytes("body_bytes", BODY_LIMITS),
        timeouts: RouteTimeouts {
            connect: section.optional_duration("connect_timeout", CONNECT_LIMITS),
            response: section.optional_duration("response_timeout", RESPONSE_LIMITS),
            stall: section.optional_duration("stall_timeout", STALL_LIMITS),
            total: section.optional_duration("total_timeout", STALL_LIMITS),
        },
    };
    if target.unauthenticated == Unauthenticated::Redirect && !has_login {
        section.conflict(
            "unauthenticated",
            r#""redirect" needs a [[login]] whose path visitors are sent to"#,
        );
    }
    let exposes_everything = section.bool("expose_everything", false);
    let pattern = pattern?;
    if let Some(prefix) = &target.strip_prefix
        && !is_at_or_below(&pattern.to_string(), prefix)
    {
        section.conflict(
            "strip_prefix",
            "path does not begin with it: every path of the rule has to",
        );
    }
    if target.auth == Auth::None && pattern.to_string() == "/**" && !exposes_everything {
        section.conflict(
            "auth",
            r#""none" on "/**" would protect nothing: narrow the path, or say expose_everything = true in this [[route]]"#,
        );
    }
    Some(WrittenRule::new(
        pattern,
        methods?,
        section.origin_of("path"),
        RuleTarget::Forward(target),
    ))
}

/// What can be taken away from a path: one or more whole segments.
fn prefix(text: &str) -> Result<String, Reason> {
    let allowed = r#"the beginning of a path, without a slash at its end, such as "/static""#;
    match literal_path(text) {
        Ok(path) if path.ends_with('/') => Err(allowed.into()),
        result => result,
    }
}

fn is_at_or_below(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn upstream_host(text: &str) -> Result<UpstreamHost, Reason> {
    match text {
        "keep" => Ok(UpstreamHost::Keep),
        "upstream" => Ok(UpstreamHost::Server),
        name => values::host(name).map(UpstreamHost::Name),
    }
}

fn read_path(section: &mut Section<'_>) -> Option<PathPattern> {
    const ALLOWED: &str = r#"a path such as "/app" or "/app/**""#;
    section.required_text("path", ALLOWED, |text| {
        PathPattern::parse(text).map_err(|error| pattern_reason(ALLOWED, &error).into())
    })
}

/// A path that is one path: no wildcards.
pub(super) fn literal_path(text: &str) -> Result<String, Reason> {
    match PathPattern::parse(text) {
        Ok(_) if text.contains('*') => Err("a path without wildcards".into()),
        Ok(pattern) => Ok(pattern.to_string()),
        Err(error) => Err(pattern_reason(r#"a path such as "/auth/signout""#, &error).into()),
    }
}

fn pattern_reason(allowed: &str, error: &InvalidPattern) -> String {
    let cause = error.source().map(|cause| format!(" ({cause})"));
    format!("{allowed}: {error}{}", cause.unwrap_or_default())
}

/// Logins and logouts change something, so `POST` is what they are unless said otherwise.
fn read_post_methods(section: &mut Section<'_>) -> Option<MethodSet> {
    let names = section.texts("methods", &["POST"], method_name);
    method_set(section, &names)
}

fn read_methods(section: &mut Section<'_>) -> Option<MethodSet> {
    match section.optional_texts("methods", method_name) {
        Some(names) => method_set(section, &names),
        None => Some(MethodSet::ANY),
    }
}

fn method_name(text: &str) -> Result<String, Reason> {
    match MethodSet::parse(&[text]) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(r#"a method in capital letters, such as "POST""#.into()),
    }
}

fn method_set(section: &Section<'_>, names: &[String]) -> Option<MethodSet> {
    match MethodSet::parse(names) {
        Ok(methods) => Some(methods),
        // The list is not empty, but what stands there is broken and has been reported.
        Err(InvalidMethods::None) if section.count("methods") > 0 => None,
        Err(_) => {
            section.refuse("methods", "at least one method, each of them once");
            None
        }
    }
}
