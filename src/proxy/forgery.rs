//! Whether another site made the browser send a request (cross-site request forgery), by what the route asks for.
//!
//! Only what acts with cookies can be forged: a token in a header is there because the client put it there. Where a request is
//! refused for this, nothing of the session was changed and nothing is cleared.

use super::Proxy;
use super::authenticate::is_websocket_handshake;
use super::headers::ANTI_CSRF;
use super::policy::AntiCsrf;
use super::receive::Received;
use super::rejection::{Rejection, Unproven};
use crate::session::SessionHandle;

impl Proxy {
    /// Of a request to the application: why it may not act with its cookies, if it may not.
    pub(super) fn forged(&self, received: &Received, anti_csrf: AntiCsrf) -> Option<Rejection> {
        if received.is_by_header() {
            return None;
        }
        if is_websocket_handshake(received) {
            // Pages cannot give a handshake headers of their own, but browsers say where it comes from.
            let matters = anti_csrf != AntiCsrf::Off;
            return (matters && self.is_cross_site(received)).then_some(Rejection::CrossSite);
        }
        if received.method().is_safe() {
            return None;
        }
        match anti_csrf {
            AntiCsrf::Token => self
                .lacks_token(received)
                .then(|| Unproven::AntiCsrf.into()),
            _ => self
                .is_from_elsewhere(received, anti_csrf)
                .then_some(Rejection::CrossSite),
        }
    }

    /// Of several sessions that a request has, it may act for the one whose token it shows.
    pub(super) fn is_for_another(
        &self,
        received: &Received,
        anti_csrf: AntiCsrf,
        handle: SessionHandle,
    ) -> bool {
        anti_csrf == AntiCsrf::Token
            && !received.is_by_header()
            && !received.method().is_safe()
            && !self.shows_token_of(received, handle)
    }

    /// Of a request that ends a session, with its cookies or with the answer's: the token alone would not do, since a request
    /// without a session has none.
    pub(super) fn forged_ending(
        &self,
        received: &Received,
        anti_csrf: AntiCsrf,
    ) -> Option<Rejection> {
        if received.is_by_header() {
            return None;
        }
        if self.is_from_elsewhere(received, anti_csrf) {
            return Some(Rejection::CrossSite);
        }
        (anti_csrf == AntiCsrf::Token && self.lacks_token(received))
            .then(|| Unproven::AntiCsrf.into())
    }

    /// What can be said without knowing the session.
    pub(super) fn is_from_elsewhere(&self, received: &Received, anti_csrf: AntiCsrf) -> bool {
        match anti_csrf {
            AntiCsrf::Origin | AntiCsrf::Token => self.is_cross_site(received),
            AntiCsrf::CustomHeader => received
                .headers()
                .get("rid")
                .is_none_or(|rid| rid.is_empty()),
            AntiCsrf::Off => false,
        }
    }

    /// The request's one anti-CSRF token is the session's.
    pub(super) fn shows_token_of(&self, received: &Received, handle: SessionHandle) -> bool {
        let mut shown = received.headers().get_all(ANTI_CSRF).iter();
        match (shown.next(), shown.next()) {
            (Some(token), None) => self.issuer.anti_csrf_matches(handle, token.as_bytes()),
            _ => false,
        }
    }

    /// It has sessions, and shows the token of none.
    fn lacks_token(&self, received: &Received) -> bool {
        let sessions = self.presented_sessions(received);
        !sessions.is_empty()
            && !sessions
                .into_iter()
                .any(|handle| self.shows_token_of(received, handle))
    }

    fn is_cross_site(&self, received: &Received) -> bool {
        let origins = &self.settings.origins;
        origins.is_cross_site(received.headers(), received.asked_host())
    }
}
