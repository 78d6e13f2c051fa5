//! What is particular to MySQL and MariaDB.

mod faults;
mod locks;
mod log;
pub mod server;
mod setup;

use portcullis::session::SessionHandle;
use portcullis::store::SessionStore;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, raw_sql};

/// A database of its own on a server, for one test.
pub struct Database {
    name: String,
    server: String,
}

impl Database {
    /// On the server that `scripts/databases` has started.
    pub async fn new() -> Self {
        Self::on(&crate::support::server_url("PORTCULLIS_TEST_MARIADB")).await
    }

    /// On the server of this URL.
    pub async fn on(server: &str) -> Self {
        let random = SessionHandle::random();
        let name: String = random
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let database = Self {
            name: format!("portcullis_{name}"),
            server: server.to_owned(),
        };
        let mut administrator = database.connect_to(server).await;
        run(
            &mut administrator,
            &format!("CREATE DATABASE {}", database.name),
        )
        .await;
        administrator.close().await.unwrap();
        database
    }

    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    pub async fn open(&self) -> SessionStore {
        SessionStore::open(&self.url()).await.unwrap()
    }

    /// As another program would.
    pub async fn connect(&self) -> MySqlConnection {
        self.connect_to(&self.url()).await
    }

    async fn connect_to(&self, url: &str) -> MySqlConnection {
        url.parse::<MySqlConnectOptions>()
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    /// With the tables and what is in them.
    pub async fn remove(self) {
        let mut administrator = self.connect_to(&self.server).await;
        run(&mut administrator, &format!("DROP DATABASE {}", self.name)).await;
    }
}

/// Statements of another program.
pub async fn run(connection: &mut MySqlConnection, sql: &str) {
    raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .unwrap();
}

/// The number that a statement of another program gives.
pub async fn number(connection: &mut MySqlConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap()
}
