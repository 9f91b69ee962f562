//! Systems that know whether a person still has access. A directory only lists people: it never sees the
//! store, and draws no conclusions. The engine does that, in the same way for all kinds.

mod account;
mod assertion;
pub mod entra;
pub mod file;
mod json;
pub mod keycloak;
mod kind;
pub mod ldap;
pub mod okta;
pub mod scim;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use serde_json::Value;

pub use crate::domain::Lookup;

use crate::clock::Clock;
use crate::domain::{Address, Person};
use crate::upstream::{CheckReport, Error, Fetched, ProxyRules, RefusedRows};

pub use kind::Kind;

/// More people than this are not looked up one by one: everyone is listed.
const MAX_ADDRESS_QUERIES: usize = 50;

/// Responses to a part of the API that the server lacks.
const UNSUPPORTED: [StatusCode; 3] = [
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

/// The settings that every kind of directory has.
#[derive(Debug, Clone)]
pub struct Common {
    /// How long one request may take.
    pub timeout: Duration,
    /// Names or ids of groups. People must be in one of them, unless the list is empty.
    pub allowed_groups: Vec<String>,
    pub clock: Clock,
    pub proxies: ProxyRules,
}

#[async_trait]
pub trait Directory: Send + Sync {
    /// Sends every account, or at least those of the people in the query, to `sink`, each account once.
    ///
    /// # Errors
    /// When the listing is not complete: a request failed, a page or the end mark is missing, or an allowed
    /// group does not exist. Nothing is concluded from a listing that failed.
    async fn list_people(
        &self,
        query: &PeopleQuery<'_>,
        sink: &mut PersonSink<'_>,
    ) -> Result<Fetched<PeopleListing>, Error>;

    /// Looks up one account by its immutable id, in the primary store rather than in an index that lags.
    /// The result may leave out the group membership.
    ///
    /// # Errors
    /// When there is no answer. An account that is gone is not an error.
    async fn look_up(&self, id: &str) -> Result<Lookup, Error> {
        let _ = id;
        Ok(Lookup::unclear("it has no ids to look up"))
    }

    /// Checks whether [`Directory::list_people`] can work, and reports what the credentials can see and what
    /// they lack.
    ///
    /// # Errors
    /// What is in the way, and how to fix it.
    async fn check(&self) -> Result<CheckReport, Error>;

    /// Whether every listed person is stored. For other kinds, only issuers of tokens are.
    fn stores_everyone(&self) -> bool {
        false
    }
}

/// Receives the people of a listing.
pub type PersonSink<'a> = dyn FnMut(Person) + Send + 'a;

#[derive(Debug, Clone, Copy, Default)]
pub struct PeopleQuery<'a> {
    /// Issuers and canaries, in order. The directory may list more people than these.
    pub people: &'a [Address],
    /// [`PeopleListing::cursor`] of the last listing that was used; `None` asks for everybody.
    pub cursor: Option<&'a str>,
    /// [`PeopleListing::cursor`] of the last listing that was used, whatever its query was.
    pub last_cursor: Option<&'a str>,
}

/// What a listing covered, once it is complete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeopleListing {
    pub extent: Extent,
    /// The allowed groups, with members of nested groups counted.
    pub groups: Vec<Group>,
    /// Ids of accounts that were removed since the cursor; the engine looks them up.
    pub removed: Vec<String>,
    /// [`Address::key`]s of people in the query who were not read. Nothing follows for them, even if it lists one of
    /// their accounts.
    pub unread: BTreeSet<String>,
    /// Refused rows. A listing with refused rows changes nothing.
    pub refusals: RefusedRows,
    /// Where the next listing may continue. Only the directory itself can read it.
    pub cursor: Option<String>,
    /// Why people may be missing from it. What it says about the people it has counts nevertheless.
    pub gaps: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    #[default]
    Everybody,
    /// The people in the query, each looked up by address.
    Requested,
    /// People whose account changed since the cursor.
    Changes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The configured name or id.
    pub name: String,
    pub members: u64,
}

/// Whether so few records of a list lack something that one broken account explains it.
fn is_few(odd: u64, all: u64) -> bool {
    (odd <= 1 && all > 1) || odd.saturating_mul(20) <= all
}

/// A filter for one value, which is quoted as in JSON (RFC 7644 §3.4.2.2).
fn eq_filter(attribute: &str, value: &str) -> String {
    format!("{attribute} eq {}", Value::from(value))
}

/// Counts a person in each allowed group that they are in. Returns whether there is one; `None` if no group is
/// configured.
fn count_member<'a>(groups: impl IntoIterator<Item = (bool, &'a mut Group)>) -> Option<bool> {
    groups.into_iter().fold(None, |is_member, (is_in, group)| {
        group.members += u64::from(is_in);
        Some(is_member.unwrap_or(false) || is_in)
    })
}

impl Group {
    pub fn empty(name: String) -> Self {
        Self { name, members: 0 }
    }
}

#[cfg(test)]
mod tests;
