//! The content of one mail to one recipient, as domain values, before it is rendered.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use secrecy::SecretString;
use uuid::Uuid;

use crate::domain::{Address, Basis, FindingKind, Severity, Step, Token, Topic, When, string_enum};

/// Everything that is due to one recipient at one time.
#[derive(Debug, Clone)]
pub struct Letter {
    /// The id of the mail in plain digits; part of the Message-ID, so it is the same for every attempt.
    pub reference: String,
    pub to: Address,
    pub zone: Tz,
    /// What the recipient prefers, as a tag; `None` is as configured.
    pub language: Option<String>,
    /// The time of this attempt; relative times count from here.
    pub now: DateTime<Utc>,
    /// Most urgent first; never empty.
    pub entries: Vec<Entry>,
    /// Tokens beyond the limit of entries, counted by source and day.
    pub unlisted: Vec<UnlistedTokens>,
    /// Addresses that could not be reached, shown in every mail.
    pub unreachable: Vec<Unreachable>,
}

impl Letter {
    /// Decides which templates are used.
    pub fn kind(&self) -> Kind {
        match self.entries.as_slice() {
            [Entry::Expiry(entry)] if entry.is_past(self.now) => Kind::Expired,
            [Entry::Expiry(_)] => Kind::Expiring,
            [Entry::Ended(_)] => Kind::Revoked,
            [Entry::OldSecret(_)] => Kind::OldSecret,
            [Entry::Alert(_)] => Kind::Alert,
            [Entry::Summary(_)] => Kind::Summary,
            [Entry::Test] => Kind::Test,
            [Entry::SignIn(_)] => Kind::SignIn,
            entries
                if entries
                    .iter()
                    .all(|entry| matches!(entry, Entry::Revoked(_))) =>
            {
                Kind::RevokedAccess
            }
            _ => Kind::Digest,
        }
    }

    /// The token, if the letter is about one only.
    pub fn only_token(&self) -> Option<&Token> {
        match self.entries.as_slice() {
            [entry] => entry.token(),
            _ => None,
        }
    }

    pub fn alerts(&self) -> impl Iterator<Item = &AlertEntry> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Alert(alert) => Some(alert),
            Entry::OldSecret(entry) => Some(&entry.alert),
            _ => None,
        })
    }

    pub fn summary(&self) -> Option<&SummaryEntry> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Summary(summary) => Some(summary),
            _ => None,
        })
    }

    pub fn count_unlisted(&self) -> usize {
        self.unlisted.iter().map(|tokens| tokens.count).sum()
    }
}

string_enum! {
    /// Each kind of mail is a folder of templates.
    Kind {
        Expiring = "expiring",
        Expired = "expired",
        Digest = "digest",
        /// Only tokens of people who lost access.
        RevokedAccess = "revoked_access",
        Revoked = "revoked",
        OldSecret = "old_secret",
        /// A problem of lapsed itself.
        Alert = "alert",
        Summary = "summary",
        /// Sent by an operator, to see whether mails arrive.
        Test = "test",
        /// A link that signs in to the portal.
        SignIn = "sign_in",
    }
}

#[derive(Debug, Clone)]
pub enum Entry {
    Expiry(ExpiryEntry),
    /// A token's issuer lost access while the token still works.
    Revoked(RevokedEntry),
    /// A token was revoked at its source through lapsed.
    Ended(EndedEntry),
    /// The old secret of a token is still used, and ends soon.
    OldSecret(OldSecretEntry),
    Alert(AlertEntry),
    Summary(SummaryEntry),
    Test,
    SignIn(SignInEntry),
}

/// A link that signs its recipient in.
#[derive(Debug, Clone)]
pub struct SignInEntry {
    pub link: SecretString,
    pub until: DateTime<Utc>,
}

impl Entry {
    pub fn token(&self) -> Option<&Token> {
        match self {
            Self::Expiry(entry) => Some(&entry.token),
            Self::Revoked(entry) => Some(&entry.token),
            Self::Ended(entry) => Some(&entry.token),
            Self::OldSecret(entry) => Some(&entry.token),
            Self::Alert(_) | Self::Summary(_) | Self::Test | Self::SignIn(_) => None,
        }
    }

    pub fn basis(&self) -> Basis {
        match self {
            Self::Expiry(entry) => entry.basis,
            Self::Revoked(entry) => entry.basis,
            Self::Ended(entry) => entry.basis,
            Self::OldSecret(entry) => entry.basis,
            Self::Alert(_) | Self::Summary(_) | Self::Test | Self::SignIn(_) => Basis::Admin,
        }
    }

