//! What becomes of the upstream's answer: what the client gets of it, tied to its session, and what it is told of that.
//!
//! Short answers are passed on as they come. What may last is entered as a live stream, so that the end of its session ends it; a
//! WebSocket becomes a tunnel of the worker's.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use http::header::{
    CACHE_CONTROL, CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SET_COOKIE, UPGRADE,
};
use http::{HeaderValue, StatusCode};
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::authenticate::News;
use super::forward::{Answered, ClientSide};
use super::headers::{NO_STORE, protect_from_caches};
use super::policy::ForwardPolicy;
use super::rejection::{Rejection, Unproven};
use super::reply::{Reply, ReplyBody, Tie, Transport};
use super::tunnel::{self, CutReason, TunnelKind, TunnelTerms};
use super::{Proxy, Told};
use crate::causes::Causes;
use crate::revocation::LiveStream;
use crate::telemetry::Outcome;

impl Proxy {
    /// The upstream's answer as the client gets it.
    pub(super) fn deliver(&self, mut answered: Answered, policy: &ForwardPolicy) -> Told {
        let outcome = Outcome::forwarded(answered.response.status());
        let (identity, upstream_time) = (answered.identity.clone(), Some(answered.upstream_time));
        if policy.forbid_upstream_401
            && identity.user().is_some()
            && self.teller.says_over(answered.response.status())
        {
            *answered.response.status_mut() = StatusCode::FORBIDDEN;
        }
        Told {
            reply: self.pass_on(answered),
            outcome,
            identity,
            upstream_time,
        }
    }

    /// What has become of the session, in the headers of an answer.
    pub(super) fn tell(&self, headers: &mut HeaderMap, news: &News, transport: Transport) {
        match news {
            News::Nothing => {}
            News::Issued(announced) => self.teller.announce(headers, announced, transport),
            News::Settled(cookies) => {
                for cookie in cookies {
                    headers.append(SET_COOKIE, cookie.clone());
                }
                headers.insert(CACHE_CONTROL, NO_STORE);
            }
            News::Over => self.teller.clear(headers, transport),
        }
    }

    /// The upstream's answer without what only the gateway may say, and with what it says about the session.
    pub(super) fn pass_on(&self, mut answered: Answered) -> Reply {
        if answered.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.open_tunnel(answered);
        }
        if answered.response.status().is_success() && answered.asks_for_a_stream() {
            // A client takes any success for an open WebSocket (RFC 8441 section 4).
            return self
                .teller
                .reject(&Rejection::NoWebSocket, answered.transport);
        }
        let headers = answered.response.headers_mut();
        self.rules.client(headers);
        // After what `Connection` of the answer names has gone: it could name this.
        if answered.is_personal {
            protect_from_caches(headers);
        }
        self.tell(headers, &answered.news, answered.transport);
        let may_last = answered
            .response
            .body()
            .size_hint()
            .exact()
            .is_none_or(|bytes| bytes > AT_ONCE);
        let tie = match answered.identity.user() {
            None => Tie::Loose,
            Some(caller) if !may_last => {
                Tie::glance(Rc::clone(&self.revocations_here), caller.token.handle)
            }
            Some(caller) => match self.revocations.enter_stream(caller.token.handle) {
                None => {
                    return self
                        .teller
                        .reject(&Unproven::Over.into(), answered.transport);
                }
                Some(stream) => Tie::stream(stream),
            },
        };
        let most = self.settings.max_stream_age.filter(|_| may_last);
        answered.response.map(|body| {
            let body = ReplyBody::upstream(body, Rc::clone(&self.rules), tie);
            match most {
                Some(most) => body.ending_after(most),
                None => body,
            }
        })
    }

    /// After the upstream's 101, and not before, bytes go both ways.
    fn open_tunnel(&self, mut answered: Answered) -> Reply {
        if !answered.is_accepted() {
            return self
                .teller
                .reject(&Rejection::NoWebSocket, answered.transport);
        }
        let Some(ClientSide {
            upgrade: client,
            stream: on_stream,
        }) = answered.websocket
        else {
            return self.teller.reject(&Rejection::Internal, answered.transport);
        };
        let over_http2 = on_stream.is_some();
        let stream = match answered.identity.user() {
            None => None,
            Some(caller) => match self.revocations.enter_stream(caller.token.handle) {
                None => {
                    return self
                        .teller
                        .reject(&Unproven::Over.into(), answered.transport);
                }
                stream => stream,
            },
        };
        let Some(upstream) = answered.response.body_mut().take_tunnel() else {
            return self.teller.reject(&Rejection::Internal, answered.transport);
        };
        let end = end_of_tunnel(stream, self.stop.clone(), self.settings.max_stream_age);
        let terms = TunnelTerms {
            kind: TunnelKind::WebSocket,
            idle: Some(self.settings.websocket_idle),
            write: over_http2.then_some(self.settings.write_timeout),
        };
        self.tunnels.spawn_local(async move {
            let client = match client.await {
                Ok(client) => client,
                Err(error) => {
                    debug!(
                        error = %Causes(&error),
                        "a WebSocket did not come about"
                    );
                    return;
                }
            };
            let report = tunnel::run(TokioIo::new(client), upstream, end, terms).await;
            debug!(?report, "a WebSocket ended");
            drop(on_stream);
        });
        let headers = answered.response.headers_mut();
        self.rules.client(headers);
        if over_http2 {
            headers.remove(SEC_WEBSOCKET_ACCEPT);
        } else {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        self.tell(headers, &answered.news, answered.transport);
        if over_http2 {
            *answered.response.status_mut() = StatusCode::OK;
        }
        answered.response.map(|_| ReplyBody::own(""))
    }
}

/// Shorter answers are not entered as live streams, which has a price: most are complete at once.
const AT_ONCE: u64 = 64 * 1024;

async fn end_of_tunnel(
    stream: Option<LiveStream>,
    shutdown: CancellationToken,
    max_age: Option<Duration>,
) -> CutReason {
    tokio::select! {
        reason = end_of_session(stream) => reason,
        () = shutdown.cancelled() => CutReason::Shutdown,
        () = passed(max_age) => CutReason::TooOld,
    }
}

/// Of the session that a stream belongs to; never, if there is none.
async fn end_of_session(stream: Option<LiveStream>) -> CutReason {
    let Some(stream) = stream else {
        return pending().await;
    };
    stream.ended().await;
    match stream.has_lapsed() {
        true => CutReason::Lapsed,
        false => CutReason::Revoked,
    }
}

async fn passed(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => pending().await,
    }
}
