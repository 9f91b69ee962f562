//! What the account that asks can see, and what it lacks.

use super::groups::{Membership, Scope};
use super::person::person;
use super::{Flavor, LdapDirectory, Open};
use crate::domain::{IdentityStatus, Person};
use crate::ldap::{Entry, Search};
use crate::sources::{Checked, Error, Right};

/// So many people are looked at.
const LOOKED_AT: i32 = 500;

impl LdapDirectory {
    pub(super) async fn check_at(&self, open: &mut Open) -> Result<Checked, Error> {
        let flavor = open.root.flavor;
        let search = Search {
            base: &self.config.base,
            filter: self.people(flavor),
            attributes: flavor.attributes(),
        };
        let (entries, has_more) = open.session.peek(&search, LOOKED_AT).await?;
        let rules = self.rules(flavor);
        let people: Vec<Person> = entries
            .iter()
            .filter_map(|entry| person(entry, flavor.id(entry)?, &rules))
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
        rights.extend(self.groups(open).await?);
        Ok(Checked { summary, rights })
    }

    fn rights(&self, flavor: Flavor, entries: &[Entry], people: &[Person]) -> Vec<Right> {
        let ids = flavor.ids().join(" or ");
        let see = format!("{} below {}", self.people(flavor), self.config.base);
        let mut rights = vec![
            right(
                format!("see anybody by {see}"),
                !entries.is_empty(),
                "let the account of bind_dn read mail there, or correct base and filter",
            ),
            right(
                format!("read {ids} of all people"),
                entries.iter().all(|entry| flavor.id(entry).is_some()),
                "let the account of bind_dn read it: nobody is known for good without",
            ),
            right(
                "read the addresses of people".to_owned(),
                entries.is_empty() || !people.is_empty(),
                "let the account of bind_dn read mail",
            ),
        ];
        if flavor == Flavor::ActiveDirectory {
            let is_told = |person: &Person| person.status != IdentityStatus::Unknown;
            rights.push(right(
                "read userAccountControl and accountExpires of all people".to_owned(),
                people.iter().all(is_told),
                "let the account of bind_dn read all properties of users below base, and ask a domain \
                 controller at port 636, not the global catalog",
            ));
        }
        rights
    }

    /// Whether each allowed group can be read.
    async fn groups(&self, open: &mut Open) -> Result<Vec<Right>, Error> {
        let mut rights = Vec::new();
        for name in &self.allowed_groups {
            let scope = Scope {
                root: &open.root,
                base: &self.config.base,
            };
            let only = std::slice::from_ref(name);
            let missing = match Membership::read(&mut open.session, scope, only).await {
                Ok(_) => None,
                Err(Error::Rights { what, mend }) => Some(format!("{what}; {mend}")),
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

fn right(what: String, is_there: bool, mend: &str) -> Right {
    Right {
        what,
        missing: (!is_there).then(|| mend.to_owned()),
    }
}
