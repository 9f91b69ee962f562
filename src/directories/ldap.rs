//! The directory `ldap`: OpenLDAP, 389 Directory Server with FreeIPA, and Active Directory.
//!
//! An empty search result is not evidence: if the bind account may not read an attribute, the server reports
//! success and no entries. So a listing without people is an error, and an account is gone only if others
//! can still be found by id.

mod flavor;
mod groups;
mod person;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use uuid::Uuid;

use super::json::without_id_note;
use super::{Common, Directory, Lookup, PeopleListing, PeopleQuery, PersonSink, is_few};
use crate::clock::Clock;
use crate::domain::{IdentityStatus, Person};
use crate::upstream::ldap::{self, Entry, Search, Server, Session};
use crate::upstream::{CheckReport, Error, Fetched, Right};
use groups::{AllowedGroups, Scope};
use person::{StatusRules, build_person};

pub use crate::upstream::ldap::{Access, ClientCertificate, exposes_password, is_valid_filter};
pub use flavor::{FLAVORS, Flavor};

/// A connection that was idle for longer is not used again.
const MAX_IDLE: Duration = Duration::from_secs(20);

/// How many connections are kept for further look-ups.
const MAX_IDLE_CONNECTIONS: usize = 4;

/// How many people a check reads.
const CHECKED_PEOPLE: i32 = 500;

#[derive(Debug, Clone)]
pub struct Config {
    pub access: Access,
    /// The entry that people are below.
    pub base: String,
    /// Selects people; `None` uses the product's default.
    pub filter: Option<String>,
    /// `None` detects the product.
    pub flavor: Option<Flavor>,
    /// Whether an account has no access from the day in shadowExpire on.
    pub shadow_expire: bool,
    pub outside_filter: OutsideFilter,
}

/// What follows for a person whose entry still exists and works, but left the configured filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OutsideFilter {
    #[default]
    Unknown,
    /// They lost access.
    Lost,
}

/// As written in the configuration.
pub const OUTSIDE_FILTER: &[(&str, OutsideFilter)] = &[
    ("unknown", OutsideFilter::Unknown),
    ("lost", OutsideFilter::Lost),
];

impl Config {
    pub fn build(&self, common: &Common) -> Result<LdapDirectory, Error> {
        Ok(LdapDirectory {
            config: self.clone(),
            server: Server::new(&self.access, common.timeout)?,
            allowed_groups: common.allowed_groups.clone(),
            clock: common.clock.clone(),
            idle: Mutex::default(),
        })
    }
}

pub struct LdapDirectory {
    config: Config,
    server: Server,
    allowed_groups: Vec<String>,
    clock: Clock,
    idle: Mutex<Vec<(Instant, Connection)>>,
}

struct Connection {
    session: Session,
    root: flavor::RootDse,
}

#[async_trait]
impl Directory for LdapDirectory {
    async fn list_people(
        &self,
        _: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error> {
        let mut connection = self.connect().await?;
        let listing = self.list_with(&mut connection, sink).await?;
        self.keep(connection);
        Ok(Fetched::New(listing))
    }

    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        if let Some(mut connection) = self.take_idle() {
            match self.look_up_with(&mut connection, id).await {
                // The idle connection is broken: try a new one.
                Err(Error::Ldap(error)) if error.is_connection_failure() => {}
                result => {
                    if result.is_ok() {
                        self.keep(connection);
                    }
                    return result;
                }
            }
        }
        let mut connection = self.connect().await?;
        let lookup = self.look_up_with(&mut connection, id).await?;
        self.keep(connection);
        Ok(lookup)
    }

    async fn check(&self) -> Result<CheckReport, Error> {
        let mut connection = self.connect().await?;
        self.check_with(&mut connection).await
    }
}

