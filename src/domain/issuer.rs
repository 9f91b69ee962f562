//! Which issuers are people that directories know, and under which address.

use std::collections::BTreeMap;

use super::Address;
use super::token::string_enum;

string_enum! {
    /// What kind of issuer this is.
    IssuerMode {
        /// A person that the directories know.
        Sso = "sso",
        /// A person with an account only at the source, which no directory covers.
        Local = "local",
        /// A robot or a shared account, which no directory covers.
        Service = "service",
        /// Left out of the coverage on purpose.
        Ignore = "ignore",
    }
}

/// The configuration of issuers. An issuer that is not configured is a person that directories know under
/// the same address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issuers {
    /// Keys are addresses or `*@domain`, in lower case.
    pub modes: BTreeMap<String, IssuerMode>,
    /// From the address at the sources, in lower case, to the address at the directories.
    pub addresses: BTreeMap<String, Address>,
}

impl Issuers {
    /// The mode of the issuer with this [`Address::key`].
    #[must_use]
    pub fn mode(&self, key: &str) -> IssuerMode {
        let domain_mode = || {
            let (_, domain) = key.rsplit_once('@')?;
            self.modes.get(&format!("*@{domain}"))
        };
        let mode = self.modes.get(key).or_else(domain_mode);
        mode.copied().unwrap_or(IssuerMode::Sso)
    }

    /// The [`Address::key`] under which directories know the issuer with this key.
    #[must_use]
    pub fn directory_address<'a>(&'a self, key: &'a str) -> &'a str {
        self.addresses.get(key).map_or(key, Address::key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_wins_over_its_domain_and_sso_is_the_default() {
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
            issuers.directory_address("bob@old.example.org"),
            "bob@example.org"
        );
        assert_eq!(
            issuers.directory_address("ada@example.org"),
            "ada@example.org"
        );
    }
}
