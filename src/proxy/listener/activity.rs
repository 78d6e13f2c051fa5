//! What runs on a connection that carries several requests at once, and since when nothing does.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::ConnectionInfo;

/// The requests of one HTTP/2 connection.
#[derive(Debug)]
pub struct Activity {
    running: Cell<usize>,
    /// When the last of them ended.
    rests_since: Cell<Instant>,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            running: Cell::new(0),
            rests_since: Cell::new(Instant::now()),
        }
    }
}

impl Activity {
    /// Resolves when nothing has run for that long.
    pub async fn rested(&self, limit: Duration) {
        loop {
            let end = match self.running.get() {
                0 => self.rests_since.get() + limit,
                _ => Instant::now() + limit,
            };
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A request, or the tunnel that it became, that runs on a connection.
#[derive(Debug)]
pub struct Running(Rc<ConnectionInfo>);

impl Running {
    pub fn on(connection: &Rc<ConnectionInfo>) -> Self {
        let running = &connection.activity.running;
        running.set(running.get() + 1);
        Self(Rc::clone(connection))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Activity {
            running,
            rests_since,
        } = &self.0.activity;
        running.set(running.get() - 1);
        rests_since.set(Instant::now());
    }
}
