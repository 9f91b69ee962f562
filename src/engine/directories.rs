//! Syncs directories: checks each listing for plausibility, stores the accepted statuses of people, and holds a mass
//! change until an operator decides.

mod people;
mod survey;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use crate::clock::Clock;
use crate::directories::{Extent, PeopleListing};
use crate::domain::{
    Address, Cover, Coverage, DirectoryTerms, Identity, IdentityStatus, IssuerMode, Issuers,
    Lookup, Policy, Reason,
};
use crate::sources::hex;
use crate::store::{self, DirectoryRow, IdentityRow, Tx};

use super::common::{Error, OnProgress, Report, new_id};
use super::findings;
use super::leased::{LeasedStore, counted_page, page};
use super::notices::Alert;
use super::upstream::{
    self, Answer, DIRECTORY, Preview, Shrunk, SweepOptions, SyncAttempt, WatchedDirectory,
    list_all, select_due, stale_directories,
};

use survey::Surveyor;

pub use survey::{HeldStatusChange, StatusChange, Survey, SurveyOutcome};

/// A mail names this many people and counts the others.
const MAX_NAMED_PEOPLE: usize = 20;

/// Setting: the issuer modes by which uncovered people were last forgotten.
const ISSUER_MODES: &str = "issuers.modes";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnbindOutcome {
    /// The next sync binds them again, or uses the entry that was named.
    Done,
    /// A sweep is running, so nothing was changed.
    Busy,
    NotFound,
    NotNeeded(String),
}

/// Syncs directories, previews their syncs, and changes what is stored of them.
pub struct SyncDirectories<'a> {
    pub(super) store: LeasedStore<'a>,
    pub(super) clock: &'a Clock,
    pub(super) policy: &'a Policy,
    pub(super) issuers: &'a Issuers,
    pub(super) directories: &'a [WatchedDirectory],
    pub(super) on_progress: OnProgress<'a>,
}

