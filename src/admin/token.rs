//! The one secret of the admin API.

use http::header::{AUTHORIZATION, HeaderMap};
use zeroize::Zeroizing;

use crate::secret::constant_time_eq;

/// What a caller of the admin API has to show.
#[derive(Clone)]
pub struct AdminToken(Zeroizing<String>);

impl AdminToken {
    pub const MIN_BYTES: usize = 32;

    /// Surrounding white space is the editor's. `None` if it is too short to be beyond guessing, or cannot stand in a header.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = (Self::MIN_BYTES..=MAX_BYTES).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic()))
            .then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Whether a request shows it: RFC 6750 section 2.1, and only once.
    pub(super) fn is_shown_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some((scheme, token)) = value.as_bytes().split_at_checked(SCHEME.len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(SCHEME.as_bytes())
            && constant_time_eq(token.trim_ascii(), self.0.as_bytes())
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(redacted)")
    }
}

const SCHEME: &str = "bearer ";

/// More does not make it safer, and a head has a limit.
const MAX_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{AUTHORIZATION, HeaderMap};

    use super::AdminToken;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn shown(values: &[&'static str]) -> bool {
        let headers: HeaderMap = values
            .iter()
            .map(|value| (AUTHORIZATION, HeaderValue::from_static(value)))
            .collect();
        AdminToken::parse(TOKEN).unwrap().is_shown_in(&headers)
    }

    #[test]
    fn weak_or_unsendable_tokens_are_none() {
        assert!(AdminToken::parse(&format!("  {TOKEN}\n")).is_some());
        for text in [
            "",
            &TOKEN[1..],
            &format!("{TOKEN}\n{TOKEN}"),
            &format!("{TOKEN} x"),
            &format!("{TOKEN}é"),
            &"x".repeat(1025),
        ] {
            assert!(AdminToken::parse(text).is_none(), "{text:?}");
        }
        let debug = format!("{:?}", AdminToken::parse(TOKEN).unwrap());
        assert!(!debug.contains(TOKEN));
    }

    #[test]
    fn only_the_whole_token_is_shown_and_only_once() {
        assert!(shown(&["Bearer 0123456789abcdef0123456789abcdef"]));
        assert!(shown(&["bearer 0123456789abcdef0123456789abcdef"]));
        for values in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Bearer 0123456789abcdef0123456789abcde"],
            &["Bearer 0123456789abcdef0123456789abcdeF"],
            &["Bearer 0123456789abcdef0123456789abcdef0"],
            &["Basic 0123456789abcdef0123456789abcdef"],
            &["0123456789abcdef0123456789abcdef"],
            &[
                "Bearer 0123456789abcdef0123456789abcdef",
                "Bearer 0123456789abcdef0123456789abcdef",
            ],
        ] {
            assert!(!shown(values), "{values:?}");
        }
    }
}
