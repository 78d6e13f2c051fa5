//! What the operator decided about a path, as the stages need it.

use http::HeaderValue;

use crate::telemetry::RouteId;
use crate::upstream::Timeouts;

/// A rule of the route table.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Names the rule in metrics.
    pub route: RouteId,
    /// Names the rule in the log.
    pub label: String,
    pub action: Action,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Action {
    Forward(ForwardPolicy),
    Login(ForwardPolicy),
    Logout(LogoutPolicy),
    Refresh(AntiCsrf),
    /// The list of the user's own sessions.
    OwnSessions(Admission),
    /// The end of one of them.
    OwnSession(Admission),
    /// The public keys are shown.
    PublicKeys,
    /// The path is the gateway's, the method is not.
    NotAllowed {
        allow: HeaderValue,
    },
}

/// How a request goes to the application.
#[derive(Clone, Debug)]
pub struct ForwardPolicy {
    pub admission: Admission,
    /// Index of the upstream.
    pub upstream: usize,
    /// WebSocket handshakes may pass.
    pub websocket: bool,
    /// The application's answer may end the session.
    pub session_control: bool,
    /// The application's own 401 to a live session becomes 403, so that no browser SDK takes it for an expired token.
    pub forbid_upstream_401: bool,
    /// What the application does not see of the path.
    pub strip_prefix: Option<String>,
    pub host: UpstreamHost,
    /// The most that the body of a request may have; `None`: as much as the upstream takes.
    pub body_bytes: Option<u64>,
    /// Instead of the upstream's own.
    pub timeouts: Option<Timeouts>,
}

/// What the application finds in `Host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client asked for.
    Keep,
    /// The server's own.
    Server,
    Name(HeaderValue),
}

/// Who gets in.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    pub auth: Auth,
    pub unauthenticated: Unauthenticated,
    pub anti_csrf: AntiCsrf,
}

/// What keeps other sites from acting with a browser's cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AntiCsrf {
    /// Where the request comes from, as browsers say it.
    Origin,
    /// `rid`, which another site cannot send without being allowed to.
    CustomHeader,
    /// `anti-csrf`, with the session's own token.
    Token,
    Off,
}

/// Whether a session is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nobody is asked, and the application is told nobody.
    None,
    /// Who has a session is told to the application.
    Optional,
    Required,
}

/// What a request without a session gets where one is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// Page navigations are redirected to the login path, everything else gets 401.
    Auto,
    Redirect,
    Status,
}

/// What a logout ends, and how it is answered.
#[derive(Clone, Debug)]
pub struct LogoutPolicy {
    pub scope: LogoutScope,
    pub anti_csrf: AntiCsrf,
    /// Where page navigations go; `None` answers them as scripts are.
    pub redirect: Option<HeaderValue>,
    /// What `?redirect=` may ask for, byte for byte.
    pub redirect_allow: Vec<HeaderValue>,
    /// The application sees the request too, after the session has ended.
    pub forward: Option<ForwardPolicy>,
    /// Cookies of the application that are cleared too: one `Set-Cookie` each.
    pub clear_cookies: Vec<HeaderValue>,
    pub clear_site_data: Option<HeaderValue>,
}

/// Which sessions a logout ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutScope {
    /// This device.
    Session,
    /// All devices of the user.
    User,
}
