//! `[[upstream]]`, and `server.upstream` that stands for one.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::reader::Section;
use super::values::{self, Reason};
use crate::upstream::{
    EjectionSettings, HealthSettings, HttpVersion, MAX_SERVERS, ServerUrl, Timeouts, TlsIdentity,
    TlsSettings, Total, UpstreamSettings,
};

/// Position in [`Config::upstreams`](super::Config::upstreams).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamId(pub usize);

/// `server.upstream`, which stands for an `[[upstream]]` with nothing but this server.
pub(super) fn read_short_upstream(
    section: &mut Section<'_>,
    base: &Path,
) -> Option<UpstreamSettings> {
    let server = section.optional_text("upstream", |text| values::server(text, base))?;
    Some(with_defaults("app".into(), vec![server]))
}

fn with_defaults(name: Arc<str>, servers: Vec<ServerUrl>) -> UpstreamSettings {
    let duration = |text| values::duration(text).expect("a default is a duration");
    let count = |number| usize::try_from(number).expect("a default is not negative");
    UpstreamSettings {
        name,
        servers,
        weights: Vec::new(),
        http: HttpVersion::Http1,
        tls: TlsSettings::default(),
        timeouts: Timeouts {
            connect: duration(CONNECT_TIMEOUT),
            response: duration(RESPONSE_TIMEOUT),
            stall: duration(STALL_TIMEOUT),
            total: None,
        },
        idle_timeout: duration(IDLE_TIMEOUT),
        idle_connections: count(IDLE_CONNECTIONS),
        connections: count(CONNECTIONS),
        waiting: count(WAITING_REQUESTS),
        retries: count(RETRIES),
        ejection: EjectionSettings {
            failures: u32::try_from(EJECTION_FAILURES).expect("a default is small"),
            time: duration(EJECTION_TIME),
        },
        health: None,
        resolve_interval: duration(RESOLVE_INTERVAL),
    }
}

/// An `[[upstream]]`, and its name even if the rest is wrong.
fn read_upstream(
    section: &mut Section<'_>,
    base: &Path,
) -> (Option<String>, Option<UpstreamSettings>) {
    let name = section.required_text(
        "name",
        r#"a name for rules to use, such as "app""#,
        name_of_upstream,
    );
    let servers = section.required_texts(
        "servers",
        r#"a list of servers, such as ["http://127.0.0.1:3000"]"#,
        |text| values::server(text, base),
    );
    let count = section.count("servers");
    let has_twins = (1..servers.len()).any(|at| servers[..at].contains(&servers[at]));
    if section.has("servers") && (!(1..=MAX_SERVERS).contains(&count) || has_twins) {
        section.refuse(
            "servers",
            &format!("from 1 to {MAX_SERVERS} servers, each of them once"),
        );
    }
    let http = section.one_of(
        "http",
        &[
            ("1.1", HttpVersion::Http1),
            ("2", HttpVersion::Http2),
            ("auto", HttpVersion::Auto),
        ],
    );
    let weights = section.optional_integers("weights", WEIGHTS);
    if weights.as_ref().is_some_and(|all| all.len() != count) {
        section.refuse("weights", "as many numbers as servers, in their order");
    }
    let upstream = UpstreamSettings {
        http,
        weights: weights.unwrap_or_default().into_iter().map(small).collect(),
        tls: read_tls(section, &servers, base),
        timeouts: Timeouts {
            connect: section.duration("connect_timeout", CONNECT_TIMEOUT, CONNECT_LIMITS),
            response: section.duration("response_timeout", RESPONSE_TIMEOUT, RESPONSE_LIMITS),
            stall: section.duration("stall_timeout", STALL_TIMEOUT, STALL_LIMITS),
            total: section
                .optional_duration("total_timeout", STALL_LIMITS)
                .map(|limit| Total {
                    limit,
                    for_streams: false,
                }),
        },
        idle_timeout: section.duration("idle_timeout", IDLE_TIMEOUT, ("1ms", "1h")),
        idle_connections: section.integer("idle_connections", IDLE_CONNECTIONS, (0, 100_000)),
        connections: section.integer("connections", CONNECTIONS, (1, 100_000)),
        waiting: section.integer("waiting_requests", WAITING_REQUESTS, (0, 100_000)),
        retries: section.integer("retries", RETRIES, (0, 10)),
        ejection: EjectionSettings {
            failures: small(section.integer("ejection_failures", EJECTION_FAILURES, (0, 1000))),
            time: section.duration("ejection_time", EJECTION_TIME, ("10ms", "5m")),
        },
        health: read_health(section),
        resolve_interval: section.duration("resolve_interval", RESOLVE_INTERVAL, ("1s", "1d")),
        ..with_defaults("".into(), servers)
    };
    let is_whole = !upstream.servers.is_empty();
    let upstream = name
        .as_deref()
        .filter(|_| is_whole)
        .map(|name| UpstreamSettings {
            name: name.into(),
            ..upstream
        });
    (name, upstream)
}

