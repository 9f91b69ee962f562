//! A credential: what the store knows of a token that lapsed issued.

use chrono::{DateTime, Utc};

use super::{Digest, Networks, PublicId, Scopes};
use crate::domain::TokenId;
use crate::domain::string_enum::string_enum;

string_enum! {
    CredentialState {
        Active = "active",
        /// By its owner, who can enable it again.
        Disabled = "disabled",
        /// Disabled by an administrator, who alone can enable it again.
        Locked = "locked",
        Revoked = "revoked",
    }
}

/// What a token is for. Internal kinds belong to lapsed itself: they are not watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    Api,
    /// A session of the portal.
    Session,
    /// A short-lived token that a token was exchanged for.
    Access,
    /// Renews access tokens.
    Refresh,
    /// The address of a calendar or feed.
    Feed,
    /// A kind of the configuration.
    Named(String),
}

impl Kind {
    pub fn parse(name: &str) -> Self {
        match name {
            "api" => Self::Api,
            "session" => Self::Session,
            "access" => Self::Access,
            "refresh" => Self::Refresh,
            "feed" => Self::Feed,
            name => Self::Named(name.to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Api => "api",
            Self::Session => "session",
            Self::Access => "access",
            Self::Refresh => "refresh",
            Self::Feed => "feed",
            Self::Named(name) => name,
        }
    }

    /// Whether lapsed issues it for itself: it is not listed, counted, planned, warned about or found.
    pub fn is_internal(&self) -> bool {
        !matches!(self, Self::Api | Self::Named(_))
    }

    /// Whether it opens the HTTP API and passes at a gateway.
    pub fn opens_api(&self) -> bool {
        matches!(self, Self::Api | Self::Named(_) | Self::Access)
    }

    /// The letter after the prefix of the token.
    pub fn letter(&self) -> &'static str {
        match self {
            Self::Api => "",
            Self::Session => "s",
            Self::Access => "a",
            Self::Refresh => "r",
            Self::Feed => "f",
            Self::Named(_) => "k",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Credential {
    /// That of the token of the source `local` with this public id.
    pub id: TokenId,
    pub public_id: PublicId,
    pub kind: Kind,
    /// [`ServicePerson::key`](super::ServicePerson::key).
    pub issuer: String,
    /// The key of the account; `None` for one that a super admin issued outside all accounts.
    pub account: Option<String>,
    pub role: Option<String>,
    pub scopes: Scopes,
    pub networks: Networks,
    pub created_at: DateTime<Utc>,
    pub not_before: Option<DateTime<Utc>>,
    /// `None` if it never expires.
    pub expires_at: Option<DateTime<Utc>>,
    pub state: CredentialState,
    pub secret: StoredSecret,
    /// The secret before the last regeneration, while it may still be used.
    pub old_secret: Option<OldSecret>,
    /// The credential that it was exchanged for; it works only while that one does.
    pub parent: Option<Parent>,
    /// Changes with each change of what a person can set; the entity tag.
    pub version: i64,
}

impl Credential {
    /// When the secret with this number stops working; `None` if it never does.
    pub fn end_of(&self, secret: u32) -> Option<DateTime<Utc>> {
        let old = self.old_secret.as_ref();
        let old = old.filter(|old| secret == old.secret.number && secret != self.secret.number);
        let overlap = old.map(|old| old.valid_until);
        self.expires_at.into_iter().chain(overlap).min()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    pub id: TokenId,
    /// The number of the secret that was presented; what was exchanged ends with it.
    pub secret: u32,
}

#[derive(Debug, Clone)]
pub struct StoredSecret {
    /// From 1.
    pub number: u32,
    pub digest: Digest,
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone)]
pub struct OldSecret {
    pub secret: StoredSecret,
    pub valid_until: DateTime<Utc>,
}
