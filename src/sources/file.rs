//! The source `file`: a file of tokens, or a folder of such files, which is read again if it has changed.

use std::fmt::Write;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::listing::hex;
use super::tokens::{self, Input, ReadCallbacks};
use super::{CheckReport, Error, Fetched, LastListing, Listing, Source};

/// How many rows of each file [`Source::check`] reads.
const CHECKED_ROWS: u64 = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A CSV, JSON or JSON lines file, or a folder of them.
    pub path: PathBuf,
}

/// The same id in two files of a folder is refused.
#[async_trait]
impl Source for Config {
    async fn fetch(&self, last: &LastListing) -> Result<Fetched<Listing>, Error> {
        let (path, previous) = (self.path.clone(), last.fingerprint.clone());
        run_blocking(move || fetch(&path, previous.as_deref())).await
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let path = self.path.clone();
        run_blocking(move || check(&path))
            .await
            .map(CheckReport::from)
    }

    fn missing_to_revoke(&self) -> Option<&'static str> {
        Some(
            "configure the system that the file comes from as a source, or remove allow_revoke: a file only lists tokens",
        )
    }
}

/// Runs file access on a thread that may block.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::TempFile(error.into())),
        },
    }
}

fn fetch(path: &Path, previous: Option<&str>) -> Result<Fetched<Listing>, Error> {
    let stamp = FileStamp::take(path)?;
    if previous == Some(stamp.fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let mut listing = tokens::read_files(&inputs(&stamp), &mut ReadCallbacks::default())?;
    stamp.ensure_unchanged(path)?;
    listing.fingerprint = Some(stamp.fingerprint);
    Ok(Fetched::New(listing))
}

fn check(path: &Path) -> Result<String, Error> {
    let stamp = FileStamp::take(path)?;
    let preview = tokens::peek(&inputs(&stamp), CHECKED_ROWS)?;
    if let Some(refusal) = preview.listing.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let count = preview.listing.count;
    let what = match (stamp.files.len(), preview.format) {
        (1, Some(format)) => format.to_string(),
        (files, _) => format!("{files} files"),
    };
    Ok(if preview.has_more {
        format!("{what}, the first {count} tokens are valid")
    } else {
        format!("{what}, {count} tokens")
    })
}

fn inputs(stamp: &FileStamp) -> Vec<Input> {
    stamp.files.iter().cloned().map(Input::Path).collect()
}

/// The extensions of the files that are read in a folder.
const EXTENSIONS: [&str; 4] = ["csv", "json", "jsonl", "ndjson"];

/// The files of a path and their metadata at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileStamp {
    /// The file itself, or the files of the folder by name.
    pub files: Vec<PathBuf>,
    /// Changes if one of the files is written, replaced, added or removed.
    pub fingerprint: String,
}

impl FileStamp {
    /// Reads only metadata.
    ///
    /// # Errors
    /// If the path does not exist, is neither a file nor a folder, or is a folder without any file to read:
    /// an empty folder is more likely a disk that is not mounted than a source without tokens.
    pub fn take(path: &Path) -> Result<Self, Error> {
        let metadata = metadata(path)?;
        if !metadata.is_dir() {
            return Self::take_files(vec![path.to_owned()]);
        }
        let files = list_files(path).map_err(|source| read_error(path, source))?;
        if files.is_empty() {
            let reason = "contains no .csv, .json, .jsonl or .ndjson file";
            return Err(path_error(path, reason));
        }
        Self::take_files(files)
    }

    /// Like [`FileStamp::take`], but the path must be a file.
    pub fn take_file(path: &Path) -> Result<Self, Error> {
        Self::take_files(vec![path.to_owned()])
    }

    /// # Errors
    /// If something has changed, so that what was read may be a mixture of old and new.
    pub fn ensure_unchanged(&self, path: &Path) -> Result<(), Error> {
        let now = Self::take(path)?;
        if now == *self {
            return Ok(());
        }
        let path = path.display().to_string();
        Err(Error::Changed { path })
    }

    fn take_files(files: Vec<PathBuf>) -> Result<Self, Error> {
        // Another version of lapsed may read the same file differently.
        let mut seen = String::from(env!("CARGO_PKG_VERSION"));
        for file in &files {
            let metadata = metadata(file)?;
            if !metadata.is_file() {
                return Err(path_error(file, "is not a file; name a regular file"));
            }
            let times = (
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
            );
            let line = (file, metadata.len(), times, metadata.dev(), metadata.ino());
            write!(seen, "\n{line:?}").expect("writing to a string cannot fail");
        }
        let fingerprint = hex(Sha256::new_with_prefix(seen));
        Ok(Self { files, fingerprint })
    }
}

/// Skips dot files, which belong to editors, `rsync` and mounted volumes.
fn list_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let is_listing = EXTENSIONS.iter().any(|known| extension == *known);
        if is_listing && !is_hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn metadata(path: &Path) -> Result<Metadata, Error> {
    fs::metadata(path).map_err(|source| read_error(path, source))
}

fn read_error(path: &Path, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    Error::Read { path, source }
}

fn path_error(path: &Path, reason: &'static str) -> Error {
    let path = path.display().to_string();
    Error::Path { path, reason }
}

#[cfg(test)]
mod tests;
