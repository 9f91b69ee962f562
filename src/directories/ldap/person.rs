//! Builds people from entries.

use super::flavor::Flavor;
use super::status::StatusRules;
use crate::directories::account::AccountBuilder;
use crate::domain::Person;
use crate::upstream::ldap::Entry;

/// The account of an entry. Group membership is not set.
pub fn build_person(entry: &Entry, id: String, rules: &StatusRules) -> Person {
    let mut account = AccountBuilder::default().mailboxes(entry.texts("mail"));
    if rules.flavor == Flavor::ActiveDirectory {
        account = account
            .proxy_addresses(entry.texts("proxyAddresses"))
            .sign_in_name(entry.text("userPrincipalName"));
    }
    account
        .name(entry.text("displayName"))
        .name(entry.text("cn"))
        .build(id, rules.status(entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Address, IdentityStatus};

    fn person(flavor: Flavor, attributes: &[(&str, &str)]) -> Person {
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
        let found = person(Flavor::ActiveDirectory, &ada);
        let addresses: Vec<&str> = found.addresses().map(Address::as_str).collect();
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

        let found = person(Flavor::OpenLdap, &ada);
        assert_eq!(
            found.addresses().count(),
            1,
            "the others are attributes of Active Directory"
        );
    }

    #[test]
    fn a_person_without_an_address_is_not_listed() {
        assert_eq!(person(Flavor::OpenLdap, &[("cn", "Ada")]).main, None);
        assert_eq!(person(Flavor::OpenLdap, &[("mail", "ada")]).main, None);
        let principal = [("userPrincipalName", "ada@corp.example.org")];
        assert!(person(Flavor::ActiveDirectory, &principal).main.is_some());
        assert!(person(Flavor::Ds389, &principal).main.is_none());
    }

    #[test]
    fn a_name_comes_from_the_first_attribute_that_has_one() {
        let name = |attributes: &[(&str, &str)]| {
            let attributes = [&[("mail", "ada@example.org")], attributes].concat();
            person(Flavor::OpenLdap, &attributes).name
        };
        assert_eq!(name(&[("cn", "Ada L")]).as_deref(), Some("Ada L"));
        assert_eq!(name(&[]), None);
    }
}
