//! The `portcullis` binary: arguments to a command, its end to an exit code.

use std::process::ExitCode;

use clap::Parser;
use portcullis::cli::{Cli, Exit};

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed"
)]
fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            Exit::Failure.into()
        }
    }
}
