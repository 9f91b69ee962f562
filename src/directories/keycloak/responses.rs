//! Keycloak's responses, and the people made from them.

use serde::Deserialize;
use uuid::Uuid;

use crate::directories::id::id_key;
use crate::domain::{Address, IdentityStatus, Person, Reason};

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
        self.addresses().contains(address)
    }

    fn addresses(&self) -> Vec<Address> {
        let mut addresses: Vec<Address> = Vec::new();
        for text in [&self.email, &self.username].into_iter().flatten() {
            match text.parse() {
                Ok(address) if !addresses.contains(&address) => addresses.push(address),
                _ => {}
            }
        }
        addresses
    }

    /// `None` for an account without an address.
    pub fn build_person(self, is_member: Option<bool>) -> Option<Person> {
        let account = self.build_account(is_member);
        (!account.addresses.is_empty()).then_some(account)
    }

    pub fn build_account(self, is_member: Option<bool>) -> Person {
        let addresses = self.addresses();
        let (status, reason, evidence) = match self.enabled {
            Some(true) => (IdentityStatus::Active, None, "enabled=true"),
            Some(false) => (
                IdentityStatus::Disabled,
                Some(Reason::Admin),
                "enabled=false",
            ),
            None => (
                IdentityStatus::Unknown,
                Some(Reason::FieldMissing),
                "no field enabled",
            ),
        };
        let parts = [self.first_name, self.last_name].into_iter().flatten();
        let parts: Vec<String> = parts
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect();
        Person {
            id: Some(self.id),
            addresses,
            name: (!parts.is_empty()).then(|| parts.join(" ")),
            status,
            reason,
            // Keycloak keeps no record of when an account was disabled.
            since: None,
            evidence: evidence.to_owned(),
            is_member,
        }
    }
}
