//! T054: how long a comparison of secrets takes tells nothing of where two of them differ.
//!
//! Two kinds of wrong secrets are compared by turns, in an order that is drawn: some differ in their first byte, some in their
//! last. What each comparison took is ranked, outliers and all, and the ranks of the two kinds are compared (the test of Mann
//! and Whitney), which a busy machine cannot mislead as it can means. A comparison that stops at the first difference is found
//! by the same measurement, or it would not be one.

use std::hint::black_box;
use std::sync::atomic::{Ordering, compiler_fence};

use portcullis::clock::Clock;
use portcullis::secret::{Secret, constant_time_eq, random_bytes};
use portcullis::session::{AntiCsrfKey, MasterKey, RefreshHash, RefreshKeys, SessionHandle};

use crate::runner::{Case, Tried};

pub const CASES: &[Case] = &[Case {
    name: "t054_comparisons_take_the_same_time",
    title: "10^5 wrong anti-CSRF tokens, refresh hashes and refresh tokens that share 0 or all but one byte",
    own: "signature tags of refresh tokens, the admin token's comparison; a comparison that stops early is found by the same means",
    run: t054_comparisons_take_the_same_time,
}];

fn t054_comparisons_take_the_same_time(tried: &mut Tried) {
    let master = MasterKey::generate();
    let handle = SessionHandle::random();
    let anti_csrf = AntiCsrfKey::from_master(&master);
    let token = anti_csrf.token(handle).expose().as_bytes().to_vec();
    tried.variant("anti-CSRF token", || {
        is_not_separable(&wrong(&token, b'A', b'B'), |presented| {
            anti_csrf.matches(handle, presented)
        });
    });
    let refresh = RefreshKeys::from_master(&master);
    let first = refresh.first(handle, &Secret::random());
    let right = refresh.hash(&first);
    tried.variant("refresh hash", || {
        is_not_separable(&wrong(right.as_bytes(), 0, 1), |presented| {
            RefreshHash::from_bytes(presented.try_into().unwrap()) == right
        });
    });
    tried.variant("tag of a refresh token", || {
        let text = refresh.text(&first).expose().to_owned();
        let altered = |at: usize| {
            let other = if text.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            format!("{}{other}{}", &text[..at], &text[at + 1..]).into_bytes()
        };
        let texts = [altered(text.len() - 21), altered(text.len() - 2)];
        is_not_separable(&texts, |presented| {
            refresh
                .parse(std::str::from_utf8(presented).unwrap())
                .is_ok()
        });
    });
    tried.variant("any two secrets", || {
        let secret: [u8; 32] = random_bytes();
        is_not_separable(&wrong(&secret, 0, 1), |presented| {
            constant_time_eq(&secret, presented)
        });
    });
    tried.variant("a comparison that stops early is found", || {
        let secret: [u8; 32] = random_bytes();
        let z = separation(&wrong(&secret, 0, 1), |presented| {
            stops_early(&secret, presented)
        });
        assert!(z.abs() > LIMIT, "z = {z:.2}");
    });
}

/// The secret with its first byte altered, and with its last.
fn wrong(secret: &[u8], one: u8, other: u8) -> [Vec<u8>; 2] {
    let altered = |at: usize| {
        let mut bytes = secret.to_vec();
        bytes[at] = if bytes[at] == one { other } else { one };
        bytes
    };
    [altered(0), altered(secret.len() - 1)]
}

fn stops_early(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| black_box(a) == black_box(b))
}

/// A machine that is busy with something else may spoil one measurement; what can be told apart can be told apart each time.
fn is_not_separable(kinds: &[Vec<u8>; 2], compare: impl Fn(&[u8]) -> bool) {
    let measured: Vec<f64> = (0..ATTEMPTS).map(|_| separation(kinds, &compare)).collect();
    let separable = measured.iter().all(|z| z.abs() > LIMIT);
    assert!(!separable, "z = {measured:.2?}");
}

/// How far the ranks of the two kinds are apart, in standard deviations.
fn separation(kinds: &[Vec<u8>; 2], compare: impl Fn(&[u8]) -> bool) -> f64 {
    let clock = Clock::system();
    let order: Vec<usize> = (0..SAMPLES / 32)
        .flat_map(|_| {
            let bits = u64::from_be_bytes(random_bytes());
            (0..64).map(move |bit| usize::from(bits >> bit & 1 == 1))
        })
        .collect();
    let mut place = kinds[0].clone();
    let mut took: Vec<(u128, usize)> = order
        .into_iter()
        .map(|kind| {
            // Both kinds at one place: where a text lies in memory can be told apart, too.
            place.copy_from_slice(&kinds[kind]);
            let presented = black_box(&place[..]);
            compiler_fence(Ordering::SeqCst);
            let started = clock.boot();
            // Long enough for the clock to see it.
            for _ in 0..REPEATS {
                assert!(!black_box(compare(presented)));
            }
            let ended = clock.boot();
            compiler_fence(Ordering::SeqCst);
            (ended.since(started).as_nanos(), kind)
        })
        .collect();
    took.sort_unstable_by_key(|(nanoseconds, _)| *nanoseconds);
    rank_sum_z(&took)
}

/// Mann and Whitney's statistic of sorted samples, ties at their middle rank, as a deviation from what chance gives.
fn rank_sum_z(sorted: &[(u128, usize)]) -> f64 {
    let total = sorted.len() as f64;
    let (mut ranks, mut ties, mut at) = (0.0, 0.0, 0);
    while at < sorted.len() {
        let same = sorted[at..]
            .iter()
            .take_while(|sample| sample.0 == sorted[at].0)
            .count();
        let of_first = sorted[at..at + same]
            .iter()
            .filter(|sample| sample.1 == 0)
            .count();
        ranks += of_first as f64 * (at as f64 + (same as f64 + 1.0) / 2.0);
        ties += (same as f64).powi(3) - same as f64;
        at += same;
    }
    let first = sorted.iter().filter(|sample| sample.1 == 0).count() as f64;
    let second = total - first;
    let expected = first * (total + 1.0) / 2.0;
    let variance = first * second / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    (ranks - expected) / variance.sqrt()
}

/// Of both kinds together twice this many: 10^5 of each.
const SAMPLES: usize = 100_000;

/// Comparisons in a sample.
const REPEATS: usize = 4;

/// p = 0.01, both sides.
const LIMIT: f64 = 2.576;

const ATTEMPTS: usize = 3;
