//! The words of lapsed and the decisions it makes: pure, without I/O, clock or async.

pub mod access;
mod address;
mod backoff;
mod coverage;
mod defect;
pub mod diff;
mod finding;
mod identity;
mod issuer;
mod notice;
mod plan;
mod policy;
pub mod response;
mod schedule;
mod standing;
mod step;
#[cfg(test)]
mod tests;
mod token;
mod told;

pub use address::{Address, InvalidAddress};
pub use backoff::Backoff;
pub use coverage::{Cover, Coverage};
pub use defect::{Defect, Rules, Verdict};
pub use diff::Terms;
pub use finding::{FindingKind, FindingState, Severity};
pub use identity::{Identity, IdentityStatus, LookedUp, Person, Reason};
pub use issuer::{IssuerMode, Issuers};
pub use notice::{Ground, NewNotice, NoticeKey, NoticeState, Occurrence, Topic};
pub use plan::{Planned, foresee, plan};
pub use policy::{Policy, Prospect, Recipient, StepOutlook};
pub use response::Response;
pub use schedule::{InvalidSchedule, Schedule};
pub use standing::{News, Standing, fresh_until};
pub use step::{InvalidStep, Step};
pub(crate) use token::words;
pub use token::{
    Cell, Expiry, ExpiryOrigin, Listed, Status, Token, TokenId, TokenRef, UnknownWord,
};
pub use told::ToldAdmins;