impl LdapDirectory {
    async fn connect(&self) -> Result<Connection, Error> {
        let mut session = self.server.connect().await?;
        let root = flavor::RootDse::fetch(&mut session, self.config.flavor).await?;
        Ok(Connection { session, root })
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE_CONNECTIONS {
            idle.push((Instant::now(), connection));
        }
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|(since, connection)| {
            since.elapsed() <= MAX_IDLE && !connection.session.is_closed()
        });
        idle.pop().map(|(_, connection)| connection)
    }

    fn rules(&self, flavor: Flavor) -> StatusRules {
        StatusRules {
            flavor,
            counts_shadow_expire: self.config.shadow_expire,
            now: self.clock.now(),
        }
    }

    fn people_filter(&self, flavor: Flavor) -> &str {
        let configured = self.config.filter.as_deref();
        configured.unwrap_or_else(|| flavor.people_filter())
    }

    fn search<'a>(&'a self, filter: &'a str, attributes: &'a [&'a str]) -> Search<'a> {
        Search {
            base: &self.config.base,
            filter,
            attributes,
        }
    }

    async fn list_with(
        &self,
        connection: &mut Connection,
        sink: &mut PersonSink<'_>,
    ) -> Result<PeopleListing, Error> {
        let Connection { session, root } = connection;
        let scope = Scope {
            root,
            base: &self.config.base,
        };
        let mut allowed_groups = AllowedGroups::fetch(session, scope, &self.allowed_groups).await?;
        let rules = self.rules(root.flavor);
        let search = self.search(self.people_filter(root.flavor), root.flavor.attributes());
        let mut seen = SeenEntries::default();
        session
            .search(&search, &mut |entry| {
                let Some(id) = seen.new_id(root.flavor, &entry) else {
                    return;
                };
                let mut person = build_person(&entry, id.clone(), &rules);
                if person.shows_an_address() {
                    person.is_member = allowed_groups.count_member(&entry, &id);
                    seen.people += 1;
                    sink(person);
                }
            })
            .await?;
        seen.ensure_plausible(root.flavor)?;
        Ok(PeopleListing {
            gaps: without_id_note(seen.without_id),
            groups: allowed_groups.into_groups(),
            ..PeopleListing::default()
        })
    }

    async fn look_up_with(&self, connection: &mut Connection, id: &str) -> Result<Lookup, Error> {
        let flavor = connection.root.flavor;
        if flavor == Flavor::ActiveDirectory {
            return self.look_up_guid(connection, id).await;
        }
        let filter = flavor.id_filter(id);
        let search = self.search(&filter, flavor.attributes());
        let found = connection.session.search_all(&search).await?;
        let mut found = found.into_iter().filter(|entry| {
            let found_id = flavor.id(entry);
            found_id.is_some_and(|found_id| found_id.eq_ignore_ascii_case(id))
        });
        match (found.next(), found.next()) {
            (Some(entry), None) => self.found(connection, &entry).await,
            (None, _) => self.confirm_gone(connection).await,
            (Some(_), Some(_)) => Ok(Lookup::unclear("several entries have its id")),
        }
    }

    /// Looks in the whole directory, since the account may have been moved, and among deleted objects.
    async fn look_up_guid(&self, connection: &mut Connection, id: &str) -> Result<Lookup, Error> {
        let flavor = connection.root.flavor;
        let Ok(guid) = Uuid::try_parse(id) else {
            let reason = "its stored id is not an id of Active Directory";
            return Ok(Lookup::unclear(reason));
        };
        let name = format!("<GUID={guid}>");
        let is_match = |entry: &Entry| flavor.id(entry) == Some(guid.to_string());
        let session = &mut connection.session;
        let found = session.read_entry(&name, flavor.attributes()).await?;
        if let Some(entry) = found.filter(is_match) {
            return self.found(connection, &entry).await;
        }
        let deleted = match session.read_deleted(&name, flavor.attributes()).await {
            // The bind account may not see deleted objects.
            Err(error @ ldap::Error::Failed { .. }) if error.wait().is_none() => None,
            result => result?.filter(is_match),
        };
        if let Some(entry) = deleted
            && let Some(flag) = entry.text("isDeleted")
            && flag.eq_ignore_ascii_case("true")
        {
            return Ok(Lookup::certainly_gone("isDeleted=TRUE"));
        }
        self.confirm_gone(connection).await
    }

    /// The account of an entry, unless it works but has left the configured filter.
    async fn found(&self, connection: &mut Connection, entry: &Entry) -> Result<Lookup, Error> {
        let rules = self.rules(connection.root.flavor);
        let Some(person) = identify(entry, &rules) else {
            return Ok(Lookup::unclear("its entry shows no id"));
        };
        let matches = match self.config.filter.as_deref() {
            Some(filter) if !person.status.is_lost() => {
                connection.session.matches(&entry.dn, filter).await?
            }
            _ => Some(true),
        };
        Ok(judge_scope(person, matches, self.config.outside_filter))
    }

    /// An account is gone only if others can be found in the same way.
    async fn confirm_gone(&self, connection: &mut Connection) -> Result<Lookup, Error> {
        let flavor = connection.root.flavor;
        let filter = flavor.people_with_id_filter(self.people_filter(flavor));
        let search = self.search(&filter, flavor.id_attributes());
        let others = connection.session.search_first(&search, 1).await?;
        let names = flavor.id_attributes().join(" or ");
        if others
            .entries
            .iter()
            .any(|other| flavor.id(other).is_some())
        {
            return Ok(Lookup::gone(format!("no entry has its {names}")));
        }
        let reason = format!("the account of bind_dn sees no one by {names}");
        Ok(Lookup::unclear(reason))
    }

    async fn check_with(&self, connection: &mut Connection) -> Result<CheckReport, Error> {
        let flavor = connection.root.flavor;
        let search = self.search(self.people_filter(flavor), flavor.attributes());
        let page = connection
            .session
            .search_first(&search, CHECKED_PEOPLE)
            .await?;
        let rules = self.rules(flavor);
        let people: Vec<Person> = page
            .entries
            .iter()
            .filter_map(|entry| identify(entry, &rules))
            .filter(Person::shows_an_address)
            .collect();
        let lost = people.iter().filter(|person| person.status.is_lost());
        let beginning = if page.has_more() { "the first " } else { "" };
        let summary = format!(
            "{}, {beginning}{} people, {} of them without access",
            flavor.name(),
            people.len(),
            lost.count()
        );
        let mut rights = self.rights(flavor, &page.entries, &people);
        rights.extend(self.group_rights(connection).await?);
        Ok(CheckReport {
            summary,
            rights,
            ..CheckReport::default()
        })
    }

    fn rights(&self, flavor: Flavor, entries: &[Entry], people: &[Person]) -> Vec<Right> {
        let ids = flavor.id_attributes().join(" or ");
        let see = format!("{} below {}", self.people_filter(flavor), self.config.base);
        let mut rights = vec![
            Right::new(
                &format!("find people by {see}"),
                !entries.is_empty(),
                "let the account of bind_dn read mail there, or correct base and filter",
            ),
            Right::new(
                &format!("read {ids} of all people"),
                entries.iter().all(|entry| flavor.id(entry).is_some()),
                "let the account of bind_dn read it: people cannot be identified without it",
            ),
            Right::new(
                "read the addresses of people",
                entries.is_empty() || !people.is_empty(),
                "let the account of bind_dn read mail",
            ),
        ];
        if flavor == Flavor::ActiveDirectory {
            let has_status = |person: &Person| person.status != IdentityStatus::Unknown;
            rights.push(Right::new(
                "read userAccountControl and accountExpires of all people",
                people.iter().all(has_status),
                "let the account of bind_dn read all properties of users below base, and use a domain \
                 controller on port 636, not the global catalog",
            ));
        }
        rights
    }

    async fn group_rights(&self, connection: &mut Connection) -> Result<Vec<Right>, Error> {
        let mut rights = Vec::new();
        for name in &self.allowed_groups {
            let scope = Scope {
                root: &connection.root,
                base: &self.config.base,
            };
            let only = std::slice::from_ref(name);
            let what = format!("read the group {name}");
            rights.push(
                match AllowedGroups::fetch(&mut connection.session, scope, only).await {
                    Ok(_) => Right::granted(&what),
                    Err(Error::Rights { what: lack, fix }) => {
                        Right::missing(&what, format!("{lack}; {fix}"))
                    }
                    Err(error) => return Err(error),
                },
            );
        }
        Ok(rights)
    }
}

