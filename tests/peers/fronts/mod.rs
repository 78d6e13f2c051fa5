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
        let front = |running, work, reserved: Vec<Reserved>| Self {
            make,
            address: reserved[0].address,
            running,
            reserved,
            work,
        };
        let addresses: Vec<SocketAddr> = reserved.iter().map(|one| one.address).collect();
        configure(&work, make, &addresses);
        let running = run(&work.home, make, addresses[0]);
        let started = front(running, work, reserved);
        for (listener, address) in started.work.listeners.iter().zip(addresses) {
            if *listener != Listener::File {
                eventually("all listeners listen", || Conn::try_to(address).is_ok());
            }
        }
        started
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
                haproxy::tell(proxy, "Reloading HAProxy", || self.signal("USR2"));
            }
            _ => self.signal("HUP"),
        }
    }

    /// Tells it to finish what it has begun, and to end.
    pub fn stop(&self) {
        match &self.running {
            Running::Ours(_) => self.signal("TERM"),
            Running::Theirs(proxy) if self.make == Make::HaProxy => {
                haproxy::tell(proxy, "Exiting Master process", || self.signal("USR1"));
            }
            Running::Theirs(_) => self.signal("QUIT"),
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself.
    pub fn has_ended(&mut self) {
        eventually("the front ends", || match &mut self.running {
            Running::Ours(gateway) => !gateway.is_running(),
            Running::Theirs(proxy) => !proxy.is_running(),
        });
    }

    /// The most memory in RAM that it and its workers ever had, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let id = self.id();
        let workers = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let ids = workers.split_whitespace().map(|id| id.parse().unwrap());
        ids.chain([id]).map(resident_kib).sum()
    }

    pub fn id(&self) -> u32 {
        match &self.running {
            Running::Ours(gateway) => gateway.id(),
            Running::Theirs(proxy) => proxy.id(),
        }
    }
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

fn run(home: &Home, make: Make, address: SocketAddr) -> Running {
    let command = match make {
        Make::Portcullis => return Running::Ours(home.start()),
        Make::Nginx => nginx::command(home),
        Make::HaProxy => haproxy::command(home),
    };
    Running::Theirs(Proxy::start(command, address, &home.path("log")))
}

/// As all three of them read it.
fn ms(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}
