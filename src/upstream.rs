//! What sources and directories have in common as third-party systems: how they are reached, and how they fail.

mod code;
pub mod database;
mod error;
pub mod http;
mod refused;
mod rights;

pub use error::Error;
pub(crate) use error::none_if_status;
pub use refused::{RefusedRow, RefusedRows};
pub use rights::{CheckReport, Right};

pub enum Fetched<T> {
    Unchanged,
    New(T),
}
