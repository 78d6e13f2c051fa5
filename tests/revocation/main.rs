//! Revocations of one process: they share transactions, and few writes confirm them; and what the rules of the protocol are there
//! for, forced by hand. On real stores.

#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in test functions, and these are their helpers"
)]

mod confirmations;
mod group_commit;
mod held_rows;
mod interleaved;
mod servers;
mod support;

/// Makes a test for each database server of each function named.
macro_rules! on_servers {
    ($($test:ident,)*) => {
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test(crate::servers::Kind::Postgres).await;
                }
            )*
        }
        mod on_mariadb {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    super::$test(crate::servers::Kind::MariaDb).await;
                }
            )*
        }
    };
}
use on_servers;
