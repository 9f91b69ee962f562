//! Checks what the bind account can see.

use super::groups::{AllowedGroups, Scope};
use super::person::build_person;
use super::{Connection, Flavor, LdapDirectory};
use crate::domain::{IdentityStatus, Person};
use crate::upstream::ldap::{Entry, Search};
use crate::upstream::{CheckReport, Error, Right};

/// How many people are read.
const CHECKED_PEOPLE: i32 = 500;

impl LdapDirectory {
    pub(super) async fn check_with(
        &self,
        connection: &mut Connection,
    ) -> Result<CheckReport, Error> {
        let flavor = connection.root.flavor;
        let search = Search {
            base: &self.config.base,
            filter: self.people_filter(flavor),
            attributes: flavor.attributes(),
        };
        let (entries, has_more) = connection
            .session
            .search_first(&search, CHECKED_PEOPLE)
            .await?;
        let rules = self.rules(flavor);
        let people: Vec<Person> = entries
            .iter()
            .filter_map(|entry| Some(build_person(entry, flavor.id(entry)?, &rules)))
            .filter(|person| person.main.is_some())
            .collect();
        let lost = people.iter().filter(|person| person.status.is_lost());
        let beginning = if has_more { "the first " } else { "" };
        let summary = format!(
            "{}, {beginning}{} people, {} of them without access",
            flavor.name(),
            people.len(),
            lost.count()
        );
        let mut rights = self.rights(flavor, &entries, &people);
        rights.extend(self.group_rights(connection).await?);
        Ok(CheckReport { summary, rights })
    }

    fn rights(&self, flavor: Flavor, entries: &[Entry], people: &[Person]) -> Vec<Right> {
        let ids = flavor.id_attributes().join(" or ");
        let see = format!("{} below {}", self.people_filter(flavor), self.config.base);
        let mut rights = vec![
            right(
                format!("find people by {see}"),
                !entries.is_empty(),
                "let the account of bind_dn read mail there, or correct base and filter",
            ),
            right(
                format!("read {ids} of all people"),
                entries.iter().all(|entry| flavor.id(entry).is_some()),
                "let the account of bind_dn read it: people cannot be identified without it",
            ),
            right(
                "read the addresses of people".to_owned(),
                entries.is_empty() || !people.is_empty(),
                "let the account of bind_dn read mail",
            ),
        ];
        if flavor == Flavor::ActiveDirectory {
            let has_status = |person: &Person| person.status != IdentityStatus::Unknown;
            rights.push(right(
                "read userAccountControl and accountExpires of all people".to_owned(),
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
            let missing = match AllowedGroups::fetch(&mut connection.session, scope, only).await {
                Ok(_) => None,
                Err(Error::Rights { what, fix }) => Some(format!("{what}; {fix}")),
                Err(error) => return Err(error),
            };
            rights.push(Right {
                what: format!("read the group {name}"),
                missing,
            });
        }
        Ok(rights)
    }
}

fn right(what: String, is_there: bool, fix: &str) -> Right {
    Right {
        what,
        missing: (!is_there).then(|| fix.to_owned()),
    }
}
