//! A finding: something that is wrong with a token, or with what its source allows, now.

use super::token::words;

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
