//! One worker's connections to one upstream server: those in HTTP/1.1 that wait for a request, those in HTTP/2 that have room
//! for one, and how many there may be.
//!
//! The connection that rested shortest is used first, so that under light load the others age and go. Since connections
//! come back in the order of time, the oldest are always at the front, and dropping them costs nothing extra.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::http1::Connection;
use super::multiplexed::{Multiplexed, Stream};
use super::servers::Server;
use super::settings::{HttpVersion, UpstreamSettings};
use super::slots::{Slot, Slots};
use crate::clock::{BootTime, Clock};

#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
    multiplexed: RefCell<Vec<Rc<Multiplexed>>>,
    pub slots: Rc<Slots>,
    /// While a connection may turn out to be one for many requests, the others wait for it.
    opening: Cell<bool>,
    speaks: Cell<Speaks>,
    idle_limit: usize,
    idle_timeout: Duration,
    /// Drops connections that die while they rest; begins with the first that does.
    keeper: OnceCell<Keeper>,
    pub clock: Clock,
}

/// A task that looks at the resting connections when something has happened to one.
#[derive(Debug)]
struct Keeper {
    task: JoinHandle<()>,
    waker: Waker,
}

impl Keeper {
    fn start(pool: &Rc<Pool>) -> Self {
        let bell = Arc::new(Bell(Notify::new()));
        let (pool, waker) = (Rc::downgrade(pool), Waker::from(Arc::clone(&bell)));
        let task = tokio::task::spawn_local(async move {
            loop {
                bell.0.notified().await;
                let Some(pool) = pool.upgrade() else { return };
                pool.drop_dead();
            }
        });
        Self { task, waker }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

#[derive(Debug)]
struct Idle {
    connection: Box<Connection>,
    since: BootTime,
}

/// What is known of the server's HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
    Unknown,
}

/// With what a request goes out.
pub(super) enum Turn {
    Reused(Box<Connection>),
    Stream(Stream),
    /// There is room for a connection.
    Open(Opening),
}

/// A connection that is about to be opened.
pub(super) struct Opening {
    slot: Option<Slot>,
    /// The pool whose others wait for it.
    awaited: Option<Rc<Pool>>,
}

impl Opening {
    /// The place of the connection, which is taken once.
    pub fn take_slot(&mut self) -> Option<Slot> {
        self.slot.take()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(pool) = &self.awaited {
            pool.opening.set(false);
            pool.slots.wake_all();
        }
    }
}

/// Which connections will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// HTTP/1.1, whatever the server speaks else.
    pub http1: bool,
    /// None that waited in the pool: the last one that did was dead.
    pub fresh: bool,
}

impl Pool {
    pub fn new(settings: &UpstreamSettings, clock: Clock) -> Self {
        Self {
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            slots: Rc::new(Slots::new(settings.connections, settings.waiting)),
            opening: Cell::new(false),
            speaks: Cell::new(match settings.http {
                HttpVersion::Http1 => Speaks::Http1,
                HttpVersion::Http2 => Speaks::Http2,
                HttpVersion::Auto => Speaks::Unknown,
            }),
            idle_limit: settings.idle_connections,
            idle_timeout: settings.idle_timeout,
            keeper: OnceCell::new(),
            clock,
        }
    }

    /// What can be had at once.
    pub fn turn_now(self: &Rc<Self>, server: &Server, wanted: Wanted) -> Option<Turn> {
        if self.slots.waiting() > 0 {
            return None;
        }
        self.try_turn(server, wanted)
    }

    /// The same, after those who wait already. `None`: too many do, or it takes too long.
    pub async fn turn(
        self: &Rc<Self>,
        server: &Server,
        wanted: Wanted,
        limit: Duration,
    ) -> Option<Turn> {
        let waiting = self.slots.begin_to_wait()?;
        let deadline = Instant::now() + limit;
        loop {
            let freed = waiting.freed();
            if let Some(turn) = self.try_turn(server, wanted) {
                return Some(turn);
            }
            timeout_at(deadline, freed).await.ok()?;
        }
    }

