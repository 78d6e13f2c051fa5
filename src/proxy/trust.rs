//! Whom other proxies speak for: what those in front of the gateway say of their client, if they are believed.
//!
//! Each proxy appends the address that it was called from, so the list is read from its end: the first address that is no
//! proxy's of ours is the client's, and what stands before it is the client's own word. One family of headers is read, never
//! both: a proxy that writes one passes on the other as it came.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderValue};
use ipnet::IpNet;

use super::receive::is_authority;

/// Which proxies are believed, and how they write.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    pub networks: Vec<IpNet>,
    pub headers: ForwardedHeaders,
}

/// How a proxy says what it knows of its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`.
    #[default]
    XForwarded,
    /// RFC 7239.
    Forwarded,
}

/// What a proxy that is believed has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    pub client: IpAddr,
    /// What the client speaks with the first of the proxies; `None`: they do not say.
    pub secure: Option<bool>,
    /// The host that the client asked for, where the proxy says that it has put another in its place.
    pub host: Option<HeaderValue>,
}

/// The host that a client asked for: the request's own, unless a proxy has put another in its place.
pub fn asked_host<'a>(via: Option<&'a Via>, host: &'a HeaderValue) -> &'a HeaderValue {
    via.and_then(|via| via.host.as_ref()).unwrap_or(host)
}

impl TrustedProxies {
    /// What is said of the client of a request that came from `peer`; `None` if that is no proxy that is believed.
    pub fn told(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Box<Via>> {
        if !self.trusts(peer) {
            return None;
        }
        let said = match self.headers {
            ForwardedHeaders::XForwarded => x_forwarded(headers),
            ForwardedHeaders::Forwarded => forwarded(headers),
        };
        Some(Box::new(self.believed(peer, &said)))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// From the last hop to the first: what a proxy of ours says counts, and it says it of the hop before.
    fn believed(&self, peer: IpAddr, said: &Said<'_>) -> Via {
        let mut client = peer;
        for hop in said.hops.iter().rev() {
            // A hop that names no address (`unknown`, `_hidden`) hides everything before it.
            let Some(address) = hop else { break };
            client = *address;
            if !self.trusts(client) {
                break;
            }
        }
        Via {
            client: client.to_canonical(),
            secure: said.scheme.and_then(|scheme| match scheme {
                b"https" => Some(true),
                b"http" => Some(false),
                _ => None,
            }),
            host: said
                .host
                .filter(|host| is_authority(host))
                .and_then(|host| HeaderValue::from_bytes(host).ok()),
        }
    }
}

/// What stands in the headers, the last hop last. Scheme and host are those that the last proxy names, which talks to us.
#[derive(Debug, Default)]
struct Said<'a> {
    hops: Vec<Option<IpAddr>>,
    scheme: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
}

fn x_forwarded(headers: &HeaderMap) -> Said<'_> {
    let addresses = || items(headers, X_FORWARDED_FOR);
    let start = addresses().count().saturating_sub(MAX_HOPS);
    Said {
        hops: addresses().skip(start).map(address).collect(),
        scheme: items(headers, X_FORWARDED_PROTO).last(),
        host: items(headers, X_FORWARDED_HOST).last(),
    }
}

/// What stands between the commas, in all lines of a header.
fn items<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// RFC 7239 section 4: elements by commas, pairs by semicolons, values as tokens or quoted strings. Neither an address nor a
/// host has a comma or a semicolon in it, so an element is not misread by cutting there; at worst it says nothing.
fn forwarded(headers: &HeaderMap) -> Said<'_> {
    let elements = || items(headers, "forwarded");
    let start = elements().count().saturating_sub(MAX_HOPS);
    let mut said = Said::default();
    for element in elements().skip(start) {
        let mut hop = None;
        (said.scheme, said.host) = (None, None);
        for pair in element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            let Some(at) = pair.iter().position(|byte| *byte == b'=') else {
                continue;
            };
            let (name, value) = (&pair[..at], unquoted(&pair[at + 1..]));
            match name.to_ascii_lowercase().as_slice() {
                b"for" => hop = address(value),
                b"proto" => said.scheme = Some(value),
                b"host" => said.host = Some(value),
                _ => {}
            }
        }
        said.hops.push(hop);
    }
    said
}

fn unquoted(value: &[u8]) -> &[u8] {
    value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""))
        .unwrap_or(value)
}

