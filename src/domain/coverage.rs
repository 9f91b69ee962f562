//! Coverage: of which issuers of tokens somebody would tell that they lost their access.

use std::collections::BTreeMap;

use super::{IdentityStatus, IssuerMode, Reason, token::words};

words! {
    /// What is known of an issuer over all directories.
    Cover {
        /// A directory says that they have access.
        Active = "active",
        /// A directory says that they lost it.
        Lost = "lost",
        /// Unknown: no directory has been asked for them yet.
        NotRead = "not_read",
        /// Unknown: no directory ever listed them.
        NeverSeen = "never_seen",
        /// Unknown: there are several accounts of that address.
        Ambiguous = "ambiguous",
        /// Unknown: the field that tells is missing.
        FieldMissing = "field_missing",
        /// Unknown: the account was never used.
        NeverActivated = "never_activated",
        /// Unknown: they are no longer listed.
        Absent = "absent",
        /// Unknown: the address belongs to another account now.
        BindingUnsafe = "binding_unsafe",
        /// Unknown: the directory has not been read well for too long.
        Stale = "stale",
        /// Unknown: a loss awaits its confirmation.
        Unconfirmed = "unconfirmed",
        /// Unknown: an operator refused what the directory says.
        Rejected = "rejected",
        /// Not covered: an account at the source alone.
        Local = "local",
        /// Not covered: no person.
        Service = "service",
        /// Not covered: nobody is to care.
        Ignore = "ignore",
    }
}

impl Cover {
    /// Whether an issuer of this mode, of whom directories say this, is covered. A directory that lost
    /// sight of them says nothing against one that knows.
    #[must_use]
    pub fn of(mode: IssuerMode, said: &[(IdentityStatus, Option<Reason>)]) -> Self {
        match mode {
            IssuerMode::Sso => {}
            IssuerMode::Local => return Self::Local,
            IssuerMode::Service => return Self::Service,
            IssuerMode::Ignore => return Self::Ignore,
        }
        if said.iter().any(|(status, _)| status.is_lost()) {
            return Self::Lost;
        }
        if said
            .iter()
            .any(|(status, _)| *status == IdentityStatus::Active)
        {
            return Self::Active;
        }
        // What is wrong with one that has seen them says more than that another has not.
        let unknown = said.iter().map(|(_, reason)| Self::unknown(*reason));
        let weight = |cover: &Self| match cover {
            Self::NotRead => (0, *cover),
            Self::NeverSeen => (1, *cover),
            Self::Absent => (2, *cover),
            _ => (3, *cover),
        };
        unknown.max_by_key(weight).unwrap_or(Self::NotRead)
    }

    fn unknown(reason: Option<Reason>) -> Self {
        match reason {
            Some(Reason::NeverSeen) => Self::NeverSeen,
            Some(Reason::Ambiguous) => Self::Ambiguous,
            Some(Reason::NeverActivated) => Self::NeverActivated,
            Some(Reason::Absent) => Self::Absent,
            Some(Reason::BindingUnsafe) => Self::BindingUnsafe,
            Some(Reason::Stale) => Self::Stale,
            Some(Reason::Unconfirmed) => Self::Unconfirmed,
            Some(Reason::Rejected) => Self::Rejected,
            // The others are reasons of a loss.
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

    /// What it amounts to: `active`, `lost`, `unknown` or `not_covered`.
    #[must_use]
    pub fn group(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Lost => "lost",
            Self::Local | Self::Service | Self::Ignore => "not_covered",
            _ => "unknown",
        }
    }

    /// Whether it is not known whether they have access, although a directory should.
    #[must_use]
    pub fn is_unknown(self) -> bool {
        self.group() == "unknown"
    }
}

/// How many issuers there are of each kind.
pub type Coverage = BTreeMap<Cover, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_that_knows_is_enough_and_a_loss_goes_first() {
        use IdentityStatus::{Active, Disabled, Unknown};
        let never = (Unknown, Some(Reason::NeverSeen));
        let stale = (Unknown, Some(Reason::Stale));
        for (said, cover) in [
            (&[][..], Cover::NotRead),
            (&[never], Cover::NeverSeen),
            (&[never, (Active, None)], Cover::Active),
            (&[(Active, None), (Disabled, None)], Cover::Lost),
            (&[stale, never], Cover::Stale),
            (&[never, (Unknown, Some(Reason::Absent))], Cover::Absent),
        ] {
            assert_eq!(Cover::of(IssuerMode::Sso, said), cover);
            assert_eq!(Cover::of(IssuerMode::Service, said), Cover::Service);
        }
    }

    #[test]
    fn every_reason_of_an_unknown_status_keeps_its_word() {
        for reason in Reason::ALL {
            let cover = Cover::of(IssuerMode::Sso, &[(IdentityStatus::Unknown, Some(*reason))]);
            let is_loss = matches!(
                reason,
                Reason::Admin | Reason::Suspended | Reason::Expired | Reason::Archived
            );
            assert!(is_loss || cover.as_str() == reason.as_str(), "{reason}");
            assert!(cover.is_unknown());
        }
    }
}
