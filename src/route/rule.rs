//! A rule, and which of two is more specific.

use std::fmt;

use super::methods::MethodSet;
use super::pattern::PathPattern;

/// What holds for some paths and methods.
#[derive(Clone, Debug)]
pub struct Rule<T> {
    pub pattern: PathPattern,
    pub methods: MethodSet,
    /// Where it was written, for messages: `portcullis.toml:12`.
    pub origin: String,
    /// What it leads to.
    pub target: T,
}

/// A rule without what it leads to: enough to rank it, and to name it in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleName {
    pub origin: String,
    pub pattern: PathPattern,
    pub methods: MethodSet,
}

impl RuleName {
    /// Whether this rule wins over `other` where both match: its pattern is contained in the other's, or it lists methods
    /// for the same pattern and the other does not. Of two rules that share a request, at most one is.
    pub fn is_more_specific_than(&self, other: &Self) -> bool {
        if self.pattern == other.pattern {
            return self.methods.listed().is_some() && other.methods.listed().is_none();
        }
        other.pattern.contains(&self.pattern)
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            pattern,
            methods,
        } = self;
        write!(f, "{origin} ({pattern}, {methods})")
    }
}
