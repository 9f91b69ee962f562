//! What a caller asks for: a new token, a new secret, other facts.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::{Address, account_key};

use super::{Access, Kind, Networks, Scopes};

/// Who asks.
#[derive(Debug, Clone)]
pub enum Actor {
    /// At the command line: may do everything that the policy allows. The name is for the audit trail.
    Operator(String),
    /// With a valid token.
    Caller(Arc<Access>),
}

/// How long a new secret is to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// The default of the kind; for a regenerated token, its former length of life.
    #[default]
    Default,
    For(TimeDelta),
    Until(DateTime<Utc>),
    Never,
}

#[derive(Debug, Clone)]
pub struct NewToken {
    pub name: String,
    pub description: Option<String>,
    /// Whose token it will be, by [`ServicePerson::key`](super::ServicePerson::key); `None` for the caller's own.
    pub user: Option<String>,
    pub account: Option<String>,
    pub role: Option<String>,
    pub scopes: Scopes,
    pub kind: Kind,
    pub lifetime: Lifetime,
    pub not_before: Option<DateTime<Utc>>,
    pub networks: Networks,
}

#[derive(Debug, Clone, Default)]
pub struct Regeneration {
    pub lifetime: Lifetime,
    /// How long the old secret works beside the new one; `None` for the default.
    pub overlap: Option<TimeDelta>,
    /// The old secret is known to others: it ends now.
    pub is_leaked: bool,
    pub reason: Option<String>,
}

/// Each `Some` replaces what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenChange {
    pub name: Option<String>,
    pub description: Option<Option<String>>,
    pub role: Option<Option<String>>,
    pub scopes: Option<Scopes>,
    pub networks: Option<Networks>,
    /// By [`ServicePerson::key`](super::ServicePerson::key): another person gets the token.
    pub owner: Option<String>,
}

/// What is said about a user; each `Some` replaces what is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    pub name: Option<Option<String>>,
    pub is_super: Option<bool>,
    pub is_sso: Option<bool>,
    /// Of a machine user.
    pub owners: Option<Vec<Address>>,
    pub roles: Vec<RoleChange>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// A role in an account; the lowest for a person who has none there, if no role is named.
    Give {
        account: String,
        role: Option<String>,
    },
    Leave {
        account: String,
    },
}

impl RoleChange {
    pub fn account(&self) -> String {
        let (Self::Give { account, .. } | Self::Leave { account }) = self;
        account_key(account)
    }
}

/// Who a new user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewUser {
    Person(Address),
    /// Programs that share no person's tokens.
    Machine(String),
}
