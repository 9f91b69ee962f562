//! Decides what an attempt's outcome means for the mail, its recipient and the mail server. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::Backoff;
use crate::store::{ClaimedMail, Verdict};

/// A mail with this many unknown outcomes fails: it may have arrived as many times.
const MAX_UNKNOWN_ATTEMPTS: u32 = 5;

/// After this many faults in a row the mail server is not used until the next sweep.
const MAX_FAULTS_IN_A_ROW: u32 = 3;
/// From this many recipients on, the share of refusals shows whether the server or the addresses are to blame.
const MIN_RECIPIENTS_TO_JUDGE: u32 = 20;

#[derive(Debug, Clone, Copy)]
pub(super) struct RetryPolicy {
    pub backoff: Backoff,
    pub give_up: TimeDelta,
}

impl RetryPolicy {
    /// When to try a mail again that was not accepted, or that it failed.
    pub fn next_attempt(self, mail: &ClaimedMail, now: DateTime<Utc>) -> Verdict {
        let first = mail.first_tried_at.unwrap_or(now);
        if now - first >= self.give_up {
            Verdict::Failed
        } else {
            Verdict::Retry(now + self.backoff.delay_after(mail.attempts + 1, mail.id))
        }
    }
}

/// The verdict on a mail that the server may have accepted.
pub(super) fn verdict_if_unknown(
    mail: &ClaimedMail,
    backoff: Backoff,
    now: DateTime<Utc>,
) -> Verdict {
    if mail.unknowns + 1 >= MAX_UNKNOWN_ATTEMPTS {
        Verdict::Failed
    } else {
        Verdict::Unknown(now + backoff.delay_after(mail.unknowns + 1, mail.id))
    }
}

/// What one pass has learned about the mail server.
#[derive(Debug, Default)]
pub(super) struct RelayHealth {
    faults_in_a_row: u32,
    recipients: u32,
    refused: u32,
    /// The server refused most recipients in the last pass. Until it accepts one, no refusal is blamed
    /// on the address.
    pub is_on_probation: bool,
    /// The server is not used for the rest of the pass.
    pub is_down: bool,
}

impl RelayHealth {
    pub fn new(is_on_probation: bool) -> Self {
        Self {
            is_on_probation,
            ..Self::default()
        }
    }

    /// Records that the server answered for a recipient.
    pub fn record_reply(&mut self, is_refusal: bool) {
        self.faults_in_a_row = 0;
        self.recipients += 1;
        self.refused += u32::from(is_refusal);
        self.is_on_probation &= is_refusal;
        self.is_down |= self.is_refusing();
    }

    /// Records that the server failed as a whole.
    pub fn record_fault(&mut self) {
        self.faults_in_a_row += 1;
        self.is_down |= self.faults_in_a_row >= MAX_FAULTS_IN_A_ROW;
    }

    /// Whether the server failed and answered for no recipient.
    pub fn is_unusable(&self) -> bool {
        self.is_down || (self.faults_in_a_row > 0 && self.recipients == 0)
    }

    /// Whether enough is known to blame an address for a refusal.
    pub fn has_enough_replies(&self) -> bool {
        self.recipients >= MIN_RECIPIENTS_TO_JUDGE
    }

    /// Whether most of enough recipients were refused: then the server is to blame, not the addresses.
    pub fn is_refusing(&self) -> bool {
        self.is_on_probation && self.refused > 0
            || self.recipients >= MIN_RECIPIENTS_TO_JUDGE && self.refused * 2 > self.recipients
    }
}
