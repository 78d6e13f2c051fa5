//! The answers that the gateway gives instead of the upstream: all of them, in one list.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use thiserror::Error;

use super::request_body::BodyFault;
use crate::issuer::{IssueError, OpenError};
use crate::revocation::StoreUnreadable;
use crate::route::AmbiguousPath;
use crate::store::StoreError;
use crate::telemetry::RejectionId;
use crate::upstream::UpstreamError;

/// Why a request is not answered by the upstream. Details are for the log; the client gets status and message.
#[derive(Debug, Error)]
pub enum Rejection {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("path or query is too long")]
    TooLong,
    #[error("request has too many cookies")]
    TooManyCookies,
    #[error("request has too many header lines")]
    TooManyHeaders,
    #[error("connection is not for this host")]
    Misdirected,
    #[error("method is not allowed here")]
    MethodNotAllowed { allow: Option<HeaderValue> },
    #[error("a session is required")]
    Unauthenticated {
        why: Unproven,
        /// For page navigations: where to log in.
        login: Option<HeaderValue>,
    },
    #[error("request comes from another site")]
    CrossSite,
    #[error(
        "the path is the gateway's own, or a preflight or WebSocket that its rule does not let pass: the proxy has to send it here instead of asking"
    )]
    NotAskable,
    /// Of the user's own; whether it is somebody else's is nobody's business.
    #[error("user has no such session")]
    NoSuchSession,
    #[error("session was refreshed too often")]
    TooManyRefreshes,
    #[error("too many requests of this kind from the client's address, or for the session")]
    TooManyRequests { retry_after: Duration },
    #[error("session store is unavailable")]
    StoreUnavailable(#[source] StoreFailure),
    /// Refused here from now on, and owed to the store.
    #[error("session store is unavailable: the logout holds here, but is not written yet")]
    LogoutNotWritten(#[source] StoreError),
    #[error("upstream failed")]
    Upstream(#[from] UpstreamError),
    /// What is wrong with the client's body shows while it is forwarded.
    #[error(transparent)]
    Body(BodyFault),
    #[error("upstream did not open the WebSocket that the client asked for over HTTP/2")]
    NoWebSocket,
    #[error("the user's sessions were revoked while the login was under way")]
    LoginOvertaken,
    #[error("the user is disabled")]
    UserDisabled,
    #[error("upstream's login cannot be used: {0}")]
    LoginUnusable(String),
    #[error("internal error")]
    Internal,
}

/// What a request lacks to be taken for somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// No token, an expired one, or one that is not ours. A refresh may help; nothing is cleared.
    NoSession,
    /// The session has ended: the cookies are cleared.
    Over,
    /// Another site is behind the request: nothing is looked at and nothing is cleared.
    CrossSite,
    /// The page has not shown the session's anti-CSRF token, or a wrong one: nothing is changed and nothing is cleared.
    AntiCsrf,
    /// Somebody else used the session's refresh token too: it has ended.
    Theft,
}

/// What cannot be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    #[error(transparent)]
    Path(AmbiguousPath),
    #[error("scheme is neither http nor https")]
    Scheme,
    #[error("method is not in upper case")]
    Method,
    #[error("where the request ends can be read in more than one way")]
    Framing,
    #[error("WebSocket over HTTP/2 is not of the form of RFC 8441")]
    ExtendedConnect,
    #[error("question of another proxy does not say method and target, each once")]
    Question,
    #[error("path is not in its canonical form, and the proxy that asks would forward it as it is")]
    NotCanonical,
    #[error(
        "client says who it is in the identity header, and the proxy that asks would forward that"
    )]
    Identity,
    #[error("Host is missing, repeated, malformed, or not that of the request target")]
    Host,
}

/// How the store failed a request.
#[derive(Debug, Error)]
pub enum StoreFailure {
    #[error(transparent)]
    Unreadable(StoreUnreadable),
    #[error(transparent)]
    Issue(IssueError),
    #[error(transparent)]
    Refresh(Arc<crate::issuer::RefreshError>),
}

