//! What the fleet protocol decides: functions of values, without a clock, a store or a task.
//!
//! The feed, the barrier and the verdict on a request act on what these say, and so does the model of the protocol that the
//! tests explore: a rule that is wrong here is wrong there. ARCHITECTURE.md has the protocol and its proof.

use std::time::Duration;

use super::{Membership, Verdict};
use crate::clock::BootTime;
use crate::store::{LogRead, LoggedReason, Mark, ReplicaRow, Sequence};

/// Until when a replica may trust what a round has read. `started` is its clock from before it wrote its row: whatever the
/// round took, nobody waits longer for it.
pub fn deadline(started: BootTime, lease: Duration) -> BootTime {
    started + lease
}

/// Whether what memory knows may be relied on; asked at each check, since the process may have slept.
pub fn is_trusted(now: BootTime, deadline: BootTime) -> bool {
    now < deadline
}

/// What memory says of a session. `trusted` was asked first, and `membership` looked up after it: a deadline that moves in
/// between moves with the set already complete.
pub fn verdict(trusted: bool, membership: Membership) -> Verdict {
    match membership {
        Membership::Revoked => Verdict::Revoked,
        Membership::Outdated => Verdict::Outdated,
        Membership::Absent if trusted => Verdict::Live,
        Membership::Absent => Verdict::AskStore,
    }
}

/// What a look at the log means for the replica that took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learnt<'l> {
    /// In the set, it may be confirmed, and trusted if the own row was written before.
    UpToDate,
    /// An entry has a reason that this version does not know. What is known of the others goes into the set; none is
    /// confirmed, and memory is not trusted any more.
    NotUnderstood(&'l str),
    /// It is not the log that was read before: memory is not trusted any more, and all of the log is to be read.
    OtherHistory,
}

/// `mark` is that of the entry applied last, if any was.
pub fn learnt(mark: Option<Mark>, log: &LogRead) -> Learnt<'_> {
    if mark.is_some() && log.mark != mark {
        return Learnt::OtherHistory;
    }
    let not_understood = log.entries.iter().find_map(|entry| match &entry.reason {
        LoggedReason::Unknown(reason) => Some(Learnt::NotUnderstood(reason)),
        LoggedReason::Known(_) | LoggedReason::Keys | LoggedReason::Claims { .. } => None,
    });
    not_understood.unwrap_or(Learnt::UpToDate)
}

/// Whether a revocation may be answered: every replica, the own one included, has confirmed `sequence` or has had to stop
/// trusting what it knew before. `rows` were read after `committed_at`, which was read after the commit.
pub fn holds_everywhere(
    rows: &[ReplicaRow],
    sequence: Sequence,
    committed_at: BootTime,
    now: BootTime,
) -> bool {
    rows.iter()
        .all(|row| row.applied >= sequence || has_lapsed(row.lease, committed_at, now))
}

/// The longest lease of those that have not confirmed `sequence`: who cannot read the rows again waits for it.
pub fn longest_lease_behind(rows: &[ReplicaRow], sequence: Sequence) -> Duration {
    rows.iter()
        .filter(|row| row.applied < sequence)
        .map(|row| row.lease)
        .max()
        .unwrap_or_default()
}

/// The longest lease that a replica may be configured with.
pub const LONGEST_LEASE: Duration = Duration::from_mins(1);

/// Whether a lease that began before the commit has run out, on a clock that may be 2 % slower than ours.
pub fn has_lapsed(lease: Duration, committed_at: BootTime, now: BootTime) -> bool {
    now.since(committed_at) >= lease.mul_f64(1.02) + MARGIN
}

const MARGIN: Duration = Duration::from_millis(50);

