//! Formats an error with all its causes for a log line, because the JSON lines of `tracing` leave them out.

use std::error::Error;
use std::fmt;

/// Displays an error and its causes: `cannot open lapsed.db: permission denied`.
#[derive(Debug, Clone, Copy)]
pub struct Causes<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn an_error_is_displayed_with_all_its_causes() {
        let first = Layer("disk full", None);
        let error = Layer(
            "cannot sweep",
            Some(Layer("cannot write", Some(first.into())).into()),
        );
        assert_eq!(
            Causes(&error).to_string(),
            "cannot sweep: cannot write: disk full"
        );
    }
}
