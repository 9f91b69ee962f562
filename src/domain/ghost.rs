//! Ghosts: sources that were read and are no longer configured. Their tokens are warned about for a time of grace.

use chrono::{DateTime, TimeDelta, Utc};

use super::{FindingKind, RuleFinding, Severity};
use crate::time::shift;

const GRACE: TimeDelta = TimeDelta::days(7);
/// How long before its end the administrators are notified again.
const LAST_CALL: TimeDelta = TimeDelta::days(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ghost {
    /// The first sweep that did not find the source configured.
    pub since: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GhostPhase {
    Grace,
    LastDay,
    /// Its tokens are not warned about.
    Silent,
}

impl Ghost {
    pub fn silent_from(self) -> DateTime<Utc> {
        shift(self.since, GRACE)
    }

    pub fn last_call_at(self) -> DateTime<Utc> {
        shift(self.silent_from(), -LAST_CALL)
    }

    pub fn phase(self, now: DateTime<Utc>) -> GhostPhase {
        if now >= self.silent_from() {
            GhostPhase::Silent
        } else if now >= self.last_call_at() {
            GhostPhase::LastDay
        } else {
            GhostPhase::Grace
        }
    }

    /// The finding about the source; its severity shows the phase.
    pub fn finding(self, phase: GhostPhase) -> RuleFinding {
        let day = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC");
        let consequence = match phase {
            GhostPhase::Grace | GhostPhase::LastDay => "its tokens are warned about until",
            GhostPhase::Silent => "its tokens have not been warned about since",
        };
        let evidence = format!(
            "no [[source]] has had this name since {}; {consequence} {}",
            day(self.since),
            day(self.silent_from())
        );
        RuleFinding {
            kind: FindingKind::Unconfigured,
            severity: match phase {
                GhostPhase::Grace => Severity::Medium,
                GhostPhase::LastDay => Severity::High,
                GhostPhase::Silent => Severity::Critical,
            },
            since: Some(self.since),
            evidence,
        }
    }
}

/// The tokens of ghosts that exist since this instant, or longer, are not warned about at `now`.
pub fn silent_since(now: DateTime<Utc>) -> DateTime<Utc> {
    shift(now, -GRACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ghost_has_seven_days_of_grace_and_a_last_call_one_day_before() {
        let since: DateTime<Utc> = "2026-11-21T09:00:00Z".parse().unwrap();
        let ghost = Ghost { since };
        let second = TimeDelta::seconds(1);
        for (at, phase) in [
            (since, GhostPhase::Grace),
            (since + TimeDelta::days(6) - second, GhostPhase::Grace),
            (since + TimeDelta::days(6), GhostPhase::LastDay),
            (since + TimeDelta::days(7) - second, GhostPhase::LastDay),
            (since + TimeDelta::days(7), GhostPhase::Silent),
        ] {
            assert_eq!(ghost.phase(at), phase, "{at}");
            assert_eq!(since <= silent_since(at), phase == GhostPhase::Silent);
        }
        let severities = [GhostPhase::Grace, GhostPhase::LastDay, GhostPhase::Silent]
            .map(|phase| ghost.finding(phase).severity);
        assert!(severities.is_sorted_by(|one, next| one < next));
    }
}
