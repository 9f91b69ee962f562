//! Sync: brings the store in step with what the sources list. Sources are asked side by side; when
//! all have answered, what they bring is taken in one after the other.

mod alone;
mod look;
mod merge;
mod walk;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};

use crate::domain::{Listed, News, Policy, Schedule, Terms};
use crate::sources::file::blocking;
use crate::sources::owners::Owners;
use crate::sources::{
    self, AccountAdmin, Checked, Fetched, Last, Listing, Refusals, Right, Source,
};
use crate::store::SourceRow;

use super::alert::Alert;
use super::{Engine, Error, LISTING_TIMEOUT, Report, SweepOptions};

pub use alone::{Change, Difference, Looked};
pub(super) use look::Look;
pub(super) use merge::{Changes, rows};
pub(super) use walk::Walk;

/// A listing of this many tokens is not believed when it has shrunk by half.
const SHRINK_GUARD_FROM: u64 = 20;

/// So many sources are asked at a time.
const SIDE_BY_SIDE: usize = 4;

/// A source as it is watched.
pub struct Watched {
    /// Its name in the configuration.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// It.
    pub source: Arc<dyn Source>,
    /// When it is listed; `None` is at every sweep.
    pub schedule: Option<Schedule>,
    /// Whether lapsed may end its tokens.
    pub allow_revoke: bool,
    /// The life that its tokens without an end are given.
    pub policy_ttl: Option<TimeDelta>,
    /// A file that says whose its tokens are.
    pub owners: Option<PathBuf>,
}

/// A listing, and who owns what where the source does not say.
pub(super) struct Found {
    pub listing: Listing,
    pub asked_at: DateTime<Utc>,
    owners: Option<Owners>,
}

impl Found {
    /// Whether what it lacks is gone.
    pub fn is_complete(&self) -> bool {
        self.listing.refusals.count == 0 && !self.listing.is_partial
    }

    /// Takes the tokens out, each with its owner.
    pub fn tokens(
        &mut self,
    ) -> impl Iterator<Item = Result<Listed, sources::Error>> + Send + use<> {
        let owners = self.owners.clone();
        let tokens = std::mem::take(&mut self.listing.tokens);
        tokens.map(move |token| {
            token.map(|mut token| {
                if let Some(owners) = &owners {
                    owners.apply(&mut token);
                }
                token
            })
        })
    }
}

/// What became of asking a source.
struct Answer<'a> {
    watched: &'a Watched,
    row: SourceRow,
    asked_at: DateTime<Utc>,
    found: Result<Fetched<Found>, Error>,
}

impl Engine {
    /// Synchronises every source that is due; the failure of one does not stop another.
    pub(super) async fn sync_sources(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let named = |watched: &&Watched| options.takes(&watched.name);
        let named: Vec<_> = self.sources.iter().filter(named).collect();
        if named.is_empty() {
            return Ok(());
        }
        let rows = self.store.read().await?.sources().await?.into_iter();
        let mut rows: HashMap<_, _> = rows.map(|row| (row.name.clone(), row)).collect();
        let now = self.now();
        let mut asked = Vec::new();
        for watched in named {
            let row = rows.remove(&watched.name).unwrap_or_default();
            let schedule = watched.schedule.as_ref();
            if row.standing.is_due(now, options.by_schedule, schedule) {
                asked.push(self.ask(watched, row));
            } else if row.standing.is_deferred(now) {
                report.sources_deferred += 1;
            }
        }
        let answers = stream::iter(asked).buffer_unordered(SIDE_BY_SIDE);
        // All of them before the first is taken in: an answer that waits to be read runs out of time.
        for answer in answers.collect::<Vec<_>>().await {
            let Answer {
                watched,
                mut row,
                asked_at,
                found,
            } = answer;
            let outcome = match found {
                Ok(Fetched::Unchanged) => {
                    // Rows that were refused are still refused: the file is the same.
                    let still = row.standing.error.take();
                    Ok(still)
                }
                Ok(Fetched::New(found)) => {
                    self.take_listing(watched, found, &mut row, options, report)
                        .await
                }
                Err(error) => Err(error),
            };
            self.settle(&mut row, asked_at, outcome, report).await?;
        }
        Ok(())
    }

