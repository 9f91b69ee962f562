//! When somebody is warned, and who, and how tokens should be: the part of the configuration that decisions are made from.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Address, Expiry, Ground, Rules, Status, Step, Token, ToldAdmins};

/// When to warn and whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Warning times before expiry, widest first.
    pub steps: Vec<Step>,
    /// How far ahead of its time a notice may go with another to the same issuer.
    pub merge_ahead: TimeDelta,
    /// The hour of the administrators' daily mail; `None` warns them at the step's instant.
    pub admin_digest: Option<NaiveTime>,
    /// The zone of that hour and of the times in mails.
    pub zone: Tz,
    /// Administrators of everything.
    pub admins: Vec<Address>,
    /// Administrators by account.
    pub accounts: BTreeMap<String, Vec<Address>>,
    /// Mails that one sweep may plan before it is held; 0 is no limit.
    pub max_per_sweep: u64,
    /// How tokens should be.
    pub rules: Rules,
}

/// Somebody who is owed a notice, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Where he is reached.
    pub address: Address,
    /// Why he of all people.
    pub ground: Ground,
}

/// What the rules say of one step of a token's present expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOutlook {
    /// The step.
    pub step: Step,
    /// Its instant: so long before the expiry.
    pub at: DateTime<Utc>,
    /// What comes, or came, of it.
    pub prospect: Prospect,
}

/// What comes, or came, of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prospect {
    /// It is as wide as the token's life and says nothing that its maker does not know.
    TooWide,
    /// It, or a tighter one, was planned.
    Planned,
    /// It is still to be planned.
    Open {
        /// When.
        plan_at: DateTime<Utc>,
    },
}

impl Policy {
    /// A hash over everything that decides *when* a token is due. When it differs from the one the
    /// store was planned under, every `due_at` is computed anew.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self {
            steps,
            merge_ahead,
            admin_digest,
            zone,
            ..
        } = self;
        let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
        let text = format!(
            "1|{}|{merge_ahead}|{admin_digest:?}|{zone}",
            steps.join(",")
        );
        let digest = Sha256::digest(text);
        Uuid::from_slice(&digest[..16])
            .map(|id| id.simple().to_string())
            .unwrap_or_default()
    }

    /// The earliest instant at which something must be done about the token: a notice planned for
    /// any recipient, or its expiry marked.
    ///
    /// Nothing is due any more about a token that has expired and was settled, whatever the steps
    /// are now: a step that is added later is not owed to those that are over.
    #[must_use]
    pub fn due_at(&self, token: &Token) -> Option<DateTime<Utc>> {
        self.due_after(token, token.planned_step)
    }

    /// The same once `planned` is the tightest step that is planned.
    pub(super) fn due_after(&self, token: &Token, planned: Option<Step>) -> Option<DateTime<Utc>> {
        let expires_at = token.expiry.at()?;
        let mark = match token.status {
            Status::Active => Some(expires_at),
            Status::Expired if token.due_at.is_none() => return None,
            Status::Expired => None,
            Status::Disabled | Status::Revoked | Status::Gone => return None,
        };
        let steps = self
            .steps_after(token, planned)
            .map(|step| self.plan_at(expires_at, step));
        steps.chain(mark).min()
    }

    /// The steps that are still to be planned for the token's present expiry, widest first.
    ///
    /// A step as wide as the token's life says nothing that its maker does not know.
    pub(super) fn open_steps(&self, token: &Token) -> impl Iterator<Item = Step> {
        self.steps_after(token, token.planned_step)
    }

    /// The steps tighter than `planned`, widest first.
    fn steps_after(&self, token: &Token, planned: Option<Step>) -> impl Iterator<Item = Step> {
        let life = match (token.expiry, token.life_from) {
            (Expiry::At(at), Some(from)) => Some(at - from),
            _ => None,
        };
        self.steps.iter().copied().filter(move |step| {
            planned.is_none_or(|planned| *step < planned)
                && life.is_none_or(|life| step.width() < life)
        })
    }

    /// What the rules say of each step for the token's present expiry, widest first; none for a token
    /// without an expiry.
    #[must_use]
    pub fn outlook(&self, token: &Token) -> Vec<StepOutlook> {
        let Some(expires_at) = token.expiry.at() else {
            return Vec::new();
        };
        let open: Vec<Step> = self.open_steps(token).collect();
        // What would be open had nothing been planned: the rest is too wide for the token's life.
        let fitting: Vec<Step> = self.steps_after(token, None).collect();
        let steps = self.steps.iter().copied();
        steps
            .map(|step| StepOutlook {
                step,
                at: before(expires_at, step.width()),
                prospect: if open.contains(&step) {
                    Prospect::Open {
                        plan_at: self.plan_at(expires_at, step),
                    }
                } else if fitting.contains(&step) {
                    Prospect::Planned
                } else {
                    Prospect::TooWide
                },
            })
            .collect()
    }

    /// When the notices of a step must be planned so that none of them comes late.
    pub(super) fn plan_at(&self, expires_at: DateTime<Utc>, step: Step) -> DateTime<Utc> {
        let step_at = before(expires_at, step.width());
        let merged_at = before(step_at, self.merge_ahead);
        merged_at.min(self.send_at(expires_at, step, Ground::Admin))
    }

    /// When a notice should go to somebody on this ground.
    ///
    /// A daily mail holds every token whose step falls before the next one, so a notice moves
    /// forward to the digest hour before its step, never back.
    #[must_use]
    pub fn send_at(&self, expires_at: DateTime<Utc>, step: Step, ground: Ground) -> DateTime<Utc> {
        let step_at = before(expires_at, step.width());
        match (ground, self.admin_digest) {
            (Ground::AccountAdmin | Ground::Admin, Some(hour)) => {
                last_at_hour(step_at, hour, self.zone)
            }
            (Ground::Issuer, _) | (_, None) => step_at,
        }
    }

    /// The administrators of the token's account, configured or told by its source, then those of
    /// everything.
    pub fn admins_of<'a>(
        &'a self,
        token: &Token,
        told: &'a ToldAdmins,
    ) -> impl Iterator<Item = Recipient> + 'a {
        let account = token
            .account
            .as_ref()
            .and_then(|account| self.accounts.get(account));
        let of_account = account
            .into_iter()
            .flatten()
            .chain(told.of(token))
            .map(|a| (a, Ground::AccountAdmin));
        let of_all = self.admins.iter().map(|a| (a, Ground::Admin));
        of_account.chain(of_all).map(|(address, ground)| Recipient {
            address: address.clone(),
            ground,
        })
    }

    /// Everybody who is owed a warning about the token: the issuer, the admins of its account, the
    /// configured admins; each address once, none that is `dead`, and not the issuer on any ground
    /// when he lost his access.
    #[must_use]
    pub fn recipients(
        &self,
        token: &Token,
        told: &ToldAdmins,
        issuer_lost_access: bool,
        dead: &impl Fn(&Address) -> bool,
    ) -> Vec<Recipient> {
        let issuer = token.issuer.clone().map(|address| Recipient {
            address,
            ground: Ground::Issuer,
        });
        let excluded = token.issuer.as_ref().filter(|_| issuer_lost_access);
        let mut seen = HashSet::new();
        issuer
            .into_iter()
            .chain(self.admins_of(token, told))
            .filter(|recipient| Some(&recipient.address) != excluded && !dead(&recipient.address))
            .filter(|recipient| seen.insert(recipient.address.key().to_owned()))
            .collect()
    }
}

