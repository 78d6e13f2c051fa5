//! The revoker: revocations that are asked for while a transaction runs share the next one.
//!
//! The first goes at once, so that nobody waits for company; under load one transaction, one sequence, one wake-up and one
//! confirmation per replica serve hundreds. A task of its own does it: what was asked for is done, whether anyone still waits
//! for it or not. All sessions of a user are ended elsewhere, since that is a transaction of its own in any case.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use super::Revocations;
use super::owed::{MOST_AT_ONCE, Pending};
use crate::clock::BootTime;
use crate::session::SessionHandle;
use crate::store::{Ended, Revocation, RevocationReason, StoreError};

/// What waits to be written by this process.
#[derive(Debug)]
pub(super) struct Revoker {
    queue: Mutex<Queue>,
    /// Bounds the transactions that repeat one by one what failed together.
    alone: Semaphore,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Asked>,
    is_served: bool,
}

/// Sessions that one caller wants ended, all of them or none.
#[derive(Debug)]
struct Asked {
    handles: Vec<SessionHandle>,
    reason: RevocationReason,
    /// Where the caller waits; it may have gone.
    tell: oneshot::Sender<Result<Committed, StoreError>>,
}

/// A revocation that is durable and holds here.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) revocation: Revocation,
    /// Read after the commit was confirmed.
    pub(super) at: BootTime,
}

impl Default for Revoker {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            alone: Semaphore::new(MOST_ALONE),
        }
    }
}

impl Revocations {
    /// Writes the revocation, together with those that others ask for meanwhile. It is done even if nobody waits for it.
    pub(super) async fn write(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
    ) -> Result<Committed, StoreError> {
        let (tell, told) = oneshot::channel();
        let is_served = self.shared.revoker.enqueue(Asked {
            handles: handles.to_vec(),
            reason,
            tell,
        });
        if !is_served {
            tokio::spawn(self.clone().serve_queue());
        }
        match told.await {
            Ok(told) => told,
            // Whoever served has died, or its runtime ended.
            Err(_) => self.write_alone(handles, reason).await,
        }
    }

    /// Until nothing waits any more.
    async fn serve_queue(self) {
        let mut serving = Serving {
            revoker: &self.shared.revoker,
            is_over: false,
        };
        while let Some(batch) = serving.revoker.next_batch() {
            self.write_batch(batch).await;
        }
        serving.is_over = true;
    }

    async fn write_batch(&self, mut batch: Vec<Asked>) {
        let Some(reason) = batch.first().map(|asked| asked.reason) else {
            return;
        };
        let handles = handles_of(&mut batch);
        match self.write_at_once(&handles, reason).await {
            Ok(committed) => share(committed, batch),
            Err(error) if batch.len() > 1 && error.is_about_rows() => {
                for asked in batch {
                    tokio::spawn(self.clone().write_for(asked));
                }
            }
            Err(error) => {
                self.owe(&handles, reason);
                let error = Arc::new(error);
                for asked in batch {
                    // The caller may have gone.
                    let _ = asked.tell.send(Err(StoreError::Shared(Arc::clone(&error))));
                }
            }
        }
    }

    /// What failed in company may succeed without it.
    async fn write_for(self, asked: Asked) {
        let done = self.write_alone(&asked.handles, asked.reason).await;
        // The caller may have gone.
        let _ = asked.tell.send(done);
    }

    async fn write_alone(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
    ) -> Result<Committed, StoreError> {
        // Never closed.
        let _permit = self.shared.revoker.alone.acquire().await.ok();
        let written = self.write_at_once(handles, reason).await;
        written.inspect_err(|_| self.owe(handles, reason))
    }

    async fn write_at_once(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
    ) -> Result<Committed, StoreError> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let revocation = shared.store.revoke(handles, reason, now).await?;
        let at = shared.clock.boot();
        self.apply(&revocation);
        Ok(Committed { revocation, at })
    }

    fn owe(&self, handles: &[SessionHandle], reason: RevocationReason) {
        let pending = |handle: &SessionHandle| Pending::Session(*handle, reason);
        self.shared.owed.add(handles.iter().map(pending));
    }
}

impl Revoker {
    /// Says whether somebody serves the queue already; if not, it is the caller's to do.
    fn enqueue(&self, asked: Asked) -> bool {
        let mut queue = self.lock();
        queue.waiting.push_back(asked);
        std::mem::replace(&mut queue.is_served, true)
    }

    /// Those that waited longest and can share a transaction; `None` if nobody waits, and then nobody serves any more.
    fn next_batch(&self) -> Option<Vec<Asked>> {
        let mut queue = self.lock();
        let Some(first) = queue.waiting.pop_front() else {
            queue.is_served = false;
            return None;
        };
        let mut room = MOST_AT_ONCE.saturating_sub(first.handles.len());
        let mut batch = vec![first];
        while let Some(next) = queue
            .waiting
            .pop_front_if(|next| next.reason == batch[0].reason && next.handles.len() <= room)
        {
            room -= next.handles.len();
            batch.push(next);
        }
        Some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the queue to others, should the task that serves it be dropped: whoever waits is told by the end of its channel.
struct Serving<'a> {
    revoker: &'a Revoker,
    is_over: bool,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            let mut queue = self.revoker.lock();
            queue.is_served = false;
            queue.waiting.clear();
        }
    }
}

/// Of all who share a transaction, each handle once.
fn handles_of(batch: &mut [Asked]) -> Vec<SessionHandle> {
    for asked in &mut *batch {
        asked.handles.sort_unstable();
    }
    let mut handles: Vec<SessionHandle> = batch
        .iter()
        .flat_map(|asked| &asked.handles)
        .copied()
        .collect();
    handles.sort_unstable();
    handles.dedup();
    handles
}

/// Tells each caller what became of its own. A session that two wanted ended has ended for the first of them; for the other it
/// had ended before.
fn share(committed: Committed, batch: Vec<Asked>) {
    let Committed { revocation, at } = committed;
    let sequence = revocation.sequence;
    let mut ended: HashMap<SessionHandle, Ended> = revocation
        .ended
        .into_iter()
        .map(|ended| (ended.handle, ended))
        .collect();
    for Asked { handles, tell, .. } in batch {
        let ended = handles
            .iter()
            .filter_map(|handle| ended.remove(handle))
            .collect();
        let revocation = Revocation { sequence, ended };
        // The caller may have gone.
        let _ = tell.send(Ok(Committed { revocation, at }));
    }
}

/// Beside the batches.
const MOST_ALONE: usize = 4;
