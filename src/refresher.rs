//! Refreshing as the proxy does it: many at once for one token become one, a loop is stopped, theft ends the session.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use thiserror::Error;
use tracing::warn;

use crate::causes::Causes;
use crate::clock::{BootTime, Clock, Timestamp};
use crate::identity::UserId;
use crate::issuer::{Ended, IssueError, Issued, Issuer, RefreshError, Refreshed};
use crate::revocation::{Revocations, StoreUnreadable, Verdict};
use crate::session::{Device, RefreshToken, SessionHandle};
use crate::store::{RevocationReason, Shown};
use crate::telemetry::Metrics;

/// Exchanges refresh tokens for all workers of this process.
pub struct Refresher {
    issuer: Arc<Issuer>,
    revocations: Revocations,
    clock: Clock,
    metrics: Metrics,
    /// Exchanges of the last moment, so that the requests of one page share one.
    recent: Cache<(SessionHandle, u32), Recent>,
    remembered_for: Duration,
    rotations: Rotations,
    settings: RefresherSettings,
}

/// Settings of this module.
#[derive(Clone, Copy, Debug)]
pub struct RefresherSettings {
    /// Rotations of one session within a minute; more is a client that loops.
    pub refreshes_per_minute: u32,
    pub reuse_grace: Duration,
}

#[derive(Clone)]
struct Recent {
    exchange: Exchange,
    at: Timestamp,
}

/// The tokens that a refresh token was exchanged for.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub issued: Arc<Issued>,
    /// Whether the token had been exchanged before.
    pub repeated: bool,
}

/// Why there are no new tokens.
#[derive(Debug, Error)]
pub enum NotRefreshed {
    #[error("the session has ended")]
    Over(Ended),
    #[error("a refresh token came back after its successor was used")]
    Theft,
    #[error("the session was refreshed too often")]
    TooOften,
    #[error("the refresh died")]
    Died,
    #[error("the session cannot be refreshed now")]
    Failed(#[source] Arc<RefreshError>),
    #[error("cannot tell whether the session goes on")]
    Unchecked(#[from] StoreUnreadable),
}

impl NotRefreshed {
    /// The stable name in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Over(_) => "over",
            Self::Theft => "theft",
            Self::TooOften => "too_often",
            Self::Failed(_) | Self::Unchecked(_) => "store",
            Self::Died => "internal",
        }
    }
}

impl Refresher {
    pub fn new(
        issuer: Arc<Issuer>,
        revocations: Revocations,
        clock: Clock,
        metrics: Metrics,
        settings: RefresherSettings,
    ) -> Self {
        let remembered_for = REMEMBERED_FOR.min(settings.reuse_grace);
        Self {
            issuer,
            revocations,
            clock,
            metrics,
            recent: Cache::builder()
                .max_capacity(MAX_SESSIONS)
                .time_to_live(REMEMBERED_FOR)
                .build(),
            remembered_for,
            rotations: Rotations::default(),
            settings,
        }
    }

    /// One with other settings that knows of the exchanges of this one.
    #[must_use]
    pub fn with_settings(&self, issuer: Arc<Issuer>, settings: RefresherSettings) -> Self {
        Self {
            issuer,
            revocations: self.revocations.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            recent: self.recent.clone(),
            remembered_for: REMEMBERED_FOR.min(settings.reuse_grace),
            rotations: self.rotations.clone(),
            settings,
        }
    }

    /// `from` is where the request came from, for the audit of a theft.
    pub async fn refresh(
        &self,
        token: RefreshToken,
        from: &Device,
    ) -> Result<Exchange, NotRefreshed> {
        let handle = token.handle();
        if self.revocations.is_revoked(&handle) {
            return Err(NotRefreshed::Over(Ended::Gone));
        }
        let recent = self.rotations.within_minute(&handle, self.clock.boot());
        if recent.count >= self.settings.refreshes_per_minute
            && !recent.is_behind(token.generation())
        {
            return Err(NotRefreshed::TooOften);
        }
        let exchange = match self.exchange(&token).await {
            Ok(exchange) => exchange,
            Err(error) => return Err(self.refused(error, from).await),
        };
        match self.verdict(&exchange).await? {
            Verdict::Revoked => Err(NotRefreshed::Over(Ended::Gone)),
            Verdict::Outdated | Verdict::KeyDropped => {
                let key = (handle, token.generation());
                self.recent.invalidate(&key).await;
                match self.exchange(&token).await {
                    Ok(exchange) => Ok(exchange),
                    Err(error) => Err(self.refused(error, from).await),
                }
            }
            Verdict::Live | Verdict::AskStore => Ok(exchange),
        }
    }

    /// An exchange that is shared may be older than the end of its session, its claims, or its key.
    async fn verdict(&self, exchange: &Exchange) -> Result<Verdict, NotRefreshed> {
        let Issued {
            handle,
            key,
            claims_version,
            ..
        } = &*exchange.issued;
        let verdict = self.revocations.recall(handle, *claims_version);
        if verdict != Verdict::AskStore {
            return Ok(verdict);
        }
        let shown = Shown {
            key,
            claims_version: *claims_version,
        };
        let now = self.revocations.not_before(self.clock.now());
        Ok(self
            .revocations
            .ask_store(*handle, Some(shown), now)
            .await?)
    }

