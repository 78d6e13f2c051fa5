//! Two replicas on one store: what one is told, the other knows before the answer leaves.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};

use crate::support::{Browser, Replica, World, eventually, together};

const ENDPOINT: &str = "/auth/session/refresh";

/// Keeps both replicas busy with requests of other sessions while `story` happens.
fn under_load(replicas: &[Replica; 2], story: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..4 {
            let (replica, over) = (&replicas[number % 2], &over);
            let bystander = Browser::logged_in(replica, "bystander");
            scope.spawn(move || {
                let request = bystander.request("GET", "/app/load", &[], "");
                let mut connection = replica.connect();
                while !over.load(Ordering::Relaxed) {
                    connection.send(&request);
                    connection.answer().assert_served();
                }
            });
        }
        let _over = EndOfStory(&over);
        story();
    });
}

/// Ends the load, be it that the story fails.
struct EndOfStory<'a>(&'a AtomicBool);

impl Drop for EndOfStory<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Invariant 1, and T068, T069, T070 two hundred times.
#[test]
fn a_logout_is_linearizable_on_both_replicas_under_load() {
    let world = World::new();
    let replicas = world.replicas();
    under_load(&replicas, || {
        for trial in 0..200 {
            let (here, there) = (&replicas[trial % 2], &replicas[(trial + 1) % 2]);
            let alice = Browser::logged_in(here, "alice");
            alice.clone().get(there, "/app").assert_served();
            let mut elsewhere = there.connect();
            let replay = alice.request("GET", "/app", &[], "");
            // The copy is ready to go; the logout's answer is all it waits for.
            let logout = alice.clone().post(here, "/logout");
            elsewhere.send(&replay);
            elsewhere.answer().assert_session_over();
            assert_eq!(logout.status, 200);
            alice.clone().get(here, "/app").assert_session_over();
            if trial % 10 == 0 {
                alice.clone().post(there, ENDPOINT).assert_session_over();
                alice.clone().post(here, ENDPOINT).assert_session_over();
            }
        }
    });
    assert_eq!(world.app.count("/app"), 200);
}

/// Invariant 1 and T071, with all devices of a user.
#[test]
fn a_logout_of_all_devices_is_linearizable_on_both_replicas() {
    let world = World::new();
    let replicas = world.replicas();
    let mut bob = Browser::logged_in(&replicas[0], "bob");
    under_load(&replicas, || {
        for trial in 0..30 {
            let devices: Vec<_> = (0..4)
                .map(|device| Browser::logged_in(&replicas[device % 2], "alice"))
                .collect();
            devices[0]
                .clone()
                .post(&replicas[trial % 2], "/logout-all")
                .assert_clears();
            for device in &devices {
                for replica in &replicas {
                    device.clone().get(replica, "/app").assert_session_over();
                }
            }
            for replica in &replicas {
                bob.get(replica, "/app/bob").assert_served();
            }
        }
    });
    assert_eq!(world.app.count("/app"), 0);
}

/// Invariant 1 without luck: the other replica looks at the log once a second, and each kind of ending waits for it.
#[test]
fn an_answer_waits_for_a_replica_that_is_slow_to_look() {
    let world = World::with(&[("revocation.poll", "1s")]);
    let [here, there] = world.replicas();
    world.app.answers(
        "/account/delete",
        "200 OK\r\nportcullis-logout: session",
        "",
    );
    let endings: [&dyn Fn(&mut Browser); 6] = [
        &|alice| assert_eq!(alice.post(&here, "/logout").status, 200),
        &|alice| assert_eq!(alice.post(&here, "/logout-all").status, 200),
        &|alice| assert_eq!(alice.post(&here, "/account/delete").status, 200),
        &|alice| alice.log_in(&here, "bob").assert_opened(),
        &|alice| {
            let command = world.command(&["sessions", "revoke", &alice.handle()]);
            assert!(command.status.success());
        },
        &|_| {
            let command = world.command(&["sessions", "revoke-user", "alice"]);
            assert!(command.status.success());
        },
    ];
    for (number, end) in endings.iter().enumerate() {
        let mut alice = Browser::logged_in(&here, "alice");
        let copy = alice.clone();
        copy.clone().get(&there, "/app").assert_served();
        end(&mut alice);
        for replica in [&there, &here] {
            let status = copy.clone().get(replica, "/app").status;
            assert_eq!(status, 401, "ending {number}");
        }
    }
}

