//! What an error of MySQL or MariaDB means for the caller.
//!
//! By its number (<https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>,
//! <https://mariadb.com/kb/en/mariadb-error-code-reference/>): what is about the server's state may pass, what is about a
//! statement or the tables does not.

use sqlx::mysql::MySqlDatabaseError;

use crate::store::error::{Outage, StoreError};

pub(super) fn classify(error: sqlx::Error) -> StoreError {
    let Some(number) = number(&error) else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => {
                StoreError::Unavailable(Outage::Lost(error))
            }
            // The driver without its RSA feature: MySQL would take the password over TLS only.
            sqlx::Error::Configuration(_) => StoreError::Unavailable(Outage::LoginRefused(error)),
            _ => StoreError::Refused(error),
        };
    };
    match outage(number) {
        Some(outage) => StoreError::Unavailable(outage(error)),
        None => StoreError::Refused(error),
    }
}

/// The whole transaction was rolled back, because another one and it waited for each other.
pub(super) fn is_deadlock(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Unavailable(Outage::RowHeld(error)) if number(error) == Some(ER_LOCK_DEADLOCK)
    )
}

/// The statement failed and nothing else: the connection may go on.
pub(super) fn leaves_the_connection_usable(error: &sqlx::Error) -> bool {
    matches!(
        number(error),
        Some(ER_LOCK_WAIT_TIMEOUT | ER_LOCK_DEADLOCK | ER_DUP_ENTRY)
    )
}

fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?;
    Some(error.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

const ER_DUP_ENTRY: u16 = 1062;
const ER_LOCK_WAIT_TIMEOUT: u16 = 1205;
const ER_LOCK_DEADLOCK: u16 = 1213;

fn outage(number: u16) -> Option<fn(sqlx::Error) -> Outage> {
    match number {
        // Of a row; of a table's definition, which somebody changes
        ER_LOCK_WAIT_TIMEOUT | ER_LOCK_DEADLOCK => Some(Outage::RowHeld),
        // The server, the session, InnoDB
        1290 | 1792 | 1836 | 1874 => Some(Outage::ReadOnly),
        // Of the disk, of a table, of an engine, of memory
        1021 | 1026 | 1114 => Some(Outage::DiskFull),
        // Of all, of this account, of this host
        1040 | 1129 | 1203 | 1226 => Some(Outage::TooManyConnections),
        // Database, account, password, privileges for the database
        1044 | 1045 | 1049 | 1130 | 1698 | 3118 | 3955 | 4151 => Some(Outage::LoginRefused),
        // Not a part of its cluster, stopping, offline; MariaDB and MySQL
        1047 | 1053 | 1077 | 1079 | 1080 | 3032 | 3168 => Some(Outage::NotReady),
        // Out of memory, a commit that the disk refused, Group Replication, limits of a statement's time, statements and
        // connections that somebody ended or that were idle for too long, broken networks
        1030
        | 1037
        | 1038
        | 1041
        | 1152
        | 1158..=1161
        | 1180
        | 1184
        | 1317
        | 1927
        | 1969
        | 3024
        | 3100
        | 3101
        | 3169
        | 4031 => Some(Outage::Lost),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::outage;

    #[test]
    fn the_surroundings_are_temporary_and_the_statement_is_not() {
        for number in [1040, 1205, 1213, 1290, 1836, 1053, 1021, 1045] {
            assert!(outage(number).is_some(), "{number}");
        }
        // No such table, a syntax error, no privilege for a table, a packet too large, a duplicate, a value too long
        for number in [1146, 1064, 1142, 1153, 1062, 1406] {
            assert!(outage(number).is_none(), "{number}");
        }
    }
}
