//! Who waits for whom, and what is left of a transaction that could not wait any longer.

use std::time::Duration;

use portcullis::store::{OpenOutcome, Outage, ReplicaId, RevocationReason, Sequence, StoreError};
use sqlx::Connection;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Database, number, run};
use crate::support::{NOW, log_after, open, patiently, replica_row, rotation_of, session, user};

const HOLD_HEAD: &str =
    "START TRANSACTION; SELECT sequence FROM revocation_head WHERE id = 1 FOR UPDATE";

/// InnoDB then rolls back the statement that waited, and nothing else: a COMMIT would delete the sessions and log nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wait_for_the_head_that_was_too_long_ends_no_session() {
    let database = Database::new().await;
    let store = database.open().await;
    let sessions = [
        open(&store, "alice").await.handle,
        open(&store, "bob").await.handle,
    ];
    let mut other = database.connect().await;
    run(&mut other, HOLD_HEAD).await;
    let started = Instant::now();
    for _ in 0..2 {
        let refused = store
            .revoke(&sessions, RevocationReason::Logout, NOW)
            .await
            .unwrap_err();
        assert!(
            matches!(refused, StoreError::Unavailable(Outage::RowHeld(_))),
            "{refused:?}"
        );
        assert!(refused.is_about_rows(), "may be tried one by one");
        let refused = store
            .revoke_user(&user("alice"), RevocationReason::Admin, NOW)
            .await;
        assert!(matches!(
            refused,
            Err(StoreError::Unavailable(Outage::RowHeld(_)))
        ));
        let refused = store.replace_claims(sessions[0], "{}", NOW).await;
        assert!(matches!(
            refused,
            Err(StoreError::Unavailable(Outage::RowHeld(_)))
        ));
    }
    assert!(
        started.elapsed() >= Duration::from_secs(11),
        "waited each time"
    );
    for session in sessions {
        let found = store.session(session).await.unwrap().unwrap();
        assert_eq!(found.claims_version, 0);
    }
    assert_eq!(
        number(
            &mut other,
            "SELECT COUNT(*) FROM revocation WHERE sequence > 0"
        )
        .await,
        0
    );
    run(&mut other, "ROLLBACK").await;
    let revoked = store
        .revoke(&sessions, RevocationReason::Logout, NOW)
        .await
        .unwrap();
    assert_eq!(
        (revoked.sequence, revoked.ended.len()),
        (Sequence::new(1), 2)
    );
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_session_that_is_held_keeps_the_rest_of_a_batch_from_nothing_but_waiting() {
    let database = Database::new().await;
    let store = database.open().await;
    let held = open(&store, "alice").await.handle;
    let free = open(&store, "bob").await.handle;
    let mut other = database.connect().await;
    run(
        &mut other,
        "START TRANSACTION; UPDATE session SET data = '1' WHERE user_id = 'alice'",
    )
    .await;
    let refused = store
        .revoke(&[held, free], RevocationReason::Logout, NOW)
        .await
        .unwrap_err();
    assert!(refused.is_about_rows());
    assert!(store.session(free).await.unwrap().is_some());
    let alone = store
        .revoke(&[free], RevocationReason::Logout, NOW)
        .await
        .unwrap();
    assert_eq!(alone.sequence, Sequence::new(1));
    assert!(
        store
            .revoke(&[held], RevocationReason::Logout, NOW)
            .await
            .is_err()
    );
    assert_eq!(log_after(&store, 0).await.len(), 1);
    run(&mut other, "ROLLBACK").await;
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_held_head_delays_no_renewal_and_no_look_at_the_log() {
    let database = Database::new().await;
    let store = database.open().await;
    let mut other = database.connect().await;
    let sessions: Vec<_> = {
        let mut sessions = Vec::new();
        for number in 0..30 {
            sessions.push(open(&store, &format!("user {number}")).await.handle);
        }
        sessions
    };
    run(&mut other, HOLD_HEAD).await;
    let mut revokers = JoinSet::new();
    for session in sessions.clone() {
        let store = store.clone();
        revokers.spawn(async move {
            store
                .revoke(&[session], RevocationReason::Logout, NOW)
                .await
        });
    }
    let replica = ReplicaId::random();
    for beat in 1..=20 {
        sleep(Duration::from_millis(50)).await;
        timeout(Duration::from_millis(500), async {
            store
                .renew_replica(&replica_row(replica, beat))
                .await
                .unwrap();
            store.read_log(Sequence::ZERO).await.unwrap();
            store.head().await.unwrap();
            assert_eq!(store.replicas().await.unwrap().len(), 1);
            // Neither does a refresh or a look at a session that nobody ends.
            store.session(sessions[29]).await.unwrap();
        })
        .await
        .expect("waits for no revoker");
    }
    run(&mut other, "COMMIT").await;
    while let Some(revoked) = revokers.join_next().await {
        let _ = revoked.unwrap();
    }
    for session in sessions {
        let alone = [session];
        patiently(|| store.revoke(&alone, RevocationReason::Logout, NOW)).await;
    }
    assert_eq!(log_after(&store, 0).await.len(), 30);
    database.remove().await;
}

/// What a follower reads while a transaction has its number and has not committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_transaction_comes_before_those_that_began_after_it() {
    let database = Database::new().await;
    let store = database.open().await;
    let session = open(&store, "alice").await.handle;
    let mut slow = database.connect().await;
    run(
        &mut slow,
        "START TRANSACTION; UPDATE revocation_head SET sequence = LAST_INSERT_ID(sequence + 1) WHERE id = 1; \
         INSERT INTO revocation (sequence, handle, reason, expires, mark) \
         VALUES (LAST_INSERT_ID(), REPEAT('x', 16), 'logout', 0, 'abcdefgh')",
    )
    .await;
    let revoker = {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .revoke(&[session], RevocationReason::Logout, NOW)
                .await
        })
    };
    sleep(Duration::from_millis(300)).await;
    assert!(!revoker.is_finished(), "waits at the head");
    assert_eq!(log_after(&store, 0).await, [], "neither is there yet");
    assert_eq!(store.head().await.unwrap(), Sequence::ZERO);
    run(&mut slow, "COMMIT").await;
    assert_eq!(revoker.await.unwrap().unwrap().sequence, Sequence::new(2));
    let numbers: Vec<u64> = log_after(&store, 0)
        .await
        .iter()
        .map(|entry| entry.sequence.as_u64())
        .collect();
    assert_eq!(numbers, [1, 2]);
    database.remove().await;
}

