//! Which rule a request falls under: one canonical path, patterns over it, and the table that picks the most specific rule.
//!
//! A gateway that decides on one spelling of a path and forwards another can be talked past. So there is one
//! [`CanonicalPath`], made once per request; it is matched, logged and sent. What could be read in two ways is refused, not
//! repaired ([`AmbiguousPath`]).
//!
//! The order of rules in a file decides nothing: a rule that says less wins over one that says more, and where that leaves
//! a question open, [`RouteTable::build`] refuses ([`RouteConflict`]).
//!
//! | file | what it has |
//! |---|---|
//! | `path` | [`CanonicalPath`], and what is no path |
//! | `pattern` | [`PathPattern`]: `/a/*/b`, `/a/**` |
//! | `methods` | [`MethodSet`]: any, or those listed |
//! | `rule` | [`Rule`], and which of two is more specific |
//! | `conflict` | what two rules leave open |
//! | `table` | [`RouteTable`]: rules to a table, a request to a rule |
//!
//! Nothing here knows of requests, of configuration files or of what a rule leads to.

mod conflict;
mod methods;
mod path;
mod pattern;
mod rule;
mod table;

pub use conflict::{ConflictKind, RouteConflict};
pub use methods::{InvalidMethods, MethodSet};
pub use path::{AmbiguousPath, CanonicalPath, EncodedSlash};
pub use pattern::{InvalidPattern, PathPattern};
pub use rule::{Rule, RuleName};
pub use table::RouteTable;
