//! How a session ends before its time, and how every replica knows.
//!
//! - `set`: the revocation set, in memory;
//! - `live`: the open streams of each session;
//! - `feed`: follows the store's log and renews the lease on what it read;
//! - `revoker`: writes what is asked for at the same time in one transaction;
//! - `barrier`: waits until a revocation holds on every replica;
//! - `owed`: what the store could not be told yet, and `settle`, which tells it;
//! - [`protocol`]: what all of these decide by.
//!
//! [`Revocations`] ties them together. The protocol is small and each of its orders matters: a replica first *writes* its row
//! and commits, and only then *reads* the log; a revoker first commits its log entry, and only then reads the rows. So of any
//! revocation and any renewal at least one sees the other. ARCHITECTURE.md has the proof and what goes wrong otherwise.

mod barrier;
mod feed;
mod live;
mod owed;
pub mod protocol;
mod revoker;
mod set;
mod settle;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

pub use feed::RoundError;
pub use live::{LiveStream, LiveStreams};
pub use set::{Clearance, Membership, RevocationSet};

use crate::clock::{BootTime, Clock, Timestamp};
use crate::identity::UserId;
use crate::keys::{KeysError, SigningKeys};
use crate::session::SessionHandle;
use crate::store::{
    ClaimsChange, Liveness, ReplicaId, Revocation, RevocationReason, Sequence, SessionStore, Shown,
    StoreError,
};

use barrier::Barrier;
use owed::{Owed, Pending};
use revoker::{Committed, Revoker};

/// What decides whether a session that shows a valid token is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The revocation set, as long as the lease on it runs; else the store.
    Feed,
    /// The store, on every request.
    Database,
    /// Nothing: an access token is accepted until it expires.
    Off,
}

/// Who has to know of a revocation before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// Every replica whose lease runs.
    Fleet,
    /// This replica; the others know within a lease.
    Local,
}

/// What becomes of open streams when this replica has lost touch with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLapse {
    /// They are cut when a further lease has passed.
    Cut,
    Keep,
}

/// Settings of this module.
#[derive(Clone, Copy, Debug)]
pub struct RevocationSettings {
    pub check: Check,
    pub acknowledge: Acknowledge,
    pub on_lapse: OnLapse,
    /// For how long what was read from the log is good.
    pub lease: Duration,
    /// How often the log is read.
    pub poll: Duration,
    /// How long access tokens live at most: a handle that is revoked before the store could be asked is remembered so long.
    pub access_lifetime: Duration,
}

/// Whether a session may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Live,
    Revoked,
    /// The session lives, its token's key does not. Only the store says so: what memory knows of keys is the ring.
    KeyDropped,
    /// The session lives, but its claims are newer than the token: it is to be treated as an expired one.
    Outdated,
    /// Memory cannot tell; the store has to.
    AskStore,
}

/// A replica's knowledge of revocations, and its means to make some; cheap to clone.
#[derive(Clone)]
pub struct Revocations {
    shared: Arc<Shared>,
}

struct Shared {
    settings: RevocationSettings,
    clock: Clock,
    store: SessionStore,
    replica: ReplicaId,
    /// Writes of the own row so far, whether they were acknowledged or not. It never begins again, though the row may.
    beats: AtomicU64,
    set: RevocationSet,
    live: LiveStreams,
    /// Until when the set may be trusted, in nanoseconds of [`BootTime`]; 0 is never.
    deadline: AtomicU64,
    /// The last sequence that the set contains.
    applied: AtomicU64,
    /// The newest sequence that this process has from a transaction or a read of its own, whether its feed has come so far or not.
    committed: AtomicU64,
    /// Makes the feed read at once.
    wake: Notify,
    /// Revocations that are asked for, until they are written.
    revoker: Revoker,
    barrier: Barrier,
    /// Revocations that were asked for while the store could not be reached.
    owed: Owed,
    /// Bounds the reads of a replica past its deadline.
    store_reads: Semaphore,
    /// What the feed reads anew when the log says so; `None` in a process that neither signs nor verifies.
    keys: Option<SigningKeys>,
}

