//! Everything that can be asked of the API: matched against requests, and told in the description.

use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::fleet::{Fleet, Log};
use super::keys::{Keys, RevokedKey, Successor};
use super::sessions::{
    ClaimsReplaced, Ended, NewSession, OpenedSession, RevokeSessions, SessionDetails, SessionPage,
};
use super::users::{Disabled, RevokeUsers, RevokedUsers};
use super::values::{Claims, Data, Stored};
use super::verify::{AccessToken, Verified};
use crate::admin::answers::NOTHING_HERE;
use crate::admin::problem::{Code, Problem};

/// What is done; the dispatch is in `Api::call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    OpenSession,
    VerifyToken,
    RevokeSessions,
    ListSessions,
    GetSession,
    EndSession,
    GetData,
    ReplaceData,
    ReplaceClaims,
    ListUserSessions,
    EndUserSessions,
    RevokeUsers,
    GetDisabled,
    DisableUser,
    EnableUser,
    ListKeys,
    RotateKeys,
    RevokeKey,
    ReadLog,
    GetFleet,
    Describe,
}

impl Call {
    /// `operationId` in the description, `operation` in the audit.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenSession => "openSession",
            Self::VerifyToken => "verifyAccessToken",
            Self::RevokeSessions => "revokeSessions",
            Self::ListSessions => "listSessions",
            Self::GetSession => "getSession",
            Self::EndSession => "revokeSession",
            Self::GetData => "getSessionData",
            Self::ReplaceData => "replaceSessionData",
            Self::ReplaceClaims => "replaceSessionClaims",
            Self::ListUserSessions => "listUserSessions",
            Self::EndUserSessions => "revokeUserSessions",
            Self::RevokeUsers => "revokeUsers",
            Self::GetDisabled => "getUserDisabled",
            Self::DisableUser => "disableUser",
            Self::EnableUser => "enableUser",
            Self::ListKeys => "listKeys",
            Self::RotateKeys => "rotateKeys",
            Self::RevokeKey => "revokeKey",
            Self::ReadLog => "readRevocationLog",
            Self::GetFleet => "getFleet",
            Self::Describe => "describe",
        }
    }

    /// What changes nothing leaves no line in the audit.
    pub const fn changes_something(self) -> bool {
        !matches!(
            self,
            Self::VerifyToken
                | Self::ListSessions
                | Self::GetSession
                | Self::GetData
                | Self::ListUserSessions
                | Self::GetDisabled
                | Self::ListKeys
                | Self::ReadLog
                | Self::GetFleet
                | Self::Describe
        )
    }
}

/// A parameter of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Limit,
    Cursor,
    After,
    LogLimit,
}

impl Parameter {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit | Self::LogLimit => "limit",
            Self::Cursor => "cursor",
            Self::After => "after",
        }
    }

    /// Default and most of a limit. A session may hold 64 KiB of data, so a page of them is short.
    pub const fn limits(self) -> (u32, u32) {
        match self {
            Self::LogLimit => (1000, 10_000),
            _ => (50, 200),
        }
    }

    /// What the databases can count to.
    pub const MOST_AFTER: u64 = i64::MAX as u64;
}

/// One method of one path.
#[derive(Debug)]
pub(super) struct Operation {
    pub call: Call,
    pub method: Method,
    /// With at most one segment in braces.
    pub path: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub query: &'static [Parameter],
    pub body: Option<SchemaOf>,
    /// The status of success, and what is answered with it.
    pub success: (StatusCode, Option<SchemaOf>),
    /// Besides those that any operation can meet.
    pub problems: &'static [Code],
}

pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

/// The operation that a request asks for, with the segment of its path that is not given.
pub(super) struct Found<'p> {
    pub operation: &'static Operation,
    pub path: Option<&'p str>,
}

/// The first path that fits is meant; the method then has to be one of its own.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Result<Found<'p>, Problem> {
    let fitting = OPERATIONS
        .iter()
        .find_map(|operation| Some((operation.path, fit(operation.path, path)?)));
    let Some((template, segment)) = fitting else {
        return Err(Code::NotFound.says(NOTHING_HERE));
    };
    let here = || {
        OPERATIONS
            .iter()
            .filter(|operation| operation.path == template)
    };
    let asked = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    match here().find(|operation| operation.method == asked) {
        Some(operation) => Ok(Found {
            operation,
            path: segment,
        }),
        None => {
            let allowed: Vec<&Method> = here().map(|operation| &operation.method).collect();
            Err(Problem::method_not_allowed(&allowed))
        }
    }
}

/// Whether a path is one of the template's, and what stands where the braces are.
fn fit<'p>(template: &str, path: &'p str) -> Option<Option<&'p str>> {
    let Some((before, rest)) = template.split_once('{') else {
        return (template == path).then_some(None);
    };
    let (_, after) = rest.split_once('}')?;
    let segment = path.strip_prefix(before)?.strip_suffix(after)?;
    (!segment.is_empty() && !segment.contains('/')).then_some(Some(segment))
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;
const OK: StatusCode = StatusCode::OK;

