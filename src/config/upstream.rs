//! `[[upstream]]`, and `server.upstream` that stands for one.

use super::reader::Section;
use super::values::{self, Reason};
use crate::upstream::UpstreamSettings;

/// Position in [`Config::upstreams`](super::Config::upstreams).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamId(pub usize);

/// `server.upstream`, which stands for an `[[upstream]]` with nothing but this server.
pub(super) fn read_short_upstream(section: &mut Section<'_>) -> Option<UpstreamSettings> {
    let authority = section.optional_text("upstream", values::server)?;
    let duration = |text| values::duration(text).expect("a default is a duration");
    Some(UpstreamSettings {
        name: "app".into(),
        authority,
        connect_timeout: duration(CONNECT_TIMEOUT),
        response_timeout: duration(RESPONSE_TIMEOUT),
        idle_timeout: duration(IDLE_TIMEOUT),
        idle_connections: usize::try_from(IDLE_CONNECTIONS).expect("a default is not negative"),
    })
}

/// An `[[upstream]]`, and its name even if the rest is wrong.
fn read_upstream(section: &mut Section<'_>) -> (Option<String>, Option<UpstreamSettings>) {
    let name = section.required_text(
        "name",
        r#"a name for rules to use, such as "app""#,
        name_of_upstream,
    );
    let servers = section.required_texts(
        "servers",
        r#"a list with one server, such as ["http://127.0.0.1:3000"]"#,
        values::server,
    );
    if section.has("servers") && section.count("servers") != 1 {
        section.refuse(
            "servers",
            "exactly one server (this version does not balance)",
        );
    }
    let connect_timeout = section.duration("connect_timeout", CONNECT_TIMEOUT, ("1ms", "5m"));
    let response_timeout = section.duration("response_timeout", RESPONSE_TIMEOUT, ("1ms", "1d"));
    let idle_timeout = section.duration("idle_timeout", IDLE_TIMEOUT, ("1ms", "1h"));
    let idle_connections = section.integer("idle_connections", IDLE_CONNECTIONS, (0, 100_000));
    let upstream = name
        .as_deref()
        .zip(servers.into_iter().next())
        .map(|(name, authority)| UpstreamSettings {
            name: name.into(),
            authority,
            connect_timeout,
            response_timeout,
            idle_timeout,
            idle_connections,
        });
    (name, upstream)
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
    ) -> Self {
        let mut upstreams = Self {
            complete: Vec::new(),
            names: Vec::new(),
        };
        root.sections("upstream", |section| {
            let (name, upstream) = read_upstream(section);
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

/// A connection stands in milliseconds or, as a rule, not at all.
const CONNECT_TIMEOUT: &str = "5s";
/// What common reverse proxies wait.
const RESPONSE_TIMEOUT: &str = "60s";
/// Below the 5s after which Node.js closes a connection, so that it is never the upstream that closes under a request.
const IDLE_TIMEOUT: &str = "4s";
/// As many as one worker usefully has under way.
const IDLE_CONNECTIONS: i64 = 64;
