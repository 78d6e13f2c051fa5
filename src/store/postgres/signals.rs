//! News of the log, told and heard by `NOTIFY` and `LISTEN`: who hears it reads the log at once instead of at its next poll.
//!
//! It is a wake-up and no more. What is told comes after the commit, in a transaction of its own, so that the lock that orders
//! notifications is never part of a logout; and whoever misses it reads the same log a poll later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Executor, raw_sql};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Database, classify};
use crate::store::error::StoreError;
use crate::store::pool::{Pool, bounded};

const CHANNEL: &str = "portcullis_revocation";

/// Tells everybody, once for all that happens while it tells; ends when it is dropped.
pub(super) struct Announcer {
    due: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Announcer {
    pub(super) fn start(pool: Pool<Database>) -> Self {
        let due = Arc::new(Notify::new());
        let task = tokio::spawn({
            let due = Arc::clone(&due);
            async move {
                loop {
                    due.notified().await;
                    // Who did not hear it polls.
                    let _ = bounded(announce(&pool)).await;
                }
            }
        });
        Self { due, task }
    }

    /// After a commit. Returns at once.
    pub(super) fn announce(&self) {
        self.due.notify_one();
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nothing of it need be durable.
async fn announce(pool: &Pool<Database>) -> Result<(), StoreError> {
    let mut held = pool.take().await?;
    raw_sql("BEGIN; SET LOCAL synchronous_commit = off; NOTIFY portcullis_revocation; COMMIT")
        .execute(&mut *held)
        .await
        .map_err(classify)?;
    held.put_back();
    Ok(())
}

/// Hears, on a connection of its own; ends when it is dropped.
#[derive(Debug)]
pub struct Listener {
    heard: Arc<Heard>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Heard {
    news: Notify,
    listening: AtomicBool,
}

impl Listener {
    pub(super) fn start(database: Arc<Database>) -> Self {
        let heard = Arc::<Heard>::default();
        let task = tokio::spawn({
            let heard = Arc::clone(&heard);
            async move {
                loop {
                    // Why it ended is told by the feed, whose reads fail as well, or is of no consequence.
                    let _ = listen(&database, &heard).await;
                    heard.listening.store(false, Ordering::Release);
                    sleep(PAUSE).await;
                }
            }
        });
        Self { heard, task }
    }

    /// Returns when there may be news since the last time that it returned. May be dropped and called again.
    pub async fn heard(&self) {
        self.heard.news.notified().await;
    }

    /// Whether news are heard, as far as is known.
    pub fn is_listening(&self) -> bool {
        self.heard.listening.load(Ordering::Acquire)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until the connection is lost.
async fn listen(database: &Database, heard: &Heard) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ANSWER)
        .connect_lazy_with(database.options.clone());
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    answered(listener.listen(CHANNEL)).await?;
    heard.listening.store(true, Ordering::Release);
    // What was told before is in the log.
    heard.news.notify_one();
    loop {
        match timeout(SILENCE, listener.try_recv()).await {
            Ok(Ok(Some(_))) => heard.news.notify_one(),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            // A link that was cut without a word is as silent as one without news.
            Err(_) => {
                answered(listener.execute("SELECT 1")).await?;
            }
        }
    }
}

async fn answered<T>(
    asked: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    timeout(ANSWER, asked)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

const ANSWER: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(500);
