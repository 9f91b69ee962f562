//! lapsed watches API tokens wherever they live, so that no token expires by surprise, outlives its owner, or
//! lives without an expiry unnoticed.
//!
//! ```text
//! sources ──► sync ──► judge ──► plan ──► deliver ──► channels
//!               │        ▲         │         │
//!               │   directories    │         │
//!               ▼                  ▼         ▼
//!            ┌───── one store: SQLite or PostgreSQL ─────┐
//! ```
//!
//! A layer uses only layers further right:
//!
//! ```text
//! main → cli → web ──► service ─┐
//!          ├─► http             │
//!          └────────────────────┴─► engine → store, sources, directories, notify → upstream, language → domain
//! ```
//!
//! Every layer may use `causes`, `files`, `nearest`, `network`, `text` and `time`.
//!
//! Only `cli` is public. The feature `test-support` publishes the modules that tests and benchmarks use, so that
//! without it the compiler reports code that nothing uses.

pub mod cli;

mod causes;
mod config;
mod files;
mod http;
mod lifecycle;
mod nearest;
mod network;
mod server_warnings;
mod telemetry;
mod text;
mod time;
mod tls;

#[cfg(not(feature = "test-support"))]
mod clock;
#[cfg(not(feature = "test-support"))]
mod directories;
#[cfg(not(feature = "test-support"))]
mod domain;
#[cfg(not(feature = "test-support"))]
mod engine;
#[cfg(not(feature = "test-support"))]
mod language;
#[cfg(not(feature = "test-support"))]
mod listener;
#[cfg(not(feature = "test-support"))]
mod notify;
#[cfg(not(feature = "test-support"))]
mod service;
#[cfg(not(feature = "test-support"))]
mod sources;
#[cfg(not(feature = "test-support"))]
mod store;
#[cfg(not(feature = "test-support"))]
mod upstream;
#[cfg(not(feature = "test-support"))]
mod web;

#[cfg(feature = "test-support")]
pub mod clock;
#[cfg(feature = "test-support")]
pub mod directories;
#[cfg(feature = "test-support")]
pub mod domain;
#[cfg(feature = "test-support")]
pub mod engine;
#[cfg(feature = "test-support")]
pub mod language;
#[cfg(feature = "test-support")]
pub mod listener;
#[cfg(feature = "test-support")]
pub mod notify;
#[cfg(feature = "test-support")]
pub mod service;
#[cfg(feature = "test-support")]
pub mod sources;
#[cfg(feature = "test-support")]
pub mod store;
#[cfg(feature = "test-support")]
pub mod upstream;
#[cfg(feature = "test-support")]
pub mod web;
