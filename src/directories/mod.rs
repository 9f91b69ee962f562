//! Places that know whether a person still has access. A directory lists people; it never sees the
//! store.

pub mod file;
mod people;

use async_trait::async_trait;

use crate::domain::Person;
use crate::sources::{Error, Fetched, Refusals};

/// A place that can list people and their status.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Lists everybody, or says that nothing has changed since the listing with this fingerprint.
    ///
    /// # Errors
    /// When the listing could not be had whole. Nothing is concluded from a failed listing.
    async fn fetch(&self, previous: Option<&str>) -> Result<Fetched<People>, Error>;

    /// Tries whether [`Directory::fetch`] could work; says in a few words what it saw.
    ///
    /// # Errors
    /// What is in the way and how to mend it.
    async fn check(&self) -> Result<String, Error>;
}

/// Everybody a directory knows, in order of address, each once.
#[derive(Debug)]
pub struct People {
    /// The people.
    pub people: Vec<Person>,
    /// Rows that were refused. A listing with refusals changes nothing.
    pub refusals: Refusals,
    /// What to hand to the next [`Directory::fetch`].
    pub fingerprint: String,
}
