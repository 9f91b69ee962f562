//! Sync of directories: pulls are gathered, doubted and weighed; what is believed of people is written down, and a
//! mass change waits for an operator.

mod alerts;
mod alone;
mod gather;
mod survey;
mod uncovered;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};

use crate::directories::Directory;
use crate::domain::access::Guards;
use crate::domain::{Address, Schedule, fresh_until};
use crate::store::{DirectoryRow, IdentityRow};

use super::{Engine, Error, Report, SweepOptions, judge};

pub use alone::{SyncedDirectory, Unbound};
pub use gather::Doubt;
pub use survey::{HeldTurn, Outcome, Survey, Turn};

/// So many directories are asked at a time.
const SIDE_BY_SIDE: usize = 4;

/// A directory, and what of its word is believed.
pub struct WatchedDirectory {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// It.
    pub directory: Arc<dyn Directory>,
    /// When it is asked; `None` is at every sweep.
    pub schedule: Option<Schedule>,
    /// Names or ids of groups, of which people must be in one; empty is no such condition.
    pub allowed_groups: Vec<String>,
    /// People who surely have access: a pull that says otherwise is not believed.
    pub canaries: Vec<Address>,
    /// For so long somebody must be missing before a deletion is believed.
    pub absence_grace: TimeDelta,
    /// For so long after it should have been read its word holds.
    pub fresh_for: TimeDelta,
    /// The share of the people known active that one pull may turn not-active.
    pub breaker_share: f64,
    /// That many may always be turned.
    pub breaker_min: u32,
}

impl WatchedDirectory {
    /// Up to when its word holds, if it was last read well `read_at`.
    #[must_use]
    pub fn fresh_until(&self, read_at: DateTime<Utc>) -> DateTime<Utc> {
        fresh_until(read_at, self.schedule.as_ref(), self.fresh_for)
    }

    fn guards(&self) -> Guards<'_> {
        Guards {
            absence_grace: self.absence_grace,
            breaker_share: self.breaker_share,
            breaker_min: self.breaker_min,
            allowed_groups: &self.allowed_groups,
        }
    }
}

/// What became of asking a directory.
struct Answer<'a> {
    watched: &'a WatchedDirectory,
    row: DirectoryRow,
    asked_at: DateTime<Utc>,
    survey: Result<Survey, Error>,
}

impl Engine {
    /// The directories whose word counts at `now`.
    pub fn fresh(&self, rows: &[DirectoryRow], now: DateTime<Utc>) -> Vec<String> {
        let read_at: HashMap<&str, _> = rows
            .iter()
            .filter_map(|row| Some((row.name.as_str(), row.standing.last_good_sync_at?)))
            .collect();
        let is_fresh = |watched: &&WatchedDirectory| {
            let read_at = read_at.get(watched.name.as_str());
            read_at.is_some_and(|read_at| now <= watched.fresh_until(*read_at))
        };
        let fresh = self.directories.iter().filter(is_fresh);
        fresh.map(|watched| watched.name.clone()).collect()
    }

    /// Synchronises every directory that is due; the failure of one does not stop another.
    pub(super) async fn sync_directories(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let named = |watched: &&WatchedDirectory| options.takes(&watched.name);
        let named: Vec<_> = self.directories.iter().filter(named).collect();
        if named.is_empty() {
            return Ok(());
        }
        self.forget_uncovered().await?;
        let rows = self.store.read().await?.directories().await?.into_iter();
        let mut rows: HashMap<_, _> = rows.map(|row| (row.name.clone(), row)).collect();
        let now = self.now();
        let mut asked = Vec::new();
        for watched in named {
            let row = rows.remove(&watched.name).unwrap_or_default();
            let schedule = watched.schedule.as_ref();
            if row.standing.is_due(now, options.by_schedule, schedule) {
                asked.push(self.ask_directory(watched, row, options));
            } else if row.standing.is_deferred(now) {
                report.sources_deferred += 1;
            } else if let Some(held) = &row.held {
                report.problems.push(still_held(&row, held));
            }
        }
        let answers = stream::iter(asked).buffer_unordered(SIDE_BY_SIDE);
        for answer in answers.collect::<Vec<_>>().await {
            self.take_answer(answer, options, report).await?;
        }
        Ok(())
    }

