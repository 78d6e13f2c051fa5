//! Connections to a MySQL or MariaDB server, kept, and given up at the first doubt.
//!
//! sqlx's own pool asks the server after every operation whether it is still there: on a feed that reads twenty times a
//! second that is as many statements again, and where a network swallows packets it waits without a bound for an answer.
//! Here a connection goes back only if what was done with it was seen to its end; all others are dropped, and the server
//! rolls back what they left open. Every step has the bound of its operation.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlRow};
use sqlx::query::Query;
use sqlx::{ConnectOptions, Connection as _, Executor, MySql, MySqlConnection, raw_sql};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};

use super::errors::{classify, leaves_the_connection_usable};
use super::packet::Packet;
use crate::store::error::{Outage, StoreError};

/// At most so many connections for one purpose; cheap to clone.
#[derive(Clone)]
pub(super) struct Connections(Arc<Shared>);

/// A connection that is in use. Dropped, it is kept for others, unless a step of it was left or failed, or a transaction is
/// open.
pub(super) struct Connection {
    /// Always there but while it is dropped.
    raw: Option<MySqlConnection>,
    home: Arc<Shared>,
    until: Instant,
    /// In the middle of a step, or failed in a way that may concern more than a statement.
    in_doubt: bool,
    /// In the middle of a transaction.
    open: bool,
    /// Given back after the connection.
    _permit: OwnedSemaphorePermit,
}

struct Shared {
    options: MySqlConnectOptions,
    /// What a connection is set to before it is used.
    session: fn() -> Packet,
    most: u32,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Used last, taken first.
    idle: Vec<(MySqlConnection, Instant)>,
    failure: Option<Failure>,
}

/// Of the last try to connect.
#[derive(Clone, Copy)]
struct Failure {
    pause: Duration,
    next_try: Instant,
}

/// For a connection that is free.
const WAIT: Duration = Duration::from_secs(2);
/// For a new connection, with TLS and authentication.
const CONNECT: Duration = Duration::from_secs(3);
/// For all steps of an operation: the longest wait for a lock, and a disk that is slow.
const OPERATION: Duration = Duration::from_secs(5);
/// Below the `wait_timeout` that ends an idle connection on the server's side.
const IDLE_AT_MOST: Duration = Duration::from_secs(8);
/// One that was used within this time is not asked whether it still works.
const FRESH: Duration = Duration::from_secs(1);
const PING: Duration = Duration::from_secs(1);
/// Between tries to connect to a server that cannot be reached.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Connections {
    pub(super) fn new(options: &MySqlConnectOptions, most: u32, session: fn() -> Packet) -> Self {
        Self(Arc::new(Shared {
            options: options.clone(),
            session,
            most,
            permits: Arc::new(Semaphore::new(most as usize)),
            state: Mutex::default(),
        }))
    }

    /// One for one operation, whose time begins now.
    pub(super) async fn get(&self) -> Result<Connection, StoreError> {
        let permit = timeout(WAIT, Arc::clone(&self.0.permits).acquire_owned())
            .await
            .map_err(|_| StoreError::Unavailable(Outage::Busy(WAIT)))?
            .map_err(|_| StoreError::Unavailable(Outage::Closed))?;
        let raw = match self.0.kept().await {
            Some(raw) => raw,
            None => self.0.connect().await?,
        };
        Ok(Connection {
            raw: Some(raw),
            home: Arc::clone(&self.0),
            until: Instant::now() + OPERATION,
            in_doubt: false,
            open: false,
            _permit: permit,
        })
    }

    /// After the operations that run.
    pub(super) async fn close(&self) {
        // Those that run end by themselves within their bound.
        if let Ok(Ok(permits)) = timeout(OPERATION, self.0.permits.acquire_many(self.0.most)).await
        {
            permits.forget();
        }
        self.0.permits.close();
        let idle = std::mem::take(&mut self.0.state().idle);
        for (raw, _) in idle {
            // What is not closed politely is closed by being dropped.
            let _ = timeout(PING, raw.close()).await;
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn kept(&self) -> Option<MySqlConnection> {
        let (mut raw, since) = self.state().idle.pop()?;
        let idle_for = since.elapsed();
        if idle_for < FRESH {
            return Some(raw);
        }
        if idle_for < IDLE_AT_MOST && matches!(timeout(PING, raw.ping()).await, Ok(Ok(()))) {
            return Some(raw);
        }
        // The others have been idle for longer.
        self.state().idle.clear();
        None
    }

    async fn connect(&self) -> Result<MySqlConnection, StoreError> {
        let last = self.state().failure;
        let due_in = last.map(|failure| failure.next_try.duration_since(Instant::now()));
        if let Some(due_in) = due_in.filter(|due_in| !due_in.is_zero()) {
            return Err(StoreError::Unavailable(Outage::BackingOff(due_in)));
        }
        let connected = connect(&self.options, self.session).await;
        self.state().failure = match connected {
            Ok(_) => None,
            Err(_) => Some(Failure::after(last)),
        };
        connected
    }
}

/// A new connection, set up as `session` says.
pub(super) async fn connect(
    options: &MySqlConnectOptions,
    session: fn() -> Packet,
) -> Result<MySqlConnection, StoreError> {
    let connected = timeout(CONNECT, async {
        let mut raw = options.connect().await?;
        raw.execute(raw_sql(session().into_sql())).await?;
        Ok(raw)
    });
    match connected.await {
        Ok(connected) => connected.map_err(classify),
        Err(_) => Err(StoreError::Unavailable(Outage::TooSlow(CONNECT))),
    }
}

impl Failure {
    fn after(before: Option<Self>) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |before| (before.pause * 2).min(LONGEST_PAUSE));
        Self {
            pause,
            next_try: Instant::now() + pause,
        }
    }
}

