//! A look at a directory: what it says of the people who matter, and what of that is believed. Nothing is written.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::directories::{Asked, Extent, Group, Pulled};
use crate::domain::access::{Case, Claim, Hold, Review};
use crate::domain::{Identity, IdentityStatus, LookedUp};
use crate::engine::{Engine, Error, LISTING_TIMEOUT, judge};
use crate::sources::Fetched;
use crate::store::{DirectoryRow, HoldVerdict, IdentityRow};

use super::WatchedDirectory;
use super::gather::{Doubt, Gathered, Wanted};

/// So many accounts are looked up at a time.
const LOOKED_UP_AT_ONCE: usize = 4;

/// What a look at a directory brought.
#[derive(Debug)]
pub struct Survey {
    /// How many people it told of; `None` where it told of some alone.
    pub people: Option<u64>,
    /// How many it told of at all; `None` where it said that nothing has changed.
    pub told: Option<u64>,
    /// How many issuers of tokens are among them.
    pub issuers: u64,
    /// People now and before, where so few were accepted.
    pub shrunk: Option<(u64, u64)>,
    /// What follows.
    pub outcome: Outcome,
    pub(super) pulled: Option<Pulled>,
    pub(super) asked: String,
}

impl Survey {
    /// Nothing is to be weighed.
    fn unchanged(asked: String) -> Self {
        Self {
            people: None,
            told: None,
            issuers: 0,
            shrunk: None,
            outcome: Outcome::Believed {
                turns: Vec::new(),
                forgotten: Vec::new(),
            },
            pulled: None,
            asked,
        }
    }
}

/// What follows from a pull.
#[derive(Debug)]
pub enum Outcome {
    /// It is believed.
    Believed {
        /// People of whom something else is known now; in order of address.
        turns: Vec<Turn>,
        /// People of whom nobody wants to know any more.
        forgotten: Vec<String>,
    },
    /// It waits for an operator.
    Held {
        /// Why.
        reason: String,
        /// What exactly waits.
        hold: Hold,
        /// Whom it is about, and what they would become.
        turns: Vec<HeldTurn>,
    },
}

/// A person whose loss waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTurn {
    /// The address as it is compared.
    pub email: String,
    /// The status before; `None` for somebody new.
    pub before: Option<IdentityStatus>,
    /// What they would become.
    pub after: IdentityStatus,
    /// In whose words.
    pub evidence: String,
}

/// A person of whom something else is known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The status before; `None` for somebody new.
    pub before: Option<IdentityStatus>,
    /// What is known now.
    pub now: Identity,
}

impl Turn {
    /// Whether the status is another.
    #[must_use]
    pub fn is_turn(&self) -> bool {
        self.before != Some(self.now.status)
    }
}

impl Engine {
    /// Asks a directory, and decides what of its word is believed.
    pub async fn survey(
        &self,
        watched: &WatchedDirectory,
        row: &DirectoryRow,
        accept_shrink: bool,
    ) -> Result<Survey, Error> {
        let survey = self.survey_in_time(watched, row, accept_shrink);
        match tokio::time::timeout(LISTING_TIMEOUT, survey).await {
            Ok(survey) => survey,
            Err(_) => Err(Error::TimedOut),
        }
    }

