//! Rows of the store as the rows that are printed.

use std::str::FromStr;

use super::{
    rows::{FindingRow, IdentityRow, NoticeRow, TokenRow},
    when::Instant,
};
use crate::domain::{FindingKind, NoticeState, Step, TokenId};
use crate::store::{self, Error, TokenView};
use chrono::{DateTime, Utc};

impl TokenRow {
    /// A token as a listing shows it.
    ///
    /// # Errors
    /// When the store holds a word that no version of lapsed writes.
    pub fn listed(view: &TokenView, now: DateTime<Utc>) -> store::Result<Self> {
        let kinds = view.findings.iter().map(|kind| word::<FindingKind>(kind));
        Ok(Self::new(
            &view.token,
            kinds.collect::<Result<_, _>>()?,
            now,
        ))
    }
}

impl NoticeRow {
    /// A notice; `domain` is that of `[notify] from`, which Message-IDs end in.
    ///
    /// # Errors
    /// As [`TokenRow::listed`].
    pub fn stored(row: &store::NoticeRow, domain: &str) -> store::Result<Self> {
        let state = word(&row.state)?;
        Ok(Self {
            id: row.id,
            token_id: row.token_id.map(TokenId),
            token_name: row.token_name.clone(),
            topic: row.topic.clone(),
            step: row.step.map(Step::from_seconds),
            recipient: word(&row.recipient)?,
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

/// The Message-ID under which the notice was tried, if it was. One that was taken out of its mail
/// did not travel with it.
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
    /// A finding.
    ///
    /// # Errors
    /// As [`TokenRow::listed`].
    pub fn stored(row: store::FindingRow) -> store::Result<Self> {
        Ok(Self {
            id: row.id,
            token_id: row.token_id.map(TokenId),
            token_name: row.token_name,
            kind: word(&row.kind)?,
            severity: word(&row.severity)?,
            since: Instant(row.since),
            evidence: row.evidence,
            state: word(&row.state)?,
            revoke_at: row.revoke_at.map(Instant),
        })
    }
}

impl IdentityRow {
    /// A person's status; where it is not known, evidence and time are those of the last clear statement.
    ///
    /// # Errors
    /// As [`TokenRow::listed`].
    pub fn stored(row: &store::IdentityRow, tokens: i64) -> store::Result<Self> {
        let candidate = row.candidate.as_deref().map(word).transpose()?;
        Ok(Self {
            email: word(&row.email)?,
            directory: row.directory.clone(),
            status: row.status,
            reason: row.reason.clone(),
            evidence: Some(row.evidence.clone()).filter(|evidence| !evidence.is_empty()),
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

/// A word of the store as the value it stands for. It is not shown: it might be an address.
fn word<T: FromStr>(text: &str) -> store::Result<T> {
    let kind = std::any::type_name::<T>()
        .rsplit("::")
        .next()
        .unwrap_or_default();
    text.parse()
        .map_err(|_| Error::Inconsistent(format!("a row holds no {kind} where there must be one")))
}
