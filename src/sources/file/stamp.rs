//! Which files a path stands for, and whether they are still the same.

use std::fmt::Write;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::sources::Error;

/// What counts as a listing in a folder.
const EXTENSIONS: [&str; 4] = ["csv", "json", "jsonl", "ndjson"];

/// The files that a path stands for, as they were at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The file itself, or the files of the folder in order of their names.
    pub files: Vec<PathBuf>,
    /// Differs when one of them was written, replaced, added or taken away.
    pub fingerprint: String,
}

impl Stamp {
    /// Looks at the path; reads no file.
    ///
    /// # Errors
    /// When it is not there, is no file or folder, or is a folder without any file to read: an
    /// empty folder is more often a disk that is not mounted than a source without tokens.
    pub fn of(path: &Path) -> Result<Self, Error> {
        let metadata = metadata(path)?;
        if !metadata.is_dir() {
            return Self::of_files(vec![path.to_owned()]);
        }
        let files = list(path).map_err(|source| unreadable(path, source))?;
        if files.is_empty() {
            let reason = "holds no .csv, .json, .jsonl or .ndjson file";
            return Err(refuse(path, reason));
        }
        Self::of_files(files)
    }

    /// As [`Stamp::of`], for a single file.
    ///
    /// # Errors
    /// When it is not there or is no file.
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        Self::of_files(vec![path.to_owned()])
    }

    /// Makes sure that nothing changed since.
    ///
    /// # Errors
    /// When something did, so that what was read may be half of the old and half of the new.
    pub fn still_holds(&self, path: &Path) -> Result<(), Error> {
        let now = Self::of(path)?;
        if now == *self {
            return Ok(());
        }
        let path = path.display().to_string();
        Err(Error::Changed { path })
    }

    fn of_files(files: Vec<PathBuf>) -> Result<Self, Error> {
        // Another version of the program may read the same file in another way.
        let mut seen = String::from(env!("CARGO_PKG_VERSION"));
        for file in &files {
            let of = metadata(file)?;
            if !of.is_file() {
                return Err(refuse(file, "is not a file; name a regular file"));
            }
            let times = (of.mtime(), of.mtime_nsec(), of.ctime(), of.ctime_nsec());
            let line = (file, of.len(), times, of.dev(), of.ino());
            write!(seen, "\n{line:?}").expect("a string takes what is written to it");
        }
        let mut fingerprint = String::new();
        for byte in Sha256::digest(seen) {
            write!(fingerprint, "{byte:02x}").expect("a string takes what is written to it");
        }
        Ok(Self { files, fingerprint })
    }
}

/// The listings of a folder. Dot files are those of editors, `rsync` and mounted volumes.
fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        let listing = EXTENSIONS.iter().any(|known| extension == *known);
        if listing && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn metadata(path: &Path) -> Result<Metadata, Error> {
    fs::metadata(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: std::io::Error) -> Error {
    let path = path.display().to_string();
    Error::Read { path, source }
}

fn refuse(path: &Path, reason: &'static str) -> Error {
    let path = path.display().to_string();
    Error::Path { path, reason }
}
