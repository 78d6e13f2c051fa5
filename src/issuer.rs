//! Opens sessions, verifies and refreshes their tokens: the session rules applied to the store.
//!
//! The proxy, the command line and whoever else issues tokens do it here, so that there is one way a session begins and one
//! way it is renewed.

use std::time::Duration;

use thiserror::Error;

use crate::clock::{Clock, Timestamp};
use crate::identity::UserId;
use crate::keys::{KeysError, SigningKeys, SigningKeysSettings};
use crate::secret::{Secret, TokenText, base64url, random_bytes};
use crate::session::{
    AccessClaims, AntiCsrfKey, AssertionClaims, Decision, Device, InvalidAccessToken,
    InvalidRefreshToken, KeyId, Lifetimes, Lineage, MasterKey, OverReason, RefreshKeys,
    RefreshToken, Session, SessionHandle, SignError, SigningAlgorithm, VerifiedAccessToken, decide,
};
use crate::store::{
    OpenOutcome, RETENTION_MARGIN, Revocation, Rotation, Sequence, SessionStore, StoreError,
};

/// Issues and verifies the tokens of one deployment.
pub struct Issuer {
    store: SessionStore,
    clock: Clock,
    keys: SigningKeys,
    refresh_keys: RefreshKeys,
    anti_csrf: AntiCsrfKey,
    settings: IssuerSettings,
}

/// Settings of this module.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// The `iss` of access tokens.
    pub issuer: String,
    pub lifetimes: Lifetimes,
    pub algorithm: SigningAlgorithm,
}

/// A login, as the application or an operator asks for it.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub user: UserId,
    pub claims: SessionClaims,
    pub data: SessionData,
    pub device: Device,
    /// What this replica had seen of the revocation log when the login began.
    pub known: Sequence,
    /// The session that the browser had before; it ends.
    pub replaces: Option<SessionHandle>,
}

/// A JSON object that goes into every access token of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionClaims(String);

