//! Sessions by call: opened, shown, listed, changed, ended.

use http::header::{HeaderValue, LOCATION};
use http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::input::Page;
use super::values::{Claims, Data, Handle, Stored, Time, User};
use super::{Answer, Api, JSON, Problem, json, no_session, ok};
use crate::identity::UserId;
use crate::issuer::{NewSession as Login, SessionClaims, SessionData};
use crate::session::{Device, Session, SessionHandle};
use crate::store::{Revocation, RevocationReason};

/// A login that the application has decided.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSession {
    user: User,
    claims: Option<Claims>,
    data: Option<Data>,
    #[serde(default, deserialize_with = "object")]
    device: Option<ClientDevice>,
    /// The session that the browser had before; it ends.
    replaces: Option<Handle>,
}

/// Where the user logged in from; shown to people, never used to decide, and cut where it is too long to show.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ClientDevice {
    #[serde(default)]
    address: String,
    #[serde(default)]
    user_agent: String,
}

/// An object and nothing else: serde would take a list for one, too.
fn object<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<ClientDevice>, D::Error> {
    let members: Option<serde_json::Map<String, serde_json::Value>> =
        serde::Deserialize::deserialize(from)?;
    members
        .map(|members| serde_json::from_value(members.into()).map_err(serde::de::Error::custom))
        .transpose()
}

impl From<ClientDevice> for Device {
    fn from(device: ClientDevice) -> Self {
        let bounded = |text: String, most: usize| text.chars().take(most).collect();
        Self {
            address: bounded(device.address, 100),
            user_agent: bounded(device.user_agent, 1000),
        }
    }
}

/// A session that has begun, with its tokens.
#[derive(Serialize, JsonSchema)]
pub(super) struct OpenedSession {
    handle: Handle,
    user: User,
    access_token: String,
    refresh_token: String,
    /// What pages show beside their cookies, where `session.anti_csrf` is `token`.
    anti_csrf_token: String,
    access_token_expires_at: Time,
    /// Unless it is refreshed before.
    session_expires_at: Time,
    /// For the answer to the browser: one `Set-Cookie` header each.
    set_cookie: Vec<String>,
}

/// What was ended.
#[derive(Serialize, JsonSchema)]
pub(super) struct Ended {
    /// How many sessions were there to end.
    pub ended: usize,
    /// The place in the revocation log from which on every replica knows.
    pub sequence: u64,
}

impl From<&Revocation> for Ended {
    fn from(revocation: &Revocation) -> Self {
        Self {
            ended: revocation.ended.len(),
            sequence: revocation.sequence.as_u64(),
        }
    }
}

/// Claims that are in force.
#[derive(Serialize, JsonSchema)]
pub(super) struct ClaimsReplaced {
    /// Counts the changes of the session's claims.
    version: u32,
    /// The place in the revocation log from which on every replica knows.
    sequence: u64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeSessions {
    #[schemars(length(min = 1, max = 1000))]
    handles: Vec<Handle>,
}

/// An open session, as lists show it.
#[derive(Serialize, JsonSchema)]
pub(super) struct SessionSummary {
    handle: Handle,
    user: User,
    created_at: Time,
    /// The last time that a token was issued for it.
    last_seen_at: Time,
    /// It ends then, unless it is refreshed before.
    idle_expires_at: Time,
    /// It ends then, refreshed or not.
    expires_at: Time,
    /// Where it was opened from.
    address: String,
    /// What it was opened with.
    user_agent: String,
    /// How often its refresh token was exchanged.
    rotations: u32,
}

/// An open session, with what belongs to it.
#[derive(Serialize, JsonSchema)]
pub(super) struct SessionDetails {
    #[serde(flatten)]
    summary: SessionSummary,
    claims: Stored,
    data: Stored,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct SessionPage {
    sessions: Vec<SessionSummary>,
    /// For the page that follows; null on the last one.
    next_cursor: Option<Handle>,
}

impl From<&Session> for SessionSummary {
    fn from(session: &Session) -> Self {
        Self {
            handle: Handle(session.handle),
            user: User(session.user.clone()),
            created_at: Time(session.created_at),
            last_seen_at: Time(session.last_seen_at),
            idle_expires_at: Time(session.lineage.idle_expires_at),
            expires_at: Time(session.lineage.expires_at),
            address: session.device.address.clone(),
            user_agent: session.device.user_agent.clone(),
            rotations: session.lineage.generation,
        }
    }
}

impl Api {
    pub(super) async fn open_session(&self, new: NewSession) -> Result<Answer, Problem> {
        let login = Login {
            user: new.user.0,
            claims: new
                .claims
                .map_or_else(SessionClaims::empty, |claims| claims.0),
            data: new.data.map_or_else(SessionData::empty, |data| data.0),
            device: new.device.map(Device::from).unwrap_or_default(),
            known: self.revocations.known(),
            replaces: new.replaces.map(|handle| handle.0),
        };
        self.revocations.trust_keys().await?;
        let issuing = self.issuing.load_full();
        let opened = issuing.issuer.open(login).await?;
        self.metrics.session_opened();
        if let Some(replaced) = &opened.replaced {
            self.revocations.acknowledge(replaced).await;
        }
        let issued = opened.issued;
        let cookies =
            issuing
                .cookies
                .set(&issued.access, &issued.refresh, issued.session_expires_at);
        let body = OpenedSession {
            handle: Handle(issued.handle),
            user: User(issued.user),
            access_token: issued.access.expose().to_owned(),
            refresh_token: issued.refresh.expose().to_owned(),
            anti_csrf_token: issued.anti_csrf.expose().to_owned(),
            access_token_expires_at: Time(issued.access_expires_at),
            session_expires_at: Time(issued.session_expires_at),
            set_cookie: cookies
                .iter()
                .filter_map(|cookie| cookie.to_str().ok())
                .map(str::to_owned)
                .collect(),
        };
        let mut answer = json(StatusCode::CREATED, JSON, &body);
        if let Ok(place) = HeaderValue::try_from(format!("/v1/sessions/{}", issued.handle)) {
            answer.headers_mut().insert(LOCATION, place);
        }
        Ok(answer)
    }

