//! A finding: something that is wrong with a token, or with what its source allows, now.

use super::{IdentityStatus, Reason, token::words};

words! {
    /// What is wrong.
    FindingKind {
        /// The issuer lost access at the directory; the token still works.
        SsoRevoked = "sso_revoked",
        /// The issuer no longer exists at the source.
        Orphaned = "orphaned",
        /// The token has no end.
        NeverExpires = "never_expires",
        /// It lives longer than the policy allows.
        TooLong = "too_long",
        /// Nobody uses it.
        Unused = "unused",
        /// A source lets tokens live for ever, or longer than the policy allows.
        SourceAllowsUnlimited = "source_allows_unlimited",
    }
}

words! {
    /// How bad it is.
    Severity {
        /// Look at it this week.
        Medium = "medium",
        /// Look at it today.
        High = "high",
        /// Look at it now.
        Critical = "critical",
    }
}

/// Parts of a role's name that make it one of an administrator.
const ADMIN_WORDS: &[&str] = &[
    "admin",
    "admins",
    "administrator",
    "administrators",
    "owner",
    "root",
    "super",
    "superadmin",
    "superuser",
    "sysadmin",
];

impl Severity {
    /// How bad something is of a token with this role: one degree worse for one that may do everything.
    #[must_use]
    pub fn of_token(role: Option<&str>, usual: Self) -> Self {
        let role = role.unwrap_or_default().to_lowercase();
        let is_admin = role
            .split(|c: char| !c.is_alphanumeric())
            .any(|word| ADMIN_WORDS.contains(&word));
        match usual {
            Self::Medium if is_admin => Self::High,
            Self::High if is_admin => Self::Critical,
            Self::Medium | Self::High | Self::Critical => usual,
        }
    }

    /// How bad it is that a token works although its issuer is so at a directory. Whoever is suspended may be on
    /// leave, and who is in another group may still be one of us.
    #[must_use]
    pub fn of_loss(status: IdentityStatus, reason: Option<Reason>, role: Option<&str>) -> Self {
        let usual = match (status, reason) {
            (IdentityStatus::Disabled, Some(Reason::Suspended | Reason::Expired)) => Self::Medium,
            (IdentityStatus::Disabled | IdentityStatus::Deleted, _) => Self::High,
            _ => Self::Medium,
        };
        Self::of_token(role, usual)
    }
}

words! {
    /// What has become of it.
    FindingState {
        /// It holds.
        Open = "open",
        /// It holds, and somebody accepted that for a time.
        Acknowledged = "acknowledged",
        /// It no longer holds.
        Resolved = "resolved",
    }
}
