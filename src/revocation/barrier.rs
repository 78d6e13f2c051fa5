//! The wait of a revocation's answer: until every replica has confirmed it, or can no longer trust what it knew before.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::protocol::{has_lapsed, holds_everywhere};
use crate::clock::{BootTime, Clock};
use crate::store::{ReplicaRow, Sequence, SessionStore, StoreError};

/// All waiting revocations of this process; one task reads the replicas' rows for all of them.
#[derive(Debug)]
pub(super) struct Barrier {
    own_lease: Duration,
    waiting: Mutex<Vec<Waiting>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Waiting {
    sequence: Sequence,
    /// Read after the commit was confirmed.
    committed_at: BootTime,
    done: oneshot::Sender<()>,
}

impl Barrier {
    pub(super) fn new(own_lease: Duration) -> Self {
        Self {
            own_lease,
            waiting: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    /// Returns when `sequence`, committed before `committed_at`, holds on every replica.
    pub(super) async fn wait(&self, sequence: Sequence, committed_at: BootTime) {
        let (done, holds) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Waiting {
                sequence,
                committed_at,
                done,
            });
        self.arrived.notify_one();
        // The sender goes without an answer only when the process ends, and then nobody is told that it holds.
        if holds.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Serves the waiting, for as long as the process runs.
    pub(super) async fn run(&self, store: &SessionStore, clock: &Clock) {
        let mut longest_lease = self.own_lease;
        loop {
            if self.len() == 0 {
                self.arrived.notified().await;
            }
            self.look(store.replicas(), &mut longest_lease, clock).await;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Reads the rows, and lets go whoever waited before that: of what was committed later, they say nothing.
    async fn look(
        &self,
        rows: impl Future<Output = Result<Vec<ReplicaRow>, StoreError>>,
        longest_lease: &mut Duration,
        clock: &Clock,
    ) {
        let arrived = self.len();
        let rows = rows.await;
        let now = clock.boot();
        if let Ok(rows) = &rows {
            *longest_lease = rows
                .iter()
                .map(|row| row.lease)
                .fold(*longest_lease, Duration::max);
        }
        self.release(arrived, |waiting| match &rows {
            Ok(rows) => holds_everywhere(rows, waiting.sequence, waiting.committed_at, now),
            // Not an error of the revocation: it is committed, and in time all leases from before it have run out.
            Err(_) => has_lapsed(*longest_lease, waiting.committed_at, now),
        });
    }

    fn len(&self) -> usize {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Of the first `arrived`, those for whom it holds.
    fn release(&self, arrived: usize, holds: impl Fn(&Waiting) -> bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for done in waiting.extract_if(..arrived, |waiting| holds(waiting)) {
            // Whoever waited may have gone; the revocation holds all the same.
            let _ = done.done.send(());
        }
    }
}

/// How often the rows are read while somebody waits.
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::Barrier;
    use crate::clock::Clock;
    use crate::store::Sequence;

    /// A replica may have joined between the reading and the commit: it is not among the rows that were read.
    #[tokio::test]
    async fn rows_that_were_read_before_a_commit_say_nothing_of_it() {
        let mut lease = Duration::from_secs(3);
        let (clock, barrier) = (Clock::system(), Barrier::new(lease));
        let mut late = pin!(barrier.wait(Sequence::new(7), clock.boot()));
        let mut poll = || late.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let rows = async {
            assert_eq!(poll(), Poll::Pending);
            Ok(vec![])
        };
        barrier.look(rows, &mut lease, &clock).await;
        assert_eq!(poll(), Poll::Pending);
        barrier.look(async { Ok(vec![]) }, &mut lease, &clock).await;
        assert_eq!(poll(), Poll::Ready(()));
    }
}
