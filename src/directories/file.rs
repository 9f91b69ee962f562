//! The directory `file`: a file of people with their status, read again when it changed.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::people::{self, Peeked};
use super::{Asked, Common, Directory, Extent, Pulled, Tell};
use crate::sources::file::{Stamp, blocking};
use crate::sources::{Checked, Error, Fetched};

/// So many rows [`Directory::check`] looks at.
const CHECKED_ROWS: usize = 1000;

/// `[[directory]] kind = "file"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A CSV, JSON or JSON lines file.
    pub path: PathBuf,
}

impl Config {
    /// The directory.
    #[must_use]
    pub fn build(&self, common: &Common) -> FileDirectory {
        FileDirectory {
            path: self.path.clone(),
            allowed_groups: common.allowed_groups.clone(),
        }
    }
}

/// A file that says who still has access.
#[derive(Debug, Clone)]
pub struct FileDirectory {
    path: PathBuf,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for FileDirectory {
    async fn pull(&self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Result<Fetched<Pulled>, Error> {
        let (path, previous) = (self.path.clone(), asked.cursor.map(str::to_owned));
        let groups = self.allowed_groups.clone();
        let read = blocking(move || read(&path, &groups, previous.as_deref())).await?;
        Ok(match read {
            Fetched::Unchanged => Fetched::Unchanged,
            Fetched::New((listed, cursor)) => {
                listed.people.into_iter().for_each(tell);
                Fetched::New(Pulled {
                    extent: Extent::Everybody,
                    groups: listed.groups,
                    removed: Vec::new(),
                    refusals: listed.refusals,
                    cursor: Some(cursor),
                })
            }
        })
    }

    async fn check(&self) -> Result<Checked, Error> {
        let (path, groups) = (self.path.clone(), self.allowed_groups.clone());
        blocking(move || check(&path, &groups))
            .await
            .map(Checked::from)
    }

    fn is_kept_whole(&self) -> bool {
        true
    }
}

fn read(
    path: &Path,
    groups: &[String],
    previous: Option<&str>,
) -> Result<Fetched<(people::Listed, String)>, Error> {
    let stamp = Stamp::of_file(path)?;
    if previous == Some(stamp.fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let listed = people::read(path, groups, usize::MAX)?.listed;
    stamp.still_holds(path)?;
    Ok(Fetched::New((listed, stamp.fingerprint)))
}

fn check(path: &Path, groups: &[String]) -> Result<String, Error> {
    Stamp::of_file(path)?;
    let Peeked {
        format,
        listed,
        more,
    } = people::read(path, groups, CHECKED_ROWS)?;
    if let Some(refusal) = listed.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let count = listed.people.len();
    Ok(if more {
        format!("{format}, the first {count} people are sound")
    } else {
        format!("{format}, {count} people")
    })
}
