//! The response to tokens that outlive their issuers' access: when such a token is ended, when somebody is
//! warned of it, and what makes it wait.
//!
//! Nothing is ended unless somebody was warned in time, and only while everything that speaks for it holds.

mod trail;

use std::fmt;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use uuid::Uuid;

use super::{FindingState, IdentityStatus, Status, Step};

pub use trail::{Outcome, Trail, Tried};

/// So long before the end somebody has to be warned; at once where the whole time is shorter.
const NOTICE: TimeDelta = TimeDelta::days(1);

/// When tokens that outlive their issuers' access are ended, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// So long after the finding was opened, or its acknowledgement ended.
    pub revoke_after: TimeDelta,
    /// At most so many in any 24 hours.
    pub max_per_day: u32,
}

/// The times of one token's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Countdown {
    /// When it ends if somebody is warned in time. Tells this countdown's warnings from those of another.
    pub ends_at: DateTime<Utc>,
    /// From when on somebody is warned.
    pub warn_at: DateTime<Utc>,
}

impl Response {
    /// How long before the end somebody has to be warned.
    #[must_use]
    pub fn notice(&self) -> TimeDelta {
        self.revoke_after.min(NOTICE)
    }

    /// The same as the step of a warning.
    #[must_use]
    pub fn step(&self) -> Step {
        Step::from_seconds(self.notice().num_seconds())
    }

    /// The countdown of a finding; none while it is acknowledged. It begins anew when that is over.
    #[must_use]
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
        let ends_at = from.checked_add_signed(self.revoke_after)?;
        Some(Countdown {
            ends_at,
            warn_at: ends_at - self.notice(),
        })
    }

    /// When the token ends, with what is known of the warning: a late one moves the end.
    #[must_use]
    pub fn revoke_at(
        &self,
        countdown: Countdown,
        warned_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let warned_at = warned_at.unwrap_or(now.max(countdown.warn_at));
        countdown.ends_at.max(warned_at + self.notice())
    }
}

/// When a finding was opened: its id begins with the time (RFC 9562 §5.7).
#[must_use]
pub fn opened_at(finding: Uuid) -> DateTime<Utc> {
    let time = finding.get_timestamp().map(|time| time.to_unix());
    time.and_then(|(seconds, nanos)| DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos))
        .unwrap_or_default()
}

/// What a directory says of a person who lost access there, and what that is worth just now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The directory.
    pub directory: String,
    /// What it says.
    pub status: IdentityStatus,
    /// Whether it says something else by now, which awaits its confirmation.
    pub is_candidate: bool,
    /// What is wrong with the directory itself.
    pub doubt: Option<Doubt>,
}

/// What is wrong with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// What it said waits for an operator.
    Held,
    /// The last attempt to read it failed.
    Failing,
    /// It was not read well for too long.
    Stale,
}

/// All that decides whether a token is ended now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What has become of the finding by now.
    pub finding: FindingState,
    /// What the token is by now.
    pub token: Status,
    /// Why lapsed may not end it, where it may not.
    pub refused: Option<String>,
    /// When it ends.
    pub revoke_at: DateTime<Utc>,
    /// Whether somebody was warned of that.
    pub is_warned: bool,
    /// Whether the source failed when it was last listed: what is known of the token may be old.
    pub is_source_failing: bool,
    /// The directories that say that the issuer lost access.
    pub losses: Vec<Loss>,
    /// Until when it is left alone after an attempt that failed.
    pub rests_until: Option<DateTime<Utc>>,
}

/// What is done about a token now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is ended.
    Revoke,
    /// It is looked at again later.
    Wait(Wait),
    /// It is not ended unless something else changes.
    Never(Never),
}

/// What a token's end waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Somebody accepted the finding for a time.
    Acknowledged,
    /// Its time.
    Until(DateTime<Utc>),
    /// Nobody was told yet.
    Unwarned,
    /// The source, which could not be listed.
    SourceFailing,
    /// No directory says so just now.
    NotLost,
    /// The directory that says so says something else, too.
    Unconfirmed(String),
    /// The directory that says so cannot be relied on.
    Doubted(String, Doubt),
    /// The last attempt failed.
    Resting(DateTime<Utc>),
    /// The limit of so many in 24 hours.
    Limit(u32),
}

