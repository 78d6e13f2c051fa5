//! Between authenticate and forward: what the application is told of the caller, signed for it.
//!
//! A signature costs more than the rest of a request, so an assertion is kept with the caller, who is kept per access token, and
//! made anew when half of its life is over.

use std::sync::Arc;

use http::HeaderValue;

use super::Proxy;
use super::authenticate::Caller;
use super::rejection::{Rejection, StoreFailure};
use crate::clock::Timestamp;
use crate::issuer::{IssueError, Issuer};
use crate::session::{AssertionClaims, KeyId};

/// An assertion as the header carries it.
#[derive(Debug)]
pub struct Assertion {
    header: HeaderValue,
    key: KeyId,
    made_at: Timestamp,
}

impl Assertion {
    fn make(
        issuer: &Issuer,
        caller: &Caller,
        audience: &str,
        now: Timestamp,
    ) -> Result<Self, Rejection> {
        let (text, key) = issuer
            .assert(&caller.token, audience, now)
            .map_err(StoreFailure::Issue)
            .map_err(Rejection::StoreUnavailable)?;
        let mut header = HeaderValue::try_from(text.expose()).map_err(|_| Rejection::Internal)?;
        header.set_sensitive(true);
        Ok(Self {
            header,
            key,
            made_at: now,
        })
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        now >= self.made_at && now.since(self.made_at) < AssertionClaims::LIFETIME / 2
    }
}

impl Proxy {
    /// The assertion of a caller; `None` if the operator wants none.
    pub(super) async fn assertion(
        &self,
        caller: &Caller,
    ) -> Result<Option<HeaderValue>, Rejection> {
        let Some(audience) = &self.settings.assertion_audience else {
            return Ok(None);
        };
        let now = self.clock.now();
        if let Some(kept) = &*caller.assertion.load()
            && kept.is_fresh(now)
            && self.issuer.honours(&kept.key)
        {
            return Ok(Some(kept.header.clone()));
        }
        Box::pin(self.trust_keys()).await?;
        let made = Assertion::make(&self.issuer, caller, audience, now)?;
        let header = made.header.clone();
        caller.assertion.store(Some(Arc::new(made)));
        Ok(Some(header))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;

    use super::Assertion;
    use crate::clock::Timestamp;
    use crate::session::KeyId;

    #[test]
    fn an_assertion_serves_for_half_of_its_life() {
        let now = Timestamp::from_secs(1_800_000_000);
        let assertion = Assertion {
            header: HeaderValue::from_static("x"),
            key: KeyId::from_store("k"),
            made_at: now,
        };
        assert!(assertion.is_fresh(now));
        assert!(assertion.is_fresh(now + Duration::from_millis(29_999)));
        assert!(!assertion.is_fresh(now + Duration::from_secs(30)));
        assert!(!assertion.is_fresh(now - Duration::from_millis(1)));
    }
}
