//! The gateway from outside: the real thing in this process, a scripted application behind it, raw requests in front.

#![expect(
    clippy::unwrap_used,
    reason = "a helper's panic fails its test, as it should"
)]

mod assertion;
mod check;
mod cookies;
mod cross_site;
mod expiry;
mod forced;
mod hot_path;
mod identity;
mod keys;
mod login;
mod logout;
mod metrics_and_logs;
mod paths;
mod protocol;
mod redirects;
mod reference_library;
mod refresh;
mod replicas;
mod session_control;
mod store_down;
mod streams;
mod support;
mod theft;
