//! What is remembered of a request until its answer has been sent: one log line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::policy::Policy;
use crate::clock::{BootTime, Clock};
use crate::identity::UserId;
use crate::route::CanonicalPath;
use crate::telemetry::RequestLine;

/// Written when it is dropped, which is when the last byte of the answer was sent or given up.
#[derive(Debug)]
pub struct Record {
    pub clock: Clock,
    pub started: BootTime,
    pub method: Method,
    pub path: Option<CanonicalPath>,
    pub policy: Option<Arc<Policy>>,
    pub status: u16,
    pub outcome: &'static str,
    pub reason: Option<&'static str>,
    pub user: Option<UserId>,
    pub client: IpAddr,
    pub upstream: Option<Duration>,
    pub bytes_out: u64,
}

impl Record {
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let line = RequestLine {
            method: self.method.as_str(),
            path: self.path.as_ref().map_or("", CanonicalPath::path),
            status: self.status,
            route: self.policy.as_ref().map(|policy| policy.label.as_str()),
            outcome: self.outcome,
            reason: self.reason,
            user: self.user.as_ref().map(UserId::as_str),
            client: self.client,
            bytes_out: self.bytes_out,
            elapsed: self.clock.boot().since(self.started),
            upstream: self.upstream,
        };
        line.emit();
    }
}
