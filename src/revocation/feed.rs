//! The feed: how this replica follows the revocation log, proves that it is up to date, and shows it to the others.
//!
//! A full round is, in exactly this order: read the clock; write the own row (A); read the log (B); insert what it brought;
//! cut the streams; move `applied`; move the deadline to the clock reading plus the lease. A poll between renewals is B alone:
//! it inserts, and moves no deadline. A round that brought something is followed by another at once, whose A confirms it.
//!
//! The signing keys are on the same log. A round that read of a change reads the keys anew before `applied` moves, and so does
//! one that began past the deadline, since an entry may have been pruned meanwhile; one that cannot has failed.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::protocol::{self, Learnt};
use super::{OnLapse, Revocations, Shared};
use crate::causes::Causes;
use crate::clock::BootTime;
use crate::keys::KeysError;
use crate::store::{
    LogRead, LoggedReason, Mark, Outage, ReplicaId, ReplicaRow, Sequence, StoreError,
};

/// Runs the rounds; the one task that moves the deadline.
struct Feed<'a> {
    revocations: &'a Revocations,
    /// Mark of the last entry applied, to notice a log whose history changed.
    mark: Option<Mark>,
    renewed_at: BootTime,
    /// What the own row says was applied.
    confirmed: Option<Sequence>,
    /// When the log last had something new.
    brought_at: BootTime,
    failing: bool,
    beats: HashMap<ReplicaId, (u64, BootTime)>,
    swept_at: BootTime,
}

/// A round that failed; the deadline stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum RoundError {
    #[error("the session store cannot be reached")]
    Store(#[from] StoreError),
    #[error("the session store took longer than a third of the lease")]
    TooSlow,
    #[error("the revocation log has an entry of a kind that this version does not know: {0}")]
    UnknownReason(String),
    #[error("cannot read the signing keys")]
    Keys(#[from] KeysError),
}

impl RoundError {
    /// The store is there, and somebody else was in the way: also an earlier try of this process, which the server goes on
    /// with until it notices that nobody waits for it any more.
    fn is_of_a_moment(&self) -> bool {
        matches!(
            self,
            Self::TooSlow | Self::Store(StoreError::Unavailable(Outage::RowHeld(_)))
        )
    }
}

impl Revocations {
    /// Joins the fleet: this replica's row is written, then the log read as a whole. Listeners open after it.
    pub async fn join(&self) -> Result<(), RoundError> {
        let mut feed = Feed::new(self);
        feed.catch_up().await?;
        for _ in 1..TRIES_TO_JOIN {
            match feed.round(true).await {
                // Nobody is served yet: a store that is slow for a moment delays the start, and does not end it.
                Err(error) if error.is_of_a_moment() => {}
                done => return done.map(drop),
            }
        }
        feed.round(true).await.map(drop)
    }

    /// Follows the log until `stop`.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut feed = Feed::new(self);
        let barrier = self
            .shared
            .barrier
            .run(&self.shared.store, &self.shared.clock);
        tokio::select! {
            () = stop.cancelled() => {}
            () = feed.run() => {}
            () = barrier => {}
            () = self.settle() => {}
        }
    }

    /// Leaves the fleet, after [`Self::follow`] has been stopped: trusts nothing any more, and only then removes the own row.
    pub async fn leave(&self) {
        self.shared.deadline.store(0, Ordering::Release);
        if let Err(error) = self
            .shared
            .store
            .remove_replica(&self.shared.replica, None)
            .await
        {
            warn!(
                error = %Causes(&error),
                "could not sign off from the session store; the lease will run out"
            );
        }
    }

    /// Serves the waits of a process that revokes and is no replica (the command line).
    pub async fn serve_waits(&self) {
        self.shared
            .barrier
            .run(&self.shared.store, &self.shared.clock)
            .await;
    }
}

impl<'a> Feed<'a> {
    fn new(revocations: &'a Revocations) -> Self {
        let now = revocations.shared.clock.boot();
        Self {
            revocations,
            mark: None,
            renewed_at: BootTime::ZERO,
            confirmed: None,
            brought_at: BootTime::ZERO,
            failing: false,
            beats: HashMap::new(),
            swept_at: now,
        }
    }

    async fn run(&mut self) {
        let wake_up = self.revocations.shared.store.wake_up();
        loop {
            match self.turn().await {
                Ok(()) => self.recovered(),
                Err(error) => self.failed(&error),
            }
            self.between_rounds().await;
            if self.is_unconfirmed() && !self.failing {
                continue;
            }
            let pause = self.until_next_look(wake_up.is_listening());
            tokio::select! {
                () = self.revocations.shared.wake.notified() => {}
                () = wake_up.heard() => {}
                () = sleep(jittered(pause)) => {}
            }
        }
    }

