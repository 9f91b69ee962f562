//! Where tokens live. A source lists tokens; it never sees the store.

pub mod cells;
pub mod database;
pub mod devtron;
pub mod file;
pub mod gather;
pub mod gcore;
mod intake;
mod kind;
pub mod nocodb;
pub mod owners;
pub mod rancher;
pub(crate) mod rows;
mod sorter;
pub mod sql;
pub mod tokens;

use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};

use crate::domain::{Address, Listed, Token, TokenId};
use crate::{ldap, web};

pub use kind::{Common, Kind};

/// A place that can list its tokens.
#[async_trait]
pub trait Source: Send + Sync {
    /// Lists its tokens, or says that nothing has changed since the last listing.
    ///
    /// # Errors
    /// When the listing could not be had whole. Nothing is concluded from a failed listing.
    async fn fetch(&self, last: &Last) -> Result<Fetched<Listing>, Error>;

    /// Tries whether [`Source::fetch`] could work; says what the credentials can see and do.
    ///
    /// # Errors
    /// What is in the way and how to mend it.
    async fn check(&self) -> Result<Checked, Error>;

    /// Ends a token for good, and looks again whether it has ended.
    ///
    /// # Errors
    /// When it is the source's own credential, may not be ended, or still works.
    async fn revoke(&self, external_id: &str) -> Result<(), Error> {
        let _ = external_id;
        Err(Error::CannotRevoke)
    }

    /// Whether this is the token by which lapsed sees the source, as far as that is known without asking.
    fn is_own(&self, token: &Token) -> bool {
        let _ = token;
        false
    }

    /// What its configuration lacks before it can end tokens; `None` where it lacks nothing.
    fn lacks_to_revoke(&self) -> Option<&'static str> {
        None
    }

    /// Whether it wants to be told of tokens that have expired.
    fn hears_of_expiry(&self) -> bool {
        false
    }

    /// Tells it that tokens of its have expired. A token is told of once, but for a program that is killed
    /// in between: then once more.
    async fn expired(&self, tokens: &[Token]) -> Told {
        let _ = tokens;
        Told::default()
    }

    /// The page of the source's own site where people see to this token.
    fn page_of(&self, external_id: &str) -> Option<String> {
        let _ = external_id;
        None
    }
}

/// What became of telling a source about tokens.
#[derive(Debug, Default)]
pub struct Told {
    /// Those that it knows of now.
    pub done: Vec<TokenId>,
    /// Those that it did not take. What is neither done nor failed was not tried.
    pub failed: Vec<TokenId>,
    /// Why, of the first; or why nothing could be tried.
    pub error: Option<Error>,
}

/// What a source is told of its last good listing.
#[derive(Debug, Clone, Default)]
pub struct Last {
    /// See [`Listing::fingerprint`].
    pub fingerprint: Option<String>,
    /// When it was asked for; `None` when there was none.
    pub asked_at: Option<DateTime<Utc>>,
}

/// What a look at a source, without a listing, brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// In a few words: `CSV, 14 tokens`.
    pub summary: String,
    /// What its credentials can and cannot do.
    pub rights: Vec<Right>,
}

impl From<String> for Checked {
    fn from(summary: String) -> Self {
        Self {
            summary,
            rights: Vec::new(),
        }
    }
}

/// Something that credentials can or cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Right {
    /// What: `list the tokens of all users`.
    pub what: String,
    /// How to add it where it is missing, `None` where it is there.
    pub missing: Option<String>,
}

/// What a fetch brought.
pub enum Fetched<T> {
    /// The same as the last time.
    Unchanged,
    /// News.
    New(T),
}

/// A listing that streams in order of external id, each id once.
#[derive(Default)]
pub struct Listing {
    /// The tokens.
    pub tokens: Tokens,
    /// How many there are.
    pub count: u64,
    /// It holds only what changed, so that nothing it lacks is gone.
    pub is_partial: bool,
    /// The administrators of the accounts; `None` where the source does not tell.
    pub admins: Option<Vec<AccountAdmin>>,
    /// The longest life that the source allows a token.
    pub longest_life: Option<LongestLife>,
    /// Rows that were refused. A listing with refusals is not complete.
    pub refusals: Refusals,
    /// What it looked like from outside, so that the same is not read again.
    pub fingerprint: Option<String>,
}

impl Listing {
    /// The gathered listing, or that it is the one that is known: in its tokens, and in all that it tells
    /// besides.
    #[must_use]
    pub fn unless_known(mut self, last: &Last) -> Fetched<Self> {
        let besides = (self.is_partial, &self.longest_life, &self.admins);
        let digest = self.fingerprint.as_ref().map(|tokens| {
            let digest = Sha256::new_with_prefix(tokens);
            digest.chain_update(format!("{besides:?}"))
        });
        self.fingerprint = digest.map(gather::hex);
        if self.fingerprint.is_some() && self.fingerprint == last.fingerprint {
            return Fetched::Unchanged;
        }
        Fetched::New(self)
    }
}

/// Tokens as they come.
pub struct Tokens(pub Box<dyn Iterator<Item = Result<Listed, Error>> + Send>);

impl Default for Tokens {
    fn default() -> Self {
        Self(Box::new(std::iter::empty()))
    }
}

impl Iterator for Tokens {
    type Item = Result<Listed, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// An administrator of an account, as a source tells.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountAdmin {
    /// The account, as its tokens name it.
    pub account: String,
    /// The mailbox.
    pub address: Address,
}

/// The longest life that a source allows a token, and where that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongestLife {
    /// `None` is for ever.
    pub life: Option<TimeDelta>,
    /// `auth-token-max-ttl-minutes is 0`.
    pub evidence: String,
}