    async fn ask<'a>(&self, watched: &'a Watched, mut row: SourceRow) -> Answer<'a> {
        row.name.clone_from(&watched.name);
        watched.kind.clone_into(&mut row.kind);
        let asked_at = self.now();
        let found = watched.fetch(&row, asked_at).await;
        Answer {
            watched,
            row,
            asked_at,
            found,
        }
    }

    /// Writes down how it went, and tells administrators where that is news.
    async fn settle(
        &self,
        row: &mut SourceRow,
        asked_at: DateTime<Utc>,
        outcome: Result<Option<String>, Error>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let name = row.name.clone();
        let news = match outcome {
            Ok(complaint) => {
                let news = row.standing.succeeded(asked_at);
                report.problems.extend(
                    complaint
                        .iter()
                        .map(|said| format!("source {name}: {said}")),
                );
                row.standing.error = complaint;
                news
            }
            Err(error) if let Some(wait) = error.wait() => {
                row.standing.deferred(self.now(), wait);
                report.sources_deferred += 1;
                tracing::info!(source.name = name, "deferred: {error}");
                None
            }
            Err(error) => {
                let said = super::sweep::chain(&error);
                report.problems.push(format!("source {name}: {said}"));
                let news = row.standing.failed(asked_at, said);
                // The next sweep reads it again.
                row.fingerprint = None;
                if let Error::Store(error) = error {
                    return Err(error.into());
                }
                news
            }
        };
        let mut tx = self.store.begin().await?;
        tx.put_source(row).await?;
        if let Some(news) = news {
            let alert = told(&name, news, row.standing.error.as_deref());
            self.alert(&mut tx, alert, report).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Takes a listing in; tells what is wrong with it where it is not whole.
    async fn take_listing(
        &self,
        watched: &Watched,
        mut found: Found,
        row: &mut SourceRow,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<Option<String>, Error> {
        let is_complete = found.is_complete();
        if let Err(error) = not_shrunk(&row.name, &found.listing, row.tokens) {
            if !options.accepts_shrink(&row.name) {
                return Err(error);
            }
            let mut tx = self.store.begin().await?;
            let entry = [&options.asked_by, "source.accept_shrink", &row.name];
            let now = self.now();
            let reason = format!("{} tokens instead of {}", found.listing.count, row.tokens);
            tx.audit(Self::new_id(now), now, entry, Some(&reason))
                .await?;
            tx.commit().await?;
        }
        let tokens = found.tokens();
        let terms = watched.terms(&self.policy, found.asked_at);
        let Found {
            listing, owners, ..
        } = found;
        let count = listing.count;
        let touched = report.tokens_touched();
        let refusals = listing.refusals;
        for refusal in &refusals.shown {
            tracing::warn!(source.name = row.name, "row refused: {refusal}");
        }
        self.merge(&row.name, tokens, is_complete, terms, report)
            .await?;
        self.take_admins(&row.name, listing.admins).await?;
        report.rows_refused += refusals.count;
        if let Some(longest) = listing.longest_life {
            row.longest_life = longest.life.map(|life| life.num_seconds());
            row.life_evidence = Some(longest.evidence);
            let mut tx = self.store.begin().await?;
            self.judge_source(&mut tx, row, report).await?;
            tx.commit().await?;
        }
        row.fingerprint = listing
            .fingerprint
            .map(|fingerprint| watched.fingerprint(&fingerprint, owners.as_ref()));
        if is_complete {
            row.tokens = i64::try_from(count).unwrap_or(i64::MAX);
        } else if report.tokens_touched() > touched || (row.tokens == 0 && count > 0) {
            row.tokens = self.store.read().await?.count_present(&row.name).await?;
        }
        Ok(refused(&refusals))
    }

    /// Keeps who administers the accounts of a source, where it told and it is news.
    async fn take_admins(
        &self,
        source: &str,
        told: Option<Vec<AccountAdmin>>,
    ) -> Result<(), Error> {
        let Some(told) = told else { return Ok(()) };
        let mut told: Vec<(String, String)> = told
            .into_iter()
            .map(|admin| (admin.account, admin.address.to_string()))
            .collect();
        told.sort_unstable();
        told.dedup();
        let mut tx = self.store.read().await?;
        let known = tx.admins_told_by(source).await?;
        drop(tx);
        if known == told {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        tx.put_told_admins(source, &told).await?;
        Ok(tx.commit().await?)
    }
}

/// What is wrong with a listing of which rows were refused.
pub(super) fn refused(refusals: &Refusals) -> Option<String> {
    refusals.shown.first().map(|first| {
        format!(
            "{} refused, so no token was marked gone; the first: {first}",
            rows(refusals.count)
        )
    })
}

/// Refuses a listing of half the tokens that the last good one held.
fn not_shrunk(name: &str, listing: &Listing, before: i64) -> Result<(), Error> {
    let before = u64::try_from(before).unwrap_or(0);
    let found = listing.count;
    let is_shrunk = before >= SHRINK_GUARD_FROM && found * 2 <= before;
    if !is_shrunk || listing.is_partial {
        return Ok(());
    }
    Err(match listing.refusals.shown.first() {
        Some(first) => Error::MostlyRefused {
            count: listing.refusals.count,
            first: first.to_string(),
            found,
            before,
        },
        None => Error::Shrunk {
            name: name.to_owned(),
            found,
            before,
        },
    })
}

impl Watched {
    /// Tries whether it can be listed, and whether who owns what can be read.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn check(&self) -> Result<Checked, sources::Error> {
        let mut checked = self.source.check().await?;
        if self.allow_revoke
            && let Some(missing) = self.source.lacks_to_revoke()
        {
            checked.rights.push(Right {
                what: "end tokens, as allow_revoke wants".to_owned(),
                missing: Some(missing.to_owned()),
            });
        }
        if let Some(path) = self.owners.clone() {
            let shown = path.display().to_string();
            let owners = blocking(move || Owners::read(&path)).await?;
            let rows = match owners.len() {
                1 => "1 row".to_owned(),
                rows => format!("{rows} rows"),
            };
            checked.summary = format!("{}; {shown} has {rows}", checked.summary);
        }
        Ok(checked)
    }

    /// By what rules the tokens are taken in that it was asked for then.
    pub(super) fn terms<'a>(&self, policy: &'a Policy, asked_at: DateTime<Utc>) -> Terms<'a> {
        Terms {
            policy,
            policy_ttl: self.policy_ttl,
            asked_at: Some(asked_at),
        }
    }

    /// Asks the source, and reads who owns what.
    pub(super) async fn fetch(
        &self,
        row: &SourceRow,
        asked_at: DateTime<Utc>,
    ) -> Result<Fetched<Found>, Error> {
        let fetch = self.fetch_whole(row, asked_at);
        let found = tokio::time::timeout(LISTING_TIMEOUT, fetch).await;
        found.unwrap_or(Err(Error::TimedOut))
    }

    async fn fetch_whole(
        &self,
        row: &SourceRow,
        asked_at: DateTime<Utc>,
    ) -> Result<Fetched<Found>, Error> {
        let owners = match self.owners.clone() {
            Some(path) => Some(blocking(move || Owners::read(&path)).await?),
            None => None,
        };
        // Its own fingerprint counts only as long as ours is the same.
        let ours = self.fingerprint("", owners.as_ref());
        let theirs = row.fingerprint.as_deref();
        let last = Last {
            fingerprint: theirs
                .and_then(|all| all.strip_suffix(&ours))
                .map(str::to_owned),
            asked_at: row.standing.last_good_sync_at,
        };
        Ok(match self.source.fetch(&last).await? {
            Fetched::Unchanged => Fetched::Unchanged,
            Fetched::New(listing) => Fetched::New(Found {
                listing,
                asked_at,
                owners,
            }),
        })
    }

    /// What a listing and our own rules for it looked like.
    fn fingerprint(&self, listing: &str, owners: Option<&Owners>) -> String {
        let owners = owners.map_or("", |owners| owners.fingerprint.as_str());
        let ttl = self.policy_ttl.map_or(0, |ttl| ttl.num_seconds());
        if owners.is_empty() && ttl == 0 {
            return listing.to_owned();
        }
        format!("{listing}|{owners}|{ttl}")
    }
}

/// What administrators are told of a source.
fn told<'a>(name: &'a str, news: News, error: Option<&str>) -> Alert<'a> {
    match news {
        News::Failing { since } => Alert {
            subject: name,
            since,
            title: format!("The source {name} cannot be read"),
            text: format!(
                "Since {} every attempt to list the tokens of the source {name} has failed:\n\n    {}\n\n\
                 Until it works again nothing new is known of its tokens: warnings go by what was known \
                 before, and no token is marked gone.\n\n\
                 See what its credentials can do:\n\n    lapsed source check {name}",
                since.format("%Y-%m-%d %H:%M UTC"),
                error.unwrap_or("no reason given"),
            ),
        },
        News::Recovered { since } => Alert {
            subject: name,
            // Another occurrence than the failure itself.
            since: since + TimeDelta::microseconds(1),
            title: format!("The source {name} can be read again"),
            text: format!(
                "Its tokens are known again. It had failed since {}.",
                since.format("%Y-%m-%d %H:%M UTC")
            ),
        },
    }
}
