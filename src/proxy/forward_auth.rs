//! Forward-auth: another proxy carries the request to the application, and asks here first whether it may.
//!
//! A question goes the way that its request would go, up to where that would be forwarded. What the other proxy is answered is
//! yes, with the headers that the application is to get, or what its client is to be told instead. Proxies differ in what they
//! can do with an answer, so each [`Asker`] gets those that it understands.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION,
};
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, Uri};
use hyper::body::Incoming;

use super::authenticate::{Authenticated, News, is_websocket_handshake};
use super::headers::{NO_STORE, Told as Word};
use super::policy::{Action, Policy};
use super::receive::{ClientAddr, Received};
use super::rejection::{Malformed, Rejection};
use super::reply::{Reply, ReplyBody, Transport};
use super::{Proxy, Told, trust};
use crate::telemetry::Outcome;

/// How another proxy asks, and what it makes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// nginx (`auth_request`), HAProxy, Apache: knows yes and no, and passes nothing on to the client. Every request with a no is
    /// sent through the gateway, which then says why, refreshes, logs in and logs out.
    Subrequest,
    /// ForwardAuth: what is not 2xx goes to the client as it is; of a yes, nothing does.
    Traefik,
    /// `forward_auth`: the same; a header that a yes does not have makes it write its own placeholder.
    Caddy,
    /// `ext_authz`: asks with the request itself, without its body, and can pass on headers of a yes as well.
    Envoy,
}

/// Puts the request that is asked about in the place of the question: method, target and host.
///
/// Whoever asks says in headers what the client asked for, each of them once; what the client sent under these names is
/// overwritten by it. Only [`Asker::Envoy`] has no such headers, and there nobody reads them.
pub(super) fn asked_about(
    mut question: Request<Incoming>,
    asker: Asker,
) -> Result<Request<Incoming>, Rejection> {
    if asker == Asker::Envoy {
        return Ok(question);
    }
    let headers = question.headers();
    let method = only(headers, &X_FORWARDED_METHOD)?.ok_or(Malformed::Question)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::Method)?;
    let target = only(headers, &X_FORWARDED_URI)?.ok_or(Malformed::Question)?;
    let target = target_of(target.as_bytes())?;
    let host = only(headers, &X_FORWARDED_HOST)?.cloned();
    *question.method_mut() = method;
    *question.uri_mut() = target;
    if let Some(host) = host {
        question.headers_mut().insert(HOST, host);
    }
    Ok(question)
}

/// Whom the proxy that asks speaks for: the last address is the one that it has added itself.
pub(super) fn client_of(headers: &HeaderMap) -> Option<ClientAddr> {
    let last = headers.get_all(X_FORWARDED_FOR).iter().next_back()?;
    let last = last.to_str().ok()?.rsplit(',').next()?;
    last.trim().parse().ok().map(ClientAddr)
}

/// What a proxy is told that knows yes and no alone.
pub(super) fn yes_or_no(reply: Reply) -> Reply {
    if reply.status() == StatusCode::OK {
        return reply;
    }
    let mut no = Reply::new(ReplyBody::own(""));
    *no.status_mut() = StatusCode::UNAUTHORIZED;
    no.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    no
}

impl Proxy {
    /// Whether the request may pass, by the rules that it would have been forwarded by.
    pub(super) async fn judge(
        &self,
        received: Box<Received>,
        policy: &Policy,
        asker: Asker,
    ) -> Result<Told, Rejection> {
        // The other proxy forwards what its client sent: what reads differently, or says who the caller is, cannot be repaired.
        let asked = received.request.uri().path_and_query();
        if asked.map(PathAndQuery::as_str) != Some(received.path.as_str()) {
            return Err(Malformed::NotCanonical.into());
        }
        if self.rules.name_identity(received.headers()) {
            return Err(Malformed::Identity.into());
        }
        let Action::Forward(forward) = &policy.action else {
            return Err(Rejection::NotAskable);
        };
        if is_websocket_handshake(&received) && !forward.websocket {
            return Err(Rejection::NotAskable);
        }
        let authenticated = self.authenticate(received, &forward.admission).await?;
        let identity = authenticated.identity.clone();
        let reply = match (asker, &authenticated.news) {
            (_, News::Nothing) | (Asker::Envoy, _) => self.yes(authenticated, asker).await?,
            (Asker::Traefik | Asker::Caddy, news) => {
                self.once_more(&authenticated.received, news)?
            }
            (Asker::Subrequest, _) => return Err(Rejection::NotAskable),
        };
        Ok(Told {
            identity,
            ..Told::own(reply, Outcome::Own)
        })
    }

