//! One line per request, with field names that do not change.
//!
//! The line never has a query, a header or a body: that is where secrets travel. A user id is in it where the request was
//! authenticated, because "who did this" is what such a log is read for; it can be left out by the caller.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

/// The target of request lines: `portcullis::request=off` in the filter turns them off.
pub const REQUEST_TARGET: &str = "portcullis::request";

/// What is said about a request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    pub method: &'a str,
    /// The canonical path; a query, should there be one, is not logged.
    pub path: &'a str,
    /// As sent to the client.
    pub status: u16,
    /// The label of the route; `None` if the request was refused before one was found.
    pub route: Option<&'a str>,
    /// [`super::Outcome::name`].
    pub outcome: &'static str,
    /// Why the gateway answered itself.
    pub reason: Option<&'static str>,
    /// Who the request was served as.
    pub user: Option<&'a str>,
    /// The client's address, as far as it is believed.
    pub client: IpAddr,
    /// Bytes of body sent to the client.
    pub bytes_out: u64,
    /// From the request's head to the end of the answer.
    pub elapsed: Duration,
    /// The upstream's part of it.
    pub upstream: Option<Duration>,
}

impl RequestLine<'_> {
    /// Whether request lines are logged at all; cheap, for callers that would have to gather the fields first.
    pub fn enabled() -> bool {
        tracing::enabled!(target: REQUEST_TARGET, tracing::Level::INFO)
    }

    /// Logs the line, if the filter wants it.
    pub fn emit(&self) {
        tracing::info!(
            target: REQUEST_TARGET,
            method = &*shortened(self.method, MAX_METHOD_BYTES),
            path = &*shortened(without_query(self.path), MAX_PATH_BYTES),
            status = self.status,
            route = self.route,
            outcome = self.outcome,
            reason = self.reason,
            user = self.user,
            client = %self.client,
            bytes_out = self.bytes_out,
            elapsed_us = micros(self.elapsed),
            upstream_us = self.upstream.map(micros),
            "request"
        );
    }
}

fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or(path)
}

/// Clients choose the lengths of methods and paths; a log line has a bound.
fn shortened(text: &str, max_bytes: usize) -> Cow<'_, str> {
    if text.len() <= max_bytes {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(max_bytes);
    Cow::Owned(format!("{}…", &text[..end]))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const MAX_METHOD_BYTES: usize = 32;

const MAX_PATH_BYTES: usize = 2048;
