//! A front: whichever program stands between the clients and the upstreams of a case.

mod expected;
mod haproxy;
mod nginx;
mod portcullis;
mod work;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::support::peers::{Proxy, Reserved};
use crate::support::{Conn, Gateway, Home, eventually};

pub use expected::{Expected, usually};
use work::Certificate;
pub use work::{Listener, Rule, ServersTls, Work, write_both};

/// Which program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Portcullis,
    Nginx,
    HaProxy,
}

pub fn portcullis() -> Make {
    Make::Portcullis
}

pub fn nginx() -> Make {
    Make::Nginx
}

pub fn haproxy() -> Make {
    Make::HaProxy
}

/// A front that runs; ended when dropped.
pub struct Front {
    pub make: Make,
    /// Of the first listener.
    pub address: SocketAddr,
    running: Running,
    /// One for each listener, that of a socket file included, which is for nobody.
    reserved: Vec<Reserved>,
    pub work: Work,
}

enum Running {
    Ours(Gateway),
    Theirs(Proxy),
}

impl Front {
    fn start(work: Work, make: Make) -> Self {
        let reserved: Vec<Reserved> = work.listeners.iter().map(|_| Reserved::new()).collect();
        let addresses: Vec<SocketAddr> = reserved.iter().map(|one| one.address).collect();
        configure(&work, make, &addresses);
        let front = Self {
            make,
            address: addresses[0],
            running: Running::start(&work.home, make, addresses[0], "log"),
            reserved,
            work,
        };
        for (listener, address) in front.work.listeners.iter().zip(addresses) {
            if *listener != Listener::File {
                eventually("all listeners listen", || Conn::try_to(address).is_ok());
            }
        }
        front
    }

    /// Starts another on the same addresses, and stops the one that was there.
    pub fn replace(&mut self) {
        let other = Running::start(&self.work.home, self.make, self.address, "log-of-another");
        if let Running::Theirs(proxy) = &other {
            eventually("the other listens too", || match self.make {
                Make::HaProxy => proxy.log().contains("Loading success"),
                _ => std::fs::read_to_string(self.work.home.path("nginx.pid"))
                    .is_ok_and(|id| id.trim() == proxy.id().to_string()),
            });
        }
        let mut old = std::mem::replace(&mut self.running, other);
        old.stop(self.make);
        old.has_ended();
    }

    pub fn connect(&self) -> Conn {
        Conn::to(self.address)
    }

    /// Where the listener at that position listens.
    pub fn address_of(&self, listener: usize) -> SocketAddr {
        self.reserved[listener].address
    }

    /// The answer to these bytes, over a connection of its own.
    pub fn ask(&self, request: &str) -> crate::support::Answer {
        let mut conn = self.connect();
        conn.send(request);
        conn.answer()
    }

    /// The answer to a GET, over a connection of its own.
    pub fn get(&self, path: &str) -> crate::support::Answer {
        self.connect().get(path, "")
    }

    /// Makes it take its configuration, which may have been changed, while it runs.
    pub fn reload(&self) {
        let addresses: Vec<SocketAddr> = self.reserved.iter().map(|one| one.address).collect();
        configure(&self.work, self.make, &addresses);
        match &self.running {
            Running::Theirs(proxy) if self.make == Make::HaProxy => {
                haproxy::tell(proxy, "Reloading HAProxy", "USR2");
            }
            running => signal(running.id(), "HUP"),
        }
    }

    /// Tells it to finish what it has begun, and to end.
    pub fn stop(&self) {
        self.running.stop(self.make);
    }

    /// Waits until it has ended by itself.
    pub fn has_ended(&mut self) {
        self.running.has_ended();
    }

    /// The most memory in RAM that it and its workers ever had, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let id = self.running.id();
        let workers = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let ids = workers.split_whitespace().map(|id| id.parse().unwrap());
        ids.chain([id]).map(resident_kib).sum()
    }
}

impl Running {
    fn start(home: &Home, make: Make, address: SocketAddr, log: &str) -> Self {
        let command = match make {
            Make::Portcullis => return Self::Ours(home.start()),
            Make::Nginx => nginx::command(home),
            Make::HaProxy => haproxy::command(home),
        };
        Self::Theirs(Proxy::start(command, address, &home.path(log)))
    }

    fn stop(&self, make: Make) {
        match self {
            Self::Ours(gateway) => gateway.signal("TERM"),
            Self::Theirs(proxy) if make == Make::HaProxy => {
                haproxy::tell(proxy, "Exiting Master process", "USR1");
            }
            Self::Theirs(proxy) => signal(proxy.id(), "QUIT"),
        }
    }

    fn has_ended(&mut self) {
        eventually("the front ends", || match self {
            Self::Ours(gateway) => !gateway.is_running(),
            Self::Theirs(proxy) => !proxy.is_running(),
        });
    }

    fn id(&self) -> u32 {
        match self {
            Self::Ours(gateway) => gateway.id(),
            Self::Theirs(proxy) => proxy.id(),
        }
    }
}

fn signal(id: u32, name: &str) {
    let sent = Command::new("kill")
        .args(["-s", name, &id.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().trim().strip_suffix(" kB");
    kib.unwrap().parse().unwrap()
}

fn configure(work: &Work, make: Make, addresses: &[SocketAddr]) {
    match make {
        Make::Portcullis => {
            std::fs::write(work.home.config(), portcullis::written(work, addresses))
        }
        Make::Nginx => std::fs::write(
            work.home.path("nginx.conf"),
            nginx::written(work, addresses),
        ),
        Make::HaProxy => std::fs::write(
            work.home.path("haproxy.cfg"),
            haproxy::written(work, addresses),
        ),
    }
    .unwrap();
}

/// As all three of them read it.
fn ms(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}