    pub(super) async fn get_session(&self, handle: SessionHandle) -> Result<Answer, Problem> {
        let session = self.open(handle).await?;
        Ok(ok(&SessionDetails {
            summary: SessionSummary::from(&session),
            claims: Stored::new(session.claims),
            data: Stored::new(session.data),
        }))
    }

    pub(super) async fn list_sessions(
        &self,
        user: Option<UserId>,
        Page { limit, after }: Page,
    ) -> Result<Answer, Problem> {
        let sessions = match &user {
            Some(user) => self.store.sessions_of_user(user, after, limit).await?,
            None => self.store.all_sessions(after, limit).await?,
        };
        let is_full = sessions.len() >= limit as usize;
        let last = sessions.last().map(|session| Handle(session.handle));
        let now = self.clock.now();
        Ok(ok(&SessionPage {
            sessions: sessions
                .iter()
                .filter(|session| session.lineage.over(now).is_none())
                .map(SessionSummary::from)
                .collect(),
            next_cursor: last.filter(|_| is_full),
        }))
    }

    pub(super) async fn get_data(&self, handle: SessionHandle) -> Result<Answer, Problem> {
        let session = self.open(handle).await?;
        Ok(ok(&Stored::new(session.data)))
    }

    pub(super) async fn replace_data(
        &self,
        handle: SessionHandle,
        data: Data,
    ) -> Result<Answer, Problem> {
        self.open(handle).await?;
        if self.store.replace_data(handle, data.0.as_str()).await? {
            Ok(no_content())
        } else {
            Err(no_session(handle))
        }
    }

    pub(super) async fn replace_claims(
        &self,
        handle: SessionHandle,
        claims: Claims,
    ) -> Result<Answer, Problem> {
        self.open(handle).await?;
        let claims = claims.0.as_str();
        let change = self.revocations.replace_claims(handle, claims).await?;
        let change = change.ok_or_else(|| no_session(handle))?;
        Ok(ok(&ClaimsReplaced {
            version: change.version,
            sequence: change.sequence.as_u64(),
        }))
    }

    pub(super) async fn revoke_sessions(&self, asked: RevokeSessions) -> Result<Answer, Problem> {
        let mut handles: Vec<SessionHandle> = asked.handles.iter().map(|handle| handle.0).collect();
        if handles.is_empty() || handles.len() > MOST_HANDLES {
            return Err(
                super::Code::InvalidBody.says(format!("handles: from 1 to {MOST_HANDLES} at once"))
            );
        }
        handles.sort_unstable();
        handles.dedup();
        self.end_sessions(&handles).await
    }

    pub(super) async fn end_sessions(&self, handles: &[SessionHandle]) -> Result<Answer, Problem> {
        let reason = RevocationReason::Admin;
        let revocation = self.revocations.revoke(handles, reason).await;
        Ok(ok(&Ended::from(&self.ended(reason, revocation)?)))
    }

    /// A session that is over by itself is none, though its row may still be there.
    pub(super) async fn open(&self, handle: SessionHandle) -> Result<Session, Problem> {
        let now = self.clock.now();
        self.store
            .session(handle)
            .await?
            .filter(|session| session.lineage.over(now).is_none())
            .ok_or_else(|| no_session(handle))
    }
}

pub(super) fn no_content() -> Answer {
    let mut answer = Response::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

const MOST_HANDLES: usize = 1000;
