//! Tests that need a real database: one binary, so that all share one throw-away PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod api;
#[macro_use]
#[path = "../support/assert.rs"]
mod assert;
mod database;
mod db;
mod directories;
mod engine;
mod judging;
mod managing;
mod migrations;
mod nocodb;
#[path = "../support/secret_forms.rs"]
mod secret_forms;
mod service_watch;
mod sessions;
mod sql;
mod store;
mod unreadable;
mod verifying;
mod world;
