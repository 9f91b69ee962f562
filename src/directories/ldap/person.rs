//! A person of an entry.

use super::status::{Rules, Said};
use crate::directories::ldap::flavor::Flavor;
use crate::domain::{Address, Person};
use crate::ldap::Entry;

/// The person that an entry is of, without their groups; `None` where it shows no address.
pub fn person(entry: &Entry, id: String, rules: &Rules) -> Option<Person> {
    let account = account(entry, id, rules);
    (!account.addresses.is_empty()).then_some(account)
}

/// The same, whether it shows an address or not.
pub fn account(entry: &Entry, id: String, rules: &Rules) -> Person {
    let Said {
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

/// Each valid one once, the main one first.
fn addresses(entry: &Entry, flavor: Flavor) -> Vec<Address> {
    let mut texts: Vec<&str> = entry.texts("mail").collect();
    if flavor == Flavor::ActiveDirectory {
        // `SMTP:` marks the main one, `smtp:` the others; there are also `X500:` and the like.
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

    fn of(flavor: Flavor, attributes: &[(&str, &str)]) -> Option<Person> {
        let attributes: Vec<_> = attributes
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let rules = Rules {
            flavor,
            counts_shadow_expire: false,
            now: "2026-11-22T06:00:00Z".parse().unwrap(),
        };
        person(&Entry::new("uid=ada", &attributes), "id".to_owned(), &rules)
    }

    #[test]
    fn every_valid_address_is_told_once_and_the_main_one_first() {
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
        let person = of(Flavor::ActiveDirectory, &ada).unwrap();
        let addresses: Vec<&str> = person.addresses.iter().map(Address::as_str).collect();
        assert_eq!(
            addresses,
            [
                "Ada@example.org",
                "lovelace@example.org",
                "ada.l@example.org"
            ]
        );
        assert_eq!(person.name.as_deref(), Some("Ada Lovelace"));
        assert_eq!(person.status, IdentityStatus::Active);
        assert_eq!(person.id.as_deref(), Some("id"));

        let person = of(Flavor::OpenLdap, &ada).unwrap();
        assert_eq!(person.addresses.len(), 1, "those are Microsoft's");
    }

    #[test]
    fn who_shows_no_address_is_not_told_of() {
        assert_eq!(of(Flavor::OpenLdap, &[("cn", "Ada")]), None);
        assert_eq!(of(Flavor::OpenLdap, &[("mail", "ada")]), None);
        let principal = [("userPrincipalName", "ada@corp.example.org")];
        assert!(of(Flavor::ActiveDirectory, &principal).is_some());
        assert!(of(Flavor::Ds389, &principal).is_none());
    }

    #[test]
    fn a_name_is_taken_from_where_there_is_one() {
        let name = |attributes: &[(&str, &str)]| {
            let attributes = [&[("mail", "ada@example.org")], attributes].concat();
            of(Flavor::OpenLdap, &attributes).unwrap().name
        };
        assert_eq!(name(&[("cn", "Ada L")]).as_deref(), Some("Ada L"));
        assert_eq!(name(&[]), None);
    }
}
