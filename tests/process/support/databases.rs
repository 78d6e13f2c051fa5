//! New databases on the servers that `scripts/databases` has started.

use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, raw_sql};

/// The URL of a new one of MariaDB.
pub fn mysql_database() -> String {
    new_database("PORTCULLIS_TEST_MARIADB", async |server, create| {
        let options = server.parse::<MySqlConnectOptions>().unwrap();
        raw_sql(create)
            .execute(&mut options.connect().await.unwrap())
            .await
            .unwrap();
    })
}

/// The URL of a new one of PostgreSQL.
pub fn postgres_database() -> String {
    new_database("PORTCULLIS_TEST_POSTGRES", async |server, create| {
        let options = server.parse::<PgConnectOptions>().unwrap();
        raw_sql(create)
            .execute(&mut options.connect().await.unwrap())
            .await
            .unwrap();
    })
}

fn new_database(variable: &str, create: impl AsyncFnOnce(&str, AssertSqlSafe<String>)) -> String {
    let server = server_url(variable);
    let random = portcullis::session::SessionHandle::random();
    let name: String = random
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let name = format!("portcullis_{name}");
    block_on(create(
        &server,
        AssertSqlSafe(format!("CREATE DATABASE {name}")),
    ));
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(work)
}

fn server_url(variable: &str) -> String {
    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.test/databases/env");
    let text = std::fs::read_to_string(FILE).unwrap_or_default();
    std::env::var(variable)
        .ok()
        .or_else(|| {
            Some(
                text.lines()
                    .find_map(|line| line.strip_prefix(variable)?.strip_prefix('='))?
                    .to_owned(),
            )
        })
        .unwrap_or_else(|| {
            panic!("there is no {variable}: run ./scripts/databases up before the tests")
        })
}
