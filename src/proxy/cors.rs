//! What browsers ask for pages of the other origins that the operator allows (Fetch standard, CORS protocol).
//!
//! Such a page may call with credentials, so it is named, and never `*`. The application's own word about an answer of its own
//! stands; the gateway speaks where the application cannot: for its own answers, and for preflights, which have no session.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CACHE_CONTROL, HeaderMap,
    HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response, StatusCode};

use super::Proxy;
use super::headers::NO_STORE;
use super::policy::{Action, Auth, Policy};
use super::receive::Received;
use super::reply::{Reply, ReplyBody, SESSION_HEADERS};

/// The page behind a request, if its origin is allowed beside the own one.
#[derive(Clone, Debug)]
pub struct AllowedPage {
    origin: HeaderValue,
}

impl Proxy {
    pub(super) fn allowed_page(&self, headers: &HeaderMap) -> Option<AllowedPage> {
        let origin = self.settings.origins.allowed_one(headers)?.clone();
        Some(AllowedPage { origin })
    }

    /// The answer to a preflight that the application need not, or cannot, give: it has no session, and would get 401.
    pub(super) fn preflight(&self, received: &Received, policy: &Policy) -> Option<Reply> {
        let headers = received.headers();
        if received.method() != Method::OPTIONS || is_public(policy) {
            return None;
        }
        let method = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        let page = self.allowed_page(headers)?;
        let mut reply = Response::new(ReplyBody::own(""));
        *reply.status_mut() = StatusCode::NO_CONTENT;
        let answer = reply.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        let of_the_sdks = HeaderValue::from_static(SDK_REQUEST_HEADERS);
        answer.append(ACCESS_CONTROL_ALLOW_HEADERS, of_the_sdks);
        if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.append(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        answer.insert(CACHE_CONTROL, NO_STORE);
        page.admit(answer);
        Some(reply)
    }

    /// Lets a page of an allowed origin read an answer, and tells caches that it depends on who asks.
    pub(super) fn share(
        &self,
        headers: &mut HeaderMap,
        policy: Option<&Policy>,
        page: Option<&AllowedPage>,
    ) {
        if self.settings.origins.allowed.is_empty() || policy.is_some_and(is_public) {
            return;
        }
        if headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        match page {
            Some(page) => page.admit(headers),
            None => vary_by_origin(headers),
        }
    }
}

impl AllowedPage {
    fn admit(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.insert(
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        if !headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS) {
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(SESSION_HEADERS),
            );
        }
        vary_by_origin(headers);
    }
}

fn vary_by_origin(headers: &mut HeaderMap) {
    headers.append(VARY, HeaderValue::from(ORIGIN));
}

/// Forwarded without a look at the session: all about it is the application's.
fn is_public(policy: &Policy) -> bool {
    matches!(&policy.action, Action::Forward(forward) if forward.admission.auth == Auth::None)
}

/// What the browser SDKs send.
const SDK_REQUEST_HEADERS: &str =
    "anti-csrf, rid, fdi-version, authorization, st-auth-mode, content-type";
