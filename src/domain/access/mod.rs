//! What the word of a directory is worth: from what it tells of a person, what was known before, and a look by
//! id follows what is believed. Only a positive, matched, complete, fresh statement changes a status; everything
//! else is unknown with a reason, and keeps the last good statement.
//!
//! It goes in two steps, because looks by id cost requests: [`Case::claim`] says what the pull makes of a
//! person and whether a look is needed, [`Case::conclude`] what follows from both. In between stands the
//! breaker ([`Review::tripped`]): no look is made, and nothing concluded, of a pull that would turn too many.

mod conclude;

use std::collections::BTreeMap;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::{Address, Identity, IdentityStatus, Person, Reason};

/// What an operator set as limits of belief for one directory.
#[derive(Debug, Clone, Copy)]
pub struct Guards<'a> {
    /// For so long somebody must be missing before a deletion is believed.
    pub absence_grace: TimeDelta,
    /// Which part of the people known active may lose access in one pull, from 0 to 1.
    pub breaker_share: f64,
    /// So many may in any case.
    pub breaker_min: u32,
    /// Names or ids of groups, of which people must be in one.
    pub allowed_groups: &'a [String],
}

/// How a pull told of a person who matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// By one account.
    One(Box<Person>),
    /// By several, which have the same address.
    Several,
    /// Not at all, although it told of everybody.
    Missing,
    /// Not at all, because nothing has changed about them, or they were removed: it told of changes alone.
    Unmentioned,
}

impl Sighting {
    /// What a pull told of the person with the address `key` (as it is compared), whose bound account is
    /// `bound`, in accounts that have this id or one of the person's addresses; `otherwise`, if in none.
    #[must_use]
    pub fn of(key: &str, bound: Option<&str>, mut accounts: Vec<Person>, otherwise: Self) -> Self {
        let is_bound = |person: &Person| bound.is_some() && person.id.as_deref() == bound;
        if accounts.len() < 2 {
            let only = accounts.pop().map(Box::new);
            return only.map_or(otherwise, Self::One);
        }
        let Some(at) = accounts.iter().position(is_bound) else {
            return Self::Several;
        };
        let bound = accounts.swap_remove(at);
        // Whoever has a second account that works has not lost his access. But a leaver's address is often
        // given to somebody else besides his own, so that no mail is lost.
        let is_theirs = |it: &Person| it.addresses.first().is_some_and(|main| main.key() == key);
        let has_other = accounts
            .iter()
            .any(|it| !it.status.is_lost() && is_theirs(it));
        if bound.status.is_lost() && has_other {
            return Self::Several;
        }
        Self::One(Box::new(bound))
    }
}

/// A person who matters, with all that is to be weighed.
#[derive(Debug, Clone)]
pub struct Case {
    /// Their address, as tokens name them.
    pub email: Address,
    /// What was known before this pull.
    pub known: Option<Identity>,
    /// What the pull told.
    pub sighting: Sighting,
}

