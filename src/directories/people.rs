//! People from files: which columns there are, what each means, and each address once, in order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;

use chrono::{DateTime, NaiveTime, Utc};

use super::People;
use crate::domain::{IdentityStatus, Person};
use crate::sources::rows::{Columns, Format, Input, Row, Rows};
use crate::sources::{Error, Refusals};

/// The columns of a people file, in the order in which [`person`] takes them.
const COLUMNS: Columns<5> = Columns {
    names: ["email", "status", "name", "groups", "since"],
    required: &["email", "status"],
};

/// What the beginning of a people file looks like, or all of it.
pub(super) struct Peeked {
    /// How it is written down.
    pub format: Format,
    /// Whom it lists.
    pub people: People,
    /// Whether there is more.
    pub more: bool,
}

/// Reads a people file, or the given number of its rows. Blocks.
///
/// # Errors
/// When it cannot be read to its end or makes no sense as a whole. Bad rows are refusals.
pub(super) fn read(path: &Path, limit: usize) -> Result<Peeked, Error> {
    let mut rows = Rows::open(&Input::Path(path.to_owned()), &COLUMNS)?;
    let file = path
        .file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy();
    let mut refusals = Refusals::default();
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
            Ok(person) => match people.entry(person.email.key().to_owned()) {
                Entry::Vacant(place) => {
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
    let people = People {
        people: people.into_values().map(|(_, person)| person).collect(),
        refusals,
        fingerprint: String::new(),
    };
    Ok(Peeked {
        format: rows.format(),
        people,
        more,
    })
}

/// Makes a person of a row of this file.
fn person(row: Row<5>, file: &str) -> Result<Person, String> {
    let [email, status, name, groups, since] = row.values;
    let email = email.into_address("email")?.over(None);
    let email = email.ok_or("email is missing; write the person's address")?;
    let status = status.parse("status", parse_status)?.over(None);
    let status = status.ok_or("status is missing; write active, disabled or deleted")?;
    let since = since.into_instant("since")?.over(None);
    Ok(Person {
        email,
        status,
        name: name.into_text("name")?.over(None),
        groups: groups.into_list("groups")?,
        since,
        evidence: evidence(status, since, file, row.line),
    })
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
