//! Anti-CSRF tokens: what a page shows beside its cookies, which browsers send by themselves.
//!
//! ```text
//! token = base64url(HMAC-SHA256(anti-CSRF key, session handle))
//! ```
//!
//! Derived from the session and not drawn, so nothing is kept: whoever has the key and a token of the session, be it access or
//! refresh, can say what must come with it, and refreshes that run in parallel agree. The key comes from the master key; the
//! handle alone, which is no secret, gives nobody a token.

use std::fmt;

use aws_lc_rs::hmac;

use super::handle::SessionHandle;
use super::keys::MasterKey;
use crate::secret::{TokenText, base64url, constant_time_eq};

/// The key that makes and checks anti-CSRF tokens.
#[derive(Clone)]
pub struct AntiCsrfKey(hmac::Key);

impl AntiCsrfKey {
    pub fn from_master(master: &MasterKey) -> Self {
        let key = master.derive("anti-csrf token");
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// The one token of a session.
    pub fn token(&self, handle: SessionHandle) -> TokenText {
        TokenText::new(base64url(hmac::sign(&self.0, handle.as_bytes()).as_ref()))
    }

    /// Takes the same time wherever a wrong token differs.
    pub fn matches(&self, handle: SessionHandle, presented: &[u8]) -> bool {
        constant_time_eq(self.token(handle).expose().as_bytes(), presented)
    }
}

impl fmt::Debug for AntiCsrfKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AntiCsrfKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::AntiCsrfKey;
    use crate::session::{MasterKey, SessionHandle};

    #[test]
    fn a_token_is_of_one_session_and_of_one_deployment() {
        let master = MasterKey::generate();
        let (key, replica) = (
            AntiCsrfKey::from_master(&master),
            AntiCsrfKey::from_master(&master),
        );
        let foreign = AntiCsrfKey::from_master(&MasterKey::generate());
        let (handle, other) = (SessionHandle::random(), SessionHandle::random());
        let token = key.token(handle);
        let token = token.expose().as_bytes();
        assert_eq!(token.len(), 43, "32 bytes");
        assert!(replica.matches(handle, token));
        assert!(!key.matches(other, token));
        assert!(!foreign.matches(handle, token));
    }

    #[test]
    fn nothing_but_the_token_matches() {
        let key = AntiCsrfKey::from_master(&MasterKey::generate());
        let handle = SessionHandle::random();
        let token = key.token(handle);
        let token = token.expose();
        for at in 0..token.len() {
            let mut wrong = token.as_bytes().to_vec();
            wrong[at] ^= 1;
            assert!(!key.matches(handle, &wrong), "at {at}");
            assert!(!key.matches(handle, &token.as_bytes()[..at]), "cut at {at}");
        }
        for wrong in [format!("{token}="), format!(" {token}"), token.repeat(2)] {
            assert!(!key.matches(handle, wrong.as_bytes()), "{wrong}");
        }
        assert!(!key.matches(handle, handle.to_string().as_bytes()));
    }
}