impl SessionClaims {
    /// More would not fit into a cookie with the rest of the token.
    pub const MAX_BYTES: usize = 2048;

    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    pub fn parse(json: &[u8]) -> Result<Self, InvalidSessionJson> {
        if json.len() > Self::MAX_BYTES {
            return Err(InvalidSessionJson::TooLong {
                max: Self::MAX_BYTES,
            });
        }
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(json).map_err(|_| InvalidSessionJson::NotAnObject)?;
        Ok(Self(serde_json::Value::Object(object).to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// JSON that stays in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionData(String);

impl SessionData {
    pub const MAX_BYTES: usize = 64 * 1024;

    pub fn empty() -> Self {
        Self("{}".to_owned())
    }

    pub fn parse(json: &[u8]) -> Result<Self, InvalidSessionJson> {
        if json.len() > Self::MAX_BYTES {
            return Err(InvalidSessionJson::TooLong {
                max: Self::MAX_BYTES,
            });
        }
        let value: serde_json::Value =
            serde_json::from_slice(json).map_err(|_| InvalidSessionJson::NotJson)?;
        Ok(Self(value.to_string()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an application sent as claims or session data, and why it cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidSessionJson {
    #[error("longer than {max} bytes")]
    TooLong { max: usize },
    #[error("not a JSON object")]
    NotAnObject,
    #[error("not JSON")]
    NotJson,
}

/// The tokens of a session, just made.
#[derive(Clone, Debug)]
pub struct Issued {
    pub handle: SessionHandle,
    pub user: UserId,
    pub access: TokenText,
    /// The key that signed the access token.
    pub key: KeyId,
    pub refresh: TokenText,
    /// What pages show beside their cookies where that is asked of them.
    pub anti_csrf: TokenText,
    pub access_expires_at: Timestamp,
    /// When the session is over unless it is refreshed: the cookies' expiry.
    pub session_expires_at: Timestamp,
    /// Of the claims in the access token.
    pub claims_version: u32,
    /// Differs each time that tokens are made; tells the browser SDKs that they were.
    pub mark: String,
}

/// A session that has begun.
#[derive(Clone, Debug)]
pub struct Opened {
    pub issued: Issued,
    /// The end of the session that it replaced; its answer waits for it as for any other.
    pub replaced: Option<Revocation>,
}

/// Why a session did not begin.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("all sessions of the user were revoked while the login was under way")]
    Overtaken,
    #[error("the user is disabled")]
    Disabled,
    #[error(transparent)]
    Failed(#[from] IssueError),
}

/// A refresh token that was exchanged.
#[derive(Clone, Debug)]
pub struct Refreshed {
    pub issued: Issued,
    /// Whether the token had been exchanged before.
    pub repeated: bool,
}

/// Why a refresh token was not exchanged.
#[derive(Debug, Error)]
pub enum RefreshError {
    #[error("the session has ended")]
    Over(Ended),
    /// The session is still in the store: the caller revokes it.
    #[error("a refresh token came back after its successor was used")]
    Theft {
        handle: SessionHandle,
        user: UserId,
        device: Device,
    },
    #[error(transparent)]
    Failed(#[from] IssueError),
}

/// How a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Not in the store: revoked, or removed after it was over.
    Gone,
    Idle,
    Absolute,
}

/// Tokens could not be made, through no fault of the client.
#[derive(Debug, Error)]
pub enum IssueError {
    #[error("the session store failed")]
    Store(#[from] StoreError),
    #[error("the session changes faster than it can be refreshed")]
    Contended,
    #[error("cannot read the signing keys anew")]
    Keys(#[from] KeysError),
    #[error("cannot sign a token")]
    Signing(#[from] SignError),
}

impl Issuer {
    /// Takes the signing keys from the store; a new store gets its first.
    pub async fn load(
        settings: IssuerSettings,
        master: &MasterKey,
        store: SessionStore,
        clock: Clock,
    ) -> Result<Self, KeysError> {
        let of_keys = SigningKeysSettings {
            algorithm: settings.algorithm,
            // A replica that signs with a key may learn a lease later than others that it does so no more.
            verify_for: settings.lifetimes.access + RETENTION_MARGIN,
        };
        let keys = SigningKeys::load(of_keys, master, store.clone(), clock.clone()).await?;
        Ok(Self {
            store,
            clock,
            keys,
            refresh_keys: RefreshKeys::from_master(master),
            anti_csrf: AntiCsrfKey::from_master(master),
            settings,
        })
    }

    /// One with other settings and the same keys, which are made and kept as they were.
    #[must_use]
    pub fn with_settings(&self, settings: IssuerSettings) -> Self {
        Self {
            store: self.store.clone(),
            clock: self.clock.clone(),
            keys: self.keys.clone(),
            refresh_keys: self.refresh_keys.clone(),
            anti_csrf: self.anti_csrf.clone(),
            settings,
        }
    }

    /// The keys that it signs and verifies with.
    pub fn keys(&self) -> &SigningKeys {
        &self.keys
    }

    pub fn verify_access(&self, token: &str) -> Result<VerifiedAccessToken, InvalidAccessToken> {
        VerifiedAccessToken::verify(token, &self.keys.loaded().ring, &self.settings.issuer)
    }

    /// Whether a key is still in use. Good for as long as the lease runs: ask for that first.
    pub fn honours(&self, key: &KeyId) -> bool {
        self.keys.loaded().ring.contains(key)
    }

    /// Tells `audience` who the caller is, signed; and with which key.
    pub fn assert(
        &self,
        caller: &VerifiedAccessToken,
        audience: &str,
        now: Timestamp,
    ) -> Result<(TokenText, KeyId), IssueError> {
        let keys = self.keys.loaded();
        let key = keys.ring.signing_key();
        let claims = AssertionClaims {
            issuer: &self.settings.issuer,
            audience,
            caller,
            issued_at: now,
        };
        Ok((claims.sign(key)?, key.id().clone()))
    }

    pub fn parse_refresh(&self, token: &str) -> Result<RefreshToken, InvalidRefreshToken> {
        self.refresh_keys.parse(token)
    }

    /// Whether a text is a token of this deployment, or what is left of one.
    pub fn made(&self, text: &str) -> bool {
        VerifiedAccessToken::is_in_form(text, &self.settings.issuer)
            || self.parse_refresh(text).is_ok()
    }

    /// Whether a page that acts for the session has shown its anti-CSRF token.
    pub fn anti_csrf_matches(&self, handle: SessionHandle, presented: &[u8]) -> bool {
        self.anti_csrf.matches(handle, presented)
    }

    /// The sessions of a user that have not ended, the last used first, and no more than fit on a page.
    pub async fn sessions_of(&self, user: &UserId) -> Result<Vec<Session>, StoreError> {
        let now = self.clock.now();
        let mut sessions = Vec::new();
        let mut after = None;
        while sessions.len() < MAX_LISTED {
            let page = self
                .store
                .sessions_of_user(user, after, LISTED_AT_ONCE)
                .await?;
            let Some(last) = page.last() else { break };
            after = Some(last.handle);
            sessions.extend(
                page.into_iter()
                    .filter(|session| session.lineage.over(now).is_none()),
            );
        }
        sessions.sort_by_key(|session| std::cmp::Reverse(session.last_seen_at));
        sessions.truncate(MAX_LISTED);
        Ok(sessions)
    }

    /// Whose session it is, if there is one.
    pub async fn user_of(&self, handle: SessionHandle) -> Result<Option<UserId>, StoreError> {
        let session = self.store.session(handle).await?;
        Ok(session.map(|session| session.user))
    }

    pub async fn open(&self, new: NewSession) -> Result<Opened, OpenError> {
        // Before the store is asked, so that no token outlives the log entry of its revocation.
        let now = self.clock.now();
        let Lifetimes { idle, absolute, .. } = self.settings.lifetimes;
        let handle = SessionHandle::random();
        let secret = Secret::random();
        let refresh = self.refresh_keys.first(handle, &secret);
        let lineage = Lineage::begin(now, idle, absolute);
        let session = Session {
            handle,
            user: new.user,
            secret,
            lineage,
            refresh_hash: self.refresh_keys.hash(&refresh),
            claims: new.claims.0,
            claims_version: 0,
            data: new.data.0,
            created_at: now,
            last_seen_at: now,
            access_expires_at: self.access_expiry(&lineage, now),
            device: new.device,
        };
        let issued = self.issue(&session, &refresh, &lineage, now)?;
        let outcome = self
            .store
            .open_session(&session, new.known, new.replaces)
            .await
            .map_err(IssueError::from)?;
        match outcome {
            OpenOutcome::Opened { replaced } => Ok(Opened { issued, replaced }),
            OpenOutcome::Overtaken => Err(OpenError::Overtaken),
            OpenOutcome::Disabled => Err(OpenError::Disabled),
        }
    }

    /// Exchanges a refresh token. Any number of parallel exchanges of one token give the same successor.
    pub async fn refresh(&self, token: &RefreshToken) -> Result<Refreshed, RefreshError> {
        // Each turn that loses to another replica finds the store one generation further; more than a few is not contention.
        for _ in 0..MAX_ATTEMPTS {
            // Before the store is asked, so that no token outlives the log entry of its revocation.
            let now = self.clock.now();
            let session = self
                .store
                .session(token.handle())
                .await
                .map_err(IssueError::from)?;
            let Some(session) = session else {
                return Err(RefreshError::Over(Ended::Gone));
            };
            match decide(
                &session.lineage,
                token.generation(),
                now,
                self.settings.lifetimes.reuse_grace,
            ) {
                Decision::Rotate => {
                    if let Some(refreshed) = self.rotate(&session, token, now).await? {
                        return Ok(refreshed);
                    }
                }
                Decision::Repeat { steps } => {
                    if let Some(refreshed) = self.repeat(&session, token, steps, now).await? {
                        return Ok(refreshed);
                    }
                }
                Decision::Theft => {
                    return Err(RefreshError::Theft {
                        handle: session.handle,
                        user: session.user,
                        device: session.device,
                    });
                }
                Decision::Over(OverReason::Idle) => return Err(RefreshError::Over(Ended::Idle)),
                Decision::Over(OverReason::Absolute) => {
                    return Err(RefreshError::Over(Ended::Absolute));
                }
                Decision::Unknown => return Err(RefreshError::Over(Ended::Gone)),
            }
        }
        Err(RefreshError::Failed(IssueError::Contended))
    }

    /// `None` if another exchange was first, or the session has gone or got other claims meanwhile.
    async fn rotate(
        &self,
        session: &Session,
        token: &RefreshToken,
        now: Timestamp,
    ) -> Result<Option<Refreshed>, IssueError> {
        if self.refresh_keys.hash(token) != session.refresh_hash {
            return Ok(None);
        }
        let successor = self.refresh_keys.successor(token, &session.secret);
        let lineage = session.lineage.rotated(now, self.settings.lifetimes.idle);
        let rotation = Rotation {
            handle: session.handle,
            from_generation: token.generation(),
            claims_version: session.claims_version,
            to: lineage,
            refresh_hash: self.refresh_keys.hash(&successor),
            access_expires_at: self.access_expiry(&lineage, now),
            now,
        };
        if !self.store.rotate(&rotation).await? {
            return Ok(None);
        }
        Ok(Some(Refreshed {
            issued: self.issue(session, &successor, &lineage, now)?,
            repeated: false,
        }))
    }

    async fn repeat(
        &self,
        session: &Session,
        token: &RefreshToken,
        steps: u32,
        now: Timestamp,
    ) -> Result<Option<Refreshed>, IssueError> {
        let mut newest = token.clone();
        for _ in 0..steps {
            newest = self.refresh_keys.successor(&newest, &session.secret);
        }
        if self.refresh_keys.hash(&newest) != session.refresh_hash {
            return Ok(None);
        }
        let access_expires_at = self.access_expiry(&session.lineage, now);
        if !self
            .store
            .extend(
                session.handle,
                session.claims_version,
                access_expires_at,
                now,
            )
            .await?
        {
            return Ok(None);
        }
        Ok(Some(Refreshed {
            issued: self.issue(session, &newest, &session.lineage, now)?,
            repeated: true,
        }))
    }

    fn issue(
        &self,
        session: &Session,
        refresh: &RefreshToken,
        lineage: &Lineage,
        now: Timestamp,
    ) -> Result<Issued, IssueError> {
        let access_expires_at = self.access_expiry(lineage, now);
        let claims = AccessClaims {
            issuer: &self.settings.issuer,
            user: &session.user,
            handle: session.handle,
            generation: refresh.generation(),
            issued_at: now,
            expires_at: access_expires_at,
            claims_version: session.claims_version,
            session_claims: &session.claims,
        };
        let keys = self.keys.loaded();
        Ok(Issued {
            handle: session.handle,
            user: session.user.clone(),
            access: claims.sign(&keys.ring)?,
            key: keys.ring.signing_key().id().clone(),
            refresh: self.refresh_keys.text(refresh),
            anti_csrf: self.anti_csrf.token(session.handle),
            access_expires_at,
            session_expires_at: lineage.idle_expires_at,
            claims_version: session.claims_version,
            mark: base64url(&random_bytes::<16>()),
        })
    }

    /// An access token does not outlive its session.
    fn access_expiry(&self, lineage: &Lineage, now: Timestamp) -> Timestamp {
        lineage.expires_at.min(now + self.settings.lifetimes.access)
    }

    /// A session that is not refreshed for so long is over.
    pub fn session_lifetime(&self) -> Duration {
        self.settings.lifetimes.idle
    }

    pub fn access_lifetime(&self) -> Duration {
        self.settings.lifetimes.access
    }
}

const MAX_ATTEMPTS: usize = 4;

/// More devices than that are nobody's list to read.
const MAX_LISTED: usize = 500;
const LISTED_AT_ONCE: u32 = 100;
