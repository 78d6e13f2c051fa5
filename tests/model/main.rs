//! The fleet protocol, explored: every state that replicas, logouts and faults can reach, statement by statement.
//!
//! - `checker`: breadth first over packed states;
//! - `state`: what there is, and its packed form;
//! - `rules`: what the product decides, asked of `portcullis::revocation::protocol`;
//! - `fleet` and `steps`: how one state becomes the next;
//! - `symmetry`: states that differ in names only;
//! - `story`: a trace in words.
//!
//! `proofs` has the protocol as it is, `variants` what becomes of it without each of its rules. `./scripts/test-model` runs
//! the larger configurations and prints how many states each has.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are their helpers"
)]

mod checker;
mod fleet;
mod proofs;
mod rules;
mod state;
mod steps;
mod story;
mod symmetry;
mod variants;

use fleet::Asked;

/// The logout of a session.
const ALICE: Asked = Asked {
    session: 0,
    by_handle: true,
};

/// And of another one.
const BOB: Asked = Asked {
    session: 1,
    by_handle: true,
};

/// All sessions of the first one's user, without their handles.
const USER_OF_ALICE: Asked = Asked {
    session: 0,
    by_handle: false,
};

#[expect(
    clippy::print_stdout,
    reason = "counts and traces are for whoever runs the tests with --no-capture"
)]
fn show(text: &str) {
    println!("{text}");
}
