//! Last stage: what the client gets, and what it is told about its session.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE,
    HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE,
};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use serde_json::json;
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::headers::{
    ANTI_CSRF, FRONT_TOKEN, HeaderRules, ID_REFRESH_TOKEN, NO_STORE, ST_ACCESS_TOKEN,
    ST_REFRESH_TOKEN,
};
use super::listener::{Progress, Running};
use super::patience::Answering;
use super::receive::Received;
use super::record::Record;
use super::rejection::Rejection;
use crate::clock::Timestamp;
use crate::cookie::SessionCookies;
use crate::issuer::Issued;
use crate::revocation::{LiveStream, Revocations};
use crate::secret::from_base64url_any;
use crate::session::SessionHandle;
use crate::upstream::{AnswerError, UpstreamBody, UpstreamError};

pub type Reply = Response<ReplyBody>;

/// The body of an answer: the gateway's own, or the upstream's as it streams in.
pub struct ReplyBody {
    source: Source,
    /// It ends then, whole or not.
    until: Option<Pin<Box<Sleep>>>,
    record: Option<Box<Record>>,
    underway: Option<Underway>,
}

/// Held until an answer has been sent: the connection is not at rest.
pub enum Underway {
    Http1(Answering),
    Http2(Running, Progress),
}

enum Source {
    Own(Option<Bytes>),
    Upstream {
        body: UpstreamBody,
        rules: Rc<HeaderRules>,
        tie: Tie,
    },
}

/// How a body ends with its session.
pub enum Tie {
    /// It is nobody's.
    Loose,
    /// It may last, and is told.
    Stream(LiveStream, Pin<Box<WaitForCancellationFutureOwned>>),
    /// It is short. If it has to wait for its next byte all the same, it looks before it passes that on.
    Glance {
        revocations: Rc<Revocations>,
        handle: SessionHandle,
        waited: bool,
    },
}

impl Tie {
    pub fn stream(stream: LiveStream) -> Self {
        let ended = Box::pin(stream.ended());
        Self::Stream(stream, ended)
    }

    pub fn glance(revocations: Rc<Revocations>, handle: SessionHandle) -> Self {
        Self::Glance {
            revocations,
            handle,
            waited: false,
        }
    }

    /// The next frame of `body`, unless the session has ended.
    fn poll_frame(
        &mut self,
        body: &mut UpstreamBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Self::Stream(_, ended) = self
            && ended.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::SessionEnded)));
        }
        let frame = Pin::new(body).poll_frame(cx);
        if let Self::Glance {
            revocations,
            handle,
            waited,
        } = self
        {
            let late = std::mem::replace(waited, frame.is_pending());
            if late && frame.is_ready() && revocations.is_revoked(handle) {
                return Poll::Ready(Some(Err(BodyError::SessionEnded)));
            }
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(BodyError::Upstream)))
    }
}

/// Why a body broke off.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("the session ended while its answer was being sent")]
    SessionEnded,
    #[error("the answer took longer than max_stream_age")]
    TooOld,
    #[error("the upstream broke off its answer")]
    Upstream(#[source] AnswerError),
}

impl ReplyBody {
    pub fn own(content: impl Into<Bytes>) -> Self {
        let content = content.into();
        Self {
            source: Source::Own((!content.is_empty()).then_some(content)),
            until: None,
            record: None,
            underway: None,
        }
    }

    pub fn upstream(body: UpstreamBody, rules: Rc<HeaderRules>, tie: Tie) -> Self {
        Self {
            source: Source::Upstream { body, rules, tie },
            until: None,
            record: None,
            underway: None,
        }
    }

    /// Breaks it off if it takes longer.
    pub fn ending_after(mut self, limit: Duration) -> Self {
        self.until = Some(Box::pin(sleep(limit)));
        self
    }

    /// The connection learns when this has been sent.
    pub fn underway(mut self, underway: Underway) -> Self {
        self.underway = Some(underway);
        self
    }

    /// Counts what is sent, and is written when the body has ended.
    pub fn recorded(mut self, record: Box<Record>) -> Self {
        self.record = Some(record);
        self
    }
}

