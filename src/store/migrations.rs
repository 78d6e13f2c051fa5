//! What a version of this program wants of the tables and does not find.
//!
//! Migrations widen first and narrow in a later version, so that the version before runs on beside the new one.

use std::fmt;

use sqlx::migrate::Migrator;

use super::error::StoreError;
use super::rows::{Columns, Row};

/// A change of the tables that has not been made yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingMigration {
    /// They are made in the order of their numbers.
    pub number: i64,
    pub name: String,
}

impl fmt::Display for PendingMigration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04} {}", self.number, self.name)
    }
}

/// Of a store that is opened as it is.
pub(super) fn refuse(pending: &[PendingMigration]) -> Result<(), StoreError> {
    if pending.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = pending.iter().map(ToString::to_string).collect();
    Err(StoreError::NotMigrated {
        missing: missing.join(", "),
    })
}

/// Those that were not applied, or in other words. `applied` are rows with `version` and `checksum`.
pub(super) fn not_applied<R: Columns>(
    migrations: &Migrator,
    applied: &[R],
) -> Result<Vec<PendingMigration>, StoreError> {
    let mut known = Vec::with_capacity(applied.len());
    for row in applied {
        let row = Row::new(row, "_sqlx_migrations", "version");
        known.push((row.number::<i64>("version")?, row.bytes("checksum")?));
    }
    Ok(migrations
        .iter()
        .filter(|migration| !known.contains(&(migration.version, &*migration.checksum)))
        .map(|migration| PendingMigration {
            number: migration.version,
            name: migration.description.to_string(),
        })
        .collect())
}
