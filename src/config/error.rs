//! What is wrong with a configuration, said so that it can be put right without the source at hand.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Everything that is wrong, in the order of the file; one per line when shown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts: what stands in the file by line, then the rest as it was found.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.origin.line());
        Self(errors)
    }

    pub fn as_slice(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigError {
    pub origin: Origin,
    /// `session.cookies.domain`, `route[2].path` (counted from 0); empty when no key can be named.
    pub key: String,
    pub problem: Problem,
    /// What to do about it, when that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.problem)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a value or a key. `found` never holds a secret: see `shown`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value is not one of those allowed.
    Refused { found: String, allowed: String },
    /// The key has to be there.
    Missing { allowed: String },
    /// No such key exists in this place.
    UnknownKey,
    /// Two things that are fine alone do not go together.
    Conflict(String),
    /// The file could not be read, or is not TOML.
    Unreadable(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { found, allowed } => write!(f, "found {found}, expected {allowed}"),
            Self::Missing { allowed } => write!(f, "missing, expected {allowed}"),
            Self::UnknownKey => f.write_str("unknown key"),
            Self::Conflict(text) | Self::Unreadable(text) => f.write_str(text),
        }
    }
}

/// Where a key or a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `line` counts from 1; without one the file as a whole is meant.
    File {
        name: Arc<str>,
        line: Option<usize>,
    },
    Environment {
        variable: String,
    },
    Flag {
        name: &'static str,
    },
    /// The flags as a whole.
    CommandLine,
}

impl Origin {
    /// To sort by: the file as a whole first, what is not in a file last.
    pub(super) fn line(&self) -> usize {
        match self {
            Self::File { line, .. } => line.unwrap_or(0),
            Self::Environment { .. } | Self::Flag { .. } | Self::CommandLine => usize::MAX,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                name,
                line: Some(line),
            } => write!(f, "{name}:{line}"),
            Self::File { name, line: None } => f.write_str(name),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { name } => f.write_str(name),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

/// A text from the configuration as an error may show it: quoted, on one line, not endless, and without the parts of a URL
/// that hold passwords (user information and query).
pub(super) fn shown(text: &str) -> String {
    let mut open = text.to_owned();
    if let Some(at) = open.rfind('@') {
        let scheme = open[..at].find(':').map_or(0, |colon| colon + 1);
        open.replace_range(scheme..at, "***");
    }
    if let Some(query) = open.find('?') {
        open.replace_range(query + 1.., "***");
    }
    if open.chars().count() > LONGEST_SHOWN {
        open = open.chars().take(LONGEST_SHOWN).chain(['…']).collect();
    }
    format!("\"{}\"", open.escape_debug())
}

const LONGEST_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn passwords_are_not_shown() {
        for (text, expected) in [
            ("1 our", r#""1 our""#),
            ("postgres://me:p@ss:w?rd@db/x", r#""postgres:***@db/x""#),
            ("postgres://db/x?password=a", r#""postgres://db/x?***""#),
            ("me:secret@db", r#""me:***@db""#),
            ("secret@db", r#""***@db""#),
            ("a\r\nb", r#""a\r\nb""#),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(shown(&"é".repeat(500)).chars().count() < 90);
    }
}
