//! The source `file`: a file of tokens, or a folder of such files, read again when it changed.

mod stamp;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

pub(crate) use self::stamp::Stamp;
use super::tokens::{self, Input, Watch};
use super::{Checked, Common, Error, Fetched, Last, Listing, Source};

/// So many rows of each file [`Source::check`] looks at.
const CHECKED_ROWS: u64 = 1000;

/// Where tokens are in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A CSV, JSON or JSON lines file, or a folder of them.
    pub path: PathBuf,
}

impl Config {
    /// The source.
    #[must_use]
    pub fn build(&self, common: &Common) -> FileSource {
        FileSource::new(common.name.clone(), self.path.clone())
    }
}

/// A file or folder that lists tokens. The same id in two files of a folder is refused.
#[derive(Debug, Clone)]
pub struct FileSource {
    name: String,
    path: PathBuf,
}

impl FileSource {
    /// A source of this name that reads this file or folder.
    #[must_use]
    pub fn new(name: String, path: PathBuf) -> Self {
        Self { name, path }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[async_trait]
impl Source for FileSource {
    async fn fetch(&self, last: &Last) -> Result<Fetched<Listing>, Error> {
        let (path, previous) = (self.path.clone(), last.fingerprint.clone());
        blocking(move || fetch(&path, previous.as_deref())).await
    }

    async fn check(&self) -> Result<Checked, Error> {
        let path = self.path.clone();
        blocking(move || check(&path)).await.map(Checked::from)
    }

    fn lacks_to_revoke(&self) -> Option<&'static str> {
        Some(
            "watch the system that the file comes from, or leave allow_revoke out: a file only lists tokens",
        )
    }
}

/// Runs what waits for files where waiting is harmless.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::Scratch(error.into())),
        },
    }
}

fn fetch(path: &Path, previous: Option<&str>) -> Result<Fetched<Listing>, Error> {
    let stamp = Stamp::of(path)?;
    if previous == Some(stamp.fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let mut listing = tokens::read(&inputs(&stamp), &mut Watch::default())?;
    stamp.still_holds(path)?;
    listing.fingerprint = Some(stamp.fingerprint);
    Ok(Fetched::New(listing))
}

fn check(path: &Path) -> Result<String, Error> {
    let stamp = Stamp::of(path)?;
    let peeked = tokens::peek(&inputs(&stamp), CHECKED_ROWS)?;
    if let Some(refusal) = peeked.listing.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let count = peeked.listing.count;
    let what = match (stamp.files.len(), peeked.format) {
        (1, Some(format)) => format.to_string(),
        (files, _) => format!("{files} files"),
    };
    Ok(if peeked.more {
        format!("{what}, the first {count} tokens are sound")
    } else {
        format!("{what}, {count} tokens")
    })
}

fn inputs(stamp: &Stamp) -> Vec<Input> {
    stamp.files.iter().cloned().map(Input::Path).collect()
}

#[cfg(test)]
mod tests;
