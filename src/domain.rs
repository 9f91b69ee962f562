//! The data types of lapsed and the decisions it makes: pure, without I/O, clock or async.

pub mod access;
mod address;
pub mod diff;
mod finding;
mod ghost;
mod identity;
mod notice;
mod policy;
mod preference;
mod replica;
pub mod revocation;
mod schedule;
pub mod service;
mod step;
mod string_enum;
#[cfg(test)]
mod tests;
mod token;
mod upstream;

pub use address::{Address, InvalidAddress};
pub use diff::MergeRules;
pub use finding::{FindingKind, FindingState, RuleFinding, Rules, Severity, unknown_expiries};
pub use ghost::{Ghost, GhostPhase, silent_since};
pub use identity::{
    Cover, Coverage, Identity, IdentityStatus, IssuerMode, Issuers, Lookup, Person, Reason,
    checked_suffix,
};
pub use notice::{Basis, MailCounts, NewNotice, NoticeState, Occurrence, Recipient, Topic};
#[cfg(test)]
pub use policy::ForecastWarning;
pub use policy::{
    Account, AccountAdmins, Policy, StepOutlook, StepState, account_key, forecast_notices, plan,
};
pub use preference::{Channel, DAILY_USE, PersonalTimes, Preference, Wishes};
pub use replica::{Replica, describe_drift, share_of_rate};
pub use revocation::RevocationPolicy;
pub use schedule::Schedule;
pub use step::{InvalidStep, Step};
pub use string_enum::UnknownValue;
pub(crate) use string_enum::string_enum;
pub use token::{
    Cell, Expiry, ExpiryOrigin, Generation, LOCAL_SOURCE, ListedToken, Status, Token, TokenId,
    TokenRef, Unreadable, When, column,
};
pub use upstream::{Backoff, DirectoryTerms, Name, SourceTerms, SyncAlert, SyncState};
