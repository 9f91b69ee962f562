//! A token: one credential at one source, and what is known of it.

use std::{fmt, str::FromStr};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Address, Step};

/// Namespace of the ids that are derived from keys (RFC 9562 §5.5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6c61_7073_6564_5f69_6473_0000_0000_0001);

/// Derives an id from the parts of a key; equal keys give equal ids on every machine.
pub(crate) fn derived_id(parts: &[&str]) -> Uuid {
    // The unit separator cannot stand in a part: control characters are stripped on the way in.
    Uuid::new_v5(&NAMESPACE, parts.join("\u{1f}").as_bytes())
}

/// The id of a token, derived from its identity (source, external id).
///
/// Being derived, it is the same after a second import or on a second replica, and its first eight
/// digits are nearly always a unique prefix.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[sqlx(transparent)]
#[serde(transparent)]
pub struct TokenId(pub Uuid);

impl TokenId {
    /// The id of the token that `source` calls `external_id`.
    #[must_use]
    pub fn of(source: &str, external_id: &str) -> Self {
        Self(derived_id(&["token", source, external_id]))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// When a token stops working.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expiry {
    /// It never does.
    Never,
    /// At this instant.
    At(DateTime<Utc>),
    /// The source does not say.
    Unknown,
}

impl Expiry {
    /// The instant, if there is one.
    #[must_use]
    pub fn at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::At(at) => Some(at),
            Self::Never | Self::Unknown => None,
        }
    }

    /// The same for the secret of this number: the microseconds, which no source that counts secrets
    /// states, hold it. So a secret that ends when the one before it would have has an instant of its own,
    /// and with it notices of its own.
    #[must_use]
    pub fn of_secret(self, version: u32) -> Self {
        let Self::At(at) = self else { return self };
        let nth = TimeDelta::microseconds(i64::from(version.saturating_sub(1) % 1000));
        Self::At(at.trunc_subsecs(3) + nth)
    }

    /// What [`Expiry::of_secret`] has put into it.
    pub(super) fn nth_secret(self) -> Option<u32> {
        self.at().map(|at| at.timestamp_subsec_micros() % 1000)
    }

    /// `never`, `at` or `unknown`.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::At(_) => "at",
            Self::Unknown => "unknown",
        }
    }
}

/// Declares an enum that is a lower-case word in the store, in JSON and on the command line.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vmeta])* $variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::domain::UnknownWord;

            fn try_from(word: String) -> Result<Self, Self::Error> {
                word.parse()
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word).ok_or_else(|| {
                    $crate::domain::UnknownWord::new(word, Self::ALL.iter().map(|value| value.as_str()))
                })
            }
        }
    };
}
pub(crate) use words;

/// A word that is none of the allowed ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is none of {allowed}")]
pub struct UnknownWord {
    word: String,
    allowed: String,
}

impl UnknownWord {
    pub(crate) fn new(word: &str, allowed: impl Iterator<Item = &'static str>) -> Self {
        let allowed = allowed.collect::<Vec<_>>().join(", ");
        Self {
            word: word.chars().take(40).collect(),
            allowed,
        }
    }
}

words! {
    /// Where an expiry comes from.
    ExpiryOrigin {
        /// The source stated it.
        Source = "source",
        /// lapsed worked it out from what the source stated.
        Computed = "computed",
        /// A policy of ours, not the source's.
        Policy = "policy",
    }
}

words! {
    /// What a token is now.
    Status {
        /// It works.
        Active = "active",
        /// Its expiry has passed.
        Expired = "expired",
        /// Its source has switched it off.
        Disabled = "disabled",
        /// Somebody ended it before its expiry.
        Revoked = "revoked",
        /// It left a complete listing before its expiry.
        Gone = "gone",
    }
}