/// What a pull claims of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim<'a> {
    /// Has access.
    Active(&'a Person),
    /// Is switched off or deleted, in so many words.
    Off(&'a Person),
    /// Is in none of the allowed groups.
    Outside(&'a Person),
    /// Is not there; the id under which they were, if there was one.
    Missing(Option<&'a str>),
    /// The directory does not say, or not clearly.
    Unclear(Reason, Option<&'a Person>),
    /// Another account has the person's address, and the bound one is not to be seen.
    Stranger(&'a Person),
    /// What was said before still holds.
    Same,
}

impl Case {
    /// What the pull makes of the person.
    #[must_use]
    pub fn claim(&self) -> Claim<'_> {
        let known_id = self.known.as_ref().and_then(|it| it.account_id.as_deref());
        match &self.sighting {
            Sighting::One(person) if self.is_stranger(person) => {
                let is_deleted = self.known_status() == Some(IdentityStatus::Deleted);
                match (is_deleted, self.is_namesake(person)) {
                    // The old account is gone for good, and they were given a new one.
                    (true, true) => said(person),
                    (true, false) => Claim::Same,
                    (false, _) => Claim::Stranger(person),
                }
            }
            Sighting::One(person) => said(person),
            Sighting::Several => Claim::Unclear(Reason::Ambiguous, None),
            Sighting::Missing => Claim::Missing(known_id),
            Sighting::Unmentioned => match self.candidate() {
                Some(IdentityStatus::Deleted) => Claim::Missing(known_id),
                _ => Claim::Same,
            },
        }
    }

    /// Whether an account that has the person's address is not the one they were bound to.
    fn is_stranger(&self, person: &Person) -> bool {
        let bound = self.known.as_ref().and_then(|it| it.account_id.as_deref());
        bound.is_some() && bound != person.id.as_deref()
    }

    /// Whether nothing speaks against an account being the same person's: it has their address for its own,
    /// and their name.
    fn is_namesake(&self, person: &Person) -> bool {
        let before = self.known.as_ref().and_then(|it| it.name.as_deref());
        let names = (
            before.map(str::to_lowercase),
            person.name.as_ref().map(|it| it.to_lowercase()),
        );
        let is_main = |main: &Address| main == &self.email;
        names.0.is_some() && names.0 == names.1 && person.addresses.first().is_some_and(is_main)
    }

    fn known_status(&self) -> Option<IdentityStatus> {
        self.known.as_ref().map(|known| known.known_status)
    }

    fn candidate(&self) -> Option<IdentityStatus> {
        self.known.as_ref().and_then(|known| known.candidate)
    }

    fn status(&self) -> Option<IdentityStatus> {
        self.known.as_ref().map(|known| known.status)
    }

    /// Whether an operator refused to believe just this of the person.
    fn is_rejected(&self, claim: &Claim<'_>) -> bool {
        let is_rejected = |known: &Identity| known.reason == Some(Reason::Rejected);
        let is_same = match claim {
            Claim::Same => true,
            // That somebody has a new account is another matter.
            Claim::Stranger(_) => false,
            claim => self.candidate() == claim.lost(),
        };
        self.known.as_ref().is_some_and(is_rejected) && is_same
    }

    /// The id that must be looked up before a claim is believed.
    #[must_use]
    pub fn look_up(&self, claim: &Claim<'_>) -> Option<String> {
        let id = match claim {
            Claim::Off(person) if self.status() != Some(person.status) => person.id.as_deref(),
            Claim::Missing(id) if self.status() != Some(IdentityStatus::Deleted) => *id,
            // An address that was given away says nothing of the account that had it; a look at that may.
            Claim::Stranger(_) => self.known.as_ref().and_then(|it| it.account_id.as_deref()),
            _ => None,
        };
        id.filter(|_| !self.is_rejected(claim)).map(str::to_owned)
    }

    /// Whether the claim, if believed, would cost somebody the access that they are taken to have.
    #[must_use]
    pub fn is_turn(&self, claim: &Claim<'_>) -> bool {
        if matches!(claim, Claim::Stranger(person) if self.is_namesake(person)) {
            return false;
        }
        let Some(lost) = claim.lost() else {
            return false;
        };
        match &self.known {
            _ if self.is_rejected(claim) => false,
            // Whole groups may be named wrongly, so that at first sight everybody is outside.
            None => lost == IdentityStatus::OutOfGroup,
            Some(known) if known.known_status == IdentityStatus::Unknown => {
                lost == IdentityStatus::OutOfGroup && known.candidate.is_none()
            }
            Some(known) => {
                let is_new = known.candidate.is_none() || known.reason == Some(Reason::Rejected);
                known.known_status == IdentityStatus::Active && is_new
            }
        }
    }

    /// Whether the person has access as far as was known, or, of those never seen, as the account says.
    #[must_use]
    pub fn was_active(&self, claim: &Claim<'_>) -> bool {
        match &self.known {
            Some(known) if known.known_status != IdentityStatus::Unknown => {
                known.known_status == IdentityStatus::Active
            }
            _ => matches!(claim, Claim::Active(_) | Claim::Outside(_)),
        }
    }
}

impl Claim<'_> {
    /// The status that it comes to where it is a loss.
    #[must_use]
    pub fn lost(&self) -> Option<IdentityStatus> {
        match self {
            Self::Off(person) => Some(person.status),
            Self::Outside(_) => Some(IdentityStatus::OutOfGroup),
            // Of a stranger: if anything is lost, it is the account that is not to be seen.
            Self::Missing(Some(_)) | Self::Stranger(_) => Some(IdentityStatus::Deleted),
            Self::Missing(None) | Self::Active(_) | Self::Unclear(..) | Self::Same => None,
        }
    }
}

impl Claim<'_> {
    /// What it rests on, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Active(person) | Self::Off(person) | Self::Unclear(_, Some(person)) => {
                person.evidence.clone()
            }
            Self::Outside(_) => "membership in none of the allowed groups".to_owned(),
            Self::Missing(Some(_)) => "no longer there".to_owned(),
            Self::Missing(None) => "not there".to_owned(),
            Self::Unclear(reason, None) => reason.to_string(),
            Self::Stranger(_) => "the address is another account's now".to_owned(),
            Self::Same => "nothing new".to_owned(),
        }
    }
}

