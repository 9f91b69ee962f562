//! The warning policy, which says when a warning is sent and to whom, and planning by it: the notices about a token,
//! and when it is next due.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::preference::Delivery;
use super::schedule::first_instant;
use super::{
    Address, Basis, Expiry, Generation, NewNotice, Occurrence, PersonalTimes, Preference,
    Recipient, Rules, Status, Step, Token, Topic, Wishes,
};
use crate::time::shift;

/// A day may have 25 hours. A mail at a time of day that a person chose is sent at most so long before its step.
const LONGEST_DAY: TimeDelta = TimeDelta::hours(25);

#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Warning times before expiry, widest first.
    pub steps: Vec<Step>,
    /// Steps that replace them for the tokens of a source.
    pub source_steps: BTreeMap<String, Vec<Step>>,
    /// How early a notice may be sent to join another mail to the same recipient.
    pub merge_ahead: TimeDelta,
    /// The time of the administrators' daily mail; `None` warns them at the instant of the step.
    pub admin_digest: Option<NaiveTime>,
    /// The zone of `admin_digest` and of the times in mails.
    pub zone: Tz,
    pub admins: Vec<Address>,
    /// The configured accounts by [`account_key`].
    pub accounts: BTreeMap<String, Account>,
    /// A sweep that plans more mails than this is held; 0 is no limit.
    pub max_per_sweep: u64,
    pub rules: Rules,
    /// Not of the configuration: read from the store before tokens are planned.
    pub personal: PersonalTimes,
}

/// A configured account.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Account {
    pub name: String,
    pub admins: Vec<Address>,
    /// Steps that replace those of the source and of all tokens.
    pub steps: Option<Vec<Step>>,
}

/// Names of accounts compare without case.
pub fn account_key(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Administrators per source and account, as reported by the sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountAdmins(HashMap<String, HashMap<String, Vec<Address>>>);

impl AccountAdmins {
    pub fn add(&mut self, source: &str, account: &str, address: Address) {
        let accounts = self.0.entry(source.to_owned()).or_default();
        let admins = accounts.entry(account_key(account)).or_default();
        admins.push(address);
    }

    pub fn for_token(&self, token: &Token) -> &[Address] {
        let admins = token
            .account
            .as_ref()
            .and_then(|account| self.0.get(&token.source)?.get(&account_key(account)));
        admins.map_or(&[], Vec::as_slice)
    }
}

/// What happens at one step of a token's current expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepOutlook {
    pub step: Step,
    /// The instant of the step: its width before the expiry.
    pub at: DateTime<Utc>,
    pub state: StepState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// The step is as wide as the token's life, so it would warn of an expiry that was just chosen.
    TooWide,
    /// This step, or a tighter one, was planned.
    Planned,
    Open {
        plan_at: DateTime<Utc>,
    },
}

impl Policy {
    /// A hash over everything that decides *when* a token is due. When it differs from the one in the
    /// store, every `due_at` is computed again.
    pub fn fingerprint(&self) -> String {
        let of_accounts = self.accounts.iter();
        let of_accounts: Vec<_> = of_accounts
            .filter_map(|(key, account)| Some((key, account.steps.as_ref()?)))
            .collect();
        let text = format!(
            "2|{:?}|{:?}|{of_accounts:?}|{}|{:?}|{}",
            self.steps, self.source_steps, self.merge_ahead, self.admin_digest, self.zone
        );
        let PersonalTimes {
            steps, has_digests, ..
        } = &self.personal;
        let personal = if steps.is_empty() && !has_digests {
            String::new()
        } else {
            format!("|{steps:?}|{has_digests}")
        };
        let digest = Sha256::digest(text + &personal);
        Uuid::from_slice(&digest[..16])
            .map(|id| id.simple().to_string())
            .unwrap_or_default()
    }

    /// The warning times of a token: those of its account, else of its source, else of all tokens.
    pub fn steps_of(&self, token: &Token) -> &[Step] {
        let account = self.account_of(token);
        account
            .and_then(|account| account.steps.as_ref())
            .or_else(|| self.source_steps.get(&token.source))
            .unwrap_or(&self.steps)
    }

