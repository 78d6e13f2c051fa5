//! The way of a request.
//!
//! ```text
//! request     receive → route → authenticate → (refresh) → forward → reply
//! login       … → forward → the application names the user → open session → reply with cookies
//! logout      receive → route → identify (signature must hold, expiry need not) → revoke → acknowledge → reply, cookies cleared
//! refresh     receive → route → exchange → reply with cookies
//! keys        receive → route → reply with the public keys
//! ```
//!
//! Each stage takes the result of the one before by value, so that a request that was not authenticated cannot be forwarded as
//! if it had been: the types don't fit. `Proxy::answer` is the list of stages; whatever a stage refuses is a [`Rejection`], and
//! [`Proxy::handle`] turns it into an answer, a log line and a count.
//!
//! One [`Proxy`] serves one worker: a thread with a runtime, a listener and connections to the upstreams of its own. What
//! workers share is read without contention; what needs the store runs on the [`Background`] runtime.

mod assertion;
mod authenticate;
mod background;
mod bearer;
mod caught;
mod complaints;
mod cors;
mod deliver;
mod forgery;
mod forward;
mod forward_auth;
mod framing;
mod headers;
mod http2;
pub mod listener;
mod login;
mod logout;
mod origin;
mod own_sessions;
mod patience;
mod policy;
mod public_keys;
mod rates;
mod receive;
mod record;
mod refresh;
mod rejection;
mod reply;
mod request_body;
mod trust;
pub mod tunnel;
mod verified;
pub mod websocket;

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderValue, Method, Request};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

pub use authenticate::{Caller, Identity};
pub use background::Background;
pub use bearer::Bearer;
pub use forward_auth::Asker;
pub use framing::{Scanned, scan_pieces};
pub use headers::HeaderRules;
pub use logout::clear_site_data;
pub use origin::{Origins, OwnOrigin};
pub use policy::{
    Action, Admission, AntiCsrf, Auth, ForwardPolicy, LogoutPolicy, LogoutScope, Policy,
    Unauthenticated, UpstreamHost,
};
pub use rates::{RateSettings, Rates};
pub use receive::ClientAddr;
pub use rejection::{REASONS, Rejection};
use reply::permanent_redirect_reply;
pub use reply::{Announced, BodyError, Reply, ReplyBody, Teller, Transport};
pub use trust::{ForwardedHeaders, TrustedProxies};
pub use verified::VerifiedTokens;

use authenticate::News;
use caught::caught;
use complaints::Complaints;
use forward::Answered;
use listener::{ConnectionInfo, Purpose};
use rates::Counted;
use receive::{Received, receive};
use record::Record;
use rejection::{Malformed, Unproven};
use verified::RecentTokens;

use crate::causes::Causes;
use crate::certificates::ClientHosts;
use crate::clock::Clock;
use crate::issuer::Issuer;
use crate::refresher::Refresher;
use crate::revocation::Revocations;
use crate::route::{CanonicalPath, EncodedSlash, RouteTable};
use crate::store::{RevocationReason, TokenUse};
use crate::telemetry::{Metrics, Outcome, RequestLine, RouteId, WorkerMetrics};
use crate::upstream::Upstream;

/// What all workers of a gateway share.
#[derive(Clone)]
pub struct SharedProxy {
    pub routes: Arc<RouteTable<Arc<Policy>>>,
    /// For what no rule names.
    pub default_policy: Arc<Policy>,
    pub issuer: Arc<Issuer>,
    pub refresher: Arc<Refresher>,
    pub revocations: Revocations,
    pub tokens: VerifiedTokens,
    /// First uses of refreshed tokens, on their way to the store.
    pub uses: mpsc::Sender<TokenUse>,
    pub teller: Teller,
    pub rules: HeaderRules,
    pub settings: Arc<ProxySettings>,
    pub rates: Rates,
    pub background: Background,
    pub clock: Clock,
    pub metrics: Metrics,
    /// The gateway ends: tunnels, which have no end of their own, end with it.
    pub stop: CancellationToken,
}

