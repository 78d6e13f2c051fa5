//! What happens on which path: `[[login]]`, `[[logout]]` and `[[route]]` with what they imply, as one table.
//!
//! What is implied gives way to what is written. A login path is its page too: `GET` and `HEAD` of it are served to anyone.
//! Frameworks serve most paths with and without a slash at the end, so a login and a logout stand for both: a logout that a
//! slash defeats would be none. The gateway's own endpoints, refresh and sign-out, are there for every method, because what is
//! not `POST` must be answered by the gateway as well.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

use super::error::Origin;
use super::exposed::{refuse_exposed, refuse_ways_around};
use super::reader::Section;
use super::rule_sections::read_rules;
use super::session::{AntiCsrf, Session};
use super::upstream::{UpstreamId, Upstreams};
use super::values::{self, Reason, RedirectTarget};
use crate::route::{MethodSet, PathPattern, RouteTable, Rule};
use crate::telemetry::RouteId;

/// What happens on which path.
#[derive(Clone, Debug)]
pub struct Rules {
    pub table: Arc<RouteTable<Route>>,
    /// For what no rule names: a session is required, and the first upstream serves.
    pub fallback: Route,
    /// What metrics and logs call each route, by its [`RouteId`].
    pub labels: Vec<String>,
    /// Where visitors without a session are sent: the path of the first `[[login]]`.
    pub login_path: Option<String>,
    /// Whether any rule, or the rule for all, asks for the sessions' own anti-CSRF tokens.
    pub anti_csrf_tokens: bool,
}

/// What a request falls under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub id: RouteId,
    pub target: RuleTarget,
}

/// What happens on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleTarget {
    Forward(ForwardRule),
    Login(LoginRule),
    Logout(LogoutRule),
    /// The gateway's refresh endpoint.
    Refresh,
    /// The public keys.
    PublicKeys,
    /// The gateway's own logout: of this session, always answered in JSON.
    Signout,
    /// The list of the user's own sessions.
    OwnSessions,
    /// One of the user's own sessions, to be ended; the last segment of the path names it.
    OwnSession,
    /// The path of a refresh or a logout with a method that nobody named: it is neither, and must not reach the application as if
    /// it were.
    NotAllowed {
        allow: Vec<Method>,
    },
}

/// The upstream serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRule {
    pub auth: Auth,
    pub upstream: UpstreamId,
    /// Whether the request may turn into a WebSocket.
    pub websocket: bool,
    pub unauthenticated: Unauthenticated,
    /// Whether the upstream's answer may end the session.
    pub session_control: bool,
    /// What is made of the upstream's own 401 to a request with a live session.
    pub upstream_401: Upstream401,
    /// Instead of `session.anti_csrf`.
    pub anti_csrf: Option<AntiCsrf>,
    /// What the upstream does not see of the path: canonical, without a slash at the end.
    pub strip_prefix: Option<String>,
    /// The operator knows that other paths of the upstream can be reached by this rule.
    pub exposes_subpaths: bool,
    pub host: UpstreamHost,
    /// The most that the body of a request may have, instead of `server.limits.body_bytes`.
    pub body_bytes: Option<u64>,
    pub timeouts: RouteTimeouts,
}

/// What the upstream finds in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client asked for.
    Keep,
    /// The server's own.
    Server,
    Name(HeaderValue),
}

/// What differs from the upstream's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteTimeouts {
    pub connect: Option<Duration>,
    pub response: Option<Duration>,
    pub stall: Option<Duration>,
    pub total: Option<Duration>,
}

impl RouteTimeouts {
    const NONE: Self = Self {
        connect: None,
        response: None,
        stall: None,
        total: None,
    };
}

/// What is made of an upstream's 401 to a request whose session is live: to the browser SDKs it says that the session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream401 {
    Pass,
    /// 403, which tells no SDK to refresh.
    Forbidden,
}

/// Whether a request needs a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Anonymous even with a session: the upstream is told of nobody.
    None,
    /// The upstream is told who it is, if anyone.
    Optional,
    Required,
}

/// What is answered for want of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// Page navigations are redirected to the login path, if there is one; the rest gets 401.
    Auto,
    /// Everything is redirected to the login path.
    Redirect,
    /// Everything gets 401.
    Status401,
}