/// The person of an entry, with the id as listings have it; `None` if it shows none.
fn identify(entry: &Entry, rules: &StatusRules) -> Option<Person> {
    let id = rules.flavor.id(entry)?;
    Some(build_person(entry, id, rules))
}

/// `matches` is `None` if the entry was not there any more when it was compared with the filter.
fn judge_scope(person: Person, matches: Option<bool>, outside_filter: OutsideFilter) -> Lookup {
    match matches {
        Some(true) => Lookup::found(person),
        Some(false) => Lookup::OutOfScope {
            evidence: "its entry does not match the filter".to_owned(),
            is_lost: outside_filter == OutsideFilter::Lost,
        },
        None => Lookup::unclear("its entry was moved or deleted while it was read"),
    }
}

/// The people of entries, each an object of attributes with lists of values. A value that is no text stands for bytes
/// that are none.
#[cfg(test)]
pub(super) fn read_people(entries: &[serde_json::Value]) -> Vec<Person> {
    let rules = StatusRules {
        flavor: Flavor::OpenLdap,
        counts_shadow_expire: true,
        now: "2026-11-22T06:00:00Z".parse().unwrap(),
    };
    let mut seen = SeenEntries::default();
    let mut people = Vec::new();
    for entry in entries {
        let fields = entry.as_object().into_iter().flatten();
        let values = fields.flat_map(|(name, values)| {
            let values = values.as_array().into_iter().flatten();
            values.map(move |value| {
                let bytes = value.as_str().map_or(&b"\xff\x00"[..], str::as_bytes);
                (name.as_str(), bytes)
            })
        });
        let entry = Entry::new("cn=x", &values.collect::<Vec<_>>());
        if let Some(id) = seen.new_id(rules.flavor, &entry) {
            people.push(build_person(&entry, id, &rules));
        }
    }
    people
}

