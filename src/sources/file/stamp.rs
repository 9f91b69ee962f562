//! Which files a source reads, and whether they have changed.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::sources::hex;
use crate::upstream::Error;

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
    /// Reads only metadata. A folder without any file to read is an error: it is more likely a disk that is not
    /// mounted than a source without tokens.
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

    /// Fails if something has changed, so that what was read may be a mixture of old and new.
    pub fn ensure_unchanged(&self, path: &Path) -> Result<(), Error> {
        if Self::take(path)? == *self {
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
