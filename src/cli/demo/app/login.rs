//! The login of the sample app: a name is enough, and one response header tells the gateway.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use percent_encoding::percent_decode;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;

use super::answer::{self, Answer};
use crate::identity::{InvalidUserId, UserId};

const MAX_BODY: usize = 8 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const LOGIN_HEADER: HeaderName = HeaderName::from_static("portcullis-login");

/// Logs in whoever gives a name.
pub async fn answer(request: Request<Incoming>) -> Answer {
    let Some(sender) = Sender::of(request.headers()) else {
        let error = LoginError::UnknownType;
        return answer::script_refused(error.status(), &error.to_string());
    };
    let read = read_body(request.into_body()).await;
    match read.and_then(|body| sender.read_user(&body)) {
        Ok(user) => sender.welcome(&user),
        Err(error) => sender.refuse(&error),
    }
}

async fn read_body(body: Incoming) -> Result<Bytes, LoginError> {
    let collected = timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect())
        .await
        .map_err(|_| LoginError::TooSlow)?;
    match collected {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(LoginError::TooLarge),
        Err(_) => Err(LoginError::CutShort),
    }
}

/// Who sent the login, by its content type.
#[derive(Clone, Copy)]
enum Sender {
    /// The page's form, in a browser without scripts.
    Form,
    /// The page's script.
    Script,
}

impl Sender {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let full = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let (essence, _) = full.split_once(';').unwrap_or((full, ""));
        match essence.trim().to_ascii_lowercase().as_str() {
            "application/x-www-form-urlencoded" => Some(Self::Form),
            "application/json" => Some(Self::Script),
            _ => None,
        }
    }

    fn read_user(self, body: &[u8]) -> Result<UserId, LoginError> {
        let name = match self {
            Self::Form => form_field(body, b"user").ok_or(LoginError::NoUser)?,
            Self::Script => {
                let login: ScriptLogin =
                    serde_json::from_slice(body).map_err(|_| LoginError::NoUser)?;
                login.user
            }
        };
        Ok(UserId::parse(name.trim())?)
    }

    fn welcome(self, user: &UserId) -> Answer {
        let mut answer = match self {
            Self::Form => answer::see_other("/"),
            Self::Script => answer::json(StatusCode::OK, &json!({ "user": user.as_str() })),
        };
        answer
            .headers_mut()
            .insert(LOGIN_HEADER, user.to_header_value());
        answer
    }

    fn refuse(self, error: &LoginError) -> Answer {
        match self {
            Self::Form => answer::form_refused(error.status(), &error.to_string()),
            Self::Script => answer::script_refused(error.status(), &error.to_string()),
        }
    }
}

#[derive(Deserialize)]
struct ScriptLogin {
    user: String,
}

/// Why a login is refused; always the sender's fault.
#[derive(Debug, Error)]
enum LoginError {
    #[error("a login is a form or JSON")]
    UnknownType,
    #[error("a login has at most {MAX_BODY} bytes")]
    TooLarge,
    #[error("the login did not arrive in time")]
    TooSlow,
    #[error("the login was cut short")]
    CutShort,
    #[error("a login has a field named user")]
    NoUser,
    #[error(transparent)]
    BadUser(#[from] InvalidUserId),
}

impl LoginError {
    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::CutShort | Self::NoUser | Self::BadUser(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// The first field of that name in an `application/x-www-form-urlencoded` body; `None` also if it is not UTF-8.
fn form_field(body: &[u8], name: &[u8]) -> Option<String> {
    body.split(|byte| *byte == b'&').find_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = (&pair[..at], &pair[at + 1..]);
        (found == name).then(|| form_decode(value))?
    })
}

fn form_decode(value: &[u8]) -> Option<String> {
    let spaced: Vec<u8> = value
        .iter()
        .map(|byte| if *byte == b'+' { b' ' } else { *byte })
        .collect();
    let decoded = percent_decode(&spaced).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::form_field;

    #[test]
    fn fields_of_a_form() {
        for (body, expected) in [
            ("user=alice", Some("alice")),
            ("a=1&user=zo%C3%AB+b%2Bc&user=other", Some("zoë b+c")),
            ("user=a=b", Some("a=b")),
            ("user=", Some("")),
            ("user=50%", Some("50%")),
            ("user", None),
            ("", None),
            ("users=alice", None),
            ("user=%ff", None),
        ] {
            assert_eq!(
                form_field(body.as_bytes(), b"user").as_deref(),
                expected,
                "{body}"
            );
        }
    }
}
