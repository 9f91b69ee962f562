//! The report of a sweep: counts and problems.

use serde::Serialize;

use super::error::Error;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Lists sources and directories.
    Sync,
    /// Marks expired tokens, opens and resolves findings.
    Judge,
    /// Revokes tokens that outlive their issuers' access, if the policy says so.
    Respond,
    Plan,
    /// Reports expired tokens to their sources.
    MarkExpired,
    Deliver,
    Purge,
}

impl Job {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Judge => "judge",
            Self::Respond => "respond",
            Self::Plan => "plan",
            Self::MarkExpired => "mark_expired",
            Self::Deliver => "deliver",
            Self::Purge => "purge",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub tokens_new: u64,
    pub tokens_changed: u64,
    pub tokens_gone: u64,
    pub rows_refused: u64,
    /// Sources and directories that asked us to wait.
    pub sources_deferred: u64,
    /// People whose status changed.
    pub people_changed: u64,
    pub expired: u64,
    /// Expired tokens that their source has marked.
    #[serde(rename = "expired_told")]
    pub expiries_reported: u64,
    /// Tokens marked expired before that are active again.
    pub unexpired: u64,
    pub findings_opened: u64,
    pub findings_resolved: u64,
    /// Tokens revoked because their issuers lost access.
    pub revoked: u64,
    /// Tokens that are due to be revoked but wait.
    pub revocations_waiting: u64,
    /// Tokens that were due for planning.
    pub tokens_due: u64,
    pub notices_planned: u64,
    pub mails_held: u64,
    /// Mails of earlier sweeps that wait for an operator.
    pub mails_still_held: u64,
    pub mails_sent: u64,
    /// Mails that will be tried again.
    pub mails_deferred: u64,
    /// Mails that the server may have accepted.
    pub mails_unknown: u64,
    pub mails_failed: u64,
    /// Notices that no one can receive.
    pub notices_failed: u64,
    pub purged: u64,
    /// The mail server could not be reached or refused to serve.
    pub relay_down: bool,
    /// The store became unreachable.
    pub store_down: bool,
    /// Another sweep was running, so only delivery was done.
    pub lease_held: bool,
    /// Failures of jobs.
    pub errors: Vec<String>,
    /// Problems with sources and directories.
    pub problems: Vec<String>,
    /// Work that was not done because the store is unreachable.
    pub waits: Vec<String>,
    pub elapsed_ms: u64,
}

impl Report {
    pub(super) fn tokens_touched(&self) -> u64 {
        self.tokens_new + self.tokens_changed + self.tokens_gone
    }

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

    /// Whether work was put off because something was unreachable or busy.
    #[must_use]
    pub fn is_deferral(&self) -> bool {
        self.store_down || self.lease_held || self.relay_down
    }

    /// Adds the error of a job. An unreachable store is no failure: the work is done later.
    pub(super) fn record_error(&mut self, job: Option<Job>, error: &Error) {
        let mut text = error.chain();
        if let Some(job) = job {
            text = format!("{}: {text}", job.as_str());
        }
        if error.is_transient() {
            self.store_down = true;
            self.waits.push(text);
        } else {
            self.errors.push(text);
        }
    }

    /// Adds the outcome of work under the sweep lease; `None` means that another process holds it.
    pub(super) fn record_leased(&mut self, done: Result<Option<()>, Error>) {
        match done {
            Ok(Some(())) => {}
            Ok(None) => self.lease_held = true,
            Err(error) => self.record_error(None, &error),
        }
    }

    /// Adds the second half of a sweep.
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

    /// Whether there is nothing to report.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let nothing = Self {
            elapsed_ms: self.elapsed_ms,
            ..Self::default()
        };
        *self == nothing
    }
}
