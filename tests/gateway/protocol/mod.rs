//! What clients may rely on, rule by rule: `docs/protocol.md` says which test is for which.

mod allowed_origins;
mod anti_csrf;
mod cookie_scopes;
mod header_mode;
mod own_sessions;
mod statuses;

pub const REFRESH: &str = "/auth/session/refresh";
