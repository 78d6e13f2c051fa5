//! Stage 1: a request whose head can be read in one way only.

use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use http::header::{COOKIE, HOST, HeaderMap};
use http::{HeaderValue, Method, Request, Uri, Version};
use hyper::body::Incoming;

use super::bearer::Bearer;
use super::forward_auth::Asker;
use super::listener::ConnectionInfo;
use super::rejection::{Malformed, Rejection};
use super::trust::{TrustedProxies, Via};
use super::{forward_auth, http2, trust};
use crate::certificates::ClientHosts;
use crate::cookie::OwnCookies;
use crate::route::{CanonicalPath, EncodedSlash};
use crate::session::Device;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

/// A request that is unambiguous: one path, one host. That it has one framing is seen to before there is a request: by the
/// scanner of HTTP/1.1 connections, and by HTTP/2 itself.
#[derive(Debug)]
pub struct Received {
    pub request: Request<Incoming>,
    pub path: CanonicalPath,
    pub host: HeaderValue,
    pub client: ClientAddr,
    /// What a proxy in front has said of the client, if it is believed.
    pub via: Option<Box<Via>>,
    /// On which it came.
    pub connection: Rc<ConnectionInfo>,
    /// Where the gateway's cookies are in its headers.
    pub own_cookies: OwnCookies,
    /// What it has of ours in `Authorization`.
    pub bearer: Option<Bearer>,
}

impl Received {
    /// Who it is, is said in a header, which wins over cookies and which no other site can make a browser send.
    pub fn is_by_header(&self) -> bool {
        !matches!(self.bearer, None | Some(Bearer::Ignored))
    }

    pub fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    pub fn method(&self) -> &Method {
        self.request.method()
    }

    /// The host that the client asked for.
    pub fn asked_host(&self) -> &HeaderValue {
        trust::asked_host(self.via.as_deref(), &self.host)
    }

    /// Whether the client speaks TLS, with the gateway or with a proxy that says so; `None`: nobody knows.
    pub fn is_secure(&self) -> Option<bool> {
        let told = self.via.as_ref().and_then(|via| via.secure);
        told.or(self.connection.secure.then_some(true))
    }

    /// Its client can be told of new tokens.
    pub fn may_renew(&self) -> bool {
        self.connection.asker() != Some(Asker::Subrequest)
    }

    /// As shown to people.
    pub fn device(&self) -> Device {
        let agent = self
            .headers()
            .get(http::header::USER_AGENT)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let user_agent =
            String::from_utf8_lossy(&agent[..agent.len().min(MAX_USER_AGENT)]).into_owned();
        Device {
            address: self.client.0.to_canonical().to_string(),
            user_agent,
        }
    }
}

/// What the operator has said of requests before anything is known of them.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub header_count: usize,
    pub encoded_slash: EncodedSlash,
    /// Hosts whose clients have to have shown a certificate.
    pub certificates_for: Option<&'a ClientHosts>,
    pub trusted: &'a TrustedProxies,
}

/// In a box: it goes by value from stage to stage, and is half a kilobyte.
pub fn receive(
    request: Request<Incoming>,
    connection: Rc<ConnectionInfo>,
    terms: Terms<'_>,
) -> Result<Box<Received>, Rejection> {
    let mut request = request;
    if request.version() == Version::HTTP_2 {
        http2::settle(&mut request, terms.header_count)?;
    }
    check_method(request.method())?;
    let own_cookies = check_cookies(request.headers())?;
    let host = host(&request)?;
    let lacks_certificate = |hosts| connection.lacks_certificate(&host, hosts);
    if !connection.is_for(&host) || terms.certificates_for.is_some_and(lacks_certificate) {
        return Err(Rejection::Misdirected);
    }
    let path = CanonicalPath::parse_uri(request.uri(), terms.encoded_slash)?;
    let told = connection
        .asker()
        .and_then(|_| forward_auth::client_of(request.headers()));
    let via = terms.trusted.told(connection.client.0, request.headers());
    let client = via.as_ref().map(|via| ClientAddr(via.client));
    Ok(Box::new(Received {
        client: told.or(client).unwrap_or(connection.client),
        via,
        request,
        path,
        host,
        connection,
        own_cookies,
        bearer: None,
    }))
}

