//! Writes what is owed to the session store, beside the feed and not in it: a row that somebody holds is waited for, and no
//! renewal of the lease waits with it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::Revocations;
use super::owed::Batch;
use crate::store::{Revocation, StoreError};

impl Revocations {
    /// For as long as the process runs.
    pub(super) async fn settle(&self) {
        loop {
            self.shared.owed.is_some().await;
            // Whatever kept it from being written may do so for a while.
            sleep(PAUSE).await;
            self.write_owed().await;
        }
    }

    /// All that is owed now; what the store does not take is owed on.
    async fn write_owed(&self) {
        let (batches, _users) = self.shared.owed.take();
        let mut batches = VecDeque::from(batches);
        while let Some(batch) = batches.pop_front() {
            match self.write_batch_owed(&batch).await {
                Ok(revocation) => {
                    self.apply(&revocation);
                    info!(
                        sequence = revocation.sequence.as_u64(),
                        "wrote a revocation that was owed to the session store"
                    );
                }
                Err(error) => {
                    // One that the store does not take keeps no other from it.
                    let each = match error.is_about_rows() {
                        true => batch.split(),
                        false => Vec::new(),
                    };
                    if each.is_empty() {
                        self.shared.owed.give_back([batch]);
                    }
                    batches.extend(each);
                }
            }
        }
    }

    async fn write_batch_owed(&self, batch: &Batch) -> Result<Revocation, StoreError> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        match batch {
            Batch::Sessions(handles, reason) => shared.store.revoke(handles, *reason, now).await,
            Batch::User(user, reason) => shared.store.revoke_user(user, *reason, now).await,
        }
    }
}

/// Between tries.
const PAUSE: Duration = Duration::from_millis(250);
