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

impl Severity {
    /// How bad it is that a token works although its issuer is so at a directory. Whoever is suspended may be on
    /// leave, and who is in another group may still be one of us; but a token that may do everything is worse.
    #[must_use]
    pub fn of_loss(status: IdentityStatus, reason: Option<Reason>, role: Option<&str>) -> Self {
        const MIGHTY: [&str; 4] = ["admin", "owner", "root", "super"];
        let role = role.unwrap_or_default().to_lowercase();
        let is_mighty = MIGHTY.iter().any(|word| role.contains(word));
        let is_final = match (status, reason) {
            (IdentityStatus::Disabled, Some(Reason::Suspended | Reason::Expired)) => false,
            (IdentityStatus::Disabled | IdentityStatus::Deleted, _) => true,
            _ => false,
        };
        match (is_final, is_mighty) {
            (true, true) => Self::Critical,
            (true, false) | (false, true) => Self::High,
            (false, false) => Self::Medium,
        }
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