/// The upstream serves, and its answer may open a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRule {
    pub upstream: UpstreamId,
    /// Instead of `session.anti_csrf`.
    pub anti_csrf: Option<AntiCsrf>,
}

/// Ends sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutRule {
    pub scope: LogoutScope,
    /// Where page navigations are sent unless they ask for another of `redirect_allow`.
    pub redirect: RedirectTarget,
    /// What `?redirect=` may ask for, byte for byte; holds `redirect` too.
    pub redirect_allow: Vec<RedirectTarget>,
    /// Whether the upstream sees the request, after the session has ended.
    pub forward: bool,
    /// Cookies of the application that are cleared as well.
    pub clear_cookies: Vec<String>,
    /// Directives of the `Clear-Site-Data` header; none: no header.
    pub clear_site_data: Vec<ClearSiteData>,
    pub upstream: UpstreamId,
    /// Instead of `session.anti_csrf`.
    pub anti_csrf: Option<AntiCsrf>,
}

impl RuleTarget {
    fn anti_csrf(&self) -> Option<AntiCsrf> {
        match self {
            Self::Forward(rule) => rule.anti_csrf,
            Self::Login(rule) => rule.anti_csrf,
            Self::Logout(rule) => rule.anti_csrf,
            _ => None,
        }
    }
}

/// Whose sessions a logout ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutScope {
    /// The one that the request comes with.
    Session,
    /// All of its user.
    User,
}

/// What a browser is asked to forget (W3C Clear Site Data).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearSiteData {
    Cookies,
    Storage,
    Cache,
    ExecutionContexts,
    All,
}

impl ClearSiteData {
    pub const ALL: [Self; 5] = [
        Self::Cookies,
        Self::Storage,
        Self::Cache,
        Self::ExecutionContexts,
        Self::All,
    ];

    /// The directive without its quotes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cookies => "cookies",
            Self::Storage => "storage",
            Self::Cache => "cache",
            Self::ExecutionContexts => "executionContexts",
            Self::All => "*",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        Self::ALL
            .into_iter()
            .find(|directive| directive.name() == text)
            .ok_or_else(|| {
                values::one_of(&Self::ALL.map(|directive| format!("{:?}", directive.name()))).into()
            })
    }
}

impl Rules {
    /// `cookie_path` is the one under which browsers send the session's cookies.
    pub(super) fn read(
        root: &mut Section<'_>,
        upstreams: &Upstreams,
        session: &Session,
        cookie_path: &str,
    ) -> Self {
        let (logins, logouts, routes) = read_rules(root, upstreams, cookie_path);
        let login_path = logins.first().map(|login| login.rule.pattern.to_string());
        let twins: Vec<_> = logins
            .iter()
            .chain(&logouts)
            .filter_map(WrittenRule::twin)
            .collect();
        let pages = login_pages(&logins);
        let mut rules = logins;
        rules.extend(logouts);
        rules.extend(routes);
        let mut own = own_endpoints(root, session, &rules);
        own.extend(public_keys(root, session, &rules));
        for mut implied in twins.into_iter().chain(pages) {
            if implied.give_way_to(&rules) {
                rules.push(implied);
            }
        }
        refuse_exposed(root, upstreams, &rules);
        refuse_ways_around(root, upstreams, &rules);
        rules.extend(own);
        rules.extend(other_methods_of_logouts(&rules));
        let fallback = Route {
            id: route_id(0),
            target: RuleTarget::Forward(FALLBACK),
        };
        let patterns = rules.iter().map(|rule| rule.rule.pattern.to_string());
        let labels = std::iter::once("other".to_owned())
            .chain(patterns)
            .collect();
        let anti_csrf_tokens = rules
            .iter()
            .map(|rule| rule.rule.target.anti_csrf())
            .chain([Some(session.anti_csrf)])
            .any(|anti_csrf| anti_csrf == Some(AntiCsrf::Token));
        Self {
            anti_csrf_tokens,
            table: Arc::new(build_table(root, rules)),
            fallback,
            labels,
            login_path,
        }
    }
}

/// What holds for paths that no rule names.
pub(super) const FALLBACK: ForwardRule = ForwardRule {
    auth: Auth::Required,
    upstream: UpstreamId(0),
    websocket: true,
    unauthenticated: Unauthenticated::Auto,
    session_control: false,
    upstream_401: Upstream401::Pass,
    anti_csrf: None,
    strip_prefix: None,
    exposes_subpaths: false,
    host: UpstreamHost::Keep,
    body_bytes: None,
    timeouts: RouteTimeouts::NONE,
};

