//! The answers of the sample app: its files, its rendered pages, its JSON, its refusals.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::identity::UserId;

/// Every answer has its whole body at hand.
pub type Answer = Response<Full<Bytes>>;

const HTML: &str = "text/html; charset=utf-8";
/// Own files only; no inline scripts or styles, no frames.
const CONTENT_POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// A file built into the binary.
#[derive(Clone, Copy)]
pub struct Asset {
    content_type: &'static str,
    text: &'static str,
}

pub const PAGE: Asset = Asset {
    content_type: HTML,
    text: include_str!("../page.html"),
};
pub const SCRIPT: Asset = Asset {
    content_type: "text/javascript; charset=utf-8",
    text: include_str!("../app.js"),
};
pub const STYLE: Asset = Asset {
    content_type: "text/css; charset=utf-8",
    text: include_str!("../style.css"),
};
pub const ICON: Asset = Asset {
    content_type: "image/svg+xml",
    text: include_str!("../favicon.svg"),
};

impl Asset {
    pub fn to_answer(self) -> Answer {
        let body = Bytes::from_static(self.text.as_bytes());
        let mut answer = with_body(StatusCode::OK, self.content_type, body);
        answer
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer
    }
}

/// Who is calling, and all that arrived with the call: a reader sees that no cookie of the gateway did.
pub fn me(user: &UserId, received: &HeaderMap) -> Answer {
    let mut headers = BTreeMap::<&str, Vec<_>>::new();
    for (name, value) in received {
        let text = String::from_utf8_lossy(value.as_bytes());
        headers.entry(name.as_str()).or_default().push(text);
    }
    let headers: BTreeMap<_, _> = headers
        .into_iter()
        .map(|(name, values)| (name, values.join(", ")))
        .collect();
    json(
        StatusCode::OK,
        &json!({ "user": user.as_str(), "headers": headers }),
    )
}

/// The page of a user, made by the server.
pub fn account(user: &UserId) -> Answer {
    let name = escape(user.as_str());
    let main = include_str!("../account.html").replace("{{user}}", &name);
    page(StatusCode::OK, "Your account", &main)
}

/// The answer to a form that cannot be accepted.
pub fn form_refused(status: StatusCode, reason: &str) -> Answer {
    let main = format!(
        "<h1>That did not work</h1>\n<p>{}</p>\n<p><a href=\"/\">Back</a></p>",
        escape(reason)
    );
    page(status, "That did not work", &main)
}

/// The answer to a script that cannot be accepted.
pub fn script_refused(status: StatusCode, reason: &str) -> Answer {
    json(status, &json!({ "message": reason }))
}

pub fn no_user() -> Answer {
    script_refused(
        StatusCode::UNAUTHORIZED,
        "no x-user-id: open the gateway's address, not this app's",
    )
}

pub fn not_found() -> Answer {
    form_refused(StatusCode::NOT_FOUND, "There is nothing at this path.")
}

pub fn method_not_allowed(allowed: &[Method]) -> Answer {
    let mut answer = script_refused(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path has another method",
    );
    let names: Vec<_> = allowed.iter().map(Method::as_str).collect();
    if let Ok(names) = HeaderValue::try_from(names.join(", ")) {
        answer.headers_mut().insert(ALLOW, names);
    }
    answer
}

pub fn see_other(path: &'static str) -> Answer {
    let mut answer = with_body(StatusCode::SEE_OTHER, HTML, Bytes::new());
    answer
        .headers_mut()
        .insert(LOCATION, HeaderValue::from_static(path));
    answer
}

/// A body with nothing in it.
pub fn empty() -> Full<Bytes> {
    Full::default()
}

pub fn json(status: StatusCode, value: &Value) -> Answer {
    with_body(status, "application/json", value.to_string().into())
}

/// `title` and `main` are HTML already.
fn page(status: StatusCode, title: &str, main: &str) -> Answer {
    let html = include_str!("../frame.html")
        .replace("{{title}}", title)
        .replace("{{main}}", main);
    with_body(status, HTML, html.into())
}

/// What is not a file of the app speaks of one user at one time, so nobody keeps it.
fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, CONTENT_POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ] {
        answer
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn escaped_text_is_only_text() {
        assert_eq!(
            escape(r#"<b a="1" c='2'>&amp;"#),
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;"
        );
        assert_eq!(escape("zoë {{main}}"), "zoë {{main}}");
    }
}
