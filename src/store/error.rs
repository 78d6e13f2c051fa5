//! What can go wrong with the store, by what the caller should do about it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;
use thiserror::Error;

/// An operation of the store that did not happen, or of which it is not known whether it did.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Busy, full, read-only, or not reachable: nothing is wrong with the request, which may be tried again.
    #[error("cannot reach the session store")]
    Unavailable(#[source] sqlx::Error),
    /// A row that this version cannot have written, or that was altered.
    #[error(
        "the session store holds a value that cannot be read: table {table}, column {column}, row {key}"
    )]
    Corrupt {
        table: &'static str,
        column: &'static str,
        key: String,
    },
    /// The database answers, but not to this statement: damaged, or not what the migrations made.
    #[error("the session store refuses a statement: check that the database is undamaged")]
    Refused(#[source] sqlx::Error),
    #[error("cannot bring the tables of the session store up to date")]
    Migration(#[source] Box<sqlx::migrate::MigrateError>),
    #[error(
        "the session store belongs to another master key: configure the key that it was made with"
    )]
    OtherMasterKey,
    #[error("cannot create the store file {path}: check that its directory exists and is writable")]
    Create {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The text itself is not repeated: it may hold a password.
    #[error("not a store URL: write `sqlite:` and the path of a file")]
    Url,
    /// The transaction was shared with others, who are told the same.
    #[error(transparent)]
    Shared(Arc<StoreError>),
}

impl StoreError {
    /// Whether the same call may succeed later, so that a client is told to come again (503).
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Shared(error) => error.is_temporary(),
            _ => false,
        }
    }

    /// Whether it came from the rows that were asked for, which somebody holds or has damaged: others may be written without
    /// them. If not, the store as a whole takes nothing now.
    pub fn is_about_rows(&self) -> bool {
        match self {
            Self::Unavailable(error) => is_held_row(error),
            Self::Refused(_) | Self::Corrupt { .. } => true,
            Self::Shared(error) => error.is_about_rows(),
            _ => false,
        }
    }
}

/// A wait for a lock that was too long, or in a circle. (In SQLite all rows share one lock: who cannot have it, can have none.)
fn is_held_row(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        // <https://www.postgresql.org/docs/current/errcodes-appendix.html>: lock_not_available, deadlock_detected,
        // serialization_failure, query_canceled (by statement_timeout)
        return matches!(error.code(), "55P03" | "40P01" | "40001" | "57014");
    }
    if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
        // ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK; the limits of a statement's time: ER_QUERY_TIMEOUT of MySQL,
        // ER_STATEMENT_TIMEOUT of MariaDB
        return matches!(error.number(), 1205 | 1213 | 3024 | 1969);
    }
    false
}
