//! Earlier revocation attempts in the audit trail: how many tokens the policy revoked in a day, and which
//! tokens and sources wait for a retry.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

/// Period of [`max_per_day`](super::RevocationPolicy::max_per_day).
const LIMIT_PERIOD: TimeDelta = TimeDelta::days(1);
/// Delay after a failed attempt, for a token or a source.
const RETRY_DELAY: TimeDelta = TimeDelta::hours(1);
/// An attempt without an outcome may still be running for this time.
const MAX_ATTEMPT_DURATION: TimeDelta = TimeDelta::minutes(11);
/// From this number of failed tokens on, the whole source waits.
const SOURCE_FAILURE_THRESHOLD: usize = 3;

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
    /// The token as `source/external_id`.
    pub subject: String,
    pub at: DateTime<Utc>,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail(BTreeMap<String, (DateTime<Utc>, Outcome)>);

impl Trail {
    /// From attempts in the order in which they were recorded.
    #[must_use]
    pub fn from_attempts(attempts: impl IntoIterator<Item = Attempt>) -> Self {
        let last = attempts
            .into_iter()
            .map(|attempt| (attempt.subject, (attempt.at, attempt.outcome)));
        Self(last.collect())
    }

    /// Records that a token would be revoked, for a preview.
    pub fn assume_revoked(&mut self, subject: String, now: DateTime<Utc>) {
        self.0.insert(subject, (now, Outcome::Done));
    }

    /// The tokens that were, or may have been, revoked in the day before `now`.
    #[must_use]
    pub fn count_revoked(&self, now: DateTime<Utc>) -> usize {
        let counts = |(at, outcome): &&(DateTime<Utc>, Outcome)| {
            *outcome != Outcome::Failed && now - *at < LIMIT_PERIOD
        };
        self.0.values().filter(counts).count()
    }

    /// Whether [`Self::count_revoked`] contains the token, so that another attempt does not count again.
    #[must_use]
    pub fn is_counted(&self, subject: &str, now: DateTime<Utc>) -> bool {
        self.0
            .get(subject)
            .is_some_and(|(at, outcome)| *outcome != Outcome::Failed && now - *at < LIMIT_PERIOD)
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn has_failed(&self, subject: &str) -> bool {
        self.0
            .get(subject)
            .is_some_and(|(_, outcome)| is_failure(*outcome))
    }

    /// When a token of this source may be tried again, after failures of its own or of its source.
    #[must_use]
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
        let is_of_source = |subject: &str| {
            let id = subject.strip_prefix(source);
            id.is_some_and(|id| id.starts_with('/'))
        };
        let failed = self
            .0
            .iter()
            .filter(|(subject, (_, outcome))| is_of_source(subject) && is_failure(*outcome));
        let mut waiting: Vec<_> = failed
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
        let is_unknown = |outcome| matches!(outcome, Outcome::Started | Outcome::Unknown);
        let tokens = self.0.iter();
        tokens
            .filter(move |(_, (_, outcome))| is_unknown(*outcome))
            .map(|(subject, _)| subject.as_str())
    }
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::Unknown)
}

fn retry_at((at, outcome): (DateTime<Utc>, Outcome)) -> Option<DateTime<Utc>> {
    match outcome {
        Outcome::Done => None,
        Outcome::Started => Some(at + MAX_ATTEMPT_DURATION),
        Outcome::Failed | Outcome::Unknown => Some(at + RETRY_DELAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        let midnight: DateTime<Utc> = "2026-11-23T00:00:00Z".parse().unwrap();
        midnight + TimeDelta::minutes(minute)
    }

    fn trail(entries: &[(&str, i64, Outcome)]) -> Trail {
        Trail::from_attempts(entries.iter().map(|(subject, minute, outcome)| Attempt {
            subject: (*subject).to_owned(),
            at: at(*minute),
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
        assert_eq!(trail.count_revoked(at(10)), 3);
        assert_eq!(trail.count_revoked(at(1440)), 3);
        assert_eq!(trail.count_revoked(at(1441)), 2);
        assert_eq!(trail.count_revoked(at(1445)), 0);
        assert!(trail.is_counted("a/3", at(10)) && !trail.is_counted("a/2", at(10)));
        assert!(!trail.is_counted("a/3", at(1444)));
        assert_eq!(trail.unknown_outcomes().collect::<Vec<_>>(), ["a/3", "a/4"]);
        assert!(trail.has_failed("a/2") && !trail.has_failed("a/1") && !trail.has_failed("a/9"));
    }

    #[test]
    fn a_token_waits_after_a_failed_or_an_interrupted_attempt() {
        let trail = trail(&[("a/1", 0, Outcome::Failed), ("a/2", 0, Outcome::Started)]);
        assert_eq!(trail.retry_at("a", "a/1", at(59)), Some(at(60)));
        assert_eq!(trail.retry_at("a", "a/1", at(60)), None);
        assert_eq!(trail.retry_at("a", "a/2", at(10)), Some(at(11)));
        assert_eq!(trail.retry_at("a", "a/2", at(11)), None);
        assert_eq!(trail.retry_at("a", "a/3", at(1)), None);
    }

    #[test]
    fn a_source_waits_after_three_failed_tokens() {
        let entries = [
            ("a/1", 0, Outcome::Failed),
            ("a/2", 10, Outcome::Unknown),
            ("a/3", 20, Outcome::Failed),
        ];
        assert_eq!(trail(&entries[..2]).retry_at("a", "a/9", at(21)), None);
        let trail = trail(&entries);
        assert_eq!(trail.retry_at("a", "a/9", at(21)), Some(at(60)));
        assert_eq!(trail.retry_at("a", "a/9", at(60)), None);
        assert_eq!(trail.retry_at("b", "b/1", at(21)), None);
        assert_eq!(trail.retry_at("", "b/1", at(21)), None);
    }
}