    /// The widest step that any token can have.
    pub fn widest_step(&self) -> Step {
        let of_accounts = self.accounts.values();
        let of_accounts = of_accounts.filter_map(|account| account.steps.as_ref());
        let all = of_accounts.chain(self.source_steps.values());
        let all = all.flatten().chain(&self.steps).copied();
        let all = all.chain(self.personal.steps.iter().copied());
        all.max().unwrap_or(Step::ZERO)
    }

    /// The steps of a token for people who chose none, and those that anyone chose; widest first.
    fn all_steps_of(&self, token: &Token) -> Cow<'_, [Step]> {
        let steps = self.steps_of(token);
        if self.personal.steps.is_empty() {
            return Cow::Borrowed(steps);
        }
        let all: BTreeSet<_> = steps.iter().chain(&self.personal.steps).copied().collect();
        Cow::Owned(all.into_iter().rev().collect())
    }

    fn account_of(&self, token: &Token) -> Option<&Account> {
        self.accounts.get(&account_key(token.account.as_deref()?))
    }

    /// The earliest instant at which the token needs work: a notice to plan, or its expiry to mark.
    ///
    /// An expired token without a `due_at` is finished: steps that are added later do not apply to it.
    pub fn due_at(&self, token: &Token) -> Option<DateTime<Utc>> {
        self.due_after(token, token.planned_step)
    }

    /// [`Policy::due_at`] once `planned` is the tightest planned step.
    fn due_after(&self, token: &Token, planned: Option<Step>) -> Option<DateTime<Utc>> {
        let expires_at = token.expiry.at()?;
        let mark_at = match token.status {
            Status::Active if token.has_outdated_expiry() => None,
            Status::Active => Some(expires_at),
            Status::Expired if token.due_at.is_none() => return None,
            Status::Expired => None,
            Status::Disabled | Status::Revoked | Status::Gone => return None,
        };
        self.open_steps(token, planned)
            .map(|step| self.plan_at(expires_at, step))
            .chain(mark_at)
            .min()
    }

    /// The steps tighter than `planned` and narrower than the token's life, widest first.
    pub(super) fn open_steps(
        &self,
        token: &Token,
        planned: Option<Step>,
    ) -> impl Iterator<Item = Step> {
        let life = match (token.expiry, token.life_from) {
            (Expiry::At(at), Some(from)) => Some(at - from),
            _ => None,
        };
        // By an expiry that is not its source's any more, no token expires.
        let expires = !token.has_outdated_expiry();
        let steps = self.all_steps_of(token).into_owned();
        steps.into_iter().filter(move |step| {
            planned.is_none_or(|planned| *step < planned)
                && life.is_none_or(|life| step.width() < life)
                && (expires || *step != Step::ZERO)
        })
    }

    /// The state of each step for the token's current expiry, widest first; empty without an expiry.
    pub fn outlook(&self, token: &Token) -> Vec<StepOutlook> {
        let Some(expires_at) = token.expiry.at() else {
            return Vec::new();
        };
        let open: Vec<Step> = self.open_steps(token, token.planned_step).collect();
        // All other steps are too wide for the token's life.
        let fitting: Vec<Step> = self.open_steps(token, None).collect();
        self.steps_of(token)
            .iter()
            .map(|&step| StepOutlook {
                step,
                at: shift(expires_at, -step.width()),
                state: if open.contains(&step) {
                    StepState::Open {
                        plan_at: self.plan_at(expires_at, step),
                    }
                } else if fitting.contains(&step) {
                    StepState::Planned
                } else {
                    StepState::TooWide
                },
            })
            .collect()
    }

    /// When the notices of a step must be planned so that none of them is late.
    pub(super) fn plan_at(&self, expires_at: DateTime<Utc>, step: Step) -> DateTime<Utc> {
        let step_at = shift(expires_at, -step.width());
        let merged_at = shift(step_at, -self.merge_ahead);
        let planned_at = merged_at.min(self.send_at(expires_at, step, Basis::Admin));
        if self.personal.has_digests {
            planned_at.min(shift(step_at, -LONGEST_DAY))
        } else {
            planned_at
        }
    }

    /// When a notice should be sent to a recipient with this basis.
    ///
    /// The daily mail contains every token whose step is before the next daily mail, so a notice is
    /// sent at the digest time before its step, never after it.
    pub fn send_at(&self, expires_at: DateTime<Utc>, step: Step, basis: Basis) -> DateTime<Utc> {
        self.send_at_to(None, expires_at, step, basis)
    }

    /// The same to a person with a preference.
    fn send_at_to(
        &self,
        preference: Option<&Preference>,
        expires_at: DateTime<Utc>,
        step: Step,
        basis: Basis,
    ) -> DateTime<Utc> {
        let step_at = shift(expires_at, -step.width());
        let usual = match basis {
            Basis::AccountAdmin | Basis::Admin => self.admin_digest,
            Basis::Issuer => None,
        };
        let hour = preference.and_then(|preference| preference.digest_at);
        let zone = preference.and_then(|preference| preference.timezone);
        let hour = hour.or(usual);
        hour.map_or(step_at, |hour| {
            last_at_hour(step_at, hour, zone.unwrap_or(self.zone))
        })
    }

    /// All recipients of a warning about the token: its owners; the administrators of its account, as configured and
    /// as reported by its source; and those of all accounts. Each reachable address is contained once; if none is
    /// reachable, all are. The owners who lost access are left out, even if they are also administrators.
    pub fn recipients(
        &self,
        token: &Token,
        account_admins: &AccountAdmins,
        lost_owners: &[Address],
        is_unreachable: &impl Fn(&Address) -> bool,
    ) -> Vec<Recipient> {
        let owners = token.owners().map(|owner| (owner, Basis::Issuer));
        let of_account = self.account_admins(token, account_admins);
        let of_account = of_account.map(|admin| (admin, Basis::AccountAdmin));
        let of_all = self.admins.iter().map(|admin| (admin, Basis::Admin));
        let mut seen = HashSet::new();
        let all = owners
            .chain(of_account)
            .chain(of_all)
            .filter(|(address, _)| !lost_owners.contains(address))
            .filter(|(address, _)| seen.insert(*address))
            .map(|(address, basis)| Recipient {
                address: address.clone(),
                basis,
            })
            .collect();
        reachable_or_all(all, is_unreachable)
    }

    /// The administrators of the token's account, as configured and as reported by its source.
    pub fn account_admins<'a>(
        &'a self,
        token: &'a Token,
        reported: &'a AccountAdmins,
    ) -> impl Iterator<Item = &'a Address> {
        let configured = self.account_of(token).into_iter();
        let configured = configured.flat_map(|account| &account.admins);
        configured.chain(reported.for_token(token))
    }

    /// The configured administrators who are notified about everything.
    pub fn reachable_admins(&self, is_unreachable: &impl Fn(&Address) -> bool) -> Vec<Recipient> {
        let all = self.admins.iter().map(|address| Recipient {
            address: address.clone(),
            basis: Basis::Admin,
        });
        reachable_or_all(all.collect(), is_unreachable)
    }
}

