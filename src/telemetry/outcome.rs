//! How a request ended, as a number that indexes a counter.
//!
//! The set is closed and small: names live here and in the list of rejections that the gateway registers at start, so that
//! counting a request is one array index and one addition, and no label can come from a client.

use http::StatusCode;

/// Which route a request took: the index of its label in what [`super::Metrics::worker`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RouteId(u32);

impl RouteId {
    /// For what was refused before a route was found.
    pub const NONE: Self = Self(u32::MAX);

    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The upstream answered, and its answer was passed on.
    Forwarded(StatusClass),
    /// The upstream named a user and a session was opened.
    Login,
    /// A session was ended by a configured logout.
    Logout,
    /// The refresh path answered with a new access token.
    Refresh,
    /// The gateway answered for itself: a preflight, a user's own sessions, the public keys.
    Own,
    /// The gateway answered instead of the upstream.
    Rejected(RejectionId),
}

impl Outcome {
    /// What an upstream's answer counts as.
    pub fn forwarded(status: StatusCode) -> Self {
        Self::Forwarded(StatusClass::of(status))
    }

    /// The stable name for logs; the reason of a rejection is a field of its own.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forwarded(_) => "forwarded",
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Refresh => "refresh",
            Self::Own => "own",
            Self::Rejected(_) => "rejected",
        }
    }

    /// The place of this outcome's counter; below [`OUTCOMES`] whatever the rejection.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Forwarded(class) => class as usize,
            Self::Login => 5,
            Self::Logout => 6,
            Self::Refresh => 7,
            Self::Own => 8,
            Self::Rejected(RejectionId(id)) => {
                let index = FIXED + id as usize;
                if index < OUTCOMES {
                    index
                } else {
                    OUTCOMES - 1
                }
            }
        }
    }

    /// The value of the `outcome` label for the counter at `index`.
    pub(super) fn label(index: usize, rejections: &[&'static str]) -> String {
        match FIXED_LABELS.get(index) {
            Some(label) => (*label).to_owned(),
            None if index == OUTCOMES - 1 => "rejected_other".to_owned(),
            None => {
                let reason = rejections.get(index - FIXED).copied();
                format!("rejected_{}", reason.unwrap_or("other"))
            }
        }
    }
}

/// The first digit of an upstream's status. What HTTP does not define (600 and above) counts as a server error, as RFC 9110
/// section 15 has clients treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusClass {
    Informational,
    Success,
    Redirection,
    ClientError,
    ServerError,
}

impl StatusClass {
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

/// Why the gateway answered itself: the index of the reason in [`super::MetricsSettings::rejections`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RejectionId(u8);

impl RejectionId {
    pub const fn new(index: u8) -> Self {
        Self(index)
    }
}

/// How many reasons to reject can be told apart; the counter after them is for any beyond.
pub const MAX_REJECTIONS: usize = OUTCOMES - FIXED - 1;

/// Counters per route and worker: a multiple of what fits into a cache line.
pub(super) const OUTCOMES: usize = 64;

const FIXED: usize = FIXED_LABELS.len();

const FIXED_LABELS: [&str; 9] = [
    "forwarded_1xx",
    "forwarded_2xx",
    "forwarded_3xx",
    "forwarded_4xx",
    "forwarded_5xx",
    "login",
    "logout",
    "refresh",
    "own",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::StatusCode;

    use super::{MAX_REJECTIONS, OUTCOMES, Outcome, RejectionId, StatusClass};

    fn every_outcome() -> Vec<Outcome> {
        let rejections = (0..MAX_REJECTIONS)
            .map(|id| Outcome::Rejected(RejectionId::new(u8::try_from(id).unwrap())));
        [
            Outcome::Forwarded(StatusClass::Informational),
            Outcome::Forwarded(StatusClass::Success),
            Outcome::Forwarded(StatusClass::Redirection),
            Outcome::Forwarded(StatusClass::ClientError),
            Outcome::Forwarded(StatusClass::ServerError),
            Outcome::Login,
            Outcome::Logout,
            Outcome::Refresh,
            Outcome::Own,
        ]
        .into_iter()
        .chain(rejections)
        .collect()
    }

    #[test]
    fn every_outcome_has_a_counter_of_its_own() {
        let indexes: HashSet<usize> = every_outcome().into_iter().map(Outcome::index).collect();
        assert_eq!(indexes.len(), every_outcome().len());
        assert!(indexes.iter().all(|index| *index < OUTCOMES - 1));
        assert_eq!(
            Outcome::Rejected(RejectionId::new(255)).index(),
            OUTCOMES - 1
        );
    }

    #[test]
    fn labels_say_what_the_outcomes_are() {
        let rejections = ["expired", "revoked"];
        for (outcome, label) in [
            (Outcome::forwarded(StatusCode::CONTINUE), "forwarded_1xx"),
            (Outcome::forwarded(StatusCode::NO_CONTENT), "forwarded_2xx"),
            (Outcome::forwarded(StatusCode::FOUND), "forwarded_3xx"),
            (Outcome::forwarded(StatusCode::NOT_FOUND), "forwarded_4xx"),
            (Outcome::forwarded(StatusCode::BAD_GATEWAY), "forwarded_5xx"),
            (
                Outcome::forwarded(StatusCode::from_u16(999).unwrap()),
                "forwarded_5xx",
            ),
            (Outcome::Login, "login"),
            (Outcome::Logout, "logout"),
            (Outcome::Refresh, "refresh"),
            (Outcome::Own, "own"),
            (Outcome::Rejected(RejectionId::new(1)), "rejected_revoked"),
            (Outcome::Rejected(RejectionId::new(2)), "rejected_other"),
            (Outcome::Rejected(RejectionId::new(255)), "rejected_other"),
        ] {
            assert_eq!(
                Outcome::label(outcome.index(), &rejections),
                label,
                "{outcome:?}"
            );
        }
    }
}