/// Why a token is not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Never {
    /// The finding is resolved.
    Resolved,
    /// There is nothing left to end.
    Ended(Status),
    /// lapsed may not.
    Refused(String),
}

/// What is done about a token.
#[must_use]
pub fn decide(facts: &Facts, now: DateTime<Utc>) -> Decision {
    match facts.finding {
        FindingState::Resolved => return Decision::Never(Never::Resolved),
        FindingState::Acknowledged => return Decision::Wait(Wait::Acknowledged),
        FindingState::Open => {}
    }
    match facts.token {
        // Past a date of ours it still works; whether there is an end to make is told by `refused`.
        Status::Active | Status::Expired => {}
        status => return Decision::Never(Never::Ended(status)),
    }
    if let Some(why) = &facts.refused {
        return Decision::Never(Never::Refused(why.clone()));
    }
    if now < facts.revoke_at {
        return Decision::Wait(Wait::Until(facts.revoke_at));
    }
    if !facts.is_warned {
        return Decision::Wait(Wait::Unwarned);
    }
    if facts.is_source_failing {
        return Decision::Wait(Wait::SourceFailing);
    }
    if let Some(wait) = doubtful(&facts.losses) {
        return Decision::Wait(wait);
    }
    match facts.rests_until {
        Some(until) if now < until => Decision::Wait(Wait::Resting(until)),
        _ => Decision::Revoke,
    }
}

