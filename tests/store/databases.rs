//! Where the database servers of the tests are.

use std::fs;
use std::path::Path;

/// The URL of a server's administrator, from the environment or from what `scripts/databases` has written. A server that is
/// missing fails the test: what is not run is not known to work.
pub fn url(name: &str) -> String {
    setting(name).unwrap_or_else(|| {
        panic!("{name} is not set, and .test/databases/env does not name a server: run `scripts/databases up` first")
    })
}

/// Where the certificate of the servers' CA is.
pub fn ca() -> String {
    url("PORTCULLIS_TEST_DATABASE_CA")
}

fn setting(name: &str) -> Option<String> {
    if let Ok(value) = std::env::var(name) {
        return Some(value);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(".test/databases/env");
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
}
