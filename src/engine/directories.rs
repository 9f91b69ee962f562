//! Syncs directories: checks each listing for plausibility, stores the accepted statuses of people, and holds a mass
//! change until an operator decides.

mod alerts;
mod people;
mod survey;
mod sync_one;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

use crate::directories::Directory;
use crate::domain::{DirectoryTerms, IssuerMode};
use crate::sources::listing::hex;
use crate::store::{DirectoryRow, IdentityRow};

use super::{Engine, Error, Report, SweepOptions, judge};

pub use people::Implausible;
pub use survey::{HeldStatusChange, StatusChange, Survey, SurveyOutcome};
pub use sync_one::{DirectoryPreview, SyncedDirectory, UnbindOutcome};

const MAX_CONCURRENT_DIRECTORIES: usize = 4;

pub struct WatchedDirectory {
    pub terms: DirectoryTerms,
    pub directory: Arc<dyn Directory>,
}

struct Answer<'a> {
    watched: &'a WatchedDirectory,
    row: DirectoryRow,
    asked_at: DateTime<Utc>,
    survey: Result<Survey, Error>,
}

impl Engine {
    /// The directories whose data is fresh enough to count.
    pub fn fresh_directories(&self, rows: &[DirectoryRow], now: DateTime<Utc>) -> Vec<String> {
        let is_fresh = |row: &&DirectoryRow| {
            let mut watched = self
                .directories
                .iter()
                .filter(|watched| watched.terms.name == row.name);
            watched.any(|watched| {
                watched
                    .terms
                    .is_fresh(row.sync_state.last_good_sync_at, now)
            })
        };
        let fresh = rows.iter().filter(is_fresh);
        fresh.map(|row| row.name.clone()).collect()
    }

    /// Synchronises every directory that is due; the failure of one does not stop another.
    pub(super) async fn sync_directories(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let named = |watched: &&WatchedDirectory| options.includes(&watched.terms.name);
        let named: Vec<_> = self.directories.iter().filter(named).collect();
        if named.is_empty() {
            return Ok(());
        }
        self.forget_uncovered().await?;
        let rows = self
            .store
            .begin_read()
            .await?
            .list_directories()
            .await?
            .into_iter();
        let mut rows: HashMap<_, _> = rows.map(|row| (row.name.clone(), row)).collect();
        let now = self.now();
        let mut due = Vec::new();
        for watched in named {
            let row = rows.remove(&watched.terms.name).unwrap_or_default();
            let schedule = watched.terms.schedule.as_ref();
            if row.sync_state.is_due(now, options.by_schedule, schedule) {
                due.push(self.survey_directory(watched, row, options));
            } else if row.sync_state.is_deferred(now) {
                report.sources_deferred += 1;
            } else if let Some(held) = &row.held {
                report.problems.push(held_problem(&row, held));
            }
        }
        let answers = stream::iter(due).buffer_unordered(MAX_CONCURRENT_DIRECTORIES);
        for answer in answers.collect::<Vec<_>>().await {
            self.store_answer(answer, options, report).await?;
        }
        Ok(())
    }

