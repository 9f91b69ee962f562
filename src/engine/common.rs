//! What every job uses: settings, limits, ids, errors, and the report of a sweep.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::causes::Causes;
use crate::domain::{Backoff, RevocationPolicy, Schedule, Status, string_enum};
use crate::time::shift;
use crate::{sources, store};

#[derive(Debug, Clone)]
pub struct Settings {
    pub sweep: Schedule,
    /// When administrators get a summary of open findings; `None` means never.
    pub summary: Option<Schedule>,
    pub delivery: Delivery,
    pub retention: Retention,
    /// How tokens of people without access are revoked; `None` only flags them.
    pub response: Option<RevocationPolicy>,
    /// Whether the tokens of users of the service stop when a directory reports that they lost access.
    pub follow_directories: bool,
    /// The role of the service's account administrators; `None` without the service.
    pub admin_role: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Delivery {
    /// How long a sweep or a claimed mail belongs to one process unless it renews the lease.
    pub lease: TimeDelta,
    pub backoff: Backoff,
    /// A mail that could not be delivered for this long fails.
    pub give_up: TimeDelta,
    pub connections: usize,
    /// 0 means no limit.
    pub messages_per_connection: u32,
    /// Over all connections; may be below 1. `None` means no limit.
    pub mails_per_second: Option<f64>,
}

impl Delivery {
    pub(super) fn lease_third(&self) -> Duration {
        let third = (self.lease / 3).to_std().unwrap_or_default();
        third.max(Duration::from_millis(10))
    }
}

impl Settings {
    /// From one sweep to the next.
    pub fn sweep_interval(&self, now: DateTime<Utc>) -> TimeDelta {
        let next = self.sweep.next_after(now);
        let interval = next.and_then(|next| Some(self.sweep.next_after(next)? - next));
        interval.unwrap_or(TimeDelta::days(366))
    }

    /// If mails are due for longer, and a process tried none for longer, its delivery hangs.
    pub fn max_delivery_delay(&self, now: DateTime<Utc>) -> TimeDelta {
        self.sweep_interval(now).max(self.delivery.backoff.min) + DELIVERY_GRACE
    }
}

#[derive(Debug, Clone)]
pub struct Retention {
    /// Tokens, after they are gone.
    pub gone_tokens: TimeDelta,
    /// Notices that are not about a token.
    pub notices: TimeDelta,
    /// Findings, after they are resolved.
    pub findings: TimeDelta,
    pub runs: TimeDelta,
    pub audit: TimeDelta,
}

/// A pass may take this long to come to its first mail.
const DELIVERY_GRACE: TimeDelta = TimeDelta::minutes(5);

/// Logs that a lease was not renewed. The store logs by itself that it is unreachable, once.
pub(super) fn log_not_renewed(what: &str, error: &Error) {
    let causes = error.chain();
    if error.is_transient() {
        tracing::debug!("the lease on {what} was not renewed yet: {causes}");
    } else {
        tracing::warn!("the lease on {what} was not renewed: {causes}");
    }
}

/// Called while a job makes progress, for the watchdog.
pub(super) type OnProgress<'a> = &'a (dyn Fn() + Send + Sync);

/// A lease or a back-off that ends more than this many times its length from now was set by a clock that jumped.
/// One that ends only a little late was set by a process whose clock is slightly ahead; to treat that one as expired
/// would send a mail twice.
pub(super) const MAX_SKEW_FACTOR: i32 = 2;
/// The clocks of two replicas may differ by this much.
pub(super) const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::minutes(1);
/// Rows per transaction: large enough to be fast, small enough to let other processes write.
pub(super) const PAGE_SIZE: i64 = 1000;
/// Time limit for one listing, and for one revocation at a source.
pub(super) const LISTING_TIMEOUT: Duration = Duration::from_mins(10);

/// A sweep starts shortly after its tick and takes some time. Whatever falls due in that time after the next tick
/// is handled by this sweep, so that "at least 7 days" is exact to the second.
const HORIZON_MARGIN: TimeDelta = TimeDelta::seconds(10);

/// What falls due before this instant is handled now: the next sweep would be late for it.
pub(super) fn horizon(sweep: &Schedule, now: DateTime<Utc>) -> DateTime<Utc> {
    sweep
        .next_after(now)
        .map_or(now, |next| shift(next, HORIZON_MARGIN))
}

/// Ends a job that gets the same page twice: a row that its work does not change would keep it busy without end.
#[derive(Default)]
pub(super) struct PageGuard(Option<Uuid>);

impl PageGuard {
    /// `first` is the first row of a page.
    pub fn check(&mut self, kind: &'static str, first: Uuid) -> Result<(), Error> {
        if self.0.replace(first) == Some(first) {
            return Err(Error::NoProgress { kind, id: first });
        }
        Ok(())
    }
}

/// A UUID version 7 (RFC 9562 §5.7), so that ids sort by time.
pub fn new_id(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(
        uuid::NoContext,
        seconds,
        now.timestamp_subsec_nanos(),
    ))
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Listing(#[from] sources::Error),
    #[error("no complete listing within {} minutes", LISTING_TIMEOUT.as_secs() / 60)]
    TimedOut,
    #[error("no answer within {} minutes, so the outcome is unknown", LISTING_TIMEOUT.as_secs() / 60)]
    NoAnswer,
    #[error(
        "{kind} {id} was due again right after it was handled, so the job was ended; this is a defect, please report it"
    )]
    NoProgress { kind: &'static str, id: Uuid },
    #[error(transparent)]
    Revoke(#[from] RevokeRefusal),
    #[error(transparent)]
    Erase(#[from] EraseRefusal),
    #[error(
        "the listing has only {found} entries, the last good one had {before}; if that is right, \
         accept it once with `lapsed sweep --accept-shrink {name}`"
    )]
    Shrunk {
        name: String,
        found: u64,
        before: u64,
    },
    #[error(
        "{column} cannot be read in {count} of {of} records, and could be read before, so nothing was changed; \
         `lapsed source check {name}` says why; if it is right all the same, accept it once with \
         `lapsed sweep --accept-shrink {name}`"
    )]
    MostlyUnreadable {
        name: String,
        column: String,
        count: u64,
        of: u64,
    },
    /// After leaving out the refused rows, the listing is too short to be plausible.
    #[error(
        "{} refused, which leaves only {found} of {before} tokens, so nothing was changed; the first: {first}",
        rows_were(*count)
    )]
    MostlyRefused {
        count: u64,
        /// Place and reason of the first refused row.
        first: String,
        found: u64,
        before: u64,
    },
    /// A directory's listing with refused rows changes nothing.
    #[error("{} refused, so nothing was changed; the first: {first}", rows_were(*count))]
    Refused {
        count: u64,
        /// Place and reason of the first refused row.
        first: String,
    },
    #[error(
        "renamed to {new}; write that name into its [[source]], or run `lapsed source forget {old}` to use {old} for \
         another source"
    )]
    Renamed { old: String, new: String },
    #[error("the store has a source {0} already")]
    NameTaken(String),
    #[error(transparent)]
    Implausible(#[from] Implausible),
    #[error("cannot make a folder for a copy of the store; set TMPDIR to a folder with free space")]
    Scratch(#[source] std::io::Error),
    #[error("another sweep took over")]
    LeaseLost,
    #[error("stopped before it was done; what was stored until then is kept")]
    Stopped,
    #[error("a bug in lapsed: {0}")]
    Panicked(String),
}

impl Error {
    /// Whether nothing can be written any more, whatever the work was about.
    pub(super) fn ends_job(&self) -> bool {
        matches!(self, Self::Store(_) | Self::LeaseLost)
    }

    /// Whether the store is unreachable and may come back.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }

    /// Whether the store refuses now, which a person may change.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Store(error) if error.may_pass())
    }

    pub(super) fn is_time_out(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_time_out())
    }

    /// The error with its causes, on one line.
    pub(super) fn chain(&self) -> String {
        Causes(self).to_string()
    }

    /// How long a source or directory asked us to wait. That is not a failure.
    pub(super) fn wait(&self) -> Option<TimeDelta> {
        match self {
            Self::Listing(error) => TimeDelta::from_std(error.wait()?).ok(),
            _ => None,
        }
    }
}

