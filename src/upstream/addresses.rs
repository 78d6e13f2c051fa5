//! The addresses of a server's name: looked up in the background, read without waiting.
//!
//! A name that is not there yet is no reason not to start: its server is tried like one that is down, and found as soon as the
//! name is. When a look-up fails, the addresses of the last one stay.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::balance::Dice;
use crate::causes::Causes;
use crate::secret::random_bytes;

/// Where a server can be reached, as far as is known.
#[derive(Debug)]
pub(super) struct Addresses {
    /// What has to be looked up; `None` if the address was given as such, or there is none.
    name: Option<(String, u16)>,
    known: ArcSwap<Vec<SocketAddr>>,
    /// Counts up, so that all of them are used.
    turn: AtomicUsize,
    wanted: Notify,
}

impl Addresses {
    /// Of a host that is an address, perhaps in brackets, or a name.
    pub fn of(host: &str, port: u16) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => Self::new(None, vec![SocketAddr::new(ip, port)]),
            Err(_) => Self::new(Some((bare.to_owned(), port)), Vec::new()),
        }
    }

    /// Of what is reached without.
    pub fn none() -> Self {
        Self::new(None, Vec::new())
    }

    fn new(name: Option<(String, u16)>, known: Vec<SocketAddr>) -> Self {
        Self {
            name,
            known: ArcSwap::from_pointee(known),
            turn: AtomicUsize::new(0),
            wanted: Notify::new(),
        }
    }

    pub fn all(&self) -> Arc<Vec<SocketAddr>> {
        self.known.load_full()
    }

    /// Whether a connection to `address` still leads to the server.
    pub fn has(&self, address: SocketAddr) -> bool {
        self.known.load().contains(&address)
    }

    /// With which of them to begin.
    pub fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// None of them answered: perhaps they are not right any more.
    pub fn look_up_again(&self) {
        self.wanted.notify_one();
    }

    /// Looks the name up once.
    pub async fn look_up(&self, upstream: &str) {
        let Some((name, port)) = &self.name else {
            return;
        };
        let found = match timeout(LOOK_UP, tokio::net::lookup_host((name.as_str(), *port))).await {
            Ok(Ok(found)) => sorted(found),
            Ok(Err(error)) => {
                warn!(
                    upstream, name, error = %Causes(&error),
                    "cannot look up the name of an upstream's server; trying again"
                );
                return;
            }
            Err(_) => {
                warn!(
                    upstream,
                    name,
                    "looking up the name of an upstream's server takes too long; trying again"
                );
                return;
            }
        };
        if found.is_empty() {
            warn!(
                upstream,
                name, "the name of an upstream's server has no addresses; trying again"
            );
        } else if found != **self.known.load() {
            info!(upstream, name, addresses = ?found, "found an upstream's server");
            self.known.store(Arc::new(found));
        }
    }

    /// Looks the name up again and again: after `interval` give or take a tenth, or when it is asked for.
    pub async fn keep_up(&self, upstream: &str, interval: Duration) {
        if self.name.is_none() {
            return;
        }
        let dice = Dice::new(random_bytes());
        loop {
            let jitter =
                f64::from(u32::try_from(dice.roll() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
            let pause = interval.mul_f64(0.9 + 0.2 * jitter);
            tokio::select! {
                () = sleep(pause) => {}
                () = async {
                    sleep(LEAST_PAUSE.min(pause)).await;
                    self.wanted.notified().await;
                } => {}
            }
            self.look_up(upstream).await;
        }
    }
}

/// In one order, so that what a resolver shuffles is not taken for a change.
fn sorted(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = found.take(MOST).collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Addresses of one name; more are not used.
const MOST: usize = 64;

/// The longest that one look-up is waited for.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Between two look-ups, however many connections fail.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::Addresses;

    #[test]
    fn addresses_need_no_look_up() {
        for (host, address) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("[::1]", "[::1]:80"),
        ] {
            assert_eq!(*Addresses::of(host, 80).all(), [address.parse().unwrap()]);
        }
        assert!(Addresses::of("app.test", 80).all().is_empty());
    }

    #[tokio::test]
    async fn a_name_that_vanishes_keeps_its_addresses() {
        let addresses = Addresses::of("localhost", 80);
        addresses.look_up("app").await;
        let known = addresses.all();
        assert!(!known.is_empty() && known.iter().all(|known| known.ip().is_loopback()));
        assert!(addresses.has(known[0]));
        let gone = Addresses {
            name: Some(("no-such-name.invalid".to_owned(), 80)),
            ..addresses
        };
        gone.look_up("app").await;
        assert_eq!(gone.all(), known);
    }
}
