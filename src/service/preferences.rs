//! How people want to be notified.

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;

use crate::domain::service::{Actor, Operation, Problem, ProblemKind};
use crate::domain::{Address, Channel, DAILY_USE, Preference, Step};
use crate::store::Tx;
use crate::time::shift;

use super::{Error, Service, audit};

const MAX_LANGUAGE: usize = 35;

/// Each `Some` replaces what is there; `None` inside is as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PreferenceChange {
    pub steps: Option<Option<Vec<Step>>>,
    pub channel: Option<Option<Channel>>,
    /// A tag of BCP 47, such as `en` or `de-AT`.
    pub language: Option<Option<String>>,
    pub timezone: Option<Option<Tz>>,
    pub digest_at: Option<Option<NaiveTime>>,
}

impl Service {
    /// The preferences of a person; without any, everything is as configured.
    ///
    /// # Errors
    /// If they are not the actor's own.
    pub async fn find_preference(
        &self,
        actor: &Actor,
        person: &Address,
    ) -> Result<Preference, Error> {
        may_with(actor, Operation::ReadPreferences, person)?;
        let mut tx = self.store.begin_short_read().await?;
        let known = tx.find_preference(person.key()).await?;
        Ok(known.unwrap_or_else(|| Preference::none(person.clone())))
    }

    /// # Errors
    /// `Stale` if they are not at `version` any more; if they are not the actor's own; if they switch off the last
    /// warning about a token in daily use.
    pub async fn set_preference(
        &self,
        actor: &Actor,
        person: &Address,
        version: Option<i64>,
        change: &PreferenceChange,
    ) -> Result<Preference, Error> {
        may_set_preference(actor, person)?;
        let wants_none = matches!(&change.steps, Some(Some(steps)) if steps.is_empty());
        if wants_none {
            // So that a use of a moment ago counts.
            self.flush().await?;
        }
        let now = self.clock.now();
        let (mut tx, actor) = self.begin_for(actor, Operation::WritePreferences).await?;
        let actor = &actor;
        may_set_preference(actor, person)?;
        let mut preference = tx.lock_preference(person).await?;
        if version.is_some_and(|version| version != preference.version) {
            return Err(Problem::new(
                ProblemKind::Stale,
                "the preferences were changed since they were read",
            )
            .fix("read them again, and repeat the change if it still applies")
            .into());
        }
        apply(&mut preference, change)?;
        if wants_none {
            refuse_if_in_use(&mut tx, &preference, now).await?;
        }
        preference.version = tx.save_preference(&preference).await?;
        let subject = format!("user/{}", person.key());
        audit::entry(&mut tx, actor, "preference.set", &subject, None, now).await?;
        self.commit(tx, &[]).await?;
        Ok(preference)
    }
}

/// # Errors
/// If they are not the actor's own; if the actor's credential belongs to an account and its person has rights
/// beyond.
pub fn may_set_preference(actor: &Actor, person: &Address) -> Result<(), Problem> {
    may_with(actor, Operation::WritePreferences, person)?;
    if actor.speaks_for_person() {
        return Ok(());
    }
    Err(Problem::new(
        ProblemKind::Forbidden,
        "preferences are for all accounts of a person, and this token belongs to one of them",
    )
    .fix("ask an operator: lapsed preference set"))
}

/// Everybody sets their own; operators and super admins also those of others.
fn may_with(actor: &Actor, operation: Operation, person: &Address) -> Result<(), Problem> {
    actor.may(operation)?;
    let is_own = match actor {
        Actor::Operator(_) => true,
        Actor::Caller(access) => access.person.address.as_ref() == Some(person),
    };
    if is_own || actor.is_super() {
        Ok(())
    } else {
        Err(Problem::unknown())
    }
}

/// Whoever uses a token every day is warned before it ends, whatever they prefer.
async fn refuse_if_in_use(
    tx: &mut Tx,
    preference: &Preference,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (since, person) = (shift(now, -DAILY_USE), &preference.address);
    let Some(token) = tx.find_token_used_since(person.key(), since, now).await? else {
        return Ok(());
    };
    Err(Problem::invalid(
        "/steps",
        format!(
            "the token {:?} was used within {} days, so its last warning cannot be switched off: it would stop \
             working without notice",
            token.label(),
            DAILY_USE.num_days(),
        ),
    )
    .fix(match preference.channel {
        Some(Channel::Account) => "keep one step, such as 1d",
        _ => "keep one step, such as 1d, or choose the channel account for fewer mails",
    })
    .into())
}

fn apply(preference: &mut Preference, change: &PreferenceChange) -> Result<(), Problem> {
    if let Some(steps) = &change.steps {
        let mut steps = steps.clone();
        if let Some(steps) = &mut steps {
            steps.sort_unstable_by(|a, b| b.cmp(a));
            steps.dedup();
            if steps.len() > Step::MAX_COUNT {
                let most = Step::MAX_COUNT;
                return Err(
                    Problem::invalid("/steps", format!("there are at most {most} steps"))
                        .fix(format!("name the {most} that matter most")),
                );
            }
        }
        preference.steps = steps;
    }
    if let Some(channel) = change.channel {
        preference.channel = channel;
    }
    if let Some(language) = &change.language {
        let is_tag = |tag: &String| {
            let is_part = |part: &str| {
                (1..=8).contains(&part.len())
                    && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
            };
            tag.len() <= MAX_LANGUAGE && tag.split('-').all(is_part)
        };
        if !language.as_ref().is_none_or(is_tag) {
            return Err(
                Problem::invalid("/language", "this is not the tag of a language")
                    .fix("write it as en or de-AT (BCP 47)"),
            );
        }
        preference.language.clone_from(language);
    }
    if let Some(timezone) = change.timezone {
        preference.timezone = timezone;
    }
    if let Some(digest_at) = change.digest_at {
        preference.digest_at = digest_at;
    }
    Ok(())
}
