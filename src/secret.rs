//! Secrets that cannot be printed, and what is done with secrets: draw, compare, encode.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` secret bytes: wiped when dropped, compared in constant time, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>([u8; N]);

impl<const N: usize> Secret<N> {
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// From the operating system's CSPRNG.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// The bytes themselves; the name makes each use easy to find.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A token as it travels: the value of a cookie or of a bearer header. Wiped when dropped, compared in constant time, never
/// printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenText(String);

impl TokenText {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for TokenText {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for TokenText {}

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(redacted)")
    }
}

/// Bytes from the operating system's CSPRNG, for what must be unguessable but is not secret (handles, marks).
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system's CSPRNG answers");
    bytes
}

/// Equality whose time tells nothing about where two values of one length differ.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// base64url without padding (RFC 4648 section 5).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Strict base64url without padding: one text per value, nothing ignored. `None` unless it decodes to exactly `N` bytes.
pub fn from_base64url<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Strict base64url without padding, of any length.
pub fn from_base64url_any(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::{Secret, TokenText, constant_time_eq, from_base64url};

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", Secret::new([7; 32])), "Secret(redacted)");
        assert_eq!(
            format!("{:?}", TokenText::new("eyJ".into())),
            "TokenText(redacted)"
        );
    }

    #[test]
    fn base64url_has_one_text_per_value() {
        assert_eq!(from_base64url::<1>(b"_w"), Some([255]));
        for text in ["_x", "_w==", "/w", "_w\n", " _w", "", "_wA"] {
            assert_eq!(from_base64url::<1>(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn comparison_needs_equal_length() {
        assert!(constant_time_eq(b"abc", b"abc"));
        assert!(!constant_time_eq(b"abc", b"abcd"));
        assert!(!constant_time_eq(b"abc", b"abd"));
    }
}
