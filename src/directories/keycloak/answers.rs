//! What Keycloak answers, as far as it is looked at, and the people it becomes.

use serde::Deserialize;
use uuid::Uuid;

use crate::directories::id::key;
use crate::domain::{Address, IdentityStatus, Person, Reason};

/// How the names of the accounts of programs begin. The list leaves them out, a search does not.
const SERVICE: &str = "service-account-";

/// A `UserRepresentation`, be it a brief one.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    /// Never changes.
    pub id: String,
    username: Option<String>,
    email: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    enabled: Option<bool>,
    /// The user storage that the account was imported from and is kept in step with.
    federation_link: Option<String>,
    service_account_client_id: Option<String>,
}

/// A `GroupRepresentation`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    /// Never changes.
    pub id: String,
    pub name: Option<String>,
    /// The names from the top, a `/` before each.
    pub path: Option<String>,
    /// Since Keycloak 23; before, all groups below come along.
    pub sub_group_count: Option<u64>,
    /// Groups below; of a search only those that lead to what was found.
    #[serde(default)]
    pub sub_groups: Vec<Group>,
}

impl User {
    /// See [`key`].
    pub fn key(&self) -> Uuid {
        key(&self.id)
    }

    /// Whether it is the account of a program.
    pub fn is_service(&self) -> bool {
        let name = self.username.as_deref().unwrap_or_default();
        self.service_account_client_id.is_some() || name.starts_with(SERVICE)
    }

    /// Whether Keycloak itself keeps nothing of it: its id names the user storage, and its id there.
    pub fn is_stored_elsewhere(&self) -> bool {
        self.id.starts_with("f:")
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }

    /// The user storage that it was imported from.
    pub fn storage(&self) -> Option<&str> {
        self.federation_link.as_deref()
    }

    /// The user storage without whose answer this account is shown as disabled, if it is so shown: since
    /// 26.4 Keycloak says `enabled=false` of everybody whose storage is out of reach, as of those whom the
    /// storage no longer has (keycloak/keycloak#42589).
    pub fn storage_in_doubt(&self) -> Option<&str> {
        self.storage().filter(|_| self.enabled == Some(false))
    }

    /// Under which name it is found again.
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// Whether this is the address of the account, whatever it was found by.
    pub fn has(&self, address: &Address) -> bool {
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

    /// The person; `None` where there is no address to know them by.
    pub fn person(self, is_member: Option<bool>) -> Option<Person> {
        let account = self.account(is_member);
        (!account.addresses.is_empty()).then_some(account)
    }

    /// The account, with an address or without.
    pub fn account(self, is_member: Option<bool>) -> Person {
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
