//! What must hold whatever runs at the same time, in this process or in another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::session::{MasterKey, Session, SessionHandle, SigningAlgorithm, SigningKey};
use portcullis::store::{
    Liveness, OpenOutcome, RevocationReason, Sequence, SessionStore, TokenUse,
};
use tokio::task::JoinSet;

use crate::support::{
    ACCESS, NOW, log_after, open, patiently, rotation_of, session, shown, signing_key, user,
};

pub async fn a_revoked_session_stays_revoked(one: &SessionStore, other: &SessionStore) {
    let mut sessions = Vec::new();
    for _ in 0..40 {
        sessions.push(open(one, "alice").await);
    }
    let mut tasks = JoinSet::new();
    for session in &sessions {
        for (store, writer) in [(one, 0), (other, 1), (one, 2), (other, 3), (other, 4)] {
            let (store, session) = (store.clone(), session.clone());
            tasks.spawn(async move { write(&store, &session, writer).await });
        }
        let (store, handle, handles) = (other.clone(), session.handle, [session.handle]);
        tasks.spawn(async move {
            patiently(|| store.revoke(&handles, RevocationReason::Logout, NOW)).await;
            for _ in 0..20 {
                let found = patiently(|| store.session(handle)).await;
                assert!(found.is_none(), "{handle} is back");
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    for session in &sessions {
        assert!(one.session(session.handle).await.unwrap().is_none());
    }
    let logged: Vec<SessionHandle> = log_after(one, 0)
        .await
        .iter()
        .filter_map(|entry| entry.handle)
        .collect();
    assert_eq!(logged.len(), sessions.len(), "each once");
}

/// All that a replica writes to a session, round after round.
async fn write(store: &SessionStore, session: &Session, writer: u32) {
    let handle = session.handle;
    for _ in 0..3 {
        match writer {
            0 | 1 => {
                let Some(found) = patiently(|| store.session(handle)).await else {
                    return;
                };
                let rotation = rotation_of(&found, NOW);
                patiently(|| store.rotate(&rotation)).await;
            }
            2 => {
                let at_once = [TokenUse {
                    handle,
                    generation: 0,
                    at: NOW,
                }];
                patiently(|| store.note_use(&at_once)).await;
            }
            3 => {
                patiently(|| store.extend(handle, 0, NOW + ACCESS * 2, NOW)).await;
            }
            _ => {
                patiently(|| store.replace_data(handle, "[]")).await;
                let new = crate::support::session("alice");
                patiently(|| store.open_session(&new, Sequence::ZERO, Some(handle))).await;
            }
        }
    }
}

pub async fn sequences_are_in_commit_order(one: &SessionStore, other: &SessionStore) {
    const REVOKERS: usize = 8;
    const EACH: usize = 25;
    let done = Arc::new(AtomicBool::new(false));
    let mut pollers = JoinSet::new();
    for store in [one, other] {
        let (store, done) = (store.clone(), Arc::clone(&done));
        pollers.spawn(async move { follow(&store, &done).await });
    }
    let mut revokers = JoinSet::new();
    for number in 0..REVOKERS {
        let store = if number % 2 == 0 { one } else { other }.clone();
        revokers.spawn(async move {
            let mut own = BTreeMap::new();
            for round in 0..EACH {
                let name = format!("user {number} {round}");
                let owner = user(&name);
                let handles = [
                    open(&store, &name).await.handle,
                    open(&store, &name).await.handle,
                ];
                let revocation = match round % 3 {
                    0 => {
                        patiently(|| store.revoke_user(&owner, RevocationReason::Admin, NOW)).await
                    }
                    _ => patiently(|| store.revoke(&handles, RevocationReason::Logout, NOW)).await,
                };
                assert_eq!(revocation.ended.len(), 2);
                // What was answered is in every read that follows.
                let sequence = revocation.sequence;
                let applied = sequence.as_u64() - 1;
                let read = patiently(|| store.read_log(Sequence::new(applied))).await;
                assert_eq!(read.entries[0].sequence, sequence);
                own.insert(sequence, BTreeSet::from(handles));
            }
            own
        });
    }
    let mut answered = BTreeMap::new();
    while let Some(own) = revokers.join_next().await {
        answered.extend(own.unwrap());
    }
    done.store(true, Ordering::SeqCst);
    let numbers: Vec<u64> = answered.keys().map(|sequence| sequence.as_u64()).collect();
    let expected: Vec<u64> = (1..).take(REVOKERS * EACH).collect();
    assert_eq!(numbers, expected, "each number once, without gaps");
    while let Some(seen) = pollers.join_next().await {
        assert_eq!(seen.unwrap(), answered, "a poller missed something");
    }
}

/// As the feed does: never looks back.
async fn follow(
    store: &SessionStore,
    done: &AtomicBool,
) -> BTreeMap<Sequence, BTreeSet<SessionHandle>> {
    let mut seen: BTreeMap<Sequence, BTreeSet<SessionHandle>> = BTreeMap::new();
    let (mut applied, mut mark) = (Sequence::ZERO, None);
    loop {
        let last = done.load(Ordering::SeqCst);
        let read = patiently(|| store.read_log(applied)).await;
        assert!(read.mark.is_some());
        assert!(mark.is_none() || mark == read.mark, "history changed");
        for entry in &read.entries {
            assert!(entry.sequence > applied);
            seen.entry(entry.sequence)
                .or_default()
                .insert(entry.handle.unwrap());
        }
        if let Some(entry) = read.entries.last() {
            (applied, mark) = (entry.sequence, Some(entry.mark));
        }
        if last {
            return seen;
        }
        tokio::task::yield_now().await;
    }
}

pub async fn one_of_many_rotations_wins(one: &SessionStore, other: &SessionStore) {
    for _ in 0..10 {
        let session = open(one, "alice").await;
        let mut tasks = JoinSet::new();
        for number in 0..16 {
            let store = if number % 2 == 0 { one } else { other }.clone();
            let rotation = rotation_of(&session, NOW + Duration::from_secs(number));
            tasks.spawn(async move {
                let won = patiently(|| store.rotate(&rotation)).await;
                (won, rotation)
            });
        }
        let mut winners = tasks.join_all().await;
        winners.retain(|(won, _)| *won);
        assert_eq!(winners.len(), 1);
        let found = one.session(session.handle).await.unwrap().unwrap();
        assert_eq!(found.lineage, winners[0].1.to);
        assert!(found.refresh_hash == winners[0].1.refresh_hash);
    }
}

pub async fn no_login_survives_the_revocation_of_its_user(
    one: &SessionStore,
    other: &SessionStore,
) {
    for round in 0..8 {
        let name = format!("user {round}");
        let owner = user(&name);
        let known = one.head().await.unwrap();
        let mut logins = JoinSet::new();
        for number in 0..30 {
            let store = if number % 2 == 0 { one } else { other }.clone();
            let session = session(&name);
            logins.spawn(
                async move { patiently(|| store.open_session(&session, known, None)).await },
            );
        }
        let revocation =
            patiently(|| other.revoke_user(&owner, RevocationReason::LogoutUser, NOW)).await;
        let outcomes = logins.join_all().await;
        let overtaken = outcomes
            .iter()
            .filter(|outcome| **outcome == OpenOutcome::Overtaken)
            .count();
        assert_eq!(overtaken + revocation.ended.len(), outcomes.len());
        let left = one.sessions_of_user(&owner, None, 100).await.unwrap();
        assert!(left.is_empty(), "{} logins survived", left.len());
    }
}

pub async fn a_user_is_revoked_all_or_nothing(one: &SessionStore, other: &SessionStore) {
    const SESSIONS: usize = 50;
    let alice = user("alice");
    for _ in 0..SESSIONS {
        open(one, "alice").await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let (store, end, name) = (other.clone(), Arc::clone(&done), alice.clone());
    let reader = tokio::spawn(async move {
        while !end.load(Ordering::SeqCst) {
            let head = patiently(|| store.head()).await;
            let list = patiently(|| store.sessions_of_user(&name, None, 100)).await;
            let log = patiently(|| store.read_log(Sequence::ZERO)).await;
            assert!([0, SESSIONS].contains(&list.len()), "{}", list.len());
            assert!([0, SESSIONS].contains(&log.entries.len()));
            assert!(head == Sequence::ZERO || list.is_empty());
            assert!(!list.is_empty() || log.entries.len() == SESSIONS);
        }
    });
    tokio::task::yield_now().await;
    let revocation = patiently(|| one.revoke_user(&alice, RevocationReason::LogoutUser, NOW)).await;
    assert_eq!(revocation.ended.len(), SESSIONS);
    done.store(true, Ordering::SeqCst);
    reader.await.unwrap();
}

pub async fn of_many_revocations_one_ends_the_session(one: &SessionStore, other: &SessionStore) {
    let handles = [open(one, "alice").await.handle];
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let store = if number % 2 == 0 { one } else { other }.clone();
        tasks.spawn(async move {
            patiently(|| store.revoke(&handles, RevocationReason::Logout, NOW)).await
        });
    }
    let revocations = tasks.join_all().await;
    let ended: usize = revocations.iter().map(|each| each.ended.len()).sum();
    assert_eq!(ended, 1);
    for revocation in revocations {
        assert_eq!(revocation.sequence, Sequence::new(1), "all know from where");
    }
}

pub async fn the_other_sees_what_was_answered(one: &SessionStore, other: &SessionStore) {
    let key = signing_key(one, &MasterKey::generate()).await;
    for (writer, reader) in [(one, other), (other, one)] {
        let session = open(writer, "alice").await;
        assert!(reader.session(session.handle).await.unwrap().is_some());
        assert!(writer.rotate(&rotation_of(&session, NOW)).await.unwrap());
        let found = reader.session(session.handle).await.unwrap().unwrap();
        assert_eq!(found.lineage.generation, 1);
        let revocation = writer
            .revoke(&[session.handle], RevocationReason::Logout, NOW)
            .await
            .unwrap();
        assert_eq!(reader.head().await.unwrap(), revocation.sequence);
        let liveness = reader
            .liveness(session.handle, shown(&key), NOW)
            .await
            .unwrap();
        assert_eq!(liveness, Liveness::Over);
        let again = reader
            .revoke(&[session.handle], RevocationReason::Logout, NOW)
            .await
            .unwrap();
        assert_eq!(again.sequence, revocation.sequence);
    }
}

pub async fn one_of_many_initialisations_wins(one: &SessionStore, other: &SessionStore) {
    let master = MasterKey::generate();
    let mut tasks = JoinSet::new();
    for number in 0..16 {
        let store = if number % 2 == 0 { one } else { other }.clone();
        let key = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
        let (sealed, fingerprint) = (key.seal(&master, NOW), master.fingerprint());
        tasks.spawn(async move {
            patiently(|| store.initialise_keys(fingerprint, &sealed)).await;
            let keys = store.signing_keys().await.unwrap();
            keys.into_iter()
                .map(|stored| stored.key.id)
                .collect::<Vec<_>>()
        });
    }
    let found = tasks.join_all().await;
    assert_eq!(found[0].len(), 1);
    assert!(found.iter().all(|keys| *keys == found[0]));
}

/// Every replica rotates when the key is of age.
pub async fn one_of_many_successors_wins(one: &SessionStore, other: &SessionStore) {
    let master = MasterKey::generate();
    let old = signing_key(one, &master).await;
    let mut publishing = JoinSet::new();
    for number in 0..16 {
        let store = if number % 2 == 0 { one } else { other }.clone();
        let key = SigningKey::generate(SigningAlgorithm::Hs256).unwrap();
        let (sealed, old) = (key.seal(&master, NOW), old.clone());
        publishing.spawn(async move {
            let published = patiently(|| store.publish_key(&sealed, &old, NOW)).await;
            published.map(|_| sealed.id)
        });
    }
    let published: Vec<_> = publishing.join_all().await.into_iter().flatten().collect();
    assert_eq!(published.len(), 1);
    let mut promoting = JoinSet::new();
    for number in 0..16 {
        let store = if number % 2 == 0 { one } else { other }.clone();
        let next = published[0].clone();
        promoting.spawn(async move {
            let promoted = patiently(|| store.promote_key(&next, NOW, NOW)).await;
            promoted.is_some()
        });
    }
    let promoted = promoting.join_all().await;
    assert_eq!(promoted.into_iter().filter(|promoted| *promoted).count(), 1);
    assert_eq!(one.head().await.unwrap().as_u64(), 2);
    assert_eq!(one.signing_keys().await.unwrap().len(), 2);
}