/// Invariant 6 and T073: whichever is first, after both no token of the session is accepted anywhere.
#[test]
fn no_refresh_revives_a_session_that_a_logout_ends_at_the_same_time() {
    let world = World::with(&[("session.refresh", "client")]);
    let replicas = world.replicas();
    let mut refreshed = 0;
    for trial in 0..200 {
        let alice = Browser::logged_in(&replicas[trial % 2], "alice");
        let tabs = together(2, |number| {
            // Now one gets a head start, now the other.
            if (trial / 4) % 2 == number {
                std::thread::sleep(std::time::Duration::from_micros(trial as u64 * 10));
            }
            let mut tab = alice.clone();
            let target = if number == 0 { ENDPOINT } else { "/logout" };
            let answer = tab.post(&replicas[(trial / 2 + number) % 2], target);
            (tab, answer)
        });
        let [(mut newest, refresh), (_, logout)] = tabs.try_into().unwrap();
        assert_eq!(logout.status, 200);
        match refresh.status {
            200 => refreshed += 1,
            _ => refresh.assert_session_over(),
        }
        for replica in &replicas {
            alice.clone().get(replica, "/app").assert_session_over();
            alice.clone().post(replica, ENDPOINT).assert_session_over();
            if newest.has_a_session() {
                newest.clone().get(replica, "/app").assert_session_over();
            }
        }
        newest.post(&replicas[0], ENDPOINT).assert_session_over();
    }
    assert!(
        (1..200).contains(&refreshed),
        "both orders happened: {refreshed}"
    );
    assert_eq!(world.app.count("/app"), 0);
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 0);
}

/// Invariant 6: a login that began before all sessions of its user were ended opens none.
#[test]
fn a_login_that_a_revocation_of_its_user_overtakes_opens_nothing() {
    let world = World::new();
    let replicas = world.replicas();
    let mut other_device = Browser::logged_in(&replicas[1], "alice");
    let (arrived, has_arrived) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel::<()>();
    let (arrived, may_go_on) = (Mutex::new(arrived), Mutex::new(may_go_on));
    world.app.plays("/login", move |_, stream| {
        arrived.lock().unwrap().send(()).unwrap();
        may_go_on.lock().unwrap().recv().unwrap();
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nportcullis-login: alice\r\nContent-Length: 0\r\n\r\n");
    });
    std::thread::scope(|scope| {
        let login = scope.spawn(|| Browser::new().log_in(&replicas[0], "alice"));
        has_arrived.recv().unwrap();
        other_device
            .post(&replicas[1], "/logout-all")
            .assert_clears();
        go_on.send(()).unwrap();
        let answer = login.join().unwrap();
        assert_eq!(answer.status, 409);
        answer.assert_says_nothing_of_a_session();
    });
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 0);
    // The next one is in time.
    go_on.send(()).unwrap();
    Browser::logged_in(&replicas[0], "alice")
        .get(&replicas[1], "/app")
        .assert_served();
}

