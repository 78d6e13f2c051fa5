//! Tokens that were verified before: a hit saves the signature, and nothing else.
//!
//! All workers share what was verified; each keeps what it met lately in front of that, in a table of its own that a lookup neither
//! locks nor writes. Both are bounded, and both may forget: that costs a signature.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use moka::sync::Cache;

use super::Proxy;
use super::authenticate::Caller;
use crate::issuer::Issuer;

/// The callers of tokens that were verified, by the whole text of the token.
#[derive(Clone, Debug)]
pub struct VerifiedTokens {
    cache: Cache<Arc<str>, Arc<Known>, BySignature>,
    hasher: BySignature,
}

/// A token that was verified, and whose it is.
#[derive(Debug)]
struct Known {
    text: Redacted,
    caller: Arc<Caller>,
}

/// A token's text, which is not to be seen in `Debug`.
struct Redacted(Arc<str>);

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("redacted")
    }
}

impl VerifiedTokens {
    pub fn new(max_entries: u64) -> Self {
        let hasher = BySignature::default();
        Self {
            cache: Cache::builder()
                .max_capacity(max_entries)
                .build_with_hasher(hasher.clone()),
            hasher,
        }
    }

    /// Whose token it is, for who keeps none in front of these.
    pub fn caller(&self, token: &str, issuer: &Issuer) -> Option<Arc<Caller>> {
        let known = self.verify(token, issuer)?;
        Some(Arc::clone(&known.caller))
    }

    fn verify(&self, token: &str, issuer: &Issuer) -> Option<Arc<Known>> {
        if let Some(known) = self.cache.get(token) {
            return Some(known);
        }
        let verified = issuer.verify_access(token).ok()?;
        let text: Arc<str> = token.into();
        let known = Arc::new(Known {
            text: Redacted(Arc::clone(&text)),
            caller: Arc::new(Caller {
                header: verified.user.to_header_value(),
                assertion: ArcSwapOption::empty(),
                token: verified,
                shown: AtomicBool::new(false),
            }),
        });
        self.cache.insert(text, Arc::clone(&known));
        Some(known)
    }
}

impl Proxy {
    /// Whose token it is, if its signature holds: of time, revocation and key nothing is said.
    pub(super) fn verified(&self, token: &str) -> Option<Arc<Caller>> {
        let hash = self.tokens.hasher.hash_one(token);
        if let Some(caller) = self.recent.get(hash, token) {
            return Some(caller);
        }
        let known = self.tokens.verify(token, &self.issuer)?;
        let caller = Arc::clone(&known.caller);
        self.recent.put(hash, known);
        Some(caller)
    }
}

/// What one worker met lately: sets of a few places, of which a token's hash names one. The newest drives out the oldest of its
/// set.
pub(super) struct RecentTokens(RefCell<Box<[Set]>>);

type Set = [Option<Place>; PLACES];

struct Place {
    hash: u64,
    known: Arc<Known>,
}

/// A thousand sessions at a time are met without one driving out another, but for a few in a thousand.
const SETS: usize = 1024;
const PLACES: usize = 4;

impl RecentTokens {
    pub fn new() -> Self {
        Self(RefCell::new(
            (0..SETS).map(|_| std::array::from_fn(|_| None)).collect(),
        ))
    }

    fn get(&self, hash: u64, token: &str) -> Option<Arc<Caller>> {
        let sets = self.0.borrow();
        let place = sets[set_of(hash)]
            .iter()
            .flatten()
            .find(|place| place.hash == hash && *place.known.text.0 == *token)?;
        Some(Arc::clone(&place.known.caller))
    }

    fn put(&self, hash: u64, known: Arc<Known>) {
        let mut sets = self.0.borrow_mut();
        let set = &mut sets[set_of(hash)];
        set.rotate_right(1);
        set[0] = Some(Place { hash, known });
    }
}

/// By bits of which there are as many as sets.
fn set_of(hash: u64) -> usize {
    (hash >> 32) as usize % SETS
}

/// Hashes a token by its last characters, which are of its signature: as random as a hash of all of it, and a fraction of the
/// work. What is kept was signed by the gateway, so nobody chooses what collides; what is looked up is compared as a whole.
#[derive(Clone, Debug)]
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
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::BySignature;
    use crate::secret::{base64url, random_bytes};

    #[test]
    fn tokens_spread_by_their_signatures() {
        let hasher = BySignature::default();
        let tokens = (0..10_000).map(|_| format!("same.same.{}", base64url(&random_bytes::<64>())));
        let hashes: Vec<u64> = tokens
            .map(|token| hasher.hash_one(token.as_str()))
            .collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        for bit in 0..64 {
            let set = hashes.iter().filter(|hash| **hash >> bit & 1 == 1).count();
            assert!((4500..5500).contains(&set), "bit {bit} is set in {set}");
        }
    }

    #[test]
    fn short_texts_hash_too() {
        let hasher = BySignature::default();
        for text in ["", "a", "abc.def"] {
            assert_eq!(hasher.hash_one(text), hasher.hash_one(text));
        }
    }
}
