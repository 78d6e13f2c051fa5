//! What the private listener says when it does not do what was asked: problem details (RFC 9457), each with a stable code.

use std::borrow::Cow;

use http::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::error;

use super::answers::{Answer, json};
use crate::causes::Causes;
use crate::issuer::{IssueError, OpenError};
use crate::keys::KeysError;
use crate::revocation::StoreUnreadable;
use crate::store::StoreError;

/// Every kind of problem. Its code is for programs, and stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Code {
    InvalidHost,
    InvalidParameter,
    MalformedJson,
    Unauthorized,
    ForeignOrigin,
    NotFound,
    SessionNotFound,
    KeyNotFound,
    MethodNotAllowed,
    BodyTimeout,
    LoginOvertaken,
    UserDisabled,
    KeyRotated,
    BodyTooLarge,
    UnsupportedMediaType,
    ForeignHost,
    InvalidBody,
    Internal,
    StoreUnavailable,
}

impl Code {
    pub fn status(self) -> StatusCode {
        match self {
            Self::InvalidHost | Self::InvalidParameter | Self::MalformedJson => {
                StatusCode::BAD_REQUEST
            }
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NotFound | Self::SessionNotFound | Self::KeyNotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::LoginOvertaken | Self::UserDisabled | Self::KeyRotated => StatusCode::CONFLICT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Self::InvalidBody => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::StoreUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidHost => "invalid-host",
            Self::InvalidParameter => "invalid-parameter",
            Self::MalformedJson => "malformed-json",
            Self::Unauthorized => "unauthorized",
            Self::ForeignOrigin => "foreign-origin",
            Self::NotFound => "not-found",
            Self::SessionNotFound => "session-not-found",
            Self::KeyNotFound => "key-not-found",
            Self::MethodNotAllowed => "method-not-allowed",
            Self::BodyTimeout => "body-timeout",
            Self::LoginOvertaken => "login-overtaken",
            Self::UserDisabled => "user-disabled",
            Self::KeyRotated => "key-rotated",
            Self::BodyTooLarge => "body-too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::ForeignHost => "foreign-host",
            Self::InvalidBody => "invalid-body",
            Self::Internal => "internal",
            Self::StoreUnavailable => "store-unavailable",
        }
    }

    /// With no more to say than what the code means.
    pub fn says(self, detail: impl Into<Cow<'static, str>>) -> Problem {
        Problem {
            code: self,
            detail: detail.into(),
            allow: None,
            failed: Vec::new(),
        }
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct Problem {
    pub code: Code,
    /// For people.
    pub detail: Cow<'static, str>,
    allow: Option<String>,
    failed: Vec<String>,
}

impl Problem {
    /// The path is there, but not for this method.
    pub fn method_not_allowed(allowed: &[&Method]) -> Self {
        let mut names: Vec<&str> = allowed.iter().map(|method| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        let names = names.join(", ");
        Self {
            allow: Some(names.clone()),
            ..Code::MethodNotAllowed.says(format!("use {names}"))
        }
    }

    /// Some of what was asked for was done: these were not.
    pub fn partly(failed: Vec<String>) -> Self {
        Self {
            failed,
            ..Code::StoreUnavailable
                .says("the sessions of some users were not ended; ask again, for all or for them")
        }
    }

    pub fn into_answer(self) -> Answer {
        let status = self.code.status();
        let body = ProblemBody {
            r#type: format!("urn:problem-type:{}", self.code.name()),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code.name(),
            detail: &self.detail,
            failed: &self.failed,
        };
        let mut answer = json(status, PROBLEM_JSON, &body);
        let headers = answer.headers_mut();
        if let Some(allow) = self
            .allow
            .and_then(|allow| HeaderValue::try_from(allow).ok())
        {
            headers.insert(ALLOW, allow);
        }
        match self.code {
            Code::Unauthorized => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Code::StoreUnavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        answer
    }
}

pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Problem details (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemBody<'a> {
    /// Names the kind of problem, as `code` does.
    #[schemars(extend("format" = "uri"))]
    r#type: String,
    title: &'a str,
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// Stable name of the kind of problem, for programs.
    code: &'a str,
    /// What happened and what to do, for people.
    detail: &'a str,
    /// What was not done, when the rest was.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    failed: &'a [String],
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_temporary() {
            tracing::warn!(
                error = %Causes(&error),
                "an admin request found no session store"
            );
            return Code::StoreUnavailable
                .says("the session store cannot be reached; whatever was asked for can be asked for again");
        }
        error!(
            error = %Causes(&error),
            "an admin request failed"
        );
        Code::Internal.says("the session store failed; the log says why")
    }
}

impl From<KeysError> for Problem {
    fn from(error: KeysError) -> Self {
        if let KeysError::Store(error) = error {
            return error.into();
        }
        error!(
            error = %Causes(&error),
            "an admin request failed"
        );
        Code::Internal.says("the signing keys cannot be used; the log says why")
    }
}

impl From<StoreUnreadable> for Problem {
    fn from(error: StoreUnreadable) -> Self {
        match error {
            StoreUnreadable::Busy => Code::StoreUnavailable
                .says("too many requests wait for the session store; try again"),
            StoreUnreadable::Store(error) => error.into(),
        }
    }
}

impl From<OpenError> for Problem {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Overtaken => Code::LoginOvertaken
                .says("all sessions of the user were ended meanwhile; try again if the user is still to be let in"),
            OpenError::Disabled => Code::UserDisabled.says("the user is disabled; enable the user first"),
            OpenError::Failed(IssueError::Store(error)) => error.into(),
            OpenError::Failed(other) => {
                error!(error = %Causes(&other), "cannot open a session");
                Code::Internal.says("the session cannot be opened; the log says why")
            }
        }
    }
}
