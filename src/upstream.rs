//! What sources and directories have in common as third-party systems: how they are reached, and how they fail.

pub mod database;
mod error;
pub mod http;
pub(crate) mod ldap;
pub(crate) mod pager;
mod proxy;
mod refused;
mod rights;
pub(crate) mod session;

pub use error::Error;
pub(crate) use error::none_if_status;
pub use proxy::ProxyRules;
pub use refused::{RefusedRow, RefusedRows};
pub use rights::{CheckReport, Right};

pub enum Fetched<T> {
    Unchanged,
    New(T),
}
