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
//! main → cli → http ─┐
//!          └───────► engine → store, sources, directories, notify → upstream, domain
//! ```
//!
//! Every layer may use `causes`, `nearest`, `text` and `time`.

pub mod causes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directories;
pub mod domain;
pub mod engine;
pub mod http;
mod ldap;
pub mod lifecycle;
mod nearest;
pub mod notify;
pub mod sources;
pub mod store;
pub mod telemetry;
mod text;
mod time;
mod tls;
pub mod upstream;
