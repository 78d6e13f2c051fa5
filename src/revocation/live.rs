//! The open streams of each session: WebSockets, event streams, long downloads.
//!
//! Only what lasts is entered here; an ordinary request pays nothing. Whoever holds an entry is told when its session
//! ends, or this replica cannot tell any more whether it has, and takes itself out by dropping it.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::set::HandleHasher;
use crate::session::SessionHandle;

/// Index of open streams by session handle; cheap to clone.
#[derive(Clone, Debug)]
pub struct LiveStreams {
    shards: Arc<[Mutex<Shard>]>,
    cut: Arc<AtomicU64>,
}

type Shard = HashMap<SessionHandle, Vec<(u64, End)>, BuildHasherDefault<HandleHasher>>;

/// How a stream is told of its end; cheap to clone.
#[derive(Clone, Debug, Default)]
struct End {
    ended: CancellationToken,
    lapsed: Arc<AtomicBool>,
}

impl Default for LiveStreams {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            cut: Arc::default(),
        }
    }
}

impl LiveStreams {
    /// Enters a stream of `handle`. A revocation that comes later ends it; for one that came before, look at the
    /// revocation set after entering.
    pub fn enter(&self, handle: SessionHandle) -> LiveStream {
        let end = End::default();
        let mut shard = self.shard(&handle);
        let streams = shard.entry(handle).or_default();
        let number = streams.last().map_or(0, |(last, _)| last + 1);
        streams.push((number, end.clone()));
        drop(shard);
        LiveStream {
            streams: self.clone(),
            handle,
            number,
            end,
        }
    }

    /// Ends the streams of a session; returns how many there were.
    pub fn cut(&self, handle: &SessionHandle) -> usize {
        let streams = self.shard(handle).remove(handle).unwrap_or_default();
        streams.iter().for_each(|(_, end)| end.ended.cancel());
        self.count(streams.len())
    }

    /// Ends all streams, of whatever session: this replica cannot answer for them any more.
    pub fn cut_all(&self) -> usize {
        let cut = |shard: &Mutex<Shard>| {
            let streams =
                std::mem::take(&mut *shard.lock().unwrap_or_else(PoisonError::into_inner));
            streams
                .values()
                .flatten()
                .map(|(_, end)| {
                    end.lapsed.store(true, Ordering::Release);
                    end.ended.cancel();
                })
                .count()
        };
        self.count(self.shards.iter().map(cut).sum())
    }

    /// How many were cut since the start.
    pub fn cut_so_far(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    fn count(&self, streams: usize) -> usize {
        self.cut.fetch_add(streams as u64, Ordering::Relaxed);
        streams
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
    end: End,
}

impl LiveStream {
    pub fn handle(&self) -> SessionHandle {
        self.handle
    }

    /// Resolves when the stream has to end.
    pub fn ended(&self) -> WaitForCancellationFutureOwned {
        self.end.ended.clone().cancelled_owned()
    }

    /// It has to end because this replica lost touch with the store, and not because its session has ended.
    pub fn has_lapsed(&self) -> bool {
        self.end.lapsed.load(Ordering::Acquire)
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        let mut shard = self.streams.shard(&self.handle);
        let Some(streams) = shard.get_mut(&self.handle) else {
            return;
        };
        // A stream that was cut left with all others of its time; the number may belong to a newer one since.
        streams.retain(|(number, _)| self.end.ended.is_cancelled() || *number != self.number);
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
        assert!(first.end.ended.is_cancelled() && second.end.ended.is_cancelled());
        assert!(!other.end.ended.is_cancelled() && !first.has_lapsed());
        assert_eq!(live.len(), 1);
        assert_eq!(live.cut(&alice), 0);
        assert_eq!(live.cut_so_far(), 2);
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
        assert!(third.end.ended.is_cancelled());
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
        assert!(
            streams
                .iter()
                .all(|stream| stream.end.ended.is_cancelled() && stream.has_lapsed())
        );
        assert!(live.is_empty());
    }
}