    async fn survey_in_time(
        &self,
        watched: &WatchedDirectory,
        row: &DirectoryRow,
        accept_shrink: bool,
    ) -> Result<Survey, Error> {
        let is_kept_whole = watched.directory.is_kept_whole();
        let mut wanted = Wanted::new(watched, &self.issuers);
        if is_kept_whole {
            // It names no accounts: what was known, and who issued tokens, serves only where it has news.
            wanted.add_issuers(self.issuers.addresses.keys().cloned());
        } else {
            self.fill(watched, &mut wanted).await?;
        }
        let asked = wanted.digest(&watched.allowed_groups);
        let is_same = row.asked.as_deref() == Some(&asked);
        let question = Asked {
            people: &wanted.people,
            cursor: row.cursor.as_deref().filter(|_| is_same),
        };
        let mut gathered = Gathered::default();
        let mut tell = |person| gathered.add(&wanted, &person);
        let pulled = match watched.directory.pull(&question, &mut tell).await? {
            Fetched::New(pulled) => Some(pulled),
            Fetched::Unchanged => None,
        };
        if is_kept_whole {
            if pulled.is_none() && !self.is_any_news(watched).await? {
                return Ok(Survey::unchanged(asked));
            }
            self.fill(watched, &mut wanted).await?;
        }
        let unchanged = Pulled {
            extent: Extent::Changes,
            ..Pulled::default()
        };
        let seen = pulled.as_ref().unwrap_or(&unchanged);
        let shrunk = believable(&gathered, &wanted, seen, row)?;
        if let Some((found, before)) = shrunk.filter(|_| !accept_shrink && row.verdict.is_none()) {
            return Err(Error::Shrunk {
                name: watched.name.clone(),
                found,
                before,
            });
        }
        let is_whole = seen.extent == Extent::Everybody;
        let people = is_whole.then_some(gathered.told);
        let told = pulled.as_ref().map(|_| gathered.told);
        let issuers = gathered.issuers(&wanted);
        let somebody = gathered.somebody.take();
        let forgotten = wanted.forgotten();
        let cases = gathered.cases(wanted, seen);
        let groups = pulled.as_ref().map_or(&[][..], |pulled| &pulled.groups);
        let emptied = emptied(row, groups);
        let is_any_member = groups.iter().any(|group| group.members > 0);
        if emptied.is_none() && !groups.is_empty() && !is_any_member {
            return Err(Doubt::NobodyInGroups.into());
        }
        let mut outcome = self.weigh(watched, row, &cases, emptied, somebody).await?;
        if let Outcome::Believed {
            forgotten: left, ..
        } = &mut outcome
        {
            *left = forgotten;
        }
        Ok(Survey {
            people,
            told,
            issuers,
            shrunk,
            outcome,
            pulled,
            asked,
        })
    }

    /// Takes in who issued tokens, and what was known of them.
    async fn fill(&self, watched: &WatchedDirectory, wanted: &mut Wanted) -> Result<(), Error> {
        let mut tx = self.store.read().await?;
        wanted.add_issuers(tx.issuer_keys().await?);
        let rows = tx.identities_of(&watched.name).await?.into_iter();
        let known: Result<Vec<Identity>, _> = rows.map(IdentityRow::identity).collect();
        wanted.know(known?);
        Ok(())
    }

    /// Whether there may be something to say although the directory has nothing new: a loss that awaits its
    /// confirmation, or tokens of others than before.
    async fn is_any_news(&self, watched: &WatchedDirectory) -> Result<bool, Error> {
        let mut tx = self.store.read().await?;
        Ok(tx.is_any_candidate(&watched.name).await? || judge::is_asked(&mut tx).await?)
    }

    /// Decides, after the looks by id that it takes.
    async fn weigh(
        &self,
        watched: &WatchedDirectory,
        row: &DirectoryRow,
        cases: &[Case],
        emptied: Option<String>,
        somebody: Option<String>,
    ) -> Result<Outcome, Error> {
        let guards = watched.guards();
        let claims: Vec<Claim<'_>> = cases.iter().map(Case::claim).collect();
        let settled = settled(row);
        let mut review = Review::default();
        for (case, claim) in cases.iter().zip(&claims) {
            review.count(case, claim, &settled);
        }
        let group = emptied.filter(|group| settled.group.as_ref() != Some(group));
        if let Some(reason) = group.clone().or_else(|| review.tripped(&guards)) {
            let pairs = cases.iter().zip(&claims);
            // All of them, whether somebody gave his word on some before or not.
            let hold = Hold {
                group,
                turned: Review::of(pairs.clone()).waits(),
            };
            let turns = pairs.filter_map(|(case, claim)| held_turn(case, claim, &hold));
            let turns = turns.collect();
            return Ok(Outcome::Held {
                reason,
                hold,
                turns,
            });
        }
        let is_rejected = row.verdict.as_deref() == Some(HoldVerdict::Rejected.as_str());
        let is_refused =
            |case: &Case, claim: &Claim<'_>| is_rejected && settled.covers(case, claim);
        let ids: Vec<String> = cases
            .iter()
            .zip(&claims)
            .filter(|(case, claim)| !is_refused(case, claim))
            .filter_map(|(case, claim)| case.look_up(claim))
            .collect();
        let looked = look_up(watched, ids, somebody).await?;
        let now = self.now();
        let mut turns = Vec::new();
        for (case, claim) in cases.iter().zip(&claims) {
            let next = if is_refused(case, claim) {
                Some(case.refuse(claim))
            } else {
                let looked = case.look_up(claim).and_then(|id| looked.get(&id));
                case.conclude(claim, looked, &guards, now)
            };
            let before = case.known.as_ref().map(|known| known.status);
            turns.extend(next.map(|now| Turn { before, now }));
        }
        Ok(Outcome::Believed {
            turns,
            forgotten: Vec::new(),
        })
    }
}