#[derive(Debug, Default)]
struct SeenEntries {
    ids: HashSet<String>,
    without_id: u64,
    people: u64,
}

impl SeenEntries {
    /// The id of an entry, unless it was seen before: pages are not a snapshot, so an entry may come twice.
    fn new_id(&mut self, flavor: Flavor, entry: &Entry) -> Option<String> {
        let Some(id) = flavor.id(entry) else {
            self.without_id += 1;
            return None;
        };
        self.ids.insert(id.clone()).then_some(id)
    }

    fn ensure_plausible(&self, flavor: Flavor) -> Result<(), Error> {
        let names = flavor.id_attributes().join(" and ");
        let listed = self.ids.len() as u64 + self.without_id;
        let what = if self.without_id > 0 && !is_few(self.without_id, listed) {
            format!("{} entries show no id ({names})", self.without_id)
        } else if self.people == 0 {
            "the server shows no people, or none with a mail address".to_owned()
        } else {
            return Ok(());
        };
        let fix = format!(
            "let the account of bind_dn read mail and {names} below base, or correct base and filter"
        );
        Err(Error::rights(what, fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_ada() -> Option<Person> {
        let rules = StatusRules {
            flavor: Flavor::OpenLdap,
            counts_shadow_expire: false,
            now: "2026-11-22T06:00:00Z".parse().unwrap(),
        };
        let attributes: [(&str, &[u8]); 2] =
            [("entryUUID", b"8A5C-37C2"), ("mail", b"ada@example.org")];
        identify(&Entry::new("cn=ada", &attributes), &rules)
    }

    #[test]
    fn an_account_that_is_looked_up_has_the_id_of_its_entry() {
        assert_eq!(read_ada().unwrap().id.as_deref(), Some("8a5c-37c2"));
    }

    #[test]
    fn an_entry_that_moves_between_two_requests_is_not_outside_the_filter() {
        for (matches, is_unclear) in [(Some(true), false), (Some(false), false), (None, true)] {
            let lookup = judge_scope(read_ada().unwrap(), matches, OutsideFilter::Lost);
            assert_eq!(matches!(lookup, Lookup::Unclear(_)), is_unclear);
            let is_outside = matches!(lookup, Lookup::OutOfScope { is_lost: true, .. });
            assert_eq!(is_outside, matches == Some(false));
        }
    }
}
