//! What can be sent to an application.
//!
//! A request is made of parts whose types say that they are fit to leave: the one canonical path, and headers that went through
//! the rule over them. A plain [`http::Request`] or [`HeaderMap`] cannot be sent; what is written comes into being in here, at the last
//! step.

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use super::request_body::RequestBody;
use crate::route::CanonicalPath;

/// Headers that may go to an application. For whoever knows the rule over them to say of a type that only the rule makes: in the
/// gateway that is one (`tests/architecture.rs`).
pub trait FitHeaders {
    fn into_map(self) -> HeaderMap;
}

/// A request that may go to an application.
#[derive(Debug)]
pub struct Outgoing<H, B> {
    pub method: Method,
    /// Written as it is, in origin form; with its query.
    pub path: CanonicalPath,
    /// With `Host`.
    pub headers: H,
    pub body: B,
}

impl<H: FitHeaders, B> Outgoing<H, B> {
    pub(super) fn into_message(self, wrap: impl FnOnce(B) -> RequestBody) -> Message {
        Message {
            method: self.method,
            target: self.path.to_path_and_query(),
            headers: self.headers.into_map(),
            body: wrap(self.body),
        }
    }
}

/// A request as it stays with its sender until it is answered.
pub(super) struct Message {
    pub method: Method,
    /// In origin form (RFC 9112 section 3.2.1).
    pub target: PathAndQuery,
    /// With `Host`.
    pub headers: HeaderMap,
    pub body: RequestBody,
}

impl Message {
    /// The same again; only for one without body.
    pub fn copy(&self) -> Self {
        Self {
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: RequestBody::empty(),
        }
    }
}
