//! What the private listener answers: to anyone health and metrics, to who shows the token the API.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;

use super::guard::{self, Refusal};
use super::listener::AdminState;
use super::problem::{Code, Problem};
use super::readiness::ActiveConfiguration;
use crate::telemetry;

pub(super) type Answer = Response<Full<Bytes>>;

/// The answer to a request, whatever it is.
pub(super) async fn answer<B>(request: Request<B>, state: &AdminState) -> Answer
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let decided = match open_page(&request, state) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => match &state.api {
            Some(api) => api.answer(request).await,
            None => Err(Code::NotFound.says(NOTHING_HERE)),
        },
        Err(problem) => Err(problem),
    };
    decided.unwrap_or_else(Problem::into_answer)
}

/// What needs no token.
fn open_page<B>(request: &Request<B>, state: &AdminState) -> Result<Option<Answer>, Problem> {
    guard::check(request.uri(), request.headers(), &state.host_names).map_err(refused)?;
    let page: fn(&AdminState) -> Answer = match request.uri().path() {
        "/livez" => live,
        "/readyz" => ready,
        "/metrics" => metrics,
        _ => return Ok(None),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::method_not_allowed(&[&Method::GET]));
    }
    Ok(Some(page(state)))
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
        JSON,
        &ReadyBody {
            status: text,
            reasons,
            warnings: state.readiness.warnings(),
            configuration: state.readiness.configuration(),
        },
    )
}

#[derive(Serialize)]
struct ReadyBody {
    status: &'static str,
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<ActiveConfiguration>,
}

fn metrics(state: &AdminState) -> Answer {
    with_type(
        StatusCode::OK,
        telemetry::CONTENT_TYPE,
        state.metrics.encode(),
    )
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::BadHost => Code::InvalidHost.says("send one Host header with a valid host"),
        Refusal::ForeignHost => Code::ForeignHost.says(
            "call this listener by its address, localhost, or a host name that its configuration allows",
        ),
        Refusal::ForeignOrigin => {
            Code::ForeignOrigin.says("pages of other origins may not call this listener")
        }
    }
}

pub(super) fn json(
    status: StatusCode,
    content_type: &'static str,
    body: &impl Serialize,
) -> Answer {
    let text = serde_json::to_string(body).expect("structs of texts and numbers are JSON");
    with_type(status, content_type, text)
}

pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub(super) const JSON: &str = "application/json";
pub(super) const NOTHING_HERE: &str = "there is nothing at this path";
