//! The directory `file`: a file of people with their status, read again when it changed.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::people::{self, Peeked};
use super::{Directory, People};
use crate::sources::file::{Stamp, blocking};
use crate::sources::{Error, Fetched};

/// So many rows [`Directory::check`] looks at.
const CHECKED_ROWS: usize = 1000;

/// A file that says who still has access.
#[derive(Debug, Clone)]
pub struct FileDirectory {
    name: String,
    path: PathBuf,
}

impl FileDirectory {
    /// A directory of this name that reads this file.
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
impl Directory for FileDirectory {
    async fn fetch(&self, previous: Option<&str>) -> Result<Fetched<People>, Error> {
        let (path, previous) = (self.path.clone(), previous.map(str::to_owned));
        blocking(move || fetch(&path, previous.as_deref())).await
    }

    async fn check(&self) -> Result<String, Error> {
        let path = self.path.clone();
        blocking(move || check(&path)).await
    }
}

fn fetch(path: &Path, previous: Option<&str>) -> Result<Fetched<People>, Error> {
    let stamp = Stamp::of_file(path)?;
    if previous == Some(stamp.fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let mut people = people::read(path, usize::MAX)?.people;
    stamp.still_holds(path)?;
    people.fingerprint = stamp.fingerprint;
    Ok(Fetched::New(people))
}

fn check(path: &Path) -> Result<String, Error> {
    Stamp::of_file(path)?;
    let Peeked {
        format,
        people,
        more,
    } = people::read(path, CHECKED_ROWS)?;
    if let Some(refusal) = people.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let count = people.people.len();
    Ok(if more {
        format!("{format}, the first {count} people are sound")
    } else {
        format!("{format}, {count} people")
    })
}
