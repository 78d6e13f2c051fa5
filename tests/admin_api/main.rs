//! The admin API of whole gateways, over real sockets.

#![expect(
    clippy::unwrap_used,
    reason = "a helper's panic fails its test, as it should"
)]

mod access;
mod everywhere;
mod requests;
mod sessions;
mod support;
mod users;
