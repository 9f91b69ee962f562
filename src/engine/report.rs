//! What a sweep did, in numbers, and what went wrong.

use serde::Serialize;

/// One part of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Brings the store in step with sources and directories.
    Sync,
    /// Marks what has expired, opens and closes findings.
    Judge,
    /// Ends tokens that outlive their issuers' access, where that is wanted.
    Respond,
    /// Decides who is owed what.
    Plan,
    /// Lets sources know which of their tokens have expired.
    Tell,
    /// Sends it.
    Deliver,
    /// Drops what need not be kept.
    Purge,
}

impl Job {
    /// In the order in which a sweep does them.
    pub const ALL: [Self; 7] = [
        Self::Sync,
        Self::Judge,
        Self::Respond,
        Self::Plan,
        Self::Tell,
        Self::Deliver,
        Self::Purge,
    ];

    /// The word for it in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Judge => "judge",
            Self::Respond => "respond",
            Self::Plan => "plan",
            Self::Tell => "tell",
            Self::Deliver => "deliver",
            Self::Purge => "purge",
        }
    }
}

/// What a sweep did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Tokens seen for the first time.
    pub tokens_new: u64,
    /// Tokens with something different about them.
    pub tokens_changed: u64,
    /// Tokens that left a complete listing.
    pub tokens_gone: u64,
    /// Rows that were refused.
    pub rows_refused: u64,
    /// Sources that asked to be left alone for a while.
    pub sources_deferred: u64,
    /// People whose status changed.
    pub people_changed: u64,
    /// Tokens marked expired.
    pub expired: u64,
    /// Of how many expired tokens their source was told.
    pub expired_told: u64,
    /// Marks taken back.
    pub unexpired: u64,
    /// Findings opened.
    pub findings_opened: u64,
    /// Findings resolved.
    pub findings_resolved: u64,
    /// Tokens ended because their issuers lost access.
    pub revoked: u64,
    /// Tokens whose time is over for that, and whose end waits.
    pub revocations_waiting: u64,
    /// Tokens that were due and looked at.
    pub tokens_due: u64,
    /// Notices planned.
    pub notices_planned: u64,
    /// Mails of this sweep's plan that wait for an operator.
    pub mails_held: u64,
    /// Mails that wait for an operator from before.
    pub mails_still_held: u64,
    /// Mails the server took.
    pub mails_sent: u64,
    /// Mails that go again later.
    pub mails_deferred: u64,
    /// Mails that may have been taken.
    pub mails_unknown: u64,
    /// Mails given up.
    pub mails_failed: u64,
    /// Notices that nobody is left to receive.
    pub notices_failed: u64,
    /// Rows dropped.
    pub purged: u64,
    /// The relay could not be reached or refused to serve.
    pub relay_down: bool,
    /// The store went away.
    pub store_down: bool,
    /// Another sweep was at work, so only delivery was done.
    pub lease_held: bool,
    /// What failed in the program's own work, in words.
    pub errors: Vec<String>,
    /// What is wrong with sources and directories, in words.
    pub problems: Vec<String>,
    /// What could not be done because the store is away, in words.
    pub waits: Vec<String>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl Report {
    /// How many tokens the listings changed.
    pub(super) fn tokens_touched(&self) -> u64 {
        self.tokens_new + self.tokens_changed + self.tokens_gone
    }

    /// Whether something failed for good, or is held.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.rows_refused > 0
            || self.mails_held > 0
            || self.mails_still_held > 0
            || self.mails_failed > 0
            || self.notices_failed > 0
            || !self.errors.is_empty()
            || !self.problems.is_empty()
    }

    /// Whether nothing could go because something it depends on was away.
    #[must_use]
    pub fn is_deferral(&self) -> bool {
        self.store_down || self.lease_held || self.relay_down
    }

    /// Takes down what went wrong. A store that is away is no failure: what is owed stays owed.
    pub(super) fn take_down(&mut self, said: String, is_transient: bool) {
        if is_transient {
            self.store_down = true;
            self.waits.push(said);
        } else {
            self.errors.push(said);
        }
    }

    /// Adds what another half of the sweep did.
    pub fn add(&mut self, other: &Self) {
        let Self {
            mails_sent,
            mails_deferred,
            mails_unknown,
            mails_failed,
            ..
        } = self;
        *mails_sent += other.mails_sent;
        *mails_deferred += other.mails_deferred;
        *mails_unknown += other.mails_unknown;
        *mails_failed += other.mails_failed;
        self.notices_planned += other.notices_planned;
        self.notices_failed += other.notices_failed;
        self.relay_down |= other.relay_down;
        self.store_down |= other.store_down;
        self.errors.extend(other.errors.iter().cloned());
        self.problems.extend(other.problems.iter().cloned());
        self.waits.extend(other.waits.iter().cloned());
        self.elapsed_ms += other.elapsed_ms;
    }

    /// Whether there is anything to say of it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let nothing = Self {
            elapsed_ms: self.elapsed_ms,
            ..Self::default()
        };
        *self == nothing
    }
}
