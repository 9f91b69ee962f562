//! The kinds of directory, each built from its own configuration.

use super::{Common, Directory, entra, file, keycloak, ldap, okta, scim};
use crate::upstream::Error;

#[derive(Debug, Clone)]
pub enum Kind {
    File(file::Config),
    Ldap(ldap::Config),
    Scim(scim::Config),
    Okta(okta::Config),
    Keycloak(keycloak::Config),
    Entra(entra::Config),
}

impl Kind {
    /// As written in the configuration.
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

    /// # Errors
    /// When the configuration cannot be used: the CA file or the private key cannot be read.
    pub fn build(&self, common: &Common) -> Result<Box<dyn Directory>, Error> {
        Ok(match self {
            Self::File(config) => Box::new(config.build(common)),
            Self::Ldap(config) => Box::new(config.build(common)?),
            Self::Scim(config) => Box::new(config.build(common)?),
            Self::Okta(config) => Box::new(config.build(common)?),
            Self::Keycloak(config) => Box::new(config.build(common)?),
            Self::Entra(config) => Box::new(config.build(common)?),
        })
    }
}
