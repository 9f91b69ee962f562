//! The accounts of the service and the people in them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::domain::Address;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// The name in lower case, for comparison.
    pub key: String,
    pub name: String,
    /// Tokens that may exist at a time; `None` for the limit of the policy, 0 for no limit.
    pub max_tokens: Option<u64>,
    pub created_at: DateTime<Utc>,
}

/// A user of the service: a person, or a machine user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePerson {
    /// The address in lower case, or the name of a machine user.
    pub key: String,
    /// `None` for a machine user.
    pub address: Option<Address>,
    pub name: Option<String>,
    pub is_super: bool,
    /// Whether they sign in at the SSO provider.
    pub is_sso: bool,
    /// The people who are notified about the tokens of a machine user.
    pub owners: Vec<Address>,
    pub created_at: DateTime<Utc>,
    /// Since when an operator has them disabled.
    pub disabled_at: Option<DateTime<Utc>>,
    /// Since when a directory says that they lost access; set only with `follow_directories`.
    pub lost_access_at: Option<DateTime<Utc>>,
    /// The role in each account, by the account's key.
    pub roles: BTreeMap<String, String>,
    /// Changes with each change; the entity tag.
    pub version: i64,
}

impl ServicePerson {
    pub fn is_machine(&self) -> bool {
        self.address.is_none()
    }

    /// Whether their tokens work.
    pub fn is_enabled(&self) -> bool {
        self.disabled_at.is_none() && self.lost_access_at.is_none()
    }
}