impl ReplyBody {
    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(until) = &mut self.until
            && until.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(BodyError::TooOld)));
        }
        match &mut self.source {
            Source::Own(content) => {
                Poll::Ready(content.take().map(|content| Ok(Frame::data(content))))
            }
            Source::Upstream { body, rules, tie } => tie
                .poll_frame(body, cx)
                .map(|frame| frame.map(|frame| frame.map(|frame| rules.frame(frame)))),
        }
    }
}

/// The answer to a HEAD: it says how long its content would be, and has none (RFC 9110 section 9.3.2). In HTTP/1.1 hyper sees to
/// that, in HTTP/2 it does not; an upstream's answer comes without content already.
pub fn answer_to_head(reply: Reply) -> Reply {
    let (mut head, mut body) = reply.into_parts();
    if let Source::Own(content) = &mut body.source
        && let Some(content) = content.take()
    {
        let length = HeaderValue::from(content.len());
        head.headers.entry(CONTENT_LENGTH).or_insert(length);
    }
    Response::from_parts(head, body)
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let frame = this.poll_source(cx);
        if let Some(Underway::Http2(_, progress)) = &this.underway {
            progress.asked(frame.is_ready());
        }
        let frame = ready!(frame);
        if let (Some(record), Some(Ok(frame))) = (&mut this.record, &frame) {
            record.sent(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(content) => content.is_none(),
            Source::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(content) => {
                SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64))
            }
            Source::Upstream { body, .. } => body.size_hint(),
        }
    }
}

/// How a client holds its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// The browser does, out of reach of the page.
    #[default]
    Cookies,
    /// It does itself.
    Headers,
}

impl Transport {
    /// As the request shows it.
    pub fn of(received: &Received) -> Self {
        match received.is_by_header() {
            true => Self::Headers,
            false => Self::Cookies,
        }
    }
}

/// New tokens, and how the client is told of them.
#[derive(Clone, Debug)]
pub struct Announced {
    pub issued: Arc<Issued>,
    /// The request had more cookies of ours than the one these tokens are for: what is not in use goes.
    pub tidy: bool,
}

/// Tells a client about its session: in cookies for browsers, in headers for the browser SDKs.
#[derive(Clone, Debug)]
pub struct Teller {
    pub cookies: SessionCookies,
    /// Pages get their session's anti-CSRF token.
    pub anti_csrf_tokens: bool,
    /// 401, or what older SDKs were set up to expect.
    pub session_over_status: StatusCode,
}

