//! The gateway as a process, its command line, a client that sends and reads bytes, and upstreams that do what they are told.

pub mod databases;
pub mod frames;
mod gateway;
pub mod http2;
pub mod load;
pub mod peers;
pub mod tls;
mod upstream;
mod wire;

use std::thread;
use std::time::Duration;

use portcullis::clock::Clock;

pub use gateway::{Ended, Gateway, Home, app, only_app, program};
pub use upstream::{Peer, Upstream};
pub use wire::{Answer, Conn, header};

/// For what is going to happen, on a machine that may be busy.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Waits for what is going to happen.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(within(PATIENCE, holds), "it never happened: {what}");
}

/// Whether it happens in that time.
pub fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let clock = Clock::system();
    let started = clock.boot();
    loop {
        if holds() {
            return true;
        }
        if clock.boot().since(started) > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// How long it takes.
pub fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let clock = Clock::system();
    let started = clock.boot();
    let result = act();
    (result, clock.boot().since(started))
}
