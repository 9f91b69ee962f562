//! What the audit trail tells of earlier attempts: how many tokens the policy has ended in a day, and what is
//! to be left alone for a while.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

/// The limit counts over this long.
const DAY: TimeDelta = TimeDelta::days(1);
/// A token, or a source, is left alone for so long after an attempt that failed.
const REST: TimeDelta = TimeDelta::hours(1);
/// An attempt without an outcome may still be under way for so long.
const UNDER_WAY: TimeDelta = TimeDelta::minutes(11);
/// So many tokens that could not be ended make it the source's fault.
const SOURCE_DOWN: usize = 3;

/// What came of an attempt to end a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is written down: it is under way, or was cut off.
    Begun,
    /// The token has ended.
    Done,
    /// It has not.
    Failed,
    /// Nobody knows.
    InDoubt,
}

/// One entry about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// What the trail calls the token: `source/external_id`.
    pub subject: String,
    /// When.
    pub at: DateTime<Utc>,
    /// What came of it by then.
    pub outcome: Outcome,
}

/// The last entry about each token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trail(BTreeMap<String, (DateTime<Utc>, Outcome)>);

impl Trail {
    /// Of entries in the order in which they were written.
    #[must_use]
    pub fn of(tried: impl IntoIterator<Item = Tried>) -> Self {
        let last = tried
            .into_iter()
            .map(|it| (it.subject, (it.at, it.outcome)));
        Self(last.collect())
    }

    /// Takes down that a token would be ended.
    pub fn foresee(&mut self, subject: String, now: DateTime<Utc>) {
        self.0.insert(subject, (now, Outcome::Done));
    }

    /// How many tokens were ended in the day before `now`, or may have been.
    #[must_use]
    pub fn ended(&self, now: DateTime<Utc>) -> usize {
        let counts = |(at, outcome): &&(DateTime<Utc>, Outcome)| {
            *outcome != Outcome::Failed && now - *at < DAY
        };
        self.0.values().filter(counts).count()
    }

    /// Whether the token is among them: another attempt ends no other.
    #[must_use]
    pub fn is_counted(&self, subject: &str, now: DateTime<Utc>) -> bool {
        self.0
            .get(subject)
            .is_some_and(|(at, outcome)| *outcome != Outcome::Failed && now - *at < DAY)
    }

    /// Whether it failed when it was last tried.
    #[must_use]
    pub fn has_failed(&self, subject: &str) -> bool {
        let failed = [Outcome::Failed, Outcome::InDoubt];
        self.0
            .get(subject)
            .is_some_and(|(_, outcome)| failed.contains(outcome))
    }

    /// Until when a token of this source is left alone, for its own sake or for its source's.
    #[must_use]
    pub fn rests_until(
        &self,
        source: &str,
        subject: &str,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let own = self.0.get(subject).and_then(|last| rest(*last));
        own.max(self.source_rests_until(source, now))
            .filter(|until| now < *until)
    }

    fn source_rests_until(&self, source: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let is_of = |subject: &str| {
            let rest = subject.strip_prefix(source);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let of_source = self.0.iter().filter(|(subject, _)| is_of(subject));
        let resting = of_source.filter_map(|(_, last)| rest(*last).filter(|_| is_failure(last.1)));
        let mut resting: Vec<_> = resting.filter(|until| now < *until).collect();
        resting.sort_unstable();
        // It is asked again when fewer than that many are in that time.
        let nth = resting.len().checked_sub(SOURCE_DOWN)?;
        resting.get(nth).copied()
    }

    /// The tokens of which nobody knows whether they have ended.
    pub fn in_doubt(&self) -> impl Iterator<Item = &str> {
        let is_in_doubt = |outcome| matches!(outcome, Outcome::Begun | Outcome::InDoubt);
        let tokens = self.0.iter();
        tokens
            .filter(move |(_, (_, outcome))| is_in_doubt(*outcome))
            .map(|(subject, _)| subject.as_str())
    }
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::InDoubt)
}

fn rest((at, outcome): (DateTime<Utc>, Outcome)) -> Option<DateTime<Utc>> {
    match outcome {
        Outcome::Done => None,
        Outcome::Begun => Some(at + UNDER_WAY),
        Outcome::Failed | Outcome::InDoubt => Some(at + REST),
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
        Trail::of(entries.iter().map(|(subject, minute, outcome)| Tried {
            subject: (*subject).to_owned(),
            at: at(*minute),
            outcome: *outcome,
        }))
    }

    #[test]
    fn what_may_have_ended_counts_for_a_day_and_what_failed_does_not() {
        let trail = trail(&[
            ("a/1", 0, Outcome::Begun),
            ("a/1", 1, Outcome::Done),
            ("a/2", 2, Outcome::Begun),
            ("a/2", 3, Outcome::Failed),
            ("a/3", 4, Outcome::InDoubt),
            ("a/4", 5, Outcome::Begun),
        ]);
        assert_eq!(trail.ended(at(10)), 3);
        assert_eq!(trail.ended(at(1440)), 3);
        assert_eq!(trail.ended(at(1441)), 2);
        assert_eq!(trail.ended(at(1445)), 0);
        assert!(trail.is_counted("a/3", at(10)) && !trail.is_counted("a/2", at(10)));
        assert!(!trail.is_counted("a/3", at(1444)));
        assert_eq!(trail.in_doubt().collect::<Vec<_>>(), ["a/3", "a/4"]);
        assert!(trail.has_failed("a/2") && !trail.has_failed("a/1") && !trail.has_failed("a/9"));
    }

    #[test]
    fn a_token_rests_after_a_failure_and_one_that_was_cut_off_until_it_cannot_be_under_way() {
        let trail = trail(&[("a/1", 0, Outcome::Failed), ("a/2", 0, Outcome::Begun)]);
        assert_eq!(trail.rests_until("a", "a/1", at(59)), Some(at(60)));
        assert_eq!(trail.rests_until("a", "a/1", at(60)), None);
        assert_eq!(trail.rests_until("a", "a/2", at(10)), Some(at(11)));
        assert_eq!(trail.rests_until("a", "a/2", at(11)), None);
        assert_eq!(trail.rests_until("a", "a/3", at(1)), None);
    }

    #[test]
    fn a_source_rests_when_three_of_its_tokens_could_not_be_ended() {
        let entries = [
            ("a/1", 0, Outcome::Failed),
            ("a/2", 10, Outcome::InDoubt),
            ("a/3", 20, Outcome::Failed),
        ];
        assert_eq!(trail(&entries[..2]).rests_until("a", "a/9", at(21)), None);
        let trail = trail(&entries);
        assert_eq!(trail.rests_until("a", "a/9", at(21)), Some(at(60)));
        assert_eq!(trail.rests_until("a", "a/9", at(60)), None);
        assert_eq!(trail.rests_until("b", "b/1", at(21)), None);
        assert_eq!(trail.rests_until("", "b/1", at(21)), None);
    }
}