/// With or without a port; IPv6 in brackets where it has one.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// More hops than any chain of proxies has; what stands before them is not read.
const MAX_HOPS: usize = 32;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_HOST: &str = "x-forwarded-host";

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{ForwardedHeaders, TrustedProxies};

    fn told(
        form: ForwardedHeaders,
        peer: &str,
        lines: &[(&'static str, &'static str)],
    ) -> Option<(String, Option<bool>, Option<String>)> {
        let trusted = TrustedProxies {
            networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            headers: form,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let peer: IpAddr = peer.parse().unwrap();
        let via = trusted.told(peer, &headers)?;
        let host = via.host.map(|host| host.to_str().unwrap().to_owned());
        Some((via.client.to_string(), via.secure, host))
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_ours() {
        let for_ = "x-forwarded-for";
        for (peer, lines, client) in [
            ("192.0.2.1", &[(for_, "9.9.9.9")][..], None),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &[(for_, "9.9.9.9")], Some("9.9.9.9")),
            ("::ffff:10.0.0.1", &[(for_, "9.9.9.9")], Some("9.9.9.9")),
            ("10.0.0.1", &[(for_, "1.1.1.1, 9.9.9.9")], Some("9.9.9.9")),
            (
                "10.0.0.1",
                &[(for_, "1.1.1.1, 9.9.9.9, 10.1.2.3")],
                Some("9.9.9.9"),
            ),
            (
                "10.0.0.1",
                &[(for_, "1.1.1.1"), (for_, "9.9.9.9"), (for_, "10.1.2.3")],
                Some("9.9.9.9"),
            ),
            (
                "10.0.0.1",
                &[(for_, "10.5.5.5, 10.1.2.3")],
                Some("10.5.5.5"),
            ),
            (
                "10.0.0.1",
                &[(for_, "9.9.9.9, unknown, 10.1.2.3")],
                Some("10.1.2.3"),
            ),
            (
                "10.0.0.1",
                &[(for_, "9.9.9.9, , 10.1.2.3")],
                Some("10.1.2.3"),
            ),
            (
                "10.0.0.1",
                &[(for_, "evil\", 9.9.9.9:8080")],
                Some("9.9.9.9"),
            ),
            (
                "fd00::1",
                &[(for_, "[2001:db8::1]:443")],
                Some("2001:db8::1"),
            ),
            (
                "10.0.0.1",
                &[("forwarded", "for=9.9.9.9")],
                Some("10.0.0.1"),
            ),
        ] {
            let found = told(ForwardedHeaders::XForwarded, peer, lines).map(|told| told.0);
            assert_eq!(found.as_deref(), client, "{peer} {lines:?}");
        }
    }

    #[test]
    fn rfc_7239() {
        for (line, client, secure, host) in [
            (
                "for=9.9.9.9;proto=https;host=a.test",
                "9.9.9.9",
                Some(true),
                Some("a.test"),
            ),
            (r#"For="[2001:db8::1]:4711""#, "2001:db8::1", None, None),
            (
                "for=1.1.1.1;proto=https, for=9.9.9.9;proto=http",
                "9.9.9.9",
                Some(false),
                None,
            ),
            ("for=1.1.1.1, for=_hidden", "10.0.0.1", None, None),
            ("for=9.9.9.9, for=10.2.2.2", "9.9.9.9", None, None),
            ("proto=https", "10.0.0.1", Some(true), None),
            ("for=9.9.9.9;host=\"a.test, b\"", "10.0.0.1", None, None),
        ] {
            let lines = [("forwarded", line), ("x-forwarded-for", "6.6.6.6")];
            let found = told(ForwardedHeaders::Forwarded, "10.0.0.1", &lines).unwrap();
            assert_eq!(
                found,
                (client.into(), secure, host.map(Into::into)),
                "{line}"
            );
        }
    }

    #[test]
    fn scheme_and_host_are_those_of_the_last_proxy() {
        let lines = [
            ("x-forwarded-proto", "http, https"),
            ("x-forwarded-host", "evil.test, app.test:8443"),
        ];
        let found = told(ForwardedHeaders::XForwarded, "10.0.0.1", &lines).unwrap();
        assert_eq!(
            found,
            ("10.0.0.1".into(), Some(true), Some("app.test:8443".into()))
        );
        let lines = [("x-forwarded-proto", "ftp"), ("x-forwarded-host", "a/b")];
        let found = told(ForwardedHeaders::XForwarded, "10.0.0.1", &lines).unwrap();
        assert_eq!(found, ("10.0.0.1".into(), None, None));
    }
}
