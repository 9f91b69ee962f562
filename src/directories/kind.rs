//! The kinds of directory: each is made from its part of the configuration.

use std::time::Duration;

use super::{Directory, entra, file, keycloak, ldap, okta, scim};
use crate::clock::Clock;
use crate::sources::Error;

/// What a directory is, as it is configured.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A file.
    File(file::Config),
    /// A server that speaks LDAP.
    Ldap(ldap::Config),
    /// A SCIM 2.0 server.
    Scim(scim::Config),
    /// Okta.
    Okta(okta::Config),
    /// A realm of a Keycloak.
    Keycloak(keycloak::Config),
    /// A tenant of Microsoft Entra ID.
    Entra(entra::Config),
}

/// What every kind is told.
#[derive(Debug, Clone)]
pub struct Common {
    /// The name of the directory.
    pub name: String,
    /// How long one request may take.
    pub timeout: Duration,
    /// Names or ids of groups, of which people must be in one; empty is no such condition.
    pub allowed_groups: Vec<String>,
}

impl Kind {
    /// The word for it in the configuration.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Ldap(_) => "ldap",
            Self::Scim(_) => "scim",
            Self::Okta(_) => "okta",
            Self::Keycloak(_) => "keycloak",
            Self::Entra(_) => "entra",
        }
    }

    /// The directory.
    ///
    /// # Errors
    /// When what is configured cannot be used: a CA file that cannot be read, a private key that is none.
    pub fn build(&self, common: &Common) -> Result<Box<dyn Directory>, Error> {
        Ok(match self {
            Self::File(config) => Box::new(config.build(common)),
            Self::Ldap(config) => Box::new(config.build(common, Clock::system())?),
            Self::Scim(config) => Box::new(config.build(common)?),
            Self::Okta(config) => Box::new(config.build(common)?),
            Self::Keycloak(config) => Box::new(config.build(common)?),
            Self::Entra(config) => Box::new(config.build(common)?),
        })
    }
}
