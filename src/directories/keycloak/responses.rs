//! Keycloak's responses, and the people made from them.

use serde::Deserialize;
use uuid::Uuid;

use crate::directories::account::{AccountBuilder, AccountStatus};
use crate::directories::id::id_key;
use crate::domain::{Address, Person};

/// The name prefix of service accounts. The list leaves them out, a search does not.
const SERVICE: &str = "service-account-";

/// A `UserRepresentation`, which may be a brief one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    pub id: String,
    username: Option<String>,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    enabled: Option<bool>,
    /// The user storage that the account was imported from.
    federation_link: Option<String>,
    service_account_client_id: Option<String>,
}

/// A `GroupRepresentation`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    pub id: String,
    pub name: Option<String>,
    /// `/ops/admins`.
    pub path: Option<String>,
    /// Since Keycloak 23; earlier versions include all subgroups.
    pub sub_group_count: Option<u64>,
    /// In a search, only those that lead to what was found.
    #[serde(default)]
    pub sub_groups: Vec<Group>,
}

impl User {
    pub fn id_key(&self) -> Uuid {
        id_key(&self.id)
    }

    pub fn is_service(&self) -> bool {
        let name = self.username.as_deref().unwrap_or_default();
        self.service_account_client_id.is_some() || name.starts_with(SERVICE)
    }

    /// Whether Keycloak itself does not store the account: its id names the user storage and the id there.
    pub fn is_external(&self) -> bool {
        self.id.starts_with("f:")
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }

    pub fn storage(&self) -> Option<&str> {
        self.federation_link.as_deref()
    }

    /// The user storage of an imported account that is shown as disabled. Since 26.4 Keycloak reports
    /// `enabled=false` if the storage is out of reach or no longer has the account (keycloak/keycloak#42589).
    pub fn doubtful_storage(&self) -> Option<&str> {
        self.storage().filter(|_| self.enabled == Some(false))
    }

    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    pub fn has_address(&self, address: &Address) -> bool {
        self.account().has_address(address)
    }

    fn account(&self) -> AccountBuilder {
        AccountBuilder::default()
            .mailboxes(self.email.as_deref())
            .sign_in_name(self.username.as_deref())
            .full_name([self.first_name.as_deref(), self.last_name.as_deref()])
    }

    /// Keycloak keeps no record of when an account was disabled.
    pub fn into_person(self) -> Person {
        let status = AccountStatus::from_flag("enabled", self.enabled);
        self.account().build(self.id, status)
    }
}
