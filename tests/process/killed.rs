//! `kill -9` at any moment: what was answered holds afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use portcullis::clock::Clock;

use crate::support::{Conn, Gateway, Home, Upstream, only_app};

/// What clients were told, and may rely on.
#[derive(Default)]
struct Told {
    /// The answer to the login came whole, and no logout was begun.
    in_session: Vec<String>,
    /// The answer to the logout came whole.
    logged_out: Vec<String>,
}

const ROUNDS: u32 = 7;
const CLIENTS: usize = 6;

#[test]
fn what_was_answered_holds_after_a_kill() {
    let upstream = Upstream::application();
    // A logout waits for the lease of a gateway that was killed: a short one leaves time for something else.
    let home = Home::new(&format!(
        "[revocation]\nlease = \"500ms\"\n{}",
        only_app(upstream.address)
    ));
    let mut everything = Told::default();
    for _ in 0..ROUNDS {
        let gateway = home.start();
        holds(&home, &gateway, &everything);
        // Each round ends elsewhere: between the first login and a few hundred operations later.
        let pause = Duration::from_millis(30 + u64::from(random() % 1500));
        let told = load(gateway, pause);
        everything.in_session.extend(told.in_session);
        everything.logged_out.extend(told.logged_out);
    }
    let gateway = home.start();
    holds(&home, &gateway, &everything);
    assert!(everything.logged_out.len() > 10, "too little was tried");
    assert!(everything.in_session.len() > 10, "too little was tried");
}

/// Logs in and out over many connections, until the gateway is killed.
fn load(gateway: Gateway, pause: Duration) -> Told {
    let told = Arc::new(Mutex::new(Told::default()));
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (address, told, over) = (gateway.address, Arc::clone(&told), Arc::clone(&over));
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Ok(conn) = Conn::try_to(address) {
                        log_in_and_out(conn, client, &told);
                    }
                }
            })
        })
        .collect();
    thread::sleep(pause);
    gateway.kill();
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    Arc::into_inner(told).unwrap().into_inner().unwrap()
}

/// Every second session is logged out; of every sixth the logout is for all devices of a user of its own.
fn log_in_and_out(mut conn: Conn, client: usize, told: &Mutex<Told>) {
    for number in 0.. {
        let user = format!("user-{client}-{number}-{}", random());
        let Some(login) = conn.try_request("POST", &format!("/login?{user}"), "") else {
            return;
        };
        assert_eq!(login.status, 200, "{login:?}");
        let cookie = login.cookies();
        if number % 2 == 0 {
            told.lock().unwrap().in_session.push(cookie);
            continue;
        }
        let path = if number % 6 == 1 {
            "/logout-all"
        } else {
            "/logout"
        };
        match conn.try_request("POST", path, &cookie) {
            Some(answer) => {
                assert_eq!(answer.status, 200, "{answer:?}");
                told.lock().unwrap().logged_out.push(cookie);
            }
            // Whether it holds is open: nobody was told.
            None => return,
        }
    }
}

fn holds(home: &Home, gateway: &Gateway, told: &Told) {
    let mut conn = gateway.connect();
    for cookie in &told.logged_out {
        let answer = conn.get("/a", cookie);
        assert_eq!(answer.status, 401, "a logout that was answered is undone");
        let refresh = conn.post("/auth/session/refresh", cookie);
        assert_eq!(refresh.status, 401, "a logout that was answered is undone");
    }
    for cookie in &told.in_session {
        let answer = conn.get("/a", cookie);
        assert_eq!(answer.status, 200, "a login that was answered is lost");
        assert!(answer.text().starts_with("user-"));
    }
    let listed = home.listed();
    for cookie in &told.logged_out {
        assert!(!listed.contains(&handle_of(cookie)));
    }
    for cookie in &told.in_session {
        assert!(listed.contains(&handle_of(cookie)));
    }
}

/// The session handle is the first part of the refresh token, which begins with its 16 bytes in base64url.
fn handle_of(cookie: &str) -> String {
    let (_, refresh) = cookie.split_once("sRefreshToken=").unwrap();
    let claims = cookie.split('.').nth(1).unwrap();
    let claims =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let handle = claims["sid"].as_str().unwrap();
    assert!(refresh.starts_with(&handle[..20]), "{handle} {refresh}");
    handle.to_owned()
}

/// Good enough to end each round elsewhere.
fn random() -> u32 {
    let now = Clock::system().now().as_millis().to_le_bytes();
    let address = Box::new(0_u8);
    let mix = std::hash::BuildHasher::hash_one(
        &std::collections::hash_map::RandomState::new(),
        (now, std::ptr::from_ref(&*address) as usize),
    );
    u32::try_from(mix & 0xffff_ffff).unwrap()
}
