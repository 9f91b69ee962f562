//! Surveys a directory: lists the people who matter and decides which of their statuses to accept. Writes nothing.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::clock::Clock;
use crate::directories::{Extent, Group, PeopleListing, PeopleQuery};
use crate::domain::access::{BreakerTally, HeldChange, PersonUnderReview, Statement};
use crate::domain::{Identity, IdentityStatus, Issuers, Lookup};
use crate::engine::common::{Error, Implausible};
use crate::engine::findings;
use crate::engine::upstream::{Shrunk, WatchedDirectory, check_shrunk};
use crate::sources::Fetched;
use crate::store::{Decision, DirectoryRow};

use super::people::{ListedPeople, RelevantPeople};
use crate::engine::leased::LeasedStore;

const MAX_CONCURRENT_LOOKUPS: usize = 4;

#[derive(Debug)]
pub struct Survey {
    /// People in a listing of everybody; `None` for any other listing.
    pub total: Option<u64>,
    /// People listed; `None` if the directory reported no change.
    pub listed: Option<u64>,
    pub issuers: u64,
    /// Set if the listing shrank by half and that was accepted.
    pub(super) shrunk: Option<Shrunk>,
    pub outcome: SurveyOutcome,
    pub(super) listing: Option<PeopleListing>,
    pub(super) query_digest: String,
}

impl Survey {
    /// Why people may be missing from the listing, though it counts.
    pub fn gaps(&self) -> Option<&str> {
        self.listing.as_ref()?.gaps.as_deref()
    }

    fn unchanged(query_digest: String) -> Self {
        Self {
            total: None,
            listed: None,
            issuers: 0,
            shrunk: None,
            outcome: SurveyOutcome::Accepted {
                changes: Vec::new(),
                forgotten: Vec::new(),
            },
            listing: None,
            query_digest,
        }
    }
}