/// A token as lapsed knows it. It never holds the secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Derived from `source` and `external_id`.
    pub id: TokenId,
    /// The name of the source.
    pub source: String,
    /// What the source calls it; unique there.
    pub external_id: String,
    /// The name people gave it; may be empty.
    pub name: String,
    /// A description, if there is one.
    pub description: Option<String>,
    /// The mailbox of the person who issued it.
    pub issuer: Option<Address>,
    /// That person's name.
    pub issuer_name: Option<String>,
    /// How it is known that the issuer no longer exists at the source, in words; `None` when he does, or
    /// nobody says.
    pub issuer_gone: Option<String>,
    /// The tenant it belongs to.
    pub account: Option<String>,
    /// What it may do, as a role of the source.
    pub role: Option<String>,
    /// Where it may do it.
    pub scope: Option<String>,
    /// When it was issued.
    pub created_at: Option<DateTime<Utc>>,
    /// When it stops working.
    pub expiry: Expiry,
    /// Who says so; `None` when nobody does.
    pub expiry_origin: Option<ExpiryOrigin>,
    /// As stored. Read it through [`Token::status_at`].
    pub status: Status,
    /// When it was last used, as the source tells.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether the source tells when its tokens are used: where it does, one without a last use was
    /// never used; where it does not, nothing is known.
    pub use_told: bool,
    /// When lapsed first saw it.
    pub first_seen_at: DateTime<Utc>,
    /// From when its life counts: `created_at`, or when the expiry that its source states was seen to change.
    pub life_from: Option<DateTime<Utc>>,
    /// The tightest step whose notices were planned for the present expiry.
    pub planned_step: Option<Step>,
    /// The earliest instant at which something must be done about it.
    pub due_at: Option<DateTime<Utc>>,
    /// When what is wrong with it must be looked at: by then its findings may be others.
    pub judge_at: Option<DateTime<Utc>>,
    /// When lapsed ended it at its source; `None` when it did not.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Token {
    /// What the token is at `now`, swept or not.
    #[must_use]
    pub fn status_at(&self, now: DateTime<Utc>) -> Status {
        match (self.status, self.expiry) {
            (Status::Active | Status::Expired, Expiry::At(at)) if at <= now => Status::Expired,
            (Status::Active | Status::Expired, _) => Status::Active,
            (Status::Disabled | Status::Revoked | Status::Gone, _) => self.status,
        }
    }

    /// Its status without our own mark: what the source says of it.
    #[must_use]
    pub fn status_unmarked(&self) -> Status {
        if self.status == Status::Expired {
            Status::Active
        } else {
            self.status
        }
    }

    /// What people call it: its name, or its external id where it has none.
    #[must_use]
    pub fn label(&self) -> &str {
        if self.name.trim().is_empty() {
            &self.external_id
        } else {
            &self.name
        }
    }
}

/// A cell of a listing: a column that is not there keeps what is known, an empty cell clears it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Cell<T> {
    /// The listing has no such column.
    #[default]
    Absent,
    /// The column is there, and empty.
    Empty,
    /// A value.
    Value(T),
}

impl<T> Cell<T> {
    /// The value that results when this cell is laid over what is known.
    pub fn over(self, known: Option<T>) -> Option<T> {
        match self {
            Self::Absent => known,
            Self::Empty => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// One token as a source lists it, already checked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// What the source calls it; never empty.
    pub external_id: String,
    /// `name`; empty text when the cell is empty.
    pub name: Cell<String>,
    /// `description`.
    pub description: Cell<String>,
    /// `issuer_email`.
    pub issuer: Cell<Address>,
    /// `issuer_name`.
    pub issuer_name: Cell<String>,
    /// What the source calls the issuer; not kept, it is what a list of owners goes by.
    pub issuer_id: Option<String>,
    /// What else the source calls the issuer, such as the name he logs in by; not kept either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuer_names: Vec<String>,
    /// How it is known that the issuer no longer exists at the source, in words; empty when he does.
    pub issuer_gone: Cell<String>,
    /// `account`.
    pub account: Cell<String>,
    /// `role`.
    pub role: Cell<String>,
    /// `scope`.
    pub scope: Cell<String>,
    /// `created_at`.
    pub created_at: Cell<DateTime<Utc>>,
    /// `expires_at`; an empty cell is [`Expiry::Unknown`], never [`Cell::Empty`].
    pub expiry: Cell<Expiry>,
    /// Whether the expiry was worked out from what the source states, not stated by it.
    pub is_computed: bool,
    /// `last_used_at`.
    pub last_used_at: Cell<DateTime<Utc>>,
    /// `status`: active, disabled or revoked.
    pub status: Cell<Status>,
    /// Which secret of the token this is, from 1, where the source gives one token several in its life
    /// and counts them. Not kept: [`Expiry::of_secret`] says how one is told from the next.
    pub version: Option<u32>,
}

impl Listed {
    /// A token of which nothing but its id is told.
    #[must_use]
    pub fn named(external_id: impl Into<String>) -> Self {
        Self {
            external_id: external_id.into(),
            ..Self::default()
        }
    }
}

/// A reference to a token on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// The first digits of an id, dashes left out.
    Prefix(String),
    /// `source/external_id`.
    External(String, String),
}

impl FromStr for TokenRef {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('/') {
            Some((source, external_id)) => {
                Self::External(source.to_owned(), external_id.to_owned())
            }
            None => Self::Prefix(text.replace('-', "").to_lowercase()),
        })
    }
}
