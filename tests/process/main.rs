//! The program as operators run it: the built binary as a process, met over raw sockets and by its command line, in front of
//! upstreams that are scripted byte by byte.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are their helpers"
)]

mod addresses;
mod black_holes;
mod bodies;
mod bounds;
mod client_certificates;
mod commands;
mod dealing;
mod ending;
mod floods;
mod forward_auth;
mod http2;
mod killed;
mod limits;
mod listeners;
mod master_key;
mod messages;
mod moving;
mod reload;
mod resting;
mod sessions;
mod store_trouble;
#[expect(
    dead_code,
    reason = "shared with tests/peers; between them they use all of it"
)]
mod support;
mod telling;
mod tls;
mod upstreams;
mod websockets;