/// Whether a replica has not renewed for two leases, so that its row may go if it still has this beat then. `seen` is a beat
/// and our clock from after it was read.
pub fn has_died(row: &ReplicaRow, seen: (u64, BootTime), now: BootTime) -> bool {
    let (beat, since) = seen;
    row.beat == beat && now.since(since) > row.lease * 2
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Learnt, deadline, has_died, holds_everywhere, is_trusted, learnt, verdict};
    use crate::clock::{BootTime, Timestamp};
    use crate::revocation::{Membership, Verdict};
    use crate::store::{
        LogEntry, LogRead, LoggedReason, Mark, ReplicaId, ReplicaRow, RevocationReason, Sequence,
    };

    const LEASE: Duration = Duration::from_secs(3);

    fn at(millis: u64) -> BootTime {
        BootTime::ZERO + Duration::from_millis(100_000 + millis)
    }

    fn row(applied: u64, lease_ms: u64) -> ReplicaRow {
        ReplicaRow {
            id: ReplicaId::random(),
            beat: 1,
            applied: Sequence::new(applied),
            lease: Duration::from_millis(lease_ms),
        }
    }

    #[test]
    fn trust_ends_at_the_deadline() {
        let ends = deadline(at(0), LEASE);
        let cases = [(0, true), (2999, true), (3000, false), (3001, false)];
        for (millis, trusted) in cases {
            assert_eq!(is_trusted(at(millis), ends), trusted, "after {millis} ms");
        }
        assert!(!is_trusted(at(0), BootTime::ZERO), "trusts from the start");
    }

    #[test]
    fn memory_may_always_refuse_and_accepts_within_the_lease() {
        let cases = [
            (true, Membership::Absent, Verdict::Live),
            (true, Membership::Outdated, Verdict::Outdated),
            (true, Membership::Revoked, Verdict::Revoked),
            (false, Membership::Absent, Verdict::AskStore),
            (false, Membership::Outdated, Verdict::Outdated),
            (false, Membership::Revoked, Verdict::Revoked),
        ];
        for (trusted, membership, expected) in cases {
            assert_eq!(verdict(trusted, membership), expected);
        }
    }

    #[test]
    fn what_a_look_at_the_log_means() {
        let (mark, other) = (Mark::from_bytes([1; 8]), Mark::from_bytes([2; 8]));
        let entry = |reason: LoggedReason| LogEntry {
            sequence: Sequence::new(7),
            handle: None,
            reason,
            expires: Timestamp::from_secs(0),
            mark: other,
        };
        let known = || entry(LoggedReason::Known(RevocationReason::Logout));
        let unknown = || entry(LoggedReason::Unknown("eclipse".to_owned()));
        let (keys, claims) = (
            entry(LoggedReason::Keys),
            entry(LoggedReason::Claims { version: 2 }),
        );
        let not_understood = Learnt::NotUnderstood("eclipse");
        let cases = [
            ("the first", None, None, vec![], Learnt::UpToDate),
            (
                "nothing new",
                Some(mark),
                Some(mark),
                vec![],
                Learnt::UpToDate,
            ),
            (
                "all kinds",
                Some(mark),
                Some(mark),
                vec![known(), keys, claims],
                Learnt::UpToDate,
            ),
            (
                "a kind to come",
                Some(mark),
                Some(mark),
                vec![known(), unknown(), known()],
                not_understood,
            ),
            (
                "another mark",
                Some(mark),
                Some(other),
                vec![known()],
                Learnt::OtherHistory,
            ),
            (
                "the entry is gone",
                Some(mark),
                None,
                vec![known()],
                Learnt::OtherHistory,
            ),
            (
                "both",
                Some(mark),
                None,
                vec![unknown()],
                Learnt::OtherHistory,
            ),
        ];
        for (what, applied, found, entries, expected) in cases {
            let log = LogRead {
                entries,
                mark: found,
            };
            assert_eq!(learnt(applied, &log), expected, "{what}");
        }
    }

    #[test]
    fn a_revocation_holds_when_each_replica_has_confirmed_or_lapsed() {
        let cases: [(&str, Vec<ReplicaRow>, u64, bool); 8] = [
            ("no replica", vec![], 0, true),
            ("all confirmed", vec![row(7, 3000), row(9, 3000)], 0, true),
            ("one has not", vec![row(7, 3000), row(6, 3000)], 0, false),
            (
                "its lease would have run out by our clock",
                vec![row(6, 3000)],
                3000,
                false,
            ),
            ("within the margin", vec![row(6, 3000)], 3109, false),
            (
                "its lease has run out by any clock",
                vec![row(6, 3000)],
                3110,
                true,
            ),
            (
                "each lease is that replica's own",
                vec![row(6, 10_000)],
                3110,
                false,
            ),
            (
                "one of two has lapsed",
                vec![row(6, 1000), row(6, 10_000)],
                3110,
                false,
            ),
        ];
        for (what, rows, millis, holds) in cases {
            assert_eq!(
                holds_everywhere(&rows, Sequence::new(7), at(0), at(millis)),
                holds,
                "{what}"
            );
        }
    }

    #[test]
    fn a_replica_has_died_when_its_beat_stands_for_two_leases() {
        let row = row(0, 3000);
        let cases = [
            ("just seen", 1, 0, false),
            ("for a lease", 1, 3000, false),
            ("for two", 1, 6000, false),
            ("for longer", 1, 6001, true),
            ("it has another beat now", 2, 60_000, false),
        ];
        for (what, beat, millis, dead) in cases {
            assert_eq!(has_died(&row, (beat, at(0)), at(millis)), dead, "{what}");
        }
    }
}