impl SyncDirectories<'_> {
    /// Synchronises every directory that is due; the failure of one does not stop another.
    pub(super) async fn run(
        &self,
        options: &SweepOptions,
        report: &mut Report,
        mut on_survey: impl FnMut(&Survey),
    ) -> Result<(), Error> {
        if !options.includes_any(self.directories) {
            return Ok(());
        }
        // The sources may have taken as long as a listing may take, and so may the directories.
        (self.on_progress)();
        self.forget_uncovered().await?;
        let rows = self.store.begin_read().await?.list_directories().await?;
        let now = self.clock.now();
        let (due, waiting) = select_due(self.directories, rows, options, now, report);
        for row in waiting {
            if let Some(reason) = &row.held {
                report.problems.push(held_problem(&row.name, reason));
            }
        }
        let listings = list_all(due, self.clock, |watched, row, _| async move {
            let accept_shrink = options.accepts_shrink(&row.name);
            self.surveyor().survey(watched, &row, accept_shrink).await
        });
        for answer in listings.await {
            if let Ok(survey) = &answer.listing {
                on_survey(survey);
            }
            self.store_answer(answer, options, report).await?;
            (self.on_progress)();
        }
        Ok(())
    }

    fn surveyor(&self) -> Surveyor<'_> {
        Surveyor {
            store: self.store,
            clock: self.clock,
            issuers: self.issuers,
        }
    }

    /// Stores the outcome of one directory's sync in one transaction.
    async fn store_answer(
        &self,
        answer: Answer<'_, WatchedDirectory, Survey>,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let known = answer.row;
        let read_at = known.sync_state.last_good_sync_at;
        let is_stale = !answer.watched.terms.is_fresh(read_at, answer.asked_at);
        let (survey, outcome) = match answer.listing {
            Ok(survey) => (Some(survey), Ok(None)),
            Err(error) if error.ends_job() => return Err(error),
            Err(error) => (None, Err(error)),
        };
        let attempt = SyncAttempt {
            name: &known.name,
            asked_at: answer.asked_at,
            now: self.clock.now(),
            stale_since: if is_stale { read_at } else { None },
            outcome,
        };
        counted_page!(self.store, report, tx => {
            let mut row = known.clone();
            if let Some(survey) = &survey {
                if let Some(Shrunk { found, before }) = survey.shrunk {
                    let accepted = format!("{found} people instead of {before}");
                    DIRECTORY
                        .record_shrink(tx, &row.name, &options.actor, &accepted, attempt.now)
                        .await?;
                }
                self.store_survey(tx, survey, &mut row, report).await?;
            }
            let state = &mut row.sync_state;
            DIRECTORY
                .record(tx, self.policy, state, &attempt, report)
                .await?;
            if survey.is_some() && row.held.is_some() {
                // It answered, but nothing of the listing was accepted.
                row.sync_state.last_good_sync_at = read_at;
            } else if survey.is_some() && is_stale {
                // Its data counts again.
                findings::request(tx, attempt.now).await?;
            }
            Ok(tx.save_directory(&row).await?)
        })
    }

    async fn store_survey(
        &self,
        tx: &mut Tx,
        survey: &Survey,
        row: &mut DirectoryRow,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let (changes, forgotten) = match &survey.outcome {
            SurveyOutcome::Held {
                reason,
                hold,
                changes,
            } => {
                // One mail even if the number of people grows, until an operator has decided.
                let since = match row.held_at {
                    Some(held_at) if row.decision.is_none() => held_at,
                    _ => now,
                };
                row.held_at = Some(since);
                row.held_changes = serde_json::to_string(hold).ok();
                report.problems.push(held_problem(&row.name, reason));
                let alert = held_alert(&row.name, since, reason, changes);
                alert.plan(tx, self.policy, now, report).await?;
                row.held = Some(reason.clone());
                row.decision = None;
                if let Some(listing) = &survey.listing {
                    keep_memory(row, listing);
                }
                return Ok(());
            }
            SurveyOutcome::Accepted { changes, forgotten } => (changes, forgotten),
        };
        let status_changes = changes
            .iter()
            .filter(|change| change.changes_status())
            .count() as u64;
        report.people_changed += status_changes;
        let mut rows = Vec::new();
        let mut lost = Vec::new();
        for change in changes {
            let identity = IdentityRow {
                directory: row.name.clone(),
                identity: change.now.clone(),
            };
            if change.changes_status() && change.now.status.is_lost() {
                lost.push(identity.clone());
            }
            rows.push(identity);
        }
        tx.save_identities(&rows).await?;
        findings::restate_findings(tx, &lost, now).await?;
        tx.delete_identities(&row.name, forgotten).await?;
        if status_changes > 0 || !forgotten.is_empty() {
            findings::request(tx, now).await?;
        }
        (row.held, row.held_at, row.held_changes) = (None, None, None);
        row.decision = None;
        if let Some(people) = survey.total {
            row.people = i64::try_from(people).unwrap_or(i64::MAX);
        }
        if let Some(listing) = &survey.listing {
            record_listing(row, listing, &survey.query_digest);
        }
        Ok(())
    }

    /// Returns what a sync would change. Writes nothing.
    pub async fn preview(
        &self,
        watched: &WatchedDirectory,
        accept_shrink: bool,
    ) -> Result<Preview<Box<Survey>>, Error> {
        let mut tx = self.store.begin_read().await?;
        let row = tx
            .find_directory(&watched.terms.name)
            .await?
            .unwrap_or_default();
        drop(tx);
        let survey = async {
            let survey = self.surveyor().survey(watched, &row, accept_shrink).await;
            survey.map(Box::new)
        };
        upstream::preview(&row.sync_state, self.clock, survey).await
    }

    /// Deletes a directory with all its identities; returns how many. `actor` is for the audit trail.
    pub async fn forget(&self, directory: &str, actor: &str) -> Result<u64, Error> {
        page!(self.store.unleased(), tx => {
            let people = tx.delete_directory(directory).await?;
            let now = self.clock.now();
            findings::request(tx, now).await?;
            let reason = format!("{people} people");
            let entry = [actor, "directory.forget", directory];
            tx.insert_audit(new_id(now), now, entry, Some(&reason))
                .await?;
            Ok(people)
        })
    }

    /// Binds a person to `account`, or forgets which entry they are bound to: then the next sync binds them to the
    /// entry that has their address. It is a full one. `actor` is for the audit trail.
    pub(super) async fn rebind(
        &self,
        directory: &str,
        email: &Address,
        account: Option<&str>,
        actor: &str,
    ) -> Result<UnbindOutcome, Error> {
        let account = match account {
            Some(id) => match self.find_account(directory, email, id).await? {
                Ok(id) => Some(id),
                Err(why) => return Ok(UnbindOutcome::NotNeeded(why)),
            },
            None => None,
        };
        page!(self.store, tx => self.rebind_in(tx, directory, email, account.as_deref(), actor).await)
    }

    /// The id of the account as the directory writes it, or why the person cannot be bound to it.
    async fn find_account(
        &self,
        directory: &str,
        email: &Address,
        id: &str,
    ) -> Result<Result<String, String>, Error> {
        let mut all = self.directories.iter();
        let Some(watched) = all.find(|watched| watched.terms.name == directory) else {
            return Ok(Err("it is not configured".to_owned()));
        };
        let address = self.issuers.directory_address(email.key());
        Ok(match watched.directory.look_up(id).await? {
            Lookup::Found(person)
                if person.has_address(address) || person.has_fallback(address) =>
            {
                Ok(person.id.unwrap_or_else(|| id.to_owned()))
            }
            Lookup::Found(_) => Err(format!("the entry {id:?} does not have their address")),
            Lookup::OutOfScope { .. } => Err(format!(
                "the filter of the directory leaves out the entry {id:?}"
            )),
            Lookup::Gone { evidence, .. } => Err(format!("there is no entry {id:?} ({evidence})")),
            Lookup::Unclear(why) => Err(format!("the entry {id:?} cannot be looked up: {why}")),
        })
    }

    async fn rebind_in(
        &self,
        tx: &mut Tx,
        directory: &str,
        email: &Address,
        account: Option<&str>,
        actor: &str,
    ) -> Result<UnbindOutcome, Error> {
        let Some(mut identity) = tx.find_identity(directory, email.key()).await? else {
            return Ok(UnbindOutcome::NotFound);
        };
        if account.is_none()
            && let Some(why) = why_not_unbound(&identity)
        {
            return Ok(UnbindOutcome::NotNeeded(why));
        }
        identity.account_id = account.map(str::to_owned);
        identity.account_chosen = account.is_some();
        identity.candidate = None;
        identity.candidate_since = None;
        identity.candidate_evidence = None;
        let row = IdentityRow {
            directory: directory.to_owned(),
            identity,
        };
        tx.save_identities(&[row]).await?;
        // A listing of changes might not contain the entry.
        tx.reset_cursor(directory).await?;
        let now = self.clock.now();
        let subject = format!("{directory}/{email}");
        let entry = [actor, "identity.rebind", subject.as_str()];
        let named = account.map(|id| format!("entry {id}"));
        tx.insert_audit(new_id(now), now, entry, named.as_deref())
            .await?;
        Ok(UnbindOutcome::Done)
    }

    /// When the issuer modes changed, deletes the identities of issuers who are no longer covered by directories. This
    /// does not wait for a directory's answer: the modes are the operator's decision.
    async fn forget_uncovered(&self) -> Result<(), Error> {
        let modes = self.modes_digest();
        let mut tx = self.store.begin_read().await?;
        let settings = tx.load_settings(&[ISSUER_MODES]).await?;
        drop(tx);
        if settings.get(ISSUER_MODES).map_or("", String::as_str) == modes {
            return Ok(());
        }
        page!(self.store, tx => {
            for row in tx.list_directories().await? {
                let mut uncovered = Vec::new();
                for identity in tx.load_identities(&row.name).await? {
                    let key = identity.email.key();
                    if self.issuers.mode(key) != IssuerMode::Sso {
                        uncovered.push(key.to_owned());
                    }
                }
                if !uncovered.is_empty() {
                    tx.delete_identities(&row.name, &uncovered).await?;
                    findings::request(tx, self.clock.now()).await?;
                }
            }
            Ok(tx.set_setting(ISSUER_MODES, &modes).await?)
        })
    }

    /// A text that differs if the issuer modes differ; empty without configured modes.
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

