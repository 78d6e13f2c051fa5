//! How a process hears that the log may have news.

use super::postgres::Listener;

/// Ends a wait for the next poll early. That the poll finds what is new never depends on it.
#[derive(Debug)]
pub enum WakeUp {
    /// The database tells nobody.
    Never,
    Listener(Listener),
}

impl WakeUp {
    /// Returns when there may be news since the last time that it returned. May be dropped and called again.
    pub async fn heard(&self) {
        match self {
            Self::Never => std::future::pending().await,
            Self::Listener(listener) => listener.heard().await,
        }
    }

    /// Whether news are told at once, as far as is known, so that it is enough to poll seldom.
    pub fn is_listening(&self) -> bool {
        match self {
            Self::Never => false,
            Self::Listener(listener) => listener.is_listening(),
        }
    }
}