fn route_id(index: usize) -> RouteId {
    RouteId::new(u32::try_from(index).expect("a file has fewer rules than that"))
}

/// A rule, and where it or what implies it was written.
#[derive(Clone)]
pub(super) struct WrittenRule {
    pub rule: Rule<RuleTarget>,
    pub origin: Origin,
}

impl WrittenRule {
    pub fn new(
        pattern: PathPattern,
        methods: MethodSet,
        origin: Origin,
        target: RuleTarget,
    ) -> Self {
        let rule = Rule {
            pattern,
            methods,
            origin: origin.to_string(),
            target,
        };
        Self { rule, origin }
    }

    /// The same with a slash at the end, or without.
    fn twin(&self) -> Option<Self> {
        let path = self.rule.pattern.to_string();
        if path == "/" || path.ends_with("/**") {
            return None;
        }
        let twin = match path.strip_suffix('/') {
            Some(without) => PathPattern::parse(without),
            None => PathPattern::parse(&format!("{path}/")),
        };
        let mut rule = self.rule.clone();
        rule.pattern = twin.ok()?;
        Some(Self {
            rule,
            origin: self.origin.clone(),
        })
    }

    /// Leaves to `others` what they decide for the same paths; tells whether anything is left.
    fn give_way_to(&mut self, others: &[Self]) -> bool {
        let Some(listed) = self.rule.methods.listed() else {
            return true;
        };
        let is_open = |method: &&Method| {
            !others.iter().any(|other| {
                other.rule.pattern == self.rule.pattern && other.rule.methods.contains(method)
            })
        };
        let open: Vec<_> = listed.iter().filter(is_open).map(Method::as_str).collect();
        match MethodSet::parse(&open) {
            Ok(methods) => {
                self.rule.methods = methods;
                true
            }
            Err(_) => false,
        }
    }
}

/// For each logout's path, the methods that no rule names.
fn other_methods_of_logouts(rules: &[WrittenRule]) -> Vec<WrittenRule> {
    let other_methods = |logout: &WrittenRule| {
        let same_path = rules
            .iter()
            .filter(|other| other.rule.pattern == logout.rule.pattern);
        let listed: Option<Vec<&[Method]>> =
            same_path.map(|other| other.rule.methods.listed()).collect();
        let mut allow = listed?.concat();
        allow.sort_by_key(Method::to_string);
        allow.dedup();
        Some(WrittenRule::new(
            logout.rule.pattern.clone(),
            MethodSet::ANY,
            logout.origin.clone(),
            RuleTarget::NotAllowed { allow },
        ))
    };
    let mut others: Vec<WrittenRule> = Vec::new();
    for rule in rules {
        let is_logout = matches!(rule.rule.target, RuleTarget::Logout(_));
        let is_done = others
            .iter()
            .any(|done| done.rule.pattern == rule.rule.pattern);
        if is_logout && !is_done {
            others.extend(other_methods(rule));
        }
    }
    others
}

/// `GET` and `HEAD` of each login's paths: the page with the form.
fn login_pages(logins: &[WrittenRule]) -> Vec<WrittenRule> {
    let page = |login: &WrittenRule| {
        let RuleTarget::Login(LoginRule {
            upstream,
            anti_csrf,
        }) = login.rule.target
        else {
            return None;
        };
        let target = RuleTarget::Forward(ForwardRule {
            auth: Auth::Optional,
            upstream,
            websocket: false,
            unauthenticated: Unauthenticated::Auto,
            session_control: false,
            upstream_401: Upstream401::Pass,
            anti_csrf,
            ..FALLBACK
        });
        let methods = MethodSet::parse(&["GET", "HEAD"]).ok()?;
        let pattern = login.rule.pattern.clone();
        Some(WrittenRule::new(
            pattern,
            methods,
            login.origin.clone(),
            target,
        ))
    };
    let pages: Vec<_> = logins.iter().filter_map(page).collect();
    let twins: Vec<_> = pages.iter().filter_map(WrittenRule::twin).collect();
    pages.into_iter().chain(twins).collect()
}

