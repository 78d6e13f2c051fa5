//! Requests that came by HTTP/2, made such that the stages need not know.
//!
//! What makes a message malformed (RFC 9113 section 8.2) has been refused before by the library: names in upper case, fields
//! of the connection, pseudo-header fields that are repeated, late or unknown, lengths that are not kept.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, COOKIE, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Method, Request};
use hyper::ext::Protocol;

use super::rejection::{Malformed, Rejection};

/// One line of cookies, the host in its header, a handshake where a WebSocket is asked for.
pub fn settle<B>(request: &mut Request<B>, header_count: usize) -> Result<(), Rejection> {
    let scheme = request.uri().scheme_str();
    if scheme.is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Malformed::Scheme.into());
    }
    join_cookies(request.headers_mut());
    if request.headers().len() > header_count {
        return Err(Rejection::TooManyHeaders);
    }
    take_authority(request)?;
    if is_extended_connect(request) {
        become_handshake(request)?;
    }
    Ok(())
}

/// Browsers send each cookie in a line of its own; whoever reads them next wants one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(mut joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

/// `:authority` stands for `Host`; where both are there, they have to say the same, which is looked at with the host (RFC 9113
/// section 8.3.1).
fn take_authority<B>(request: &mut Request<B>) -> Result<(), Rejection> {
    if request.headers().contains_key(HOST) {
        return Ok(());
    }
    let authority = request.uri().authority().ok_or(Malformed::Host)?;
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Malformed::Host)?;
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// Asks for another protocol on its stream (RFC 8441 section 4).
pub fn is_extended_connect<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Protocol>().is_some()
}

/// The same wish as HTTP/1.1 writes it (RFC 8441 section 5), for the stages and for the upstream.
fn become_handshake<B>(request: &mut Request<B>) -> Result<(), Rejection> {
    let protocol = request.extensions().get::<Protocol>();
    if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
        return Err(Malformed::ExtendedConnect.into());
    }
    let mut nonce = [0; 16];
    rand::fill(&mut nonce).map_err(|_| Rejection::Internal)?;
    let key = HeaderValue::from_str(&STANDARD.encode(nonce)).map_err(|_| Rejection::Internal)?;
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    headers.insert(SEC_WEBSOCKET_KEY, key);
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers
        .entry(SEC_WEBSOCKET_VERSION)
        .or_insert(HeaderValue::from_static("13"));
    Ok(())
}

/// What `Sec-WebSocket-Accept` has to be for a key (RFC 6455 section 4.2.2).
pub fn expected_accept(key: &HeaderValue) -> String {
    let text = [key.as_bytes(), GUID].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

#[cfg(test)]
mod tests {
    use http::header::{COOKIE, HOST, HeaderValue};
    use http::{Method, Request};
    use hyper::ext::Protocol;

    use super::{expected_accept, settle};

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn crumbs_become_one_line_and_count_as_one() {
        let crumbs: Vec<_> = ["a=1", "b=2; c=3", "d=4"]
            .map(|crumb| ("cookie", crumb))
            .into();
        let mut request = request("https://g.test/", &crumbs);
        settle(&mut request, 2).unwrap();
        let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3; d=4"]);
        assert_eq!(request.headers()[HOST], "g.test");
    }

    #[test]
    fn what_is_refused() {
        for (uri, headers, count, reason) in [
            ("ftp://g.test/", &[][..], 10, "malformed_request"),
            ("/", &[], 10, "malformed_request"),
            (
                "https://g.test/",
                &[("a", "b"), ("c", "d")],
                1,
                "too_many_headers",
            ),
        ] {
            let refused = settle(&mut request(uri, headers), count).unwrap_err();
            assert_eq!(refused.reason(), reason, "{uri}");
        }
        let mut other = request("https://g.test/", &[]);
        other
            .extensions_mut()
            .insert(Protocol::from_static("connect-udp"));
        assert!(settle(&mut other, 10).is_err());
    }

    #[test]
    fn an_extended_connect_becomes_a_handshake() {
        let mut connect = request("https://g.test/ws", &[("sec-websocket-key", "mine")]);
        *connect.method_mut() = Method::CONNECT;
        connect
            .extensions_mut()
            .insert(Protocol::from_static("websocket"));
        settle(&mut connect, 10).unwrap();
        assert_eq!(connect.method(), Method::GET);
        let header = |name: &str| connect.headers()[name].to_str().unwrap();
        assert_eq!(header("upgrade"), "websocket");
        assert_eq!(header("connection"), "upgrade");
        assert_eq!(header("sec-websocket-version"), "13");
        assert_eq!(header("sec-websocket-key").len(), 24);
    }

    /// The example of RFC 6455 section 1.3.
    #[test]
    fn the_accept_of_a_key() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(expected_accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
