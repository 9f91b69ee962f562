//! Reads people files: their columns, and each address once, in order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use chrono::{DateTime, NaiveTime, Utc};

use super::Group;
use crate::domain::{Address, IdentityStatus, Person, Reason};
use crate::sources::rows::{Columns, Format, Input, Row, Rows};
use crate::sources::{Error, RefusedRows};

/// The columns of a people file, in the order that [`parse_person`] expects.
const COLUMNS: Columns<5> = Columns {
    names: ["email", "status", "name", "groups", "since"],
    required: &["email", "status"],
};

#[derive(Debug)]
pub(super) struct FileListing {
    /// In order of address, each person once.
    pub people: Vec<Person>,
    pub groups: Vec<Group>,
    pub refusals: RefusedRows,
}

/// The rows of a people file, or the first of them.
pub(super) struct FileHead {
    pub format: Format,
    pub listed: FileListing,
    /// Whether the file has more rows.
    pub has_more: bool,
}

/// Reads a people file up to `limit` rows. Blocks.
///
/// # Errors
/// When the file cannot be read to its end, or is not a people file. Bad rows are refusals.
pub(super) fn read_people(
    path: &Path,
    allowed: &[String],
    limit: usize,
) -> Result<FileHead, Error> {
    let mut rows = Rows::open(&Input::Path(path.to_owned()), &COLUMNS)?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let mut refusals = RefusedRows::default();
    let mut allowed: Vec<Group> = allowed.iter().cloned().map(Group::empty).collect();
    let mut people: BTreeMap<Address, (u64, Person)> = BTreeMap::new();
    let mut has_more = false;
    let mut count = 0;
    while let Some(row) = rows.next() {
        if count == limit {
            has_more = true;
            break;
        }
        count += 1;
        let row = row?;
        let line = row.line;
        let reason = match parse_person(row, &file) {
            Ok((email, mut person, groups)) => match people.entry(email) {
                Entry::Vacant(place) => {
                    person.is_member = count_member(&mut allowed, &groups);
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
        refusals.add(rows.refusal(line, reason));
    }
    let listed = FileListing {
        people: people.into_values().map(|(_, person)| person).collect(),
        groups: allowed,
        refusals,
    };
    Ok(FileHead {
        format: rows.format(),
        listed,
        has_more,
    })
}

/// Counts a person in each allowed group that they are in. Returns whether there is one, or `None` if no
/// group is configured.
fn count_member(allowed: &mut [Group], groups: &[String]) -> Option<bool> {
    let mut is_member = None;
    for group in allowed {
        let is_in = groups.contains(&group.name);
        group.members += u64::from(is_in);
        *is_member.get_or_insert(false) |= is_in;
    }
    is_member
}

/// The address and the person of a row, and the names of their groups.
fn parse_person(row: Row<5>, file: &str) -> Result<(Address, Person, Vec<String>), String> {
    let [email, status, name, groups, since] = row.values?;
    let email = email.into_address("email")?.into_option();
    let email = email.ok_or("email is missing; write the person's address")?;
    let status = status.parse("status", parse_status)?.into_option();
    let status = status.ok_or("status is missing; write active, disabled or deleted")?;
    let since = since.into_instant("since")?.into_option();
    let person = Person {
        id: None,
        main: Some(email.clone()),
        others: Vec::new(),
        sign_in_name: None,
        name: name.into_text("name")?.into_option(),
        status,
        reason: (status == IdentityStatus::Disabled).then_some(Reason::Admin),
        since,
        evidence: status_evidence(status, since, file, row.line),
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
fn status_evidence(
    status: IdentityStatus,
    since: Option<DateTime<Utc>>,
    file: &str,
    line: u64,
) -> String {
    let since = match since {
        None => String::new(),
        Some(at) if at.time() == NaiveTime::MIN => format!(" since {}", at.format("%Y-%m-%d")),
        Some(at) => format!(" since {}", at.format("%Y-%m-%dT%H:%M:%SZ")),
    };
    format!("status \"{status}\"{since} in {file}, line {line}")
}

#[cfg(test)]
mod tests;
