//! Decides a person's status from a listing of a directory, what was known before, and a lookup by id. Only a
//! positive, matched, complete and fresh statement changes a status; everything else is unknown, with a reason,
//! and keeps the last good statement.
//!
//! There are two steps, because lookups by id cost requests: [`PersonUnderReview::statement`] evaluates the
//! listing and [`PersonUnderReview::conclude`] the lookup. The breaker ([`BreakerTally::trip_reason`]) is between
//! them: a listing by which too many people would lose access causes no lookups and no conclusions.

mod conclude;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Address, DirectoryTerms, Identity, IdentityStatus, Person, Reason};

/// What a listing shows of one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    One(Box<Person>),
    Several,
    /// No account in a complete listing.
    Missing,
    /// No account in a listing that contains only changes: unchanged, or removed.
    Unmentioned,
}

impl Observation {
    /// The observation of the person with the [`Address::key`] `key`. `accounts` are those with this address, and
    /// the one that the person is bound to; if there are none, `otherwise` is returned.
    pub fn from_accounts(
        key: &str,
        binding: Option<Binding<'_>>,
        mut accounts: Vec<Person>,
        otherwise: Self,
    ) -> Self {
        if accounts.len() < 2 {
            return match accounts.pop() {
                Some(account) => Self::One(Box::new(account)),
                None => otherwise,
            };
        }
        let position = position_of_person(key, binding, &accounts);
        let Some(position) = position else {
            return Self::Several;
        };
        let account = accounts.swap_remove(position);
        // A person with a second account that works has not lost access. But the address of a person who
        // left is often added to another person's account, so that no mail is lost.
        let is_alias = has_alias(&account, key);
        let has_other = accounts.iter().any(|other| {
            let is_theirs = has_mailbox(other, key) || is_alias && has_alias(other, key);
            other.has_access() && is_theirs
        });
        if !account.has_access() && has_other {
            return Self::Several;
        }
        Self::One(Box::new(account))
    }
}

/// The account that a person is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    pub id: &'a str,
    /// Whether an operator named it.
    pub is_chosen: bool,
}

/// The position of the account that counts. Among accounts that share the mailbox it must not depend on the one
/// that was seen first, so an account that lapsed bound by itself counts only while no other has the mailbox.
fn position_of_person(
    key: &str,
    binding: Option<Binding<'_>>,
    accounts: &[Person],
) -> Option<usize> {
    let bound = binding.and_then(|binding| {
        only_position(accounts, |account| {
            account.id.as_deref() == Some(binding.id)
        })
    });
    if let (Some(position), Some(binding)) = (bound, binding) {
        let account = &accounts[position];
        // An account without the address had it when it was bound.
        if binding.is_chosen || !has_mailbox(account, key) && !has_alias(account, key) {
            return bound;
        }
    }
    let mut rivals: Vec<usize> = (0..accounts.len()).collect();
    rivals.retain(|position| has_mailbox(&accounts[*position], key));
    match rivals[..] {
        [] if bound.is_some() => return bound,
        [] => rivals = (0..accounts.len()).collect(),
        [only] => return Some(only),
        _ => {}
    }
    let signs_in = only_position(accounts, |account| account.signs_in_as(key));
    if rivals
        .iter()
        .any(|position| accounts[*position].has_access())
    {
        return signs_in;
    }
    let first = || {
        let rivals = rivals.iter().copied();
        rivals.min_by_key(|position| &accounts[*position].id)
    };
    signs_in
        .or(bound.filter(|position| rivals.contains(position)))
        .or_else(first)
}

fn has_mailbox(account: &Person, key: &str) -> bool {
    account.is_main(key) || account.signs_in_as(key)
}

/// Whether the account has the address only as a further one.
fn has_alias(account: &Person, key: &str) -> bool {
    !has_mailbox(account, key) && (account.has_address(key) || account.has_fallback(key))
}

/// The position of the only account that matches; `None` if several do.
fn only_position(accounts: &[Person], matches: impl Fn(&Person) -> bool) -> Option<usize> {
    let position = accounts.iter().position(&matches)?;
    (!accounts[position + 1..].iter().any(matches)).then_some(position)
}

/// A person, what was known about them, and what was observed.
#[derive(Debug, Clone)]
pub struct PersonUnderReview {
    /// Their address as it is on tokens.
    pub email: Address,
    pub known: Option<Identity>,
    pub observation: Observation,
}