fn read_tls(section: &mut Section<'_>, servers: &[ServerUrl], base: &Path) -> TlsSettings {
    const KEYS: [&str; 4] = [
        "tls_ca_file",
        "tls_server_name",
        "tls_certificate",
        "tls_key",
    ];
    let [ca_file, server_name, certificate, key] = KEYS;
    let tls = TlsSettings {
        ca_file: section.optional_text(ca_file, |text| values::file(text, base)),
        server_name: section.optional_text(server_name, values::server_name),
        identity: None,
    };
    let certificate = section.optional_text(certificate, |text| values::file(text, base));
    let key = section.optional_text(key, |text| values::file(text, base));
    if section.has("tls_certificate") != section.has("tls_key") {
        let alone = match section.has("tls_key") {
            true => "tls_key",
            false => "tls_certificate",
        };
        section.conflict(alone, "tls_certificate and tls_key go together");
    }
    let useless = KEYS.into_iter().find(|key| section.has(key));
    if let Some(useless) = useless.filter(|_| !servers.iter().any(ServerUrl::is_tls)) {
        section.conflict(useless, "no server of this upstream is https");
    }
    let identity = certificate.zip(key);
    TlsSettings {
        identity: identity.map(|(certificate, key)| TlsIdentity { certificate, key }),
        ..tls
    }
}

fn read_health(section: &mut Section<'_>) -> Option<HealthSettings> {
    let path = section.optional_text("health_path", values::health_path);
    let interval = section.duration("health_interval", HEALTH_INTERVAL, ("10ms", "1h"));
    let timeout = section.duration("health_timeout", HEALTH_TIMEOUT, ("1ms", "5m"));
    let rise = small(section.integer("health_rise", HEALTH_RISE, (1, 1000)));
    let fall = small(section.integer("health_fall", HEALTH_FALL, (1, 1000)));
    let status = section.optional_integer("health_status", (200, 599));
    Some(HealthSettings {
        path: path?,
        interval,
        timeout,
        rise,
        fall,
        status: status.and_then(|status| u16::try_from(status).ok()),
    })
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("its limit is small")
}

fn name_of_upstream(text: &str) -> Result<String, Reason> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || !text.bytes().all(is_plain) {
        return Err("a name of letters, digits, hyphens and underscores".into());
    }
    Ok(text.to_owned())
}

/// What the configuration says of upstreams.
pub(super) struct Upstreams {
    /// Those without mistakes.
    pub complete: Vec<UpstreamSettings>,
    /// Of all of them, so that a mistake in one is not reported again by each rule that names it.
    names: Vec<String>,
}

