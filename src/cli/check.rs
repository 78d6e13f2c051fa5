//! `portcullis check`: a configuration file is read and judged, and nothing else happens.

use std::path::Path;

use super::{Exit, refuse};
use crate::config::Config;

#[expect(
    clippy::print_stdout,
    reason = "the answer of a command, for the person who ran it"
)]
pub fn run(path: &Path) -> Exit {
    match Config::load(path, std::env::vars_os()) {
        Ok(_) => {
            println!("{}: ok", path.display());
            Exit::Success
        }
        Err(errors) => refuse(&errors),
    }
}
