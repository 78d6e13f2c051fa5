//! The revocation set: the handles that are revoked and whose access tokens could still be unexpired.
//!
//! A session whose claims have changed is in it too, with the least version of them that is still accepted; of a revoked one
//! none is. So one lookup answers both questions.
//!
//! Asked on every request, so it is sharded by the handle's own random bits: a lookup takes one uncontended read lock and
//! hashes nothing. Who asks again for the same token before the set has learnt anything is told so by one number
//! ([`Clearance`]), which saves the walk through memory that is in no cache. Nothing is evicted for size; an entry goes when no access token of its session can be accepted any more,
//! by the same wall clock that checks expiry. Should that clock be turned back, [`RevocationSet::not_before`] keeps expired
//! tokens expired.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::clock::Timestamp;
use crate::session::SessionHandle;

/// Revoked handles, each until no access token of it can be accepted.
#[derive(Debug)]
pub struct RevocationSet {
    shards: Vec<RwLock<Shard>>,
    forgotten_until: AtomicI64,
    /// Moves after each entry, when it can be found. No other set in the process has the same one.
    revision: AtomicU64,
}

/// That a set had nothing against a token, and when that was: kept beside the token, for the next question.
#[derive(Debug, Default)]
pub struct Clearance {
    revision: AtomicU64,
}

type Shard = HashMap<SessionHandle, Entry, BuildHasherDefault<HandleHasher>>;

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When the last access token that it refuses expires, in seconds since the epoch.
    expires: u32,
    /// The least version of the claims that is accepted.
    least_version: u32,
}

/// No version of the claims is: the session is revoked.
const NONE: u32 = u32::MAX;

/// What the set says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Nothing against it.
    Absent,
    /// The session's claims are newer than the token.
    Outdated,
    Revoked,
}

impl Default for RevocationSet {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            forgotten_until: AtomicI64::new(i64::MIN),
            revision: AtomicU64::new(SETS.fetch_add(1, Ordering::Relaxed) << REVISION_BITS | 1),
        }
    }
}

/// How many sets there have been: tests have several, and a clearance of one is none of another.
static SETS: AtomicU64 = AtomicU64::new(0);
const REVISION_BITS: u32 = 44;

impl RevocationSet {
    /// Whether the session is revoked.
    pub fn contains(&self, handle: &SessionHandle) -> bool {
        self.look_up(handle, NONE - 1) == Membership::Revoked
    }

    /// Looks up a token of the session with claims of this version.
    pub fn look_up(&self, handle: &SessionHandle, claims_version: u32) -> Membership {
        match self.read(handle).get(handle) {
            None => Membership::Absent,
            Some(entry) if entry.least_version == NONE => Membership::Revoked,
            Some(entry) if claims_version < entry.least_version => Membership::Outdated,
            Some(_) => Membership::Absent,
        }
    }

    /// [`Self::look_up`] for a token that it may have cleared before. What an entry says counts from when it was written, since
    /// the revision is read before the entries are, and moves after them: whoever knows of an entry finds another revision.
    pub fn look_up_again(
        &self,
        handle: &SessionHandle,
        claims_version: u32,
        cleared: &Clearance,
    ) -> Membership {
        let revision = self.revision.load(Ordering::Acquire);
        if cleared.revision.load(Ordering::Relaxed) == revision {
            return Membership::Absent;
        }
        let found = self.look_up(handle, claims_version);
        if found == Membership::Absent {
            cleared.revision.store(revision, Ordering::Relaxed);
        }
        found
    }

    /// Remembers that `handle` is revoked until `expires`; never shortens what it knows.
    pub fn insert(&self, handle: SessionHandle, expires: Timestamp) {
        self.require(handle, NONE, expires);
    }

    /// Remembers until `expires` that claims older than `version` are not accepted; never takes back what it knows.
    pub fn require(&self, handle: SessionHandle, version: u32, expires: Timestamp) {
        // Rounded up: rather a second too long.
        let expires = u32::try_from(expires.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
        let mut shard = self.shards[shard_of(&handle)]
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let known = shard.entry(handle).or_default();
        known.expires = known.expires.max(expires);
        known.least_version = known.least_version.max(version);
        drop(shard);
        self.revision.fetch_add(1, Ordering::Release);
    }

    /// Drops what has expired before `now`.
    pub fn forget(&self, now: Timestamp) {
        self.forgotten_until
            .fetch_max(now.as_millis(), Ordering::AcqRel);
        for shard in &self.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, entry| Timestamp::from_secs(i64::from(entry.expires)) > now);
            if shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
        }
    }

    /// The time to check an expiry against: `now`, or the last [`Self::forget`] if the clock was turned back since.
    pub fn not_before(&self, now: Timestamp) -> Timestamp {
        now.max(Timestamp::from_millis(
            self.forgotten_until.load(Ordering::Acquire),
        ))
    }

    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn read(&self, handle: &SessionHandle) -> std::sync::RwLockReadGuard<'_, Shard> {
        self.shards[shard_of(handle)]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const SHARDS: usize = 256;

