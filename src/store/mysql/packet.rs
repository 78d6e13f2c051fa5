//! Several statements that are sent as one, so that between them nobody waits for this process.
//!
//! What is put into it are texts of this program, numbers and bytes of a fixed length as hexadecimal literals: the types
//! let nothing else in, so there is nothing that would have to be escaped.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::session::SessionHandle;

/// Statements on their way.
pub(super) struct Packet(String);

impl Packet {
    pub(super) fn new(sql: &'static str) -> Self {
        Self(sql.to_owned())
    }

    pub(super) fn sql(mut self, sql: &'static str) -> Self {
        self.0.push_str(sql);
        self
    }

    pub(super) fn number(mut self, number: i64) -> Self {
        write!(self.0, "{number}").expect("a String takes all that is written");
        self
    }

    pub(super) fn bytes<const N: usize>(mut self, bytes: &[u8; N]) -> Self {
        const { assert!(N > 0, "an empty literal is written as ''") };
        self.0.push_str("0x");
        for byte in bytes {
            write!(self.0, "{byte:02X}").expect("a String takes all that is written");
        }
        self
    }

    /// With commas between them; there must be one.
    pub(super) fn handles<'h>(self, handles: impl Iterator<Item = &'h SessionHandle>) -> Self {
        handles.enumerate().fold(self, |packet, (at, handle)| {
            let packet = if at == 0 { packet } else { packet.sql(", ") };
            packet.bytes(handle.as_bytes())
        })
    }

    pub(super) fn append(mut self, other: Self) -> Self {
        self.0.push_str(&other.0);
        self
    }

    pub(super) fn into_sql(self) -> SqlStr {
        AssertSqlSafe(self.0).into_sql_str()
    }
}

#[cfg(test)]
mod tests {
    use super::Packet;
    use crate::session::SessionHandle;

    #[test]
    fn literals_are_hexadecimal_and_numbers() {
        let handles = [[0; 16], [0x27; 16]].map(SessionHandle::from_bytes);
        let packet = Packet::new("DELETE FROM session WHERE handle IN (")
            .handles(handles.iter())
            .sql(") AND expires_at < ")
            .number(-5);
        assert_eq!(
            packet.0,
            "DELETE FROM session WHERE handle IN (0x00000000000000000000000000000000, \
             0x27272727272727272727272727272727) AND expires_at < -5"
        );
    }
}
