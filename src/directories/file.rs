//! The directory `file`: a file of people with their status, read again when it changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chrono::{DateTime, NaiveTime, Utc};

use super::{Common, Directory, Group, PeopleListing, PeopleQuery, PersonSink, count_member};
use crate::domain::{Address, Cell, IdentityStatus, Person, Reason};
use crate::sources::file::{FileStamp, run_blocking};
use crate::sources::rows::options::ReadOptions;
use crate::sources::rows::{Columns, Format, Input, Row, Rows};
use crate::upstream::{CheckReport, Error, Fetched, RefusedRow, RefusedRows};

/// How many rows [`Directory::check`] reads.
const CHECKED_ROWS: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A CSV, JSON or JSON lines file.
    pub path: PathBuf,
}

impl Config {
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
                    groups: listed.groups,
                    refusals: listed.refusals,
                    cursor: Some(cursor),
                    ..PeopleListing::default()
                })
            }
        })
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let (path, groups) = (self.path.clone(), self.allowed_groups.clone());
        let summary = run_blocking(move || check(&path, &groups)).await?;
        Ok(summary.into())
    }

    fn stores_everyone(&self) -> bool {
        true
    }
}

fn read_if_changed(
    path: &Path,
    groups: &[String],
    previous: Option<&str>,
) -> Result<Fetched<(PeopleFile, String)>, Error> {
    let stamp = FileStamp::take_file(path)?;
    if previous == Some(stamp.fingerprint.as_str()) {
        return Ok(Fetched::Unchanged);
    }
    let listed = read_people(path, groups, usize::MAX)?;
    stamp.ensure_unchanged(path)?;
    Ok(Fetched::New((listed, stamp.fingerprint)))
}

fn check(path: &Path, groups: &[String]) -> Result<String, Error> {
    FileStamp::take_file(path)?;
    let head = read_people(path, groups, CHECKED_ROWS)?;
    if let Some(refusal) = head.refusals.shown.into_iter().next() {
        return Err(refusal.into());
    }
    let (format, count) = (head.format, head.people.len());
    let is_unclear = |person: &&Person| person.status == IdentityStatus::Unknown;
    let unclear = head.people.iter().filter(is_unclear).count();
    let unclear = match head.people.iter().find(is_unclear) {
        Some(first) => format!(
            "; the status of {unclear} cannot be read, the first: {}",
            first.evidence
        ),
        None => String::new(),
    };
    Ok(if head.has_more {
        format!("{format}, the first {count} people are valid{unclear}")
    } else {
        format!("{format}, {count} people{unclear}")
    })
}

/// The columns, in the order that [`parse_person`] expects.
const COLUMNS: Columns<5> = Columns {
    names: ["email", "status", "name", "groups", "since"],
    required: &["email", "status"],
    export: &[],
};

/// The rows of a people file, or the first of them.
#[derive(Debug)]
struct PeopleFile {
    format: Format,
    /// In order of address, each person once.
    people: Vec<Person>,
    groups: Vec<Group>,
    refusals: RefusedRows,
    has_more: bool,
}

/// Reads up to `limit` rows. Blocks.
///
/// # Errors
/// When the file cannot be read to its end, or is not a people file. Bad rows are refusals.
fn read_people(path: &Path, allowed: &[String], limit: usize) -> Result<PeopleFile, Error> {
    let mut rows = Rows::open(
        &Input::Path(path.to_owned()),
        &COLUMNS,
        &ReadOptions::default(),
    )?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let mut refusals = RefusedRows::default();
    let mut groups: Vec<Group> = allowed.iter().cloned().map(Group::empty).collect();
    let mut people: BTreeMap<Address, (u64, Person)> = BTreeMap::new();
    for row in rows.by_ref().take(limit) {
        let row = row?;
        let line = row.line;
        let reason = match parse_person(row, &file) {
            Ok((email, mut person, member_of)) => match people.entry(email) {
                Entry::Vacant(place) => {
                    let groups = groups.iter_mut();
                    let by_name = groups.map(|group| (member_of.contains(&group.name), group));
                    person.is_member = count_member(by_name);
                    place.insert((line, person));
                    continue;
                }
                Entry::Occupied(first) => {
                    let first = first.get().0;
                    format!("the email is already in line {first}; keep one of the two")
                }
            },
            Err(reason) => reason,
        };
        let file = path.display().to_string();
        refusals.add(RefusedRow { file, line, reason });
    }
    Ok(PeopleFile {
        format: rows.format,
        people: people.into_values().map(|(_, person)| person).collect(),
        groups,
        refusals,
        has_more: rows.next().is_some(),
    })
}

/// The address and the person of a row, and the names of their groups.
fn parse_person(row: Row<5>, file: &str) -> Result<(Address, Person, Vec<String>), String> {
    let [email, status, name, groups, since] = row.values?;
    let email = email.into_address("email")?.into_option();
    let email = email.ok_or("email is missing; write the person's address")?;
    // A cell that cannot be read is no reason to lose the other people of the file.
    let (status, unclear) = match status.parse("status", parse_status).map(Cell::into_option) {
        Ok(Some(status)) => (status, None),
        Ok(None) => (IdentityStatus::Unknown, Some("no status".to_owned())),
        Err(reason) => (IdentityStatus::Unknown, Some(reason)),
    };
    let since = since.into_instant("since").ok().and_then(Cell::into_option);
    let place = format!("in {file}, line {}", row.line);
    let person = Person {
        id: None,
        main: Some(email.clone()),
        others: Vec::new(),
        sign_in_name: None,
        fallbacks: Vec::new(),
        name: name.into_text("name")?.into_option(),
        status,
        reason: match status {
            IdentityStatus::Disabled => Some(Reason::Admin),
            IdentityStatus::Unknown => Some(Reason::FieldMissing),
            _ => None,
        },
        since,
        evidence: match unclear {
            Some(reason) => format!("{reason} ({place})"),
            None => status_evidence(status, since, &place),
        },
        is_member: None,
    };
    Ok((email, person, groups.into_list("groups")?))
}

fn parse_status(text: &str) -> Result<IdentityStatus, String> {
    match text.to_ascii_lowercase().as_str() {
        "active" => Ok(IdentityStatus::Active),
        "disabled" => Ok(IdentityStatus::Disabled),
        "deleted" => Ok(IdentityStatus::Deleted),
        _ => Err("is not a status; write active, disabled or deleted".to_owned()),
    }
}

/// The values of a row and where it is, so that an administrator can look it up.
fn status_evidence(status: IdentityStatus, since: Option<DateTime<Utc>>, place: &str) -> String {
    let since = match since {
        None => String::new(),
        Some(at) if at.time() == NaiveTime::MIN => format!(" since {}", at.format("%Y-%m-%d")),
        Some(at) => format!(" since {}", at.format("%Y-%m-%dT%H:%M:%SZ")),
    };
    format!("status \"{status}\"{since} {place}")
}

#[cfg(test)]
mod tests;
