//! Bringing the tables up to date.
//!
//! A change of a table commits by itself, in both databases: there is no transaction around a migration. Instead one process
//! at a time migrates, under a lock of the server by name, and each migration can be run again where it broke off.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, MySqlConnection, query, query_scalar};
use tokio::time::timeout;

use super::errors::classify;
use super::packet::Packet;
use super::{Database, options};
use crate::store::error::{Outage, StoreError};
use crate::store::location::ServerUrl;
use crate::store::migrations::{PendingMigration, not_applied};
use crate::store::pool::connect;

/// What is not applied; changes nothing.
pub(super) async fn pending(url: &ServerUrl) -> Result<Vec<PendingMigration>, StoreError> {
    let mut connection = connect(&database(url)?).await?;
    look(&mut connection).await
}

/// Returns what was applied.
pub(super) async fn migrate(url: &ServerUrl) -> Result<Vec<PendingMigration>, StoreError> {
    let mut connection = connect(&database(url)?).await?;
    let migrated = timeout(LIMIT, apply(&mut connection)).await;
    // What is not closed politely is closed by being dropped, and with it goes the lock.
    let _ = timeout(Duration::from_secs(1), connection.close()).await;
    migrated.unwrap_or(Err(StoreError::Unavailable(Outage::TooSlow(LIMIT))))
}

/// For all changes of large tables, and those of another process before.
const LIMIT: Duration = Duration::from_mins(10);

/// In seconds; the limit of one process and its connection.
const LOCK_WAIT: i64 = 600;

fn database(url: &ServerUrl) -> Result<Database, StoreError> {
    Ok(Database {
        options: options(url)?,
        session,
    })
}

/// Waits for tables that are in use: the previous version goes on while its tables change.
fn session() -> Packet {
    super::session().sql("; SET SESSION lock_wait_timeout = 30, wait_timeout = 600")
}

async fn apply(connection: &mut MySqlConnection) -> Result<Vec<PendingMigration>, StoreError> {
    // Of this database: a server may have several. Ends with the connection.
    let got: Option<i64> =
        query_scalar("SELECT GET_LOCK(CONCAT('portcullis/', LEFT(SHA2(DATABASE(), 256), 40)), ?)")
            .bind(LOCK_WAIT)
            .fetch_one(&mut *connection)
            .await
            .map_err(classify)?;
    if got != Some(1) {
        return Err(StoreError::Unavailable(Outage::TooSlow(LIMIT)));
    }
    forget_broken_off(connection).await?;
    let pending = look(connection).await?;
    migrations()
        .run_direct(None, connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                match classify(source) {
                    unavailable @ StoreError::Unavailable(_) => unavailable,
                    StoreError::Refused(source) => {
                        StoreError::Migration(Box::new(MigrateError::Execute(source)))
                    }
                    other => other,
                }
            }
            other => StoreError::Migration(Box::new(other)),
        })?;
    Ok(pending)
}

async fn look(connection: &mut MySqlConnection) -> Result<Vec<PendingMigration>, StoreError> {
    let rows = if is_noted(connection).await? {
        query("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await
            .map_err(classify)?
    } else {
        Vec::new()
    };
    not_applied(&migrations(), &rows)
}

/// A migration is noted before it runs, and noted as done after. Whoever has the lock may run one again that was not done.
async fn forget_broken_off(connection: &mut MySqlConnection) -> Result<(), StoreError> {
    if !is_noted(connection).await? {
        return Ok(());
    }
    query("DELETE FROM _sqlx_migrations WHERE success = FALSE")
        .execute(connection)
        .await
        .map_err(classify)?;
    Ok(())
}

/// Whether there is a table that says what was applied.
async fn is_noted(connection: &mut MySqlConnection) -> Result<bool, StoreError> {
    let noted = query(
        "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'",
    )
    .fetch_optional(connection)
    .await
    .map_err(classify)?;
    Ok(noted.is_some())
}

fn migrations() -> Migrator {
    let mut migrations = sqlx::migrate!("migrations/mysql");
    // After a roll-back to this version, tables that a newer one has widened are fine.
    migrations.set_ignore_missing(true);
    // The driver would wait for its lock without an end.
    migrations.set_locking(false);
    migrations
}

#[cfg(test)]
mod tests {
    use super::migrations;

    #[test]
    fn all_migrations_are_built_in() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/mysql"));
        assert_eq!(migrations().iter().count(), files.unwrap().count());
    }
}
