//! Sync of directories: only a positive, matched, complete statement changes a person's status, and
//! a mass change waits for an operator.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::directories::{Asked, Pulled};
use crate::domain::{IdentityStatus, Person};
use crate::sources::Fetched;
use crate::store::{DirectoryRow, IdentityRow};

use super::alert::Alert;
use super::{Engine, Error, GuardedDirectory, LISTING_TIMEOUT, Named, Report, SweepOptions};

/// A listing of this many people is not believed when it has shrunk by half.
const SHRINK_GUARD_FROM: i64 = 20;

impl Engine {
    /// Synchronises every directory; the failure of one does not stop another.
    pub(super) async fn sync_directories(
        &self,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        for named in self
            .directories
            .iter()
            .filter(|named| options.takes(&named.name))
        {
            let mut tx = self.store.begin().await?;
            let mut row = tx.directory(&named.name).await?.unwrap_or_default();
            tx.commit().await?;
            row.name.clone_from(&named.name);
            named.kind.clone_into(&mut row.kind);
            row.last_sync_at = Some(self.now());
            let asked = Asked {
                people: &[],
                cursor: row.fingerprint.as_deref(),
            };
            let mut people = Vec::new();
            let mut tell = |person| people.push(person);
            let pulled = named.it.directory.pull(&asked, &mut tell);
            let outcome = match tokio::time::timeout(LISTING_TIMEOUT, pulled).await {
                Err(_) => Err(Error::TimedOut),
                Ok(Err(error)) => Err(error.into()),
                Ok(Ok(Fetched::Unchanged)) => {
                    row.last_good_sync_at = Some(self.now());
                    (row.held, row.held_at, row.held_fingerprint, row.error) =
                        (None, None, None, None);
                    Ok(())
                }
                Ok(Ok(Fetched::New(pulled))) => {
                    self.take_people(named, (pulled, people), &mut row, options, report)
                        .await
                }
            };
            if let Err(error) = outcome {
                let said = super::sweep::chain(&error);
                report
                    .problems
                    .push(format!("directory {}: {said}", named.name));
                row.error = Some(said);
                if let Error::Store(error) = error {
                    return Err(error.into());
                }
            }
            let mut tx = self.store.begin().await?;
            tx.put_directory(&row).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn take_people(
        &self,
        named: &Named<GuardedDirectory>,
        (pulled, people): (Pulled, Vec<Person>),
        row: &mut DirectoryRow,
        options: &SweepOptions,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Pulled {
            refusals, cursor, ..
        } = pulled;
        let fingerprint = cursor.unwrap_or_default();
        if let Some(first) = refusals.shown.first() {
            return Err(Error::Refused {
                count: refusals.count,
                first: first.to_string(),
            });
        }
        let found = people.len() as u64;
        let before = u64::try_from(row.people).unwrap_or(0);
        let is_shrunk = row.people >= SHRINK_GUARD_FROM && found * 2 <= before;
        if is_shrunk && !options.accepts_shrink(&row.name) {
            return Err(Error::Shrunk {
                name: row.name.clone(),
                found,
                before,
            });
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        if is_shrunk {
            let entry = [&options.asked_by, "directory.accept_shrink", &row.name];
            let reason = format!("{found} people instead of {before}");
            tx.audit(Self::new_id(now), now, entry, Some(&reason))
                .await?;
        }
        let known = tx.identities_of(&row.name).await?;
        let changes = changes(&row.name, &known, people, now);
        let is_released = row.released && row.held_fingerprint.as_deref() == Some(&fingerprint);
        if let Some(reason) = tripped(&known, &changes, &named.it).filter(|_| !is_released) {
            if row.held_fingerprint.as_deref() != Some(&fingerprint) {
                row.released = false;
            }
            let since = *row.held_at.get_or_insert(now);
            row.held_fingerprint = Some(fingerprint);
            row.held = Some(reason.clone());
            report
                .problems
                .push(format!("directory {} is held: {reason}", row.name));
            let alert = held_alert(&row.name, since, &reason);
            self.alert(&mut tx, alert, report).await?;
            tx.commit().await?;
            return Ok(());
        }
        let turned = changes.iter().filter(|change| change.is_turn).count() as u64;
        report.people_changed += turned;
        let rows: Vec<IdentityRow> = changes.into_iter().map(|change| change.row).collect();
        tx.put_identities(&rows).await?;
        if turned > 0 {
            super::judge::ask(&mut tx, now).await?;
        }
        tx.commit().await?;
        (row.held, row.held_at, row.held_fingerprint, row.error) = (None, None, None, None);
        row.released = false;
        row.fingerprint = Some(fingerprint);
        row.people = i64::try_from(found).unwrap_or(i64::MAX);
        row.last_good_sync_at = Some(now);
        Ok(())
    }
}

/// A person whose row is to be written.
struct Change {
    row: IdentityRow,
    /// The status is another than before.
    is_turn: bool,
}

/// What a complete listing changes about the people known: everybody it names is as it says; whoever
/// it does not name is unknown, and keeps the last good statement.
fn changes(
    directory: &str,
    known: &[IdentityRow],
    people: Vec<Person>,
    now: DateTime<Utc>,
) -> Vec<Change> {
    let mut before: BTreeMap<&str, &IdentityRow> = known
        .iter()
        .map(|row| (row.email_key.as_str(), row))
        .collect();
    let mut changes = Vec::new();
    for person in people {
        let email = person.email().clone();
        let was = before.remove(email.key());
        let row = IdentityRow {
            directory: directory.to_owned(),
            email_key: email.key().to_owned(),
            email: email.to_string(),
            status: person.status,
            known_status: person.status,
            reason: None,
            name: person.name,
            evidence: person.evidence,
            since: person.since.or_else(|| since_of(was, person.status, now)),
            observed_at: now,
        };
        let is_turn = was.is_none_or(|was| was.status != row.status);
        let is_news = is_turn
            || was.is_some_and(|was| {
                (&was.evidence, &was.name, was.since) != (&row.evidence, &row.name, row.since)
            });
        if is_news {
            changes.push(Change { row, is_turn });
        }
    }
    for missing in before
        .into_values()
        .filter(|row| row.status != IdentityStatus::Unknown)
    {
        let reason = format!("not in the listing of {}", now.format("%Y-%m-%d %H:%M UTC"));
        let row = IdentityRow {
            status: IdentityStatus::Unknown,
            reason: Some(reason),
            ..missing.clone()
        };
        changes.push(Change { row, is_turn: true });
    }
    changes
}

/// When a status that the directory gives no date for began: when it was first seen.
fn since_of(
    was: Option<&IdentityRow>,
    status: IdentityStatus,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    match was {
        Some(was) if was.known_status == status => was.since.or(Some(now)),
        _ => Some(now),
    }
}

/// Why so many people at once cannot have lost their access, if they cannot.
fn tripped(known: &[IdentityRow], changes: &[Change], guard: &GuardedDirectory) -> Option<String> {
    let was_active = |key: &str| {
        known
            .binary_search_by(|row| row.email_key.as_str().cmp(key))
            .is_ok_and(|at| known[at].known_status == IdentityStatus::Active)
    };
    let active = known
        .iter()
        .filter(|row| row.known_status == IdentityStatus::Active)
        .count();
    let lost = changes
        .iter()
        .filter(|change| change.row.status.is_lost() && was_active(&change.row.email_key));
    let lost = lost.count();
    #[expect(clippy::cast_precision_loss, reason = "a share of a head count")]
    let is_mass = lost as f64 > active as f64 * guard.breaker_share;
    (is_mass && lost > guard.breaker_min as usize)
        .then(|| format!("{lost} of {active} people known active would lose their access at once"))
}

fn held_alert<'a>(name: &'a str, since: DateTime<Utc>, reason: &str) -> Alert<'a> {
    Alert {
        subject: name,
        since,
        title: format!("Directory {name} is held: {reason}"),
        text: format!(
            "The directory \"{name}\" was read, and {reason}. That is more than lapsed believes without a \
             person's word, so nothing was changed and no token was flagged.\n\n\
             Look at the directory. If the listing is right, let it through:\n\n    \
             lapsed directory release {name}\n\n\
             If it is wrong, mend it there; the hold ends by itself with the next good listing."
        ),
    }
}
