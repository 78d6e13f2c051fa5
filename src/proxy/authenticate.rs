//! Stage 3: who is asking? From the cookies, or a token in `Authorization`, to an [`Identity`], or to the reason why there is
//! none.
//!
//! A valid token costs a lookup among the tokens verified before, and one in the revocation set: no I/O. The order is always
//! the same: signature, time, revocation, and the key last, since the ring is only as good as the lease that the question for
//! revocation asks for. What a stranger can make the gateway do ends with the signature.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use http::HeaderValue;

use super::assertion::Assertion;
use super::bearer::Bearer;
use super::policy::{Admission, Auth, Unauthenticated};
use super::receive::Received;
use super::rejection::{Rejection, Unproven};
use super::reply::Announced;
use super::verified::Redacted;
use super::{Proxy, headers, http2, origin};
use crate::clock::Timestamp;
use crate::cookie::{Candidates, PresentedCookies};
use crate::refresher::NotRefreshed;
use crate::revocation::{Clearance, Verdict};
use crate::session::{RefreshToken, SessionHandle, VerifiedAccessToken};
use crate::store::{Shown, TokenUse};

/// What the upstream may believe about the caller.
#[derive(Clone, Debug)]
pub enum Identity {
    Anonymous,
    User(Arc<Caller>),
}

impl Identity {
    pub fn user(&self) -> Option<&Caller> {
        match self {
            Self::Anonymous => None,
            Self::User(caller) => Some(caller),
        }
    }
}

/// Somebody whose access token holds.
#[derive(Debug)]
pub struct Caller {
    /// The token as it was shown.
    pub(super) text: Redacted,
    pub token: VerifiedAccessToken,
    /// The user id as the identity header writes it.
    pub header: HeaderValue,
    /// What the revocation set knew of it last.
    pub(super) cleared: Clearance,
    /// The token was shown by a client on this replica, and the store is told.
    pub(super) shown: AtomicBool,
    /// What the application was told last, signed.
    pub(super) assertion: ArcSwapOption<Assertion>,
}

/// A request whose caller is known, or known to be nobody.
#[derive(Debug)]
pub struct Authenticated {
    pub received: Box<Received>,
    pub identity: Identity,
    /// What the client is to be told of its session, with whatever answer it gets.
    pub news: News,
}

/// What has become of the session that a request presented.
#[derive(Clone, Debug)]
pub enum News {
    Nothing,
    /// It was opened, or refreshed in line.
    Issued(Announced),
    /// It goes on, and these cookies with it: the request had more than one that could have been it.
    Settled(Vec<HeaderValue>),
    /// It has ended.
    Over,
}

/// What the tokens of a request amount to.
#[derive(Debug)]
pub(super) enum Standing {
    /// No session, or none that these cookies can prove.
    Nobody,
    Known(Arc<Caller>, News),
    Over(Unproven),
}

impl Proxy {
    /// Applies the policy of the route: whoever gets past it is known, or may be nobody.
    pub(super) async fn authenticate(
        &self,
        received: Box<Received>,
        admission: &Admission,
    ) -> Result<Authenticated, Rejection> {
        if admission.auth == Auth::None {
            return Ok(Authenticated {
                received,
                identity: Identity::Anonymous,
                news: News::Nothing,
            });
        }
        let required = admission.auth == Auth::Required;
        if let Some(forged) = self.forged(&received, admission.anti_csrf) {
            // Nothing of the session is refreshed or cleared on another site's behalf.
            return if required && self.presents_session(&received) {
                Err(forged)
            } else if required {
                Err(self.unauthenticated(&received, admission, Unproven::NoSession))
            } else {
                Ok(Authenticated {
                    received,
                    identity: Identity::Anonymous,
                    news: News::Nothing,
                })
            };
        }
        match self.standing(&received).await {
            Ok(Standing::Known(caller, _))
                if self.is_for_another(&received, admission.anti_csrf, caller.token.handle) =>
            {
                match required {
                    true => Err(Unproven::AntiCsrf.into()),
                    false => Ok(Authenticated {
                        received,
                        identity: Identity::Anonymous,
                        news: News::Nothing,
                    }),
                }
            }
            Ok(Standing::Known(caller, news)) => Ok(Authenticated {
                received,
                identity: Identity::User(caller),
                news,
            }),
            Ok(Standing::Nobody) if required => {
                Err(self.unauthenticated(&received, admission, Unproven::NoSession))
            }
            Ok(Standing::Over(why)) if required => {
                Err(self.unauthenticated(&received, admission, why))
            }
            Ok(Standing::Nobody) => Ok(Authenticated {
                received,
                identity: Identity::Anonymous,
                news: News::Nothing,
            }),
            Ok(Standing::Over(_)) => Ok(Authenticated {
                received,
                identity: Identity::Anonymous,
                news: News::Over,
            }),
            // A public page goes on without the store.
            Err(Rejection::StoreUnavailable(_)) if !required => Ok(Authenticated {
                received,
                identity: Identity::Anonymous,
                news: News::Nothing,
            }),
            Err(rejection) => Err(rejection),
        }
    }

