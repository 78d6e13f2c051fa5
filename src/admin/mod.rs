//! The private listener: health and metrics for orchestrators, monitoring and people on the machine, and the admin API.
//!
//! It runs apart from the public listener, on a socket and a runtime of its own: no rule of the public side can expose it, and
//! it answers while the workers are busy. What it shows to anyone is no secret, but it is nobody else's business either: a web
//! page that a browser on this machine has open cannot read it (guard.rs). The API needs the admin token on top of that, and
//! is not there at all without one.

mod answers;
mod api;
mod guard;
pub mod health;
mod listener;
mod problem;
mod readiness;
mod socket;
#[cfg(test)]
mod tests;
mod token;

pub use api::{Api, ApiParts, Issuing};
pub use listener::{AdminListener, AdminState};
pub use readiness::{ActiveConfiguration, Readiness};
pub use token::AdminToken;