/// Settings of this module.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// `http` or `https`, as browsers see it.
    pub scheme: &'static str,
    /// Where listeners that redirect lead: scheme, host and port.
    pub public_url: Option<String>,
    /// The value of `Strict-Transport-Security` in answers over TLS, if the operator wants it.
    pub hsts: Option<HeaderValue>,
    /// A request can have so many header lines, in HTTP/2 too.
    pub header_count: usize,
    pub encoded_slash: EncodedSlash,
    /// Hosts whose clients have to show a certificate.
    pub certificates_for: Option<ClientHosts>,
    /// Whose pages may act with a browser's cookies.
    pub origins: Origins,
    /// Clients may keep their tokens themselves.
    pub header_mode: bool,
    pub trusted_proxies: TrustedProxies,
    /// An expired access token is renewed while its request waits.
    pub refresh_in_line: bool,
    /// Where people log in, if they can.
    pub login_path: Option<String>,
    /// Between two pieces of a request's body.
    pub body_timeout: Duration,
    /// What is written to a WebSocket on a stream of HTTP/2 waits for so long for a client that does not read.
    pub write_timeout: Duration,
    /// A WebSocket through which nothing comes for so long is closed.
    pub websocket_idle: Duration,
    /// An answer that streams, or a WebSocket, ends after that; `None`: it may last.
    pub max_stream_age: Option<Duration>,
    /// Who the application is in the assertions that it gets; `None`: it gets none.
    pub assertion_audience: Option<String>,
}

/// The request's way, in one worker.
pub struct Proxy {
    shared: SharedProxy,
    rules: Rc<HeaderRules>,
    /// Shared within the worker, so that an answer can have it without a word to the other workers.
    revocations_here: Rc<Revocations>,
    recent: RecentTokens,
    upstreams: Vec<Upstream>,
    worker: WorkerMetrics,
    /// Of the worker, whichever configuration they began with.
    tunnels: TaskTracker,
    of_the_store: Complaints,
}

impl std::ops::Deref for Proxy {
    type Target = SharedProxy;

    fn deref(&self) -> &SharedProxy {
        &self.shared
    }
}

/// An answer, and what is said about it in log and metrics.
struct Told {
    reply: Reply,
    outcome: Outcome,
    identity: Identity,
    upstream_time: Option<Duration>,
}

impl Proxy {
    pub fn new(shared: SharedProxy, upstreams: Vec<Upstream>, worker: WorkerMetrics) -> Self {
        Self {
            rules: Rc::new(shared.rules.clone()),
            revocations_here: Rc::new(shared.revocations.clone()),
            shared,
            recent: RecentTokens::new(),
            upstreams,
            worker,
            tunnels: TaskTracker::new(),
            of_the_store: Complaints::default(),
        }
    }

    /// One that goes by another configuration, in the same worker.
    #[must_use]
    pub fn successor(
        &self,
        shared: SharedProxy,
        upstreams: Vec<Upstream>,
        worker: WorkerMetrics,
    ) -> Self {
        Self {
            tunnels: self.tunnels.clone(),
            ..Self::new(shared, upstreams, worker)
        }
    }

    /// The connections to its upstreams.
    pub fn upstreams(&self) -> &[Upstream] {
        &self.upstreams
    }

