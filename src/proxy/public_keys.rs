//! `GET /.well-known/jwks.json`: the public keys, for whoever verifies what the gateway signs.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};

use super::Proxy;
use super::rejection::Rejection;
use super::reply::{Reply, ReplyBody};

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
}