impl Revocations {
    /// For a process that revokes and is no replica.
    pub fn new(settings: RevocationSettings, clock: Clock, store: SessionStore) -> Self {
        Self::build(settings, clock, store, None)
    }

    /// For a replica, which signs and verifies with `keys`.
    pub fn of_replica(
        settings: RevocationSettings,
        clock: Clock,
        store: SessionStore,
        keys: SigningKeys,
    ) -> Self {
        Self::build(settings, clock, store, Some(keys))
    }

    fn build(
        settings: RevocationSettings,
        clock: Clock,
        store: SessionStore,
        keys: Option<SigningKeys>,
    ) -> Self {
        let shared = Shared {
            settings,
            barrier: Barrier::default(),
            clock,
            store,
            replica: ReplicaId::random(),
            beats: AtomicU64::new(0),
            set: RevocationSet::default(),
            live: LiveStreams::default(),
            deadline: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            wake: Notify::new(),
            revoker: Revoker::default(),
            owed: Owed::default(),
            store_reads: Semaphore::new(MAX_STORE_READS),
            keys,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Decides from memory. The order matters: the deadline first, then the set, so that a deadline that moves in between
    /// moves with the set already complete. For the same reason the ring of keys is asked after this, never before.
    pub fn verdict(&self, handle: &SessionHandle, claims_version: u32) -> Verdict {
        match self.shared.settings.check {
            Check::Off => Verdict::Live,
            Check::Database | Check::Feed => self.recall(handle, claims_version),
        }
    }

    /// The same for a token that may have been cleared before.
    pub fn verdict_again(
        &self,
        handle: &SessionHandle,
        claims_version: u32,
        cleared: &Clearance,
    ) -> Verdict {
        let shared = &*self.shared;
        match shared.settings.check {
            Check::Off => Verdict::Live,
            Check::Database => self.recall(handle, claims_version),
            Check::Feed => {
                let trusted = !self.has_lapsed();
                let found = shared.set.look_up_again(handle, claims_version, cleared);
                protocol::verdict(trusted, found)
            }
        }
    }

    /// What memory knows, whether access tokens are checked against it or not: of tokens that are still to be handed out.
    pub fn recall(&self, handle: &SessionHandle, claims_version: u32) -> Verdict {
        let shared = &*self.shared;
        let trusted = shared.settings.check != Check::Database && !self.has_lapsed();
        protocol::verdict(trusted, shared.set.look_up(handle, claims_version))
    }

    /// Whether memory knows that the session has ended.
    pub fn is_revoked(&self, handle: &SessionHandle) -> bool {
        self.shared.settings.check != Check::Off && self.shared.set.contains(handle)
    }

    /// The same for the session of a token that may have been cleared before. A token whose claims have been changed is none of
    /// a session that has ended.
    pub fn is_revoked_since(
        &self,
        handle: &SessionHandle,
        claims_version: u32,
        cleared: &Clearance,
    ) -> bool {
        let set = &self.shared.set;
        self.shared.settings.check != Check::Off
            && set.look_up_again(handle, claims_version, cleared) == Membership::Revoked
    }

    /// Decides by a read of the store, which covers what the token that was shown says of itself, if it is one. `Err` if it
    /// cannot be read, or too many are waiting to.
    pub async fn ask_store(
        &self,
        handle: SessionHandle,
        shown: Option<Shown<'_>>,
        now: Timestamp,
    ) -> Result<Verdict, StoreUnreadable> {
        let _permit = self
            .shared
            .store_reads
            .try_acquire()
            .map_err(|_| StoreUnreadable::Busy)?;
        let liveness = self.shared.store.liveness(handle, shown, now).await?;
        Ok(match liveness {
            _ if self.shared.set.contains(&handle) => Verdict::Revoked,
            Liveness::Live => Verdict::Live,
            Liveness::KeyDropped => Verdict::KeyDropped,
            Liveness::Outdated => Verdict::Outdated,
            Liveness::Over => Verdict::Revoked,
        })
    }

    /// Before anything is signed: past the deadline the ring is as old as the set, and is read anew.
    pub async fn trust_keys(&self) -> Result<(), KeysError> {
        match &self.shared.keys {
            Some(keys) if self.has_lapsed() => keys.reload().await,
            _ => Ok(()),
        }
    }

    /// The time to check expiry against; see [`RevocationSet::not_before`].
    pub fn not_before(&self, now: Timestamp) -> Timestamp {
        self.shared.set.not_before(now)
    }

    /// Enters a stream of a session that ends with it. `None` if the session has ended already.
    pub fn enter_stream(&self, handle: SessionHandle) -> Option<LiveStream> {
        let stream = self.shared.live.enter(handle);
        (!self.is_revoked(&handle)).then_some(stream)
    }

    /// A login that begins now was not overtaken by anything up to here: what the feed has read, and what was ended here.
    pub fn known(&self) -> Sequence {
        let committed = Sequence::new(self.shared.committed.load(Ordering::Acquire));
        self.applied().max(committed)
    }

    /// What this replica has read of the log, and confirms.
    pub fn applied(&self) -> Sequence {
        Sequence::new(self.shared.applied.load(Ordering::Acquire))
    }

    /// Revokes sessions and returns when that holds: durable, in this replica's set, and known to whom the settings say.
    pub async fn revoke(
        &self,
        handles: &[SessionHandle],
        reason: RevocationReason,
    ) -> Result<Revocation, StoreError> {
        let now = self.shared.clock.now();
        self.refuse_from_now_on(handles.iter().copied(), now);
        let Committed { revocation, at } = self.write(handles, reason).await?;
        self.known_to_all(revocation.sequence, at).await;
        Ok(revocation)
    }

    /// Revokes all sessions of a user: all of them, or none and an error. `known` are those that the caller knows.
    pub async fn revoke_user(
        &self,
        user: &UserId,
        known: &[SessionHandle],
        reason: RevocationReason,
    ) -> Result<Revocation, StoreError> {
        let now = self.shared.clock.now();
        let _underway = self.shared.owed.begin(user);
        self.refuse_from_now_on(known.iter().copied(), now);
        let revocation = self.shared.store.revoke_user(user, reason, now).await;
        let revocation = revocation
            .inspect_err(|_| self.shared.owed.add([Pending::User(user.clone(), reason)]))?;
        self.acknowledge(&revocation).await;
        Ok(revocation)
    }

    /// Whether it was asked for here to end all sessions of the user, and that has not been written and answered yet.
    pub fn is_ending(&self, user: &UserId) -> bool {
        self.shared.owed.is_ending(user)
    }

    /// Revokes all sessions of a user and lets no login open another, in one step. Nothing is owed if it fails: half of it
    /// would be a surprise.
    pub async fn disable_user(
        &self,
        user: &UserId,
        reason: RevocationReason,
    ) -> Result<Revocation, StoreError> {
        let now = self.shared.clock.now();
        let revocation = self.shared.store.disable_user(user, reason, now).await?;
        self.acknowledge(&revocation).await;
        Ok(revocation)
    }

    /// Replaces the claims of a session and returns when no access token with older ones is accepted: durable, in this
    /// replica's set, and known to whom the settings say. `None` if the session is gone.
    pub async fn replace_claims(
        &self,
        handle: SessionHandle,
        claims: &str,
    ) -> Result<Option<ClaimsChange>, StoreError> {
        let shared = &*self.shared;
        let now = shared.clock.now();
        let Some(change) = shared.store.replace_claims(handle, claims, now).await? else {
            return Ok(None);
        };
        shared.set.require(handle, change.version, change.expires);
        self.acknowledge(&Revocation {
            sequence: change.sequence,
            ended: Vec::new(),
        })
        .await;
        Ok(Some(change))
    }

    /// Makes a revocation that is committed hold, and returns when it does: here at once, then known to whom the settings say.
    pub async fn acknowledge(&self, revocation: &Revocation) {
        let committed_at = self.shared.clock.boot();
        self.apply(revocation);
        self.known_to_all(revocation.sequence, committed_at).await;
    }

    /// Returns when everyone knows whom the settings say.
    async fn known_to_all(&self, sequence: Sequence, committed_at: BootTime) {
        if self.shared.settings.acknowledge == Acknowledge::Fleet {
            self.shared.barrier.wait(sequence, committed_at).await;
        }
    }

    /// Makes a change of the signing keys that is committed hold, as a revocation does; here it holds already.
    pub async fn acknowledge_keys(&self, sequence: Sequence) {
        if self.shared.settings.acknowledge == Acknowledge::Fleet {
            self.confirmed_by_all(sequence).await;
        }
    }

    /// Returns when every replica has confirmed `sequence`, which is committed, or can trust nothing from before it.
    pub async fn confirmed_by_all(&self, sequence: Sequence) {
        let committed_at = self.shared.clock.boot();
        self.shared.wake.notify_one();
        self.shared.barrier.wait(sequence, committed_at).await;
    }

    /// Makes a revocation that is committed hold here, and the feed look at once.
    pub fn apply(&self, revocation: &Revocation) {
        self.shared
            .committed
            .fetch_max(revocation.sequence.as_u64(), Ordering::AcqRel);
        for ended in &revocation.ended {
            self.shared.set.insert(ended.handle, ended.expires);
            self.shared.live.cut(&ended.handle);
        }
        self.shared.wake.notify_one();
    }

    /// Whether what this replica knows is too old to be trusted.
    pub fn has_lapsed(&self) -> bool {
        !protocol::is_trusted(self.shared.clock.boot(), self.deadline())
    }

    /// Time left on the lease; zero if it has run out.
    pub fn lease_remaining(&self) -> Duration {
        self.deadline().since(self.shared.clock.boot())
    }

    /// Time since this replica last proved that it is up to date; `None` if it never did.
    pub fn proof_age(&self) -> Option<Duration> {
        let deadline = self.deadline();
        (deadline > BootTime::ZERO)
            .then(|| (self.shared.clock.boot() + self.shared.settings.lease).since(deadline))
    }

    /// Which of the replicas this is.
    pub fn replica(&self) -> ReplicaId {
        self.shared.replica
    }

    pub fn set_len(&self) -> usize {
        self.shared.set.len()
    }

    pub fn live_streams(&self) -> usize {
        self.shared.live.len()
    }

    /// Streams that were cut since the start.
    pub fn streams_cut(&self) -> u64 {
        self.shared.live.cut_so_far()
    }

    fn deadline(&self) -> BootTime {
        BootTime::from_nanos(self.shared.deadline.load(Ordering::Acquire))
    }

    /// Into the own set, and stays there even if the store cannot be reached: a logout that was asked for is refused here
    /// from now on.
    fn refuse_from_now_on(&self, handles: impl Iterator<Item = SessionHandle>, now: Timestamp) {
        for handle in handles {
            self.shared
                .set
                .insert(handle, now + self.shared.settings.access_lifetime);
            self.shared.live.cut(&handle);
        }
    }
}

/// The store could not be asked about a session.
#[derive(Debug, thiserror::Error)]
pub enum StoreUnreadable {
    #[error("too many requests are waiting for the session store")]
    Busy,
    #[error("cannot read the session store")]
    Store(#[from] StoreError),
}

/// Reads of the store at one time by a replica that is past its deadline.
const MAX_STORE_READS: usize = 64;