    /// Answers a request, whatever happens, and sees that it is counted and logged.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        connection: Rc<ConnectionInfo>,
    ) -> Reply {
        let started = self.clock.boot();
        let method = request.method().clone();
        let mut seen = Seen::default();
        let page = self.allowed_page(request.headers());
        let (client, secure) = (connection.client, connection.secure);
        let asker = connection.asker();
        let told = caught(pin!(self.answer(request, connection, &mut seen))).await;
        let told = told.unwrap_or(Err(Rejection::Internal));
        let (mut told, reason) = match told {
            Ok(told) => (told, None),
            Err(rejection) => {
                let reason = rejection.reason();
                (self.reject(&rejection, seen.transport), Some(reason))
            }
        };
        self.share(
            told.reply.headers_mut(),
            seen.policy.map(AsRef::as_ref),
            page.as_ref(),
        );
        if let (true, Some(hsts)) = (secure, &self.settings.hsts) {
            let headers = told.reply.headers_mut();
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        if asker == Some(Asker::Subrequest) {
            told.reply = forward_auth::yes_or_no(told.reply);
        }
        let elapsed = self.clock.boot().since(started);
        let route = seen
            .policy
            .as_ref()
            .map_or(RouteId::NONE, |policy| policy.route);
        let gateway_time = elapsed.saturating_sub(told.upstream_time.unwrap_or_default());
        self.worker
            .record(route, told.outcome, gateway_time, told.upstream_time);
        if !RequestLine::enabled() {
            return told.reply;
        }
        let record = Record {
            clock: self.clock.clone(),
            started,
            method: seen.asked.unwrap_or(method),
            path: seen.path,
            policy: seen.policy.cloned(),
            status: told.reply.status().as_u16(),
            outcome: told.outcome.name(),
            reason,
            user: told.identity.user().map(|caller| caller.token.user.clone()),
            client: seen.client.unwrap_or(client).0,
            upstream: told.upstream_time,
            bytes_out: 0,
        };
        told.reply.map(|body| body.recorded(Box::new(record)))
    }

    /// The stages. A request's future is moved and kept with its connection, so it has room for what most requests do; what
    /// is rare waits on the heap.
    async fn answer<'a>(
        &'a self,
        request: Request<Incoming>,
        connection: Rc<ConnectionInfo>,
        seen: &mut Seen<'a>,
    ) -> Result<Told, Rejection> {
        let asker = connection.asker();
        let request = match asker {
            None => request,
            Some(asker) => {
                let request = forward_auth::asked_about(request, asker)?;
                seen.asked = Some(request.method().clone());
                request
            }
        };
        let mut received = receive(
            request,
            connection,
            receive::Terms {
                header_count: self.settings.header_count,
                encoded_slash: self.settings.encoded_slash,
                certificates_for: self.settings.certificates_for.as_ref(),
                trusted: &self.settings.trusted_proxies,
            },
        )?;
        seen.client = Some(received.client);
        received.bearer = self.bearer(received.headers());
        seen.path = RequestLine::enabled().then(|| received.path.clone());
        if received.connection.purpose == Purpose::Redirect {
            return Ok(Told::own(self.to_public_url(&received), Outcome::Own));
        }
        let policy = self
            .routes
            .lookup(&received.path, received.method())
            .unwrap_or(&self.default_policy);
        seen.policy = Some(policy);
        seen.transport = Transport::of(&received);
        if let Some(asker) = asker {
            return Box::pin(self.judge(received, policy, asker)).await;
        }
        if let Some(preflight) = self.preflight(&received, policy) {
            return Ok(Told::own(preflight, Outcome::Own));
        }
        let is_connect = http2::is_extended_connect(&received.request);
        if is_connect && !matches!(policy.action, Action::Forward(_)) {
            return Err(Rejection::MethodNotAllowed { allow: None });
        }
        match &policy.action {
            Action::Forward(forward) => {
                let authenticated = self.authenticate(received, &forward.admission).await?;
                let answered = self.forward(authenticated, forward).await?;
                self.still_live(&answered)?;
                let answered = self.ended_by_application(answered, forward).await?;
                Ok(self.deliver(answered, forward))
            }
            Action::Login(forward) => {
                self.rates.count(Counted::Login, received.client.0)?;
                let (answered, opened) = Box::pin(self.login(received, forward)).await?;
                let told = self.deliver(answered, forward);
                Ok(Told {
                    outcome: if opened { Outcome::Login } else { told.outcome },
                    ..told
                })
            }
            Action::Logout(logout) => {
                self.rates.count(Counted::Logout, received.client.0)?;
                seen.transport = self.asked_transport(&received);
                let reply = Box::pin(self.logout(received, logout)).await?;
                Ok(Told::own(reply, Outcome::Logout))
            }
            Action::Refresh(anti_csrf) => {
                self.rates.count(Counted::Refresh, received.client.0)?;
                seen.transport = self.asked_transport(&received);
                let reply = Box::pin(self.refresh(&received, *anti_csrf)).await?;
                Ok(Told::own(reply, Outcome::Refresh))
            }
            Action::PublicKeys => {
                let reply = Box::pin(self.public_keys()).await?;
                Ok(Told::own(reply, Outcome::Own))
            }
            Action::OwnSessions(admission) => {
                let reply = Box::pin(self.own_sessions(received, admission)).await?;
                Ok(Told::own(reply, Outcome::Own))
            }
            Action::OwnSession(admission) => {
                let reply = Box::pin(self.end_own_session(received, admission)).await?;
                Ok(Told::own(reply, Outcome::Own))
            }
            Action::NotAllowed { allow } => Err(Rejection::MethodNotAllowed {
                allow: Some(allow.clone()),
            }),
        }
    }

    /// Away from a listener that only leads elsewhere; the host is never the client's word.
    fn to_public_url(&self, received: &Received) -> Reply {
        let base = self.settings.public_url.as_deref().unwrap_or_default();
        let target = received.path.to_path_and_query();
        match HeaderValue::try_from(format!("{base}{target}")) {
            Ok(target) => permanent_redirect_reply(target),
            Err(_) => self.teller.reject(&Rejection::Internal, Transport::Cookies),
        }
    }

    /// How the client wants to hold its tokens, where it is given or loses them.
    fn asked_transport(&self, received: &Received) -> Transport {
        let asks = |mode: &HeaderValue| mode.as_bytes() == b"header";
        match received.headers().get("st-auth-mode") {
            Some(mode) if self.settings.header_mode && asks(mode) => Transport::Headers,
            _ => Transport::of(received),
        }
    }

    /// A session that ended while the application thought about the request gets no answer any more.
    fn still_live(&self, answered: &Answered) -> Result<(), Rejection> {
        match answered.identity.user() {
            Some(caller) if self.has_ended(caller) => Err(Rejection::Unauthenticated {
                why: Unproven::Over,
                login: None,
            }),
            _ => Ok(()),
        }
    }

    /// The application ends the session, or all of the user's, with its answer, where the operator lets it.
    async fn ended_by_application(
        &self,
        answered: Answered,
        policy: &ForwardPolicy,
    ) -> Result<Answered, Rejection> {
        let asked = policy
            .session_control
            .then(|| logout::asked_by_application(answered.response.headers()))
            .flatten();
        let (Some(scope), Some(caller)) = (asked, answered.identity.user()) else {
            return Ok(answered);
        };
        let (user, handle) = (caller.token.user.clone(), caller.token.handle);
        let revocations = self.revocations.clone();
        let ended = self.background.run(async move {
            match scope {
                LogoutScope::Session => revocations.revoke(&[handle], RevocationReason::App).await,
                LogoutScope::User => {
                    revocations
                        .revoke_user(&user, &[handle], RevocationReason::App)
                        .await
                }
            }
        });
        let ended = ended.await?;
        self.count(RevocationReason::App, &ended);
        ended.map_err(Rejection::LogoutNotWritten)?;
        Ok(Answered {
            news: News::Over,
            identity: Identity::Anonymous,
            ..answered
        })
    }

    fn reject(&self, rejection: &Rejection, transport: Transport) -> Told {
        if matches!(rejection, Rejection::Internal) {
            error!(
                error = %Causes(rejection),
                "request failed"
            );
        } else if rejection.is_operators() {
            self.complain(rejection);
        }
        Told::own(
            self.teller.reject(rejection, transport),
            Outcome::Rejected(rejection.id()),
        )
    }

    fn complain(&self, rejection: &Rejection) {
        let not_logged = match rejection {
            Rejection::StoreUnavailable(_) => self.of_the_store.tell(self.clock.boot()),
            _ => Some(0),
        };
        if let Some(not_logged) = not_logged {
            warn!(
                error = %Causes(rejection),
                reason = rejection.reason(),
                not_logged,
                "request failed"
            );
        }
    }

    /// Answers what the scanner did not take for a head, and closes: something was read in two ways, and none is served.
    pub fn refuse_unapproved(&self) -> Reply {
        let told = self.reject(&Malformed::Framing.into(), Transport::Cookies);
        self.worker
            .record(RouteId::NONE, told.outcome, Duration::ZERO, None);
        told.reply
    }

    /// Returns when the tunnels of this worker have ended.
    pub async fn tunnels_ended(&self) {
        self.tunnels.close();
        self.tunnels.wait().await;
    }
}

/// What is known of a request when it is logged.
#[derive(Default)]
struct Seen<'a> {
    path: Option<CanonicalPath>,
    /// Whom a proxy that is believed speaks for.
    client: Option<ClientAddr>,
    /// The method of a request that another proxy asks about.
    asked: Option<Method>,
    policy: Option<&'a Arc<Policy>>,
    /// How the client holds its tokens.
    transport: Transport,
}

impl Told {
    fn own(reply: Reply, outcome: Outcome) -> Self {
        Self {
            reply,
            outcome,
            identity: Identity::Anonymous,
            upstream_time: None,
        }
    }
}
