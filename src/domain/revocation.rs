//! Revocation of tokens whose issuer lost access: when it is due, when its warning is sent, what it waits for, and
//! which earlier attempts count.
//!
//! No token is revoked without a warning in time, and only while all conditions hold.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use uuid::Uuid;

use super::{FindingState, IdentityStatus, Status, Step};
use crate::time::shift;

/// How long before the revocation the warning is sent; at once if `revoke_after` is shorter.
const WARNING_PERIOD: TimeDelta = TimeDelta::days(1);
/// [`RevocationPolicy::max_per_day`] counts revocations in this time.
const LIMIT_PERIOD: TimeDelta = TimeDelta::days(1);
/// Delay after a failed attempt, for a token or a source.
const RETRY_DELAY: TimeDelta = TimeDelta::hours(1);
/// An attempt without an outcome may still be running for this time.
const MAX_ATTEMPT_DURATION: TimeDelta = TimeDelta::minutes(11);
/// From this number of failed tokens on, the whole source waits.
const SOURCE_FAILURE_THRESHOLD: usize = 3;

/// `[policy] sso_revoked = "revoke"`: when such tokens are revoked, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationPolicy {
    /// Time from the opening of the finding, or from the end of its acknowledgement.
    pub revoke_after: TimeDelta,
    /// Limit of revocations in any 24 hours.
    pub max_per_day: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Countdown {
    /// When the token is revoked if the warning was in time. Distinguishes the warnings of this countdown from
    /// those of another.
    pub ends_at: DateTime<Utc>,
    pub warn_at: DateTime<Utc>,
}

impl RevocationPolicy {
    /// The time from the warning to the revocation.
    pub fn warning_period(&self) -> TimeDelta {
        self.revoke_after.min(WARNING_PERIOD)
    }

    /// [`Self::warning_period`] as the step of a notice.
    pub fn warning_step(&self) -> Step {
        Step::from_seconds(self.warning_period().num_seconds())
    }

    /// The countdown of a finding; `None` while it is acknowledged. It restarts when the acknowledgement ends.
    pub fn countdown(
        &self,
        finding: Uuid,
        acknowledged_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<Countdown> {
        if acknowledged_until.is_some_and(|until| now < until) {
            return None;
        }
        let from = opened_at(finding).max(acknowledged_until.unwrap_or(DateTime::UNIX_EPOCH));
        let ends_at = shift(from, self.revoke_after);
        Some(Countdown {
            ends_at,
            warn_at: shift(ends_at, -self.warning_period()),
        })
    }

    /// When the token is revoked: a late warning postpones it.
    pub fn revoke_at(
        &self,
        countdown: Countdown,
        warned_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let warned_at = warned_at.unwrap_or(now.max(countdown.warn_at));
        countdown
            .ends_at
            .max(shift(warned_at, self.warning_period()))
    }
}

/// When a finding was opened: its id begins with the time (RFC 9562 §5.7).
pub fn opened_at(finding: Uuid) -> DateTime<Utc> {
    finding
        .get_timestamp()
        .map(|time| time.to_unix())
        .and_then(|(seconds, nanos)| DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos))
        .unwrap_or_default()
}

/// What a directory reports about a person who lost access, and whether it is reliable now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    pub directory: String,
    pub status: IdentityStatus,
    pub doubt: Option<Doubt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// A change at the directory waits for an operator.
    Held,
    Failing,
    Stale,
    /// It now reports another status, which awaits confirmation.
    Unconfirmed,
}

/// Everything that decides whether a token is revoked now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationFacts {
    pub finding: FindingState,
    pub token: Status,
    /// Why lapsed may not revoke it, if it may not.
    pub not_allowed: Option<String>,
    pub revoke_at: DateTime<Utc>,
    pub is_warned: bool,
    /// Whether the last sync of the source failed, so that the token may be outdated.
    pub is_source_failing: bool,
    /// Whether the source lists owners who cannot be read.
    pub has_unreadable_owners: bool,
    /// What directories report about the owners; empty unless they report for each that they lost access.
    pub losses: Vec<Loss>,
    pub retry_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Revoke,
    Wait(Wait),
    /// The token is not revoked unless its facts change, for this reason.
    Skip(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    Acknowledged,
    Until(DateTime<Utc>),
    NotWarned,
    SourceFailing,
    OwnersUnreadable,
    /// No directory reports a loss of access of every owner now.
    NotLost,
    Unreliable(String, Doubt),
    RetryAt(DateTime<Utc>),
    Limit(u32),
}

