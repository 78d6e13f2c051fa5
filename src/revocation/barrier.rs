//! The wait of a revocation's answer: until every replica has confirmed it, or can no longer trust what it knew before.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::protocol::{LONGEST_LEASE, has_lapsed, holds_everywhere, longest_lease_behind};
use crate::clock::{BootTime, Clock};
use crate::store::{ReplicaRow, Sequence, SessionStore, StoreError};

/// All waiting revocations of this process; one task reads the replicas' rows for all of them.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    waiting: Mutex<Vec<Waiting>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Waiting {
    sequence: Sequence,
    /// Read after the commit was confirmed.
    committed_at: BootTime,
    /// Of those that had not confirmed when the rows were read last. Before that it may be anyone's: what another process
    /// joined with need not be what this one is configured with.
    longest_lease: Duration,
    done: oneshot::Sender<()>,
}

impl Barrier {
    /// Returns when `sequence`, committed before `committed_at`, holds on every replica.
    pub(super) async fn wait(&self, sequence: Sequence, committed_at: BootTime) {
        let (done, holds) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Waiting {
                sequence,
                committed_at,
                longest_lease: LONGEST_LEASE,
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
        loop {
            if self.len() == 0 {
                self.arrived.notified().await;
            }
            self.look(store.replicas(), clock).await;
            tokio::time::sleep(POLL).await;
        }
    }

    /// Reads the rows, and lets go whoever waited before that: of what was committed later, they say nothing.
    async fn look(
        &self,
        rows: impl Future<Output = Result<Vec<ReplicaRow>, StoreError>>,
        clock: &Clock,
    ) {
        let arrived = self.len();
        let rows = rows.await;
        let now = clock.boot();
        self.release(arrived, |waiting| match &rows {
            Ok(rows) => {
                waiting.longest_lease = longest_lease_behind(rows, waiting.sequence);
                holds_everywhere(rows, waiting.sequence, waiting.committed_at, now)
            }
            // Not an error of the revocation: it is committed, and in time all leases from before it have run out.
            Err(_) => has_lapsed(waiting.longest_lease, waiting.committed_at, now),
        });
    }

    fn len(&self) -> usize {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Of the first `arrived`, those for whom it holds.
    fn release(&self, arrived: usize, holds: impl Fn(&mut Waiting) -> bool) {
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
    use crate::store::{ReplicaId, ReplicaRow, Sequence, StoreError};

    /// A replica may have joined between the reading and the commit: it is not among the rows that were read.
    #[tokio::test]
    async fn rows_that_were_read_before_a_commit_say_nothing_of_it() {
        let (clock, barrier) = (Clock::system(), Barrier::default());
        let mut late = pin!(barrier.wait(Sequence::new(7), clock.boot()));
        let mut poll = || late.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let rows = async {
            assert_eq!(poll(), Poll::Pending);
            Ok(vec![])
        };
        barrier.look(rows, &clock).await;
        assert_eq!(poll(), Poll::Pending);
        barrier.look(async { Ok(vec![]) }, &clock).await;
        assert_eq!(poll(), Poll::Ready(()));
    }

    /// A replica that joined with a longer lease may be among the rows that cannot be read.
    #[tokio::test]
    async fn while_the_rows_cannot_be_read_the_wait_is_for_the_longest_lease_there_may_be() {
        let behind = |lease| ReplicaRow {
            id: ReplicaId::random(),
            beat: 1,
            applied: Sequence::new(6),
            lease: Duration::from_secs(lease),
        };
        let cases = [
            ("never read", None, 60),
            ("all confirmed but one", Some(behind(10)), 10),
            ("the longest there is", Some(behind(60)), 60),
        ];
        for (what, row, seconds) in cases {
            let (clock, hands) = Clock::adjustable();
            let barrier = Barrier::default();
            let mut waits = pin!(barrier.wait(Sequence::new(7), clock.boot()));
            let mut poll = || waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(poll(), Poll::Pending);
            if let Some(row) = row {
                barrier.look(async { Ok(vec![row]) }, &clock).await;
            }
            let unreadable = async || Err(StoreError::OtherMasterKey);
            hands.advance_boot(Duration::from_secs(seconds));
            barrier.look(unreadable(), &clock).await;
            assert_eq!(poll(), Poll::Pending, "{what}: too early");
            hands.advance_boot(Duration::from_secs(seconds) / 20);
            barrier.look(unreadable(), &clock).await;
            assert_eq!(poll(), Poll::Ready(()), "{what}");
        }
    }
}