/// Keeps what the directory remembers, though nothing of its listing was accepted. The next listing is a complete one:
/// a listing of changes would not repeat these.
fn keep_memory(row: &mut DirectoryRow, listing: &PeopleListing) {
    row.cursor.clone_from(&listing.cursor);
    row.query_digest = None;
}

/// Records what the next listing needs, and why people may be missing from this one. The log says so once.
fn record_listing(row: &mut DirectoryRow, listing: &PeopleListing, query_digest: &str) {
    if let Some(gaps) = &listing.gaps
        && row.gaps.as_ref() != Some(gaps)
    {
        tracing::warn!("directory {}: {gaps}", row.name);
    }
    // A listing of changes does not show whether others are still missing.
    if listing.extent != Extent::Changes || listing.gaps.is_some() {
        row.gaps.clone_from(&listing.gaps);
    }
    row.cursor.clone_from(&listing.cursor);
    row.query_digest = Some(query_digest.to_owned());
    row.groups = Some(survey::group_sizes(&listing.groups));
}

/// Why a person cannot be bound again without naming an entry.
fn why_not_unbound(identity: &Identity) -> Option<String> {
    let is_unsafe = identity.reason == Some(Reason::BindingUnsafe);
    let is_deleted = identity.known_status == IdentityStatus::Deleted
        || identity.candidate == Some(IdentityStatus::Deleted);
    if identity.reason == Some(Reason::Ambiguous) && !identity.account_chosen {
        let why = "several entries have their address; leave it to one of them, or name the entry by its id: --account ID";
        Some(why.to_owned())
    } else if identity.account_id.is_none() {
        let why = "they are bound to no entry; the next sync binds them to the entry with their address, if exactly one has it";
        Some(why.to_owned())
    } else if is_unsafe || is_deleted || identity.account_chosen {
        None
    } else {
        Some(format!(
            "their entry there is {}; only a person who is deleted, or whose address moved to another \
             entry, can be bound again without --account",
            identity.status
        ))
    }
}

