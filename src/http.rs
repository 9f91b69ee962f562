//! Health checks and metrics over HTTP.
//!
//! Read-only, without parameters, bodies or authentication: access is limited by the address it listens
//! on. All data comes through [`Health`].

mod cache;
mod health;
mod metrics;
mod serve;
mod status;

pub use health::{DirectoryHealth, Fault, Health, LastSweep, Readiness, Snapshot, SourceHealth};
pub use serve::serve;
