//! A token: one credential at one source, and what is known about it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::service::PublicId;
use super::string_enum::string_enum;
use super::{Address, Step};

/// The name of the built-in source.
pub const LOCAL_SOURCE: &str = "local";

/// The UUID namespace of derived ids (RFC 9562 §5.5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6c61_7073_6564_5f69_6473_0000_0000_0001);

/// Derives an id from the parts of a key; equal keys give equal ids.
pub(crate) fn derived_id(parts: &[&str]) -> Uuid {
    // A part cannot contain the unit separator: control characters are stripped from all input.
    Uuid::new_v5(&NAMESPACE, parts.join("\u{1f}").as_bytes())
}

/// The id of a token, derived from its source and external id.
///
/// It is the same after a second import or on a second replica, and its first eight digits are nearly always
/// a unique prefix.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TokenId(pub Uuid);

impl TokenId {
    pub fn new(source: &str, external_id: &str) -> Self {
        Self(derived_id(&["token", source, external_id]))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expiry {
    Never,
    At(DateTime<Utc>),
    #[default]
    Unknown,
}

impl Expiry {
    pub fn at(self) -> Option<DateTime<Utc>> {
        match self {
            Self::At(at) => Some(at),
            Self::Never | Self::Unknown => None,
        }
    }

    /// `never`, `at` or `unknown`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::At(_) => "at",
            Self::Unknown => "unknown",
        }
    }
}

/// When something happens: at an instant, or on a plain date, which is the same in every time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When {
    /// The start or the end of the date in the time zone of its source.
    pub at: DateTime<Utc>,
    pub day: Option<NaiveDate>,
}

impl From<DateTime<Utc>> for When {
    fn from(at: DateTime<Utc>) -> Self {
        Self { at, day: None }
    }
}

string_enum! {
    ExpiryOrigin {
        Source = "source",
        /// Computed from what the source reported.
        Computed = "computed",
        /// Set by our own policy (`policy_ttl`).
        Policy = "policy",
    }
}

string_enum! {
    #[derive(Default)]
    Status {
        #[default]
        Active = "active",
        Expired = "expired",
        Disabled = "disabled",
        Revoked = "revoked",
        /// It left a complete listing before its expiry.
        Gone = "gone",
    }
}

/// The cells of a record that cannot be read, by the names of their columns, and why.
pub type Unreadable = BTreeMap<String, String>;

/// The columns whose unreadable cells have consequences.
pub mod column {
    pub const CREATED_AT: &str = "created_at";
    pub const EXPIRES_AT: &str = "expires_at";
    pub const ISSUER: &str = "issuer_email";
    pub const ISSUER_GONE: &str = "issuer_gone";
    pub const LAST_USED_AT: &str = "last_used_at";
    pub const STATUS: &str = "status";
}

/// A token as it is stored. It never contains the secret.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Token {
    /// Derived from the external id and the name of the source when it was first seen, unless another token has that.
    pub id: TokenId,
    pub source: String,
    pub external_id: String,
    pub name: String,
    pub description: Option<String>,
    pub issuer: Option<Address>,
    /// The other owners, in order; none without an issuer.
    pub co_owners: Vec<Address>,
    pub issuer_name: Option<String>,
    /// The evidence that the issuer no longer exists at the source, if there is any.
    pub issuer_gone: Option<String>,
    pub account: Option<String>,
    pub role: Option<String>,
    pub scope: Option<String>,
    pub created_at: Option<DateTime<Utc>>,
    pub expiry: Expiry,
    /// The plain date that the source wrote as the expiry.
    pub expiry_day: Option<NaiveDate>,
    /// `None` for an unknown expiry.
    pub expiry_origin: Option<ExpiryOrigin>,
    /// Whether our policy set the expiry because the source reports none: neither a date nor that it never expires.
    pub is_expiry_unreported: bool,
    /// The number of its current secret; 1 if the source does not count secrets. A new secret with an unchanged
    /// expiry has notices of its own.
    pub secret_version: u32,
    /// As stored; use [`Token::status_at`].
    pub status: Status,
    /// When it was last used, as the source reports.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Whether the source reports the use of its tokens: only then, a token without a last use was never used.
    pub reports_use: bool,
    pub first_seen_at: DateTime<Utc>,
    /// Start of its life: `created_at`, or when lapsed saw the source's expiry change.
    pub life_from: Option<DateTime<Utc>>,
    /// The tightest step whose notices were planned for the current expiry.
    pub planned_step: Option<Step>,
    /// See [`Policy::due_at`](super::Policy::due_at).
    pub due_at: Option<DateTime<Utc>>,
    /// When it must be judged next, because its findings may have changed.
    pub judge_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// Since when it is missing in the complete listings of its source; `None` while it is listed.
    pub unlisted_since: Option<DateTime<Utc>>,
    /// What its source says of it now and lapsed cannot read: the last known values are kept.
    pub unreadable: Unreadable,
}

