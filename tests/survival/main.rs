//! What lapsed must survive: stories that drive the real program against real servers.
//!
//! Each has a folder, a database, a mail server and a clock of its own, so all may run at once.
//! `LAPSED_KILLS` and `LAPSED_NOTICES` make the run under `kill -9` longer.
#![expect(
    clippy::unwrap_used,
    reason = "a story that cannot be set up has failed"
)]

mod daemon;
mod devtron;
mod directories;
mod discretion;
mod entra;
mod failing;
mod faults;
mod findings;
mod gcore;
mod keycloak;
mod kills;
mod ldap;
mod life;
mod mailserver;
mod nocodb;
mod okta;
mod people;
mod postgres;
mod rancher;
mod response;
mod scim;
mod several;
mod sources;
mod sql;
mod store;
mod strangers;
mod stub;
mod traps;
mod waiting;
mod web;
mod world;