impl Teller {
    /// New tokens. The SDKs re-time their clock by `front-token`, so it goes out only with tokens made now, and never into a
    /// cache.
    pub fn announce(&self, headers: &mut HeaderMap, announced: &Announced, transport: Transport) {
        let Announced { issued, tidy } = announced;
        let (set, cleared) = match transport {
            Transport::Cookies => {
                let (access, refresh) = (&issued.access, &issued.refresh);
                let set = self
                    .cookies
                    .set(access, refresh, issued.session_expires_at)
                    .to_vec();
                (set, self.cookies.clearing_others())
            }
            Transport::Headers => (Vec::new(), self.cookies.clearing()),
        };
        // What is set comes last: whoever takes no scopes into account is left with that.
        let cleared = cleared.iter().filter(|_| *tidy).cloned();
        for cookie in cleared.chain(set) {
            headers.append(SET_COOKIE, cookie);
        }
        let tokens = match transport {
            Transport::Cookies if self.anti_csrf_tokens => vec![(ANTI_CSRF, &issued.anti_csrf)],
            Transport::Cookies => Vec::new(),
            Transport::Headers => vec![
                (ST_ACCESS_TOKEN, &issued.access),
                (ST_REFRESH_TOKEN, &issued.refresh),
            ],
        };
        for (name, token) in tokens {
            if let Ok(mut value) = HeaderValue::try_from(token.expose()) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        let id = format!("{};{}", issued.mark, issued.session_expires_at.as_millis());
        for (name, value) in [
            (FRONT_TOKEN, front_token(issued)),
            (ID_REFRESH_TOKEN, Some(id)),
        ] {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        Self::expose(headers);
    }

    /// The session goes on with one of several access cookies: that one is set anew, and what else there is goes.
    pub fn settle(&self, access: &str, expires: Timestamp) -> Vec<HeaderValue> {
        let mut cookies = self.cookies.clearing_other_access().to_vec();
        cookies.push(self.cookies.set_access(access, expires));
        cookies
    }

    /// The session is over: everything that a client can have of it goes.
    pub fn clear(&self, headers: &mut HeaderMap, transport: Transport) {
        if transport == Transport::Headers {
            headers.insert(ST_ACCESS_TOKEN, HeaderValue::from_static(""));
            headers.insert(ST_REFRESH_TOKEN, HeaderValue::from_static(""));
        }
        for cookie in self.cookies.clearing() {
            headers.append(SET_COOKIE, cookie.clone());
        }
        headers.insert(FRONT_TOKEN, HeaderValue::from_static("remove"));
        headers.insert(ID_REFRESH_TOKEN, HeaderValue::from_static("remove"));
        Self::expose(headers);
    }

    /// Whether browser SDKs take an answer with this status for "the session is over, or its token".
    pub fn says_over(&self, status: StatusCode) -> bool {
        status == StatusCode::UNAUTHORIZED || status == self.session_over_status
    }

    /// The answer for a rejection, details left out.
    pub fn reject(&self, rejection: &Rejection, transport: Transport) -> Reply {
        let status = match rejection.status() {
            StatusCode::UNAUTHORIZED => self.session_over_status,
            status => status,
        };
        let mut reply = json_reply(status, &json!({ "message": rejection.message() }));
        let headers = reply.headers_mut();
        if rejection.clears_cookies() {
            self.clear(headers, transport);
        }
        match rejection {
            // What follows on a connection is worth nothing once a request on it could not be read for certain.
            Rejection::Malformed(_)
            | Rejection::TooLong
            | Rejection::TooManyCookies
            | Rejection::Body(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Rejection::Unauthenticated {
                login: Some(login), ..
            } => {
                headers.insert(LOCATION, login.clone());
            }
            Rejection::MethodNotAllowed { allow: Some(allow) } => {
                headers.insert(ALLOW, allow.clone());
            }
            Rejection::TooManyRefreshes => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
            }
            Rejection::TooManyRequests { retry_after } => {
                let seconds = retry_after.as_secs_f64().ceil();
                headers.insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
            }
            Rejection::StoreUnavailable(_)
            | Rejection::LogoutNotWritten(_)
            | Rejection::Upstream(UpstreamError::Full { .. }) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        reply
    }

    fn expose(headers: &mut HeaderMap) {
        headers.append(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(SESSION_HEADERS),
        );
        headers.insert(CACHE_CONTROL, NO_STORE);
    }
}

/// What pages of other origins have to be let read. Each by name: `*` does not count where credentials are sent.
pub const SESSION_HEADERS: &str =
    "front-token, id-refresh-token, anti-csrf, st-access-token, st-refresh-token";

/// An answer of the gateway itself.
pub fn json_reply(status: StatusCode, content: &serde_json::Value) -> Reply {
    let mut reply = Response::new(ReplyBody::own(content.to_string()));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    reply
}

/// An answer of the gateway that sends a page navigation elsewhere.
pub fn redirect_reply(to: HeaderValue) -> Reply {
    let mut reply = Response::new(ReplyBody::own(Bytes::new()));
    *reply.status_mut() = StatusCode::SEE_OTHER;
    reply.headers_mut().insert(LOCATION, to);
    reply.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    reply
}

/// The same request belongs elsewhere from now on, whatever its method (RFC 9110 section 15.4.9).
pub fn permanent_redirect_reply(to: HeaderValue) -> Reply {
    let mut reply = Response::new(ReplyBody::own(Bytes::new()));
    *reply.status_mut() = StatusCode::PERMANENT_REDIRECT;
    reply.headers_mut().insert(LOCATION, to);
    reply
}

/// What the browser SDKs read: user, expiry in milliseconds, and the access token's payload, as base64 of JSON.
fn front_token(issued: &Issued) -> Option<String> {
    let payload = from_base64url_any(issued.access.expose().split('.').nth(1)?.as_bytes())?;
    let payload: &RawValue = serde_json::from_slice(&payload).ok()?;
    let front = json!({ "uid": issued.user.as_str(), "ate": issued.access_expires_at.as_millis(), "up": payload });
    Some(STANDARD.encode(front.to_string()))
}