/// What is not certain of a person's loss. One directory that says so is enough, although another says
/// that they have access; but each that says so must be one to rely on.
fn doubtful(losses: &[Loss]) -> Option<Wait> {
    let lost: Vec<&Loss> = losses.iter().filter(|it| it.status.is_lost()).collect();
    if lost.is_empty() {
        return Some(Wait::NotLost);
    }
    lost.into_iter().find_map(|loss| {
        let name = || loss.directory.clone();
        match loss.doubt {
            Some(doubt) => Some(Wait::Doubted(name(), doubt)),
            None if loss.is_candidate => Some(Wait::Unconfirmed(name())),
            None => None,
        }
    })
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |at: &DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        match self {
            Self::Acknowledged => f.write_str("the finding is acknowledged"),
            Self::Until(at) => write!(f, "its time is {}", time(at)),
            Self::Unwarned => f.write_str("no warning of it has been sent yet"),
            Self::SourceFailing => f.write_str("its source cannot be listed just now"),
            Self::NotLost => f.write_str("no directory says just now that the issuer lost access"),
            Self::Unconfirmed(name) => {
                write!(f, "the directory {name} says something else, unconfirmed")
            }
            Self::Doubted(name, Doubt::Held) => {
                write!(
                    f,
                    "the directory {name} is held: `lapsed directory release {name}` or `reject`"
                )
            }
            Self::Doubted(name, Doubt::Failing) => {
                write!(
                    f,
                    "the directory {name} cannot be read: `lapsed directory check {name}`"
                )
            }
            Self::Doubted(name, Doubt::Stale) => {
                write!(f, "the directory {name} was not read well for too long")
            }
            Self::Limit(limit) => write!(
                f,
                "[policy] max_revocations_per_day = {limit} is reached; the oldest finding goes first"
            ),
            Self::Resting(at) => write!(
                f,
                "the last attempt failed; the next is from {} on",
                time(at)
            ),
        }
    }
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolved => f.write_str("the finding is resolved"),
            Self::Ended(status) => write!(f, "the token is {status}"),
            Self::Refused(why) => f.write_str(why),
        }
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

    fn response(hours: i64) -> Response {
        Response {
            revoke_after: TimeDelta::hours(hours),
            max_per_day: 10,
        }
    }

    #[test]
    fn an_end_is_counted_from_the_finding_or_from_the_end_of_its_acknowledgement() {
        let id = finding(at(0));
        assert_eq!(opened_at(id), at(0));
        for (acknowledged_until, now, expected) in [
            (None, 1, Some((48, 72))),
            (Some(at(10)), 9, None),
            (Some(at(10)), 10, Some((58, 82))),
            // By a clock that was behind.
            (Some(at(-10)), 1, Some((48, 72))),
        ] {
            let countdown = response(72).countdown(id, acknowledged_until, at(now));
            let found = countdown.map(|it| (it.warn_at, it.ends_at));
            let expected = expected.map(|(warn, end)| (at(warn), at(end)));
            assert_eq!(found, expected, "{acknowledged_until:?} {now}");
        }
        let short = response(6).countdown(id, None, at(0)).unwrap();
        assert_eq!((short.warn_at, short.ends_at), (at(0), at(6)), "at once");
        assert_eq!(response(6).step().to_string(), "6h");
        assert_eq!(response(72).step().to_string(), "1d");
    }

    #[test]
    fn a_late_warning_moves_the_end_and_an_early_one_does_not() {
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
            is_candidate: false,
            doubt: None,
        }
    }

    fn facts() -> Facts {
        Facts {
            finding: FindingState::Open,
            token: Status::Active,
            refused: None,
            revoke_at: at(72),
            is_warned: true,
            is_source_failing: false,
            losses: vec![loss("hr", IdentityStatus::Disabled)],
            rests_until: None,
        }
    }

    #[test]
    fn a_token_is_ended_only_while_all_that_speaks_for_it_holds() {
        type Change = fn(&mut Facts);
        let wait = |wait| Decision::Wait(wait);
        let never = |never| Decision::Never(never);
        let doubted = |doubt| wait(Wait::Doubted("hr".to_owned(), doubt));
        let cases: [(Change, Decision); 19] = [
            (|_| (), Decision::Revoke),
            (
                |it| it.losses[0].status = IdentityStatus::Deleted,
                Decision::Revoke,
            ),
            (
                |it| it.losses[0].status = IdentityStatus::OutOfGroup,
                Decision::Revoke,
            ),
            (|it| it.token = Status::Expired, Decision::Revoke),
            (|it| it.rests_until = Some(at(72)), Decision::Revoke),
            (
                |it| it.finding = FindingState::Resolved,
                never(Never::Resolved),
            ),
            (
                |it| it.finding = FindingState::Acknowledged,
                wait(Wait::Acknowledged),
            ),
            (
                |it| it.token = Status::Disabled,
                never(Never::Ended(Status::Disabled)),
            ),
            (
                |it| it.token = Status::Gone,
                never(Never::Ended(Status::Gone)),
            ),
            (
                |it| it.token = Status::Revoked,
                never(Never::Ended(Status::Revoked)),
            ),
            (
                |it| it.refused = Some("no".to_owned()),
                never(Never::Refused("no".to_owned())),
            ),
            (|it| it.revoke_at = at(73), wait(Wait::Until(at(73)))),
            (|it| it.is_warned = false, wait(Wait::Unwarned)),
            (|it| it.is_source_failing = true, wait(Wait::SourceFailing)),
            (|it| it.losses.clear(), wait(Wait::NotLost)),
            (
                |it| it.losses[0].status = IdentityStatus::Unknown,
                wait(Wait::NotLost),
            ),
            (
                |it| it.losses[0].is_candidate = true,
                wait(Wait::Unconfirmed("hr".to_owned())),
            ),
            (
                |it| it.losses[0].doubt = Some(Doubt::Held),
                doubted(Doubt::Held),
            ),
            (
                |it| it.rests_until = Some(at(80)),
                wait(Wait::Resting(at(80))),
            ),
        ];
        for (nth, (change, expected)) in cases.into_iter().enumerate() {
            let mut facts = facts();
            change(&mut facts);
            assert_eq!(decide(&facts, at(72)), expected, "case {nth}");
        }
    }

    #[test]
    fn every_directory_that_says_so_must_be_one_to_rely_on() {
        for doubt in [Doubt::Held, Doubt::Failing, Doubt::Stale] {
            let mut facts = facts();
            let mut other = loss("ldap", IdentityStatus::Deleted);
            other.doubt = Some(doubt);
            facts.losses.push(other);
            let expected = Wait::Doubted("ldap".to_owned(), doubt);
            assert_eq!(decide(&facts, at(72)), Decision::Wait(expected));
            // One that does not say so has no voice.
            facts.losses[1].status = IdentityStatus::Active;
            assert_eq!(decide(&facts, at(72)), Decision::Revoke);
        }
    }
}
