//! Coverage: for which issuers a directory would report the loss of their access.

use std::collections::BTreeMap;

use super::token::string_enum;
use super::{IdentityStatus, IssuerMode, Reason};

string_enum! {
    /// What all directories together know about an issuer.
    Cover {
        /// A directory reports that they have access.
        Active = "active",
        /// A directory reports that they lost access.
        Lost = "lost",
        /// Unknown: no directory has been asked about them yet.
        NotRead = "not_read",
        /// Unknown: no directory ever listed them.
        NeverSeen = "never_seen",
        /// Unknown: several accounts have the address.
        Ambiguous = "ambiguous",
        /// Unknown: the account lacks the field that holds the status.
        FieldMissing = "field_missing",
        /// Unknown: the account was never used.
        NeverActivated = "never_activated",
        /// Unknown: they are no longer listed.
        Absent = "absent",
        /// Unknown: the address belongs to another account now.
        BindingUnsafe = "binding_unsafe",
        /// Unknown: the last good sync of the directory is too old.
        Stale = "stale",
        /// Unknown: a loss awaits confirmation.
        Unconfirmed = "unconfirmed",
        /// Unknown: an operator rejected what the directory reports.
        Rejected = "rejected",
        /// Not covered: an account only at the source.
        Local = "local",
        /// Not covered: a robot or a shared account.
        Service = "service",
        /// Not covered: left out on purpose.
        Ignore = "ignore",
    }
}

impl Cover {
    /// The coverage of an issuer with this mode and these statuses, one per directory. A directory with an
    /// unknown status does not outweigh one with a known status.
    #[must_use]
    pub fn from_statuses(mode: IssuerMode, statuses: &[(IdentityStatus, Option<Reason>)]) -> Self {
        match mode {
            IssuerMode::Sso => {}
            IssuerMode::Local => return Self::Local,
            IssuerMode::Service => return Self::Service,
            IssuerMode::Ignore => return Self::Ignore,
        }
        if statuses.iter().any(|(status, _)| status.is_lost()) {
            return Self::Lost;
        }
        if statuses
            .iter()
            .any(|(status, _)| *status == IdentityStatus::Active)
        {
            return Self::Active;
        }
        // A reason from a directory that has seen them says more than that another has not.
        let unknown = statuses
            .iter()
            .map(|(_, reason)| Self::from_unknown_reason(*reason));
        let rank = |cover: &Self| match cover {
            Self::NotRead => (0, *cover),
            Self::NeverSeen => (1, *cover),
            Self::Absent => (2, *cover),
            _ => (3, *cover),
        };
        unknown.max_by_key(rank).unwrap_or(Self::NotRead)
    }

    fn from_unknown_reason(reason: Option<Reason>) -> Self {
        match reason {
            Some(Reason::NeverSeen) => Self::NeverSeen,
            Some(Reason::Ambiguous) => Self::Ambiguous,
            Some(Reason::NeverActivated) => Self::NeverActivated,
            Some(Reason::Absent) => Self::Absent,
            Some(Reason::BindingUnsafe) => Self::BindingUnsafe,
            Some(Reason::Stale) => Self::Stale,
            Some(Reason::Unconfirmed) => Self::Unconfirmed,
            Some(Reason::Rejected) => Self::Rejected,
            // The others are reasons for a loss.
            Some(
                Reason::FieldMissing
                | Reason::Admin
                | Reason::Suspended
                | Reason::Expired
                | Reason::Archived,
            )
            | None => Self::FieldMissing,
        }
    }

    /// `active`, `lost`, `unknown` or `not_covered`.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Lost => "lost",
            Self::Local | Self::Service | Self::Ignore => "not_covered",
            _ => "unknown",
        }
    }

    /// Whether a directory should know their access, but none does.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self.group() == "unknown"
    }
}

/// The number of issuers per cover.
pub type Coverage = BTreeMap<Cover, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_wins_over_active_and_active_over_unknown() {
        use IdentityStatus::{Active, Disabled, Unknown};
        let never = (Unknown, Some(Reason::NeverSeen));
        let stale = (Unknown, Some(Reason::Stale));
        for (statuses, cover) in [
            (&[][..], Cover::NotRead),
            (&[never], Cover::NeverSeen),
            (&[never, (Active, None)], Cover::Active),
            (&[(Active, None), (Disabled, None)], Cover::Lost),
            (&[stale, never], Cover::Stale),
            (&[never, (Unknown, Some(Reason::Absent))], Cover::Absent),
        ] {
            assert_eq!(Cover::from_statuses(IssuerMode::Sso, statuses), cover);
            assert_eq!(
                Cover::from_statuses(IssuerMode::Service, statuses),
                Cover::Service
            );
        }
    }

    #[test]
    fn every_reason_for_an_unknown_status_keeps_its_value() {
        for reason in Reason::ALL {
            let cover =
                Cover::from_statuses(IssuerMode::Sso, &[(IdentityStatus::Unknown, Some(*reason))]);
            let is_loss = matches!(
                reason,
                Reason::Admin | Reason::Suspended | Reason::Expired | Reason::Archived
            );
            assert!(is_loss || cover.as_str() == reason.as_str(), "{reason}");
            assert!(cover.is_unknown());
        }
    }
}
