//! What goes wrong for every request at once: told now and then, with a count, and not once per request.
//!
//! A replica that is cut off from the store refuses each request with a session for as long as that lasts. When it began and
//! when it ended is the feed's to say, once; how often a request failed is in the metrics. A line per request would fill the
//! disk in the meantime.

use std::cell::Cell;
use std::time::Duration;

use crate::clock::BootTime;

/// Of one worker.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    told_at: Cell<Option<BootTime>>,
    kept_back: Cell<u64>,
}

impl Complaints {
    /// Whether to say it this time: then, how often it was not said since the last time.
    pub(super) fn tell(&self, now: BootTime) -> Option<u64> {
        let is_recent = |told_at: BootTime| now.since(told_at) < PAUSE;
        if self.told_at.get().is_some_and(is_recent) {
            self.kept_back.set(self.kept_back.get() + 1);
            return None;
        }
        self.told_at.set(Some(now));
        Some(self.kept_back.take())
    }
}

const PAUSE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Complaints;
    use crate::clock::BootTime;

    #[test]
    fn it_is_said_every_ten_seconds_with_a_count() {
        let complaints = Complaints::default();
        let at = |millis| complaints.tell(BootTime::ZERO + Duration::from_millis(millis));
        assert_eq!(at(1_000), Some(0));
        for millis in 1_001..1_501 {
            assert_eq!(at(millis), None);
        }
        assert_eq!(at(10_999), None);
        assert_eq!(at(11_000), Some(501));
        assert_eq!(at(11_001), None);
        assert_eq!(at(60_000), Some(1));
    }
}
