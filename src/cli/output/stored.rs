//! Converts rows of the store to rows of the output.

use std::str::FromStr;

use super::rows::{FindingRow, IdentityRow, NoticeRow, TokenRow};
use super::when::Instant;
use crate::domain::{NoticeState, Step, TokenId, checked_suffix};
use crate::store::{self, Error, TokenView};
use chrono::{DateTime, Utc};

impl TokenRow {
    /// # Errors
    /// If the store holds a value that no version of lapsed writes.
    pub fn from_view(view: &TokenView, now: DateTime<Utc>) -> store::Result<Self> {
        Ok(Self::new(&view.token, view.findings.clone(), now))
    }
}

impl NoticeRow {
    /// `domain` is the domain of `[notify] from`, which Message-IDs end with.
    ///
    /// # Errors
    /// As [`TokenRow::from_view`].
    pub fn from_stored(row: &store::NoticeRow, domain: &str) -> store::Result<Self> {
        let state = row.state;
        Ok(Self {
            id: row.id,
            token_id: row.token_id.map(TokenId),
            token_name: row.token_name.clone(),
            topic: row.topic.clone(),
            step: row.step.map(Step::from_seconds),
            recipient: parse_stored(&row.recipient)?,
            channel: "mail".to_owned(),
            state,
            send_at: Instant(row.send_at),
            planned_at: Instant(row.planned_at),
            sent_at: row.sent_at.map(Instant),
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            message_id: message_id(row, state, domain),
            reason: row.reason.clone(),
        })
    }
}

/// The Message-ID of the mail with which the notice was tried. A cancelled or suppressed notice was
/// removed from its mail before.
fn message_id(row: &store::NoticeRow, state: NoticeState, domain: &str) -> Option<String> {
    let was_tried = match state {
        NoticeState::Sending | NoticeState::Sent | NoticeState::Unknown | NoticeState::Failed => {
            true
        }
        NoticeState::Planned => row.attempts > 0,
        NoticeState::Cancelled | NoticeState::Suppressed => false,
    };
    let mail = row.mail_id.filter(|_| was_tried)?;
    Some(format!("<lapsed.{}@{domain}>", mail.simple()))
}

impl FindingRow {
    /// # Errors
    /// As [`TokenRow::from_view`].
    pub fn from_stored(row: store::FindingRow) -> store::Result<Self> {
        Ok(Self {
            id: row.id,
            token_id: row.token_id.map(TokenId),
            token_name: row.token_name,
            kind: row.kind,
            severity: row.severity,
            since: Instant(row.since),
            evidence: row.evidence,
            state: row.state,
            revoke_at: row.revoke_at.map(Instant),
        })
    }
}

impl IdentityRow {
    /// If the status is unknown, evidence and time are those of the last clear statement.
    ///
    /// # Errors
    /// As [`TokenRow::from_view`].
    pub fn from_stored(row: &store::IdentityRow, tokens: i64) -> store::Result<Self> {
        let candidate = row.candidate.as_deref().map(parse_stored).transpose()?;
        Ok(Self {
            email: parse_stored(&row.email)?,
            directory: row.directory.clone(),
            status: row.status,
            reason: row.reason.as_deref().map(parse_stored).transpose()?,
            evidence: Some(row.evidence.clone())
                .filter(|evidence| !evidence.is_empty())
                .map(|evidence| evidence + checked_suffix(row.checked_by_id)),
            observed_at: row.observed_at.map(Instant),
            since: row.since.map(Instant),
            tokens: u64::try_from(tokens).unwrap_or_default(),
            known_status: row.known_status,
            candidate,
            candidate_since: row.candidate_since.map(Instant),
            candidate_evidence: row.candidate_evidence.clone(),
        })
    }
}

/// Parses a stored value. The error does not show it, because it may be an address.
fn parse_stored<T: FromStr>(text: &str) -> store::Result<T> {
    let kind = std::any::type_name::<T>()
        .rsplit("::")
        .next()
        .unwrap_or_default();
    text.parse()
        .map_err(|_| Error::Inconsistent(format!("a row holds no {kind} where there must be one")))
}
