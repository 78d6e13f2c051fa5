//! A fleet of real processes, what can befall it, and who uses it; shared with `benches/fleet`.

pub mod app;
pub mod client;
pub mod clients;
pub mod fleet;
pub mod history;
pub mod link;
pub mod outsider;
pub mod process;
pub mod random;
pub mod server;