#[derive(Debug)]
pub enum SurveyOutcome {
    Accepted {
        /// Changed identities, in order of address.
        changes: Vec<StatusChange>,
        /// Address keys of people who are no longer relevant.
        forgotten: Vec<String>,
    },
    Held {
        reason: String,
        hold: HeldChange,
        changes: Vec<HeldStatusChange>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldStatusChange {
    pub email: String,
    /// `None` for a new person.
    pub before: Option<IdentityStatus>,
    pub after: IdentityStatus,
    pub evidence: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusChange {
    /// `None` for a new person.
    pub before: Option<IdentityStatus>,
    pub now: Identity,
}

impl StatusChange {
    pub fn changes_status(&self) -> bool {
        self.before != Some(self.now.status)
    }
}

/// What a directory listed of the people who matter.
struct ListingAnswer {
    relevant: RelevantPeople,
    people: ListedPeople,
    /// `None` if the directory reported no change.
    listing: Option<PeopleListing>,
    query_digest: String,
}

pub(super) struct Surveyor<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub issuers: &'a Issuers,
}

impl Surveyor<'_> {
    /// Lists a directory and decides what to accept.
    pub async fn survey(
        &self,
        watched: &WatchedDirectory,
        row: &DirectoryRow,
        accept_shrink: bool,
    ) -> Result<Survey, Error> {
        let mut answer = self.list(watched, row).await?;
        if watched.directory.stores_everyone() {
            if answer.listing.is_none() && !self.has_news(watched).await? {
                return Ok(Survey::unchanged(answer.query_digest));
            }
            self.load_relevant(watched, &mut answer.relevant).await?;
        }
        let ListingAnswer {
            relevant,
            mut people,
            listing,
            query_digest,
        } = answer;
        let unchanged = PeopleListing {
            extent: Extent::Changes,
            ..PeopleListing::default()
        };
        let seen = listing.as_ref().unwrap_or(&unchanged);
        let shrunk = check_plausible(&people, &relevant, seen, row)?;
        if let Some(Shrunk { found, before }) = shrunk
            && !accept_shrink
            && row.decision.is_none()
        {
            return Err(Error::Shrunk {
                name: watched.terms.name.clone(),
                found,
                before,
            });
        }
        let total = (seen.extent == Extent::Everybody).then_some(people.count);
        let listed = listing.as_ref().map(|_| people.count);
        let issuers = people.count_issuers(&relevant);
        let probe_id = people.probe_id.take();
        let forgotten = relevant.list_irrelevant();
        let reviews = people.into_reviews(relevant, seen);
        let groups = listing.as_ref().map_or(&[][..], |listing| &listing.groups);
        let emptied_group = check_groups(row, groups)?;
        let mut outcome = self
            .decide(watched, row, &reviews, emptied_group, probe_id)
            .await?;
        if let SurveyOutcome::Accepted {
            forgotten: people, ..
        } = &mut outcome
        {
            *people = forgotten;
        }
        Ok(Survey {
            total,
            listed,
            issuers,
            shrunk,
            outcome,
            listing,
            query_digest,
        })
    }

    /// Asks the directory for the people who matter.
    async fn list(
        &self,
        watched: &WatchedDirectory,
        row: &DirectoryRow,
    ) -> Result<ListingAnswer, Error> {
        let mut relevant = RelevantPeople::new(watched, self.issuers);
        if watched.directory.stores_everyone() {
            // The query names no accounts, so known people and issuers are loaded only if there is news.
            relevant.add_issuers(self.issuers.addresses.keys().cloned());
        } else {
            self.load_relevant(watched, &mut relevant).await?;
        }
        let query_digest = relevant.digest(&watched.terms.allowed_groups);
        let is_same_query = row.query_digest.as_deref() == Some(&query_digest);
        let query = PeopleQuery {
            people: &relevant.people,
            cursor: row.cursor.as_deref().filter(|_| is_same_query),
            last_cursor: row.cursor.as_deref(),
        };
        let mut people = ListedPeople::default();
        let mut add_person = |person| people.add(&relevant, &person);
        let listing = match watched
            .directory
            .list_people(&query, &mut add_person)
            .await?
        {
            Fetched::New(listing) => Some(listing),
            Fetched::Unchanged => None,
        };
        Ok(ListingAnswer {
            relevant,
            people,
            listing,
            query_digest,
        })
    }

    /// Loads the issuers of tokens and the known identities.
    async fn load_relevant(
        &self,
        watched: &WatchedDirectory,
        relevant: &mut RelevantPeople,
    ) -> Result<(), Error> {
        let mut tx = self.store.begin_read().await?;
        relevant.add_issuers(tx.list_owner_keys().await?);
        relevant.add_known(tx.load_identities(&watched.terms.name).await?);
        Ok(())
    }

    /// Whether there may be changes although the directory reports none: a loss that awaits confirmation, or tokens of
    /// other issuers.
    async fn has_news(&self, watched: &WatchedDirectory) -> Result<bool, Error> {
        let mut tx = self.store.begin_read().await?;
        Ok(
            tx.has_candidates(&watched.terms.name).await?
                || findings::is_requested(&mut tx).await?,
        )
    }

    /// Decides the outcome, after the necessary look-ups by id.
    async fn decide(
        &self,
        watched: &WatchedDirectory,
        row: &DirectoryRow,
        reviews: &[PersonUnderReview],
        emptied_group: Option<String>,
        probe_id: Option<String>,
    ) -> Result<SurveyOutcome, Error> {
        let statements: Vec<Statement<'_>> =
            reviews.iter().map(PersonUnderReview::statement).collect();
        let decided = decided_change(row);
        let mut tally = BreakerTally::default();
        for (review, statement) in reviews.iter().zip(&statements) {
            tally.count(review, statement, &decided);
        }
        let group = emptied_group.filter(|group| decided.group.as_ref() != Some(group));
        if let Some(reason) = group.clone().or_else(|| tally.trip_reason(&watched.terms)) {
            let pairs = reviews.iter().zip(&statements);
            // All of them, whether or not an operator has decided on some before.
            let losses = pairs.clone().filter_map(|(review, statement)| {
                Some((review.email.key().to_owned(), review.loss(statement)?))
            });
            let hold = HeldChange {
                group,
                losses: losses.collect(),
            };
            let changes = pairs
                .filter_map(|(review, statement)| held_status_change(review, statement, &hold))
                .collect();
            return Ok(SurveyOutcome::Held {
                reason,
                hold,
                changes,
            });
        }
        let is_rejected = row.decision.as_deref() == Some(Decision::Rejected.as_str());
        let is_rejected_change = |review: &PersonUnderReview, statement: &Statement<'_>| {
            is_rejected && decided.covers(review, statement)
        };
        let ids: Vec<String> = reviews
            .iter()
            .zip(&statements)
            .filter(|(review, statement)| !is_rejected_change(review, statement))
            .filter_map(|(review, statement)| review.lookup_id(statement))
            .collect();
        let lookups = look_up_all(watched, ids, probe_id).await?;
        let now = self.clock.now();
        let mut changes = Vec::new();
        for (review, statement) in reviews.iter().zip(&statements) {
            let next = if is_rejected_change(review, statement) {
                Some(review.reject(statement))
            } else {
                let lookup = review.lookup_id(statement).and_then(|id| lookups.get(&id));
                review.conclude(statement, lookup, &watched.terms, now)
            };
            let before = review.known.as_ref().map(|known| known.status);
            changes.extend(next.map(|now| StatusChange { before, now }));
        }
        Ok(SurveyOutcome::Accepted {
            changes,
            forgotten: Vec::new(),
        })
    }
}

