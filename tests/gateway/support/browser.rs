//! A browser, as far as cookies go: it keeps what it is told to keep, and sends it where it belongs.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Answer, Replica, wire};

/// Cookies by name; a clone is the same browser in another tab, or a thief who has copied them.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    jar: BTreeMap<String, Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    value: String,
    path: String,
}

impl Browser {
    pub fn new() -> Self {
        Self::default()
    }

    /// A browser whose user has logged in; it tries again if the store is busy, as it can be on a busy machine.
    #[track_caller]
    pub fn logged_in(replica: &Replica, user: &str) -> Self {
        let mut browser = Self::new();
        let mut answer = browser.log_in(replica, user);
        for _ in 0..5 {
            if answer.status == 503 {
                answer = browser.log_in(replica, user);
            }
        }
        answer.assert_opened();
        browser
    }

    pub fn log_in(&mut self, replica: &Replica, user: &str) -> Answer {
        self.send(replica, "POST", "/login", &[], &format!("user={user}"))
    }

    pub fn get(&mut self, replica: &Replica, target: &str) -> Answer {
        self.send(replica, "GET", target, &[], "")
    }

    pub fn post(&mut self, replica: &Replica, target: &str) -> Answer {
        self.send(replica, "POST", target, &[], "")
    }

    /// Sends what this browser keeps for the target, and keeps what comes back.
    pub fn send(
        &mut self,
        replica: &Replica,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let answer = replica.raw(&self.request(method, target, headers, body));
        self.keep(&answer);
        answer
    }

    /// The bytes that [`Self::send`] sends.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Vec<u8> {
        let cookies = self.cookies_for(target);
        let mut headers = headers.to_vec();
        if !cookies.is_empty() {
            headers.push(("Cookie", &cookies));
        }
        wire::request(method, target, &headers, body)
    }

    fn cookies_for(&self, target: &str) -> String {
        let kept = self
            .jar
            .iter()
            .filter(|(_, kept)| target.starts_with(&kept.path));
        let pairs: Vec<String> = kept
            .map(|(name, kept)| format!("{name}={}", kept.value))
            .collect();
        pairs.join("; ")
    }

    /// Obeys the `Set-Cookie`s of an answer.
    pub fn keep(&mut self, answer: &Answer) {
        for cookie in answer.all("set-cookie") {
            let mut parts = cookie.split("; ");
            let (name, value) = parts.next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.jar.remove(name);
                continue;
            }
            let path = parts
                .find_map(|part| part.strip_prefix("Path="))
                .unwrap_or("/");
            let kept = Kept {
                value: value.to_owned(),
                path: path.to_owned(),
            };
            self.jar.insert(name.to_owned(), kept);
        }
    }

    pub fn has_a_session(&self) -> bool {
        self.jar.contains_key(ACCESS) || self.jar.contains_key(REFRESH)
    }

    pub fn access(&self) -> &str {
        &self.jar[ACCESS].value
    }

    pub fn refresh(&self) -> &str {
        &self.jar[REFRESH].value
    }

    /// Loses the refresh token, or the access token.
    pub fn forget(&mut self, cookie: &str) {
        self.jar.remove(cookie);
    }

    /// What the access token says.
    pub fn claims(&self) -> Value {
        claims_of(self.access())
    }

    /// The handle of the session.
    pub fn handle(&self) -> String {
        self.claims()["sid"].as_str().unwrap().to_owned()
    }
}

pub const ACCESS: &str = "sAccessToken";
pub const REFRESH: &str = "sRefreshToken";

/// The payload of a JWT, unverified.
pub fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

impl Answer {
    /// The tokens of a session came: cookies, and what the browser SDKs read.
    #[track_caller]
    pub fn assert_opened(&self) {
        assert_eq!(self.status, 200, "{self:?}");
        let names: Vec<&str> = self
            .all("set-cookie")
            .iter()
            .map(|cookie| cookie.split('=').next().unwrap())
            .collect();
        assert_eq!(names, [ACCESS, REFRESH]);
        self.front_token();
        self.assert_exposed_and_not_stored();
    }

    /// The decoded `front-token`.
    #[track_caller]
    pub fn front_token(&self) -> Value {
        let token = self.header("front-token").expect("no front-token");
        serde_json::from_slice(&STANDARD.decode(token).unwrap()).unwrap()
    }
}
