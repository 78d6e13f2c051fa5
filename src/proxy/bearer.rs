//! The gateway's tokens in `Authorization` (RFC 6750), from clients that keep them themselves.
//!
//! `Authorization` is shared: the application may have credentials of its own there, which pass untouched. So a value is the
//! gateway's only if it is a token of this deployment, or is written as one; and whatever is, never reaches the application.

use std::sync::Arc;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::Proxy;
use super::authenticate::Caller;
use crate::session::RefreshToken;

/// What `Authorization` has of ours.
#[derive(Debug)]
pub enum Bearer {
    /// The signature holds; its time may have passed.
    Access(Arc<Caller>),
    Refresh(RefreshToken),
    /// Ours by its form, and proof of nothing: altered, signed with a key that is gone, or said in a way that is not ours.
    Unusable,
    /// Ours, where clients may not keep tokens themselves.
    Ignored,
}

impl Proxy {
    /// Looks once, and at no more if there is no such header.
    pub(super) fn bearer(&self, headers: &HeaderMap) -> Option<Bearer> {
        let values = headers.get_all(AUTHORIZATION);
        let mut each = values.iter();
        let first = each.next()?;
        let found = match each.next() {
            None => self.only_bearer(first.as_bytes()),
            // Two credentials are one too many to choose from (RFC 9110 section 11.6.2).
            Some(_) => values
                .iter()
                .any(|value| self.holds_own(value.as_bytes()))
                .then_some(Bearer::Unusable),
        };
        found.map(|bearer| match self.settings.header_mode {
            true => bearer,
            false => Bearer::Ignored,
        })
    }

    fn only_bearer(&self, value: &[u8]) -> Option<Bearer> {
        if let Some(token) = bearer_token(value) {
            if let Some(caller) = self.verified(token) {
                return Some(Bearer::Access(caller));
            }
            if let Ok(token) = self.issuer.parse_refresh(token) {
                return Some(Bearer::Refresh(token));
            }
        }
        self.holds_own(value).then_some(Bearer::Unusable)
    }

    /// Anywhere in it: under another scheme, in a list, quoted.
    fn holds_own(&self, value: &[u8]) -> bool {
        words(value).any(|word| self.issuer.made(word))
    }
}

/// The scheme in any case, spaces, and nothing but a token (RFC 9110 section 11.4).
fn bearer_token(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && words(token.as_bytes()).eq([token])).then_some(token)
}

/// The longest runs of characters that tokens are written with.
fn words(value: &[u8]) -> impl Iterator<Item = &str> {
    let is_of_a_token =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    value
        .split(move |byte| !is_of_a_token(byte))
        .filter(|word| !word.is_empty())
        .filter_map(|word| std::str::from_utf8(word).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{bearer_token, words};

    #[test]
    fn what_a_bearer_is() {
        for (value, token) in [
            ("Bearer a.b-c_d", Some("a.b-c_d")),
            ("bearer a", Some("a")),
            ("BEARER   a", Some("a")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Bearer a b", None),
            ("Bearer a, b", None),
            ("Bearer a ", None),
            ("Bearer\ta", None),
            ("Basic YTpi", None),
            ("a.b.c", None),
            (" Bearer a", None),
        ] {
            assert_eq!(bearer_token(value.as_bytes()), token, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn a_token_is_found_wherever_it_is_put(before in "([a-z]{0,9}[ ,;=\"]){0,3}", after in "([ ,;=\"][a-z]{0,9}){0,3}") {
            let value = format!("{before}tok-en_1.2{after}");
            prop_assert!(words(value.as_bytes()).any(|word| word == "tok-en_1.2"), "{}", value);
        }

        #[test]
        fn any_bytes_are_taken(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(token) = bearer_token(&value) {
                prop_assert_eq!(words(&value).last(), Some(token));
            }
        }
    }
}
