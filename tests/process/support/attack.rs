//! Requests that are refused as a whole, and what is smuggled behind them.

use super::{Gateway, Home, Upstream, only_app};

/// Comes after each attack on the same connection; it must never reach the application.
pub const SMUGGLED: &str = "GET /public/smuggled HTTP/1.1\r\nhost: g.test\r\n\r\n";

/// A gateway under attack; fails when dropped, with everything that went wrong.
pub struct Attack {
    pub upstream: Upstream,
    pub gateway: Gateway,
    _home: Home,
    failures: Vec<String>,
}

impl Attack {
    pub fn new() -> Self {
        let upstream = Upstream::application();
        let home = Home::new(&only_app(upstream.address));
        Self {
            gateway: home.start(),
            upstream,
            _home: home,
            failures: Vec::new(),
        }
    }

    /// Sends the bytes and a request behind them, and waits for the gateway to close. There is at most one answer, which is
    /// one of `statuses`; 0 stands for none at all.
    pub fn is_refused(&mut self, what: &str, bytes: &[u8], statuses: &[u16]) {
        let seen = self.upstream.requests();
        let mut conn = self.gateway.connect();
        let _ = conn.try_send([bytes, SMUGGLED.as_bytes()].concat());
        let answers = String::from_utf8_lossy(&conn.rest()).into_owned();
        let got: Vec<u16> = answers
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|answer| answer[..3].parse().unwrap())
            .collect();
        let expected = match got[..] {
            [] => statuses.contains(&0),
            [status] => statuses.contains(&status),
            _ => false,
        };
        if !expected {
            self.failures.push(format!("{what}: answered {got:?}"));
        }
        self.nothing_came(what, seen);
    }

    fn nothing_came(&mut self, what: &str, seen: usize) {
        let heads = self.upstream.heads().split_off(seen);
        if !heads.is_empty() {
            self.failures
                .push(format!("{what}: the application got {heads:?}"));
        }
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let failures = std::mem::take(&mut self.failures);
            assert!(failures.is_empty(), "{}", failures.join("\n"));
            assert_eq!(self.gateway.status("/public/", ""), 200);
            for head in self.upstream.heads() {
                assert!(!head.contains("smuggled"), "{head}");
            }
        }
    }
}
