//! The moments that the rules of the protocol are there for, forced by hand on each database server: by a second connection that
//! holds rows, locks the log, or is in the middle of a transaction. `tests/model/variants.rs` shows what follows without the rules.

use std::time::Duration;

use portcullis::clock::Clock;
use portcullis::revocation::Verdict;
use portcullis::revocation::protocol::holds_everywhere;
use portcullis::store::{RevocationReason, Sequence};
use tokio::time::timeout;

use crate::on_servers;
use crate::servers::{Following, Kind, ServerDatabase};
use crate::support::eventually;

on_servers! {
    a_renewal_beside_an_open_revocation_is_seen_by_its_barrier,
    the_row_is_written_for_all_before_the_log_is_read,
    the_lease_counts_from_before_the_write,
    a_store_that_is_slow_for_a_moment_delays_a_start,
    what_is_ended_here_moves_no_cursor,
    a_number_that_is_used_again_is_another_history,
    a_reason_of_a_later_version_is_not_confirmed,
    leaving_ends_the_trust_before_the_row_goes,
}

const LOGOUT: RevocationReason = RevocationReason::Logout;
const LONG: Duration = Duration::from_mins(3);
const FIRST: Sequence = Sequence::new(1);

/// The revoker has its number and has not committed: the renewal waits for nobody, reads the log of before, and is waited for.
async fn a_renewal_beside_an_open_revocation_is_seen_by_its_barrier(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let handle = database.sessions(1).await[0];
    let mut revoker = database.connect().await;
    let entry = entry(
        &revoker.literal(handle.as_bytes()),
        "logout",
        &revoker.literal(b"revoker!"),
    );
    revoker.run(&format!("BEGIN; {entry}")).await;
    let joiner = database.process(LONG);
    timeout(Duration::from_secs(1), joiner.join())
        .await
        .expect("waits for no revoker")
        .unwrap();
    assert_eq!(joiner.applied(), Sequence::ZERO);
    assert_eq!(joiner.verdict(&handle, 0), Verdict::Live);
    revoker.run("COMMIT").await;
    let now = Clock::system().boot();
    let rows = database.store.replicas().await.unwrap();
    assert!(
        !holds_everywhere(&rows, FIRST, now, now),
        "nobody waits for the one that joined: {rows:?}"
    );
    let following = Following::of(&joiner);
    timeout(Duration::from_secs(5), joiner.confirmed_by_all(FIRST))
        .await
        .unwrap();
    assert_eq!(joiner.verdict(&handle, 0), Verdict::Revoked);
    following.end().await;
    database.remove().await;
}

/// While the log cannot be read the row is there, with a new beat; and nothing is trusted for it.
async fn the_row_is_written_for_all_before_the_log_is_read(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(Duration::from_millis(1500));
    replica.join().await.unwrap();
    let following = Following::of(&replica);
    let mut other = database.connect().await;
    other.lock_log().await;
    let before = database.row_of(&replica).await.unwrap().beat;
    // Of two renewals one began after the log was locked.
    eventually("it writes its row", async || {
        database.row_of(&replica).await.unwrap().beat >= before + 2
    })
    .await;
    eventually("it trusts nothing that it could not read", async || {
        replica.has_lapsed()
    })
    .await;
    other.unlock_log().await;
    eventually("it is up to date again", async || !replica.has_lapsed()).await;
    following.end().await;
    database.remove().await;
}

/// Somebody keeps the row from being written for a while: that while is part of the lease.
async fn the_lease_counts_from_before_the_write(kind: Kind) {
    let lease = Duration::from_secs(6);
    let held_up = Duration::from_millis(700);
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(lease);
    let mut other = database.connect().await;
    let id = other.literal(replica.replica().as_bytes());
    other
        .run(&format!(
            "BEGIN; INSERT INTO replica (id, beat, applied, lease_ms) VALUES ({id}, 0, 0, 0)"
        ))
        .await;
    let joining = tokio::spawn({
        let replica = replica.clone();
        async move { replica.join().await }
    });
    tokio::time::sleep(held_up).await;
    assert!(replica.has_lapsed() && !joining.is_finished());
    other.let_go().await;
    joining.await.unwrap().unwrap();
    let remaining = replica.lease_remaining();
    // Starting may take some of the time before the row is met.
    let counted = lease - held_up + Duration::from_millis(200);
    assert!(remaining < counted, "{remaining:?}");
    assert!(!replica.has_lapsed());
    database.remove().await;
}

