//! Which issuers are people whom directories know, and by which address.

use std::collections::BTreeMap;

use super::{Address, token::words};

words! {
    /// How an issuer is looked upon.
    IssuerMode {
        /// A person whom the directories know.
        Sso = "sso",
        /// A person with an account at the source alone: no directory covers them.
        Local = "local",
        /// No person: a robot or a shared account, which no directory covers.
        Service = "service",
        /// Nobody is to care.
        Ignore = "ignore",
    }
}

/// What is configured about issuers. Whoever is not named is a person whom directories know by the same address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuers {
    /// By address, or by `*@domain`; in lower case.
    pub modes: BTreeMap<String, IssuerMode>,
    /// By address, in lower case: the address that directories have for the person.
    pub addresses: BTreeMap<String, Address>,
}

impl Issuers {
    /// How the issuer with this address, as it is compared, is looked upon.
    #[must_use]
    pub fn mode(&self, key: &str) -> IssuerMode {
        let of_domain = || {
            let (_, domain) = key.rsplit_once('@')?;
            self.modes.get(&format!("*@{domain}"))
        };
        let mode = self.modes.get(key).or_else(of_domain);
        mode.copied().unwrap_or(IssuerMode::Sso)
    }

    /// The address, as it is compared, by which directories know the issuer with this one.
    #[must_use]
    pub fn at_directories<'a>(&'a self, key: &'a str) -> &'a str {
        self.addresses.get(key).map_or(key, Address::key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_before_its_domain_and_everybody_else_is_a_person() {
        let issuers = Issuers {
            modes: [
                ("*@bots.example.org", IssuerMode::Service),
                ("eve@bots.example.org", IssuerMode::Sso),
                ("root@example.org", IssuerMode::Local),
            ]
            .map(|(key, mode)| (key.to_owned(), mode))
            .into(),
            addresses: BTreeMap::from([(
                "bob@old.example.org".to_owned(),
                "Bob@Example.org".parse().unwrap(),
            )]),
        };
        assert_eq!(issuers.mode("ci@bots.example.org"), IssuerMode::Service);
        assert_eq!(issuers.mode("eve@bots.example.org"), IssuerMode::Sso);
        assert_eq!(issuers.mode("root@example.org"), IssuerMode::Local);
        assert_eq!(issuers.mode("ada@example.org"), IssuerMode::Sso);
        assert_eq!(
            issuers.at_directories("bob@old.example.org"),
            "bob@example.org"
        );
        assert_eq!(issuers.at_directories("ada@example.org"), "ada@example.org");
    }
}