/// Invariant 6: logins and revocations of their user, all at once: what is served is what the store has.
#[test]
fn logins_that_race_with_revocations_of_their_user_live_or_not_but_never_half() {
    let world = World::new();
    let replicas = world.replicas();
    for trial in 0..25 {
        let browsers = together(6, |number| {
            let replica = &replicas[(trial + number) % 2];
            let mut browser = Browser::new();
            if number < 4 {
                let answer = browser.log_in(replica, "alice");
                assert!([200, 409].contains(&answer.status), "{answer:?}");
            } else {
                let mut browser = Browser::logged_in(replica, "alice-admin");
                let other = &replicas[number % 2];
                assert_eq!(browser.post(other, "/logout").status, 200);
                let user = portcullis::identity::UserId::parse("alice").unwrap();
                let revocations = &replica.parts().revocations;
                let revoke =
                    revocations.revoke_user(&user, &[], portcullis::store::RevocationReason::Admin);
                tokio::runtime::Runtime::new()
                    .unwrap()
                    .block_on(revoke)
                    .unwrap();
            }
            browser
        });
        for browser in browsers.iter().filter(|browser| browser.has_a_session()) {
            let id = world.store().number(&format!(
                "SELECT COUNT(*) FROM session WHERE lower(hex(handle)) = '{}'",
                hex_of_handle(&browser.handle())
            ));
            for replica in &replicas {
                let status = browser.clone().get(replica, "/app").status;
                assert_eq!(status, if id == 1 { 200 } else { 401 });
            }
        }
    }
}

fn hex_of_handle(handle: &str) -> String {
    let handle: portcullis::session::SessionHandle = handle.parse().unwrap();
    handle
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Invariant 10: one of a user's sessions cannot be ended, so none is, and an error says so; later all of them are.
#[test]
fn all_sessions_of_a_user_end_or_none() {
    let world = World::new();
    let replicas = world.replicas();
    let devices: Vec<_> = (0..3)
        .map(|_| Browser::logged_in(&replicas[0], "alice"))
        .collect();
    let stubborn = hex_of_handle(&devices[2].handle());
    let trigger = world.store().trigger(&format!(
        "BEFORE DELETE ON session WHEN OLD.handle = x'{stubborn}' BEGIN SELECT RAISE(ABORT, 'no'); END"
    ));
    let command = world.command(&["sessions", "revoke-user", "alice"]);
    assert!(!command.status.success());
    let alive = |replica: &Replica| -> Vec<u16> {
        devices
            .iter()
            .map(|device| device.clone().get(replica, "/app").status)
            .collect()
    };
    assert_eq!(
        (alive(&replicas[0]), alive(&replicas[1])),
        (vec![200; 3], vec![200; 3])
    );
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 3);

    // A user who asked for it is not let in any more with what was shown; it is owed to the store.
    let answer = devices[0].clone().post(&replicas[0], "/logout-all");
    assert_eq!(answer.status, 503);
    answer.assert_clears();
    assert_eq!(alive(&replicas[0]), [401, 200, 200]);
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 3);
    // Whoever asks again with what is refused by now is not told that all is done.
    let again = devices[0].clone().post(&replicas[0], "/logout-all");
    assert_eq!(again.status, 503);
    assert_eq!(world.store().number("SELECT COUNT(*) FROM session"), 3);
    drop(trigger);
    eventually("what was owed is written", || {
        world.store().number("SELECT COUNT(*) FROM session") == 0
    });
    eventually("and known", || alive(&replicas[1]) == [401; 3]);
}

#[test]
fn a_session_of_one_replica_is_a_session_of_all() {
    let world = World::new();
    let mut first = Some(world.replica());
    let second = world.replica();
    let mut alice = Browser::logged_in(first.as_ref().unwrap(), "alice");
    alice.get(&second, "/app").assert_served();
    // Replicas come and go.
    drop(first.take());
    alice.get(&second, "/app").assert_served();
    let third = world.replica();
    alice.get(&third, "/app").assert_served();
    let copy = alice.clone();
    alice.post(&third, "/logout").assert_clears();
    copy.clone().get(&second, "/app").assert_session_over();
    // One that starts after the logout knows of it.
    let fourth = world.replica();
    copy.clone().get(&fourth, "/app").assert_session_over();
}