/// For longer than a round may take: the process waits, and starts.
async fn a_store_that_is_slow_for_a_moment_delays_a_start(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(Duration::from_millis(1500));
    let mut other = database.connect().await;
    let id = other.literal(replica.replica().as_bytes());
    other
        .run(&format!(
            "BEGIN; INSERT INTO replica (id, beat, applied, lease_ms) VALUES ({id}, 0, 0, 0)"
        ))
        .await;
    let joining = tokio::spawn({
        let replica = replica.clone();
        async move { replica.join().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(replica.has_lapsed() && !joining.is_finished());
    other.let_go().await;
    joining.await.unwrap().unwrap();
    assert!(database.row_of(&replica).await.is_some());
    database.remove().await;
}

/// The number below, of another process, would never be read.
async fn what_is_ended_here_moves_no_cursor(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let (here, there) = (database.process(LONG), database.process(LONG));
    for process in [&here, &there] {
        process.join().await.unwrap();
    }
    assert_ne!(here.replica(), there.replica(), "each has a row of its own");
    let handles = database.sessions(2).await;
    let (of_there, of_here) = (handles[0], handles[1]);
    for (process, handle) in [(&there, of_there), (&here, of_here)] {
        let now = Clock::system().now();
        let revoked = database.store.revoke(&[handle], LOGOUT, now).await;
        process.apply(&revoked.unwrap());
    }
    assert_eq!(here.verdict(&of_here, 0), Verdict::Revoked);
    assert_eq!(here.applied(), Sequence::ZERO);
    let following = Following::of(&here);
    eventually("the other one is read", async || {
        here.verdict(&of_there, 0) == Verdict::Revoked
    })
    .await;
    eventually("both are confirmed", async || {
        database.row_of(&here).await.unwrap().applied == Sequence::new(2)
    })
    .await;
    following.end().await;
    database.remove().await;
}

/// As after a restore, or a failover to a standby that had not got all: what has that number now is not what was applied.
async fn a_number_that_is_used_again_is_another_history(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(LONG);
    replica.join().await.unwrap();
    let following = Following::of(&replica);
    let handles = database.sessions(2).await;
    let (first, second) = (handles[0], handles[1]);
    replica.revoke(&[first], LOGOUT).await.unwrap();
    assert_eq!(replica.applied(), FIRST);
    let mut other = database.connect().await;
    let entry = entry(
        &other.literal(second.as_bytes()),
        "logout",
        &other.literal(b"restored"),
    );
    other
        .run(&format!(
            "BEGIN; DELETE FROM revocation WHERE sequence > 0; UPDATE revocation_head SET sequence = 0; {entry}; COMMIT"
        ))
        .await;
    eventually("it is read again", async || {
        replica.verdict(&second, 0) == Verdict::Revoked
    })
    .await;
    assert_eq!(
        replica.verdict(&first, 0),
        Verdict::Revoked,
        "what was known stays known"
    );
    eventually("it is up to date", async || !replica.has_lapsed()).await;
    following.end().await;
    database.remove().await;
}

/// An entry that this version cannot apply: it may not say that it has, and may not go on as if there were none.
async fn a_reason_of_a_later_version_is_not_confirmed(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(LONG);
    replica.join().await.unwrap();
    let following = Following::of(&replica);
    let handle = database.sessions(1).await[0];
    let mut later = database.connect().await;
    let entry = entry(
        &later.literal(handle.as_bytes()),
        "eclipse",
        &later.literal(b"later on"),
    );
    later.run(&format!("BEGIN; {entry}; COMMIT")).await;
    eventually("it trusts nothing", async || replica.has_lapsed()).await;
    let now = Clock::system().boot();
    let rows = database.store.replicas().await.unwrap();
    assert!(!holds_everywhere(&rows, FIRST, now, now), "{rows:?}");
    assert_eq!(replica.verdict(&handle, 0), Verdict::AskStore);
    following.end().await;
    database.remove().await;
}

/// As long as there is trust there is a row, for which revokers wait.
async fn leaving_ends_the_trust_before_the_row_goes(kind: Kind) {
    let database = ServerDatabase::new(kind).await;
    let replica = database.process(LONG);
    replica.join().await.unwrap();
    let mut other = database.connect().await;
    let id = other.literal(replica.replica().as_bytes());
    other
        .run(&format!(
            "BEGIN; SELECT beat FROM replica WHERE id = {id} FOR UPDATE"
        ))
        .await;
    let leaving = tokio::spawn({
        let replica = replica.clone();
        async move { replica.leave().await }
    });
    eventually("it trusts nothing", async || replica.has_lapsed()).await;
    assert!(database.row_of(&replica).await.is_some());
    other.let_go().await;
    leaving.await.unwrap();
    assert!(database.row_of(&replica).await.is_none());
    database.remove().await;
}

/// The statements that take the next number, 1, for an entry that outlives the test.
fn entry(handle: &str, reason: &str, mark: &str) -> String {
    let expires = (Clock::system().now() + Duration::from_hours(1)).as_millis();
    format!(
        "UPDATE revocation_head SET sequence = sequence + 1 WHERE id = 1;
         INSERT INTO revocation (sequence, handle, reason, expires, mark) VALUES (1, {handle}, '{reason}', {expires}, {mark})"
    )
}
