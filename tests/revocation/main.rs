//! Revocations of one process: they share transactions, and few writes confirm them. On a real store.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are their helpers"
)]

mod confirmations;
mod group_commit;
mod support;