/// Why a whole listing of people is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    #[error(
        "it lists no one (last listing: {before} people); check that its credentials may read people, and that its \
         configuration selects them"
    )]
    Empty { before: u64 },
    #[error(
        "the canary {number} of {count} is not listed as active; fix what the directory shows, or correct \
         `canaries`"
    )]
    Canary {
        /// Its place in the configuration.
        number: usize,
        count: usize,
    },
    #[error("it lists an address that no account has, so its answers do not match the query")]
    AnswersAnything,
    #[error("{lacking} of {listed} people have no status field; let its credentials read it")]
    FieldMissing { lacking: u64, listed: u64 },
    /// There are no members in any allowed group, and never were.
    #[error(
        "the allowed groups have no members; correct `allowed_groups`, or let its credentials read group members"
    )]
    NoGroupMembers,
    #[error(
        "it lists people but does not find them by id, so it cannot prove that a person is absent; let its \
             credentials read single people"
    )]
    LookUpFails,
}

/// Why lapsed does not try to revoke a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeRefusal {
    #[error("the token's source {0} is not in the configuration, so lapsed cannot reach it")]
    UnknownSource(String),
    #[error("lapsed may not revoke tokens of the source {0}")]
    NotAllowed(String),
    /// lapsed needs it to list the source.
    #[error("{}", sources::Error::OwnToken)]
    OwnToken,
    #[error("the token is {0}, so there is nothing to revoke")]
    NotActive(Status),
    /// Only the policy respects it.
    #[error("it belongs to a machine user, whose tokens outlive the access of people")]
    OfMachine,
}

/// Why a person is not erased.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EraseRefusal {
    #[error("{0} still names this person, so lapsed would learn of them again")]
    StillNamed(String),
    #[error(
        "the source {name} cannot be read now, so it is not known whether it still names this person: {reason}"
    )]
    Unreadable { name: String, reason: String },
    #[error("a mail to this person is being delivered, or may have arrived and will be sent again")]
    MailInFlight,
    #[error("lapsed knows nothing of this person")]
    Unknown,
}

