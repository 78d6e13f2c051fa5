//! Portcullis, a reverse-proxy authentication gateway whose logout holds.
//!
//! A request goes through the stages that [`proxy`] lists: receive → route → authenticate → (refresh) → forward → reply. A login
//! opens a session, a logout ends it; how an end becomes true on every replica is [`revocation`]'s business.
//!
//! ```text
//! cli                                       the commands
//! gateway                                   assembles: the one that knows configuration and modules
//! config  proxy  admin                      what was meant; the way of a request; the private listener
//! refresher                                 refreshing, many at once
//! issuer  revocation  upstream  telemetry   tokens; who is out; the application's servers; logs and metrics
//! certificates                              what the public listeners show
//! store                                     sessions, revocation log, keys, in SQL
//! session  route  cookie                    pure: tokens and rotation; paths and rules; the gateway's cookies
//! identity                                  who somebody is
//! clock  secret  causes                     time and randomness, passed in; how errors are told
//! socket_file  file_stamp                   listeners at a path; files that change
//! ```
//!
//! A module names those of lower lines, and no other; `tests/architecture.rs` holds us to it. ARCHITECTURE.md has the words, every
//! file, the invariants with their tests, and the proof of the logout.

pub mod admin;
pub mod causes;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cookie;
pub mod file_stamp;
pub mod gateway;
pub mod identity;
pub mod issuer;
pub mod keys;
pub mod proxy;
pub mod refresher;
pub mod revocation;
pub mod route;
pub mod secret;
pub mod session;
pub mod socket_file;
pub mod store;
pub mod telemetry;
pub mod upstream;
