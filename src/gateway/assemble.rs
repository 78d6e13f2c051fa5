//! From the configuration to the settings of each module: the one place that knows both.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use crate::config::{self, Config, Route, RuleTarget};
use crate::cookie::SessionCookies;
use crate::gateway::key_keeper::KeyKeeperSettings;
use crate::issuer::IssuerSettings;
use crate::proxy::listener::{ConnectionsByAddress, ListenerSettings};
use crate::proxy::{
    Action, Admission, AntiCsrf, Auth, ForwardPolicy, ForwardedHeaders, HeaderRules, LogoutPolicy,
    LogoutScope, Origins, OwnOrigin, Policy, ProxySettings, RateSettings, Teller, TrustedProxies,
    Unauthenticated, UpstreamHost, clear_site_data,
};
use crate::refresher::RefresherSettings;
use crate::route::RouteTable;
use crate::upstream::{Timeouts, Total};

/// The rules as the proxy takes them.
pub struct Routes {
    pub table: RouteTable<Arc<Policy>>,
    pub default_policy: Arc<Policy>,
}

pub fn routes(config: &Config, teller: &Teller) -> Routes {
    let policy = |route: &Route, label: String| {
        Arc::new(Policy {
            route: route.id,
            label,
            action: action(&route.target, teller, config),
        })
    };
    Routes {
        table: config
            .rules
            .table
            .map(|(name, route)| policy(route, name.pattern.to_string())),
        default_policy: policy(&config.rules.fallback, "other".to_owned()),
    }
}

fn action(target: &RuleTarget, teller: &Teller, config: &Config) -> Action {
    let session = &config.session;
    let own = anti_csrf(session.anti_csrf);
    match target {
        RuleTarget::Forward(rule) => Action::Forward(forward(rule, own, config)),
        RuleTarget::Login(rule) => Action::Login(open_to_all(
            rule.upstream,
            rule.anti_csrf.map_or(own, anti_csrf),
            config.server.limits.body_bytes,
        )),
        RuleTarget::Logout(rule) => Action::Logout(logout(rule, teller, own, config)),
        RuleTarget::Refresh => Action::Refresh(match own {
            // Where it comes from is still asked.
            AntiCsrf::CustomHeader | AntiCsrf::Token if !session.anti_csrf_on_refresh => {
                AntiCsrf::Origin
            }
            own => own,
        }),
        RuleTarget::PublicKeys => Action::PublicKeys,
        RuleTarget::OwnSessions => Action::OwnSessions(for_scripts(own)),
        RuleTarget::OwnSession => Action::OwnSession(for_scripts(own)),
        RuleTarget::NotAllowed { allow } => {
            let allow: Vec<&str> = allow.iter().map(http::Method::as_str).collect();
            Action::NotAllowed {
                allow: header(&allow.join(", ")),
            }
        }
        RuleTarget::Signout => Action::Logout(LogoutPolicy {
            scope: LogoutScope::Session,
            anti_csrf: own,
            redirect: None,
            redirect_allow: Vec::new(),
            forward: None,
            clear_cookies: Vec::new(),
            clear_site_data: None,
        }),
    }
}

fn anti_csrf(configured: config::AntiCsrf) -> AntiCsrf {
    match configured {
        config::AntiCsrf::Origin => AntiCsrf::Origin,
        config::AntiCsrf::CustomHeader => AntiCsrf::CustomHeader,
        config::AntiCsrf::Token => AntiCsrf::Token,
        config::AntiCsrf::Off => AntiCsrf::Off,
    }
}