fn held_problem(name: &str, reason: &str) -> String {
    format!("directory {name} is held: {reason}")
}

fn held_alert<'a>(
    name: &'a str,
    since: DateTime<Utc>,
    reason: &str,
    changes: &[HeldStatusChange],
) -> Alert<'a> {
    let mut people = String::new();
    for change in changes.iter().take(MAX_NAMED_PEOPLE) {
        let _ = write!(people, "\n    {}: {}", change.email, change.after);
    }
    if changes.len() > MAX_NAMED_PEOPLE {
        let more = changes.len() - MAX_NAMED_PEOPLE;
        let _ = write!(
            people,
            "\n    and {more} more: lapsed directory sync {name} --dry-run"
        );
    }
    if !people.is_empty() {
        people = format!("These people would lose access:\n{people}\n\n");
    }
    Alert {
        subject: name,
        since,
        title: format!("Directory {name} is held: {reason}"),
        text: format!(
            "The directory \"{name}\" was read, and {reason}. lapsed does not accept so large a change without your \
             decision, so nothing was changed and no token was flagged.\n\n{people}\
             Check the directory. If it is right, release the change:\n\n    \
             lapsed directory release {name}\n\n\
             If it is wrong, fix the directory, and the hold ends by itself with the next good sync; or reject the \
             change, so that the other data of the directory counts again:\n\n    lapsed directory reject {name}"
        ),
    }
}

/// Every issuer of working tokens with what is known about them, in order of address. Stale data does not count.
pub async fn issuer_covers(
    tx: &mut Tx,
    issuers: &Issuers,
    directories: &[&DirectoryTerms],
    now: DateTime<Utc>,
) -> store::Result<Vec<(String, Cover)>> {
    let stale = stale_directories(directories, &tx.list_directories().await?, now);
    let names: Vec<_> = directories.iter().map(|terms| terms.name.clone()).collect();
    let rows = tx.list_issuer_identities(&names, now).await?;
    let covers = rows
        .chunk_by(|a, b| a.email_key == b.email_key)
        .map(|rows| {
            let statuses: Vec<_> = rows
                .iter()
                .filter_map(|row| row.directory.as_ref().zip(row.status).zip(Some(row.reason)))
                .map(|((directory, status), reason)| {
                    if status != IdentityStatus::Unknown && stale.contains(directory) {
                        (IdentityStatus::Unknown, Some(Reason::Stale))
                    } else {
                        (status, reason)
                    }
                })
                .collect();
            let key = rows[0].email_key.clone();
            let cover = Cover::from_statuses(issuers.mode(&key), &statuses);
            (key, cover)
        });
    Ok(covers.collect())
}

pub fn count_covers(covers: &[(String, Cover)]) -> Coverage {
    let mut coverage = Coverage::new();
    for (_, cover) in covers {
        *coverage.entry(*cover).or_default() += 1;
    }
    coverage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> DirectoryRow {
        DirectoryRow {
            gaps: Some("1 record has no id".to_owned()),
            cursor: Some("before".to_owned()),
            query_digest: Some("query".to_owned()),
            ..DirectoryRow::default()
        }
    }

    #[test]
    fn a_listing_of_changes_keeps_the_gaps_of_the_complete_one() {
        let mut row = row();
        let changes = PeopleListing {
            extent: Extent::Changes,
            ..PeopleListing::default()
        };
        record_listing(&mut row, &changes, "query");
        assert_eq!(row.gaps.as_deref(), Some("1 record has no id"));
        record_listing(&mut row, &PeopleListing::default(), "query");
        assert_eq!(row.gaps, None);
    }

    #[test]
    fn a_held_listing_keeps_the_memory_and_is_followed_by_a_complete_one() {
        let mut row = row();
        let listing = PeopleListing {
            cursor: Some("after".to_owned()),
            ..PeopleListing::default()
        };
        keep_memory(&mut row, &listing);
        assert_eq!(row.cursor.as_deref(), Some("after"));
        assert_eq!(row.query_digest, None);
    }
}
