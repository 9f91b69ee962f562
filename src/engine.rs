//! The only layer that combines the clock, the store, the upstreams and the mail server.
//!
//! A sweep is a closed list of jobs. Each job gathers, lets `domain` decide, and acts; running it twice has the
//! same result as running it once.

mod common;
mod deliver;
mod directories;
mod dry_run;
mod erase;
mod findings;
mod follow;
mod ghosts;
mod judge;
mod leased;
mod merge;
mod notices;
mod plan;
mod purge;
mod removal;
mod respond;
mod retry;
mod revoke;
mod service_findings;
mod sweep;
mod sync;
mod upstream;

pub use common::{
    Delivery, EraseRefusal, Error, Report, Retention, RevokeRefusal, Settings, new_id,
};
pub use deliver::Mailer;
pub use directories::{
    StatusChange, Survey, SurveyOutcome, UnbindOutcome, count_covers, issuer_covers,
};
pub use dry_run::DryRun;
pub use erase::Erasure;
pub(crate) use leased::SWEEP_LEASE;
pub use merge::{ImportCounts, ImportMode, ImportTarget, import, merge_record, merge_records};
pub(crate) use notices::DEAD_ADDRESS_TTL;
pub use purge::LastPurge;
pub use removal::OperatorNote;
pub use respond::RevocationPreview;
#[cfg(feature = "test-support")]
pub use revoke::Revocation;
pub use revoke::{RevocationOrder, plan_revoked_notices};
pub use sweep::Engine;
pub use sync::{Change, Difference};
pub use upstream::{
    Preview, SweepOptions, WatchedDirectory, WatchedSource, ensure_not_renamed, stale_directories,
};