/// Somebody who would lose their access, as a person is to judge it.
fn held_turn(case: &Case, claim: &Claim<'_>, hold: &Hold) -> Option<HeldTurn> {
    let after = claim.lost().filter(|_| hold.covers(case, claim))?;
    Some(HeldTurn {
        email: case.email.key().to_owned(),
        before: case.known.as_ref().map(|known| known.status),
        after,
        evidence: claim.words(),
    })
}

/// Doubts a pull; tells how much smaller it is where that is much.
fn believable(
    gathered: &Gathered,
    wanted: &Wanted,
    pulled: &Pulled,
    row: &DirectoryRow,
) -> Result<Option<(u64, u64)>, Error> {
    if let Some(first) = pulled.refusals.shown.first() {
        return Err(Error::Refused {
            count: pulled.refusals.count,
            first: first.to_string(),
        });
    }
    if let Some(doubt) = gathered.doubt(wanted, pulled, row) {
        return Err(doubt.into());
    }
    Ok(gathered.shrunk(pulled, row))
}

/// Looks accounts up by their ids. Before an absence is believed, somebody who is there must be found.
async fn look_up(
    watched: &WatchedDirectory,
    ids: Vec<String>,
    somebody: Option<String>,
) -> Result<HashMap<String, LookedUp>, Error> {
    let directory = &watched.directory;
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    if let Some(somebody) = somebody
        && !matches!(directory.look_up(&somebody).await?, LookedUp::Found(_))
    {
        return Err(Doubt::BlindById.into());
    }
    let looks = ids.into_iter().map(|id| async move {
        let looked = directory.look_up(&id).await?;
        Ok::<_, Error>((id, looked))
    });
    let looks = stream::iter(looks).buffer_unordered(LOOKED_UP_AT_ONCE);
    looks.try_collect().await
}

/// That on which an operator gave his word, until the next reading.
fn settled(row: &DirectoryRow) -> Hold {
    let text = row.held_turns.as_deref().filter(|_| row.verdict.is_some());
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Which allowed group lost so many people that it looks like a mistake.
fn emptied(row: &DirectoryRow, groups: &[Group]) -> Option<String> {
    let before: HashMap<String, u64> = row
        .groups
        .as_deref()
        .and_then(|text| serde_json::from_str(text).ok())?;
    groups.iter().find_map(|group| {
        let before = *before.get(&group.name)?;
        let is_emptied = group.members * 2 < before;
        is_emptied.then(|| {
            let (name, now) = (&group.name, group.members);
            format!("the allowed group {name:?} has {now} people and had {before}")
        })
    })
}

/// The sizes of the allowed groups, as they are kept.
pub(super) fn written(groups: &[Group]) -> String {
    let sizes: HashMap<&str, u64> = groups
        .iter()
        .map(|group| (group.name.as_str(), group.members))
        .collect();
    serde_json::to_string(&sizes).unwrap_or_default()
}
