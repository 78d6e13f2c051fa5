//! The acceptance suite of security: what befell other authenticating proxies, session layers and HTTP stacks, tried on the
//! built binary over raw sockets, with a recorder of raw bytes behind it. One case per number; `cargo test --test security`
//! prints them all as a table.
//!
//! Every case also holds the program to this: it still runs, nothing in it panicked, and its log, at `debug`, has no token and
//! no cookie that was sent or received.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are cases and their helpers"
)]

mod cookies;
mod elsewhere;
mod floods;
mod framing;
mod http2;
mod identity;
mod logout;
mod operations;
mod panics;
mod paths;
mod proxies;
mod runner;
mod sessions;
mod stores;
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with tests/process and tests/peers, which use all of it"
)]
#[path = "../process/support/mod.rs"]
mod support;
mod timing;
mod tokens;
mod transport;
mod variants;
mod world;

use runner::Chapter;

fn main() -> std::process::ExitCode {
    runner::run(&[
        Chapter::over_all(identity::CASES, &["t001", "t006", "t008"]),
        Chapter::over_all(proxies::CASES, &[]),
        Chapter::over_all(paths::CASES, &["t027", "t030", "t037"]),
        Chapter::over_all(tokens::CASES, &["t055"]),
        Chapter::of(timing::CASES),
        Chapter::over_all(cookies::CASES, &["t063"]),
        Chapter::of(sessions::CASES).on_all_databases(&["t084", "t090"]),
        Chapter::over_all(logout::CASES, &["t097"]),
        Chapter::of(framing::CASES),
        Chapter::of(http2::CASES),
        Chapter::of(floods::CASES),
        Chapter::of(operations::CASES),
        Chapter::of(panics::CASES),
        Chapter::over_all(variants::CASES, &["t008", "t030", "t091", "t105", "t115"]),
        Chapter::of(elsewhere::CASES),
    ])
}
