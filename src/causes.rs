//! An error and what caused it, in one line.

use std::error::Error;
use std::fmt;

/// Prints an error with its causes, for logs and the command line. What an error has already said of its cause in its own
/// text, as those of some libraries do, is not said twice.
pub struct Causes<'a>(pub &'a dyn Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.ends_with(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use thiserror::Error;

    use super::Causes;

    #[derive(Debug, Error)]
    #[error("{text}")]
    struct Step {
        text: &'static str,
        #[source]
        cause: Option<Box<Step>>,
    }

    fn step(text: &'static str, cause: Option<Step>) -> Step {
        Step {
            text,
            cause: cause.map(Box::new),
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let error = step(
            "cannot open",
            Some(step("database: locked", Some(step("locked", None)))),
        );
        assert_eq!(Causes(&error).to_string(), "cannot open: database: locked");
        assert_eq!(Causes(&step("alone", None)).to_string(), "alone");
    }
}