pub fn decide(facts: &RevocationFacts, now: DateTime<Utc>) -> Decision {
    match facts.finding {
        FindingState::Resolved => return Decision::Skip("the finding is resolved".to_owned()),
        FindingState::Acknowledged => return Decision::Wait(Wait::Acknowledged),
        FindingState::Open => {}
    }
    match facts.token {
        // After a date that our policy set, the token still works; `not_allowed` covers all other cases.
        Status::Active | Status::Expired => {}
        status => return Decision::Skip(format!("the token is {status}")),
    }
    if let Some(why) = &facts.not_allowed {
        return Decision::Skip(why.clone());
    }
    let wait = if now < facts.revoke_at {
        Wait::Until(facts.revoke_at)
    } else if !facts.is_warned {
        Wait::NotWarned
    } else if facts.is_source_failing {
        Wait::SourceFailing
    } else if facts.has_unreadable_owners {
        Wait::OwnersUnreadable
    } else if let Some(wait) = unreliable_loss(&facts.losses) {
        wait
    } else if let Some(until) = facts.retry_at.filter(|until| now < *until) {
        Wait::RetryAt(until)
    } else {
        return Decision::Revoke;
    };
    Decision::Wait(wait)
}

/// Why the loss of access is not certain. A loss at one directory is enough, even if another reports
/// access; but every directory that reports a loss must be reliable.
fn unreliable_loss(losses: &[Loss]) -> Option<Wait> {
    let mut lost = losses
        .iter()
        .filter(|loss| loss.status.is_lost())
        .peekable();
    if lost.peek().is_none() {
        return Some(Wait::NotLost);
    }
    lost.find_map(|loss| Some(Wait::Unreliable(loss.directory.clone(), loss.doubt?)))
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: &DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let text = match self {
            Self::Acknowledged => "the finding is acknowledged".to_owned(),
            Self::Until(at) => format!("it is due at {}", time(at)),
            Self::NotWarned => "no warning has been sent yet".to_owned(),
            Self::SourceFailing => "its source cannot be listed at the moment".to_owned(),
            Self::OwnersUnreadable => {
                "its source lists owners who cannot be read, and who may have access".to_owned()
            }
            Self::NotLost => {
                "no directory reports at the moment that the issuer, or another owner, lost access"
                    .to_owned()
            }
            Self::Unreliable(name, Doubt::Unconfirmed) => {
                format!("the directory {name} now reports another status, which is not confirmed")
            }
            Self::Unreliable(name, Doubt::Held) => {
                format!(
                    "the directory {name} is held: `lapsed directory release {name}` or `reject`"
                )
            }
            Self::Unreliable(name, Doubt::Failing) => {
                format!("the directory {name} cannot be read: `lapsed directory check {name}`")
            }
            Self::Unreliable(name, Doubt::Stale) => {
                format!("the last good sync of the directory {name} is too old")
            }
            Self::Limit(limit) => format!(
                "[policy] max_revocations_per_day = {limit} is reached; the oldest finding goes first"
            ),
            Self::RetryAt(at) => {
                format!(
                    "the last attempt failed; the next one is after {}",
                    time(at)
                )
            }
        };
        f.write_str(&text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No outcome is recorded: the attempt is running, or was interrupted.
    Started,
    Done,
    Failed,
    /// The source did not report an outcome.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub subject: String,
    pub at: DateTime<Utc>,
    pub outcome: Outcome,
}

/// Time and outcome of the last attempt to revoke each token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail(BTreeMap<String, (DateTime<Utc>, Outcome)>);

impl Trail {
    /// From attempts in the order in which they were recorded.
    pub fn from_attempts(attempts: impl IntoIterator<Item = Attempt>) -> Self {
        let mut last = BTreeMap::new();
        for attempt in attempts {
            last.insert(attempt.subject, (attempt.at, attempt.outcome));
        }
        Self(last)
    }

    /// Records that a token would be revoked, for a preview.
    pub fn assume_revoked(&mut self, subject: String, now: DateTime<Utc>) {
        self.0.insert(subject, (now, Outcome::Done));
    }

    /// The tokens that were, or may have been, revoked in the day before `now`.
    pub fn count_revoked(&self, now: DateTime<Utc>) -> usize {
        self.0
            .keys()
            .filter(|subject| self.is_counted(subject, now))
            .count()
    }

    /// Whether [`Self::count_revoked`] contains the token, so that another attempt does not count again.
    pub fn is_counted(&self, subject: &str, now: DateTime<Utc>) -> bool {
        self.0
            .get(subject)
            .is_some_and(|(at, outcome)| *outcome != Outcome::Failed && now - *at < LIMIT_PERIOD)
    }

    pub fn has_failed(&self, subject: &str) -> bool {
        self.0
            .get(subject)
            .is_some_and(|(_, outcome)| outcome.is_failure())
    }

    /// When a token of this source may be tried again, after failures of its own or of its source.
    pub fn retry_at(
        &self,
        source: &str,
        subject: &str,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let own = self.0.get(subject).and_then(|last| retry_at(*last));
        own.max(self.source_retry_at(source, now))
            .filter(|until| now < *until)
    }

    fn source_retry_at(&self, source: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let prefix = format!("{source}/");
        let mut waiting: Vec<_> = self
            .0
            .iter()
            .filter(|(subject, (_, outcome))| subject.starts_with(&prefix) && outcome.is_failure())
            .filter_map(|(_, last)| retry_at(*last))
            .filter(|until| now < *until)
            .collect();
        waiting.sort_unstable();
        // The source is tried again when fewer than the threshold are waiting.
        let nth = waiting.len().checked_sub(SOURCE_FAILURE_THRESHOLD)?;
        waiting.get(nth).copied()
    }

    /// The tokens that may or may not have been revoked.
    pub fn unknown_outcomes(&self) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(|(_, (_, outcome))| matches!(outcome, Outcome::Started | Outcome::Unknown))
            .map(|(subject, _)| subject.as_str())
    }
}

