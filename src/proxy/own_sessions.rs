//! What users see of their own sessions, and how they end one: their devices, and never anybody else's.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::Proxy;
use super::authenticate::{Authenticated, Caller, Identity, News};
use super::policy::Admission;
use super::receive::Received;
use super::rejection::{Rejection, StoreFailure, Unproven};
use super::reply::{Reply, Transport, json_reply};
use crate::issuer::IssueError;
use crate::session::{Session, SessionHandle};
use crate::store::{RevocationReason, StoreError};

impl Proxy {
    /// The list, the last used first.
    pub(super) async fn own_sessions(
        &self,
        received: Box<Received>,
        admission: &Admission,
    ) -> Result<Reply, Rejection> {
        let visitor = self.visitor(received, admission).await?;
        let (issuer, user) = (Arc::clone(&self.issuer), visitor.caller.token.user.clone());
        let sessions = self
            .background
            .run(async move { issuer.sessions_of(&user).await })
            .await?
            .map_err(unavailable)?;
        let current = visitor.caller.token.handle;
        let shown: Vec<_> = sessions.iter().map(|it| shown(it, current)).collect();
        let mut reply = json_reply(StatusCode::OK, &json!({ "sessions": shown }));
        self.tell(reply.headers_mut(), &visitor.news, visitor.transport);
        Ok(reply)
    }

    /// The end of one; the answer leaves when no replica accepts it any more.
    pub(super) async fn end_own_session(
        &self,
        received: Box<Received>,
        admission: &Admission,
    ) -> Result<Reply, Rejection> {
        let named = received.path.segments().last().map(str::parse);
        let visitor = self.visitor(received, admission).await?;
        let Some(Ok(handle)) = named else {
            return Err(Rejection::NoSuchSession);
        };
        let issuer = Arc::clone(&self.issuer);
        let owner = self
            .background
            .run(async move { issuer.user_of(handle).await })
            .await?
            .map_err(unavailable)?;
        if owner.as_ref() != Some(&visitor.caller.token.user) {
            return Err(Rejection::NoSuchSession);
        }
        let revocations = self.revocations.clone();
        let reason = RevocationReason::Logout;
        let ended = self
            .background
            .run(async move { revocations.revoke(&[handle], reason).await })
            .await?;
        self.count(reason, &ended);
        let is_current = handle == visitor.caller.token.handle;
        ended.map_err(|error| match is_current {
            true => Rejection::LogoutNotWritten(error),
            // Owed to the store as well, but this device stays logged in.
            false => unavailable(error),
        })?;
        let news = match is_current {
            true => News::Over,
            false => visitor.news,
        };
        let mut reply = json_reply(StatusCode::OK, &json!({ "status": "OK" }));
        self.tell(reply.headers_mut(), &news, visitor.transport);
        Ok(reply)
    }

    async fn visitor(
        &self,
        received: Box<Received>,
        admission: &Admission,
    ) -> Result<Visitor, Rejection> {
        let Authenticated {
            received,
            identity,
            news,
        } = self.authenticate(received, admission).await?;
        match identity {
            Identity::User(caller) => Ok(Visitor {
                caller,
                news,
                transport: Transport::of(&received),
            }),
            Identity::Anonymous => Err(Unproven::NoSession.into()),
        }
    }
}

/// Somebody with a session, at the gateway's own door.
struct Visitor {
    caller: Arc<Caller>,
    news: News,
    transport: Transport,
}

/// Neither its claims nor its data: those are the application's.
fn shown(session: &Session, current: SessionHandle) -> serde_json::Value {
    json!({
        "handle": session.handle.to_string(),
        "created": session.created_at.to_string(),
        "last_seen": session.last_seen_at.to_string(),
        "address": session.device.address,
        "user_agent": session.device.user_agent,
        "current": session.handle == current,
    })
}

fn unavailable(error: StoreError) -> Rejection {
    Rejection::StoreUnavailable(StoreFailure::Issue(IssueError::Store(error)))
}
