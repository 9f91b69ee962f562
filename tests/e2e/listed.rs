//! What directories list, and what sweeps conclude from it.

use std::time::Duration;

use lapsed::clock::Clock;
use lapsed::directories::{Common, Directory, PeopleListing, PeopleQuery};
use lapsed::domain::{Address, Person};
use lapsed::sources::{CheckReport, Error, Fetched, ProxyRules};
use serde_json::Value;

use crate::world::World;

pub fn common(groups: &[&str]) -> Common {
    Common {
        timeout: Duration::from_secs(20),
        allowed_groups: groups.iter().map(|&name| name.to_owned()).collect(),
        clock: Clock::system(),
        proxies: ProxyRules::default(),
    }
}

/// `user1@example.org` and so on.
pub fn users(count: usize) -> Vec<Address> {
    let address = |number| format!("user{number}@example.org").parse().unwrap();
    (1..=count).map(address).collect()
}

#[derive(Debug)]
pub struct Listed {
    pub people: Vec<Person>,
    pub listing: PeopleListing,
}

impl Listed {
    /// `user2@example.org disabled`, in order.
    pub fn lines(&self) -> Vec<String> {
        let line = |person: &Person| format!("{} {}", person.main.as_ref().unwrap(), person.status);
        let mut lines: Vec<String> = self.people.iter().map(line).collect();
        lines.sort();
        lines
    }

    /// The main addresses of members of the allowed groups, in order.
    pub fn members(&self) -> Vec<&str> {
        let members = self.people.iter().filter(|it| it.is_member.unwrap());
        let mut members: Vec<&str> = members
            .map(|it| it.main.as_ref().unwrap().as_str())
            .collect();
        members.sort_unstable();
        members
    }

    /// The name and size of each allowed group.
    pub fn groups(&self) -> Vec<(&str, u64)> {
        let groups = self.listing.groups.iter();
        groups.map(|it| (it.name.as_str(), it.members)).collect()
    }

    #[track_caller]
    pub fn person(&self, address: &str) -> &Person {
        let address = address.parse().unwrap();
        let mut people = self.people.iter();
        let found = people.find(|person| person.addresses().any(|own| *own == address));
        found.unwrap_or_else(|| panic!("{address} is not listed"))
    }
}

pub async fn list_query(
    directory: &dyn Directory,
    query: &PeopleQuery<'_>,
) -> Result<Listed, Error> {
    let mut people = Vec::new();
    let mut sink = |person| people.push(person);
    match directory.list_people(query, &mut sink).await? {
        Fetched::New(listing) => Ok(Listed { people, listing }),
        Fetched::Unchanged => panic!("a first listing is always new"),
    }
}

pub async fn list(directory: &dyn Directory, people: &[Address]) -> Result<Listed, Error> {
    list_again(directory, people, None).await
}

/// A listing after one that ended with a cursor.
pub async fn list_again(
    directory: &dyn Directory,
    people: &[Address],
    cursor: Option<&str>,
) -> Result<Listed, Error> {
    let query = PeopleQuery {
        people,
        cursor,
        last_cursor: cursor,
    };
    list_query(directory, &query).await
}

/// What is missing according to a check, as `right: how to add it`.
pub fn missing(checked: &CheckReport) -> Vec<String> {
    let rights = checked.rights.iter();
    let missing = rights.filter_map(|right| {
        let fix = right.missing.as_ref()?;
        Some(format!("{}: {fix}", right.what))
    });
    missing.collect()
}

/// The open findings about people who lost access, as `token: evidence`, in order.
pub fn findings(world: &World) -> Vec<String> {
    let rows = world.list(&["finding", "list"]);
    let line = |row: &Value| {
        assert_eq!(row["kind"], "sso_revoked");
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        format!("{}: {}", text("token_name"), text("evidence"))
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

#[track_caller]
pub fn assert_only_finding(world: &World, token: &str, evidence: &str) {
    let lines = findings(world);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with(&format!("{token}: ")), "{lines:?}");
    assert_contains!(lines[0], evidence);
}

#[track_caller]
pub fn assert_no_findings(world: &World) {
    assert_eq!(findings(world), [""; 0]);
}

/// What the only directory reports of a person.
pub fn identity(world: &World, email: &str) -> Value {
    let ran = world.run(&["identity", "show", email, "--format", "json"]);
    let shown: Value = serde_json::from_str(&ran.exits(0).stdout).unwrap();
    shown["directories"][0].clone()
}

/// `unknown field_missing`.
pub fn status(world: &World, email: &str) -> String {
    let identity = identity(world, email);
    let text = |key: &str| identity[key].as_str();
    let reason = text("reason").map_or(String::new(), |reason| format!(" {reason}"));
    format!("{}{reason}", text("status").unwrap())
}
