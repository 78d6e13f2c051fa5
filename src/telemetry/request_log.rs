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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use proptest::prelude::{any, proptest};
    use proptest::{prop_assert, prop_assert_eq};
    use serde_json::{Value, json};

    use super::RequestLine;
    use crate::telemetry::LogFormat;
    use crate::telemetry::logs::tests::logged;

    fn line() -> RequestLine<'static> {
        RequestLine {
            method: "GET",
            path: "/notes/1",
            status: 200,
            route: Some("/**"),
            outcome: "forwarded",
            reason: None,
            user: Some("alice"),
            client: Ipv4Addr::new(192, 0, 2, 7).into(),
            bytes_out: 1024,
            elapsed: Duration::from_micros(950),
            upstream: Some(Duration::from_micros(900)),
        }
    }

    fn rejected() -> RequestLine<'static> {
        RequestLine {
            status: 400,
            route: None,
            outcome: "rejected",
            reason: Some("bad_path"),
            user: None,
            upstream: None,
            ..line()
        }
    }

    fn as_json(line: RequestLine<'_>) -> Value {
        let lines = logged("info", LogFormat::Json, || line.emit());
        assert_eq!(lines.len(), 1, "{lines:?}");
        let mut event: Value = serde_json::from_str(&lines[0]).unwrap();
        event.as_object_mut().unwrap().remove("timestamp");
        event
    }

    #[test]
    fn json_has_every_field_under_its_name_and_leaves_out_what_is_not_known() {
        assert_eq!(
            as_json(line()),
            json!({
                "level": "INFO", "target": "portcullis::request", "message": "request",
                "method": "GET", "path": "/notes/1", "status": 200, "route": "/**",
                "outcome": "forwarded", "user": "alice", "client": "192.0.2.7",
                "bytes_out": 1024, "elapsed_us": 950, "upstream_us": 900,
            })
        );
        assert_eq!(
            as_json(rejected()),
            json!({
                "level": "INFO", "target": "portcullis::request", "message": "request",
                "method": "GET", "path": "/notes/1", "status": 400, "outcome": "rejected",
                "reason": "bad_path", "client": "192.0.2.7", "bytes_out": 1024, "elapsed_us": 950,
            })
        );
    }

    #[test]
    fn text_has_the_same_fields() {
        let lines = logged("info", LogFormat::Text, || line().emit());
        let (_, fields) = lines[0].split_once("INFO portcullis::request: ").unwrap();
        assert_eq!(
            fields,
            r#"request method="GET" path="/notes/1" status=200 route="/**" outcome="forwarded" user="alice" client=192.0.2.7 bytes_out=1024 elapsed_us=950 upstream_us=900"#
        );
    }

    #[test]
    fn request_lines_can_be_turned_off_alone() {
        let lines = logged("info,portcullis::request=off", LogFormat::Text, || {
            assert!(!RequestLine::enabled());
            line().emit();
            tracing::info!("others stay");
        });
        assert_eq!(lines.len(), 1);
        logged("info", LogFormat::Text, || assert!(RequestLine::enabled()));
    }

    #[test]
    fn no_query_is_logged() {
        for path in ["/reset?token=s3cret", "/reset#s3cret", "/reset?a?s3cret"] {
            let event = as_json(RequestLine { path, ..line() });
            assert_eq!(event["path"], "/reset", "{path}");
        }
    }

    #[test]
    fn long_methods_and_paths_are_shortened_between_characters() {
        let path = format!("/{}", "é".repeat(5000));
        let method = "M".repeat(9000);
        let event = as_json(RequestLine {
            path: &path,
            method: &method,
            ..line()
        });
        let logged = event["path"].as_str().unwrap();
        assert!(logged.len() < 2060 && logged.ends_with("é…"), "{logged}");
        assert_eq!(event["method"], format!("{}…", "M".repeat(32)));
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_sends_forges_a_line_or_a_field(
            method in any::<String>(),
            path in any::<String>(),
            user in any::<String>(),
        ) {
            let line = RequestLine { method: &method, path: &path, user: Some(&user), ..line() };
            let text = logged("info", LogFormat::Text, || line.emit());
            prop_assert_eq!(text.len(), 1);
            prop_assert!(!text[0].chars().any(char::is_control));

            let event = as_json(line);
            prop_assert_eq!(event["user"].as_str(), Some(user.as_str()));
            prop_assert_eq!(&event["status"], &json!(200));
            prop_assert_eq!(event.as_object().unwrap().len(), 13);
        }
    }
}
