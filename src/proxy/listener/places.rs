//! How many connections are open: in a worker, from an address, in the middle of a handshake.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dealing::Seat;
use crate::telemetry::WorkerMetrics;

/// A connection's place among those that are open.
pub(super) struct Place {
    worker: WorkerMetrics,
    seat: Seat,
}

impl Place {
    pub(super) fn take(worker: WorkerMetrics, seat: &Seat) -> Self {
        seat.count();
        Self::counted(worker, seat)
    }

    /// Of one that another worker has counted here.
    pub(super) fn counted(worker: WorkerMetrics, seat: &Seat) -> Self {
        worker.connection_opened();
        Self {
            worker,
            seat: seat.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.seat.discount();
        self.worker.connection_closed();
    }
}

/// A place among the handshakes that are under way.
pub(super) struct HandshakePlace<'a>(&'a Cell<usize>);

impl<'a> HandshakePlace<'a> {
    /// `None` if there are `most` already.
    pub(super) fn take(under_way: &'a Cell<usize>, most: usize) -> Option<Self> {
        if under_way.get() >= most {
            return None;
        }
        under_way.set(under_way.get() + 1);
        Some(Self(under_way))
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Open connections by address, over all workers; cheap to clone. Touched when a connection begins and when it ends, and never
/// by a request.
#[derive(Clone, Debug)]
pub struct ConnectionsByAddress {
    most: usize,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hasher: RandomState,
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
}

impl ConnectionsByAddress {
    /// At most so many from one address.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            shared: Arc::new(Shared {
                hasher: RandomState::new(),
                shards: Default::default(),
            }),
        }
    }

    /// The same connections under another bound.
    #[must_use]
    pub fn with_most(&self, most: usize) -> Self {
        Self {
            most,
            shared: Arc::clone(&self.shared),
        }
    }

    /// `None` if the address has as many as it may.
    pub fn enter(&self, address: IpAddr) -> Option<AddressPlace> {
        let block = block_of(address);
        let mut shard = self.shared.shard(&block);
        let open = shard.entry(block).or_insert(0);
        if *open >= self.most {
            return None;
        }
        *open += 1;
        Some(AddressPlace {
            shared: Arc::clone(&self.shared),
            block,
        })
    }
}

impl Shared {
    fn shard(&self, block: &IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        let shard = self.hasher.hash_one(block) as usize % SHARDS;
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among those of its address; free again when dropped.
#[derive(Debug)]
pub struct AddressPlace {
    shared: Arc<Shared>,
    block: IpAddr,
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.shared.shard(&self.block).entry(self.block) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

/// Who has one address of IPv6 has all of its /64.
pub fn block_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(
            address.to_bits() & !u128::from(u64::MAX),
        )),
        address => address,
    }
}

const SHARDS: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::ConnectionsByAddress;

    #[test]
    fn an_address_has_so_many_and_another_one_as_well() {
        let all = ConnectionsByAddress::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = all.enter(ip("192.0.2.1")).unwrap();
        let _second = all.enter(ip("::ffff:192.0.2.1")).unwrap();
        assert!(all.enter(ip("192.0.2.1")).is_none());
        assert!(all.enter(ip("192.0.2.2")).is_some());
        drop(first);
        let again = all.enter(ip("192.0.2.1"));
        assert!(again.is_some() && all.enter(ip("192.0.2.1")).is_none());
        let six = ["2001:db8::1", "2001:db8::ffff:1"].map(|text| all.enter(ip(text)).unwrap());
        assert!(all.enter(ip("2001:db8::2")).is_none(), "the same /64");
        assert!(all.enter(ip("2001:db8:0:1::1")).is_some());
        drop((again, six));
    }

    #[test]
    fn who_is_there_counts_under_another_bound_too() {
        let two = ConnectionsByAddress::new(2);
        let address = IpAddr::from([192, 0, 2, 1]);
        let _open = two.enter(address).unwrap();
        let one = two.with_most(1);
        assert!(one.enter(address).is_none() && two.enter(address).is_some());
    }

    #[test]
    fn nothing_is_left_of_who_is_gone() {
        let all = ConnectionsByAddress::new(1);
        for low in 0..1000_u32 {
            drop(all.enter(IpAddr::from(low.to_be_bytes())));
        }
        let left =
            |shard: &std::sync::Mutex<std::collections::HashMap<_, _>>| shard.lock().unwrap().len();
        assert_eq!(all.shared.shards.iter().map(left).sum::<usize>(), 0);
    }
}