    /// With what the application is to get: who the caller is, and `Cookie` and `Authorization` without what is the gateway's.
    async fn yes(&self, authenticated: Authenticated, asker: Asker) -> Result<Reply, Rejection> {
        let Authenticated {
            received,
            identity,
            news,
        } = authenticated;
        let transport = Transport::of(&received);
        let assertion = match identity.user() {
            Some(caller) => self.assertion(caller).await?,
            None => None,
        };
        let word = Word {
            client: received.client.0,
            scheme: self.scheme(&received),
            host: &received.host,
            asked_host: trust::asked_host(received.via.as_deref(), &received.host),
            certificate: None,
            user: identity.user().map(|caller| &caller.header),
            assertion: assertion.as_ref(),
            own_cookies: received.own_cookies,
            own_bearer: received.bearer.is_some(),
            websocket: false,
        };
        let (head, _) = received.request.into_parts();
        let upstream = self.rules.upstream(head.headers, &word);
        let upstream = upstream.as_ref();
        let mut reply = Reply::new(ReplyBody::own(""));
        let headers = reply.headers_mut();
        for name in self.rules.identity_headers() {
            let nobody = (asker == Asker::Caddy).then_some(HeaderValue::from_static(""));
            if let Some(value) = upstream.get(name).cloned().or(nobody) {
                headers.insert(name, value);
            }
        }
        headers.insert(CACHE_CONTROL, NO_STORE);
        headers.insert(COOKIE, rest_of(upstream, &COOKIE, b"; "));
        headers.insert(AUTHORIZATION, rest_of(upstream, &AUTHORIZATION, b", "));
        self.tell(headers, &news, transport);
        Ok(reply)
    }

    /// A client that can be told something only instead of its request: it takes the cookies and comes again.
    fn once_more(&self, received: &Received, news: &News) -> Result<Reply, Rejection> {
        let target = HeaderValue::from_str(received.path.as_str());
        let mut reply = Reply::new(ReplyBody::own(""));
        *reply.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        let headers = reply.headers_mut();
        headers.insert(LOCATION, target.map_err(|_| Rejection::Internal)?);
        headers.insert(CACHE_CONTROL, NO_STORE);
        self.tell(headers, news, Transport::of(received));
        Ok(reply)
    }
}

/// What is left of a header for the application, in one line; empty if that is nothing.
fn rest_of(headers: &HeaderMap, name: &HeaderName, separator: &[u8]) -> HeaderValue {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    HeaderValue::from_bytes(&lines.join(separator)).unwrap_or(HeaderValue::from_static(""))
}

/// The value of a header that is there once; several would be read in several ways.
fn only<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Rejection> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (first, None) => Ok(first),
        _ => Err(Malformed::Question.into()),
    }
}

/// The target of a request as its client sent it: a path, perhaps with a query.
fn target_of(text: &[u8]) -> Result<Uri, Rejection> {
    if text.first() != Some(&b'/') || text.contains(&b'#') {
        return Err(Malformed::Question.into());
    }
    let target = PathAndQuery::try_from(text).map_err(|_| Malformed::Question)?;
    Ok(Uri::from(target))
}

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::{client_of, only, rest_of, target_of};

    #[test]
    fn a_target_is_a_path() {
        for good in ["/", "/a?b=c", "//evil.test/a", "/a%2e%2e/b"] {
            let target = target_of(good.as_bytes()).unwrap();
            assert_eq!(target.to_string(), good);
            assert_eq!(target.authority(), None, "{good}");
        }
        for bad in [
            "",
            "a",
            "*",
            "http://g.test/a",
            "/a b",
            "/a#b",
            "/a\0",
            "/\u{7f}",
        ] {
            assert!(target_of(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn whoever_asks_says_each_thing_once() {
        let name = HeaderName::from_static("x-forwarded-uri");
        let mut headers = HeaderMap::new();
        assert!(only(&headers, &name).unwrap().is_none());
        headers.append(&name, HeaderValue::from_static("/public"));
        assert_eq!(only(&headers, &name).unwrap().unwrap(), "/public");
        headers.append(&name, HeaderValue::from_static("/app"));
        assert!(only(&headers, &name).is_err());
    }

    #[test]
    fn the_last_address_is_the_one_that_was_added() {
        for (lines, client) in [
            (&["9.9.9.9, 192.0.2.1"][..], Some("192.0.2.1")),
            (&["9.9.9.9", "2001:db8::1"], Some("2001:db8::1")),
            (&["192.0.2.1, unknown"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_static(line));
            }
            let found = client_of(&headers).map(|client| client.0.to_string());
            assert_eq!(found.as_deref(), client, "{lines:?}");
        }
    }

    #[test]
    fn what_is_left_is_one_line() {
        let name = http::header::COOKIE;
        let mut headers = HeaderMap::new();
        assert_eq!(rest_of(&headers, &name, b"; "), "");
        headers.append(&name, HeaderValue::from_static("a=1"));
        headers.append(&name, HeaderValue::from_static("b=2"));
        assert_eq!(rest_of(&headers, &name, b"; "), "a=1; b=2");
    }
}
