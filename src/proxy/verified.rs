//! Tokens that were verified before: a hit saves the signature, and nothing else.
//!
//! All workers share what was verified; each keeps what it met lately in front of that, in a table of its own that a lookup neither
//! locks nor writes. Both are bounded, and both may forget: that costs a signature.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::Proxy;
use super::authenticate::Caller;
use crate::issuer::Issuer;
use crate::revocation::Clearance;

/// The callers of tokens that were verified, by the whole text of the token; cheap to clone.
///
/// Whose signature holds alone gets in, so no stranger drives anybody out.
#[derive(Clone)]
pub struct VerifiedTokens {
    sets: Arc<[Shared]>,
    hasher: BySignature,
}

/// A token's text, which is not to be seen in `Debug`.
pub(super) struct Redacted(Box<str>);

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("redacted")
    }
}

impl VerifiedTokens {
    /// One that keeps about so many.
    pub fn new(entries: usize) -> Self {
        let sets = entries.div_ceil(PLACES_SHARED).max(1);
        Self {
            sets: (0..sets).map(|_| Shared::default()).collect(),
            hasher: BySignature::default(),
        }
    }

    /// Whose token it is, for who keeps none in front of these.
    pub fn caller(&self, token: &str, issuer: &Issuer) -> Option<Arc<Caller>> {
        self.verify(self.hasher.hash_one(token), token, issuer)
    }

    fn verify(&self, hash: u64, token: &str, issuer: &Issuer) -> Option<Arc<Caller>> {
        let set = &self.sets[place_in(hash, self.sets.len())].0;
        let lock = || set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(caller) = lock().meet(hash, token) {
            return Some(caller);
        }
        let verified = issuer.verify_access(token).ok()?;
        let caller = Arc::new(Caller {
            text: Redacted(token.into()),
            header: verified.user.to_header_value(),
            assertion: ArcSwapOption::empty(),
            token: verified,
            cleared: Clearance::default(),
            shown: AtomicBool::new(false),
        });
        // What had to make room is dropped when the lock is gone.
        let _forgotten = lock().put(hash, Arc::clone(&caller));
        Some(caller)
    }
}

impl Proxy {
    /// Whose token it is, if its signature holds: of time, revocation and key nothing is said.
    pub(super) fn verified(&self, token: &str) -> Option<Arc<Caller>> {
        let hash = self.tokens.hasher.hash_one(token);
        if let Some(caller) = self.recent.get(hash, token) {
            return Some(caller);
        }
        let caller = self.tokens.verify(hash, token, &self.issuer)?;
        self.recent.put(hash, Arc::clone(&caller));
        Some(caller)
    }
}

/// What one worker met lately.
pub(super) struct RecentTokens(RefCell<Box<[Recent]>>);

/// A thousand sessions at a time are met without one driving out another, but for a few in a thousand.
const RECENT_SETS: usize = 1024;
const PLACES_RECENT: usize = 4;

/// One cache line.
#[derive(Default)]
#[repr(align(64))]
struct Recent(Set<PLACES_RECENT>);

/// Two of them, with the lock. Which one is held is as random as a signature, and it is held for the look at a few tokens.
#[derive(Default)]
#[repr(align(64))]
struct Shared(Mutex<Set<PLACES_SHARED>>);

const PLACES_SHARED: usize = 7;

impl RecentTokens {
    pub fn new() -> Self {
        Self(RefCell::new(
            (0..RECENT_SETS).map(|_| Recent::default()).collect(),
        ))
    }

    fn get(&self, hash: u64, token: &str) -> Option<Arc<Caller>> {
        let sets = self.0.borrow();
        let set = &sets[place_in(hash, RECENT_SETS)].0;
        let at = set.position(hash, token)?;
        set.caller(at)
    }

    fn put(&self, hash: u64, caller: Arc<Caller>) {
        let mut sets = self.0.borrow_mut();
        sets[place_in(hash, RECENT_SETS)].0.put(hash, caller);
    }
}

/// A few places, of which a token's hash has named the set, the newest first.
struct Set<const PLACES: usize>([Option<Place>; PLACES]);

struct Place {
    hash: u64,
    caller: Arc<Caller>,
}

impl<const PLACES: usize> Default for Set<PLACES> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| None))
    }
}

impl<const PLACES: usize> Set<PLACES> {
    fn position(&self, hash: u64, token: &str) -> Option<usize> {
        self.0.iter().position(|place| {
            place
                .as_ref()
                .is_some_and(|place| place.hash == hash && *place.caller.text.0 == *token)
        })
    }

    fn caller(&self, at: usize) -> Option<Arc<Caller>> {
        let place = self.0.get(at)?.as_ref()?;
        Some(Arc::clone(&place.caller))
    }

    /// The same, and it comes to the front.
    fn meet(&mut self, hash: u64, token: &str) -> Option<Arc<Caller>> {
        let at = self.position(hash, token)?;
        self.0[..=at].rotate_right(1);
        self.caller(0)
    }

    /// In front of all others; gives back the one that has to go.
    fn put(&mut self, hash: u64, caller: Arc<Caller>) -> Option<Arc<Caller>> {
        self.0.rotate_right(1);
        let gone = self.0[0].replace(Place { hash, caller })?;
        Some(gone.caller)
    }
}

/// Where a token is among so many sets.
fn place_in(hash: u64, sets: usize) -> usize {
    ((u128::from(hash) * sets as u128) >> 64) as usize
}

/// Hashes a token by its last characters, which are of its signature: as random as a hash of all of it, and a fraction of the
/// work. What is kept was signed by the gateway, so nobody chooses what collides; what is looked up is compared as a whole.
#[derive(Clone)]
struct BySignature {
    keys: [u64; 2],
}

impl Default for BySignature {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            keys: [random.hash_one(0), random.hash_one(1)],
        }
    }
}

impl BuildHasher for BySignature {
    type Hasher = SignatureHasher;

    fn build_hasher(&self) -> SignatureHasher {
        SignatureHasher {
            keys: self.keys,
            state: 0,
        }
    }
}

struct SignatureHasher {
    keys: [u64; 2],
    state: u64,
}

impl Hasher for SignatureHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut tail = [0; 16];
        let length = bytes.len().min(tail.len());
        tail[..length].copy_from_slice(&bytes[bytes.len() - length..]);
        let tail = u128::from_le_bytes(tail);
        let [low, high] = [tail as u64, (tail >> 64) as u64];
        let product = u128::from(low ^ self.keys[0]) * u128::from(high ^ self.keys[1]);
        self.state ^= (product as u64) ^ ((product >> 64) as u64);
    }

    /// Of a string, what says where it ends: each key is one string.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests;