    /// The session that a logout or a login finds in the browser: the signature must hold, its time may have passed, since
    /// naming a session can only end it.
    pub(super) fn presented_sessions(&self, received: &Received) -> Vec<SessionHandle> {
        let presented = self.presented(received);
        let by_access = presented
            .access
            .iter()
            .filter_map(|token| self.signed_by_us(token));
        let mut handles: Vec<SessionHandle> = by_access.map(|caller| caller.token.handle).collect();
        let by_refresh = presented
            .refresh
            .iter()
            .filter_map(|token| self.issuer.parse_refresh(token).ok());
        handles.extend(by_refresh.map(|token| token.handle()));
        match &received.bearer {
            Some(Bearer::Access(caller)) if self.is_signed_by_us(caller) => {
                handles.push(caller.token.handle);
            }
            Some(Bearer::Refresh(token)) => handles.push(token.handle()),
            Some(Bearer::Access(_) | Bearer::Unusable | Bearer::Ignored) | None => {}
        }
        handles.sort_unstable();
        handles.dedup();
        handles
    }

    /// Whose session a logout has ended, if it was one of those that have an access token, and there is no other. Of a session
    /// that had ended before, nobody is told any more.
    pub(super) fn presented_caller(
        &self,
        received: &Received,
        ended: &[SessionHandle],
    ) -> Option<Arc<Caller>> {
        let has_ended = |caller: &Arc<Caller>| ended.contains(&caller.token.handle);
        if let Some(Bearer::Access(caller)) = &received.bearer {
            let is_named = self.is_signed_by_us(caller) && has_ended(caller);
            return is_named.then(|| Arc::clone(caller));
        }
        let presented = self.presented(received);
        let mut callers = presented
            .access
            .iter()
            .filter_map(|token| self.signed_by_us(token))
            .filter(has_ended);
        let first = callers.next()?;
        let is_only = callers.all(|other| other.token.handle == first.token.handle);
        is_only.then_some(first)
    }

    fn signed_by_us(&self, token: &str) -> Option<Arc<Caller>> {
        let caller = self.verified(token)?;
        self.is_signed_by_us(&caller).then_some(caller)
    }

    /// Also now: the signature of a caller who was seen before may be of a key that has been revoked since.
    fn is_signed_by_us(&self, caller: &Caller) -> bool {
        self.issuer.honours(&caller.token.key)
    }

