//! The configuration: what loads, what is refused and in which words, and that the files we ship are right.

#![expect(
    clippy::unwrap_used,
    reason = "a helper's panic fails its test, as it should"
)]

mod listeners;
mod origins;
mod refused;
mod robust;
mod rules;
mod settings;
mod shipped;

use std::path::Path;

use portcullis::config::Config;

/// Nothing in the environment.
const NOWHERE: [(&str, &str); 0] = [];

/// What a text means, or the text of its errors.
fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &NOWHERE)
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    Config::parse(
        text,
        "portcullis.toml",
        Path::new("/etc/portcullis"),
        environment.iter().copied(),
    )
    .map_err(|errors| errors.to_string())
}

/// The least that is needed, and `more`.
fn with_upstream(more: &str) -> String {
    format!("[[upstream]]\nname = \"app\"\nservers = [\"http://127.0.0.1:3000\"]\n{more}")
}