/// What one account claims.
fn said(person: &Person) -> Claim<'_> {
    match (person.status, person.is_member) {
        (IdentityStatus::Active, Some(false)) => Claim::Outside(person),
        (IdentityStatus::Active, _) => Claim::Active(person),
        (IdentityStatus::Unknown, _) => {
            let reason = person.reason.unwrap_or(Reason::FieldMissing);
            Claim::Unclear(reason, Some(person))
        }
        _ => Claim::Off(person),
    }
}

/// Counts of a pull, for the breaker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Review {
    /// People taken to have access before.
    pub active: usize,
    /// Those who would lose it, with what they would become.
    pub turned: BTreeMap<String, IdentityStatus>,
    /// People whom the directory lists for the first time.
    pub new: usize,
    /// Those of them who are switched off.
    pub new_off: BTreeMap<String, IdentityStatus>,
}

/// What waits for an operator's word, or has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What is odd about an allowed group.
    pub group: Option<String>,
    /// People by address, as it is compared, with what they would become.
    pub turned: BTreeMap<String, IdentityStatus>,
}

impl Hold {
    /// Whether it is about just this.
    #[must_use]
    pub fn covers(&self, case: &Case, claim: &Claim<'_>) -> bool {
        let held = self.turned.get(case.email.key());
        held.is_some() && held.copied() == claim.lost()
    }
}

impl Review {
    /// The counts of a pull on which nobody gave his word.
    #[must_use]
    pub fn of<'a>(cases: impl Iterator<Item = (&'a Case, &'a Claim<'a>)>) -> Self {
        let mut review = Self::default();
        for (case, claim) in cases {
            review.count(case, claim, &Hold::default());
        }
        review
    }

    /// Takes one person into account, unless an operator gave his word on just that already.
    pub fn count(&mut self, case: &Case, claim: &Claim<'_>, settled: &Hold) {
        self.active += usize::from(case.was_active(claim));
        let is_new = case
            .known_status()
            .is_none_or(|it| it == IdentityStatus::Unknown);
        self.new += usize::from(is_new && matches!(case.sighting, Sighting::One(_)));
        if settled.covers(case, claim) {
            return;
        }
        let key = || case.email.key().to_owned();
        match claim {
            Claim::Off(person) if is_new => drop(self.new_off.insert(key(), person.status)),
            _ if case.is_turn(claim) => self.turned.extend(claim.lost().map(|lost| (key(), lost))),
            _ => {}
        }
    }

    /// Why so many people at once cannot have lost their access, if they cannot.
    #[must_use]
    pub fn tripped(&self, guards: &Guards<'_>) -> Option<String> {
        let (lost, active) = (self.turned.len(), self.active);
        #[expect(clippy::cast_precision_loss, reason = "a share of a head count")]
        let is_mass = lost as f64 > active as f64 * guards.breaker_share;
        if is_mass && lost > guards.breaker_min as usize {
            let said = "people known active would lose their access at once";
            return Some(format!("{lost} of {active} {said}"));
        }
        // Who left long ago is no news, but not most of those who work here.
        let (off, new) = (self.new_off.len(), self.new);
        let is_most = off * 2 > new && off > guards.breaker_min as usize;
        is_most.then(|| format!("{off} of {new} people seen for the first time have no access"))
    }

    /// Whom an operator's word would be about.
    #[must_use]
    pub fn waits(&self) -> BTreeMap<String, IdentityStatus> {
        let all = self.turned.iter().chain(&self.new_off);
        all.map(|(key, lost)| (key.clone(), *lost)).collect()
    }
}