impl Upstreams {
    /// Reports if there is none.
    pub(super) fn read(
        root: &mut Section<'_>,
        short: Option<UpstreamSettings>,
        has_short: bool,
        base: &Path,
    ) -> Self {
        let mut upstreams = Self {
            complete: Vec::new(),
            names: Vec::new(),
        };
        root.sections("upstream", |section| {
            let (name, upstream) = read_upstream(section, base);
            if name
                .as_ref()
                .is_some_and(|name| upstreams.names.contains(name))
            {
                section.refuse("name", "a name that no other upstream has");
            }
            upstreams.names.extend(name);
            upstreams.complete.extend(upstream);
        });
        match (root.count("upstream") > 0, has_short) {
            (true, true) => root.conflict(
                "upstream",
                "server.upstream is given too: name the server in one place",
            ),
            (false, false) => root.miss(
                "upstream",
                r#"an [[upstream]], or in short [server] upstream = "http://127.0.0.1:3000""#,
            ),
            (true, false) | (false, true) => {}
        }
        if let Some(short) = short {
            upstreams.names.push(short.name.to_string());
            upstreams.complete.push(short);
        }
        upstreams
    }

    /// Whether two upstreams are the same application, in whole or in part.
    pub fn share_servers(&self, one: UpstreamId, other: UpstreamId) -> bool {
        let servers = |id: UpstreamId| self.complete.get(id.0).map(|upstream| &upstream.servers);
        one == other
            || servers(one)
                .zip(servers(other))
                .is_some_and(|(one, other)| {
                    let mut places = one.iter().map(place);
                    places.any(|one| other.iter().map(place).any(|other| one == other))
                })
    }

    /// The key `upstream` of a rule; the first one if it is absent.
    pub fn of_rule(&self, section: &mut Section<'_>) -> UpstreamId {
        let named = section.optional_text("upstream", |text| {
            self.names
                .iter()
                .position(|name| name == text)
                .ok_or_else(|| {
                    let names: Vec<_> = self.names.iter().map(|name| format!("{name:?}")).collect();
                    format!("the name of an upstream: {}", values::one_of(&names)).into()
                })
        });
        UpstreamId(named.unwrap_or(0))
    }
}

/// Where a server is, however it is written: whoever listens there is one application, with TLS and without.
fn place(server: &ServerUrl) -> String {
    let ServerUrl::Tcp { tls, authority } = server else {
        return server.to_string();
    };
    let host = authority.host().trim_matches(['[', ']']);
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let host = match host.parse::<IpAddr>() {
        Ok(address) if address.to_canonical().is_loopback() => "localhost".to_owned(),
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => host,
    };
    let port = authority.port_u16().unwrap_or(if *tls { 443 } else { 80 });
    format!("{host} {port}")
}

/// Of one server, compared with the others.
const WEIGHTS: (i64, i64) = (1, 1000);
/// A connection stands in milliseconds or, as a rule, not at all.
const CONNECT_TIMEOUT: &str = "5s";
pub(super) const CONNECT_LIMITS: (&str, &str) = ("1ms", "5m");
/// What common reverse proxies wait.
const RESPONSE_TIMEOUT: &str = "60s";
pub(super) const RESPONSE_LIMITS: (&str, &str) = ("1ms", "1d");
/// Longer than the pauses of streams that show that they live, as those for browsers do.
const STALL_TIMEOUT: &str = "5m";
pub(super) const STALL_LIMITS: (&str, &str) = ("1ms", "30d");
/// Below the 5s after which Node.js closes a connection, so that it is never the upstream that closes under a request.
const IDLE_TIMEOUT: &str = "4s";
/// As many as one worker usefully has under way.
const IDLE_CONNECTIONS: i64 = 64;
/// More at once is a server that does not keep up.
const CONNECTIONS: i64 = 512;
/// As many again: who comes later waits longer than it takes to try again.
const WAITING_REQUESTS: i64 = 512;
/// One server that just ended, and one that is just starting.
const RETRIES: i64 = 2;
/// Chance gives one or two.
const EJECTION_FAILURES: i64 = 5;
/// A restart takes about as long.
const EJECTION_TIME: &str = "10s";
/// As long as most names are good for.
const RESOLVE_INTERVAL: &str = "30s";
/// With the number of failures that it takes, a server is out after 15s.
const HEALTH_INTERVAL: &str = "5s";
const HEALTH_TIMEOUT: &str = "2s";
const HEALTH_RISE: i64 = 2;
const HEALTH_FALL: i64 = 3;
