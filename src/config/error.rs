//! Problems in a configuration, each with its place.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use crate::nearest::nearest;
use crate::text;

/// Why there is no configuration. The operator has to fix all of these (exit code 78).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is neither a file nor a variable.
    #[error(
        "no configuration found: there is no {}, and no variable begins with LAPSED__; give \
         --config FILE or set LAPSED_CONFIG (`lapsed demo` writes a file to start from)",
        list_paths(.looked_at)
    )]
    NotFound { looked_at: Vec<PathBuf> },
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file of the working directory could have been written by another user.
    #[error(
        "{} is not used: {reason}; if you trust it, name it with --config {}, else name another file or change \
         to another folder",
        .path.display(),
        .path.display()
    )]
    Untrusted { path: PathBuf, reason: String },
    #[error("cannot become that user")]
    User(#[source] io::Error),
    #[error("{}", format_problems(.0))]
    Invalid(Vec<Problem>),
}

/// One problem. The message says what to write instead and never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub place: Place,
    pub message: String,
}

/// Where a value comes from or is missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Line and column count from 1, columns in characters.
    File {
        path: PathBuf,
        line: usize,
        column: usize,
    },
    /// For what is missing in the file.
    WholeFile(PathBuf),
    Variable(String),
    /// For what is missing if there is no file.
    Environment,
}

impl Place {
    /// `offset` counts octets of the file's text.
    pub(super) fn in_file(path: &Path, text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::WholeFile(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(&for_display(name)),
            Self::Environment => f.write_str("environment"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Shortens and cleans a foreign text for use in a message.
pub(super) fn for_display(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    text::cut(text, MAX_CHARS).escape_debug().to_string()
}

/// Suggests the nearest allowed value and lists all of them.
pub(super) fn hint(given: &str, allowed: &[&str]) -> String {
    let all = allowed.join(", ");
    match nearest(given, allowed.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`? (allowed: {all})"),
        None => format!("allowed: {all}"),
    }
}

fn list_paths(paths: &[PathBuf]) -> String {
    let names = paths.iter().map(|path| path.display().to_string());
    names.collect::<Vec<_>>().join(" and no ")
}

fn format_problems(problems: &[Problem]) -> String {
    if let [only] = problems {
        return only.to_string();
    }
    let lines: String = problems
        .iter()
        .map(|problem| format!("\n  {problem}"))
        .collect();
    format!("the configuration has {} problems:{lines}", problems.len())
}
