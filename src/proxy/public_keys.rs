//! `GET /.well-known/jwks.json`: the public keys, for whoever verifies what the gateway signs.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use super::Proxy;
use super::rejection::{Rejection, StoreFailure};
use super::reply::{Reply, ReplyBody};
use crate::issuer::IssueError;

impl Proxy {
    /// Past the deadline the store is asked first, so that no revoked key is shown.
    pub(super) async fn public_keys(&self) -> Result<Reply, Rejection> {
        self.trust_keys().await?;
        let keys = self.issuer.keys().loaded().ring.to_jwks();
        let mut reply = Response::new(ReplyBody::own(keys.to_string()));
        *reply.status_mut() = StatusCode::OK;
        let headers = reply.headers_mut();
        // RFC 7517 section 8.5.2.
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/jwk-set+json"),
        );
        headers.insert(
            CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=60"),
        );
        Ok(reply)
    }

    /// Before anything is signed or shown of the keys.
    pub(super) async fn trust_keys(&self) -> Result<(), Rejection> {
        if !self.revocations.has_lapsed() {
            return Ok(());
        }
        let revocations = self.revocations.clone();
        let trusted = async move { revocations.trust_keys().await };
        self.background.run(trusted).await?.map_err(|error| {
            Rejection::StoreUnavailable(StoreFailure::Issue(IssueError::Keys(error)))
        })
    }
}
