//! Interleavings that are forced: a lock on the store holds everybody between what they have read and what they write.
//!
//! Reads go on under the lock (WAL), so a refresh that is sent while it is held has read the session and waits to write.

use std::thread;
use std::time::Duration;

use crate::support::{Browser, Replica, World, eventually, together};

const ENDPOINT: &str = "/auth/session/refresh";

/// More than a read takes, less than a writer waits.
const READING: Duration = Duration::from_millis(200);

/// What a replica elsewhere writes to end a session, in its order.
fn revocation_of(browser: &Browser) -> String {
    let handle = format!(
        "(SELECT handle FROM session WHERE user_id = '{}')",
        browser.claims()["sub"].as_str().unwrap()
    );
    format!(
        "UPDATE revocation_head SET sequence = sequence + 1;
         INSERT INTO revocation (sequence, handle, reason, expires, mark)
             SELECT (SELECT sequence FROM revocation_head), {handle}, 'admin', 9999999999999, x'0011223344556677';
         DELETE FROM session WHERE handle = {handle};
         COMMIT"
    )
}

fn is_over_everywhere(browser: &Browser, replicas: &[Replica; 2]) {
    for replica in replicas {
        browser.clone().get(replica, "/app").assert_session_over();
        browser
            .clone()
            .post(replica, ENDPOINT)
            .assert_session_over();
    }
}

/// T073, read | revoke | write: the row that was read is gone when the refresh writes. With `check = "off"` nothing but the
/// affected rows of that write can tell.
#[test]
fn a_refresh_that_read_before_the_revocation_brings_nothing_back() {
    for check in ["feed", "off"] {
        let world = World::with(&[("revocation.check", check)]);
        let replicas = world.replicas();
        for round in 0..4 {
            let alice = Browser::logged_in(&replicas[0], &format!("alice-{round}"));
            let elsewhere = world.store().lock_and_then(revocation_of(&alice));
            let answer = thread::scope(|scope| {
                let refresh = scope.spawn(|| alice.clone().post(&replicas[round % 2], ENDPOINT));
                thread::sleep(READING);
                drop(elsewhere);
                refresh.join().unwrap()
            });
            answer.assert_session_over();
            if check == "feed" {
                // Nobody waits for replicas where a revocation is written past them: each hears of it in its next round.
                eventually("both have heard of it", || {
                    replicas
                        .iter()
                        .all(|replica| alice.clone().get(replica, "/app").status == 401)
                });
                is_over_everywhere(&alice, &replicas);
            }
        }
        assert_eq!(world.store().number("SELECT count(*) FROM session"), 0);
    }
}

/// T073, both have read and both wait to write; whoever is first, nothing of the session is left.
#[test]
fn of_a_logout_and_a_refresh_that_wait_for_one_lock_the_logout_wins() {
    let world = World::new();
    let replicas = world.replicas();
    for round in 0..6 {
        let alice = Browser::logged_in(&replicas[0], "alice");
        let (mut refreshing, mut leaving) = (alice.clone(), alice.clone());
        let lock = world.store().lock();
        let (refreshed, left) = thread::scope(|scope| {
            let [here, there] = [&replicas[round % 2], &replicas[(round + 1) % 2]];
            let refreshing = &mut refreshing;
            let refresh = scope.spawn(move || {
                thread::sleep(READING / 4 * u32::try_from(round % 3).unwrap());
                let answer = refreshing.post(here, ENDPOINT);
                refreshing.keep(&answer);
                answer
            });
            let logout = scope.spawn(move || leaving.post(there, "/logout"));
            thread::sleep(READING);
            drop(lock);
            (refresh.join().unwrap(), logout.join().unwrap())
        });
        assert_eq!(left.status, 200);
        is_over_everywhere(&alice, &replicas);
        if refreshed.status == 200 {
            is_over_everywhere(&refreshing, &replicas);
        } else {
            refreshed.assert_session_over();
        }
    }
    assert_eq!(world.store().number("SELECT count(*) FROM session"), 0);
}

/// T075: all fifty have read the first generation before one of them may write the second.
#[test]
fn of_fifty_refreshes_that_read_the_same_token_one_rotates() {
    let world = World::new();
    let replicas = world.replicas();
    let alice = Browser::logged_in(&replicas[0], "alice");
    let lock = world.store().lock();
    let release = thread::spawn(move || {
        thread::sleep(READING * 2);
        drop(lock);
    });
    let browsers = together(50, |number| {
        let mut browser = alice.clone();
        let answer = browser.post(&replicas[number % 2], ENDPOINT);
        assert_eq!(answer.status, 200, "{}", answer.text());
        browser.keep(&answer);
        browser
    });
    release.join().unwrap();
    assert!(
        browsers
            .iter()
            .all(|browser| browser.refresh() == browsers[0].refresh())
    );
    assert_eq!(world.store().number("SELECT generation FROM session"), 1);
    for (number, browser) in browsers.into_iter().enumerate() {
        browser
            .clone()
            .get(&replicas[number % 2], "/app")
            .assert_served();
    }
}
