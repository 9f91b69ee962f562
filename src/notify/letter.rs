//! A letter: everything one mail says to one recipient, in domain values, before it is rendered.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

use uuid::Uuid;

use crate::domain::{Address, FindingKind, Ground, Severity, Step, Token, Topic};

/// All that is due to one recipient at one time.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The local part of the Message-ID, stable over every attempt: `mail id` in plain digits.
    pub reference: String,
    /// Who gets it.
    pub to: Address,
    /// His zone.
    pub zone: Tz,
    /// When this attempt is made; times left count from here.
    pub now: DateTime<Utc>,
    /// What it says, most urgent first. Never empty.
    pub entries: Vec<Entry>,
    /// Tokens that are not among the entries because they are too many, by source and day.
    pub rest: Vec<Rest>,
    /// Addresses that could not be reached, and what their server said; told in passing.
    pub unreachable: Vec<Unreachable>,
}

impl Letter {
    /// Which mail it becomes.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.entries.as_slice() {
            [Entry::Expiry(entry)] if entry.is_past(self.now) => Kind::Expired,
            [Entry::Expiry(_)] => Kind::Expiring,
            [Entry::Ended(_)] => Kind::Revoked,
            [Entry::Alert(_)] => Kind::Alert,
            [Entry::Summary(_)] => Kind::Summary,
            entries if entries.iter().all(|e| matches!(e, Entry::Revoked(_))) => {
                Kind::RevokedAccess
            }
            _ => Kind::Digest,
        }
    }

    /// How many alerts it holds.
    #[must_use]
    pub fn alerts(&self) -> usize {
        let is_alert = |entry: &&Entry| matches!(entry, Entry::Alert(_));
        self.entries.iter().filter(is_alert).count()
    }

    /// The summary of what is open, if it holds one.
    #[must_use]
    pub fn summary(&self) -> Option<&SummaryEntry> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Summary(summary) => Some(summary),
            Entry::Expiry(_) | Entry::Revoked(_) | Entry::Ended(_) | Entry::Alert(_) => None,
        })
    }
}

/// The mails there are; each is a folder of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One token comes to its expiry.
    Expiring,
    /// One token has passed it.
    Expired,
    /// Several things in one mail.
    Digest,
    /// Tokens that outlive their issuers' access, and nothing else.
    RevokedAccess,
    /// One token was ended at its source.
    Revoked,
    /// Something about lapsed itself.
    Alert,
    /// All that is wrong with tokens and sources.
    Summary,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 7] = [
        Self::Expiring,
        Self::Expired,
        Self::Digest,
        Self::RevokedAccess,
        Self::Revoked,
        Self::Alert,
        Self::Summary,
    ];

    /// The name of its folder.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Digest => "digest",
            Self::RevokedAccess => "revoked_access",
            Self::Revoked => "revoked",
            Self::Alert => "alert",
            Self::Summary => "summary",
        }
    }
}

/// One thing a letter says.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A token comes to its expiry, or has passed it.
    Expiry(ExpiryEntry),
    /// A token's issuer lost access while the token still works.
    Revoked(RevokedEntry),
    /// A token was ended at its source, through lapsed.
    Ended(EndedEntry),
    /// Something about lapsed itself.
    Alert(AlertEntry),
    /// All that is wrong with tokens and sources.
    Summary(SummaryEntry),
}

/// A warning about one token. Whether it reads as `expiring` or `expired` follows from the token's
/// expiry and the letter's `now`, not from the step: a warning that an outage delayed past the
/// expiry says so.
#[derive(Debug, Clone)]
pub struct ExpiryEntry {
    /// The token.
    pub token: Token,
    /// The step that made it due; [`Step::ZERO`] is "at expiry".
    pub step: Step,
    /// Why this person gets it.
    pub ground: Ground,
    /// When the warning was due; with an expired token and a step above zero, this is why it is late.
    pub due_at: DateTime<Utc>,
    /// Why the issuer himself is not told, where he is not: "mail to ada@example.org is refused",
    /// "the token has no issuer", "the issuer lost access on 12 Nov 2026".
    pub instead_of_issuer: Option<String>,
    /// The page of its source where people see to it.
    pub page: Option<String>,
}

impl ExpiryEntry {
    /// Whether the expiry lies behind.
    #[must_use]
    pub fn is_past(&self, now: DateTime<Utc>) -> bool {
        self.token.expiry.at().is_some_and(|at| at <= now)
    }

    /// Whether it is a warning that comes after the expiry it should have warned of.
    #[must_use]
    pub fn is_late(&self, now: DateTime<Utc>) -> bool {
        self.is_past(now) && self.step > Step::ZERO
    }
}

/// A token whose issuer lost access.
#[derive(Debug, Clone)]
pub struct RevokedEntry {
    /// The token.
    pub token: Token,
    /// In words: what the directory said and when.
    pub evidence: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The finding, and when lapsed ends the token for it, where it does.
    pub end: Option<(Uuid, DateTime<Utc>)>,
    /// Why this person gets it.
    pub ground: Ground,
    /// The page of its source where people see to it.
    pub page: Option<String>,
}

/// A token that was ended at its source.
#[derive(Debug, Clone)]
pub struct EndedEntry {
    /// The token.
    pub token: Token,
    /// Who ended it.
    pub by: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Why, in his words.
    pub reason: Option<String>,
    /// Why this person gets it.
    pub ground: Ground,
    /// The page of its source where people see to tokens.
    pub page: Option<String>,
}

/// Something about lapsed itself that needs a hand.
#[derive(Debug, Clone)]
pub struct AlertEntry {
    /// What happened, as a subject line: `1,204 mails are held`.
    pub title: String,
    /// What it means and what to do; paragraphs parted by blank lines, commands indented by four
    /// spaces.
    pub text: String,
}

/// All that is open.
#[derive(Debug, Clone, Default)]
pub struct SummaryEntry {
    /// By kind and source.
    pub counts: Vec<OpenCount>,
    /// The most urgent ones, the worst first.
    pub findings: Vec<OpenFinding>,
}

/// How many findings of a kind are open at a source.
#[derive(Debug, Clone)]
pub struct OpenCount {
    /// What is wrong.
    pub kind: FindingKind,
    /// The source.
    pub source: String,
    /// How many.
    pub count: i64,
}

/// One finding that is open.
#[derive(Debug, Clone)]
pub struct OpenFinding {
    /// Its id.
    pub id: Uuid,
    /// What is wrong.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// The source.
    pub source: String,
    /// What people call the token; the name of the source where it is about that.
    pub name: String,
    /// Since when it holds.
    pub since: DateTime<Utc>,
    /// In words.
    pub evidence: String,
}

/// Tokens of one source and day that a letter only counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Why they are there.
    pub topic: Topic,
    /// The source.
    pub source: String,
    /// The day they expire on, in UTC; `None` where they do not.
    pub day: Option<NaiveDate>,
    /// How many tokens.
    pub count: usize,
}

impl Rest {
    /// The last moment of its day.
    #[must_use]
    pub fn at(&self) -> Option<DateTime<Utc>> {
        let next = self.day?.succ_opt()?.and_time(NaiveTime::MIN).and_utc();
        Some(next - TimeDelta::seconds(1))
    }
}

/// An address that cannot be reached.
#[derive(Debug, Clone)]
pub struct Unreachable {
    /// The address.
    pub address: Address,
    /// What was said of it.
    pub reason: String,
}