fn shard_of(handle: &SessionHandle) -> usize {
    usize::from(handle.as_bytes()[0])
}

/// Handles are random and only the gateway makes them: their own bits are the best hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct HandleHasher(u64);

impl Hasher for HandleHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    /// The length of the array, which tells nothing.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Clearance, Membership, RevocationSet};
    use crate::clock::Timestamp;
    use crate::session::SessionHandle;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn an_entry_stays_until_its_tokens_have_expired() {
        let set = RevocationSet::default();
        let handle = SessionHandle::random();
        set.insert(handle, NOW + HOUR);
        set.insert(handle, NOW);
        set.forget(NOW + HOUR);
        assert!(
            set.contains(&handle),
            "the token is refused as expired from now on, and the entry is kept a second longer"
        );
        set.forget(NOW + HOUR + Duration::from_secs(2));
        assert!(!set.contains(&handle));
        assert!(set.is_empty());
    }

    #[test]
    fn older_claims_are_refused_and_newer_ones_are_not() {
        let set = RevocationSet::default();
        let handle = SessionHandle::random();
        let look_up = |version| set.look_up(&handle, version);
        assert_eq!(look_up(0), Membership::Absent);
        set.require(handle, 2, NOW + HOUR);
        set.require(handle, 1, NOW);
        assert_eq!([0, 1].map(look_up), [Membership::Outdated; 2]);
        assert_eq!([2, 3].map(look_up), [Membership::Absent; 2]);
        assert!(!set.contains(&handle));
        set.forget(NOW + HOUR);
        assert_eq!(look_up(1), Membership::Outdated);
        set.insert(handle, NOW);
        set.require(handle, 3, NOW + HOUR);
        assert_eq!([0, 3, u32::MAX].map(look_up), [Membership::Revoked; 3]);
        set.forget(NOW + HOUR * 2);
        assert_eq!(look_up(0), Membership::Absent);
    }

    #[test]
    fn a_cleared_token_is_looked_up_again_after_every_entry() {
        let (set, other) = (RevocationSet::default(), RevocationSet::default());
        let (handle, cleared) = (SessionHandle::random(), Clearance::default());
        let look_up = |set: &RevocationSet| set.look_up_again(&handle, 1, &cleared);
        assert_eq!([0, 1].map(|_| look_up(&set)), [Membership::Absent; 2]);
        set.insert(SessionHandle::random(), NOW + HOUR);
        assert_eq!(look_up(&set), Membership::Absent);
        set.require(handle, 2, NOW + HOUR);
        assert_eq!([0, 1].map(|_| look_up(&set)), [Membership::Outdated; 2]);
        // What one set clears is not cleared by another one.
        assert_eq!(look_up(&other), Membership::Absent);
        assert_eq!(look_up(&set), Membership::Outdated);
        assert_eq!(look_up(&other), Membership::Absent);
        other.insert(handle, NOW + HOUR);
        assert_eq!([0, 1].map(|_| look_up(&other)), [Membership::Revoked; 2]);
    }

    /// Who has seen an entry being made finds it, whatever was cleared on another thread meanwhile.
    #[test]
    fn a_clearance_never_hides_an_entry_that_was_made() {
        const ROUNDS: usize = 2_000;
        let set = RevocationSet::default();
        for _ in 0..ROUNDS {
            let (handle, cleared) = (SessionHandle::random(), Clearance::default());
            let is_made = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    set.insert(SessionHandle::random(), NOW + HOUR);
                    set.insert(handle, NOW + HOUR);
                    is_made.store(true, std::sync::atomic::Ordering::Release);
                });
                loop {
                    let was_made = is_made.load(std::sync::atomic::Ordering::Acquire);
                    let found = set.look_up_again(&handle, 0, &cleared);
                    if was_made {
                        assert_eq!(found, Membership::Revoked);
                        break;
                    }
                }
            });
        }
    }

    #[test]
    fn size_evicts_nothing() {
        let set = RevocationSet::default();
        let handles: Vec<SessionHandle> = (0..1_000_000).map(|_| SessionHandle::random()).collect();
        for handle in &handles {
            set.insert(*handle, NOW + HOUR);
        }
        set.forget(NOW);
        assert_eq!(set.len(), handles.len());
        assert!(handles.iter().all(|handle| set.contains(handle)));
        assert!(!set.contains(&SessionHandle::random()));
        set.forget(NOW + HOUR + Duration::from_secs(2));
        assert!(set.is_empty(), "time evicts everything");
    }

    #[test]
    fn a_clock_turned_back_brings_no_token_back() {
        let set = RevocationSet::default();
        assert_eq!(set.not_before(NOW), NOW);
        set.forget(NOW + HOUR);
        assert_eq!(set.not_before(NOW), NOW + HOUR);
        assert_eq!(set.not_before(NOW + HOUR * 2), NOW + HOUR * 2);
    }
}