    /// The token's page at its source.
    pub fn page(&self) -> Option<&str> {
        match self {
            Self::Expiry(entry) => entry.page.as_deref(),
            Self::Revoked(entry) => entry.page.as_deref(),
            Self::Ended(entry) => entry.page.as_deref(),
            Self::OldSecret(entry) => entry.page.as_deref(),
            Self::Alert(_) | Self::Summary(_) | Self::Test | Self::SignIn(_) => None,
        }
    }
}

/// A warning about one token. The expiry and the letter's `now` decide between `expiring` and `expired`,
/// not the step: an outage can delay a warning past the expiry.
#[derive(Debug, Clone)]
pub struct ExpiryEntry {
    pub token: Token,
    /// How long before the expiry it is due; [`Step::ZERO`] means at the expiry.
    pub step: Step,
    pub basis: Basis,
    pub due_at: DateTime<Utc>,
    /// Why neither the issuer nor another owner gets the mail; empty if one does.
    pub instead_of_issuer: Vec<OwnerGap>,
    /// Its page at the source.
    pub page: Option<String>,
    /// What still uses it.
    pub still_used: Option<Callers>,
}

/// Why an owner of a token does not get a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnerGap {
    /// The source names an issuer that could not be read; with the reason.
    Unreadable(String),
    NoIssuer,
    LostAccess {
        owner: Address,
        evidence: Option<String>,
    },
    /// Their mail server refuses the mailbox.
    Refused {
        owner: Address,
        reply: String,
    },
}

/// What still uses an expired token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callers {
    /// In the last 24 hours.
    pub calls: i64,
    pub addresses: Vec<IpAddr>,
}

impl ExpiryEntry {
    pub fn is_past(&self, now: DateTime<Utc>) -> bool {
        self.token.expiry.at().is_some_and(|at| at <= now)
    }

    /// Whether the warning comes only after the expiry.
    pub fn is_late(&self, now: DateTime<Utc>) -> bool {
        self.is_past(now) && self.step > Step::ZERO
    }
}

#[derive(Debug, Clone)]
pub struct RevokedEntry {
    pub token: Token,
    /// What the directory reported and when.
    pub evidence: String,
    pub since: DateTime<Utc>,
    /// The finding for which lapsed revokes the token, and when; `None` if it does not.
    pub end: Option<(Uuid, DateTime<Utc>)>,
    pub basis: Basis,
    /// Its page at the source.
    pub page: Option<String>,
}

#[derive(Debug, Clone)]
pub struct EndedEntry {
    pub token: Token,
    pub by: String,
    pub at: DateTime<Utc>,
    pub reason: Option<String>,
    pub basis: Basis,
    /// Its page at the source.
    pub page: Option<String>,
}

#[derive(Debug, Clone)]
pub struct OldSecretEntry {
    pub token: Token,
    pub ends_at: DateTime<Utc>,
    /// Where the token was used from last, with any of its secrets.
    pub addresses: Vec<IpAddr>,
    pub basis: Basis,
    /// The page of the token.
    pub page: Option<String>,
    /// The same for a mail about several things.
    pub alert: AlertEntry,
}

/// A problem of lapsed itself that needs an administrator.
#[derive(Debug, Clone)]
pub struct AlertEntry {
    /// The subject: `1,204 mails are held`.
    pub title: String,
    /// What it means and what to do. Blank lines separate paragraphs; commands are indented by four spaces.
    pub text: String,
}

#[derive(Debug, Clone, Default)]
pub struct SummaryEntry {
    pub counts: Vec<OpenCount>,
    /// The most urgent ones, most severe first.
    pub findings: Vec<OpenFinding>,
}

#[derive(Debug, Clone)]
pub struct OpenCount {
    pub kind: FindingKind,
    pub source: String,
    pub count: i64,
}

#[derive(Debug, Clone)]
pub struct OpenFinding {
    pub id: Uuid,
    pub kind: FindingKind,
    pub severity: Severity,
    pub source: String,
    /// The name of the token, or of the source if the finding is about the source.
    pub name: String,
    pub since: DateTime<Utc>,
    pub evidence: String,
    pub issuer: Option<Address>,
    pub account: Option<String>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// Tokens of one source and day that a letter only counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlistedTokens {
    pub topic: Topic,
    pub source: String,
    /// The latest expiry on that day; `None` if they do not expire.
    pub latest: Option<When>,
    pub count: usize,
}

#[derive(Debug, Clone)]
pub struct Unreachable {
    pub address: Address,
    /// What its mail server replied to the last mail.
    pub reason: String,
}
