//! The idle connections to one upstream server.
//!
//! The connection that rested shortest is used first, so that under light load the others age and go. Since connections
//! come back in the order of time, the oldest are always at the front, and dropping them costs nothing extra.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use super::connection::Connection;
use crate::clock::{BootTime, Clock};

#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
    limit: usize,
    timeout: Duration,
    clock: Clock,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: BootTime,
}

impl Pool {
    pub(super) fn new(limit: usize, timeout: Duration, clock: Clock) -> Self {
        Self {
            idle: RefCell::default(),
            limit,
            timeout,
            clock,
        }
    }

    /// The youngest connection that still lives.
    pub(super) fn check_out(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        self.drop_expired(&mut idle, self.clock.boot());
        while let Some(Idle { connection, .. }) = idle.pop_back() {
            if connection.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection whose exchange is over; one that is closed, or still busy with the request, is not kept.
    pub(super) fn check_in(&self, connection: Connection) {
        if !connection.is_ready() || self.limit == 0 {
            return;
        }
        let since = self.clock.boot();
        let mut idle = self.idle.borrow_mut();
        self.drop_expired(&mut idle, since);
        if idle.len() >= self.limit {
            idle.pop_front();
        }
        idle.push_back(Idle { connection, since });
    }

    pub(super) fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    fn drop_expired(&self, idle: &mut VecDeque<Idle>, now: BootTime) {
        while idle
            .front()
            .is_some_and(|oldest| now.since(oldest.since) >= self.timeout)
        {
            idle.pop_front();
        }
    }
}
