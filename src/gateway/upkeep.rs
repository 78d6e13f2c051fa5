//! What the store needs now and then, off everybody's way.

use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::causes::Causes;
use crate::clock::Clock;
use crate::store::{SessionStore, TokenUse};

/// Writes which refreshed tokens have come into use: from then on their predecessors are a thief's.
pub async fn note_first_uses(store: SessionStore, mut uses: mpsc::Receiver<TokenUse>) {
    let mut batch = Vec::new();
    while uses.recv_many(&mut batch, BATCH).await > 0 {
        while let Err(error) = store.note_use(&batch).await {
            warn!(
                error = %Causes(&error),
                "cannot note the use of refreshed tokens yet"
            );
            tokio::time::sleep(PAUSE).await;
        }
        batch.clear();
    }
}

/// Removes sessions that ended by themselves, and log entries that nobody needs any more.
pub async fn remove_what_is_over(store: SessionStore, clock: Clock) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = clock.now();
        match store.remove_expired(now, MOST_AT_ONCE).await {
            Ok(0) => {}
            Ok(sessions) => debug!(sessions, "removed sessions that were over"),
            Err(error) => warn!(
                error = %Causes(&error),
                "cannot remove sessions that are over"
            ),
        }
        if let Err(error) = store.prune_log(now).await {
            warn!(
                error = %Causes(&error),
                "cannot remove expired entries of the revocation log"
            );
        }
    }
}

const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(60);

/// Keeps each write short; what is left waits for the next time.
const MOST_AT_ONCE: u32 = 1000;
