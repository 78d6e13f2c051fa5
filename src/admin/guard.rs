//! Keeps web pages away from the private listener.
//!
//! A browser on a machine that reaches the listener runs the scripts of strangers. Two ways lead from there to here: a name of
//! the stranger that suddenly resolves to our address (DNS rebinding), so that the page and we are of one origin; and plain
//! requests across sites. The first is seen by the `Host`: a rebound name is a name, and we are called by address. The second
//! says so itself (Fetch Metadata, RFC 6454 `Origin`). Programs send neither `Origin` nor `Sec-Fetch-Site` and are let through.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use http::uri::{Authority, Uri};

/// Why a request does not get an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// RFC 9112 section 3.2: no `Host`, several, or an invalid one.
    BadHost,
    /// Addressed to a name that is not ours.
    ForeignHost,
    /// Sent by a page of another origin.
    ForeignOrigin,
}

/// Decides by head alone. `names` are the host names, besides addresses and `localhost`, under which the operator lets this
/// listener be called.
pub(super) fn check(uri: &Uri, headers: &HeaderMap, names: &[String]) -> Result<(), Refusal> {
    let host = the_only_host(headers)?;
    if !is_ours(host.host(), names) {
        return Err(Refusal::ForeignHost);
    }
    if uri.authority().is_some_and(|target| *target != host) {
        return Err(Refusal::ForeignHost);
    }
    if !is_same_origin(headers, &host) {
        return Err(Refusal::ForeignOrigin);
    }
    Ok(())
}

fn the_only_host(headers: &HeaderMap) -> Result<Authority, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::BadHost);
    };
    let host = Authority::try_from(host.as_bytes()).map_err(|_| Refusal::BadHost)?;
    if host.as_str().contains('@') {
        return Err(Refusal::BadHost);
    }
    Ok(host)
}

fn is_ours(host: &str, names: &[String]) -> bool {
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match literal {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.parse::<Ipv4Addr>().is_ok()
                || host.eq_ignore_ascii_case("localhost")
                || names.iter().any(|name| host.eq_ignore_ascii_case(name))
        }
    }
}

/// `same-site` is foreign too: other ports of this machine are of the same site.
fn is_same_origin(headers: &HeaderMap, host: &Authority) -> bool {
    let sites = headers.get_all(&SEC_FETCH_SITE);
    let origins = headers.get_all(ORIGIN);
    sites
        .iter()
        .all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
        && origins.iter().all(|origin| {
            let origin = origin.as_bytes();
            origin
                .strip_prefix(b"http://")
                .is_some_and(|origin| origin.eq_ignore_ascii_case(host.as_str().as_bytes()))
        })
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::header::{HeaderMap, HeaderName, HeaderValue};
    use http::uri::Uri;

    use super::{Refusal, check};

    fn decide(target: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::try_from(*name).unwrap(),
                    HeaderValue::try_from(*value).unwrap(),
                )
            })
            .collect();
        let names = ["portcullis.internal".to_owned()];
        check(&target.parse::<Uri>().unwrap(), &headers, &names)
    }

    #[test]
    fn only_addresses_localhost_and_configured_names_are_ours() {
        for host in [
            "127.0.0.1:9901",
            "127.0.0.1",
            "10.2.3.4:9901",
            "[::1]:9901",
            "[fd00::1]",
            "localhost:9901",
            "LocalHost",
            "portcullis.internal:9901",
        ] {
            assert_eq!(decide("/metrics", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "rebound.example:9901",
            "127.0.0.1.rebound.example",
            "localhost.rebound.example",
            "localhost.",
            "portcullis.internal.example",
            "2130706433",
            "0x7f.1",
            "127.1",
            "[::1%eth0]",
        ] {
            let decision = decide("/metrics", &[("host", host)]);
            assert!(
                matches!(decision, Err(Refusal::ForeignHost) | Err(Refusal::BadHost)),
                "{host}: {decision:?}"
            );
        }
    }

    #[test]
    fn there_is_one_host_and_it_is_the_one_in_the_target() {
        assert_eq!(decide("/", &[]), Err(Refusal::BadHost));
        for hosts in [
            &[("host", "127.0.0.1"), ("host", "127.0.0.1")][..],
            &[("host", "")],
            &[("host", "a b")],
            &[("host", "evil@127.0.0.1")],
        ] {
            assert_eq!(decide("/", hosts), Err(Refusal::BadHost), "{hosts:?}");
        }
        let host = [("host", "127.0.0.1:9901")];
        assert_eq!(decide("http://127.0.0.1:9901/", &host), Ok(()));
        assert_eq!(
            decide("http://rebound.example/", &host),
            Err(Refusal::ForeignHost)
        );
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        for (name, value, expected) in [
            ("sec-fetch-site", "none", Ok(())),
            ("sec-fetch-site", "same-origin", Ok(())),
            ("sec-fetch-site", "same-site", Err(Refusal::ForeignOrigin)),
            ("sec-fetch-site", "cross-site", Err(Refusal::ForeignOrigin)),
            ("sec-fetch-site", "nonsense", Err(Refusal::ForeignOrigin)),
            ("origin", "http://127.0.0.1:9901", Ok(())),
            ("origin", "http://127.0.0.1", Err(Refusal::ForeignOrigin)),
            (
                "origin",
                "http://127.0.0.1:3000",
                Err(Refusal::ForeignOrigin),
            ),
            (
                "origin",
                "https://evil.example",
                Err(Refusal::ForeignOrigin),
            ),
            ("origin", "null", Err(Refusal::ForeignOrigin)),
        ] {
            let headers = [("host", "127.0.0.1:9901"), (name, value)];
            assert_eq!(decide("/metrics", &headers), expected, "{name}: {value}");
        }
    }
}