impl Token {
    /// Whether lapsed itself issued it. One that was imported under such an id has no credential.
    pub fn is_of_service(&self) -> bool {
        self.source == LOCAL_SOURCE && PublicId::parse(&self.external_id).is_some()
    }

    /// The issuer and the other owners.
    pub fn owners(&self) -> impl Iterator<Item = &Address> {
        self.issuer.iter().chain(&self.co_owners)
    }

    /// Whether the source lists owners of it who cannot be read.
    pub fn has_unreadable_owners(&self) -> bool {
        self.unreadable.contains_key(column::ISSUER)
    }

    /// The status at `now`, whether or not the expiry is marked yet. By an expiry that its source has since made
    /// unreadable, no token expires: it may be renewed.
    pub fn status_at(&self, now: DateTime<Utc>) -> Status {
        match (self.status, self.expiry) {
            (Status::Expired, Expiry::At(at)) if at <= now => Status::Expired,
            (Status::Active, Expiry::At(at)) if at <= now && !self.has_outdated_expiry() => {
                Status::Expired
            }
            (Status::Active | Status::Expired, _) => Status::Active,
            (Status::Disabled | Status::Revoked | Status::Gone, _) => self.status,
        }
    }

    /// Whether the source has another expiry now, which cannot be read.
    pub fn has_outdated_expiry(&self) -> bool {
        self.unreadable.contains_key(column::EXPIRES_AT)
    }

    /// The expiry without what our policy set.
    pub fn reported_expiry(&self) -> Expiry {
        match self.expiry_origin {
            Some(ExpiryOrigin::Policy) if self.is_expiry_unreported => Expiry::Unknown,
            Some(ExpiryOrigin::Policy) => Expiry::Never,
            _ => self.expiry,
        }
    }

    /// Whether it has expired and is not marked as expired yet.
    pub fn needs_expiry_mark(&self, now: DateTime<Utc>) -> bool {
        self.status == Status::Active && self.status_at(now) == Status::Expired
    }

    pub fn expires(&self) -> Option<When> {
        let day = self.expiry_day;
        self.expiry.at().map(|at| When { at, day })
    }

    /// The generation of the notices about its expiry.
    pub fn generation(&self) -> Option<Generation> {
        let secret_version = self.secret_version;
        let at = self.expiry.at()?;
        Some(Generation { at, secret_version })
    }

    /// The name, or the external id if there is none.
    pub fn label(&self) -> &str {
        if self.name.trim().is_empty() {
            &self.external_id
        } else {
            &self.name
        }
    }
}

/// Which expiry or event a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation {
    /// For an expiry, the instant of expiry; for other topics, when the event occurred.
    pub at: DateTime<Utc>,
    /// For an expiry, [`Token::secret_version`]; 1 for other topics.
    pub secret_version: u32,
}

impl From<DateTime<Utc>> for Generation {
    fn from(at: DateTime<Utc>) -> Self {
        Self {
            at,
            secret_version: 1,
        }
    }
}

