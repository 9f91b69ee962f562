//! What is wrong with a configuration, and where: every problem names its place.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// Why there is no configuration. All of these are for the operator to mend (exit code 78).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a file nor a variable.
    #[error(
        "no configuration found: there is no {}, and no variable begins with LAPSED__; give \
         --config FILE or set LAPSED_CONFIG (`lapsed demo` writes a file to start from)",
        joined(.looked_at)
    )]
    NotFound {
        /// The files that were looked for.
        looked_at: Vec<PathBuf>,
    },
    /// The file is there, or was named, and cannot be read.
    #[error("cannot read the configuration {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Everything that is wrong with what was read.
    #[error("{}", listed(.0))]
    Invalid(Vec<Problem>),
}

/// One thing that is wrong, in words that say what to write instead. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

/// Where a value comes from, or where it is missing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file; line and column count from 1, columns in characters.
    File {
        /// The file, as it was named.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// A file as a whole, for what is missing in it.
    WholeFile(PathBuf),
    /// An environment variable.
    Variable(String),
    /// The environment as a whole, for what is missing when there is no file.
    Environment,
}

/// Where the lines of a file begin.
pub(super) struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// The lines of this text.
    pub fn of(path: &'a Path, text: &'a str) -> Self {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            path,
            text,
            starts: std::iter::once(0).chain(after_breaks).collect(),
        }
    }

    /// The place of a byte.
    pub fn place(&self, offset: usize) -> Place {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts[line - 1];
        Place::File {
            path: self.path.to_owned(),
            line,
            column: self.text[start..offset].chars().count() + 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::WholeFile(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(&shown(name)),
            Self::Environment => f.write_str("environment"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A text from outside as it may stand in a message: short, and on one line.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", short.escape_debug())
}

/// The sentence that points from a wrong word to the right ones: the nearest, then all.
pub(super) fn hint(word: &str, allowed: &[&str]) -> String {
    let word = word.to_lowercase();
    let distance = |candidate: &&&str| strsim::damerau_levenshtein(&word, candidate);
    // A third of the letters may be wrong; beyond that a guess misleads.
    let near = |candidate: &&&str| distance(candidate) <= candidate.chars().count().div_ceil(3);
    let nearest = allowed.iter().filter(near).min_by_key(distance);
    let all = allowed.join(", ");
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`? (allowed: {all})"),
        None => format!("allowed: {all}"),
    }
}

fn joined(paths: &[PathBuf]) -> String {
    let shown: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    shown.join(" and no ")
}

fn listed(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| format!("\n  {problem}"))
        .collect();
    match problems {
        [only] => only.to_string(),
        _ => format!(
            "the configuration has {} problems:{}",
            problems.len(),
            lines.concat()
        ),
    }
}
