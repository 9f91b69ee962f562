//! The directory `file`: a file of people with their status, read again when it changes.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::people::{self, FileHead};
use super::{Common, Directory, Extent, PeopleListing, PeopleQuery, PersonSink};
use crate::sources::file::{FileStamp, run_blocking};
use crate::sources::{CheckReport, Error, Fetched};

/// How many rows [`Directory::check`] reads.
const CHECKED_ROWS: usize = 1000;

/// `[[directory]] kind = "file"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A CSV, JSON or JSON lines file.
    pub path: PathBuf,
}

impl Config {
    #[must_use]
    pub fn build(&self, common: &Common) -> FileDirectory {
        FileDirectory {
            path: self.path.clone(),
            allowed_groups: common.allowed_groups.clone(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct FileDirectory {
    path: PathBuf,
    allowed_groups: Vec<String>,
}

#[async_trait]
impl Directory for FileDirectory {
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let (path, previous) = (self.path.clone(), query.cursor.map(str::to_owned));
        let groups = self.allowed_groups.clone();
        let read =
            run_blocking(move || read_if_changed(&path, &groups, previous.as_deref())).await?;
        Ok(match read {
            Fetched::Unchanged => Fetched::Unchanged,
            Fetched::New((listed, cursor)) => {
                listed.people.into_iter().for_each(sink);
                Fetched::New(PeopleListing {
                    extent: Extent::Everybody,
                    groups: listed.groups,
                    removed: Vec::new(),
                    refusals: listed.refusals,
                    cursor: Some(cursor),
                })
            }
        })
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let (path, groups) = (self.path.clone(), self.allowed_groups.clone());
        run_blocking(move || check(&path, &groups))
            .await
            .map(CheckReport::from)
    }

    fn stores_everyone(&self) -> bool {
        true
    }
}

fn read_if_changed(
    path: &Path,
    groups: &[String],
    previous: Option<&str>,
) -> Result<Fetched<(people::FileListing, String)>, Error> {
    let stamp = FileStamp::take_file(path)?;
    if previous == Some(stamp.fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let listed = people::read_people(path, groups, usize::MAX)?.listed;
    stamp.ensure_unchanged(path)?;
    Ok(Fetched::New((listed, stamp.fingerprint)))
}

fn check(path: &Path, groups: &[String]) -> Result<String, Error> {
    FileStamp::take_file(path)?;
    let FileHead {
        format,
        listed,
        has_more,
    } = people::read_people(path, groups, CHECKED_ROWS)?;
    if let Some(refusal) = listed.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let count = listed.people.len();
    Ok(if has_more {
        format!("{format}, the first {count} people are valid")
    } else {
        format!("{format}, {count} people")
    })
}
