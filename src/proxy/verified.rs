//! Tokens that were verified before: a hit saves the signature, and nothing else.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use moka::sync::Cache;

use super::authenticate::Caller;
use crate::issuer::Issuer;

/// The callers of tokens that were verified, by the whole text of the token.
#[derive(Clone, Debug)]
pub struct VerifiedTokens {
    cache: Cache<Box<str>, Arc<Caller>, BySignature>,
}

impl VerifiedTokens {
    pub fn new(max_entries: u64) -> Self {
        Self {
            cache: Cache::builder()
                .max_capacity(max_entries)
                .build_with_hasher(BySignature::default()),
        }
    }

    pub(super) fn verify(&self, token: &str, issuer: &Issuer) -> Option<Arc<Caller>> {
        if let Some(caller) = self.cache.get(token) {
            return Some(caller);
        }
        let verified = issuer.verify_access(token).ok()?;
        let caller = Arc::new(Caller {
            header: verified.user.to_header_value(),
            assertion: ArcSwapOption::empty(),
            token: verified,
            shown: AtomicBool::new(false),
        });
        self.cache.insert(token.into(), Arc::clone(&caller));
        Some(caller)
    }
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
