//! What is kept of verified tokens, and what is not: on a real issuer, with real tokens.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{BySignature, PLACES_RECENT, PLACES_SHARED, RECENT_SETS, RecentTokens, VerifiedTokens};
use crate::clock::{Clock, Timestamp};
use crate::identity::UserId;
use crate::issuer::{Issuer, IssuerSettings};
use crate::proxy::Caller;
use crate::secret::{base64url, random_bytes};
use crate::session::{
    AccessClaims, KeyRing, Lifetimes, MasterKey, SessionHandle, SigningAlgorithm,
};
use crate::store::SessionStore;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_hours(1);
const ISSUER: &str = "portcullis";

/// An issuer with a store of its own.
struct Place {
    issuer: Issuer,
    _directory: TempDir,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/x.db", directory.path().display());
        let store = SessionStore::open(&url).await.unwrap();
        let settings = IssuerSettings {
            issuer: ISSUER.to_owned(),
            lifetimes: Lifetimes {
                access: HOUR,
                idle: HOUR,
                absolute: HOUR,
                reuse_grace: Duration::ZERO,
            },
            algorithm: SigningAlgorithm::Hs256,
        };
        let master = MasterKey::generate();
        let issuer = Issuer::load(settings, &master, store, Clock::system())
            .await
            .unwrap();
        Self {
            issuer,
            _directory: directory,
        }
    }

    fn tokens(&self, count: usize) -> Vec<String> {
        let keys = self.issuer.keys().loaded();
        (0..count).map(|_| token(&keys.ring)).collect()
    }
}

fn token(ring: &KeyRing) -> String {
    let claims = AccessClaims {
        issuer: ISSUER,
        user: &UserId::parse("alice").unwrap(),
        handle: SessionHandle::random(),
        generation: 0,
        issued_at: NOW,
        expires_at: NOW + HOUR,
        claims_version: 0,
        session_claims: "{}",
    };
    claims.sign(ring).unwrap().expose().to_owned()
}

/// Asks as a worker does.
fn ask(
    recent: &RecentTokens,
    shared: &VerifiedTokens,
    token: &str,
    issuer: &Issuer,
) -> Option<Arc<Caller>> {
    let hash = shared.hasher.hash_one(token);
    if let Some(caller) = recent.get(hash, token) {
        return Some(caller);
    }
    let caller = shared.verify(hash, token, issuer)?;
    recent.put(hash, Arc::clone(&caller));
    Some(caller)
}

#[tokio::test]
async fn a_token_that_was_met_is_not_verified_again() {
    let place = Place::new().await;
    let (shared, one, other) = (
        VerifiedTokens::new(100),
        RecentTokens::new(),
        RecentTokens::new(),
    );
    let token = &place.tokens(1)[0];
    let first = ask(&one, &shared, token, &place.issuer).unwrap();
    assert_eq!(first.token.user.as_str(), "alice");
    for worker in [&one, &other] {
        let again = ask(worker, &shared, token, &place.issuer).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
    }
}

#[tokio::test]
async fn what_is_not_the_whole_token_is_no_hit() {
    let place = Place::new().await;
    let (shared, recent) = (VerifiedTokens::new(100), RecentTokens::new());
    let tokens = place.tokens(2);
    assert!(ask(&recent, &shared, &tokens[0], &place.issuer).is_some());
    let (message, signature) = tokens[0].rsplit_once('.').unwrap();
    let (other, _) = tokens[1].rsplit_once('.').unwrap();
    // The same signature, and so the same hash.
    for forged in [
        format!("{other}.{signature}"),
        format!("{message}x.{signature}"),
        format!(".{signature}"),
        signature.to_owned(),
    ] {
        assert_eq!(
            shared.hasher.hash_one(forged.as_str()),
            shared.hasher.hash_one(tokens[0].as_str())
        );
        assert!(
            ask(&recent, &shared, &forged, &place.issuer).is_none(),
            "{forged}"
        );
    }
}

#[tokio::test]
async fn what_all_share_is_bounded_and_what_was_driven_out_is_verified_again() {
    let place = Place::new().await;
    let shared = VerifiedTokens::new(PLACES_SHARED);
    let tokens = place.tokens(PLACES_SHARED + 1);
    let ask = |token: &str| shared.caller(token, &place.issuer).unwrap();
    let met: Vec<Arc<Caller>> = tokens[..PLACES_SHARED].iter().map(|one| ask(one)).collect();
    // Who comes again is not the next to go.
    assert!(Arc::ptr_eq(&met[0], &ask(&tokens[0])));
    ask(&tokens[PLACES_SHARED]);
    assert!(Arc::ptr_eq(&met[0], &ask(&tokens[0])));
    let again = ask(&tokens[1]);
    assert!(!Arc::ptr_eq(&met[1], &again), "nothing was driven out");
    assert_eq!(met[1].token.handle, again.token.handle);
    assert_eq!(Arc::strong_count(&met[1]), 1, "it is kept all the same");
}

#[tokio::test]
async fn a_forged_token_drives_nobody_out() {
    let place = Place::new().await;
    let shared = VerifiedTokens::new(PLACES_SHARED);
    let tokens = place.tokens(PLACES_SHARED);
    let met: Vec<Arc<Caller>> = tokens
        .iter()
        .map(|token| shared.caller(token, &place.issuer).unwrap())
        .collect();
    for token in &tokens {
        let (message, _) = token.rsplit_once('.').unwrap();
        let forged = format!("{message}.{}", base64url(&random_bytes::<32>()));
        assert!(shared.caller(&forged, &place.issuer).is_none());
    }
    for (token, met) in tokens.iter().zip(&met) {
        let again = shared.caller(token, &place.issuer).unwrap();
        assert!(Arc::ptr_eq(met, &again));
    }
}

#[tokio::test]
async fn what_a_worker_met_lately_is_bounded() {
    const SOME: usize = 500;
    const PLACES: usize = RECENT_SETS * PLACES_RECENT;
    let place = Place::new().await;
    let (shared, recent) = (VerifiedTokens::new(1), RecentTokens::new());
    let tokens = place.tokens(SOME);
    let first: Vec<Arc<Caller>> = tokens
        .iter()
        .map(|token| ask(&recent, &shared, token, &place.issuer).unwrap())
        .collect();
    let is_kept = |token: &String| {
        recent
            .get(shared.hasher.hash_one(token.as_str()), token)
            .is_some()
    };
    assert!(tokens.iter().filter(|token| is_kept(token)).count() > SOME * 9 / 10);
    // As many as there are places, of other tokens, into each set.
    for set in 0..RECENT_SETS as u64 {
        for _ in 0..PLACES_RECENT {
            recent.put(
                set << (u64::BITS - RECENT_SETS.ilog2()),
                Arc::clone(&first[0]),
            );
        }
    }
    assert!(
        !tokens.iter().any(is_kept),
        "one is more than there are places"
    );
    assert_eq!(Arc::strong_count(&first[0]) - 1, PLACES);
    drop(recent);
    assert!(
        first[..SOME - PLACES_SHARED]
            .iter()
            .all(|caller| Arc::strong_count(caller) == 1),
        "one is kept for ever"
    );
}

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
