//! What can go wrong with the store, by what the caller should do about it.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// An operation of the store that did not happen, or of which it is not known whether it did.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Busy, full, read-only, or not reachable: nothing is wrong with the request, which may be tried again.
    #[error("cannot reach the session store")]
    Unavailable(#[source] Outage),
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
    /// It was opened with the word that somebody else brings its tables up to date.
    #[error(
        "the tables of the session store are not up to date (missing: {missing}): run `portcullis migrate` as a user who may change them, or set store.migrate = true"
    )]
    NotMigrated { missing: String },
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
    #[error("not a store URL: expected {expected}")]
    Url { expected: Cow<'static, str> },
    /// Sessions are moved into a store that nobody has used.
    #[error("the store to move to is in use: it has keys, sessions or revocations already")]
    NotEmpty,
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
            Self::Unavailable(outage) => matches!(outage, Outage::RowHeld(_)),
            Self::Refused(_) | Self::Corrupt { .. } => true,
            Self::Shared(error) => error.is_about_rows(),
            _ => false,
        }
    }
}

/// Why the store cannot be reached now, as an operator has to know it.
#[derive(Debug, Error)]
pub enum Outage {
    #[error("the database takes no writes: is it a standby, or the former primary of a failover?")]
    ReadOnly(#[source] sqlx::Error),
    #[error("the database has no room left on its disk")]
    DiskFull(#[source] sqlx::Error),
    #[error("the database takes no more connections: raise its limit")]
    TooManyConnections(#[source] sqlx::Error),
    #[error("the database is starting, stopping or recovering")]
    NotReady(#[source] sqlx::Error),
    /// A wait for a lock that was too long, or in a circle.
    #[error("somebody has held a row of the database for too long")]
    RowHeld(#[source] sqlx::Error),
    /// In SQLite all rows share one lock: who cannot have it, can have none.
    #[error("another process has held the lock of the database file for too long")]
    FileLocked(#[source] sqlx::Error),
    #[error("cannot log in to the database: check the user, the password and the name in the URL")]
    LoginRefused(#[source] sqlx::Error),
    #[error("the database did not answer within {0:?}")]
    TooSlow(Duration),
    #[error("all connections to the database were in use for {0:?}")]
    Busy(Duration),
    #[error("the last try to connect to the database has just failed; the next is due in {0:?}")]
    BackingOff(Duration),
    #[error("the store has been closed")]
    Closed,
    #[error("the connection to the database has failed")]
    Lost(#[source] sqlx::Error),
}
