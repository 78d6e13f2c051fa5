//! A login: the application says who logged in, and the gateway opens the session.

use std::sync::Arc;

use http::HeaderMap;
use tracing::warn;

use super::Proxy;
use super::authenticate::{Identity, News};
use super::forward::Answered;
use super::headers::{CLAIMS_HEADER, LOGIN_HEADER, SESSION_DATA_HEADER};
use super::policy::ForwardPolicy;
use super::receive::Received;
use super::rejection::Rejection;
use super::reply::{Announced, Transport};
use crate::causes::Causes;
use crate::identity::UserId;
use crate::issuer::{IssueError, NewSession, OpenError, SessionClaims, SessionData};
use crate::secret::from_base64url_any;
use crate::session::SessionHandle;
use crate::store::{Revocation, RevocationReason};
use crate::telemetry::Metrics;

/// What the application said about a login.
struct Login {
    user: UserId,
    claims: SessionClaims,
    data: SessionData,
}

impl Proxy {
    /// Forwards the login and says whether it opened a session.
    pub(super) async fn login(
        &self,
        received: Box<Received>,
        policy: &ForwardPolicy,
    ) -> Result<(Answered, bool), Rejection> {
        // Before the application is asked: a revocation of the user that comes while it thinks overtakes the login.
        let known = self.revocations.known();
        let device = received.device();
        let mut previous = self.presented_sessions(&received);
        let transport = self.asked_transport(&received);
        let presented = self.presented(&received);
        let tidy = match transport {
            Transport::Cookies => presented.has_spare(),
            Transport::Headers => received.own_cookies.any(),
        };
        let authenticated = self.authenticate(received, &policy.admission).await?;
        let mut answered = self.forward(authenticated, policy).await?;
        let status = answered.response.status();
        let Some(login) = read_login(answered.response.headers())? else {
            return Ok((answered, false));
        };
        if status.is_client_error() || status.is_server_error() {
            warn!(
                status = status.as_u16(),
                "the application named a user in an error answer; no session was opened"
            );
            return Ok((answered, false));
        }
        let Login { user, claims, data } = login;
        let new = NewSession {
            user,
            claims,
            data,
            device,
            known,
            replaces: previous.pop(),
        };
        let (issuer, revocations) = (Arc::clone(&self.issuer), self.revocations.clone());
        let metrics = self.metrics.clone();
        let open = async move {
            revocations
                .trust_keys()
                .await
                .map_err(IssueError::from)
                .map_err(OpenError::from)?;
            let opened = issuer.open(new).await?;
            metrics.session_opened();
            if let Some(replaced) = &opened.replaced {
                count_replaced(&metrics, replaced);
                revocations.acknowledge(replaced).await;
            }
            Ok::<_, Rejection>(opened.issued)
        };
        let issued = self.background.run(open).await??;
        self.end_leftovers(previous);
        // The answer belongs to the new session, and ends with it.
        answered.identity = self
            .verified(issued.access.expose())
            .map_or(Identity::Anonymous, Identity::User);
        answered.transport = transport;
        answered.news = News::Issued(Announced {
            issued: Arc::new(issued),
            tidy,
        });
        Ok((answered, true))
    }

    /// A browser that presented more than one session keeps none of them; nobody waits for it.
    fn end_leftovers(&self, handles: Vec<SessionHandle>) {
        if handles.is_empty() {
            return;
        }
        let (revocations, metrics) = (self.revocations.clone(), self.metrics.clone());
        self.background.start(async move {
            let revoked = revocations.revoke(&handles, RevocationReason::Replaced);
            match revoked.await {
                Ok(revocation) => count_replaced(&metrics, &revocation),
                Err(error) => warn!(
                    error = %Causes(&error),
                    "could not write the end of a replaced session yet"
                ),
            }
        });
    }
}

fn count_replaced(metrics: &Metrics, revocation: &Revocation) {
    let reason = RevocationReason::Replaced.name();
    metrics.sessions_revoked(reason, revocation.ended.len() as u64);
}

fn read_login(headers: &HeaderMap) -> Result<Option<Login>, Rejection> {
    let Some(user) = headers.get(LOGIN_HEADER) else {
        return Ok(None);
    };
    let unusable = |header: &str, why: String| Rejection::LoginUnusable(format!("{header}: {why}"));
    for header in [LOGIN_HEADER, CLAIMS_HEADER, SESSION_DATA_HEADER] {
        if headers.get_all(header).iter().count() > 1 {
            return Err(unusable(header, "sent more than once".into()));
        }
    }
    let user = UserId::from_header_value(user)
        .map_err(|error| unusable(LOGIN_HEADER, error.to_string()))?;
    let claims = match headers.get(CLAIMS_HEADER) {
        None => SessionClaims::empty(),
        Some(text) => {
            let json = from_base64url_any(text.as_bytes())
                .ok_or_else(|| unusable(CLAIMS_HEADER, "not base64url without padding".into()))?;
            SessionClaims::parse(&json)
                .map_err(|error| unusable(CLAIMS_HEADER, error.to_string()))?
        }
    };
    let data = match headers.get(SESSION_DATA_HEADER) {
        None => SessionData::empty(),
        Some(json) => SessionData::parse(json.as_bytes())
            .map_err(|error| unusable(SESSION_DATA_HEADER, error.to_string()))?,
    };
    Ok(Some(Login { user, claims, data }))
}
