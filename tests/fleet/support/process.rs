//! Processes and patience.

use std::process::Command;
use std::thread;
use std::time::Duration;

use portcullis::clock::Clock;

pub fn signal(process: u32, name: &str) {
    // It may have ended by now.
    let _ = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
}

/// Waits for what is going to happen, on a machine that may be busy.
pub fn eventually(what: &str, holds: impl FnMut() -> bool) {
    assert!(
        within(Duration::from_secs(40), holds),
        "it never happened: {what}"
    );
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
        thread::sleep(Duration::from_millis(10));
    }
}
