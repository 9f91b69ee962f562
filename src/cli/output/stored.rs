//! Converts rows of the store to rows of the output.

use super::rows::{FindingRow, IdentityRow, NoticeRow, TokenRow};
use super::when::Instant;
use crate::domain::{NoticeState, Step, checked_suffix};
use crate::store::{self, TokenView};
use chrono::{DateTime, Utc};

impl TokenRow {
    #[must_use]
    pub fn from_view(view: &TokenView, now: DateTime<Utc>) -> Self {
        Self::new(&view.token, view.findings.clone(), now)
    }
}

impl NoticeRow {
    /// `domain` is the domain of `[notify] from`, which Message-IDs end with.
    #[must_use]
    pub fn from_stored(row: &store::NoticeRow, domain: &str) -> Self {
        Self {
            id: row.id,
            token_id: row.token_id,
            token_name: row.token_name.clone(),
            topic: row.topic.to_string(),
            step: row.step.map(Step::from_seconds),
            recipient: row.recipient.clone(),
            channel: "mail".to_owned(),
            state: row.state,
            send_at: Instant(row.send_at),
            planned_at: Instant(row.planned_at),
            sent_at: row.sent_at.map(Instant),
            attempts: row.attempts,
            message_id: message_id(row, domain),
            reason: row.reason.clone(),
        }
    }
}

/// The Message-ID of the mail with which the notice was tried. A cancelled or suppressed notice was
/// removed from its mail before.
fn message_id(row: &store::NoticeRow, domain: &str) -> Option<String> {
    let was_tried = match row.state {
        NoticeState::Sending | NoticeState::Sent | NoticeState::Unknown | NoticeState::Failed => {
            true
        }
        NoticeState::Planned => row.attempts > 0,
        NoticeState::Cancelled | NoticeState::Suppressed => false,
    };
    let mail = row.mail_id.filter(|_| was_tried)?;
    Some(format!("<lapsed.{}@{domain}>", mail.simple()))
}

impl From<store::FindingRow> for FindingRow {
    fn from(row: store::FindingRow) -> Self {
        Self {
            id: row.id,
            token_id: row.token_id,
            token_name: row.token_name,
            kind: row.kind,
            severity: row.severity,
            since: Instant(row.since),
            evidence: row.evidence,
            state: row.state,
            revoke_at: row.revoke_at.map(Instant),
        }
    }
}

impl IdentityRow {
    /// If the status is unknown, evidence and time are those of the last clear statement.
    #[must_use]
    pub fn from_stored(row: &store::IdentityRow, tokens: i64) -> Self {
        let identity = row.identity.clone();
        let evidence = Some(identity.evidence).filter(|evidence| !evidence.is_empty());
        Self {
            email: identity.email,
            directory: row.directory.clone(),
            status: identity.status,
            reason: identity.reason,
            evidence: evidence.map(|text| text + checked_suffix(identity.checked_by_id)),
            observed_at: identity.observed_at.map(Instant),
            since: identity.since.map(Instant),
            tokens: u64::try_from(tokens).unwrap_or_default(),
            known_status: identity.known_status,
            candidate: identity.candidate,
            candidate_since: identity.candidate_since.map(Instant),
            candidate_evidence: identity.candidate_evidence,
        }
    }
}