/// An address can work again, so if none is reachable, all are tried.
fn reachable_or_all(
    mut recipients: Vec<Recipient>,
    is_unreachable: &impl Fn(&Address) -> bool,
) -> Vec<Recipient> {
    let is_reachable = |recipient: &Recipient| !is_unreachable(&recipient.address);
    if recipients.iter().any(is_reachable) {
        recipients.retain(is_reachable);
    }
    recipients
}

#[derive(Debug, Clone, PartialEq)]
pub struct TokenPlan {
    /// By mail. Inserting a notice that already exists changes nothing.
    pub notices: Vec<NewNotice>,
    pub in_accounts: Vec<NewNotice>,
    /// The tightest step that is now planned.
    pub planned_step: Option<Step>,
    pub due_at: Option<DateTime<Utc>>,
}

/// Plans the steps of `token` that are due up to `horizon`, the time of the next sweep: a step that is
/// due before then would otherwise be late.
///
/// A step is planned for all recipients at once, each with their own `send_at`, so a token is read once
/// per step. If several steps are due for a recipient at once, only the tightest is planned.
pub fn plan(
    token: &Token,
    recipients: &[Recipient],
    wishes: &Wishes,
    policy: &Policy,
    horizon: DateTime<Utc>,
) -> TokenPlan {
    let Some(generation) = token.generation() else {
        return TokenPlan {
            notices: Vec::new(),
            in_accounts: Vec::new(),
            planned_step: token.planned_step,
            due_at: None,
        };
    };
    let steps: Vec<Step> = policy
        .open_steps(token, token.planned_step)
        .filter(|step| policy.plan_at(generation.at, *step) <= horizon)
        .collect();
    let planned_step = steps.last().copied().or(token.planned_step);
    let due_at = policy.due_after(token, planned_step);
    let standard = policy.steps_of(token);
    let (mut notices, mut in_accounts) = (Vec::new(), Vec::new());
    for recipient in recipients {
        let person = &recipient.address;
        let delivery =
            |step| wishes.delivery(person, (token, generation), (step, standard), horizon);
        let steps: Vec<(Step, Delivery)> = steps
            .iter()
            .map(|step| (*step, delivery(*step)))
            .filter(|(_, delivery)| *delivery != Delivery::default())
            .collect();
        let send_at =
            |step| policy.send_at_to(wishes.get(person), generation.at, step, recipient.basis);
        for (notice, delivery) in
            notices_for_recipient(token, generation, recipient, &steps, send_at, horizon)
        {
            if delivery.in_account {
                in_accounts.push(notice.in_account());
            }
            if delivery.by_mail {
                notices.push(notice);
            }
        }
    }
    TokenPlan {
        notices,
        in_accounts,
        planned_step,
        due_at,
    }
}

