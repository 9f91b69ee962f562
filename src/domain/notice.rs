//! A notice: one piece of information for one recipient about one subject.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::string_enum::string_enum;
use super::token::derived_id;
use super::{Address, Channel, Generation, Step, Token, TokenId};

string_enum! {
    Topic {
        /// A token that expires soon, or has expired.
        Expiry = "expiry",
        /// The issuer lost access at a directory.
        SsoRevoked = "sso_revoked",
        /// The token was revoked at its source, through lapsed.
        Revoked = "revoked",
        /// The secret that a regeneration replaced is still used, and ends soon.
        OldSecret = "old_secret",
        /// The address of another recipient does not work. Sent with the next mail to the fallback recipient.
        Unreachable = "unreachable",
        /// The regular summary of all findings.
        Summary = "summary",
        /// lapsed itself needs an administrator.
        Alert = "alert",
    }
}

string_enum! {
    NoticeState {
        Planned = "planned",
        Sending = "sending",
        Sent = "sent",
        /// The connection ended before the mail server accepted or rejected it.
        Unknown = "unknown",
        Failed = "failed",
        /// It no longer applies, for example because the token was renewed.
        Cancelled = "cancelled",
        /// Covered by another notice; no mail of its own is sent.
        Suppressed = "suppressed",
    }
}

string_enum! {
    /// The role in which a person is a recipient.
    Basis {
        /// One of the owners of the token.
        Issuer = "issuer",
        AccountAdmin = "account_admin",
        Admin = "admin",
    }
}

/// A person who is to be notified, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub address: Address,
    pub basis: Basis,
}

/// What distinguishes notices to the same recipient about the same subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occurrence {
    pub topic: Topic,
    pub generation: Generation,
    pub step: Option<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewNotice {
    /// Derived from the subject, the occurrence and the recipient, so that the primary key prevents duplicates.
    pub id: Uuid,
    pub token_id: Option<TokenId>,
    /// The subject, if it is not a token: the name of a directory, an address.
    pub subject: Option<String>,
    pub generation: Generation,
    pub topic: Topic,
    pub step: Option<Step>,
    pub recipient: Address,
    pub basis: Basis,
    /// When it should be sent; it may be sent earlier together with another.
    pub send_at: DateTime<Utc>,
    /// For an alert, the subject line; for a revoked token, who revoked it.
    pub title: Option<String>,
    /// For an alert, the text; for a revoked token, the reason; for an unreachable address, the server's reply.
    pub detail: Option<String>,
}

impl NewNotice {
    pub fn for_token(
        token: &Token,
        occurrence: Occurrence,
        recipient: &Recipient,
        send_at: DateTime<Utc>,
    ) -> Self {
        Self {
            token_id: Some(token.id),
            ..Self::new(&token.id.to_string(), occurrence, recipient, send_at)
        }
    }

    /// A notice about a subject that is not a token.
    pub fn for_subject(
        subject: &str,
        occurrence: Occurrence,
        recipient: &Recipient,
        send_at: DateTime<Utc>,
    ) -> Self {
        Self {
            subject: Some(subject.to_owned()),
            ..Self::new(subject, occurrence, recipient, send_at)
        }
    }

    /// The same in the recipient's account at the token service.
    pub fn in_account(&self) -> Self {
        let token = self.token_id.map(|id| id.to_string());
        let subject_key = token.or_else(|| self.subject.clone()).unwrap_or_default();
        let occurrence = Occurrence {
            topic: self.topic,
            generation: self.generation,
            step: self.step,
        };
        Self {
            id: notice_id(&subject_key, occurrence, Channel::Account, &self.recipient),
            ..self.clone()
        }
    }

    fn new(
        subject_key: &str,
        occurrence: Occurrence,
        recipient: &Recipient,
        send_at: DateTime<Utc>,
    ) -> Self {
        let Occurrence {
            topic,
            generation,
            step,
        } = occurrence;
        Self {
            id: notice_id(subject_key, occurrence, Channel::Mail, &recipient.address),
            token_id: None,
            subject: None,
            generation,
            topic,
            step,
            recipient: recipient.address.clone(),
            basis: recipient.basis,
            send_at,
            title: None,
            detail: None,
        }
    }
}

/// A change of any part would change the ids of all notices.
fn notice_id(
    subject_key: &str,
    occurrence: Occurrence,
    channel: Channel,
    recipient: &Address,
) -> Uuid {
    let Occurrence {
        topic,
        generation,
        step,
    } = occurrence;
    let micros = generation.at.timestamp_micros();
    let generation_key = format!("{micros} {}", generation.secret_version);
    let step_key = step.map(|step| step.to_string()).unwrap_or_default();
    derived_id(&[
        "notice",
        subject_key,
        &generation_key,
        topic.as_str(),
        &step_key,
        channel.as_str(),
        recipient.key(),
    ])
}

/// Attempts to send a mail since the process started, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MailCounts {
    pub sent: u64,
    /// A 4xx reply, or the connection broke.
    pub deferred: u64,
    /// Rejected because of the recipient or the content.
    pub refused: u64,
    /// The server may have accepted the mail, but did not reply.
    pub unknown: u64,
    /// Not tried further because the server rejected every mail.
    pub server_fault: u64,
}
