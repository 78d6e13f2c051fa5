//! The client of one worker to one upstream, over real sockets, against servers scripted byte by byte.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod bodies;
mod failures;
mod http2;
mod retries;
mod reuse;
mod servers;
mod support;
mod tunnels;
mod upgrades;
