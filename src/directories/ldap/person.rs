//! Builds people from entries.

use super::status::{AccountStatus, StatusRules};
use crate::directories::ldap::flavor::Flavor;
use crate::domain::{Address, Person};
use crate::ldap::Entry;

/// `None` for an entry without an address. Group membership is not set.
pub fn build_person(entry: &Entry, id: String, rules: &StatusRules) -> Option<Person> {
    let account = build_account(entry, id, rules);
    (!account.addresses.is_empty()).then_some(account)
}

pub fn build_account(entry: &Entry, id: String, rules: &StatusRules) -> Person {
    let AccountStatus {
        status,
        reason,
        since,
        evidence,
    } = rules.status(entry);
    let name = entry.text("displayName").or_else(|| entry.text("cn"));
    let name = name.map(str::trim).filter(|name| !name.is_empty());
    Person {
        id: Some(id),
        addresses: addresses(entry, rules.flavor),
        name: name.map(str::to_owned),
        status,
        reason,
        since,
        evidence,
        is_member: None,
    }
}

/// Valid addresses, each once, the main one first.
fn addresses(entry: &Entry, flavor: Flavor) -> Vec<Address> {
    let mut texts: Vec<&str> = entry.texts("mail").collect();
    if flavor == Flavor::ActiveDirectory {
        // `SMTP:` marks the main address, `smtp:` the others; `X500:` and the like are not addresses.
        for prefix in ["SMTP:", "smtp:"] {
            let proxies = entry.texts("proxyAddresses");
            texts.extend(proxies.filter_map(|text| text.strip_prefix(prefix)));
        }
        texts.extend(entry.texts("userPrincipalName"));
    }
    let mut addresses: Vec<Address> = Vec::new();
    for address in texts.into_iter().filter_map(|text| text.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::IdentityStatus;

    fn person(flavor: Flavor, attributes: &[(&str, &str)]) -> Option<Person> {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let rules = StatusRules {
            flavor,
            counts_shadow_expire: false,
            now: "2026-11-22T06:00:00Z".parse().unwrap(),
        };
        build_person(&Entry::new("uid=ada", &attributes), "id".to_owned(), &rules)
    }

    #[test]
    fn valid_addresses_are_listed_once_and_the_main_one_first() {
        let ada = [
            ("mail", "Ada@example.org"),
            ("proxyAddresses", "smtp:ada.l@example.org"),
            ("proxyAddresses", "X500:/o=Example/cn=ada"),
            ("proxyAddresses", "SMTP:lovelace@example.org"),
            ("proxyAddresses", "sip:ada@sip.example.org"),
            ("proxyAddresses", "smtp:not one"),
            ("userPrincipalName", "ada@EXAMPLE.org"),
            ("userAccountControl", "512"),
            ("accountExpires", "0"),
            ("cn", "ada"),
            ("displayName", " Ada Lovelace "),
        ];
        let found = person(Flavor::ActiveDirectory, &ada).unwrap();
        let addresses: Vec<&str> = found.addresses.iter().map(Address::as_str).collect();
        assert_eq!(
            addresses,
            [
                "Ada@example.org",
                "lovelace@example.org",
                "ada.l@example.org"
            ]
        );
        assert_eq!(found.name.as_deref(), Some("Ada Lovelace"));
        assert_eq!(found.status, IdentityStatus::Active);
        assert_eq!(found.id.as_deref(), Some("id"));

        let found = person(Flavor::OpenLdap, &ada).unwrap();
        assert_eq!(
            found.addresses.len(),
            1,
            "the others are attributes of Active Directory"
        );
    }

    #[test]
    fn a_person_without_an_address_is_not_listed() {
        assert_eq!(person(Flavor::OpenLdap, &[("cn", "Ada")]), None);
        assert_eq!(person(Flavor::OpenLdap, &[("mail", "ada")]), None);
        let principal = [("userPrincipalName", "ada@corp.example.org")];
        assert!(person(Flavor::ActiveDirectory, &principal).is_some());
        assert!(person(Flavor::Ds389, &principal).is_none());
    }

    #[test]
    fn a_name_comes_from_the_first_attribute_that_has_one() {
        let name = |attributes: &[(&str, &str)]| {
            let attributes = [&[("mail", "ada@example.org")], attributes].concat();
            person(Flavor::OpenLdap, &attributes).unwrap().name
        };
        assert_eq!(name(&[("cn", "Ada L")]).as_deref(), Some("Ada L"));
        assert_eq!(name(&[]), None);
    }
}
