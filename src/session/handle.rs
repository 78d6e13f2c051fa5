use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::secret::{base64url, from_base64url, random_bytes};

/// Names a session: 128 random bits, written as 22 characters of base64url. Not a secret: it logs nobody in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionHandle([u8; Self::BYTES]);

impl SessionHandle {
    pub const BYTES: usize = 16;

    pub fn random() -> Self {
        Self(random_bytes())
    }

    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

impl fmt::Debug for SessionHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionHandle {
    type Err = InvalidHandle;

    fn from_str(text: &str) -> Result<Self, InvalidHandle> {
        from_base64url(text.as_bytes())
            .map(Self)
            .ok_or(InvalidHandle)
    }
}

/// A text that names no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "not a session handle: a handle is 22 characters of A-Z a-z 0-9 - _, as `sessions list` prints it"
)]
pub struct InvalidHandle;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::SessionHandle;

    #[test]
    fn is_written_and_read_back() {
        let handle = SessionHandle::random();
        assert_eq!(handle.to_string().len(), 22);
        assert_eq!(handle.to_string().parse(), Ok(handle));
    }

    #[test]
    fn has_no_structure_of_time_or_count() {
        let handles: Vec<SessionHandle> = (0..10_000).map(|_| SessionHandle::random()).collect();
        assert_eq!(handles.iter().collect::<HashSet<_>>().len(), handles.len());
        for byte in 0..SessionHandle::BYTES {
            let values: HashSet<u8> = handles
                .iter()
                .map(|handle| handle.as_bytes()[byte])
                .collect();
            assert_eq!(
                values.len(),
                256,
                "byte {byte} of a handle does not take all values"
            );
        }
    }
}