/// `1 row was` or `3 rows were`.
pub(super) fn rows_were(count: u64) -> String {
    if count == 1 {
        "1 row was".to_owned()
    } else {
        format!("{count} rows were")
    }
}

string_enum! {
    Job {
        Sync = "sync",
        /// Marks expired tokens, opens and resolves findings.
        Judge = "judge",
        /// Revokes tokens that outlive their issuers' access, if the policy says so.
        Respond = "respond",
        Plan = "plan",
        /// Reports expired tokens to their sources.
        MarkExpired = "mark_expired",
        Deliver = "deliver",
        Purge = "purge",
    }
}

#[expect(clippy::struct_excessive_bools, reason = "facts of their own")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub tokens_new: u64,
    pub tokens_changed: u64,
    pub tokens_gone: u64,
    pub rows_refused: u64,
    /// Sources and directories that asked us to wait.
    pub sources_deferred: u64,
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
    pub tokens_due: u64,
    pub notices_planned: u64,
    pub mails_held: u64,
    /// Mails of earlier sweeps that wait for an operator.
    pub mails_still_held: u64,
    pub mails_sent: u64,
    pub mails_deferred: u64,
    /// Mails that the server may have accepted.
    pub mails_unknown: u64,
    pub mails_failed: u64,
    /// Deferred mails that wait for their next attempt after the sweep, and when the first is due.
    pub mails_waiting: u64,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub notices_failed: u64,
    pub purged: u64,
    /// The mail server could not be reached or refused to serve.
    pub relay_down: bool,
    pub store_down: bool,
    /// The connection to PostgreSQL was lost, which the store logs by itself.
    #[serde(skip)]
    pub store_lost: bool,
    /// A statement reached its time limit.
    #[serde(skip)]
    pub store_silent: bool,
    /// Another sweep was running, so only delivery was done.
    pub lease_held: bool,
    /// Another sweep took over, so that this one has written nothing more.
    #[serde(skip)]
    pub lease_lost: bool,
    /// Failures of jobs; each ends its own job only.
    pub errors: Vec<String>,
    pub problems: Vec<String>,
    /// Work that was not done because the store is unreachable.
    pub waits: Vec<String>,
    /// When the last sweep was, if the clock has gone back since then, and the time by the clock now.
    #[serde(skip)]
    pub clock_went_back: Option<(DateTime<Utc>, DateTime<Utc>)>,
    pub elapsed_ms: u64,
}

impl Report {
    pub(super) fn tokens_touched(&self) -> u64 {
        self.tokens_new + self.tokens_changed + self.tokens_gone
    }

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
    pub fn is_deferral(&self) -> bool {
        self.store_down || self.lease_held || self.relay_down
    }

    /// Adds the error of a job. An unreachable store is no failure: the work is done later.
    pub(super) fn record_error(&mut self, job: Option<Job>, error: &Error) {
        let mut text = error.chain();
        if let Some(job) = job {
            text = format!("{job}: {text}");
        }
        self.lease_lost |= matches!(error, Error::LeaseLost);
        if error.is_transient() {
            self.store_down = true;
            self.store_silent |= error.is_time_out();
            self.store_lost |= matches!(error, Error::Store(error) if error.is_loss());
            self.waits.push(text);
        } else {
            self.errors.push(text);
        }
    }

    /// Adds the outcome of work under the sweep lease; `None` means that another process holds it.
    pub(super) fn record_leased(&mut self, result: Result<Option<()>, Error>) {
        match result {
            Ok(Some(())) => {}
            Ok(None) => self.lease_held = true,
            Err(error) => self.record_error(None, &error),
        }
    }

    /// Adds the report of a part of a sweep.
    pub fn add(&mut self, part: Self) {
        macro_rules! add {
            ($($count:ident)+) => { $(self.$count += part.$count;)+ };
        }
        add!(
            tokens_new tokens_changed tokens_gone rows_refused sources_deferred people_changed expired
            expiries_reported unexpired findings_opened findings_resolved revoked revocations_waiting tokens_due
            notices_planned mails_held mails_still_held mails_sent mails_deferred mails_unknown mails_failed
            mails_waiting notices_failed purged elapsed_ms
        );
        self.relay_down |= part.relay_down;
        self.store_down |= part.store_down;
        self.store_lost |= part.store_lost;
        self.store_silent |= part.store_silent;
        self.lease_held |= part.lease_held;
        self.lease_lost |= part.lease_lost;
        self.errors.extend(part.errors);
        self.problems.extend(part.problems);
        self.waits.extend(part.waits);
        self.next_attempt_at = self.next_attempt_at.or(part.next_attempt_at);
        self.clock_went_back = self.clock_went_back.or(part.clock_went_back);
    }

    pub fn is_quiet(&self) -> bool {
        let nothing = Self {
            elapsed_ms: self.elapsed_ms,
            ..Self::default()
        };
        *self == nothing
    }
}