/// A cell of a listing: a missing column keeps the known value, an empty cell clears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Cell<T> {
    /// The listing does not have this column.
    #[default]
    Absent,
    Empty,
    Value(T),
}

impl<T> From<Option<T>> for Cell<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Self::Value)
    }
}

impl<T> Cell<T> {
    pub fn into_option(self) -> Option<T> {
        self.or_known(None)
    }

    /// The value of the cell; the known value if the column is missing.
    pub fn or_known(self, known: Option<T>) -> Option<T> {
        match self {
            Self::Absent => known,
            Self::Empty => None,
            Self::Value(value) => Some(value),
        }
    }
}

/// One token as a source lists it, validated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedToken {
    pub external_id: String,
    pub name: Cell<String>,
    pub description: Cell<String>,
    pub issuer: Cell<Address>,
    /// The owners that are listed after the issuer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub co_owners: Vec<Address>,
    pub issuer_name: Cell<String>,
    /// The issuer's id at the source, for a list of owners; not stored.
    pub issuer_id: Option<String>,
    /// Other names of the issuer at the source, such as a login name; not stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub issuer_names: Vec<String>,
    /// The evidence that the issuer no longer exists at the source; empty if they exist.
    pub issuer_gone: Cell<String>,
    pub account: Cell<String>,
    pub role: Cell<String>,
    pub scope: Cell<String>,
    pub created_at: Cell<DateTime<Utc>>,
    /// Column `expires_at`; an empty cell is [`Expiry::Unknown`], never [`Cell::Empty`].
    pub expiry: Cell<Expiry>,
    /// The plain date that the source wrote as the expiry. So mails can show this day in every time zone; `expiry` has
    /// its start or end in the time zone of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_day: Option<NaiveDate>,
    /// Whether the expiry was computed, not reported by the source.
    pub is_computed: bool,
    pub last_used_at: Cell<DateTime<Utc>>,
    /// Active, disabled or revoked.
    pub status: Cell<Status>,
    /// The number of the token's current secret, from 1, if the source counts secrets.
    pub secret_version: Option<u32>,
    /// Cells that cannot be read. They are [`Cell::Absent`], except for a list of which a part can be read.
    #[serde(default, skip_serializing_if = "Unreadable::is_empty")]
    pub unreadable: Unreadable,
}

impl ListedToken {
    pub fn with_id(external_id: impl Into<String>) -> Self {
        Self {
            external_id: external_id.into(),
            ..Self::default()
        }
    }

    /// Whether the source reports a status, even if it cannot be read.
    pub fn has_status(&self) -> bool {
        self.status != Cell::Absent || self.unreadable.contains_key(column::STATUS)
    }

    /// The columns that it has, and whether each has a value.
    pub fn columns(&self) -> impl Iterator<Item = (&'static str, bool)> {
        fn has_value<T>(cell: &Cell<T>) -> Option<bool> {
            match cell {
                Cell::Absent => None,
                Cell::Empty => Some(false),
                Cell::Value(_) => Some(true),
            }
        }
        fn has_text(cell: &Cell<String>) -> Option<bool> {
            Some(has_value(cell)? && !matches!(cell, Cell::Value(text) if text.is_empty()))
        }
        let has_expiry =
            has_value(&self.expiry).map(|_| self.expiry != Cell::Value(Expiry::Unknown));
        let columns = [
            ("name", has_text(&self.name)),
            (column::ISSUER, has_value(&self.issuer)),
            (column::EXPIRES_AT, has_expiry),
            ("description", has_text(&self.description)),
            ("account", has_text(&self.account)),
            ("role", has_text(&self.role)),
            ("scope", has_text(&self.scope)),
            (column::CREATED_AT, has_value(&self.created_at)),
            (column::LAST_USED_AT, has_value(&self.last_used_at)),
            ("issuer_name", has_text(&self.issuer_name)),
            (column::STATUS, has_value(&self.status)),
        ];
        columns
            .into_iter()
            .filter_map(|(name, has_value)| Some((name, has_value?)))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// The first digits of an id, without dashes.
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