/// `own` is what holds for all paths.
fn forward(rule: &config::ForwardRule, own: AntiCsrf, config: &Config) -> ForwardPolicy {
    ForwardPolicy {
        admission: Admission {
            auth: match rule.auth {
                config::Auth::None => Auth::None,
                config::Auth::Optional => Auth::Optional,
                config::Auth::Required => Auth::Required,
            },
            unauthenticated: match rule.unauthenticated {
                config::Unauthenticated::Auto => Unauthenticated::Auto,
                config::Unauthenticated::Redirect => Unauthenticated::Redirect,
                config::Unauthenticated::Status401 => Unauthenticated::Status,
            },
            anti_csrf: rule.anti_csrf.map_or(own, anti_csrf),
        },
        upstream: rule.upstream.0,
        websocket: rule.websocket,
        session_control: rule.session_control,
        forbid_upstream_401: rule.upstream_401 == config::Upstream401::Forbidden,
        strip_prefix: rule.strip_prefix.clone(),
        host: match &rule.host {
            config::UpstreamHost::Keep => UpstreamHost::Keep,
            config::UpstreamHost::Server => UpstreamHost::Server,
            config::UpstreamHost::Name(name) => UpstreamHost::Name(name.clone()),
        },
        body_bytes: rule.body_bytes.or(config.server.limits.body_bytes),
        timeouts: timeouts(rule, config),
    }
}

/// `None`: those of the upstream, as they are.
fn timeouts(rule: &config::ForwardRule, config: &Config) -> Option<Timeouts> {
    let config::RouteTimeouts {
        connect,
        response,
        stall,
        total,
    } = rule.timeouts;
    let any = [connect, response, stall, total]
        .iter()
        .any(Option::is_some);
    let general = config.upstreams.get(rule.upstream.0)?.timeouts;
    any.then(|| Timeouts {
        connect: connect.unwrap_or(general.connect),
        response: response.unwrap_or(general.response),
        stall: stall.unwrap_or(general.stall),
        // Whoever says it of a route means all that is there.
        total: match total {
            Some(limit) => Some(Total {
                limit,
                for_streams: true,
            }),
            None => general.total,
        },
    })
}

/// For whoever comes to log in, or has just logged out.
fn open_to_all(
    upstream: config::UpstreamId,
    anti_csrf: AntiCsrf,
    body_bytes: Option<u64>,
) -> ForwardPolicy {
    ForwardPolicy {
        admission: Admission {
            auth: Auth::Optional,
            unauthenticated: Unauthenticated::Auto,
            anti_csrf,
        },
        upstream: upstream.0,
        websocket: false,
        session_control: false,
        forbid_upstream_401: false,
        strip_prefix: None,
        host: UpstreamHost::Keep,
        body_bytes,
        timeouts: None,
    }
}

/// Whoever has a session; the rest gets 401 and never a page.
fn for_scripts(anti_csrf: AntiCsrf) -> Admission {
    Admission {
        auth: Auth::Required,
        unauthenticated: Unauthenticated::Status,
        anti_csrf,
    }
}

fn logout(
    rule: &config::LogoutRule,
    teller: &Teller,
    own: AntiCsrf,
    config: &Config,
) -> LogoutPolicy {
    let anti_csrf = rule.anti_csrf.map_or(own, anti_csrf);
    let kinds: Vec<&str> = rule
        .clear_site_data
        .iter()
        .map(|kind| kind.name())
        .collect();
    LogoutPolicy {
        scope: match rule.scope {
            config::LogoutScope::Session => LogoutScope::Session,
            config::LogoutScope::User => LogoutScope::User,
        },
        anti_csrf,
        redirect: Some(header(rule.redirect.as_str())),
        redirect_allow: rule
            .redirect_allow
            .iter()
            .map(|target| header(target.as_str()))
            .collect(),
        forward: rule
            .forward
            .then(|| open_to_all(rule.upstream, anti_csrf, config.server.limits.body_bytes)),
        clear_cookies: rule
            .clear_cookies
            .iter()
            .map(|name| teller.cookies.clearing_of(name))
            .collect(),
        clear_site_data: clear_site_data(&kinds),
    }
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).expect("the configuration takes only visible ASCII here")
}

pub fn teller(config: &Config) -> Teller {
    let cookies = SessionCookies::new(config.cookies.clone());
    let session_over_status = StatusCode::from_u16(config.session.session_over_status)
        .unwrap_or(StatusCode::UNAUTHORIZED);
    Teller {
        cookies,
        anti_csrf_tokens: config.rules.anti_csrf_tokens,
        session_over_status,
    }
}

