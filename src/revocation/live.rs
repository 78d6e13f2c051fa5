//! The open streams of each session: WebSockets, event streams, long downloads.
//!
//! Only what lasts is entered here; an ordinary request pays nothing. Whoever holds an entry is told when its session
//! ends, and takes itself out by dropping it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::set::HandleHasher;
use crate::session::SessionHandle;

/// Index of open streams by session handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveStreams {
    shards: Arc<[Mutex<Shard>]>,
}

type Shard =
    HashMap<SessionHandle, Vec<(u64, CancellationToken)>, BuildHasherDefault<HandleHasher>>;

impl Default for LiveStreams {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl LiveStreams {
    /// Enters a stream of `handle`. A revocation that comes later ends it; for one that came before, look at the
    /// revocation set after entering.
    pub fn enter(&self, handle: SessionHandle) -> LiveStream {
        let ended = CancellationToken::new();
        let mut shard = self.shard(&handle);
        let streams = shard.entry(handle).or_default();
        let number = streams.last().map_or(0, |(last, _)| last + 1);
        streams.push((number, ended.clone()));
        drop(shard);
        LiveStream {
            streams: self.clone(),
            handle,
            number,
            ended,
        }
    }

    /// Ends the streams of a session; returns how many there were.
    pub fn cut(&self, handle: &SessionHandle) -> usize {
        let streams = self.shard(handle).remove(handle).unwrap_or_default();
        streams.iter().for_each(|(_, ended)| ended.cancel());
        streams.len()
    }

    /// Ends all streams, of whatever session.
    pub fn cut_all(&self) -> usize {
        let cut = |shard: &Mutex<Shard>| {
            let streams =
                std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            streams
                .values()
                .flatten()
                .map(|(_, ended)| ended.cancel())
                .count()
        };
        self.shards.iter().map(cut).sum()
    }

    pub fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
                .map(Vec::len)
                .sum::<usize>()
        };
        self.shards.iter().map(count).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, handle: &SessionHandle) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[usize::from(handle.as_bytes()[0]) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SHARDS: usize = 64;

/// One open stream; leaves the index when dropped.
#[derive(Debug)]
pub struct LiveStream {
    streams: LiveStreams,
    handle: SessionHandle,
    number: u64,
    ended: CancellationToken,
}

impl LiveStream {
    pub fn handle(&self) -> SessionHandle {
        self.handle
    }

    /// Resolves when the session has ended.
    pub fn ended(&self) -> WaitForCancellationFutureOwned {
        self.ended.clone().cancelled_owned()
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        let mut shard = self.streams.shard(&self.handle);
        let Some(streams) = shard.get_mut(&self.handle) else {
            return;
        };
        // A stream that was cut left with all others of its time; the number may belong to a newer one since.
        streams.retain(|(number, _)| self.ended.is_cancelled() || *number != self.number);
        if streams.is_empty() {
            shard.remove(&self.handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LiveStreams;
    use crate::session::SessionHandle;

    #[test]
    fn a_session_s_streams_are_cut_and_no_others() {
        let live = LiveStreams::default();
        let (alice, bob) = (SessionHandle::random(), SessionHandle::random());
        let (first, second, other) = (live.enter(alice), live.enter(alice), live.enter(bob));
        assert_eq!(live.cut(&alice), 2);
        assert!(first.ended.is_cancelled() && second.ended.is_cancelled());
        assert!(!other.ended.is_cancelled());
        assert_eq!(live.len(), 1);
        assert_eq!(live.cut(&alice), 0);
    }

    #[test]
    fn a_stream_that_ends_leaves_nothing_behind() {
        let live = LiveStreams::default();
        let handle = SessionHandle::random();
        let (first, second) = (live.enter(handle), live.enter(handle));
        drop(first);
        let third = live.enter(handle);
        drop(second);
        assert_eq!(live.cut(&handle), 1);
        assert!(third.ended.is_cancelled());
        let fourth = live.enter(handle);
        drop(third);
        assert_eq!(
            live.len(),
            1,
            "the one that was cut takes no newer one with it"
        );
        drop(fourth);
        assert!(live.is_empty());
    }

    #[test]
    fn all_can_be_cut() {
        let live = LiveStreams::default();
        let streams: Vec<_> = (0..1000)
            .map(|_| live.enter(SessionHandle::random()))
            .collect();
        assert_eq!(live.cut_all(), 1000);
        assert!(streams.iter().all(|stream| stream.ended.is_cancelled()));
        assert!(live.is_empty());
    }
}
