//! People from files: which columns there are, what each means, and each address once, in order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use chrono::{DateTime, NaiveTime, Utc};

use super::Group;
use crate::domain::{IdentityStatus, Person, Reason};
use crate::sources::rows::{Columns, Format, Input, Row, Rows};
use crate::sources::{Error, Refusals};

/// The columns of a people file, in the order in which [`person`] takes them.
const COLUMNS: Columns<5> = Columns {
    names: ["email", "status", "name", "groups", "since"],
    required: &["email", "status"],
};

/// Whom a file lists.
#[derive(Debug)]
pub(super) struct Listed {
    /// The people, in order of address, each once.
    pub people: Vec<Person>,
    /// How many are in each allowed group.
    pub groups: Vec<Group>,
    /// Rows that make no sense.
    pub refusals: Refusals,
}

/// What the beginning of a people file looks like, or all of it.
pub(super) struct Peeked {
    /// How it is written down.
    pub format: Format,
    /// Whom it lists.
    pub listed: Listed,
    /// Whether there is more.
    pub more: bool,
}

/// Reads a people file, or the given number of its rows. Blocks.
///
/// # Errors
/// When it cannot be read to its end or makes no sense as a whole. Bad rows are refusals.
pub(super) fn read(path: &Path, allowed: &[String], limit: usize) -> Result<Peeked, Error> {
    let mut rows = Rows::open(&Input::Path(path.to_owned()), &COLUMNS)?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let mut refusals = Refusals::default();
    let mut allowed: Vec<Group> = allowed.iter().cloned().map(Group::empty).collect();
    let mut people: BTreeMap<String, (u64, Person)> = BTreeMap::new();
    let mut more = false;
    let mut count = 0;
    while let Some(row) = rows.next() {
        if count == limit {
            more = true;
            break;
        }
        count += 1;
        let row = match row? {
            Ok(row) => row,
            Err(refusal) => {
                refusals.add(refusal);
                continue;
            }
        };
        let line = row.line;
        let reason = match person(row, &file) {
            Ok((mut person, groups)) => match people.entry(person.email().key().to_owned()) {
                Entry::Vacant(place) => {
                    person.is_member = enrol(&mut allowed, &groups);
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
    let listed = Listed {
        people: people.into_values().map(|(_, person)| person).collect(),
        groups: allowed,
        refusals,
    };
    Ok(Peeked {
        format: rows.format(),
        listed,
        more,
    })
}

/// Counts a person into those of the allowed groups that they are in; tells whether that is any.
fn enrol(allowed: &mut [Group], groups: &[String]) -> Option<bool> {
    let mut is_member = None;
    for group in allowed {
        let is_in = groups.contains(&group.name);
        group.members += u64::from(is_in);
        *is_member.get_or_insert(false) |= is_in;
    }
    is_member
}

/// Makes a person of a row of this file, and the names of their groups.
fn person(row: Row<5>, file: &str) -> Result<(Person, Vec<String>), String> {
    let [email, status, name, groups, since] = row.values;
    let email = email.into_address("email")?.over(None);
    let email = email.ok_or("email is missing; write the person's address")?;
    let status = status.parse("status", parse_status)?.over(None);
    let status = status.ok_or("status is missing; write active, disabled or deleted")?;
    let since = since.into_instant("since")?.over(None);
    let person = Person {
        id: None,
        addresses: vec![email],
        name: name.into_text("name")?.over(None),
        status,
        reason: (status == IdentityStatus::Disabled).then_some(Reason::Admin),
        since,
        evidence: evidence(status, since, file, row.line),
        is_member: None,
    };
    Ok((person, groups.into_list("groups")?))
}

fn parse_status(text: &str) -> Result<IdentityStatus, String> {
    match text.to_ascii_lowercase().as_str() {
        "active" => Ok(IdentityStatus::Active),
        "disabled" => Ok(IdentityStatus::Disabled),
        "deleted" => Ok(IdentityStatus::Deleted),
        _ => Err("is no status; write active, disabled or deleted".to_owned()),
    }
}

/// What the file says of a person, for an administrator who wants to see it himself.
fn evidence(status: IdentityStatus, since: Option<DateTime<Utc>>, file: &str, line: u64) -> String {
    let since = match since {
        None => String::new(),
        Some(at) if at.time() == NaiveTime::MIN => format!(" since {}", at.format("%Y-%m-%d")),
        Some(at) => format!(" since {}", at.format("%Y-%m-%dT%H:%M:%SZ")),
    };
    format!("status \"{status}\"{since} in {file}, line {line}")
}

#[cfg(test)]
mod tests;
