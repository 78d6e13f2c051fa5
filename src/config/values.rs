//! What a text in the configuration can mean: durations, sizes, addresses, URLs. Each parser answers with the value or with
//! what it would have accepted.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, Uri};
use ipnet::IpNet;

use crate::store::StoreLocation;

use crate::upstream::ServerUrl;

/// What is allowed, as said after "expected".
pub(super) type Reason = Cow<'static, str>;

pub(super) fn duration(text: &str) -> Result<Duration, Reason> {
    humantime::parse_duration(text)
        .map_err(|_| r#"a duration such as "250ms", "30m" or "100d""#.into())
}

/// A duration as the configuration would write it.
pub(super) fn shown_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1000, "s"),
    ];
    let millis = duration.as_millis();
    let unit = UNITS
        .into_iter()
        .find(|(length, _)| millis >= *length && millis.is_multiple_of(*length));
    match unit {
        Some((length, unit)) => format!("\"{}{unit}\"", millis / length),
        None => format!("\"{millis}ms\""),
    }
}

/// `16KiB`, `1MB`, `512` (bytes).
pub(super) fn bytes(text: &str) -> Option<usize> {
    const UNITS: [(&str, usize); 6] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("KB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
    ];
    let (number, unit) = UNITS
        .into_iter()
        .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)))
        .unwrap_or((text, 1));
    let number: usize = number.trim_end().parse().ok()?;
    number.checked_mul(unit)
}

pub(super) fn one_of(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Reason> {
    text.parse()
        .map_err(|_| r#"an IP address and a port such as "127.0.0.1:8080" or "[::1]:8080""#.into())
}

/// A network, or one address, which is the smallest.
pub(super) fn network(text: &str) -> Result<IpNet, Reason> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| r#"a network or an address such as "10.0.0.0/8" or "fd00::1""#.into())
}

/// Scheme, host and port that browsers see: what cookies, origin checks and redirects are measured against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl {
    https: bool,
    /// In lower case.
    host: String,
    /// `None` when it is the scheme's own.
    port: Option<u16>,
}

impl PublicUrl {
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let parse = || {
            let uri = bare_uri(text)?;
            let https = match uri.scheme_str()? {
                "https" => true,
                "http" => false,
                _ => return None,
            };
            let authority = uri.authority()?;
            let default = if https { 443 } else { 80 };
            Some(Self {
                https,
                host: authority.host().to_ascii_lowercase(),
                port: authority.port_u16().filter(|port| *port != default),
            })
        };
        parse().ok_or_else(|| {
            r#"scheme and host without a path, such as "https://app.example.com""#.into()
        })
    }

    pub fn is_https(&self) -> bool {
        self.https
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// Without a port that is the scheme's own, as browsers write the `Host` header.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

/// As browsers write the `Origin` header (RFC 6454 section 6.2): `https://app.example.com`.
impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// An origin whose pages are trusted: a whole one, since neither browsers nor we know patterns.
pub(super) fn origin(text: &str) -> Result<PublicUrl, Reason> {
    PublicUrl::parse(text)
        .ok()
        .filter(|url| !url.host.contains('*'))
        .ok_or_else(|| r#"scheme and host of pages, such as "https://www.example.com""#.into())
}

/// A URL of scheme, host and perhaps port, and nothing else.
fn bare_uri(text: &str) -> Option<Uri> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#', '@']) {
        return None;
    }
    let uri: Uri = text.parse().ok()?;
    let authority = uri.authority()?;
    authority_is_whole(authority).then_some(uri)
}

fn authority_is_whole(authority: &Authority) -> bool {
    let port_is_well_formed = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => true,
        Some(port) => authority.port_u16().is_some_and(|number| number > 0) && port.len() > 1,
        None => false,
    };
    !authority.host().is_empty() && port_is_well_formed
}

/// A server of an upstream: where to connect. A socket's path starts from `base` if it is relative.
pub(super) fn server(text: &str, base: &Path) -> Result<ServerUrl, Reason> {
    let allowed = r#"http or https, host and port without a path, such as "http://127.0.0.1:3000", or the path of a socket, such as "unix:/run/app.sock""#;
    if let Some(path) = text.strip_prefix("unix:") {
        let is_path = !path.is_empty() && !path.contains('\0');
        return match is_path {
            true => Ok(ServerUrl::Unix(base.join(path))),
            false => Err(allowed.into()),
        };
    }
    let uri = bare_uri(text).ok_or(allowed)?;
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(allowed.into()),
    };
    let authority = uri.authority().cloned().ok_or(allowed)?;
    Ok(ServerUrl::Tcp { tls, authority })
}

/// The name that a server's certificate is for: a host name or an address.
pub(super) fn server_name(text: &str) -> Result<String, Reason> {
    match rustls::pki_types::ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(r#"a host name or an address, such as "app.internal""#.into()),
    }
}