    /// One whom the database wakes looks seldom, but renews in time; one that has to look by itself does so more often while
    /// there is something to be seen, since where one logs out others do, and wait.
    fn until_next_look(&self, is_listening: bool) -> Duration {
        let Shared {
            settings, clock, ..
        } = &*self.revocations.shared;
        if !is_listening {
            let is_busy = clock.boot().since(self.brought_at) < BUSY_FOR;
            return match is_busy {
                true => settings.poll.min(POLL_WHEN_BUSY),
                false => settings.poll,
            };
        }
        let renewal = (self.renewed_at + settings.lease / 3).since(clock.boot());
        renewal.min(POLL_OF_A_LISTENER).max(settings.poll)
    }

    /// A full round if one is due, else a look at the log. What was applied is confirmed at once, but by one write per
    /// [`CONFIRM_EVERY`] however much comes.
    async fn turn(&mut self) -> Result<(), RoundError> {
        let shared = &*self.revocations.shared;
        let now = shared.clock.boot();
        let pause = (self.renewed_at + CONFIRM_EVERY).since(now);
        if self.is_unconfirmed() && !pause.is_zero() {
            sleep(pause).await;
            // What came meanwhile is confirmed with the rest.
            self.round(false).await?;
        }
        let is_due = now.since(self.renewed_at) >= shared.settings.lease / 3;
        self.round(is_due || self.is_unconfirmed()).await?;
        Ok(())
    }

    /// Whether the own row says something else than what was applied.
    fn is_unconfirmed(&self) -> bool {
        self.confirmed != Some(self.revocations.applied())
    }

