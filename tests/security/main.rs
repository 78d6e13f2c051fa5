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
mod paths;
mod proxies;
mod runner;
mod sessions;
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with tests/process, which uses all of it"
)]
#[path = "../process/support/mod.rs"]
mod support;
mod timing;
mod tokens;
mod world;

fn main() -> std::process::ExitCode {
    runner::run(&[
        identity::CASES,
        proxies::CASES,
        paths::CASES,
        tokens::CASES,
        timing::CASES,
        cookies::CASES,
        sessions::CASES,
        logout::CASES,
        framing::CASES,
        http2::CASES,
        floods::CASES,
        operations::CASES,
        elsewhere::CASES,
    ])
}
