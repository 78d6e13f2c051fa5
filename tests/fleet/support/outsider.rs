//! Somebody who works on the database by hand, beside the gateways.

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, PgConnection, Row,
    SqliteConnection, raw_sql,
};
use tokio::runtime::Handle;

use super::fleet::Fleet;
use super::server::Kind;

/// A connection past all links; what it holds it lets go when dropped.
pub struct Outsider<'f> {
    runtime: &'f Handle,
    connection: Option<Either>,
}

enum Either {
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
    Sqlite(SqliteConnection),
}

impl<'f> Outsider<'f> {
    pub fn of(fleet: &'f Fleet) -> Self {
        let (kind, url) = {
            let server = fleet.server();
            (server.kind(), server.url(server.address()))
        };
        let runtime = fleet.runtime.handle();
        let connection = runtime.block_on(async {
            match kind {
                Kind::Postgres => {
                    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
                    Either::Postgres(options.connect().await.unwrap())
                }
                Kind::MariaDb => {
                    let options: sqlx::mysql::MySqlConnectOptions = url.parse().unwrap();
                    Either::MariaDb(options.connect().await.unwrap())
                }
                Kind::Sqlite => Either::Sqlite(SqliteConnection::connect(&url).await.unwrap()),
            }
        });
        Self {
            runtime,
            connection: Some(connection),
        }
    }

    pub fn run(&mut self, statements: &str) {
        let statements = AssertSqlSafe(statements.to_owned());
        self.runtime.block_on(async {
            match self.connection.as_mut().unwrap() {
                Either::Postgres(connection) => {
                    raw_sql(statements).execute(connection).await.unwrap();
                }
                Either::MariaDb(connection) => {
                    raw_sql(statements).execute(connection).await.unwrap();
                }
                Either::Sqlite(connection) => {
                    raw_sql(statements).execute(connection).await.unwrap();
                }
            }
        });
    }

    /// The one number that a query gives, as text.
    pub fn number(&mut self, query: &str) -> u64 {
        let query = AssertSqlSafe(query.to_owned());
        let text: String = self.runtime.block_on(async {
            match self.connection.as_mut().unwrap() {
                Either::Postgres(connection) => {
                    let row = raw_sql(query).fetch_one(connection).await.unwrap();
                    row.get(0)
                }
                Either::MariaDb(connection) => {
                    let row = raw_sql(query).fetch_one(connection).await.unwrap();
                    row.get(0)
                }
                Either::Sqlite(connection) => {
                    let row = raw_sql(query).fetch_one(connection).await.unwrap();
                    row.get(0)
                }
            }
        });
        text.parse().unwrap()
    }

    /// The rows that a query gives.
    pub fn count(&mut self, query: &str) -> usize {
        let query = AssertSqlSafe(query.to_owned());
        self.runtime.block_on(async {
            match self.connection.as_mut().unwrap() {
                Either::Postgres(connection) => {
                    raw_sql(query).fetch_all(connection).await.unwrap().len()
                }
                Either::MariaDb(connection) => {
                    raw_sql(query).fetch_all(connection).await.unwrap().len()
                }
                Either::Sqlite(connection) => {
                    raw_sql(query).fetch_all(connection).await.unwrap().len()
                }
            }
        })
    }
}

impl Drop for Outsider<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = self.runtime.block_on(async {
                match connection {
                    Either::Postgres(connection) => connection.close().await,
                    Either::MariaDb(connection) => connection.close().await,
                    Either::Sqlite(connection) => connection.close().await,
                }
            });
        }
    }
}