    /// What a request has in its cookies.
    pub(super) fn presented<'r>(&self, received: &'r Received) -> PresentedCookies<'r> {
        let cookies = &self.teller.cookies;
        cookies.read(received.headers(), &received.own_cookies)
    }

    fn presents_session(&self, received: &Received) -> bool {
        let presented = self.presented(received);
        !presented.access.is_empty() || !presented.refresh.is_empty()
    }

    pub(super) async fn standing(&self, received: &Received) -> Result<Standing, Rejection> {
        let now = self.revocations.not_before(self.clock.now());
        match &received.bearer {
            None | Some(Bearer::Ignored) => {}
            Some(Bearer::Access(caller)) => {
                return Ok(match self.weigh(caller, now).await? {
                    Weight::Live => {
                        self.note_use(caller, now);
                        Standing::Known(Arc::clone(caller), News::Nothing)
                    }
                    Weight::Over => Standing::Over(Unproven::Over),
                    Weight::Nothing => Standing::Nobody,
                });
            }
            // Who keeps the tokens refreshes them.
            Some(Bearer::Refresh(_) | Bearer::Unusable) => return Ok(Standing::Nobody),
        }
        let presented = self.presented(received);
        match self.by_access(&presented, now).await? {
            Standing::Nobody
                if self.settings.refresh_in_line
                    && received.may_renew()
                    && !presented.refresh.is_empty() => {}
            standing => return Ok(standing),
        }
        match Box::pin(self.one_refresh_token(&presented.refresh, now)).await? {
            OneToken::None => Ok(Standing::Nobody),
            OneToken::Several => Ok(Standing::Over(Unproven::Over)),
            OneToken::This(token) => {
                Box::pin(self.renew(received, token, presented.has_spare())).await
            }
        }
    }

    /// Each distinct token is tried: exactly one live session is taken; two are nobody's honest cookies. A session that is over
    /// takes none with it that may go on.
    async fn by_access(
        &self,
        presented: &PresentedCookies<'_>,
        now: Timestamp,
    ) -> Result<Standing, Rejection> {
        let tokens = &presented.access;
        if tokens.too_many() {
            return Ok(Standing::Over(Unproven::Over));
        }
        let mut live: Option<(Arc<Caller>, &str)> = None;
        let (mut over, mut expired) = (Vec::new(), Vec::new());
        for text in tokens.iter() {
            let Some(caller) = self.verified(text) else {
                continue;
            };
            match self.weigh(&caller, now).await? {
                Weight::Nothing => expired.push(caller.token.handle),
                Weight::Over => over.push(caller.token.handle),
                Weight::Live => {
                    self.note_use(&caller, now);
                    match &live {
                        Some((other, _)) if other.token.handle != caller.token.handle => {
                            return Ok(Standing::Over(Unproven::Over));
                        }
                        Some((other, _)) if other.token.issued_at > caller.token.issued_at => {}
                        _ => live = Some((caller, text)),
                    }
                }
            }
        }
        Ok(match live {
            Some((caller, text)) if tokens.is_duplicated() => {
                let expires = now + self.issuer.session_lifetime();
                let cookies = self.teller.settle(text, expires);
                Standing::Known(caller, News::Settled(cookies))
            }
            Some((caller, _)) => Standing::Known(caller, News::Nothing),
            None if over.is_empty() => Standing::Nobody,
            None => {
                let by_refresh = presented
                    .refresh
                    .iter()
                    .filter_map(|token| self.issuer.parse_refresh(token).ok())
                    .map(|token| token.handle());
                let may_go_on = |handle: &SessionHandle| {
                    !over.contains(handle) && !self.revocations.is_revoked(handle)
                };
                match expired
                    .into_iter()
                    .chain(by_refresh)
                    .any(|it| may_go_on(&it))
                {
                    true => Standing::Nobody,
                    false => Standing::Over(Unproven::Over),
                }
            }
        })
    }

    /// What a token whose signature holds is worth now.
    async fn weigh(&self, caller: &Caller, now: Timestamp) -> Result<Weight, Rejection> {
        let token = &caller.token;
        if token.is_expired(now) || token.is_premature(now) {
            return Ok(Weight::Nothing);
        }
        Ok(match self.verdict(caller, now).await? {
            Verdict::Revoked => Weight::Over,
            // As if it had expired: a refresh gives a token that holds.
            Verdict::KeyDropped | Verdict::Outdated => Weight::Nothing,
            _ if !self.issuer.honours(&token.key) => Weight::Nothing,
            Verdict::AskStore | Verdict::Live => Weight::Live,
        })
    }

    async fn verdict(&self, caller: &Caller, now: Timestamp) -> Result<Verdict, Rejection> {
        let token = &caller.token;
        match self
            .revocations
            .verdict_again(&token.handle, token.claims_version, &caller.cleared)
        {
            Verdict::AskStore => {
                let (revocations, handle, key) =
                    (self.revocations.clone(), token.handle, token.key.clone());
                let claims_version = token.claims_version;
                Ok(self
                    .background
                    .run(async move {
                        let shown = Shown {
                            key: &key,
                            claims_version,
                        };
                        revocations.ask_store(handle, Some(shown), now).await
                    })
                    .await??)
            }
            verdict => Ok(verdict),
        }
    }

    /// Whether memory knows now that the session has ended.
    pub(super) fn has_ended(&self, caller: &Caller) -> bool {
        let token = &caller.token;
        self.revocations
            .is_revoked_since(&token.handle, token.claims_version, &caller.cleared)
    }

    /// Of each session the newest token counts; of several sessions, the one that is live.
    pub(super) async fn one_refresh_token(
        &self,
        tokens: &Candidates<'_>,
        now: Timestamp,
    ) -> Result<OneToken, Rejection> {
        let mut newest: Vec<RefreshToken> = Vec::new();
        for token in tokens
            .iter()
            .filter_map(|token| self.issuer.parse_refresh(token).ok())
        {
            match newest
                .iter_mut()
                .find(|other| other.handle() == token.handle())
            {
                Some(other) if other.generation() >= token.generation() => {}
                Some(other) => *other = token,
                None => newest.push(token),
            }
        }
        let Some(first) = newest.pop() else {
            return Ok(OneToken::None);
        };
        if newest.is_empty() {
            return Ok(OneToken::This(first));
        }
        let mut live = OneToken::None;
        for token in newest.into_iter().chain([first]) {
            let (revocations, handle) = (self.revocations.clone(), token.handle());
            let ask = async move { revocations.ask_store(handle, None, now).await };
            if self.background.run(ask).await?? == Verdict::Live {
                if let OneToken::This(_) = live {
                    return Ok(OneToken::Several);
                }
                live = OneToken::This(token);
            }
        }
        // What was there, and is over, is cleared.
        Ok(match live {
            OneToken::None => OneToken::Several,
            live => live,
        })
    }

    /// In line: the request goes on with the new token's identity.
    async fn renew(
        &self,
        received: &Received,
        token: RefreshToken,
        tidy: bool,
    ) -> Result<Standing, Rejection> {
        match self.refresh_token(received, token).await {
            Ok(issued) => match self.verified(issued.access.expose()) {
                Some(caller) => {
                    let news = News::Issued(Announced { issued, tidy });
                    Ok(Standing::Known(caller, news))
                }
                // Its key was revoked in this moment: what a lost answer is cured by cures it too.
                None => Ok(Standing::Nobody),
            },
            Err(NotRefreshed::Over(_)) => Ok(Standing::Over(Unproven::Over)),
            Err(NotRefreshed::Theft) => Ok(Standing::Over(Unproven::Theft)),
            Err(other) => Err(other.into()),
        }
    }

    /// That a successor is in use is noted off the request's way; for a note that finds no room the next request will do. A
    /// token is in use when a client shows it, not when it is made: its answer may get lost.
    fn note_use(&self, caller: &Caller, now: Timestamp) {
        let token = &caller.token;
        let is_known = |shown: &AtomicBool| {
            // Looked at first, since a write makes the cores pass it around.
            shown.load(Ordering::Relaxed) || shown.swap(true, Ordering::Relaxed)
        };
        if token.generation == 0 || is_known(&caller.shown) {
            return;
        }
        let used = TokenUse {
            handle: token.handle,
            generation: token.generation,
            at: now,
        };
        if self.uses.try_send(used).is_err() {
            caller.shown.store(false, Ordering::Relaxed);
        }
    }

    fn unauthenticated(
        &self,
        received: &Received,
        admission: &Admission,
        why: Unproven,
    ) -> Rejection {
        let wants_page = match admission.unauthenticated {
            Unauthenticated::Status => false,
            Unauthenticated::Redirect => true,
            Unauthenticated::Auto => {
                origin::is_navigation(received.headers()) && received.method().is_safe()
            }
        };
        let wants_page = wants_page && !is_websocket_handshake(received);
        let login = self.settings.login_path.as_deref().filter(|_| wants_page);
        Rejection::Unauthenticated {
            why,
            login: login.and_then(|login| login_location(login, received)),
        }
    }
}

