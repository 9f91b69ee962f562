//! Places that know whether a person still has access. A directory tells of people; it never sees the
//! store, and draws no conclusions: what its word is worth is decided above it, once for all kinds.

mod assertion;
pub mod entra;
pub mod file;
mod grant;
mod id;
pub mod keycloak;
mod kind;
pub mod ldap;
pub mod okta;
mod people;
pub mod scim;

use async_trait::async_trait;

pub use crate::domain::LookedUp;
use crate::domain::{Address, Person};
use crate::sources::{Checked, Error, Fetched, Refusals};

pub use kind::{Common, Kind};

/// A place that can tell people's status.
#[async_trait]
pub trait Directory: Send + Sync {
    /// Tells of everybody, page by page as they come, or at least of everybody asked for. An account is
    /// told of once.
    ///
    /// # Errors
    /// When it could not be had whole: an error, a page or the end mark missing, an allowed group that
    /// does not exist. Nothing is concluded from a pull that failed.
    async fn pull(&self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Result<Fetched<Pulled>, Error>;

    /// Looks one account up by its immutable id, where it is stored first, not in an index that lags.
    /// The group membership need not be told.
    ///
    /// # Errors
    /// When there is no answer. That somebody is gone is no error.
    async fn look_up(&self, id: &str) -> Result<LookedUp, Error> {
        let _ = id;
        Ok(LookedUp::Unclear("it has no ids to look up".to_owned()))
    }

    /// Tries whether [`Directory::pull`] could work; says what the credentials can see and what they lack.
    ///
    /// # Errors
    /// What is in the way and how to mend it.
    async fn check(&self) -> Result<Checked, Error>;

    /// Whether all that it lists is kept. Elsewhere only issuers of tokens concern us.
    fn is_kept_whole(&self) -> bool {
        false
    }
}

/// Where a pull puts the people that it finds.
pub type Tell<'a> = dyn FnMut(Person) + Send + 'a;

/// What is asked of a directory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// The people who matter, in order: issuers and canaries. More may be told of.
    pub people: &'a [Address],
    /// [`Pulled::cursor`] of the last pull from which conclusions were drawn, unless everybody is to be told of.
    pub cursor: Option<&'a str>,
}

/// What a pull was, when it has come to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulled {
    /// Whom it told of.
    pub extent: Extent,
    /// The allowed groups with how many people are in each, nested ones included.
    pub groups: Vec<Group>,
    /// Ids of accounts that were removed since the cursor; they are looked up.
    pub removed: Vec<String>,
    /// Rows that were refused. A pull with refusals changes nothing.
    pub refusals: Refusals,
    /// Where the next pull may take up; what it means is the directory's own affair.
    pub cursor: Option<String>,
}

/// Whom a pull told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Extent {
    /// Everybody that the directory lists.
    #[default]
    Everybody,
    /// Everybody asked for, each by their address.
    Asked,
    /// Those about whom something changed since the cursor.
    Changes,
}

/// An allowed group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As it is configured: a name or an id.
    pub name: String,
    /// How many people are in it.
    pub members: u64,
}

impl Group {
    /// One that nobody is in, as far as it was counted.
    #[must_use]
    pub fn empty(name: String) -> Self {
        Self { name, members: 0 }
    }
}
