//! Stage 4: to the upstream, and back with its answer.

use std::rc::Rc;
use std::time::Duration;

use http::Response;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use hyper::upgrade::OnUpgrade;

use super::authenticate::{Authenticated, Identity, News, is_websocket_handshake};
use super::headers::Told;
use super::http2;
use super::listener::Running;
use super::policy::{Auth, ForwardPolicy, UpstreamHost};
use super::receive::Received;
use super::rejection::Rejection;
use super::reply::Transport;
use super::request_body::{BodyBounds, ForwardedBody};
use super::{Proxy, trust};
use crate::upstream::{Outgoing, Replay, Terms, UpstreamBody};

/// The upstream's answer to a request, before it is made fit for the client.
#[derive(Debug)]
pub struct Answered {
    pub response: Response<UpstreamBody>,
    /// It may depend on who asked.
    pub is_personal: bool,
    pub identity: Identity,
    pub news: News,
    /// The client's side of a WebSocket, if it asked for one.
    pub websocket: Option<ClientSide>,
    /// How the client holds its tokens.
    pub transport: Transport,
    /// From the request's hand-over to the head of the answer.
    pub upstream_time: Duration,
}

/// Where a WebSocket of a client will be.
#[derive(Debug)]
pub struct ClientSide {
    pub upgrade: OnUpgrade,
    /// If it is a stream of HTTP/2.
    pub stream: Option<StreamSide>,
}

/// A WebSocket on a stream of HTTP/2, for which the gateway shakes hands with the upstream.
#[derive(Debug)]
pub struct StreamSide {
    /// What the upstream has to say to the gateway's key.
    pub accept: String,
    /// Its connection does not rest while it is open.
    #[expect(dead_code, reason = "what counts is when it is dropped")]
    pub running: Running,
}

impl ClientSide {
    fn of(received: &mut Received) -> Self {
        let request = &mut received.request;
        let stream = http2::is_extended_connect(request).then(|| StreamSide {
            accept: request
                .headers()
                .get(SEC_WEBSOCKET_KEY)
                .map(http2::expected_accept)
                .unwrap_or_default(),
            running: Running::on(&received.connection),
        });
        Self {
            upgrade: hyper::upgrade::on(request),
            stream,
        }
    }
}

impl Answered {
    /// The client asked for a WebSocket on a stream of HTTP/2.
    pub fn asks_for_a_stream(&self) -> bool {
        self.stream_side().is_some()
    }

    /// Where the gateway has shaken hands itself, the upstream has understood it.
    pub fn is_accepted(&self) -> bool {
        self.stream_side().is_none_or(|side| {
            self.response
                .headers()
                .get(SEC_WEBSOCKET_ACCEPT)
                .is_some_and(|accept| accept == side.accept.as_str())
        })
    }

    fn stream_side(&self) -> Option<&StreamSide> {
        self.websocket.as_ref()?.stream.as_ref()
    }
}

impl Proxy {
    /// What the client speaks, as far as is known, or else what the public URL says.
    pub(super) fn scheme(&self, received: &Received) -> &'static str {
        match received.is_secure() {
            Some(true) => "https",
            Some(false) => "http",
            None => self.settings.scheme,
        }
    }

    pub(super) async fn forward(
        &self,
        authenticated: Authenticated,
        policy: &ForwardPolicy,
    ) -> Result<Answered, Rejection> {
        let Authenticated {
            mut received,
            identity,
            news,
        } = authenticated;
        if http2::is_extended_connect(&received.request) && !policy.websocket {
            return Err(Rejection::MethodNotAllowed { allow: None });
        }
        let websocket = (policy.websocket && is_websocket_handshake(&received))
            .then(|| ClientSide::of(&mut received));
        let transport = Transport::of(&received);
        let assertion = match identity.user() {
            Some(caller) => self.assertion(caller).await?,
            None => None,
        };
        let scheme = self.scheme(&received);
        let (head, body) = received.request.into_parts();
        let told = Told {
            client: received.client.0,
            scheme,
            host: &received.host,
            asked_host: trust::asked_host(received.via.as_deref(), &received.host),
            certificate: received.connection.certificate.as_deref(),
            user: identity.user().map(|caller| &caller.header),
            assertion: assertion.as_ref(),
            own_cookies: received.own_cookies,
            own_bearer: received.bearer.is_some(),
            websocket: websocket.is_some(),
        };
        let mut headers = self.rules.upstream(head.headers, &told);
        if let UpstreamHost::Name(host) = &policy.host {
            headers.set_host(host.clone());
        }
        let path = match &policy.strip_prefix {
            None => received.path,
            Some(prefix) => {
                let below = received.path.strip_prefix(prefix);
                below.ok_or(Rejection::Internal)?
            }
        };
        let bounds = BodyBounds {
            bytes: policy.body_bytes,
            idle: self.settings.body_timeout,
        };
        let body = ForwardedBody::new(body, Rc::clone(&self.rules), bounds)?;
        let watch = body.watch();
        let terms = Terms {
            replay: match websocket {
                Some(_) => Replay::Never,
                None => Replay::Allowed,
            },
            timeouts: policy.timeouts.as_ref(),
            host_of_server: policy.host == UpstreamHost::Server,
        };

        let outgoing = Outgoing {
            method: head.method,
            path,
            headers,
            body,
        };

        let started = self.clock.boot();
        let response = self.upstreams[policy.upstream]
            .send(outgoing, terms)
            .await
            .map_err(|error| match &watch {
                Some(watch) => watch.blame(error),
                None => Rejection::Upstream(error),
            })?;
        if let Some(watch) = watch {
            watch.answered();
        }
        let upstream_time = self.clock.boot().since(started);
        Ok(Answered {
            response,
            is_personal: policy.admission.auth != Auth::None,
            identity,
            news,
            websocket,
            transport,
            upstream_time,
        })
    }
}