    async fn exchange(&self, token: &RefreshToken) -> Result<Exchange, Arc<RefreshError>> {
        let key = (token.handle(), token.generation());
        let now = self.clock.now();
        if let Some(recent) = self.recent.get(&key).await
            && (now < recent.at
                || now.since(recent.at) >= self.remembered_for
                || !self.issuer.honours(&recent.exchange.issued.key))
        {
            self.recent.invalidate(&key).await;
        }
        let recent = self.recent.try_get_with(key, async {
            self.revocations
                .trust_keys()
                .await
                .map_err(IssueError::from)?;
            let Refreshed { issued, repeated } = self.issuer.refresh(token).await?;
            if !repeated {
                self.rotations.count(token, self.clock.boot());
            }
            Ok(Recent {
                exchange: Exchange {
                    issued: Arc::new(issued),
                    repeated,
                },
                at: self.clock.now(),
            })
        });
        recent.await.map(|recent| recent.exchange)
    }

    async fn refused(&self, error: Arc<RefreshError>, from: &Device) -> NotRefreshed {
        match &*error {
            RefreshError::Over(ended) => NotRefreshed::Over(*ended),
            RefreshError::Theft {
                handle,
                user,
                device,
            } => {
                self.end_stolen(*handle, user, device, from).await;
                NotRefreshed::Theft
            }
            RefreshError::Failed(_) => NotRefreshed::Failed(error),
        }
    }

    /// The thief is refused whatever happens; whether the session could be revoked is for the log, and for the feed, which
    /// owes it to the store from then on.
    async fn end_stolen(
        &self,
        handle: SessionHandle,
        user: &UserId,
        opened_from: &Device,
        from: &Device,
    ) {
        warn!(
            target: "portcullis::audit",
            event = "refresh_token_reused",
            session = %handle,
            user = user.as_str(),
            opened_from = opened_from.address,
            opened_with = opened_from.user_agent,
            presented_from = from.address,
            presented_with = from.user_agent,
            "a refresh token came back after its successor was used: the session is revoked"
        );
        let reason = RevocationReason::Theft;
        match self.revocations.revoke(&[handle], reason).await {
            Ok(revocation) => {
                let ended = revocation.ended.len() as u64;
                self.metrics.sessions_revoked(reason.name(), ended);
            }
            Err(error) => {
                warn!(error = %Causes(&error), session = %handle, "could not write the revocation of a stolen session yet");
            }
        }
    }
}

/// Rotations by session, in windows of a minute that begin with the first.
#[derive(Clone, Debug)]
struct Rotations {
    windows: moka::sync::Cache<SessionHandle, (BootTime, Window)>,
}

/// The rotations of one session within a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    count: u32,
    /// The token that was exchanged last.
    newest: u32,
}

impl Window {
    /// Too old to be the one of a client that loops: whoever has it is to be heard, for somebody else has rotated since.
    fn is_behind(self, generation: u32) -> bool {
        generation.saturating_add(1) < self.newest
    }
}

impl Default for Rotations {
    fn default() -> Self {
        Self {
            windows: moka::sync::Cache::builder()
                .max_capacity(MAX_SESSIONS)
                .time_to_idle(MINUTE * 2)
                .build(),
        }
    }
}

impl Rotations {
    fn within_minute(&self, handle: &SessionHandle, now: BootTime) -> Window {
        match self.windows.get(handle) {
            Some((since, window)) if now.since(since) < MINUTE => window,
            _ => Window::default(),
        }
    }

    fn count(&self, token: &RefreshToken, now: BootTime) {
        let handle = token.handle();
        let (since, count) = match self.windows.get(&handle) {
            Some((since, window)) if now.since(since) < MINUTE => (since, window.count + 1),
            _ => (now, 1),
        };
        let newest = token.generation();
        self.windows
            .insert(handle, (since, Window { count, newest }));
    }
}

/// Long enough for the requests of one page, short enough that nobody has to think about it.
const REMEMBERED_FOR: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MAX_SESSIONS: u64 = 100_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Rotations;
    use crate::clock::BootTime;
    use crate::secret::Secret;
    use crate::session::{MasterKey, RefreshKeys, RefreshToken, SessionHandle};

    fn token() -> RefreshToken {
        RefreshKeys::from_master(&MasterKey::generate())
            .first(SessionHandle::random(), &Secret::random())
    }

    #[test]
    fn a_session_that_refreshes_now_and_then_never_piles_up() {
        let (rotations, token) = (Rotations::default(), token());
        let handle = token.handle();
        let mut now = BootTime::ZERO + Duration::from_secs(1000);
        for _ in 0..100 {
            assert!(rotations.within_minute(&handle, now).count <= 2);
            rotations.count(&token, now);
            now = now + Duration::from_secs(30);
        }
    }

    #[test]
    fn a_loop_is_counted_for_a_minute() {
        let (rotations, token) = (Rotations::default(), token());
        let handle = token.handle();
        let now = BootTime::ZERO + Duration::from_secs(1000);
        for _ in 0..6 {
            rotations.count(&token, now);
        }
        assert_eq!(
            rotations
                .within_minute(&handle, now + Duration::from_secs(59))
                .count,
            6
        );
        assert_eq!(
            rotations
                .within_minute(&handle, now + Duration::from_secs(60))
                .count,
            0
        );
        let other = SessionHandle::random();
        assert_eq!(rotations.within_minute(&other, now).count, 0);
    }
}