    fn try_turn(self: &Rc<Self>, server: &Server, wanted: Wanted) -> Option<Turn> {
        let speaks = match wanted.http1 {
            true => Speaks::Http1,
            false => self.speaks.get(),
        };
        if speaks != Speaks::Http1
            && let Some(stream) = self.stream(server)
        {
            return Some(Turn::Stream(stream));
        }
        if speaks != Speaks::Http2
            && !wanted.fresh
            && let Some(connection) = self.check_out()
        {
            return Some(Turn::Reused(connection));
        }
        if speaks != Speaks::Http1 && self.opening.get() {
            return None;
        }
        let slot = self.slots.take().or_else(|| {
            // A place is better used than kept.
            self.idle.borrow_mut().pop_front()?;
            self.slots.take()
        })?;
        let is_awaited = speaks != Speaks::Http1;
        if is_awaited {
            self.opening.set(true);
        }
        Some(Turn::Open(Opening {
            slot: Some(slot),
            awaited: is_awaited.then(|| Rc::clone(self)),
        }))
    }

    /// The youngest connection that still lives.
    fn check_out(&self) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        self.drop_expired(&mut idle, self.clock.boot());
        while let Some(Idle { mut connection, .. }) = idle.pop_back() {
            if connection.rest(Waker::noop()) {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection whose exchange is over; one that is closed, or still busy with the request, is not kept.
    pub fn check_in(self: &Rc<Self>, mut connection: Box<Connection>) {
        let keeper = self.keeper.get_or_init(|| Keeper::start(self));
        if self.idle_limit == 0 || !connection.rest(&keeper.waker) {
            return;
        }
        let since = self.clock.boot();
        let mut idle = self.idle.borrow_mut();
        self.drop_expired(&mut idle, since);
        if idle.len() >= self.idle_limit {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since });
        drop(idle);
        self.slots.wake_one();
    }

    /// A stream on a connection that has room, the least used one.
    fn stream(&self, server: &Server) -> Option<Stream> {
        let mut all = self.multiplexed.borrow_mut();
        if all.is_empty() {
            return None;
        }
        let now = self.clock.boot();
        all.retain(|connection| {
            let is_stale = connection.streams() == 0
                && now.since(connection.idle_since.get()) >= self.idle_timeout;
            connection.is_open() && !is_stale && server.is_at(connection.address)
        });
        all.sort_unstable_by_key(|connection| connection.streams());
        let stream = all.iter().find_map(Multiplexed::stream)?;
        Some(stream)
    }

    /// A connection for many requests stands; gives the first of its streams.
    pub fn opened_http2(&self, connection: Rc<Multiplexed>) -> Option<Stream> {
        self.speaks.set(Speaks::Http2);
        let stream = connection.stream();
        self.multiplexed.borrow_mut().push(connection);
        stream
    }

    /// The server chose HTTP/1.1.
    pub fn opened_http1(&self) {
        if self.speaks.get() == Speaks::Unknown {
            self.speaks.set(Speaks::Http1);
        }
    }

    /// Requests that are here or wait to be.
    pub fn load(&self) -> usize {
        let multiplexed = self.multiplexed.borrow();
        let streams: usize = multiplexed
            .iter()
            .map(|connection| connection.streams())
            .sum();
        let resting = multiplexed.len() + self.idle.borrow().len();
        self.slots.taken().saturating_sub(resting) + streams + self.slots.waiting()
    }

    /// Connections that wait for a request.
    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    fn drop_dead(&self) {
        let Some(keeper) = self.keeper.get() else {
            return;
        };
        let mut idle = self.idle.take();
        idle.retain_mut(|resting| resting.connection.rest(&keeper.waker));
        // Nothing else runs meanwhile.
        self.idle.replace(idle);
    }

    fn drop_expired(&self, idle: &mut VecDeque<Idle>, now: BootTime) {
        while idle
            .front()
            .is_some_and(|oldest| now.since(oldest.since) >= self.idle_timeout)
        {
            idle.pop_front();
        }
    }
}
