//! How many connections a worker may have to a server, and who waits for one.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// The places for connections to one server, in one worker.
#[derive(Debug)]
pub(super) struct Slots {
    taken: Cell<usize>,
    limit: usize,
    waiting: Cell<usize>,
    waiting_limit: usize,
    /// Something came free: a place, a connection, a stream on one.
    freed: Notify,
}

/// The place of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Slot(Rc<Slots>);

/// A request that waits.
pub(super) struct Waiting<'a>(&'a Slots);

impl Slots {
    pub fn new(limit: usize, waiting_limit: usize) -> Self {
        Self {
            taken: Cell::new(0),
            limit,
            waiting: Cell::new(0),
            waiting_limit,
            freed: Notify::new(),
        }
    }

    pub fn take(self: &Rc<Self>) -> Option<Slot> {
        if self.taken.get() >= self.limit {
            return None;
        }
        self.taken.set(self.taken.get() + 1);
        Some(Slot(Rc::clone(self)))
    }

    /// Connections that there are or are about to be.
    pub fn taken(&self) -> usize {
        self.taken.get()
    }

    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// `None`: too many wait already.
    pub fn begin_to_wait(&self) -> Option<Waiting<'_>> {
        if self.waiting.get() >= self.waiting_limit {
            return None;
        }
        self.waiting.set(self.waiting.get() + 1);
        Some(Waiting(self))
    }

    /// One of those who wait may look again.
    pub fn wake_one(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }

    /// All of them may.
    pub fn wake_all(&self) {
        self.freed.notify_waiters();
    }
}

impl Waiting<'_> {
    /// Until it is worth looking again; made before one looks, so that nothing is missed.
    pub fn freed(&self) -> impl Future<Output = ()> {
        self.0.freed.notified()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.set(self.0.taken.get() - 1);
        self.0.wake_one();
    }
}
