//! What clients saw, with their times, and what of it must not be.
//!
//! All times are of one clock, that of this process. A request counts as begun before its first byte is sent, and a logout as
//! answered after its last byte was read: whatever lies between cannot excuse a violation.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use portcullis::clock::BootTime;

/// Numbers the sessions of a history.
pub type SessionNumber = u32;

/// A request as a session, on one of the replicas.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub session: SessionNumber,
    pub replica: u8,
    pub sent: BootTime,
    pub answered: BootTime,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As the session's user.
    Served,
    /// As somebody else.
    Mistaken,
    /// For want of a session.
    Refused,
    /// 503: the replica cannot tell.
    Unavailable,
    /// No answer, or none that is expected here.
    Lost,
}

/// The end of a session, as whoever asked for it saw it.
#[derive(Clone, Copy, Debug)]
pub struct Logout {
    pub session: SessionNumber,
    /// When it was first asked for.
    pub sent: BootTime,
    /// When an answer said that it was done; `None` if none did.
    pub answered: Option<BootTime>,
}

#[derive(Clone, Debug, Default)]
pub struct History {
    pub requests: Vec<Request>,
    pub logouts: Vec<Logout>,
}

/// What a history comes to.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub logouts: usize,
    pub answered: usize,
    pub requests: usize,
    pub served: usize,
    pub refused: usize,
    pub unavailable: usize,
    pub lost: usize,
    /// Requests that were begun after the answer of their session's logout: what the whole test is about.
    pub after_logout: usize,
    /// Of these, the ones that were served.
    pub violations: Vec<Request>,
    /// Requests that were refused though nobody had asked for a logout.
    pub refused_early: Vec<Request>,
    pub mistaken: Vec<Request>,
    /// The longest time after a logout was asked for that a request was begun and served all the same.
    pub stalest: Duration,
}

impl History {
    pub fn merge(&mut self, other: Self) {
        self.requests.extend(other.requests);
        self.logouts.extend(other.logouts);
    }

    pub fn check(&self) -> Findings {
        let mut findings = Findings {
            logouts: self.logouts.len(),
            requests: self.requests.len(),
            ..Findings::default()
        };
        let mut first_sent: HashMap<SessionNumber, BootTime> = HashMap::new();
        let mut first_answered: HashMap<SessionNumber, BootTime> = HashMap::new();
        for logout in &self.logouts {
            let sent = first_sent.entry(logout.session).or_insert(logout.sent);
            *sent = (*sent).min(logout.sent);
            if let Some(answered) = logout.answered {
                findings.answered += 1;
                let first = first_answered.entry(logout.session).or_insert(answered);
                *first = (*first).min(answered);
            }
        }
        for request in &self.requests {
            let asked_for = first_sent.get(&request.session);
            let is_over = first_answered
                .get(&request.session)
                .is_some_and(|answered| request.sent > *answered);
            findings.after_logout += usize::from(is_over);
            match request.outcome {
                Outcome::Served => {
                    findings.served += 1;
                    if is_over {
                        findings.violations.push(*request);
                    }
                    if let Some(asked_for) = asked_for {
                        findings.stalest = findings.stalest.max(request.sent.since(*asked_for));
                    }
                }
                Outcome::Mistaken => findings.mistaken.push(*request),
                Outcome::Refused => {
                    findings.refused += 1;
                    if asked_for.is_none_or(|asked_for| request.answered < *asked_for) {
                        findings.refused_early.push(*request);
                    }
                }
                Outcome::Unavailable => findings.unavailable += 1,
                Outcome::Lost => findings.lost += 1,
            }
        }
        findings
    }
}

impl Findings {
    /// Fails with all that must not be.
    pub fn assert_none(&self) {
        let worst = &self.violations[..self.violations.len().min(10)];
        assert!(
            worst.is_empty(),
            "{} requests were served after the answer of their logout: {worst:?}",
            self.violations.len()
        );
        assert!(self.mistaken.is_empty(), "{:?}", self.mistaken);
        assert!(self.refused_early.is_empty(), "{:?}", self.refused_early);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} logouts ({} answered), {} requests ({} served, {} refused, {} unavailable, {} lost), {} begun after the answer of their logout, {} violations, stalest {} ms",
            self.logouts,
            self.answered,
            self.requests,
            self.served,
            self.refused,
            self.unavailable,
            self.lost,
            self.after_logout,
            self.violations.len(),
            self.stalest.as_millis()
        )
    }
}
