//! What can be sent to an application.
//!
//! A request is made of parts whose types say that they are fit to leave: the one canonical path, and headers that went through
//! the rule over them. A plain [`Request`] or [`HeaderMap`] cannot be sent; they come into being in here, at the last step.

use http::{HeaderMap, Method, Request, Uri};

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
    pub(super) fn into_request(self) -> Request<B> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from(self.path.to_path_and_query());
        *request.headers_mut() = self.headers.into_map();
        request
    }
}