/// Given paths stand before those with braces.
pub(super) static OPERATIONS: [Operation; 21] = [
    Operation {
        call: Call::ListSessions,
        method: GET,
        path: "/v1/sessions",
        summary: "List the open sessions of everyone",
        description: "Ordered by handle. A page may hold fewer than `limit`; the last one has no `next_cursor`.",
        query: &[Parameter::Limit, Parameter::Cursor],
        body: None,
        success: (OK, Some(of::<SessionPage>)),
        problems: &[],
    },
    Operation {
        call: Call::OpenSession,
        method: POST,
        path: "/v1/sessions",
        summary: "Open a session",
        description: "For an application that logs users in by call: it sends `set_cookie` to the browser, or the tokens to its own client.",
        query: &[],
        body: Some(of::<NewSession>),
        success: (StatusCode::CREATED, Some(of::<OpenedSession>)),
        problems: &[Code::LoginOvertaken, Code::UserDisabled],
    },
    Operation {
        call: Call::VerifyToken,
        method: POST,
        path: "/v1/sessions/verify",
        summary: "Say whether an access token would be accepted now, and whose it is",
        description: "By the rules of a request that the gateway forwards: from memory, as long as this replica may trust it.",
        query: &[],
        body: Some(of::<AccessToken>),
        success: (OK, Some(of::<Verified>)),
        problems: &[],
    },
    Operation {
        call: Call::RevokeSessions,
        method: POST,
        path: "/v1/sessions/revoke",
        summary: "End sessions",
        description: "All of those that are still open, or none and a problem. Answered when no replica accepts any of them, as a logout is.",
        query: &[],
        body: Some(of::<RevokeSessions>),
        success: (OK, Some(of::<Ended>)),
        problems: &[],
    },
    Operation {
        call: Call::GetSession,
        method: GET,
        path: "/v1/sessions/{handle}",
        summary: "Show a session",
        description: "With its claims and its data.",
        query: &[],
        body: None,
        success: (OK, Some(of::<SessionDetails>)),
        problems: &[Code::SessionNotFound],
    },
    Operation {
        call: Call::EndSession,
        method: DELETE,
        path: "/v1/sessions/{handle}",
        summary: "End a session",
        description: "Answered when no replica accepts it, as a logout is. To end what has ended is no error.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Ended>)),
        problems: &[],
    },
    Operation {
        call: Call::GetData,
        method: GET,
        path: "/v1/sessions/{handle}/data",
        summary: "Read what the application keeps with a session",
        description: "As it was stored.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Stored>)),
        problems: &[Code::SessionNotFound],
    },
    Operation {
        call: Call::ReplaceData,
        method: PUT,
        path: "/v1/sessions/{handle}/data",
        summary: "Replace what the application keeps with a session",
        description: "As a whole; the last of several writers stays.",
        query: &[],
        body: Some(of::<Data>),
        success: (StatusCode::NO_CONTENT, None),
        problems: &[Code::SessionNotFound],
    },
    Operation {
        call: Call::ReplaceClaims,
        method: PUT,
        path: "/v1/sessions/{handle}/claims",
        summary: "Replace the claims of a session",
        description: "Answered when no replica accepts an access token with the old ones: the next request is renewed in line, or told to refresh. Streams that are open stay open. With `revocation.check = \"off\"` it takes effect when the access token expires.",
        query: &[],
        body: Some(of::<Claims>),
        success: (OK, Some(of::<ClaimsReplaced>)),
        problems: &[Code::SessionNotFound],
    },
    Operation {
        call: Call::RevokeUsers,
        method: POST,
        path: "/v1/users/revoke",
        summary: "End all sessions of users",
        description: "All of a user's sessions, or none of them. If that fails for some users, the problem names them in `failed`; the others' have ended.",
        query: &[],
        body: Some(of::<RevokeUsers>),
        success: (OK, Some(of::<RevokedUsers>)),
        problems: &[],
    },
    Operation {
        call: Call::ListUserSessions,
        method: GET,
        path: "/v1/users/{user}/sessions",
        summary: "List the open sessions of a user",
        description: "Ordered by handle. A page may hold fewer than `limit`; the last one has no `next_cursor`.",
        query: &[Parameter::Limit, Parameter::Cursor],
        body: None,
        success: (OK, Some(of::<SessionPage>)),
        problems: &[],
    },
    Operation {
        call: Call::EndUserSessions,
        method: DELETE,
        path: "/v1/users/{user}/sessions",
        summary: "End all sessions of a user",
        description: "All or none, and the logins that are under way. Answered when no replica accepts any of them, as a logout is.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Ended>)),
        problems: &[],
    },
    Operation {
        call: Call::GetDisabled,
        method: GET,
        path: "/v1/users/{user}/disabled",
        summary: "Say whether a user is disabled",
        description: "A user that the gateway has never heard of is not.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Disabled>)),
        problems: &[],
    },
    Operation {
        call: Call::DisableUser,
        method: PUT,
        path: "/v1/users/{user}/disabled",
        summary: "Disable a user",
        description: "Ends all sessions of the user, in one step with this: no login opens a session for the user until enabled again.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Ended>)),
        problems: &[],
    },
    Operation {
        call: Call::EnableUser,
        method: DELETE,
        path: "/v1/users/{user}/disabled",
        summary: "Enable a user",
        description: "To enable who is not disabled is no error.",
        query: &[],
        body: None,
        success: (StatusCode::NO_CONTENT, None),
        problems: &[],
    },
    Operation {
        call: Call::ListKeys,
        method: GET,
        path: "/v1/keys",
        summary: "List the signing keys",
        description: "What they are called and what they are good for; never what they are.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Keys>)),
        problems: &[],
    },
    Operation {
        call: Call::RotateKeys,
        method: POST,
        path: "/v1/keys/rotate",
        summary: "Publish a successor of the signing key",
        description: "The gateway signs with it two minutes later. If one is published already, that one is answered.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Successor>)),
        problems: &[Code::KeyRotated],
    },
    Operation {
        call: Call::RevokeKey,
        method: DELETE,
        path: "/v1/keys/{kid}",
        summary: "Refuse a signing key, and every token that it signed",
        description: "Answered when no replica accepts them. Sessions live on: their refresh tokens give tokens of another key.",
        query: &[],
        body: None,
        success: (OK, Some(of::<RevokedKey>)),
        problems: &[Code::KeyNotFound],
    },
    Operation {
        call: Call::ReadLog,
        method: GET,
        path: "/v1/revocations",
        summary: "Read the revocation log",
        description: "What happened after the sequence `after`, in order. What no access token needs any more is not kept. A page is longer than `limit` where one sequence has more entries than are left of it.",
        query: &[Parameter::After, Parameter::LogLimit],
        body: None,
        success: (OK, Some(of::<Log>)),
        problems: &[],
    },
    Operation {
        call: Call::GetFleet,
        method: GET,
        path: "/v1/fleet",
        summary: "Show the replicas",
        description: "As the store knows them, and how far each has followed the revocation log.",
        query: &[],
        body: None,
        success: (OK, Some(of::<Fleet>)),
        problems: &[],
    },
    Operation {
        call: Call::Describe,
        method: GET,
        path: "/openapi.json",
        summary: "Describe this API",
        description: "OpenAPI 3.1.",
        query: &[],
        body: None,
        success: (OK, Some(any_object)),
        problems: &[],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;

    use super::{Call, Code, OPERATIONS, find};

    #[test]
    fn paths_are_matched_segment_by_segment() {
        for (method, path, expected) in [
            ("GET", "/v1/sessions", Ok((Call::ListSessions, None))),
            ("HEAD", "/v1/sessions", Ok((Call::ListSessions, None))),
            ("POST", "/v1/sessions/verify", Ok((Call::VerifyToken, None))),
            ("GET", "/v1/sessions/verify", Err(Code::MethodNotAllowed)),
            ("GET", "/v1/sessions/x", Ok((Call::GetSession, Some("x")))),
            ("PUT", "/v1/sessions/x", Err(Code::MethodNotAllowed)),
            (
                "PUT",
                "/v1/sessions/x/data",
                Ok((Call::ReplaceData, Some("x"))),
            ),
            ("POST", "/v1/users/revoke", Ok((Call::RevokeUsers, None))),
            (
                "PUT",
                "/v1/users/revoke/disabled",
                Ok((Call::DisableUser, Some("revoke"))),
            ),
            (
                "PUT",
                "/v1/users/a%2Fb/disabled",
                Ok((Call::DisableUser, Some("a%2Fb"))),
            ),
            ("PUT", "/v1/users/a/b/disabled", Err(Code::NotFound)),
            ("GET", "/v1/users//sessions", Err(Code::NotFound)),
            ("GET", "/v1/sessions/", Err(Code::NotFound)),
            ("GET", "/v1//sessions", Err(Code::NotFound)),
            ("GET", "/v1/users/alice", Err(Code::NotFound)),
            ("GET", "/v1/", Err(Code::NotFound)),
            ("get", "/v1/sessions", Err(Code::MethodNotAllowed)),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let found = find(&method, path)
                .map(|found| (found.operation.call, found.path))
                .map_err(|problem| problem.code);
            assert_eq!(found, expected, "{method} {path}");
        }
    }

    #[test]
    fn every_operation_has_a_name_and_a_place_of_its_own() {
        let names: BTreeSet<_> = OPERATIONS
            .iter()
            .map(|operation| operation.call.name())
            .collect();
        let places: BTreeSet<_> = OPERATIONS
            .iter()
            .map(|operation| (operation.path, operation.method.as_str()))
            .collect();
        assert_eq!(
            (names.len(), places.len()),
            (OPERATIONS.len(), OPERATIONS.len())
        );
    }
}
