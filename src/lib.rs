//! lapsed watches API tokens wherever they live: no token lapses by surprise, none outlives its
//! owner, none lives for ever unnoticed.
//!
//! ```text
//! sources ──► sync ──► judge ──► plan ──► deliver ──► channels
//!               │        ▲         │         │
//!               │   directories    │         │
//!               ▼                  ▼         ▼
//!            ┌───── one store: SQLite or PostgreSQL ─────┐
//! ```
//!
//! A layer names only layers further right:
//!
//! ```text
//! main → cli → http ─┐
//!          └───────► engine → store, sources, directories, notify → domain
//! ```

pub mod causes;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directories;
pub mod domain;
pub mod engine;
pub mod http;
pub mod ldap;
pub mod lifecycle;
pub mod notify;
pub mod sources;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod web;
