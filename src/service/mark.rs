//! What this machine has seen of the store's changes, in a file outside the store: after a restore, the store has
//! forgotten changes that the file still names.
//!
//! A line is a change: its number, when it was seen, and what it concerns. The numbers only grow, so a store without
//! the largest one is older than this machine's memory.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::files::{create_private_for_owner, replace_durably};
use crate::store::{self, Change, Store};

/// A larger file is cut to the last [`KEPT_LINES`].
const MAX_BYTES: u64 = 2 * 1024 * 1024;
const KEPT_LINES: usize = 10_000;

/// The key of the setting that an operator's decision changes.
pub(super) const RESUMED: &str = "service_resumed";

/// The file.
#[derive(Debug, Clone)]
pub struct Mark(PathBuf);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenChange {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub change: Change,
}

impl Mark {
    /// Beside an SQLite store, else in the folder for the state of the service. `None` without such a folder: then a
    /// restore is not noticed.
    pub fn find(store: &Store, state_folder: Option<&Path>) -> Option<Self> {
        match store.file() {
            Some(mut file) => {
                let mut name = file.file_name()?.to_owned();
                name.push(".mark");
                file.set_file_name(name);
                Some(Self(file))
            }
            None => state_folder.map(|folder| Self(folder.join("service.mark"))),
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// In the order in which they were seen; empty without a file. A line that was cut is left out.
    pub fn read(&self) -> io::Result<Vec<SeenChange>> {
        match fs::read_to_string(&self.0) {
            Ok(text) => {
                let complete = text
                    .split_inclusive('\n')
                    .filter_map(|line| line.strip_suffix('\n'));
                Ok(complete.filter_map(parse_line).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub fn append(&self, seen: &[SeenChange]) -> io::Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        if fs::metadata(&self.0).is_ok_and(|file| file.len() > MAX_BYTES) {
            let mut known = self.read()?;
            known.extend_from_slice(seen);
            known.drain(..known.len().saturating_sub(KEPT_LINES));
            return self.replace(&known);
        }
        let mut file = match OpenOptions::new().append(true).open(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_private_for_owner(&self.0)?
            }
            opened => opened?,
        };
        file.write_all(format_lines(seen).as_bytes())?;
        file.sync_data()
    }

    /// Keeps the file's owner, which may be another user than that of a command.
    pub fn replace(&self, seen: &[SeenChange]) -> io::Result<()> {
        replace_durably(&self.0, format_lines(seen).as_bytes())
    }

    /// Whether the store has the last change that this machine has seen, or may have purged it.
    pub async fn is_in(&self, store: &Store) -> Result<bool, MarkError> {
        let Some(last) = self.find_last()? else {
            return Ok(true);
        };
        let mut tx = store.begin_short_read().await?;
        Ok(tx.has_change(last.id, &last.change).await?)
    }

    /// The change with the largest number.
    pub fn find_last(&self) -> Result<Option<SeenChange>, MarkError> {
        let seen = self.read().map_err(|source| self.error(source))?;
        Ok(seen.into_iter().max_by_key(|seen| seen.id))
    }

    pub fn error(&self, source: io::Error) -> MarkError {
        MarkError::File {
            path: self.0.clone(),
            source,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error("cannot read {}", path.display())]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Each begins with a line's end, too: the one before it may have been cut. A tab shows that a line was not.
fn format_lines(seen: &[SeenChange]) -> String {
    let line = |SeenChange { id, at, change }: &SeenChange| {
        let (at, kind, key) = (at.timestamp(), change.kind(), change.key());
        format!("\n{id} {at} {kind} {key}\t\n")
    };
    seen.iter().map(line).collect()
}

fn parse_line(line: &str) -> Option<SeenChange> {
    let mut cells = line.strip_suffix('\t')?.splitn(4, ' ');
    let id = cells.next()?.parse().ok()?;
    let at = DateTime::from_timestamp(cells.next()?.parse().ok()?, 0)?;
    let kind = cells.next()?;
    let change = Change::from_row(kind, cells.next()?.to_owned());
    Some(SeenChange { id, at, change })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: i64) -> SeenChange {
        SeenChange {
            id,
            at: DateTime::UNIX_EPOCH,
            change: Change::User("ada@example.org".to_owned()),
        }
    }

    #[test]
    fn a_line_that_was_cut_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Mark(folder.path().join("service.mark"));
        assert!(mark.read().unwrap().is_empty());
        mark.append(&[seen(1)]).unwrap();
        let whole = fs::read(mark.path()).unwrap();
        let line = format_lines(&[seen(2)]);
        // At the end, the cut line has all but the end of the line.
        for length in 0..line.len() {
            let cut = [&whole, &line.as_bytes()[..length]].concat();
            fs::write(mark.path(), cut).unwrap();
            mark.append(&[seen(3)]).unwrap();
            let read = mark.read().unwrap();
            let is_whole = length == line.len() - 1;
            let expected = if is_whole {
                vec![seen(1), seen(2), seen(3)]
            } else {
                vec![seen(1), seen(3)]
            };
            assert_eq!(read, expected, "{length}");
        }
    }

    #[test]
    fn a_file_that_grows_too_large_keeps_the_last_changes() {
        let folder = tempfile::tempdir().unwrap();
        let mark = Mark(folder.path().join("service.mark"));
        let many: Vec<_> = (0..80_000).map(seen).collect();
        mark.append(&many).unwrap();
        mark.append(&[seen(80_000)]).unwrap();
        let read = mark.read().unwrap();
        assert_eq!(read.len(), KEPT_LINES);
        assert_eq!(read.last(), Some(&seen(80_000)));
        mark.replace(&[]).unwrap();
        assert!(mark.read().unwrap().is_empty());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
