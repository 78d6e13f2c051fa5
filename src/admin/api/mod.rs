//! The admin API: sessions opened, verified, listed, changed and ended by call, for programs on this machine.
//!
//! `operations` is the list of what can be asked; it is both what requests are matched against and what the description
//! (`openapi`) is generated from, so that the two cannot differ. Schemas come from the types that are read and written.
//! A request goes token → operation → parameters and body → call; each call is a function in the file of its subject.
//!
//! A call that was begun goes on when its client leaves: a revocation is never cut in half.

mod describe;
mod fleet;
mod input;
mod keys;
mod operations;
mod sessions;
mod users;
mod values;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::Body;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{error, info};

use super::answers::{Answer, JSON, NOTHING_HERE, json, with_type};
use super::problem::{Code, Problem};
use super::token::AdminToken;
use crate::causes::Causes;
use crate::clock::Clock;
use crate::cookie::SessionCookies;
use crate::issuer::Issuer;
use crate::revocation::Revocations;
use crate::session::SessionHandle;
use crate::store::{Revocation, RevocationReason, SessionStore, StoreError, TokenUse};
use crate::telemetry::Metrics;

use input::{Input, read_body};
use operations::{Call, Found, Operation};

/// What the API works with.
#[derive(Clone)]
pub struct ApiParts {
    pub token: AdminToken,
    pub store: SessionStore,
    /// Verifies tokens and has the keys.
    pub issuer: Arc<Issuer>,
    pub revocations: Revocations,
    /// What sessions are opened with.
    pub issuing: Arc<ArcSwap<Issuing>>,
    /// First uses of refreshed tokens, on their way to the store.
    pub uses: mpsc::Sender<TokenUse>,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// What sessions are opened with; a new configuration replaces it.
#[derive(Clone)]
pub struct Issuing {
    pub issuer: Arc<Issuer>,
    pub cookies: SessionCookies,
}

/// The admin API; cheap to clone.
#[derive(Clone)]
pub struct Api {
    parts: Arc<ApiParts>,
    noted: verify::Noted,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl std::ops::Deref for Api {
    type Target = ApiParts;

    fn deref(&self) -> &ApiParts {
        &self.parts
    }
}

impl Api {
    pub fn new(parts: ApiParts) -> Self {
        Self {
            parts: Arc::new(parts),
            noted: verify::Noted::default(),
        }
    }

    /// Answers what no page of the listener does.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Result<Answer, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if !is_below_api(path) {
            return Err(Code::NotFound.says(NOTHING_HERE));
        }
        if !self.token.is_shown_in(&head.headers) {
            return Err(Code::Unauthorized
                .says("show the token of admin.token_file as `Authorization: Bearer …`"));
        }
        let Found { operation, path } = operations::find(&head.method, path)?;
        let mut input = Input::new(path, head.uri.query(), operation)?;
        if operation.body.is_some() {
            input.body = Some(read_body(&head.headers, body).await?);
        }
        let subject = head.uri.path().to_owned();
        let answer = self.run(operation, input).await;
        if head.method != Method::GET && operation.call.changes_something() {
            let status = match &answer {
                Ok(answer) => answer.status(),
                Err(problem) => problem.code.status(),
            };
            info!(
                target: "portcullis::audit",
                event = "admin_call",
                operation = operation.call.name(),
                path = subject,
                status = status.as_u16(),
                "the admin API was called"
            );
        }
        answer
    }

    async fn run(&self, operation: &'static Operation, input: Input) -> Result<Answer, Problem> {
        let api = self.clone();
        let call = tokio::spawn(async move { api.call(operation.call, input).await });
        match timeout(CALL_LIMIT, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => {
                error!(
                    error = %Causes(&failure),
                    operation = operation.call.name(),
                    "an admin call died"
                );
                Err(Code::Internal.says("the call failed; the log says why"))
            }
            Err(_) => Err(Code::StoreUnavailable.says(
                "it takes longer than anybody waits; it goes on, and can be asked for again",
            )),
        }
    }

    async fn call(&self, call: Call, input: Input) -> Result<Answer, Problem> {
        match call {
            Call::OpenSession => self.open_session(input.body()?).await,
            Call::VerifyToken => self.verify_token(input.body()?).await,
            Call::RevokeSessions => self.revoke_sessions(input.body()?).await,
            Call::ListSessions => self.list_sessions(None, input.page()?).await,
            Call::GetSession => self.get_session(input.handle()?).await,
            Call::EndSession => self.end_sessions(&[input.handle()?]).await,
            Call::GetData => self.get_data(input.handle()?).await,
            Call::ReplaceData => self.replace_data(input.handle()?, input.body()?).await,
            Call::ReplaceClaims => self.replace_claims(input.handle()?, input.body()?).await,
            Call::ListUserSessions => self.list_sessions(Some(input.user()?), input.page()?).await,
            Call::EndUserSessions => self.end_user_sessions(input.user()?).await,
            Call::RevokeUsers => self.revoke_users(input.body()?).await,
            Call::GetDisabled => self.get_disabled(input.user()?).await,
            Call::DisableUser => self.disable_user(input.user()?).await,
            Call::EnableUser => self.enable_user(input.user()?).await,
            Call::ListKeys => self.list_keys().await,
            Call::RotateKeys => self.rotate_keys().await,
            Call::RevokeKey => self.revoke_key(input.key()?).await,
            Call::ReadLog => self.read_log(input.after()?, input.log_limit()?).await,
            Call::GetFleet => self.get_fleet().await,
            Call::Describe => Ok(with_type(StatusCode::OK, JSON, describe::document())),
        }
    }

    /// Counts what was ended, and says what happened if it was not.
    fn ended(
        &self,
        reason: RevocationReason,
        revocation: Result<Revocation, StoreError>,
    ) -> Result<Revocation, Problem> {
        match revocation {
            Ok(revocation) => {
                self.metrics
                    .sessions_revoked(reason.name(), revocation.ended.len() as u64);
                Ok(revocation)
            }
            Err(error) => {
                self.metrics.store_error("revoke");
                Err(error.into())
            }
        }
    }
}

fn is_below_api(path: &str) -> bool {
    path.starts_with("/v1/") || path == "/openapi.json"
}

fn no_session(handle: SessionHandle) -> Problem {
    Code::SessionNotFound.says(format!(
        "there is no session {handle}: it has ended, or never was"
    ))
}

fn ok(body: &impl serde::Serialize) -> Answer {
    json(StatusCode::OK, JSON, body)
}

/// Longer than a revocation waits for a replica with the longest lease.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(75);