pub fn proxy(config: &Config) -> ProxySettings {
    let public_url = config.server.public_url.as_ref();
    ProxySettings {
        scheme: if public_url.is_some_and(config::PublicUrl::is_https) {
            "https"
        } else {
            "http"
        },
        public_url: public_url.map(ToString::to_string),
        hsts: config
            .server
            .tls
            .as_ref()
            .and_then(|tls| tls.hsts)
            .map(|age| header(&format!("max-age={}", age.as_secs()))),
        header_count: config.server.limits.header_count,
        encoded_slash: config.server.encoded_slash,
        certificates_for: config
            .server
            .tls
            .as_ref()
            .and_then(|tls| tls.certificates.clients.as_ref())
            .filter(|clients| clients.required)
            .map(|clients| clients.hosts.clone()),
        trusted_proxies: trusted_proxies(&config.server.trusted_proxies),
        origins: Origins {
            own: public_url.map_or(OwnOrigin::Host, |url| {
                OwnOrigin::Configured(url.to_string())
            }),
            allowed: config
                .session
                .allowed_origins
                .iter()
                .map(ToString::to_string)
                .collect(),
        },
        header_mode: config.session.header_mode,
        refresh_in_line: config.session.refresh == config::Refresh::Transparent,
        login_path: config.rules.login_path.clone(),
        body_timeout: config.server.limits.body_timeout,
        write_timeout: config.server.limits.write_timeout,
        websocket_idle: config.server.limits.websocket_idle,
        max_stream_age: config.server.limits.max_stream_age,
        assertion_audience: config
            .identity
            .assertion
            .as_ref()
            .map(|to| to.audience.clone()),
    }
}

fn trusted_proxies(configured: &config::TrustedProxies) -> TrustedProxies {
    TrustedProxies {
        networks: configured.networks.clone(),
        headers: match configured.headers {
            config::ForwardedHeaders::XForwarded => ForwardedHeaders::XForwarded,
            config::ForwardedHeaders::Forwarded => ForwardedHeaders::Forwarded,
        },
    }
}

pub fn rates(config: &Config) -> RateSettings {
    let configured = config.server.limits.rates;
    RateSettings {
        login: configured.login,
        refresh: configured.refresh,
        logout: configured.logout,
    }
}

pub fn header_rules(config: &Config) -> HeaderRules {
    let identity = &config.identity;
    let assertion = identity.assertion.as_ref().map(|to| to.header.clone());
    HeaderRules::new(identity.user_header.clone()).with_assertion(assertion)
}

pub fn key_keeper(config: &Config) -> KeyKeeperSettings {
    KeyKeeperSettings {
        rotate_after: config.keys.rotate_after,
        algorithm: config.session.signing_algorithm,
    }
}

pub fn listener(config: &Config, by_address: Option<ConnectionsByAddress>) -> ListenerSettings {
    let limits = &config.server.limits;
    ListenerSettings {
        connections: limits.connections.div_ceil(config.server.workers),
        by_address,
        handshakes: limits.handshakes.div_ceil(config.server.workers),
        handshake_timeout: limits.handshake_timeout,
        streams: u32::try_from(limits.streams).unwrap_or(u32::MAX),
        header_bytes: limits.header_bytes,
        header_count: limits.header_count,
        head_timeout: limits.head_timeout,
        write_timeout: limits.write_timeout,
        keep_alive_timeout: limits.keep_alive_timeout,
    }
}

pub fn issuer(config: &Config) -> IssuerSettings {
    IssuerSettings {
        issuer: config
            .server
            .public_url
            .as_ref()
            .map_or_else(|| "portcullis".to_owned(), ToString::to_string),
        lifetimes: config.session.lifetimes,
        algorithm: config.session.signing_algorithm,
    }
}

/// The cap is for clients that loop, not for those whose tokens live a few seconds: twice what these need is always allowed.
pub fn refresher(config: &Config) -> RefresherSettings {
    let lifetimes = config.session.lifetimes;
    let needed = 60_u64.div_ceil(lifetimes.access.as_secs().max(1));
    let least = u32::try_from(needed * 2).unwrap_or(u32::MAX);
    let configured = u32::try_from(config.session.refreshes_per_minute).unwrap_or(u32::MAX);
    RefresherSettings {
        refreshes_per_minute: configured.max(least),
        reuse_grace: lifetimes.reuse_grace,
    }
}