impl Connection {
    pub(super) async fn fetch_all(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<Vec<MySqlRow>, StoreError> {
        let until = self.until;
        let done = timeout_at(until, query.fetch_all(self.begin_step())).await;
        self.end_step(done)
    }

    /// Of a statement that gives one row at most.
    pub(super) async fn fetch_optional(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<Option<MySqlRow>, StoreError> {
        // Not sqlx's own, which leaves the rest of the answer to be read by the next statement.
        Ok(self.fetch_all(query).await?.pop())
    }

    /// Returns the number of rows that the statement found.
    pub(super) async fn execute(
        &mut self,
        query: Query<'_, MySql, MySqlArguments>,
    ) -> Result<u64, StoreError> {
        let until = self.until;
        let done = timeout_at(until, query.execute(self.begin_step())).await;
        Ok(self.end_step(done)?.rows_affected())
    }

    /// All statements, or those up to the first that fails; the rows of all of them.
    pub(super) async fn send(&mut self, packet: Packet) -> Result<Vec<MySqlRow>, StoreError> {
        let until = self.until;
        let statements = raw_sql(packet.into_sql());
        let done = timeout_at(until, statements.fetch_all(self.begin_step())).await;
        self.end_step(done)
    }

    /// As [`Self::send`], for statements that give no rows; returns how many they found.
    pub(super) async fn change(&mut self, packet: Packet) -> Result<u64, StoreError> {
        let until = self.until;
        let statements = raw_sql(packet.into_sql());
        let done = timeout_at(until, statements.execute(self.begin_step())).await;
        Ok(self.end_step(done)?.rows_affected())
    }

    /// The time of the operation begins anew.
    pub(super) fn extend(&mut self) {
        self.until = Instant::now() + OPERATION;
    }

    /// From now on it is not kept, unless [`Self::finished`].
    pub(super) fn unfinished(&mut self) {
        self.open = true;
    }

    /// Committed, or rolled back.
    pub(super) fn finished(&mut self) {
        self.open = false;
    }

    /// If the step is left before its end, it is not known what the server says next.
    fn begin_step(&mut self) -> &mut MySqlConnection {
        self.in_doubt = true;
        self.raw
            .as_mut()
            .expect("a connection is there until it is dropped")
    }

    fn end_step<T>(
        &mut self,
        done: Result<Result<T, sqlx::Error>, Elapsed>,
    ) -> Result<T, StoreError> {
        let error = match done {
            Ok(Ok(value)) => {
                self.in_doubt = false;
                return Ok(value);
            }
            Ok(Err(error)) => error,
            Err(_) => return Err(StoreError::Unavailable(Outage::TooSlow(OPERATION))),
        };
        self.in_doubt = !leaves_the_connection_usable(&error);
        if matches!(error, sqlx::Error::Io(_)) {
            // What has broken this one has most likely broken the others.
            self.home.state().idle.clear();
        }
        Err(classify(error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.in_doubt || self.open || self.home.permits.is_closed() {
            return;
        }
        if let Some(raw) = self.raw.take() {
            self.home.state().idle.push((raw, Instant::now()));
        }
    }
}