/// `at - by`, stopping at the beginning of time.
fn before(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_sub_signed(by)
        .unwrap_or(DateTime::<Utc>::MIN_UTC)
}

/// The last time at or before `at` when clocks in `zone` show `hour`.
///
/// An hour that a change to summer time skips counts as the first moment after the gap; one that a
/// change back repeats counts as its first occurrence.
fn last_at_hour(at: DateTime<Utc>, hour: NaiveTime, zone: Tz) -> DateTime<Utc> {
    let mut day = at.with_timezone(&zone).date_naive();
    for _ in 0..3 {
        if let Some(found) = first_at(day.and_time(hour), zone)
            && found <= at
        {
            return found;
        }
        let Some(previous) = day.pred_opt() else {
            break;
        };
        day = previous;
    }
    at
}

/// The first instant at which clocks in `zone` show `local` or, in a gap, a later time.
fn first_at(local: chrono::NaiveDateTime, zone: Tz) -> Option<DateTime<Utc>> {
    // No zone has ever skipped more than a day; gaps of an hour or half are the rule.
    (0..=96).find_map(|quarters| {
        let shifted = local.checked_add_signed(TimeDelta::minutes(15 * quarters))?;
        zone.from_local_datetime(&shifted)
            .earliest()
            .map(|found| found.with_timezone(&Utc))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_digest_hour_before_a_step_follows_the_wall_clock() {
        let nine = NaiveTime::from_hms_opt(9, 0, 0).unwrap();
        let berlin = chrono_tz::Europe::Berlin;
        for (at, expected) in [
            ("2026-11-28T09:00:00Z", "2026-11-28T08:00:00Z"),
            ("2026-11-28T08:00:00Z", "2026-11-28T08:00:00Z"),
            ("2026-11-28T07:59:59Z", "2026-11-27T08:00:00Z"),
            // Summer time begins on 29 March 2026 and ends on 25 October 2026.
            ("2026-03-29T07:00:00Z", "2026-03-29T07:00:00Z"),
            ("2026-03-29T06:59:00Z", "2026-03-28T08:00:00Z"),
            ("2026-10-25T07:59:00Z", "2026-10-24T07:00:00Z"),
            ("2026-10-25T08:00:00Z", "2026-10-25T08:00:00Z"),
        ] {
            assert_eq!(
                last_at_hour(instant(at), nine, berlin),
                instant(expected),
                "{at}"
            );
        }
    }

    #[test]
    fn an_hour_that_is_skipped_counts_as_the_end_of_the_gap() {
        let half_past_two = NaiveTime::from_hms_opt(2, 30, 0).unwrap();
        let found = last_at_hour(
            instant("2026-03-29T12:00:00Z"),
            half_past_two,
            chrono_tz::Europe::Berlin,
        );
        assert_eq!(found, instant("2026-03-29T01:00:00Z"));
    }
}