/// A host name, or `*.` and the rest of one for any first label.
pub(super) fn host_pattern(text: &str) -> Result<String, Reason> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    match rustls::pki_types::ServerName::try_from(name) {
        Ok(rustls::pki_types::ServerName::DnsName(_)) => Ok(text.to_owned()),
        _ => Err(r#"a host name, such as "admin.example.com" or "*.example.com""#.into()),
    }
}

/// What can stand in `Host`: a name or an address, and perhaps a port.
pub(super) fn host(text: &str) -> Result<HeaderValue, Reason> {
    let authority: Option<Authority> = text.parse().ok();
    authority
        .filter(|authority| authority_is_whole(authority) && text.contains(['.', ':']))
        .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok())
        .ok_or_else(|| r#""keep", "upstream", or a host with a dot or a port in it, such as "app.internal" or "app:3000""#.into())
}

/// What is asked for to see whether a server is well.
pub(super) fn health_path(text: &str) -> Result<PathAndQuery, Reason> {
    let path = text.starts_with('/').then(|| text.parse().ok()).flatten();
    path.filter(|path: &PathAndQuery| path.as_str() == text)
        .ok_or_else(|| r#"a path, such as "/healthz""#.into())
}

/// Where the store is; the path of a file is taken from `base`.
pub(super) fn store_location(text: &str, base: &Path) -> Result<StoreLocation, Reason> {
    Ok(match StoreLocation::parse(text)? {
        StoreLocation::Sqlite(path) => StoreLocation::Sqlite(base.join(path)),
        server => server,
    })
}

pub(super) fn file(text: &str, base: &Path) -> Result<PathBuf, Reason> {
    if text.is_empty() || text.contains('\0') {
        return Err("the path of a file".into());
    }
    Ok(base.join(text))
}

/// A domain for cookies, in lower case, without the leading dot that browsers ignore (RFC 6265 section 5.2.3).
pub(super) fn domain(text: &str) -> Result<String, Reason> {
    let name = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    if name.len() > 253 || !name.split('.').all(is_label) || name.split('.').all(is_number) {
        return Err(r#"a domain such as "example.com""#.into());
    }
    Ok(name)
}

/// The value of a cookie's `Path` attribute.
pub(super) fn cookie_path(text: &str) -> Result<String, Reason> {
    let is_path = text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b';');
    if !is_path {
        return Err(r#"a path such as "/""#.into());
    }
    Ok(text.to_owned())
}

/// A cookie's name (RFC 6265 section 4.1.1: a token).
pub(super) fn cookie_name(text: &str) -> Result<String, Reason> {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token_byte) {
        return Err(r#"the name of a cookie, such as "theme""#.into());
    }
    Ok(text.to_owned())
}

/// Where a browser may be sent: a path of this site, or an http or https URL; sent byte for byte as it stands here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectTarget(String);

impl RedirectTarget {
    /// Refuses whatever browsers read differently than they look: a second slash, backslashes, user information, white space.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let is_plain = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\' && byte != b'"');
        let is_path = text.starts_with('/') && !text.starts_with("//");
        if is_plain && (is_path || is_absolute_url(text)) {
            return Ok(Self(text.to_owned()));
        }
        Err(r#"a path that begins with one slash, or an http or https URL"#.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_absolute_url(text: &str) -> bool {
    let Some(rest) = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"))
    else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    !authority.contains('@')
        && authority
            .parse::<Authority>()
            .is_ok_and(|authority| authority_is_whole(&authority))
}

/// The request header in which the upstream finds the user: any that no one else writes or reads.
pub(super) fn identity_header(text: &str) -> Result<HeaderName, Reason> {
    let name = HeaderName::try_from(text)
        .ok()
        .filter(|name| !name.as_str().contains(is_folded_by_frameworks))
        .ok_or("the name of a header: letters, digits and hyphens")?;
    let taken = TAKEN_NAMES.contains(&name.as_str())
        || TAKEN_PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix));
    if taken {
        return Err("the name of a header that neither HTTP nor the gateway uses itself, such as \"x-user-id\"".into());
    }
    Ok(name)
}

/// The `aud` of a token: what both sides write the same way, so no character that is not seen.
pub(super) fn audience(text: &str) -> Result<String, Reason> {
    let is_one =
        (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_one {
        return Err(
            "1 to 200 visible ASCII characters, such as \"app\" or \"https://app.example.com\""
                .into(),
        );
    }
    Ok(text.to_owned())
}

/// Frameworks that hand headers over as variables make one name of `x-user-id`, `x_user_id` and `x.user.id`.
fn is_folded_by_frameworks(character: char) -> bool {
    !character.is_ascii_alphanumeric() && character != '-'
}

const TAKEN_NAMES: [&str; 28] = [
    "age",
    "anti-csrf",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "expect",
    "fdi-version",
    "forwarded",
    "front-token",
    "host",
    "id-refresh-token",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "rid",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-real-ip",
];

const TAKEN_PREFIXES: [&str; 11] = [
    "accept",
    "access-control-",
    "content-",
    "if-",
    "portcullis-",
    "proxy-",
    "sec-",
    "set-cookie",
    "st-",
    "upgrade-",
    "x-forwarded-",
];
