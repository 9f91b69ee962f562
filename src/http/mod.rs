//! The daemon's face towards those who run it: is it alive, is it well, and its numbers.
//!
//! It only reads, takes no parameter and no body, and knows nobody: who may reach it is decided by
//! the address it listens on. What it shows comes through [`Health`].

mod cache;
mod health;
mod metrics;
mod serve;
mod status;

pub use health::{
    DirectoryHealth, Fault, Health, LastSweep, Mails, Readiness, Snapshot, SourceHealth,
};
pub use serve::{router, serve};