    async fn survey_directory<'a>(
        &self,
        watched: &'a WatchedDirectory,
        mut row: DirectoryRow,
        options: &SweepOptions,
    ) -> Answer<'a> {
        row.name.clone_from(&watched.terms.name);
        watched.terms.kind.clone_into(&mut row.kind);
        let asked_at = self.now();
        let accept_shrink = options.accepts_shrink(&watched.terms.name);
        let survey = self.survey(watched, &row, accept_shrink).await;
        Answer {
            watched,
            row,
            asked_at,
            survey,
        }
    }

    /// Stores the outcome of one directory's sync in one transaction.
    async fn store_answer(
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
        let read_at = row.sync_state.last_good_sync_at;
        let is_stale = !watched.terms.is_fresh(read_at, asked_at);
        let alert = match survey {
            Ok(survey) => {
                if let Some((found, before)) = survey.shrunk {
                    let entry = [&options.actor, "directory.accept_shrink", &row.name];
                    let reason = format!("{found} people instead of {before}");
                    let now = self.now();
                    tx.insert_audit(Self::new_id(now), now, entry, Some(&reason))
                        .await?;
                }
                self.store_survey(&mut tx, survey, &mut row, report).await?;
                let alert = row.sync_state.record_success(asked_at);
                if row.held.is_some() {
                    // It answered, but nothing of the listing was accepted.
                    row.sync_state.last_good_sync_at = read_at;
                } else if is_stale {
                    // Its data counts again.
                    judge::request(&mut tx, self.now()).await?;
                }
                alert
            }
            Err(error) if let Some(wait) = error.wait() => {
                row.sync_state.defer(self.now(), wait);
                report.sources_deferred += 1;
                tracing::info!(directory.name = row.name, "deferred: {error}");
                // Being deferred is no failure, but data that is too old is.
                let since = read_at.filter(|_| is_stale);
                since.and_then(|since| {
                    let text = super::sweep::error_chain(&error);
                    report
                        .problems
                        .push(format!("directory {}: {text}", row.name));
                    row.sync_state.mark_unobservable(since, text)
                })
            }
            Err(Error::Store(error)) => return Err(error.into()),
            Err(error) => {
                let text = super::sweep::error_chain(&error);
                report
                    .problems
                    .push(format!("directory {}: {text}", row.name));
                row.sync_state.record_failure(asked_at, text)
            }
        };
        tx.save_directory(&row).await?;
        if let Some(alert) = alert {
            let alert = alerts::sync_alert(&row.name, alert, row.sync_state.error.as_deref());
            self.alert(&mut tx, alert, report).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn store_survey(
        &self,
        tx: &mut crate::store::Tx,
        survey: Survey,
        row: &mut DirectoryRow,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let (changes, forgotten) = match survey.outcome {
            SurveyOutcome::Held {
                reason,
                hold,
                changes,
            } => {
                // One mail even if the number of people grows, until an operator has decided.
                let is_new = row.held_at.is_none() || row.decision.is_some();
                let since = row.held_at.filter(|_| !is_new).unwrap_or(now);
                row.held_at = Some(since);
                row.held_changes = serde_json::to_string(&hold).ok();
                report.problems.push(held_problem(row, &reason));
                let alert = alerts::held_alert(&row.name, since, &reason, &changes);
                self.alert(tx, alert, report).await?;
                (row.held, row.decision) = (Some(reason), None);
                return Ok(());
            }
            SurveyOutcome::Accepted { changes, forgotten } => (changes, forgotten),
        };
        let status_changes = changes
            .iter()
            .filter(|change| change.changes_status())
            .count() as u64;
        report.people_changed += status_changes;
        let needs_judging = status_changes > 0 || !forgotten.is_empty();
        let (mut rows, mut lost) = (Vec::new(), Vec::new());
        for change in changes {
            let is_lost = change.changes_status() && change.now.status.is_lost();
            let identity = IdentityRow::new(&row.name, change.now);
            lost.extend(is_lost.then(|| identity.clone()));
            rows.push(identity);
        }
        tx.save_identities(&rows).await?;
        judge::restate_findings(tx, &lost, now).await?;
        tx.delete_identities(&row.name, &forgotten).await?;
        if needs_judging {
            judge::request(tx, now).await?;
        }
        (row.held, row.held_at, row.held_changes, row.decision) = (None, None, None, None);
        if let Some(people) = survey.total {
            row.people = i64::try_from(people).unwrap_or(i64::MAX);
        }
        if let Some(listing) = survey.listing {
            row.cursor = listing.cursor;
            row.query_digest = Some(survey.query_digest);
            row.groups = Some(survey::group_sizes(&listing.groups));
        }
        Ok(())
    }
}

fn held_problem(row: &DirectoryRow, reason: &str) -> String {
    format!("directory {} is held: {reason}", row.name)
}

/// Setting: the issuer modes by which uncovered people were last forgotten.
const ISSUER_MODES: &str = "issuers.modes";

impl Engine {
    /// When the issuer modes changed, deletes the identities of issuers who are no longer covered by directories. This
    /// does not wait for a directory's answer: the modes are the operator's decision.
    pub(super) async fn forget_uncovered(&self) -> Result<(), Error> {
        let modes = self.modes_digest();
        let mut tx = self.store.begin_read().await?;
        let settings = tx.load_settings(&[ISSUER_MODES]).await?;
        drop(tx);
        if settings.get(ISSUER_MODES).map_or("", String::as_str) == modes {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        for row in tx.list_directories().await? {
            let known = tx.load_identities(&row.name).await?.into_iter();
            let keys = known.map(|identity| identity.email_key);
            let is_uncovered = |key: &String| self.issuers.mode(key) != IssuerMode::Sso;
            let uncovered: Vec<String> = keys.filter(is_uncovered).collect();
            if !uncovered.is_empty() {
                tx.delete_identities(&row.name, &uncovered).await?;
                judge::request(&mut tx, self.now()).await?;
            }
        }
        tx.set_setting(ISSUER_MODES, &modes).await?;
        Ok(tx.commit().await?)
    }

    /// Empty without configured modes.
    fn modes_digest(&self) -> String {
        if self.issuers.modes.is_empty() {
            return String::new();
        }
        let mut digest = Sha256::new();
        for (name, mode) in &self.issuers.modes {
            digest.update(format!("{name} {mode}\n"));
        }
        hex(digest)
    }
}