/// A snapshot of before the wait would let it in: the default of both databases, REPEATABLE READ, keeps one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_login_that_waited_for_a_revocation_of_its_user_sees_it() {
    let database = Database::new().await;
    let store = database.open().await;
    let mut other = database.connect().await;
    run(
        &mut other,
        "START TRANSACTION; INSERT INTO user_revocation (user_id, sequence, revoked_at) VALUES ('alice', 7, 0); \
         INSERT INTO disabled_user (user_id, disabled_at) VALUES ('alice', 0)",
    )
    .await;
    let login = |known| {
        let (store, session) = (store.clone(), session("alice"));
        tokio::spawn(async move { store.open_session(&session, known, None).await })
    };
    let early = login(Sequence::new(6));
    let informed = login(Sequence::new(7));
    sleep(Duration::from_millis(300)).await;
    assert!(!early.is_finished() && !informed.is_finished());
    let isolation = "SELECT COUNT(*) FROM information_schema.innodb_trx \
                     WHERE trx_state = 'LOCK WAIT' AND trx_isolation_level <> 'READ COMMITTED'";
    assert_eq!(number(&mut other, isolation).await, 0);
    run(&mut other, "COMMIT").await;
    assert_eq!(early.await.unwrap().unwrap(), OpenOutcome::Overtaken);
    assert_eq!(informed.await.unwrap().unwrap(), OpenOutcome::Disabled);
    database.remove().await;
}

