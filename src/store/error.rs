//! What can go wrong with the store, by what the caller should do about it.

use std::io;
use std::path::PathBuf;

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
}

impl StoreError {
    /// Whether the same call may succeed later, so that a client is told to come again (503).
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
