//! The private listener: health and metrics, for orchestrators, monitoring and people on the machine.
//!
//! It runs apart from the public listener, on a port and a runtime of its own: no rule of the public side can expose it, and
//! it answers while the workers are busy. What it shows is no secret, but it is nobody else's business either: a web page
//! that a browser on this machine has open cannot read it (guard.rs).

mod answers;
mod guard;
pub mod health;
mod listener;
mod readiness;
#[cfg(test)]
mod tests;

pub use listener::{AdminListener, AdminState};
pub use readiness::Readiness;
