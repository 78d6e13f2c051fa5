//! The refresh endpoint, and the exchange that it shares with the refresh in line.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::Proxy;
use super::authenticate::OneToken;
use super::bearer::Bearer;
use super::policy::AntiCsrf;
use super::receive::Received;
use super::rejection::{Rejection, StoreFailure, Unproven};
use super::reply::{Announced, Reply, Transport, json_reply};
use crate::issuer::Issued;
use crate::refresher::NotRefreshed;
use crate::session::RefreshToken;
use crate::telemetry::RefreshKind;

impl Proxy {
    /// Answers every client, with a session or without: the browser SDKs ask before they know. New tokens go the way that the
    /// old one came, so that no page reads one that the browser keeps from it.
    pub(super) async fn refresh(
        &self,
        received: &Received,
        anti_csrf: AntiCsrf,
    ) -> Result<Reply, Rejection> {
        let presented = self.presented(received);
        let transport = Transport::of(received);
        let (token, tidy) = match transport {
            Transport::Headers => (from_header(received)?, received.own_cookies.any()),
            Transport::Cookies => {
                if self.is_from_elsewhere(received, anti_csrf) {
                    return Err(Unproven::CrossSite.into());
                }
                let now = self.revocations.not_before(self.clock.now());
                let OneToken::This(token) = self.one_refresh_token(&presented.refresh, now).await?
                else {
                    return Err(Unproven::Over.into());
                };
                if anti_csrf == AntiCsrf::Token && !self.shows_token_of(received, token.handle()) {
                    return Err(Unproven::AntiCsrf.into());
                }
                (token, presented.has_spare())
            }
        };
        let issued = self.refresh_token(received, token).await?;
        let mut reply = json_reply(StatusCode::OK, &json!({}));
        let announced = Announced { issued, tidy };
        self.teller
            .announce(reply.headers_mut(), &announced, transport);
        Ok(reply)
    }

    pub(super) async fn refresh_token(
        &self,
        received: &Received,
        token: RefreshToken,
    ) -> Result<Arc<Issued>, NotRefreshed> {
        let (refresher, device) = (Arc::clone(&self.refresher), received.device());
        let task = async move { refresher.refresh(token, &device).await };
        let exchange = self
            .background
            .run(task)
            .await
            .unwrap_or(Err(NotRefreshed::Died));
        match &exchange {
            Ok(exchange) => self.metrics.session_refreshed(match exchange.repeated {
                true => RefreshKind::Repeated,
                false => RefreshKind::Rotated,
            }),
            Err(error) => self.metrics.refresh_refused(error.reason()),
        }
        exchange.map(|exchange| exchange.issued)
    }
}

fn from_header(received: &Received) -> Result<RefreshToken, Rejection> {
    match &received.bearer {
        Some(Bearer::Refresh(token)) => Ok(token.clone()),
        _ => Err(Unproven::Over.into()),
    }
}

impl From<NotRefreshed> for Rejection {
    fn from(error: NotRefreshed) -> Self {
        match error {
            NotRefreshed::Over(_) => Self::Unauthenticated {
                why: Unproven::Over,
                login: None,
            },
            NotRefreshed::Theft => Self::Unauthenticated {
                why: Unproven::Theft,
                login: None,
            },
            NotRefreshed::TooOften => Self::TooManyRefreshes,
            NotRefreshed::Failed(error) => Self::StoreUnavailable(StoreFailure::Refresh(error)),
            NotRefreshed::Unchecked(error) => error.into(),
            NotRefreshed::Died => Self::Internal,
        }
    }
}
