//! The `portcullis` binary: arguments to a command, its end to an exit code.

use std::process::ExitCode;

use portcullis::causes::Causes;
use portcullis::cli::{Cli, Exit};

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed"
)]
fn main() -> ExitCode {
    match Cli::from_arguments().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("portcullis: {}", Causes(&*error));
            Exit::Failure.into()
        }
    }
}
