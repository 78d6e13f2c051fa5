//! The `portcullis` binary: arguments to a command, its end to an exit code.

use std::process::ExitCode;

use portcullis::cli::{Cli, Exit};

#[expect(
    clippy::print_stderr,
    reason = "the last word of a command that failed"
)]
fn main() -> ExitCode {
    match Cli::from_arguments().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("portcullis: {}", in_one_line(&error));
            Exit::Failure.into()
        }
    }
}

/// The error and its causes; some libraries repeat a cause in their own text, and it is not said twice.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.ends_with(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line
}