    /// Reads a long log in pages, so that its size is no matter of memory. Nothing is trusted for it: the round that follows
    /// reads what has come since, and moves the deadline.
    async fn catch_up(&mut self) -> Result<(), RoundError> {
        let shared = &*self.revocations.shared;
        loop {
            let page = shared
                .store
                .log_page(self.revocations.applied(), PAGE)
                .await?;
            if page.is_empty() {
                return Ok(());
            }
            let is_last = page.len() < PAGE as usize;
            let log = LogRead {
                entries: page,
                mark: None,
            };
            if let Learnt::NotUnderstood(reason) = protocol::learnt(None, &log) {
                return Err(RoundError::UnknownReason(reason.to_owned()));
            }
            self.insert(&log);
            self.confirm(&log);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Says whether the log had something new.
    async fn round(&mut self, renew: bool) -> Result<bool, RoundError> {
        let shared = &*self.revocations.shared;
        let limit = shared.settings.lease / 3;
        let started = shared.clock.boot();
        if renew {
            let applied = self.revocations.applied();
            let row = ReplicaRow {
                id: shared.replica,
                beat: shared.beats.fetch_add(1, Ordering::Relaxed) + 1,
                applied,
                lease: shared.settings.lease,
            };
            timeout(limit, shared.store.renew_replica(&row))
                .await
                .map_err(|_| RoundError::TooSlow)??;
            self.confirmed = Some(applied);
        }
        let read = shared.store.read_log(self.revocations.applied());
        let log = timeout(limit, read)
            .await
            .map_err(|_| RoundError::TooSlow)??;
        let learnt = protocol::learnt(self.mark, &log);
        if learnt == Learnt::OtherHistory {
            error!(
                "the revocation log is not the one that was read before (restored from a backup?); reading all of it"
            );
            shared.deadline.store(0, Ordering::Release);
            shared.applied.store(0, Ordering::Release);
            // Numbers of another history say nothing of this one.
            shared.committed.store(0, Ordering::Release);
            self.mark = None;
            return Ok(true);
        }
        let brought_something = !log.entries.is_empty();
        if brought_something {
            self.brought_at = started;
        }
        self.insert(&log);
        if let Learnt::NotUnderstood(reason) = learnt {
            shared.deadline.store(0, Ordering::Release);
            return Err(RoundError::UnknownReason(reason.to_owned()));
        }
        let keys_changed = log
            .entries
            .iter()
            .any(|entry| entry.reason == LoggedReason::Keys);
        if let Some(keys) = &shared.keys
            && (keys_changed || started >= self.revocations.deadline())
        {
            timeout(limit, keys.reload())
                .await
                .map_err(|_| RoundError::TooSlow)??;
        }
        self.confirm(&log);
        if renew {
            self.renewed_at = started;
            let deadline = protocol::deadline(started, shared.settings.lease);
            shared
                .deadline
                .store(deadline.as_nanos(), Ordering::Release);
        }
        Ok(brought_something)
    }

    /// Into the set, and then at the open streams. What comes after an entry that is not understood is as true as what comes
    /// before it.
    fn insert(&self, log: &LogRead) {
        let shared = &*self.revocations.shared;
        let mut ended = Vec::new();
        for entry in &log.entries {
            match (entry.handle, &entry.reason) {
                (_, LoggedReason::Unknown(_)) | (None, _) => {}
                (Some(handle), LoggedReason::Claims { version }) => {
                    shared.set.require(handle, *version, entry.expires);
                }
                (Some(handle), reason) => {
                    shared.set.insert(handle, entry.expires);
                    if matches!(reason, LoggedReason::Known(_)) {
                        ended.push(handle);
                    }
                }
            }
        }
        for handle in ended {
            shared.live.cut(&handle);
        }
    }

    /// From the next write of the own row on, everyone may rely on it.
    fn confirm(&mut self, log: &LogRead) {
        let shared = &*self.revocations.shared;
        if let Some(last) = log.entries.last() {
            self.mark = Some(last.mark);
            shared
                .applied
                .store(last.sequence.as_u64(), Ordering::Release);
        } else if self.mark.is_none() {
            self.mark = log.mark;
        }
    }

    /// What is due now and then: replicas that died, entries that expired, streams of a lapsed replica.
    async fn between_rounds(&mut self) {
        let shared = &*self.revocations.shared;
        let now = shared.clock.boot();
        if self.failing {
            self.cut_if_lapsed(now);
            return;
        }
        if now.since(self.swept_at) >= shared.settings.lease {
            self.swept_at = now;
            shared.set.forget(shared.clock.now());
            if let Err(error) = self.reap().await {
                warn!(
                    error = %Causes(&error),
                    "could not look for replicas that have died"
                );
            }
        }
    }

    fn cut_if_lapsed(&self, now: BootTime) {
        let settings = self.revocations.shared.settings;
        if settings.on_lapse == OnLapse::Keep || now < self.revocations.deadline() + settings.lease
        {
            return;
        }
        let cut = self.revocations.shared.live.cut_all();
        if cut > 0 {
            warn!(
                streams = cut,
                "cut open streams: this replica has lost touch with the session store"
            );
        }
    }

    /// Removes the rows of replicas that have not renewed for two leases, by beats that were seen, never by a wall clock.
    async fn reap(&mut self) -> Result<(), StoreError> {
        let shared = &*self.revocations.shared;
        let rows = shared.store.replicas().await?;
        let now = shared.clock.boot();
        let mut seen = HashMap::with_capacity(rows.len());
        for row in rows {
            match self.beats.get(&row.id) {
                Some(&before) if before.0 == row.beat => {
                    if protocol::has_died(&row, before, now) && row.id != shared.replica {
                        shared.store.remove_replica(&row.id, Some(row.beat)).await?;
                        info!(replica = %row.id, "removed a replica that has not renewed its lease");
                    } else {
                        seen.insert(row.id, before);
                    }
                }
                _ => {
                    seen.insert(row.id, (row.beat, now));
                }
            }
        }
        self.beats = seen;
        Ok(())
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            // What was seen of other replicas before says nothing about the time in between.
            self.beats.clear();
            info!("the session store can be reached again");
        }
    }

    fn failed(&mut self, error: &RoundError) {
        if !std::mem::replace(&mut self.failing, true) {
            warn!(
                error = %Causes(error),
                "cannot follow the revocation log; asking the session store for each request when the lease has run out"
            );
        }
    }
}

/// Rounds of a replica that joins, each of which may take a third of the lease for a statement.
const TRIES_TO_JOIN: u32 = 10;

/// Entries of the log that are read at once by a replica that joins.
const PAGE: u32 = 10_000;

/// Between two looks of a replica that nobody wakes, for so long after the log had something new.
const POLL_WHEN_BUSY: Duration = Duration::from_millis(10);
const BUSY_FOR: Duration = Duration::from_secs(2);

/// The least time between two confirmations, so that a storm of revocations costs no storm of writes.
const CONFIRM_EVERY: Duration = Duration::from_millis(10);

/// Of a replica that the database wakes: this finds what was told while nobody heard it.
const POLL_OF_A_LISTENER: Duration = Duration::from_secs(1);

/// Up to a tenth more, so that replicas that started together do not poll together.
fn jittered(poll: Duration) -> Duration {
    let [random] = crate::secret::random_bytes::<1>();
    poll + poll.mul_f64(f64::from(random) / 2550.0)
}

#[cfg(test)]
mod tests;