/// Refresh, sign-out and the users' own sessions. Their methods are listed, so that a written rule for the same is a conflict and not a silent replacement;
/// every other method is refused. A `[[logout]]` of the sign-out path takes its place.
fn own_endpoints(
    root: &Section<'_>,
    session: &Session,
    written: &[WrittenRule],
) -> Vec<WrittenRule> {
    let is_logout = |path: &PathPattern| {
        written.iter().any(|other| {
            matches!(other.rule.target, RuleTarget::Logout(_))
                && (other.rule.pattern == *path
                    || other.twin().is_some_and(|twin| twin.rule.pattern == *path))
        })
    };
    let mut endpoints = vec![
        (
            session.refresh_path.clone(),
            "session.refresh_path",
            Method::POST,
            RuleTarget::Refresh,
        ),
        (
            session.signout_path.clone(),
            "session.signout_path",
            Method::POST,
            RuleTarget::Signout,
        ),
    ];
    if let Some(path) = &session.self_service {
        let key = "session.self_service_path";
        endpoints.push((path.clone(), key, Method::GET, RuleTarget::OwnSessions));
        let one = format!("{}/*", path.trim_end_matches('/'));
        endpoints.push((one, key, Method::DELETE, RuleTarget::OwnSession));
    }
    let mut rules = Vec::new();
    for (path, key, method, target) in endpoints {
        let Ok(pattern) = PathPattern::parse(&path) else {
            continue;
        };
        if target == RuleTarget::Signout && is_logout(&pattern) {
            continue;
        }
        let other_methods = RuleTarget::NotAllowed {
            allow: vec![method.clone()],
        };
        let its_own = MethodSet::parse(&[method.as_str()]).expect("a method is one");
        for (methods, target) in [(its_own, target), (MethodSet::ANY, other_methods)] {
            let origin = root.origin_of("session");
            let mut rule = WrittenRule::new(pattern.clone(), methods, origin, target);
            rule.rule.origin = format!("the gateway's own {key}");
            rules.push(rule);
        }
    }
    rules
}

/// The public keys, if there are any. An application that has keys of its own there says so with a rule of that path.
fn public_keys(root: &Section<'_>, session: &Session, written: &[WrittenRule]) -> Vec<WrittenRule> {
    let path = PathPattern::parse(JWKS_PATH).expect("a path without wildcards is a pattern");
    let is_taken = written.iter().any(|other| other.rule.pattern == path);
    if is_taken || !session.signing_algorithm.is_asymmetric() {
        return Vec::new();
    }
    let get = MethodSet::parse(&["GET", "HEAD"]).expect("GET and HEAD are methods");
    let other_methods = RuleTarget::NotAllowed {
        allow: vec![Method::GET, Method::HEAD],
    };
    let rule = |(methods, target)| {
        let origin = root.origin_of("session");
        let mut rule = WrittenRule::new(path.clone(), methods, origin, target);
        rule.rule.origin = "the gateway's own public keys".to_owned();
        rule
    };
    [
        (get, RuleTarget::PublicKeys),
        (MethodSet::ANY, other_methods),
    ]
    .map(rule)
    .into()
}

/// Where verifiers look (RFC 8615 for the prefix; the name is what OpenID providers made common).
const JWKS_PATH: &str = "/.well-known/jwks.json";

/// Numbers the rules from 1. Reports conflicts at the place of the later of the two.
fn build_table(root: &Section<'_>, rules: Vec<WrittenRule>) -> RouteTable<Route> {
    let mut origins = BTreeMap::new();
    let mut routes = Vec::new();
    for (at, WrittenRule { rule, origin }) in rules.into_iter().enumerate() {
        origins.insert(rule.origin.clone(), origin);
        routes.push(Rule {
            pattern: rule.pattern,
            methods: rule.methods,
            origin: rule.origin,
            target: Route {
                id: route_id(at + 1),
                target: rule.target,
            },
        });
    }
    RouteTable::build(routes).unwrap_or_else(|conflicts| {
        for conflict in conflicts {
            let later = [&conflict.first.origin, &conflict.second.origin]
                .into_iter()
                .filter_map(|place| origins.get(place))
                .max_by_key(|origin| origin.line());
            root.report_at(later, conflict.to_string());
        }
        RouteTable::build(Vec::new()).expect("no rules have no conflicts")
    })
}
