//! Judging: what an attempt's outcome means for the mail, its recipient and the relay. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::Backoff;
use crate::store::{ClaimedMail, Verdict};

/// A mail left in doubt this often is given up: it may well have arrived as many times.
const MOST_DOUBTS: u32 = 5;

/// After so many faults of the relay in a row, with nothing going in between, it is left alone until
/// the next sweep.
const STRIKES: u32 = 3;
/// A refusal is blamed on its address only when not most of so many recipients were refused.
const SUSPICIOUS_FROM: u32 = 20;

/// For how long mails are tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub backoff: Backoff,
    pub give_up: TimeDelta,
}

impl Patience {
    /// The next attempt of a mail that was not taken, or its end.
    pub fn again(self, mail: &ClaimedMail, now: DateTime<Utc>) -> Verdict {
        let first = mail.first_tried_at.unwrap_or(now);
        if now - first >= self.give_up {
            Verdict::Failed
        } else {
            Verdict::Again(now + self.backoff.after(mail.attempts + 1, mail.id))
        }
    }
}

/// What becomes of a mail that may have been taken.
pub(super) fn in_doubt(mail: &ClaimedMail, backoff: Backoff, now: DateTime<Utc>) -> Verdict {
    if mail.unknowns + 1 >= MOST_DOUBTS {
        Verdict::Failed
    } else {
        Verdict::Doubtful(now + backoff.after(mail.unknowns + 1, mail.id))
    }
}

/// What is thought of the relay during one pass.
#[derive(Debug, Default)]
pub(super) struct Opinion {
    strikes: u32,
    recipients: u32,
    refused: u32,
    /// The last pass found that the relay refuses most recipients. Until it accepts one, no refusal
    /// is blamed on its address, however few are left to try.
    pub is_on_probation: bool,
    /// The relay is left alone for the rest of the pass.
    pub is_down: bool,
}

impl Opinion {
    /// What is thought of it before the first mail.
    pub fn before(is_on_probation: bool) -> Self {
        Self {
            is_on_probation,
            ..Self::default()
        }
    }

    /// The relay answered for a recipient.
    pub fn heard(&mut self, is_refusal: bool) {
        self.strikes = 0;
        self.recipients += 1;
        self.refused += u32::from(is_refusal);
        self.is_on_probation &= is_refusal;
        self.is_down |= self.is_refusing();
    }

    /// The relay failed as a whole.
    pub fn strike(&mut self) {
        self.strikes += 1;
        self.is_down |= self.strikes >= STRIKES;
    }

    /// Whether the relay failed and nothing else was heard of it.
    pub fn is_unusable(&self) -> bool {
        self.is_down || (self.strikes > 0 && self.recipients == 0)
    }

    /// Whether enough is known to blame an address for its refusal.
    pub fn is_settled(&self) -> bool {
        self.recipients >= SUSPICIOUS_FROM
    }

    /// Whether most of enough recipients were refused: then the server is to blame, no address.
    pub fn is_refusing(&self) -> bool {
        self.is_on_probation && self.refused > 0
            || self.recipients >= SUSPICIOUS_FROM && self.refused * 2 > self.recipients
    }
}