impl Rejection {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::URI_TOO_LONG,
            Self::TooManyCookies | Self::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthenticated { login: Some(_), .. } => StatusCode::SEE_OTHER,
            Self::Unauthenticated { login: None, .. } => StatusCode::UNAUTHORIZED,
            Self::CrossSite | Self::UserDisabled | Self::NotAskable => StatusCode::FORBIDDEN,
            Self::NoSuchSession => StatusCode::NOT_FOUND,
            Self::TooManyRefreshes | Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::StoreUnavailable(_) | Self::LogoutNotWritten(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Body(BodyFault::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyFault::TooSlow) => StatusCode::REQUEST_TIMEOUT,
            Self::Upstream(error) => upstream_status(error),
            Self::LoginOvertaken => StatusCode::CONFLICT,
            Self::LoginUnusable(_) | Self::NoWebSocket => StatusCode::BAD_GATEWAY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the client is told. The three of 401 are the words that the browser SDKs' backends use.
    pub fn message(&self) -> String {
        match self {
            Self::Malformed(malformed) => malformed.to_string(),
            Self::TooLong => "path or query is too long".into(),
            Self::TooManyCookies => "too many cookies".into(),
            Self::TooManyHeaders => "too many header lines".into(),
            Self::Misdirected => "this connection is not for this host".into(),
            Self::MethodNotAllowed { .. } => "method not allowed".into(),
            Self::Unauthenticated {
                why: Unproven::NoSession | Unproven::AntiCsrf,
                ..
            } => "try refresh token".into(),
            Self::Unauthenticated {
                why: Unproven::Over,
                ..
            } => "unauthorised".into(),
            Self::Unauthenticated {
                why: Unproven::CrossSite,
                ..
            } => "cross-site request refused".into(),
            Self::Unauthenticated {
                why: Unproven::Theft,
                ..
            } => "token theft detected".into(),
            Self::CrossSite => "cross-site request refused".into(),
            Self::NotAskable => "this path is for the gateway itself".into(),
            Self::NoSuchSession => "no such session".into(),
            Self::TooManyRefreshes => "too many refreshes".into(),
            Self::TooManyRequests { .. } => "too many requests".into(),
            Self::StoreUnavailable(_) => "sessions cannot be checked now".into(),
            Self::LogoutNotWritten(_) => "logged out here; other replicas will know later".into(),
            Self::Body(BodyFault::TooLarge) => "body is too long".into(),
            Self::Body(BodyFault::TooSlow) => "body did not come in time".into(),
            Self::Upstream(error) if upstream_status(error) == StatusCode::GATEWAY_TIMEOUT => {
                "the application did not answer in time".into()
            }
            Self::Upstream(UpstreamError::Full { .. }) => "the application is busy".into(),
            Self::Upstream(_) => "the application cannot be reached".into(),
            Self::NoWebSocket => "the application does not speak WebSocket here".into(),
            Self::LoginOvertaken => "log in again: all sessions were ended meanwhile".into(),
            Self::UserDisabled => "this user cannot log in".into(),
            Self::LoginUnusable(_) => "the application's login cannot be used".into(),
            Self::Internal => "internal error".into(),
        }
    }

    /// The stable name in logs and metrics: one of [`REASONS`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_request",
            Self::TooLong => "path_too_long",
            Self::TooManyCookies => "too_many_cookies",
            Self::TooManyHeaders => "too_many_headers",
            Self::Misdirected => "misdirected",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::Unauthenticated {
                why: Unproven::NoSession,
                ..
            } => "no_session",
            Self::Unauthenticated {
                why: Unproven::AntiCsrf,
                ..
            } => "anti_csrf",
            Self::NoSuchSession => "no_such_session",
            Self::Unauthenticated {
                why: Unproven::Over,
                ..
            } => "session_over",
            Self::Unauthenticated {
                why: Unproven::Theft,
                ..
            } => "theft",
            Self::CrossSite
            | Self::Unauthenticated {
                why: Unproven::CrossSite,
                ..
            } => "cross_site",
            Self::NotAskable => "not_askable",
            Self::TooManyRefreshes => "too_many_refreshes",
            Self::TooManyRequests { .. } => "too_many_requests",
            Self::StoreUnavailable(_) => "store_unavailable",
            Self::LogoutNotWritten(_) => "logout_not_written",
            Self::Body(BodyFault::TooLarge) => "body_too_large",
            Self::Body(BodyFault::TooSlow) => "body_too_slow",
            Self::Upstream(error) => error.name(),
            Self::NoWebSocket => "no_websocket",
            Self::LoginOvertaken => "login_overtaken",
            Self::UserDisabled => "user_disabled",
            Self::LoginUnusable(_) => "login_unusable",
            Self::Internal => "internal",
        }
    }

    /// The place of [`Self::reason`] in [`REASONS`].
    pub fn id(&self) -> RejectionId {
        let reason = self.reason();
        let index = REASONS
            .iter()
            .position(|known| *known == reason)
            .unwrap_or(REASONS.len());
        RejectionId::new(u8::try_from(index).unwrap_or(u8::MAX))
    }

    /// The session is over for the client: its cookies are cleared with the answer.
    pub fn clears_cookies(&self) -> bool {
        matches!(
            self,
            Self::Unauthenticated {
                why: Unproven::Over | Unproven::Theft,
                ..
            } | Self::LogoutNotWritten(_)
        )
    }

    /// Somebody who runs the gateway has to do something about it.
    pub fn is_operators(&self) -> bool {
        matches!(
            self,
            Self::StoreUnavailable(_)
                | Self::LogoutNotWritten(_)
                | Self::LoginUnusable(_)
                | Self::Internal
        ) || matches!(self, Self::Upstream(error) if error.fault() != crate::upstream::Fault::Client)
    }
}

