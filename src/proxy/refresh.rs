//! The refresh endpoint, and the exchange that it shares with the refresh in line.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::Proxy;
use super::authenticate::OneToken;
use super::receive::Received;
use super::rejection::{Rejection, StoreFailure, Unproven};
use super::reply::{Reply, json_reply};
use crate::issuer::Issued;
use crate::refresher::NotRefreshed;
use crate::session::RefreshToken;
use crate::telemetry::RefreshKind;

impl Proxy {
    /// Answers every client, with a session or without: the browser SDKs ask before they know.
    pub(super) async fn refresh(&self, received: &Received) -> Result<Reply, Rejection> {
        if self.is_cross_site(received) {
            return Err(Rejection::Unauthenticated {
                why: Unproven::CrossSite,
                login: None,
            });
        }
        let presented = self.teller.cookies.read(received.headers());
        let OneToken::This(token) = self.one_refresh_token(&presented.refresh) else {
            return Err(Rejection::Unauthenticated {
                why: Unproven::Over,
                login: None,
            });
        };
        let issued = self.refresh_token(received, token).await?;
        let mut reply = json_reply(StatusCode::OK, &json!({}));
        self.teller.announce(reply.headers_mut(), &issued);
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
            NotRefreshed::Died => Self::Internal,
        }
    }
}
