//! The work of a proxy, done by Portcullis, by nginx and by HAProxy: each case is one function over raw sockets, and runs against
//! every front that can do its work, configured from one description. What the peers pass too is no peculiarity of the test; where one
//! of them answers otherwise, the case says what it answers and why, and holds it to that. A front that cannot do the work at all is
//! not among those that the case runs on.
//!
//! nginx 1.22 and HAProxy 2.6 are those of Debian 12. What they cannot do: nginx speaks no HTTP/2 to servers but gRPC's, opens no
//! WebSocket on a stream of HTTP/2, passes no trailers, and has no active health checks; HAProxy cannot count the bytes of a body whose
//! length is not announced. Sessions, forward-auth and cutting streams are ours alone, and so are not here: `tests/process` and
//! `tests/security` have them.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are cases and their helpers"
)]

/// Makes a test of each case for each front: `case::portcullis`, `case::nginx`, `case::haproxy`.
macro_rules! cases {
    ($($case:ident: $($front:ident),+;)+) => {
        $(
            mod $case {
                $(
                    #[test]
                    fn $front() {
                        super::$case(crate::fronts::$front());
                    }
                )+
            }
        )+
    };
}

mod balancing;
mod bodies;
mod ending;
mod floods;
mod fronts;
mod http2;
mod limits;
mod listeners;
mod messages;
mod secure_upstreams;
mod smuggling;
#[expect(
    dead_code,
    unused_imports,
    reason = "shared with tests/process; between them they use all of it"
)]
#[path = "../process/support/mod.rs"]
mod support;
mod tls;
mod upstreams;
mod websockets;
