//! The gateway from outside: the real thing in this process, a scripted application behind it, raw requests in front.

#![expect(
    clippy::unwrap_used,
    reason = "a helper's panic fails its test, as it should"
)]

mod expiry;
mod login;
mod logout;
mod refresh;
mod support;
mod theft;