/// Rows that were refused: the first twenty with their place and reason, and how many in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusals {
    /// The first twenty.
    pub shown: Vec<Refusal>,
    /// How many there were.
    pub count: u64,
}

/// How many refusals are listed; the rest is counted.
pub const SHOWN_REFUSALS: usize = 20;

impl Refusals {
    /// Takes note of one more.
    pub fn add(&mut self, refusal: Refusal) {
        self.count += 1;
        if self.shown.len() < SHOWN_REFUSALS {
            self.shown.push(refusal);
        }
    }
}

/// A row that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The file's name, as given.
    pub file: String,
    /// The line in it, from 1; the row's first line where it has several.
    pub line: u64,
    /// Why, in words that say what to write instead.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// For those to whom one bad row is one too many.
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Content {
            place: format!("{}:{}", refusal.file, refusal.line),
            reason: refusal.reason,
        }
    }
}

/// Why a source could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {path}{}", advice(source))]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Rows that do not fit into memory could not be kept or read back.
    #[error("cannot keep rows in a temporary file; let TMPDIR name a folder with room")]
    Scratch(#[source] io::Error),
    /// A file was not the same after it was read.
    #[error(
        "{path} changed while it was read; write it under another name and rename it when it is whole"
    )]
    Changed {
        /// The file or folder.
        path: String,
    },
    /// A path is none that can be read, or a folder has nothing to read.
    #[error("{path} {reason}")]
    Path {
        /// The file or folder.
        path: String,
        /// What it is, and what it should be.
        reason: &'static str,
    },
    /// A system did not answer as it should.
    #[error(transparent)]
    Web(#[from] web::Error),
    /// An LDAP server did not answer as it should.
    #[error(transparent)]
    Ldap(#[from] ldap::Error),
    /// A database did not answer as it should.
    #[error(transparent)]
    Database(#[from] database::Error),
    /// The credentials do not do.
    #[error("{what}; {mend}")]
    Rights {
        /// What was refused.
        what: String,
        /// What to add, and where.
        mend: String,
    },
    /// The credentials show the tokens of their own user alone.
    #[error("the credentials show only the tokens of their own user; {mend}")]
    Narrowed {
        /// What to add, and where.
        mend: String,
    },
    /// There is no such token, or it has ended already.
    #[error("the source knows no token {0:?}")]
    NoSuchToken(String),
    /// The token by which lapsed sees the source.
    #[error(
        "this is the token by which lapsed sees the source; end it by hand when you replace it"
    )]
    OwnToken,
    /// The kind has no way to end a token.
    #[error("a source of this kind cannot end tokens; end it where it lives")]
    CannotRevoke,
    /// The source accepted the order, and the token is there still.
    #[error("the source accepted the order, but the token is still there")]
    StillThere,
    /// The token is there, and the order to end it was taken back: nothing has changed.
    #[error(transparent)]
    NotDone(Box<Error>),
    /// No order went out, because the token could not even be looked at.
    #[error(transparent)]
    NotAsked(Box<Error>),
    /// An order went out, and what became of it could not be seen.
    #[error("the order was given, and what became of it could not be seen")]
    Unseen(#[source] Box<Error>),
    /// The content as a whole makes no sense: no header, an unknown column.
    #[error("{place}: {reason}")]
    Content {
        /// File and line.
        place: String,
        /// Why, and what to write instead.
        reason: String,
    },
}

impl Error {
    /// How long the source wants to be left alone; that is no failure.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        match self {
            Self::Web(error) => error.wait(),
            Self::NotDone(error) | Self::NotAsked(error) | Self::Unseen(error) => error.wait(),
            _ => None,
        }
    }

    /// Before an order.
    pub(crate) fn not_asked(self) -> Self {
        Self::NotAsked(Box::new(self))
    }

    /// After an order.
    pub(crate) fn unseen(self) -> Self {
        Self::Unseen(Box::new(self))
    }

    /// Whether a token that was to end may have ended all the same.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Web(_) | Self::Content { .. } => self.wait().is_none(),
            Self::StillThere | Self::Unseen(_) => true,
            Self::Database(error) => error.is_in_doubt(),
            _ => false,
        }
    }
}

/// What to do about a file that cannot be read.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => "; correct its path, or let the export write it first",
        ErrorKind::PermissionDenied => "; let the user that lapsed runs as read it",
        ErrorKind::IsADirectory => "; name a file in it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        Listing {
            fingerprint: Some("tokens".to_owned()),
            ..Listing::default()
        }
    }

    #[test]
    fn a_listing_is_known_only_when_all_that_it_tells_is() {
        let Fetched::New(first) = listing().unless_known(&Last::default()) else {
            panic!("known before it was seen");
        };
        let last = Last {
            fingerprint: first.fingerprint,
            asked_at: None,
        };
        assert!(matches!(listing().unless_known(&last), Fetched::Unchanged));
        let for_ever = LongestLife {
            life: None,
            evidence: "0".to_owned(),
        };
        let others = [
            Listing {
                fingerprint: Some("others".to_owned()),
                ..listing()
            },
            Listing {
                is_partial: true,
                ..listing()
            },
            Listing {
                admins: Some(Vec::new()),
                ..listing()
            },
            Listing {
                longest_life: Some(for_ever),
                ..listing()
            },
            Listing {
                fingerprint: None,
                ..listing()
            },
        ];
        for other in others {
            assert!(matches!(other.unless_known(&last), Fetched::New(_)));
        }
    }
}