    async fn ask_directory<'a>(
        &self,
        watched: &'a WatchedDirectory,
        mut row: DirectoryRow,
        options: &SweepOptions,
    ) -> Answer<'a> {
        row.name.clone_from(&watched.name);
        watched.kind.clone_into(&mut row.kind);
        let asked_at = self.now();
        let accept_shrink = options.accepts_shrink(&watched.name);
        let survey = self.survey(watched, &row, accept_shrink).await;
        Answer {
            watched,
            row,
            asked_at,
            survey,
        }
    }

    /// Writes down what came of asking one directory, in one transaction.
    async fn take_answer(
        &self,
        answer: Answer<'_>,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Answer {
            watched,
            mut row,
            asked_at,
            survey,
        } = answer;
        let mut tx = self.store.begin().await?;
        let read_at = row.standing.last_good_sync_at;
        let is_stale = read_at.is_none_or(|at| asked_at > watched.fresh_until(at));
        let news = match survey {
            Ok(survey) => {
                if let Some((found, before)) = survey.shrunk {
                    let entry = [&options.asked_by, "directory.accept_shrink", &row.name];
                    let reason = format!("{found} people instead of {before}");
                    let now = self.now();
                    tx.audit(Self::new_id(now), now, entry, Some(&reason))
                        .await?;
                }
                self.take_survey(&mut tx, survey, &mut row, report).await?;
                let news = row.standing.succeeded(asked_at);
                if row.held.is_some() {
                    // It answered, and nothing of what it said counts.
                    row.standing.last_good_sync_at = read_at;
                } else if is_stale {
                    // What was not said any more is said again.
                    judge::ask(&mut tx, self.now()).await?;
                }
                news
            }
            Err(error) if let Some(wait) = error.wait() => {
                row.standing.deferred(self.now(), wait);
                report.sources_deferred += 1;
                tracing::info!(directory.name = row.name, "deferred: {error}");
                // Waiting is no failure, but to see nothing for so long is.
                let since = read_at.filter(|_| is_stale);
                since.and_then(|since| {
                    let said = super::sweep::chain(&error);
                    let problem = format!("directory {}: {said}", row.name);
                    report.problems.push(problem);
                    row.standing.blind(since, said)
                })
            }
            Err(Error::Store(error)) => return Err(error.into()),
            Err(error) => {
                let said = super::sweep::chain(&error);
                report
                    .problems
                    .push(format!("directory {}: {said}", row.name));
                row.standing.failed(asked_at, said)
            }
        };
        tx.put_directory(&row).await?;
        if let Some(news) = news {
            let alert = alerts::told(&row.name, news, row.standing.error.as_deref());
            self.alert(&mut tx, alert, report).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn take_survey(
        &self,
        tx: &mut crate::store::Tx,
        survey: Survey,
        row: &mut DirectoryRow,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let (believed, forgotten) = match survey.outcome {
            Outcome::Held {
                reason,
                hold,
                turns,
            } => {
                // One mail however the number of people grows, until somebody gave his word on them.
                let is_new = row.held_at.is_none() || row.verdict.is_some();
                let since = row.held_at.filter(|_| !is_new).unwrap_or(now);
                row.held_at = Some(since);
                row.held_turns = serde_json::to_string(&hold).ok();
                report.problems.push(still_held(row, &reason));
                let alert = alerts::held(&row.name, since, &reason, &turns);
                self.alert(tx, alert, report).await?;
                (row.held, row.verdict) = (Some(reason), None);
                return Ok(());
            }
            Outcome::Believed { turns, forgotten } => (turns, forgotten),
        };
        let turned = believed.iter().filter(|turn| turn.is_turn()).count() as u64;
        report.people_changed += turned;
        let is_news = turned > 0 || !forgotten.is_empty();
        let (mut rows, mut restated) = (Vec::new(), Vec::new());
        for turn in believed {
            let is_lost = turn.is_turn() && turn.now.status.is_lost();
            let identity = IdentityRow::new(&row.name, turn.now);
            restated.extend(is_lost.then(|| identity.clone()));
            rows.push(identity);
        }
        tx.put_identities(&rows).await?;
        judge::restate(tx, &restated, now).await?;
        tx.drop_identities(&row.name, &forgotten).await?;
        if is_news {
            judge::ask(tx, now).await?;
        }
        (row.held, row.held_at, row.held_turns, row.verdict) = (None, None, None, None);
        if let Some(people) = survey.people {
            row.people = i64::try_from(people).unwrap_or(i64::MAX);
        }
        if let Some(pulled) = survey.pulled {
            row.cursor = pulled.cursor;
            row.asked = Some(survey.asked);
            row.groups = Some(survey::written(&pulled.groups));
        }
        Ok(())
    }
}

fn still_held(row: &DirectoryRow, reason: &str) -> String {
    format!("directory {} is held: {reason}", row.name)
}
