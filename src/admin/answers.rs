//! What the private listener answers: health, metrics, and problems (RFC 9457).

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode, Uri};
use http_body_util::Full;
use serde::Serialize;

use super::guard::{self, Refusal};
use super::listener::AdminState;
use crate::telemetry;

pub(super) type Answer = Response<Full<Bytes>>;

/// The answer to a request, by its head; no path takes a body.
pub(super) fn answer(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    state: &AdminState,
) -> Answer {
    if let Err(refusal) = guard::check(uri, headers, &state.host_names) {
        return refused(refusal);
    }
    let page: fn(&AdminState) -> Answer = match uri.path() {
        "/livez" => live,
        "/readyz" => ready,
        "/metrics" => metrics,
        _ => return problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return wrong_method();
    }
    page(state)
}

fn live(_: &AdminState) -> Answer {
    with_type(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into())
}

fn ready(state: &AdminState) -> Answer {
    let reasons = state.readiness.reasons();
    let (status, text) = if reasons.is_empty() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    json(
        status,
        "application/json",
        &ReadyBody {
            status: text,
            reasons,
        },
    )
}

#[derive(Serialize)]
struct ReadyBody {
    status: &'static str,
    reasons: Vec<String>,
}

fn metrics(state: &AdminState) -> Answer {
    with_type(
        StatusCode::OK,
        telemetry::CONTENT_TYPE,
        state.metrics.encode(),
    )
}

fn refused(refusal: Refusal) -> Answer {
    let (status, detail) = match refusal {
        Refusal::BadHost => (
            StatusCode::BAD_REQUEST,
            "send one Host header with a valid host",
        ),
        Refusal::ForeignHost => (
            StatusCode::MISDIRECTED_REQUEST,
            "call this listener by its address, localhost, or a host name that its configuration allows",
        ),
        Refusal::ForeignOrigin => (
            StatusCode::FORBIDDEN,
            "pages of other origins may not call this listener",
        ),
    };
    problem(status, detail)
}

fn wrong_method() -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD");
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

/// RFC 9457; with type `about:blank` the title is the status's own phrase.
fn problem(status: StatusCode, detail: &'static str) -> Answer {
    json(
        status,
        "application/problem+json",
        &Problem {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail,
        },
    )
}

#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
}

fn json(status: StatusCode, content_type: &'static str, body: &impl Serialize) -> Answer {
    let text = serde_json::to_string(body).expect("structs of texts and numbers are JSON");
    with_type(status, content_type, text)
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
