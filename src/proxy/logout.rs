//! A logout: the session ends, durably and everywhere, and then the answer leaves.

use http::header::{HeaderMap, HeaderName};
use http::{HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::json;
use tracing::warn;

use super::Proxy;
use super::authenticate::{Authenticated, Identity, News, Standing};
use super::forward::Answered;
use super::origin::is_navigation;
use super::policy::{LogoutPolicy, LogoutScope};
use super::receive::Received;
use super::rejection::{Rejection, Unproven};
use super::reply::{Reply, json_reply, redirect_reply};
use crate::causes::Causes;
use crate::identity::UserId;
use crate::session::SessionHandle;
use crate::store::{Revocation, RevocationReason, StoreError};

/// What a logout is to end.
enum Ending {
    /// The browser has no session: there is only something to clear.
    Nothing,
    Sessions(Vec<SessionHandle>),
    User(UserId, Vec<SessionHandle>),
}

impl Proxy {
    pub(super) async fn logout(
        &self,
        received: Box<Received>,
        policy: &LogoutPolicy,
    ) -> Result<Reply, Rejection> {
        if let Some(forged) = self.forged_ending(&received, policy.anti_csrf) {
            return Err(forged);
        }
        let transport = self.asked_transport(&received);
        let ending = self.what_to_end(&received, policy.scope).await?;
        let ended = self.end(ending).await?;
        let mut reply = match &policy.forward {
            None => own_answer(&received, policy),
            Some(forward) => {
                let own = own_answer(&received, policy);
                let identity = self
                    .presented_caller(&received, &ended)
                    .map_or(Identity::Anonymous, Identity::User);
                let authenticated = Authenticated {
                    received,
                    identity,
                    news: News::Nothing,
                };
                match self.forward(authenticated, forward).await {
                    // The application was told whose session it was; the answer is nobody's, for the session is over.
                    Ok(answered) => self.pass_on(Answered {
                        identity: Identity::Anonymous,
                        ..answered
                    }),
                    Err(error) => {
                        warn!(
                            error = %Causes(&error),
                            "the application could not be told of a logout; it holds all the same"
                        );
                        own
                    }
                }
            }
        };
        let headers = reply.headers_mut();
        self.teller.clear(headers, transport);
        for cookie in &policy.clear_cookies {
            headers.append(http::header::SET_COOKIE, cookie.clone());
        }
        if let Some(kinds) = &policy.clear_site_data {
            headers.insert(CLEAR_SITE_DATA, kinds.clone());
        }
        Ok(reply)
    }

    /// A session names itself by a token whose signature holds, expired or not. All devices of a user need more: a token
    /// that holds in full, or a refresh in line that gives one.
    async fn what_to_end(
        &self,
        received: &Received,
        scope: LogoutScope,
    ) -> Result<Ending, Rejection> {
        let presented = self.presented_sessions(received);
        if presented.is_empty() {
            return Ok(Ending::Nothing);
        }
        for session in &presented {
            self.rates.count_logout(*session)?;
        }
        if scope == LogoutScope::Session {
            return Ok(Ending::Sessions(presented));
        }
        match self.standing(received).await {
            Ok(Standing::Known(caller, _)) => {
                Ok(Ending::User(caller.token.user.clone(), presented))
            }
            Ok(Standing::Nobody) => Err(Rejection::Unauthenticated {
                why: Unproven::NoSession,
                login: None,
            }),
            // Asked for before, and not written yet: once more, until all devices are out.
            Ok(Standing::Over(_)) => match self.presented_user(received, &presented) {
                Some(user) if self.revocations.is_ending(&user) => {
                    Ok(Ending::User(user, presented))
                }
                // Nothing is left to prove who the user is; what the browser presents ends once more.
                _ => Ok(Ending::Sessions(presented)),
            },
            // Whether the session lives cannot be known now, but the answer must not say less than the truth: all or an error.
            Err(Rejection::StoreUnavailable(failure)) => {
                match self.presented_user(received, &presented) {
                    Some(user) => Ok(Ending::User(user, presented)),
                    None => {
                        self.end(Ending::Sessions(presented)).await?;
                        Err(Rejection::StoreUnavailable(failure))
                    }
                }
            }
            Err(other) => Err(other),
        }
    }

    /// Whom the only access token among those presented names, if it has not expired.
    fn presented_user(&self, received: &Received, presented: &[SessionHandle]) -> Option<UserId> {
        let now = self.revocations.not_before(self.clock.now());
        let caller = self.presented_caller(received, presented)?;
        (!caller.token.is_expired(now)).then(|| caller.token.user.clone())
    }

    /// Says which sessions were there to end.
    async fn end(&self, ending: Ending) -> Result<Vec<SessionHandle>, Rejection> {
        let revocations = self.revocations.clone();
        let started = self.clock.boot();
        let (reason, ended) = match ending {
            Ending::Nothing => return Ok(Vec::new()),
            Ending::Sessions(handles) => {
                let reason = RevocationReason::Logout;
                (
                    reason,
                    self.background
                        .run(async move { revocations.revoke(&handles, reason).await })
                        .await?,
                )
            }
            Ending::User(user, known) => {
                let reason = RevocationReason::LogoutUser;
                let revoke = async move { revocations.revoke_user(&user, &known, reason).await };
                (reason, self.background.run(revoke).await?)
            }
        };
        self.count(reason, &ended);
        self.metrics
            .logout_acknowledged(self.clock.boot().since(started));
        let ended = ended.map_err(Rejection::LogoutNotWritten)?.ended;
        Ok(ended.into_iter().map(|session| session.handle).collect())
    }

    pub(super) fn count(&self, reason: RevocationReason, ended: &Result<Revocation, StoreError>) {
        match ended {
            Ok(revocation) => self
                .metrics
                .sessions_revoked(reason.name(), revocation.ended.len() as u64),
            Err(_) => self.metrics.store_error("revoke"),
        }
    }
}

/// Pages go where the operator said; scripts get what the browser SDKs read.
fn own_answer(received: &Received, policy: &LogoutPolicy) -> Reply {
    match &policy.redirect {
        Some(default) if is_navigation(received.headers()) => {
            let asked = received.path.query().and_then(asked_redirect);
            let allowed = asked.and_then(|asked| {
                policy
                    .redirect_allow
                    .iter()
                    .find(|allowed| *allowed == asked.as_str())
            });
            redirect_reply(allowed.unwrap_or(default).clone())
        }
        _ => json_reply(StatusCode::OK, &json!({ "status": "OK" })),
    }
}

/// The one `redirect` of a query, decoded. It is only ever compared, never sent.
fn asked_redirect(query: &str) -> Option<String> {
    let mut asked = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("redirect="));
    let only = asked.next().filter(|_| asked.next().is_none())?;
    percent_decode_str(only).decode_utf8().ok().map(Into::into)
}

