//! Where tokens live. A source lists tokens; it never sees the store.

pub mod file;
pub(crate) mod rows;
mod sorter;
pub mod tokens;

use std::fmt;
use std::io::{self, ErrorKind};

use async_trait::async_trait;

use crate::domain::Listed;

/// A place that can list its tokens.
#[async_trait]
pub trait Source: Send + Sync {
    /// Lists every token, or says that nothing has changed since the listing with this fingerprint.
    ///
    /// # Errors
    /// When the listing could not be had whole. Nothing is concluded from a failed listing.
    async fn fetch(&self, previous: Option<&str>) -> Result<Fetched<Listing>, Error>;

    /// Tries whether [`Source::fetch`] could work; says in a few words what it saw.
    ///
    /// # Errors
    /// What is in the way and how to mend it.
    async fn check(&self) -> Result<String, Error>;
}

/// What a fetch brought.
pub enum Fetched<T> {
    /// The same as the last time.
    Unchanged,
    /// News.
    New(T),
}

/// A listing that streams in order of external id, each id once.
pub struct Listing {
    /// The tokens.
    pub tokens: Box<dyn Iterator<Item = Result<Listed, Error>> + Send>,
    /// How many there are.
    pub count: u64,
    /// Rows that were refused. A listing with refusals is not complete.
    pub refusals: Refusals,
    /// What to hand to the next [`Source::fetch`].
    pub fingerprint: String,
}

/// Rows that were refused: the first twenty with their place and reason, and how many in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    /// The first twenty.
    pub shown: Vec<Refusal>,
    /// How many there were.
    pub count: u64,
}

/// How many refusals are listed; the rest is counted.
pub const SHOWN_REFUSALS: usize = 20;

impl Refusals {
    /// Takes note of one more.
    pub fn add(&mut self, refusal: Refusal) {
        self.count += 1;
        if self.shown.len() < SHOWN_REFUSALS {
            self.shown.push(refusal);
        }
    }
}

/// A row that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The file's name, as given.
    pub file: String,
    /// The line in it, from 1; the row's first line where it has several.
    pub line: u64,
    /// Why, in words that say what to write instead.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// For those to whom one bad row is one too many.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Content {
            place: format!("{}:{}", refusal.file, refusal.line),
            reason: refusal.reason,
        }
    }
}

/// Why a source could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}{}", advice(source))]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Rows that do not fit into memory could not be kept or read back.
    #[error("cannot keep rows in a temporary file; let TMPDIR name a folder with room")]
    Scratch(#[source] io::Error),
    /// A file was not the same after it was read.
    #[error(
        "{path} changed while it was read; write it under another name and rename it when it is whole"
    )]
    Changed {
        /// The file or folder.
        path: String,
    },
    /// A path is none that can be read, or a folder has nothing to read.
    #[error("{path} {reason}")]
    Path {
        /// The file or folder.
        path: String,
        /// What it is, and what it should be.
        reason: &'static str,
    },
    /// The content as a whole makes no sense: no header, an unknown column.
    #[error("{place}: {reason}")]
    Content {
        /// File and line.
        place: String,
        /// Why, and what to write instead.
        reason: String,
    },
}

/// What to do about a file that cannot be read.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "; correct its path, or let the export write it first",
        ErrorKind::PermissionDenied => "; let the user that lapsed runs as read it",
        ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    }
}