/// Methods are case-sensitive (RFC 9110 section 9.1), but a framework may fold them.
fn check_method(method: &Method) -> Result<(), Rejection> {
    if method
        .as_str()
        .bytes()
        .any(|byte| byte.is_ascii_lowercase())
    {
        return Err(Malformed::Method.into());
    }
    if [Method::CONNECT, Method::TRACE].contains(method) {
        return Err(Rejection::MethodNotAllowed { allow: None });
    }
    Ok(())
}

/// Parsers have limits of their own and drop what is beyond them, each something else: who sends more cookies than any browser
/// does could have the gateway read one session and the application another. Only what is long enough is counted, so that
/// ordinary requests pay for a sum. Tells where the gateway's are.
fn check_cookies(headers: &HeaderMap) -> Result<OwnCookies, Rejection> {
    let lines = headers.get_all(COOKIE);
    let length: usize = lines.iter().map(|line| line.len() + SEPARATOR).sum();
    if length > MAX_COOKIES * SHORTEST_COOKIE {
        let each = lines
            .iter()
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        if each.count() > MAX_COOKIES {
            return Err(Rejection::TooManyCookies);
        }
    }
    Ok(OwnCookies::find(lines))
}

/// RFC 9112 section 3.2: exactly one `Host`, and the target's own authority, if it names one, is the same.
fn host(request: &Request<Incoming>) -> Result<HeaderValue, Rejection> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_authority(host.as_bytes()) => host.clone(),
        (None, None) if request.version() == Version::HTTP_10 => {
            HeaderValue::from_static("localhost")
        }
        _ => return Err(Malformed::Host.into()),
    };
    if !names_host(request.uri(), &host) {
        return Err(Malformed::Host.into());
    }
    Ok(host)
}

fn names_host(uri: &Uri, host: &HeaderValue) -> bool {
    uri.authority().is_none_or(|authority| {
        authority
            .as_str()
            .as_bytes()
            .eq_ignore_ascii_case(host.as_bytes())
    })
}

/// A name, or an IPv6 literal in brackets, and perhaps a port (RFC 3986 section 3.2.2); no user part, nothing encoded.
pub fn is_authority(authority: &[u8]) -> bool {
    let after_literal = authority
        .iter()
        .rposition(|byte| *byte == b']')
        .map(|at| at + 1);
    let end_of_host = authority[after_literal.unwrap_or(0)..]
        .iter()
        .position(|byte| *byte == b':')
        .map_or(authority.len(), |at| after_literal.unwrap_or(0) + at);
    let (host, port) = authority.split_at(end_of_host);
    let is_host = match host {
        [b'[', literal @ .., b']'] => {
            std::str::from_utf8(literal).is_ok_and(|literal| literal.parse::<Ipv6Addr>().is_ok())
        }
        name => {
            !name.is_empty()
                && name
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte))
        }
    };
    let is_port = port.iter().skip(1).all(u8::is_ascii_digit);
    is_host && is_port && authority.len() <= MAX_HOST
}

/// In all `Cookie` headers of a request. Browsers keep about 180 for a site.
const MAX_COOKIES: usize = 256;

/// `a=` and what separates it from the next: 768 bytes hold no more than [`MAX_COOKIES`] that have a name.
const SHORTEST_COOKIE: usize = 3;
const SEPARATOR: usize = 1;

/// A DNS name has at most 253 characters, a port six more.
const MAX_HOST: usize = 259;

/// Enough to tell one browser from another.
const MAX_USER_AGENT: usize = 256;

#[cfg(test)]
mod tests {
    use super::is_authority;

    #[test]
    fn what_a_host_may_be() {
        for host in [
            "g.test",
            "g.test:8443",
            "127.0.0.1:80",
            "[::1]:8080",
            "my_app",
            "localhost",
            "g.test:",
        ] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "a b",
            "a/b",
            "user@g.test",
            "g.test,evil",
            "g.test\t",
            "zoë",
            "a?b",
            "a#b",
            "a\\b",
            ":80",
            "g.test:80:80",
            "g.test:http",
            "[::1",
            "::1",
            "a]b[",
            "[::1]x:80",
            "[g.test]",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }
}