/// <https://www.w3.org/TR/clear-site-data/>
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// The header that clears these kinds of data; `None` if there are none.
pub fn clear_site_data(kinds: &[&str]) -> Option<HeaderValue> {
    let quoted: Vec<String> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
    HeaderValue::try_from(quoted.join(", "))
        .ok()
        .filter(|value| !value.is_empty())
}

/// What the application asks for in `portcullis-logout`.
pub(super) fn asked_by_application(headers: &HeaderMap) -> Option<LogoutScope> {
    match headers.get(super::headers::LOGOUT_HEADER)?.as_bytes() {
        b"session" => Some(LogoutScope::Session),
        b"user" => Some(LogoutScope::User),
        other => {
            warn!(value = %String::from_utf8_lossy(other), "portcullis-logout is neither session nor user; nothing was ended");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::asked_redirect;

    #[test]
    fn the_redirect_that_is_asked_for() {
        for (query, asked) in [
            ("redirect=/bye", Some("/bye")),
            ("a=1&redirect=%2Fbye&b=2", Some("/bye")),
            ("redirect=/bye&redirect=/", None),
            ("Redirect=/bye", None),
            ("xredirect=/bye", None),
            ("redirect=%ff", None),
            ("redirect=", Some("")),
        ] {
            assert_eq!(asked_redirect(query).as_deref(), asked, "{query}");
        }
    }
}