/// The refresh token among those presented.
pub(super) enum OneToken {
    None,
    This(RefreshToken),
    /// Of more than one session, and not of one live one alone.
    Several,
}

/// What an access token is worth.
enum Weight {
    Nothing,
    Over,
    Live,
}

/// RFC 6455 section 4.1; in HTTP/1.0 nothing is upgraded (RFC 9110 section 7.8).
pub fn is_websocket_handshake(received: &Received) -> bool {
    if http2::is_extended_connect(&received.request) {
        return true;
    }
    let headers = received.headers();
    if received.connection.asker().is_some() {
        // The proxy that asks keeps back what is between it and its client; this it passes on.
        return headers.contains_key(http::header::SEC_WEBSOCKET_KEY);
    }
    let lists = |name, token| {
        headers
            .get_all(name)
            .iter()
            .any(|value| headers::has_token(value, token))
    };
    received.method() == http::Method::GET
        && received.request.version() == http::Version::HTTP_11
        && lists(http::header::UPGRADE, "websocket")
        && lists(http::header::CONNECTION, "upgrade")
}

/// The login path with the way back: the canonical path of this gateway itself, so it leads nowhere else.
fn login_location(login: &str, received: &Received) -> Option<HeaderValue> {
    let separator = if login.contains('?') { '&' } else { '?' };
    let back = percent_encoding::utf8_percent_encode(
        received.path.as_str(),
        percent_encoding::NON_ALPHANUMERIC,
    );
    HeaderValue::try_from(format!("{login}{separator}return_to={back}")).ok()
}