#[derive(Debug, PartialEq)]
pub struct ForecastWarning {
    pub step: Step,
    pub at: DateTime<Utc>,
    /// `None` if no one can receive it.
    pub notice: Option<NewNotice>,
}

/// Every warning about `token` from `now` on if nothing changes: planned step by step, as sweeps would
/// at the instants when a step is due.
pub fn forecast_notices(
    token: &Token,
    recipients: &[Recipient],
    wishes: &Wishes,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Vec<ForecastWarning> {
    let mut token = token.clone();
    let mut forecast = Vec::new();
    while let (Some(due_at), Some(expires_at)) = (policy.due_at(&token), token.expiry.at()) {
        let planned = plan(&token, recipients, wishes, policy, due_at.max(now));
        if planned.planned_step == token.planned_step {
            break;
        }
        token.planned_step = planned.planned_step;
        if let Some(step) = token.planned_step
            && recipients.is_empty()
        {
            forecast.push(ForecastWarning {
                step,
                at: policy.send_at(expires_at, step, Basis::Issuer),
                notice: None,
            });
        }
        for notice in planned.notices {
            forecast.push(ForecastWarning {
                step: notice.step.unwrap_or(Step::ZERO),
                at: notice.send_at,
                notice: Some(notice),
            });
        }
    }
    forecast
}

/// The notices of `steps` (widest first) for one recipient.
fn notices_for_recipient(
    token: &Token,
    generation: Generation,
    recipient: &Recipient,
    steps: &[(Step, Delivery)],
    send_at: impl Fn(Step) -> DateTime<Utc>,
    horizon: DateTime<Utc>,
) -> Vec<(NewNotice, Delivery)> {
    let mut notices = Vec::new();
    for (index, &(step, delivery)) in steps.iter().enumerate() {
        let latest = send_at(step).max(horizon);
        // A tighter step that is sent by then replaces this one.
        if steps[index + 1..]
            .iter()
            .any(|&(tighter, _)| send_at(tighter) <= latest)
        {
            continue;
        }
        let occurrence = Occurrence {
            topic: Topic::Expiry,
            generation,
            step: Some(step),
        };
        let notice = NewNotice::for_token(token, occurrence, recipient, send_at(step));
        notices.push((notice, delivery));
    }
    notices
}

/// The last instant at or before `at` when clocks in `zone` show `hour`. If they show it twice on a day, that is the
/// first time; if they skip it, the end of the gap.
fn last_at_hour(at: DateTime<Utc>, hour: NaiveTime, zone: Tz) -> DateTime<Utc> {
    let today = at.with_timezone(&zone).date_naive();
    (0..3)
        .filter_map(|ago| today.checked_sub_days(Days::new(ago)))
        .filter_map(|day| first_instant(day.and_time(hour), zone))
        .find(|instant| *instant <= at)
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_digest_before_a_step_follows_the_wall_clock() {
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
    fn a_skipped_hour_is_the_end_of_the_gap() {
        let half_past_two = NaiveTime::from_hms_opt(2, 30, 0).unwrap();
        let found = last_at_hour(
            instant("2026-03-29T12:00:00Z"),
            half_past_two,
            chrono_tz::Europe::Berlin,
        );
        assert_eq!(found, instant("2026-03-29T01:00:00Z"));
    }
}