/// Wherever an operation is left: all of it happened, or nothing, and no lock stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operation_that_is_left_leaves_nothing_half_done() {
    let database = Database::new().await;
    let store = database.open().await;
    let mut ended = 0;
    for round in 0..120_u64 {
        let name = format!("user {round}");
        let one = open(&store, &name).await;
        let other = open(&store, &name).await;
        let patience = Duration::from_micros(round * 40);
        let left = match round % 3 {
            0 => timeout(
                patience,
                store.revoke(&[one.handle, other.handle], RevocationReason::Logout, NOW),
            )
            .await
            .is_err(),
            1 => timeout(
                patience,
                store.revoke_user(&user(&name), RevocationReason::Admin, NOW),
            )
            .await
            .is_err(),
            _ => timeout(
                patience,
                store.open_session(&session(&name), Sequence::new(u64::MAX), Some(one.handle)),
            )
            .await
            .is_err(),
        };
        // Until the server has noticed, its locks may make others wait, but not for long.
        let now = Instant::now();
        let rotation = rotation_of(&other, NOW);
        patiently(|| store.rotate(&rotation)).await;
        assert!(
            now.elapsed() < Duration::from_secs(3),
            "a lock was left behind"
        );
        for handle in [one.handle, other.handle] {
            // What was left may still end, between two looks too.
            let (logged, exists) = loop {
                let before = patiently(|| store.session(handle)).await.is_some();
                let log = log_after(&store, 0).await;
                let after = patiently(|| store.session(handle)).await.is_some();
                if before == after {
                    let logged = log.iter().any(|entry| entry.handle == Some(handle));
                    break (logged, after);
                }
            };
            assert_eq!(logged, !exists, "{round} {left}");
            ended += usize::from(!exists);
        }
    }
    assert!((1..240).contains(&ended), "{ended}: both ends were met");
    database.remove().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hundreds_at_once_are_served() {
    const USERS: usize = 300;
    let database = Database::new().await;
    let (one, other) = (database.open().await, database.open().await);
    let store = |number: usize| {
        if number.is_multiple_of(2) {
            one.clone()
        } else {
            other.clone()
        }
    };
    let mut logins = JoinSet::new();
    for number in 0..USERS {
        let store = store(number);
        // Ten devices each of thirty users.
        logins.spawn(async move { open(&store, &format!("user {}", number % 30)).await });
    }
    let sessions = logins.join_all().await;
    let mut tasks = JoinSet::new();
    for (number, session) in sessions.iter().enumerate() {
        let (store, handle, rotation) = (store(number), session.handle, rotation_of(session, NOW));
        tasks.spawn(async move {
            patiently(|| store.rotate(&rotation)).await;
            if number < 30 {
                let owner = user(&format!("user {number}"));
                patiently(|| store.revoke_user(&owner, RevocationReason::Admin, NOW)).await;
            }
            let alone = [handle];
            patiently(|| store.revoke(&alone, RevocationReason::Logout, NOW)).await;
        });
    }
    tasks.join_all().await;
    let log = log_after(&one, 0).await;
    let mut handles: Vec<_> = log.iter().filter_map(|entry| entry.handle).collect();
    handles.sort_unstable();
    handles.dedup();
    assert_eq!(handles.len(), USERS, "each is in the log");
    assert_eq!(
        log.iter().filter(|entry| entry.handle.is_some()).count(),
        USERS,
        "and once"
    );
    assert!(one.all_sessions(None, 10).await.unwrap().is_empty());
    database.remove().await;
}

/// A process that is frozen in the middle of a transaction holds its locks until the server ends the connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_server_ends_a_connection_that_is_silent_for_ten_seconds() {
    let database = Database::new().await;
    let store = database.open().await;
    open(&store, "alice").await;
    let mut other = database.connect().await;
    let idle = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()";
    assert!(number(&mut other, idle).await > 0);
    let started = Instant::now();
    while number(&mut other, idle).await > 0 {
        assert!(started.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(200)).await;
    }
    open(&store, "alice").await;
    other.close().await.unwrap();
    database.remove().await;
}
