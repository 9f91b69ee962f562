//! The data types of lapsed and the decisions it makes: pure, without I/O, clock or async.

pub mod access;
mod address;
mod backoff;
mod coverage;
pub mod diff;
mod finding;
mod identity;
mod issuer;
mod name;
mod notice;
mod plan;
mod policy;
pub mod revocation;
mod schedule;
mod step;
mod sync_state;
mod terms;
#[cfg(test)]
mod tests;
mod token;

pub use address::Address;
pub use backoff::Backoff;
pub use coverage::{Cover, Coverage};
pub use diff::MergeRules;
pub use finding::{FindingKind, FindingState, RuleFinding, Rules, Severity};
pub use identity::{Identity, IdentityStatus, Lookup, Person, Reason, checked_suffix};
pub use issuer::{IssuerMode, Issuers};
pub use name::Name;
pub use notice::{Basis, Generation, MailCounts, NewNotice, NoticeState, Occurrence, Topic};
pub use plan::{forecast_notices, plan};
pub use policy::{AccountAdmins, Policy, Recipient, StepOutlook, StepState};
pub use revocation::RevocationPolicy;
pub use schedule::Schedule;
pub use step::Step;
pub use sync_state::{SyncAlert, SyncState};
pub use terms::{DirectoryTerms, SourceTerms};
pub(crate) use token::string_enum;
pub use token::{
    Cell, Expiry, ExpiryOrigin, ListedToken, Status, Token, TokenId, TokenRef, UnknownValue,
};
