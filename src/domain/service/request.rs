//! What a caller asks for: a new token, a new secret, other facts.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

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
