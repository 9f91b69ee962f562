//! A notice: one message owed to one recipient about one subject.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Address, Recipient, Step, Token, TokenId,
    token::{derived_id, words},
};

words! {
    /// What a notice is about.
    Topic {
        /// A token comes to its expiry, or has.
        Expiry = "expiry",
        /// The issuer lost access at the directory.
        SsoRevoked = "sso_revoked",
        /// Somebody ended the token at its source, through lapsed.
        Revoked = "revoked",
        /// An address on the chain cannot be reached; rides along in the recipient's next mail.
        Unreachable = "unreachable",
        /// All findings, once a week.
        Summary = "summary",
        /// Something about lapsed itself needs an administrator.
        Alert = "alert",
    }
}

words! {
    /// What has become of a notice.
    NoticeState {
        /// Owed; not yet sent.
        Planned = "planned",
        /// In the hands of a worker.
        Sending = "sending",
        /// The server took it.
        Sent = "sent",
        /// It may have been taken; the connection ended before the server said so.
        Unknown = "unknown",
        /// Given up.
        Failed = "failed",
        /// No longer owed.
        Cancelled = "cancelled",
        /// Owed, and settled without a mail of its own.
        Suppressed = "suppressed",
    }
}

words! {
    /// On what ground somebody is a recipient.
    Ground {
        /// He issued the token.
        Issuer = "issuer",
        /// He administers the account it belongs to.
        AccountAdmin = "account_admin",
        /// He is one of the configured administrators.
        Admin = "admin",
    }
}

/// The key of a notice. Two notices with one key are one notice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NoticeKey<'a> {
    /// The token's id, or the name of whatever else it is about.
    pub subject: &'a str,
    /// What tells this occurrence from the one before: for expiry the expiry instant.
    pub generation: DateTime<Utc>,
    /// What it is about.
    pub topic: Topic,
    /// For expiry, the step.
    pub step: Option<Step>,
    /// Who is owed it.
    pub recipient: &'a Address,
}

impl NoticeKey<'_> {
    /// The id: a hash of the key, so that the primary key is the guard against a second one.
    #[must_use]
    pub fn id(&self) -> Uuid {
        let generation = self.generation.timestamp_micros().to_string();
        let step = self.step.map(|step| step.to_string()).unwrap_or_default();
        derived_id(&[
            "notice",
            self.subject,
            &generation,
            self.topic.as_str(),
            &step,
            "mail",
            self.recipient.key(),
        ])
    }
}

/// A notice as planned, before it has any history.
#[derive(Debug, Clone, PartialEq)]
pub struct NewNotice {
    /// Hash of the key.
    pub id: Uuid,
    /// The token it is about, if it is about one.
    pub token_id: Option<TokenId>,
    /// What it is about where it is no token: a directory's name, an address.
    pub subject: Option<String>,
    /// See [`NoticeKey::generation`].
    pub generation: DateTime<Utc>,
    /// What it is about.
    pub topic: Topic,
    /// For expiry, the step.
    pub step: Option<Step>,
    /// Who is owed it.
    pub recipient: Address,
    /// Why he of all people.
    pub ground: Ground,
    /// When it should go; it may go earlier with another.
    pub send_at: DateTime<Utc>,
    /// For alerts, the subject line; for a revoked token, who ended it.
    pub title: Option<String>,
    /// For alerts, the text; for a revoked token, why; for an unreachable address, what was said of it.
    pub detail: Option<String>,
}

impl NewNotice {
    /// A notice to `recipient` about a token.
    #[must_use]
    pub fn about(
        token: &Token,
        occurrence: Occurrence,
        recipient: &Recipient,
        send_at: DateTime<Utc>,
    ) -> Self {
        let notice = Self::of(&token.id.to_string(), occurrence, recipient, send_at);
        Self {
            token_id: Some(token.id),
            ..notice
        }
    }

    /// A notice to `recipient` about something that is no token.
    #[must_use]
    pub fn about_subject(
        subject: &str,
        occurrence: Occurrence,
        recipient: &Recipient,
        send_at: DateTime<Utc>,
    ) -> Self {
        let notice = Self::of(subject, occurrence, recipient, send_at);
        Self {
            subject: Some(subject.to_owned()),
            ..notice
        }
    }

    fn of(
        subject: &str,
        occurrence: Occurrence,
        recipient: &Recipient,
        send_at: DateTime<Utc>,
    ) -> Self {
        let Occurrence {
            topic,
            generation,
            step,
        } = occurrence;
        let key = NoticeKey {
            subject,
            generation,
            topic,
            step,
            recipient: &recipient.address,
        };
        Self {
            id: key.id(),
            token_id: None,
            subject: None,
            generation,
            topic,
            step,
            recipient: recipient.address.clone(),
            ground: recipient.ground,
            send_at,
            title: None,
            detail: None,
        }
    }
}

/// What tells a notice from another to the same person about the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    /// What it is about.
    pub topic: Topic,
    /// For expiry the expiry instant, for the rest when it came up.
    pub generation: DateTime<Utc>,
    /// For expiry, the step.
    pub step: Option<Step>,
}
