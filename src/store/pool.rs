//! Connections to a database server, for stores that have one.
//!
//! Not the driver's pool, which tests a connection when it comes back by asking the server, without a bound: a server that is
//! frozen, or a link that is cut, would hold its places for as long as TCP keeps hoping; and on a feed that reads many times a
//! second that is as many statements again. Here a connection comes back only from work that was seen to its end. Whatever
//! else happens to it (an error, a time limit, a caller who went away) it is dropped, which asks the server for nothing: no
//! cancel overtakes a commit, and no half of an answer is read by the next one. And since a lost connection is seldom lost
//! alone, those that rest are dropped with it, unless it is known that the server is well ([`Held::end_alone`]).

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::error::{Outage, StoreError};

/// A database server, and how it is connected to.
pub(super) trait Server: Send + Sync + 'static {
    type Connection: Connection;

    /// One that has rested for longer is not used again: the server, or a firewall on the way to it, may have ended it.
    const REST_AT_MOST: Duration;

    /// A new connection, set up for use. The bound on it is the pool's: see [`connect`].
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, StoreError>> + Send;
}

/// A new connection, with TLS and authentication, or an error within a bound.
pub(super) async fn connect<S: Server>(server: &S) -> Result<S::Connection, StoreError> {
    timeout(CONNECT, server.connect())
        .await
        .unwrap_or(Err(StoreError::Unavailable(Outage::TooSlow(CONNECT))))
}

/// Up to a number of connections; cheap to clone.
pub(super) struct Pool<S: Server> {
    shared: Arc<Shared<S>>,
}

impl<S: Server> Clone for Pool<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

struct Shared<S: Server> {
    server: Arc<S>,
    /// As many as there are when none is taken.
    all: u32,
    places: Arc<Semaphore>,
    resting: Mutex<Vec<Resting<S::Connection>>>,
    /// Held by whoever connects, so that a server that comes back is not met by all at once.
    connecting: tokio::sync::Mutex<BackOff>,
}

struct Resting<C> {
    connection: C,
    since: Instant,
}

impl<S: Server> Pool<S> {
    pub(super) fn new(server: Arc<S>, places: u16) -> Self {
        Self {
            shared: Arc::new(Shared {
                server,
                all: places.into(),
                places: Arc::new(Semaphore::new(places.into())),
                resting: Mutex::default(),
                connecting: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// A connection that rests, or a new one.
    pub(super) async fn take(&self) -> Result<Held<S>, StoreError> {
        let shared = Arc::clone(&self.shared);
        let place = timeout(PLACE_WAIT, Arc::clone(&shared.places).acquire_owned())
            .await
            .map_err(|_| StoreError::Unavailable(Outage::Busy(PLACE_WAIT)))?
            .map_err(|_| StoreError::Unavailable(Outage::Closed))?;
        while let Some(mut resting) = shared.wake_one() {
            let rested = resting.since.elapsed();
            if rested < TRUSTED_FOR
                || rested < S::REST_AT_MOST
                    && matches!(timeout(PING, resting.connection.ping()).await, Ok(Ok(())))
            {
                return Ok(Held::new(resting.connection, shared, place));
            }
            // The others have rested for longer.
            shared.resting().clear();
        }
        let connection = shared.connect().await?;
        Ok(Held::new(connection, shared, place))
    }

    /// Gives out no connection any more, and waits for those that are out.
    pub(super) async fn close(&self) {
        let _ = timeout(CLOSE, self.shared.places.acquire_many(self.shared.all)).await;
        self.shared.places.close();
        let resting = std::mem::take(&mut *self.shared.resting());
        for resting in resting {
            // What is not closed politely is closed by being dropped.
            let _ = timeout(PING, resting.connection.close()).await;
        }
    }
}

impl<S: Server> fmt::Debug for Pool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl<S: Server> Shared<S> {
    async fn connect(&self) -> Result<S::Connection, StoreError> {
        let mut back_off = timeout(CONNECT, self.connecting.lock())
            .await
            .map_err(|_| StoreError::Unavailable(Outage::Busy(CONNECT)))?;
        if let Some(left) = back_off.left() {
            return Err(StoreError::Unavailable(Outage::BackingOff(left)));
        }
        let connected = connect(&*self.server).await;
        back_off.note(connected.is_ok());
        connected
    }

    /// The one that was used last: the others rest on.
    fn wake_one(&self) -> Option<Resting<S::Connection>> {
        self.resting().pop()
    }

    fn resting(&self) -> MutexGuard<'_, Vec<Resting<S::Connection>>> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is in use. Unless it is put back it is dropped, and those that rest with it.
pub(super) struct Held<S: Server> {
    connection: Option<S::Connection>,
    shared: Arc<Shared<S>>,
    _place: OwnedSemaphorePermit,
}

impl<S: Server> Held<S> {
    fn new(connection: S::Connection, shared: Arc<Shared<S>>, place: OwnedSemaphorePermit) -> Self {
        Self {
            connection: Some(connection),
            shared,
            _place: place,
        }
    }

    /// After work that succeeded, and outside of a transaction.
    pub(super) fn put_back(mut self) {
        if let Some(connection) = self.connection.take()
            && !self.shared.places.is_closed()
        {
            self.shared.resting().push(Resting {
                connection,
                since: Instant::now(),
            });
        }
    }

    /// Drops this one only: the server answers, and is to roll back what was left open.
    pub(super) fn end_alone(mut self) {
        drop(self.connection.take());
    }
}

impl<S: Server> Drop for Held<S> {
    fn drop(&mut self) {
        if self.connection.take().is_some() {
            self.shared.resting().clear();
        }
    }
}

impl<S: Server> Deref for Held<S> {
    type Target = S::Connection;

    fn deref(&self) -> &S::Connection {
        self.connection.as_ref().expect("only put_back takes it")
    }
}

impl<S: Server> DerefMut for Held<S> {
    fn deref_mut(&mut self) -> &mut S::Connection {
        self.connection.as_mut().expect("only put_back takes it")
    }
}

/// Longer and longer pauses between tries to connect, as long as they fail.
#[derive(Default)]
struct BackOff {
    failures: u32,
    until: Option<Instant>,
}

impl BackOff {
    fn left(&self) -> Option<Duration> {
        let left = self.until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn note(&mut self, connected: bool) {
        self.failures = if connected { 0 } else { self.failures + 1 };
        self.until = (!connected).then(|| Instant::now() + pause(self.failures));
    }
}

/// After so many failures.
fn pause(failures: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
        .min(LONGEST_PAUSE)
}

/// The whole of an operation, from the wait for a connection on: whatever the server does, or does not do. Longer than the
/// limits that the server is given for a lock and a statement, so that its own answer comes first.
pub(super) async fn bounded<T>(
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(OPERATION, operation)
        .await
        .unwrap_or(Err(StoreError::Unavailable(Outage::TooSlow(OPERATION))))
}

pub(super) const OPERATION: Duration = Duration::from_secs(6);
const PLACE_WAIT: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(3);
const PING: Duration = Duration::from_secs(1);
const CLOSE: Duration = Duration::from_secs(5);
/// A connection that was used so lately is not asked whether it still is one.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// Between tries to connect to a server that cannot be reached: it is not hammered at, and found soon when it is back.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::{Duration, pause};

    #[test]
    fn pauses_grow_to_half_a_second() {
        let millis = |failures| pause(failures).as_millis();
        assert_eq!(
            [1, 2, 3, 4, 5, 6, 99].map(millis),
            [50, 100, 200, 400, 500, 500, 500]
        );
        assert_eq!(pause(u32::MAX), Duration::from_millis(500));
    }
}