impl Outcome {
    fn is_failure(self) -> bool {
        matches!(self, Self::Failed | Self::Unknown)
    }
}

fn retry_at((at, outcome): (DateTime<Utc>, Outcome)) -> Option<DateTime<Utc>> {
    match outcome {
        Outcome::Done => None,
        Outcome::Started => Some(shift(at, MAX_ATTEMPT_DURATION)),
        Outcome::Failed | Outcome::Unknown => Some(shift(at, RETRY_DELAY)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        let midnight: DateTime<Utc> = "2026-11-20T00:00:00Z".parse().unwrap();
        midnight + TimeDelta::hours(hour)
    }

    fn finding(opened_at: DateTime<Utc>) -> Uuid {
        let seconds = u64::try_from(opened_at.timestamp()).unwrap();
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0))
    }

    fn response(hours: i64) -> RevocationPolicy {
        RevocationPolicy {
            revoke_after: TimeDelta::hours(hours),
            max_per_day: 10,
        }
    }

    #[test]
    fn a_countdown_starts_at_the_finding_or_when_its_acknowledgement_ends() {
        let id = finding(at(0));
        assert_eq!(opened_at(id), at(0));
        for (acknowledged_until, now, expected) in [
            (None, 1, Some((48, 72))),
            (Some(at(10)), 9, None),
            (Some(at(10)), 10, Some((58, 82))),
            // The clock was behind.
            (Some(at(-10)), 1, Some((48, 72))),
        ] {
            let countdown = response(72).countdown(id, acknowledged_until, at(now));
            let found = countdown.map(|countdown| (countdown.warn_at, countdown.ends_at));
            let expected = expected.map(|(warn, end)| (at(warn), at(end)));
            assert_eq!(found, expected, "{acknowledged_until:?} {now}");
        }
        let short = response(6).countdown(id, None, at(0)).unwrap();
        assert_eq!((short.warn_at, short.ends_at), (at(0), at(6)), "at once");
        assert_eq!(response(6).warning_step().to_string(), "6h");
        assert_eq!(response(72).warning_step().to_string(), "1d");
    }

    #[test]
    fn only_a_late_warning_postpones_the_revocation() {
        let countdown = response(72).countdown(finding(at(0)), None, at(0)).unwrap();
        for (warned_at, now, end) in [
            (None, 0, 72),
            (None, 48, 72),
            (None, 60, 84),
            // The policy is days younger than the finding.
            (None, 500, 524),
            (Some(48), 60, 72),
            (Some(60), 61, 84),
            (Some(60), 500, 84),
            (Some(1), 60, 72),
        ] {
            let warned_at = warned_at.map(at);
            let found = response(72).revoke_at(countdown, warned_at, at(now));
            assert_eq!(found, at(end), "{warned_at:?} {now}");
        }
    }

    fn loss(directory: &str, status: IdentityStatus) -> Loss {
        Loss {
            directory: directory.to_owned(),
            status,
            doubt: None,
        }
    }

    fn facts() -> RevocationFacts {
        RevocationFacts {
            finding: FindingState::Open,
            token: Status::Active,
            not_allowed: None,
            revoke_at: at(72),
            is_warned: true,
            is_source_failing: false,
            has_unreadable_owners: false,
            losses: vec![loss("hr", IdentityStatus::Disabled)],
            retry_at: None,
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn a_token_is_revoked_only_while_all_conditions_hold() {
        type Change = fn(&mut RevocationFacts);
        let wait = |wait| Decision::Wait(wait);
        let skip = |reason: &str| Decision::Skip(reason.to_owned());
        let unreliable = |doubt| wait(Wait::Unreliable("hr".to_owned(), doubt));
        let cases: [(Change, Decision); 19] = [
            (|_| (), Decision::Revoke),
            (
                |facts| facts.losses[0].status = IdentityStatus::Deleted,
                Decision::Revoke,
            ),
            (
                |facts| facts.losses[0].status = IdentityStatus::OutOfGroup,
                Decision::Revoke,
            ),
            (|facts| facts.token = Status::Expired, Decision::Revoke),
            (|facts| facts.retry_at = Some(at(72)), Decision::Revoke),
            (
                |facts| facts.finding = FindingState::Resolved,
                skip("the finding is resolved"),
            ),
            (
                |facts| facts.finding = FindingState::Acknowledged,
                wait(Wait::Acknowledged),
            ),
            (
                |facts| facts.token = Status::Disabled,
                skip("the token is disabled"),
            ),
            (
                |facts| facts.token = Status::Gone,
                skip("the token is gone"),
            ),
            (
                |facts| facts.token = Status::Revoked,
                skip("the token is revoked"),
            ),
            (
                |facts| facts.not_allowed = Some("no".to_owned()),
                skip("no"),
            ),
            (|facts| facts.revoke_at = at(73), wait(Wait::Until(at(73)))),
            (|facts| facts.is_warned = false, wait(Wait::NotWarned)),
            (
                |facts| facts.is_source_failing = true,
                wait(Wait::SourceFailing),
            ),
            (|facts| facts.losses.clear(), wait(Wait::NotLost)),
            (
                |facts| facts.losses[0].status = IdentityStatus::Unknown,
                wait(Wait::NotLost),
            ),
            (
                |facts| facts.losses[0].doubt = Some(Doubt::Unconfirmed),
                unreliable(Doubt::Unconfirmed),
            ),
            (
                |facts| facts.losses[0].doubt = Some(Doubt::Held),
                unreliable(Doubt::Held),
            ),
            (
                |facts| facts.retry_at = Some(at(80)),
                wait(Wait::RetryAt(at(80))),
            ),
        ];
        for (nth, (change, expected)) in cases.into_iter().enumerate() {
            let mut facts = facts();
            change(&mut facts);
            assert_eq!(decide(&facts, at(72)), expected, "case {nth}");
        }
    }

    #[test]
    fn every_directory_that_reports_a_loss_must_be_reliable() {
        for doubt in [Doubt::Held, Doubt::Failing, Doubt::Stale] {
            let mut facts = facts();
            let mut other = loss("ldap", IdentityStatus::Deleted);
            other.doubt = Some(doubt);
            facts.losses.push(other);
            let expected = Wait::Unreliable("ldap".to_owned(), doubt);
            assert_eq!(decide(&facts, at(72)), Decision::Wait(expected));
            // A directory that reports no loss does not matter.
            facts.losses[1].status = IdentityStatus::Active;
            assert_eq!(decide(&facts, at(72)), Decision::Revoke);
        }
    }

    fn at_minute(minute: i64) -> DateTime<Utc> {
        let midnight: DateTime<Utc> = "2026-11-23T00:00:00Z".parse().unwrap();
        midnight + TimeDelta::minutes(minute)
    }

    fn trail(entries: &[(&str, i64, Outcome)]) -> Trail {
        Trail::from_attempts(entries.iter().map(|(subject, minute, outcome)| Attempt {
            subject: (*subject).to_owned(),
            at: at_minute(*minute),
            outcome: *outcome,
        }))
    }

    #[test]
    fn possible_revocations_count_for_a_day_and_failures_do_not() {
        let trail = trail(&[
            ("a/1", 0, Outcome::Started),
            ("a/1", 1, Outcome::Done),
            ("a/2", 2, Outcome::Started),
            ("a/2", 3, Outcome::Failed),
            ("a/3", 4, Outcome::Unknown),
            ("a/4", 5, Outcome::Started),
        ]);
        assert_eq!(trail.count_revoked(at_minute(10)), 3);
        assert_eq!(trail.count_revoked(at_minute(1440)), 3);
        assert_eq!(trail.count_revoked(at_minute(1441)), 2);
        assert_eq!(trail.count_revoked(at_minute(1445)), 0);
        assert!(trail.is_counted("a/3", at_minute(10)) && !trail.is_counted("a/2", at_minute(10)));
        assert!(!trail.is_counted("a/3", at_minute(1444)));
        assert_eq!(trail.unknown_outcomes().collect::<Vec<_>>(), ["a/3", "a/4"]);
        assert!(trail.has_failed("a/2") && !trail.has_failed("a/1") && !trail.has_failed("a/9"));
    }

    #[test]
    fn a_token_waits_after_a_failed_or_an_interrupted_attempt() {
        let trail = trail(&[("a/1", 0, Outcome::Failed), ("a/2", 0, Outcome::Started)]);
        assert_eq!(
            trail.retry_at("a", "a/1", at_minute(59)),
            Some(at_minute(60))
        );
        assert_eq!(trail.retry_at("a", "a/1", at_minute(60)), None);
        assert_eq!(
            trail.retry_at("a", "a/2", at_minute(10)),
            Some(at_minute(11))
        );
        assert_eq!(trail.retry_at("a", "a/2", at_minute(11)), None);
        assert_eq!(trail.retry_at("a", "a/3", at_minute(1)), None);
    }

    #[test]
    fn a_source_waits_after_three_failed_tokens() {
        let entries = [
            ("a/1", 0, Outcome::Failed),
            ("a/2", 10, Outcome::Unknown),
            ("a/3", 20, Outcome::Failed),
        ];
        assert_eq!(
            trail(&entries[..2]).retry_at("a", "a/9", at_minute(21)),
            None
        );
        let trail = trail(&entries);
        assert_eq!(
            trail.retry_at("a", "a/9", at_minute(21)),
            Some(at_minute(60))
        );
        assert_eq!(trail.retry_at("a", "a/9", at_minute(60)), None);
        assert_eq!(trail.retry_at("b", "b/1", at_minute(21)), None);
        assert_eq!(trail.retry_at("", "b/1", at_minute(21)), None);
    }
}