/// What an observation says about a person's access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement<'a> {
    Active(&'a Person),
    Disabled(&'a Person),
    OutsideGroups(&'a Person),
    /// The listing lacks them; with the id of their account, if they are bound to one.
    Missing(Option<&'a str>),
    /// The directory reports nothing clear.
    Unclear(Reason, Option<&'a Person>),
    /// Another account has their address, and the listing lacks the bound account.
    OtherAccount(&'a Person),
    /// The previous statement still holds.
    Unchanged,
}

impl PersonUnderReview {
    pub fn statement(&self) -> Statement<'_> {
        match &self.observation {
            Observation::One(person) if self.is_other_account(person) => {
                let is_deleted = self.known_status() == Some(IdentityStatus::Deleted);
                match (is_deleted, self.is_namesake(person)) {
                    // Their old account is deleted, and this is their new one.
                    (true, true) => account_statement(person),
                    (true, false) => Statement::Unchanged,
                    (false, _) => Statement::OtherAccount(person),
                }
            }
            Observation::One(person) => account_statement(person),
            Observation::Several => Statement::Unclear(Reason::Ambiguous, None),
            Observation::Missing => Statement::Missing(self.bound_id()),
            Observation::Unmentioned => match self.candidate() {
                Some(IdentityStatus::Deleted) => Statement::Missing(self.bound_id()),
                _ => Statement::Unchanged,
            },
        }
    }

    /// The id of the account that the person is bound to.
    fn bound_id(&self) -> Option<&str> {
        self.known
            .as_ref()
            .and_then(|known| known.account_id.as_deref())
    }

    /// Whether the account is not the one that the person is bound to.
    fn is_other_account(&self, person: &Person) -> bool {
        self.bound_id().is_some() && self.bound_id() != person.id.as_deref()
    }

    /// Whether the account can be the same person's: it has their main address and their name.
    fn is_namesake(&self, person: &Person) -> bool {
        let lower = |name: &Option<String>| name.as_ref().map(|name| name.to_lowercase());
        let known_name = self.known.as_ref().and_then(|known| lower(&known.name));
        let has_same_name = known_name.is_some() && known_name == lower(&person.name);
        has_same_name && person.main.as_ref() == Some(&self.email)
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

    /// Whether an operator rejected this statement about the person.
    fn is_rejected(&self, statement: &Statement<'_>) -> bool {
        let is_same = match statement {
            Statement::Unchanged => true,
            // A new account was not part of the decision.
            Statement::OtherAccount(_) => false,
            statement => self.candidate() == statement.lost_status(),
        };
        let reason = self.known.as_ref().and_then(|known| known.reason);
        is_same && reason == Some(Reason::Rejected)
    }

    /// The id that must be looked up before the statement is accepted.
    pub fn lookup_id(&self, statement: &Statement<'_>) -> Option<String> {
        if self.is_rejected(statement) {
            return None;
        }
        let id = match statement {
            Statement::Disabled(person) if self.status() != Some(person.status) => {
                person.id.as_deref()
            }
            Statement::Missing(id) if self.status() != Some(IdentityStatus::Deleted) => *id,
            // An address that was given to another account says nothing about the bound account.
            Statement::OtherAccount(_) => self.bound_id(),
            _ => None,
        };
        id.map(str::to_owned)
    }

    /// Whether the person, who counts as having access, would lose it by this statement.
    pub fn changes_status(&self, statement: &Statement<'_>) -> bool {
        if matches!(statement, Statement::OtherAccount(person) if self.is_namesake(person)) {
            return false;
        }
        let Some(lost) = statement.lost_status() else {
            return false;
        };
        match &self.known {
            _ if self.is_rejected(statement) || self.was_counted(statement) => false,
            // If a group is misconfigured, the first listing shows everyone outside the groups.
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

    /// Whether the same loss was counted before, and the lookup by id left it open.
    fn was_counted(&self, statement: &Statement<'_>) -> bool {
        let open = [Reason::Absent, Reason::OutsideFilter, Reason::BindingUnsafe];
        let reason = self.known.as_ref().and_then(|known| known.reason);
        let is_missing = matches!(
            statement,
            Statement::Missing(_) | Statement::OtherAccount(_)
        );
        is_missing && reason.is_some_and(|reason| open.contains(&reason))
    }

    /// Whether the directory has reported nothing of the person before.
    fn is_new(&self, statement: &Statement<'_>) -> bool {
        let known_status = self.known_status().unwrap_or(IdentityStatus::Unknown);
        known_status == IdentityStatus::Unknown && !self.is_rejected(statement)
    }

    /// The new status of a person who would lose access by this statement, or who is new and has none.
    pub fn loss(&self, statement: &Statement<'_>) -> Option<IdentityStatus> {
        let is_off = self.is_new(statement) && matches!(statement, Statement::Disabled(_));
        if is_off || self.changes_status(statement) {
            statement.lost_status()
        } else {
            None
        }
    }

    /// Whether the person had access: as known, or else as the account reports.
    pub fn was_active(&self, statement: &Statement<'_>) -> bool {
        match &self.known {
            Some(known) if known.known_status != IdentityStatus::Unknown => {
                known.known_status == IdentityStatus::Active
            }
            _ => matches!(
                statement,
                Statement::Active(_) | Statement::OutsideGroups(_)
            ),
        }
    }
}

impl Statement<'_> {
    /// The status that follows, if it is a loss of access.
    pub fn lost_status(&self) -> Option<IdentityStatus> {
        match self {
            Self::Disabled(person) => Some(person.status),
            Self::OutsideGroups(_) => Some(IdentityStatus::OutOfGroup),
            // For another account: the loss is that of the bound account.
            Self::Missing(Some(_)) | Self::OtherAccount(_) => Some(IdentityStatus::Deleted),
            Self::Missing(None) | Self::Active(_) | Self::Unclear(..) | Self::Unchanged => None,
        }
    }

    pub fn evidence(&self) -> String {
        match self {
            Self::Active(person) | Self::Disabled(person) | Self::Unclear(_, Some(person)) => {
                person.evidence.clone()
            }
            Self::OutsideGroups(_) => "membership in none of the allowed groups".to_owned(),
            Self::Missing(Some(_)) => "no longer listed".to_owned(),
            Self::Missing(None) => "not listed".to_owned(),
            Self::Unclear(reason, None) => reason.to_string(),
            Self::OtherAccount(_) => "the address now belongs to another account".to_owned(),
            Self::Unchanged => "unchanged".to_owned(),
        }
    }
}

fn account_statement(person: &Person) -> Statement<'_> {
    match (person.status, person.is_member) {
        (IdentityStatus::Active, Some(false)) => Statement::OutsideGroups(person),
        (IdentityStatus::Active, _) => Statement::Active(person),
        (IdentityStatus::Unknown, _) => {
            let reason = person.reason.unwrap_or(Reason::FieldMissing);
            Statement::Unclear(reason, Some(person))
        }
        _ => Statement::Disabled(person),
    }
}

/// Counts the losses of access in one listing, for the breaker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BreakerTally {
    pub active: usize,
    pub losses: usize,
    /// People whom the directory lists for the first time.
    pub new: usize,
    /// The new people who are disabled or deleted.
    pub new_without_access: usize,
}

/// A mass change that waits for an operator's decision, or has been decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldChange {
    /// What is wrong with an allowed group.
    pub group: Option<String>,
    /// The people who would lose access, by [`Address::key`], with their new status.
    pub losses: BTreeMap<String, IdentityStatus>,
}

impl HeldChange {
    /// Whether the decision covers this loss of this person.
    pub fn covers(&self, review: &PersonUnderReview, statement: &Statement<'_>) -> bool {
        let held = self.losses.get(review.email.key());
        held.is_some() && held.copied() == statement.lost_status()
    }
}

impl BreakerTally {
    /// Counts one person; a loss that was already decided (`decided`) does not count.
    pub fn count(
        &mut self,
        review: &PersonUnderReview,
        statement: &Statement<'_>,
        decided: &HeldChange,
    ) {
        let is_new = review.is_new(statement);
        self.active += usize::from(review.was_active(statement));
        self.new += usize::from(is_new && matches!(review.observation, Observation::One(_)));
        if review.loss(statement).is_none() || decided.covers(review, statement) {
            return;
        }
        match statement {
            Statement::Disabled(_) if is_new => self.new_without_access += 1,
            _ => self.losses += 1,
        }
    }

    /// Why the losses are implausible, if they are.
    pub fn trip_reason(&self, terms: &DirectoryTerms) -> Option<String> {
        let lost = self.losses;
        let active = self.active;
        #[expect(clippy::cast_precision_loss, reason = "a share of a head count")]
        let is_mass = lost as f64 > active as f64 * terms.breaker_share;
        if is_mass && lost > terms.breaker_min as usize {
            return Some(format!(
                "{lost} of {active} active people would lose access at once"
            ));
        }
        // People who left long ago are expected, but not as most of the new people.
        let off = self.new_without_access;
        let new = self.new;
        let is_most = off * 2 > new && off > terms.breaker_min as usize;
        is_most.then(|| format!("{off} of {new} people seen for the first time have no access"))
    }
}