fn held_status_change(
    review: &PersonUnderReview,
    statement: &Statement<'_>,
    hold: &HeldChange,
) -> Option<HeldStatusChange> {
    if !hold.covers(review, statement) {
        return None;
    }
    Some(HeldStatusChange {
        email: review.email.key().to_owned(),
        before: review.known.as_ref().map(|known| known.status),
        after: statement.lost_status()?,
        evidence: statement.evidence(),
    })
}

/// Checks that a listing is plausible. Returns the numbers of people if it shrank by half.
fn check_plausible(
    listed_people: &ListedPeople,
    relevant: &RelevantPeople,
    listing: &PeopleListing,
    row: &DirectoryRow,
) -> Result<Option<Shrunk>, Error> {
    if let Some(first) = listing.refusals.shown.first() {
        return Err(Error::Refused {
            count: listing.refusals.count,
            first: first.to_string(),
        });
    }
    if let Some(reason) = listed_people.check_plausible(relevant, listing, row) {
        return Err(reason.into());
    }
    Ok(match listing.extent {
        Extent::Everybody => check_shrunk(listed_people.count, row.people),
        _ => None,
    })
}

/// Looks accounts up by id. First, an account that exists must be found: only then does an absence count.
async fn look_up_all(
    watched: &WatchedDirectory,
    ids: Vec<String>,
    probe_id: Option<String>,
) -> Result<HashMap<String, Lookup>, Error> {
    let directory = &watched.directory;
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    if let Some(probe_id) = probe_id
        && !matches!(directory.look_up(&probe_id).await?, Lookup::Found(_))
    {
        return Err(Implausible::LookUpFails.into());
    }
    let lookups = ids.into_iter().map(|id| async move {
        let lookup = directory.look_up(&id).await?;
        Ok::<_, Error>((id, lookup))
    });
    stream::iter(lookups)
        .buffer_unordered(MAX_CONCURRENT_LOOKUPS)
        .try_collect()
        .await
}

/// The held change that an operator has decided on, until the next sync.
fn decided_change(row: &DirectoryRow) -> HeldChange {
    match &row.held_changes {
        Some(text) if row.decision.is_some() => serde_json::from_str(text).unwrap_or_default(),
        _ => HeldChange::default(),
    }
}

/// The reason for a hold if an allowed group lost more than half of its people. Groups that never had members are
/// implausible.
fn check_groups(row: &DirectoryRow, groups: &[Group]) -> Result<Option<String>, Implausible> {
    let sizes_before: HashMap<String, u64> = match &row.groups {
        Some(text) => serde_json::from_str(text).unwrap_or_default(),
        None => HashMap::new(),
    };
    for Group { name, members } in groups {
        if let Some(before) = sizes_before.get(name)
            && members * 2 < *before
        {
            return Ok(Some(format!(
                "the allowed group {name:?} has {members} people and had {before}"
            )));
        }
    }
    if !groups.is_empty() && groups.iter().all(|group| group.members == 0) {
        return Err(Implausible::NoGroupMembers);
    }
    Ok(None)
}

/// The sizes of the allowed groups as JSON, for the store.
pub(super) fn group_sizes(groups: &[Group]) -> String {
    let sizes: HashMap<_, _> = groups
        .iter()
        .map(|group| (&group.name, group.members))
        .collect();
    serde_json::to_string(&sizes).unwrap_or_default()
}
