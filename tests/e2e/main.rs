//! End-to-end tests: they run the real program against real servers.
//!
//! Each has its own folder, database, mail server and clock, so all may run at once.
//! `LAPSED_KILLS` and `LAPSED_NOTICES` make the test with `kill -9` longer.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

#[macro_use]
#[path = "../support/assert.rs"]
mod assert;
mod bad_responses;
mod clusters;
mod connections;
mod daemon;
mod devtron;
mod directories;
mod directory_contract;
mod dry_run;
mod entra;
mod erase;
mod failing;
mod faults;
mod findings;
mod gateways;
mod gcore;
mod ghosts;
mod hostile_names;
mod keycloak;
mod kills;
mod languages;
mod ldap;
mod life;
mod listed;
mod mailserver;
mod monitoring;
mod moving;
mod nocodb;
mod okta;
mod operator;
mod owners;
mod ownership;
mod people;
mod portal;
mod postgres;
mod privacy;
mod proxy;
mod rancher;
mod refusals;
mod replaced;
mod response;
mod revoking;
mod scim;
#[path = "../support/secret_forms.rs"]
mod secret_forms;
mod secrets;
mod service_cli;
mod service_kills;
mod several;
mod sources;
mod sql;
mod stopping;
mod store;
mod stub;
mod upstream;
mod waiting;
mod web;
mod world;