fn upstream_status(error: &UpstreamError) -> StatusCode {
    match error {
        UpstreamError::ConnectTimeout { .. }
        | UpstreamError::ResponseTimeout { .. }
        | UpstreamError::TotalTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        UpstreamError::Full { .. } => StatusCode::SERVICE_UNAVAILABLE,
        UpstreamError::RequestBody { .. } => StatusCode::BAD_REQUEST,
        UpstreamError::Connect { .. }
        | UpstreamError::Tls { .. }
        | UpstreamError::NoHttp2 { .. }
        | UpstreamError::Closed { .. }
        | UpstreamError::Garbage { .. }
        | UpstreamError::Framing { .. }
        | UpstreamError::UnexpectedUpgrade { .. } => StatusCode::BAD_GATEWAY,
    }
}

/// All reasons, for the metrics to register.
pub const REASONS: &[&str] = &[
    "malformed_request",
    "path_too_long",
    "too_many_cookies",
    "too_many_headers",
    "misdirected",
    "method_not_allowed",
    "no_session",
    "session_over",
    "theft",
    "cross_site",
    "anti_csrf",
    "no_such_session",
    "not_askable",
    "too_many_refreshes",
    "too_many_requests",
    "store_unavailable",
    "logout_not_written",
    "upstream_connect",
    "upstream_connect_timeout",
    "upstream_full",
    "upstream_tls",
    "upstream_no_http2",
    "upstream_total_timeout",
    "upstream_response_timeout",
    "upstream_closed",
    "upstream_garbage",
    "upstream_framing",
    "upstream_unexpected_upgrade",
    "request_body",
    "body_too_large",
    "body_too_slow",
    "no_websocket",
    "login_overtaken",
    "user_disabled",
    "login_unusable",
    "internal",
];

impl From<Unproven> for Rejection {
    fn from(why: Unproven) -> Self {
        Self::Unauthenticated { why, login: None }
    }
}

impl From<AmbiguousPath> for Rejection {
    fn from(path: AmbiguousPath) -> Self {
        if path.is_too_long() {
            Self::TooLong
        } else {
            Self::Malformed(Malformed::Path(path))
        }
    }
}

impl From<StoreUnreadable> for Rejection {
    fn from(error: StoreUnreadable) -> Self {
        Self::StoreUnavailable(StoreFailure::Unreadable(error))
    }
}

impl From<OpenError> for Rejection {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Overtaken => Self::LoginOvertaken,
            OpenError::Disabled => Self::UserDisabled,
            OpenError::Failed(error) => Self::StoreUnavailable(StoreFailure::Issue(error)),
        }
    }
}
