//! Clients that ask without a pause, over connections that they keep and over new ones, and count what they are answered.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::{Conn, eventually};

/// Clients that run.
pub struct Load {
    counts: Arc<Counts>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    done: AtomicUsize,
    repeated: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

/// What they have seen.
pub struct Ended {
    /// Requests that were answered.
    pub done: usize,
    /// Those that were sent again on a new connection, as every client does (RFC 9110 section 9.2.2): one that they had kept was
    /// closed without a byte of an answer.
    pub repeated: usize,
    /// Wrong answers, and requests on a new connection that were not answered.
    pub failures: Vec<String>,
}

impl Load {
    /// Three clients that keep their connection and three that open one for each request, of a session with these cookies.
    pub fn start(address: SocketAddr, cookie: &str) -> Self {
        let counts = Arc::new(Counts::default());
        let clients = (0..6)
            .map(|number| {
                let (counts, cookie) = (Arc::clone(&counts), cookie.to_owned());
                thread::spawn(move || counts.run(address, &cookie, number % 2 == 0))
            })
            .collect();
        Self { counts, clients }
    }

    pub fn done(&self) -> usize {
        self.counts.done.load(Ordering::Relaxed)
    }

    /// Waits until that many requests were answered.
    pub fn has_done(&self, requests: usize) {
        eventually("the clients are answered", || self.done() >= requests);
    }

    pub fn end(self) -> Ended {
        self.counts.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap();
        }
        Ended {
            done: self.counts.done.load(Ordering::Relaxed),
            repeated: self.counts.repeated.load(Ordering::Relaxed),
            failures: std::mem::take(&mut self.counts.failures.lock().unwrap()),
        }
    }
}

impl Counts {
    fn run(&self, address: SocketAddr, cookie: &str, keeps: bool) {
        let mut kept = None;
        while !self.stop.load(Ordering::Relaxed) {
            match self.ask(address, cookie, kept.take()) {
                Ok(conn) => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    kept = conn.filter(|_| keeps);
                }
                Err(failure) => self.failures.lock().unwrap().push(failure),
            }
        }
    }

    /// The connection, if it goes on.
    fn ask(
        &self,
        address: SocketAddr,
        cookie: &str,
        kept: Option<Conn>,
    ) -> Result<Option<Conn>, String> {
        let kept = kept.and_then(|mut conn| {
            let answer = conn.try_request("GET", "/", cookie);
            if answer.is_none() {
                self.repeated.fetch_add(1, Ordering::Relaxed);
            }
            Some((conn, answer?))
        });
        let (mut conn, answer) = match kept {
            Some(answered) => answered,
            None => {
                let mut conn =
                    Conn::try_to(address).map_err(|error| format!("cannot connect: {error}"))?;
                let answer = conn.try_request("GET", "/", cookie);
                (conn, answer.ok_or("no answer on a new connection")?)
            }
        };
        if (answer.status, answer.text()) != (200, "alice") {
            return Err(format!("{answer:?}"));
        }
        let closes = answer.header("connection") == Some("close");
        if closes {
            conn.rest();
        }
        Ok(Some(conn).filter(|_| !closes))
    }
}
