//! Where the sessions of a case are: in the file that is the default, or in a PostgreSQL that its replicas share.

use std::cell::Cell;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row, raw_sql};
use tokio::runtime::Runtime;

use crate::support::databases::postgres_database;
use crate::support::{Home, PATIENCE};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

thread_local! {
    static CURRENT: Cell<Database> = const { Cell::new(Database::Sqlite) };
}

impl Database {
    pub const ALL: &[Self] = &[Self::Sqlite, Self::Postgres];

    /// What the worlds of this thread use from now on.
    pub fn choose(self) {
        CURRENT.set(self);
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// The store of one world.
pub enum Store {
    /// In the folder of the configuration, as it is when nothing is said.
    File,
    Postgres {
        url: String,
    },
}

impl Store {
    /// An empty one, of the kind that was chosen.
    pub fn new() -> Self {
        match CURRENT.get() {
            Database::Sqlite => Self::File,
            Database::Postgres => Self::Postgres {
                url: postgres_database(),
            },
        }
    }

    /// What the configuration says of it.
    pub fn section(&self) -> String {
        match self {
            Self::File => String::new(),
            Self::Postgres { url } => format!("[store]\nurl = \"{url}\"\n"),
        }
    }

    pub fn url(&self, home: &Home) -> String {
        match self {
            Self::File => format!("sqlite:{}", home.path("portcullis.db").display()),
            Self::Postgres { url } => url.clone(),
        }
    }

    /// Runs statements as somebody else, all of them or none.
    pub fn execute(&self, home: &Home, statements: &str) {
        let mut session = Session::open(self, home);
        let begin = session.begin();
        session.execute(&format!("{begin}; {statements}; COMMIT"));
    }

    /// The one number that a query gives.
    pub fn count(&self, home: &Home, query: &str) -> i64 {
        let query = AssertSqlSafe(query.to_owned());
        let Session {
            runtime,
            connection,
        } = Session::open(self, home);
        match connection {
            Connected::File(mut file) => {
                let row = runtime.block_on(raw_sql(query).fetch_one(&mut file));
                row.unwrap().get(0)
            }
            Connected::Postgres(mut server) => {
                let row = runtime.block_on(raw_sql(query).fetch_one(&mut server));
                row.unwrap().get(0)
            }
        }
    }

    /// Lets nobody write until it is dropped.
    pub fn locked(&self, home: &Home) -> impl Drop {
        let mut session = Session::open(self, home);
        session.execute(session.begin());
        if let Self::Postgres { .. } = self {
            session.execute(
                "LOCK TABLE session, revocation, revocation_head, replica IN EXCLUSIVE MODE",
            );
        }
        Lock(Some(session))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Self::Postgres { url } = self {
            remove(url);
        }
    }
}

/// Whoever still uses it.
fn remove(url: &str) {
    let (_, name) = url.rsplit_once('/').unwrap();
    let statement = AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
    let options: PgConnectOptions = url.parse().unwrap();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap().block_on(async {
        let beside = options.database("postgres");
        let mut connection = beside.connect().await.unwrap();
        raw_sql(statement).execute(&mut connection).await.unwrap();
    });
}

/// A connection of its own.
struct Session {
    runtime: Runtime,
    connection: Connected,
}

enum Connected {
    File(SqliteConnection),
    Postgres(PgConnection),
}

impl Session {
    fn open(store: &Store, home: &Home) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().unwrap();
        let connection = match store {
            Store::File => {
                let options = SqliteConnectOptions::new()
                    .filename(home.path("portcullis.db"))
                    .busy_timeout(PATIENCE);
                Connected::File(runtime.block_on(options.connect()).unwrap())
            }
            Store::Postgres { url } => {
                let options: PgConnectOptions = url.parse().unwrap();
                Connected::Postgres(runtime.block_on(options.connect()).unwrap())
            }
        };
        Self {
            runtime,
            connection,
        }
    }

    fn begin(&self) -> &'static str {
        match self.connection {
            // Waits for its turn instead of failing half way.
            Connected::File(_) => "BEGIN IMMEDIATE",
            Connected::Postgres(_) => "BEGIN",
        }
    }

    fn execute(&mut self, statements: &str) {
        let statements = raw_sql(AssertSqlSafe(statements.to_owned()));
        match &mut self.connection {
            Connected::File(file) => {
                self.runtime.block_on(statements.execute(file)).unwrap();
            }
            Connected::Postgres(server) => {
                self.runtime.block_on(statements.execute(server)).unwrap();
            }
        }
    }
}

struct Lock(Option<Session>);

impl Drop for Lock {
    fn drop(&mut self) {
        let Some(session) = self.0.take() else {
            return;
        };
        // Ends its transaction with it.
        let _ = match session.connection {
            Connected::File(file) => session.runtime.block_on(file.close()),
            Connected::Postgres(server) => session.runtime.block_on(server.close()),
        };
    }
}
