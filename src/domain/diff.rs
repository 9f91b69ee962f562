//! What a listing changes. Both sides are in order of external id, so that millions of rows can be streamed.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Cell, Expiry, ExpiryOrigin, ListedToken, Policy, Status, Step, Token, TokenId};
use crate::time::shift;

/// Sources round, so an expiry that moves by less than this is the same.
const SAME_EXPIRY: TimeDelta = TimeDelta::seconds(60);

#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    pub token: Token,
    pub notices: NoticeEffect,
    pub has_new_co_owners: bool,
    /// Whether the owners, the expiry or the status changed, so that findings of lost access must be judged again.
    pub needs_judging: bool,
}

/// What a change of a token does to the notices about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeEffect {
    Keep,
    /// Unsent notices of other expiries are cancelled; cancelled ones of this expiry are planned again.
    NewGeneration,
    Cancel,
}

/// One external id in the store, in the listing, or both.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a page; boxing each would cost more"
)]
pub enum Pair {
    Both(Token, ListedToken),
    OnlyKnown(Token),
    OnlyListed(ListedToken),
}

/// Takes pairs off two queues in order of external id. An empty queue stops the pairing unless its side is
/// `done`, because its next row could belong before the other side's.
pub fn pair_up(
    known: &mut VecDeque<Token>,
    known_done: bool,
    listed: &mut VecDeque<ListedToken>,
    listed_done: bool,
) -> Vec<Pair> {
    let mut pairs = Vec::new();
    loop {
        let order = match (known.front(), listed.front()) {
            (Some(known), Some(listed)) => known.external_id.cmp(&listed.external_id),
            (Some(_), None) if listed_done => Ordering::Less,
            (None, Some(_)) if known_done => Ordering::Greater,
            _ => return pairs,
        };
        let known = known.pop_front_if(|_| order.is_le());
        let listed = listed.pop_front_if(|_| order.is_ge());
        pairs.extend(match (known, listed) {
            (Some(known), Some(listed)) => Some(Pair::Both(known, listed)),
            (Some(known), None) => Some(Pair::OnlyKnown(known)),
            (None, Some(listed)) => Some(Pair::OnlyListed(listed)),
            (None, None) => None,
        });
    }
}

/// How a listing is merged into the store.
#[derive(Debug, Clone, Copy)]
pub struct MergeRules<'a> {
    pub policy: &'a Policy,
    /// The life that our policy sets for a token without an expiry.
    pub policy_ttl: Option<TimeDelta>,
    /// When the listing was requested; `None` for an import.
    pub asked_at: Option<DateTime<Utc>>,
    /// New tokens that expired before this are not stored, because they would be purged.
    pub forget_before: Option<DateTime<Utc>>,
}

/// The rules for a source without rules of its own.
impl<'a> From<&'a Policy> for MergeRules<'a> {
    fn from(policy: &'a Policy) -> Self {
        Self {
            policy,
            policy_ttl: None,
            asked_at: None,
            forget_before: None,
        }
    }
}

impl MergeRules<'_> {
    /// Sets the expiry by this listing, and its origin. For a token without an expiry, our policy may set one, counted
    /// from its creation or, if that is unknown, from when it was first seen.
    fn set_expiry(&self, token: &mut Token, listed: &ListedToken) {
        let created_at = listed.created_at.or_known(token.created_at);
        let from = created_at.unwrap_or(token.first_seen_at);
        let policy_expiry = self.policy_ttl.map(|ttl| shift(from, ttl));
        let reported = match listed.expiry {
            Cell::Absent => token.reported_expiry(),
            cell => cell.into_option().unwrap_or_default(),
        };
        let (expiry, origin) = match (reported, policy_expiry) {
            (Expiry::Never | Expiry::Unknown, Some(at)) => {
                (Expiry::At(at), Some(ExpiryOrigin::Policy))
            }
            // An import does not know the policy of the source.
            _ if listed.expiry == Cell::Absent
                && (self.asked_at.is_none()
                    || token.expiry_origin != Some(ExpiryOrigin::Policy)) =>
            {
                return;
            }
            (Expiry::Unknown, None) => (Expiry::Unknown, None),
            (Expiry::At(_), _) if listed.is_computed => (reported, Some(ExpiryOrigin::Computed)),
            (Expiry::At(_) | Expiry::Never, _) => (reported, Some(ExpiryOrigin::Source)),
        };
        token.expiry = expiry;
        token.expiry_day = listed.expiry_day;
        token.expiry_origin = origin;
        token.is_expiry_unreported =
            origin == Some(ExpiryOrigin::Policy) && reported == Expiry::Unknown;
    }

    /// Sets what follows from the facts: a token first seen expired is marked, and no one is warned; any other
    /// token is due when the policy says.
    fn settle(&self, token: &mut Token, now: DateTime<Utc>) {
        if token.planned_step.is_none() && token.needs_expiry_mark(now) {
            token.status = Status::Expired;
            token.planned_step = Some(Step::ZERO);
        }
        token.due_at = self.policy.due_at(token);
        if token.status != Status::Revoked {
            token.revoked_at = None;
        }
    }
}

/// Sets the owners. The known issuer stays the issuer while among them; otherwise that is the first. The listed name is
/// that of the first; the evidence that the issuer is gone is about all.
fn set_owners(known: &mut Token, listed: &mut ListedToken) {
    let first = match std::mem::take(&mut listed.issuer) {
        Cell::Absent => return,
        Cell::Empty => None,
        Cell::Value(first) => Some(first),
    };
    let mut owners = BTreeSet::from_iter(std::mem::take(&mut listed.co_owners));
    owners.extend(first.clone());
    if first != known.issuer
        && known
            .issuer
            .as_ref()
            .is_some_and(|known| owners.contains(known))
    {
        listed.issuer_name = Cell::Absent;
    } else {
        known.issuer = first;
    }
    owners.retain(|owner| known.issuer.as_ref() != Some(owner));
    known.co_owners = owners.into_iter().collect();
}

/// The token with the listed facts, except its expiry and its status.
fn with_facts(mut known: Token, mut listed: ListedToken) -> Token {
    set_owners(&mut known, &mut listed);
    Token {
        reports_use: known.reports_use || listed.last_used_at != Cell::Absent,
        name: listed.name.or_known(Some(known.name)).unwrap_or_default(),
        description: listed.description.or_known(known.description),
        issuer_name: listed.issuer_name.or_known(known.issuer_name),
        issuer_gone: listed.issuer_gone.or_known(known.issuer_gone),
        account: listed.account.or_known(known.account),
        role: listed.role.or_known(known.role),
        scope: listed.scope.or_known(known.scope),
        created_at: listed.created_at.or_known(known.created_at),
        last_used_at: listed.last_used_at.or_known(known.last_used_at),
        unreadable: listed.unreadable,
        unlisted_since: None,
        ..known
    }
}

/// A token that `source` lists for the first time; `None` if it expired too long ago to be stored.
pub fn new_token_to_store(
    source: &str,
    listed: ListedToken,
    rules: MergeRules<'_>,
    now: DateTime<Utc>,
) -> Option<Token> {
    let token = new_token(source, listed, rules, now);
    let is_expired = token.status == Status::Expired
        && token.expiry_origin != Some(ExpiryOrigin::Policy)
        && token.expiry.at() < rules.forget_before;
    (!is_expired).then_some(token)
}

/// A token that `source` lists for the first time.
pub fn new_token(
    source: &str,
    listed: ListedToken,
    rules: MergeRules<'_>,
    now: DateTime<Utc>,
) -> Token {
    let mut token = Token {
        id: TokenId::new(source, &listed.external_id),
        source: source.to_owned(),
        external_id: listed.external_id.clone(),
        secret_version: listed.secret_version.unwrap_or(1),
        status: listed.status.into_option().unwrap_or_default(),
        first_seen_at: now,
        ..Token::default()
    };
    rules.set_expiry(&mut token, &listed);
    token = with_facts(token, listed);
    token.life_from = token.created_at;
    rules.settle(&mut token, now);
    token.judge_at = rules.policy.rules.next_judge_at(None, &token, now);
    token
}

/// What `listed` changes about `known`; `None` if nothing.
///
/// lapsed has seen a token that it revoked disappear. So a listing that was requested before that is outdated,
/// and a token that is listed after it, without a status, is another token with the same external id.
pub fn update(
    known: &Token,
    listed: ListedToken,
    rules: MergeRules<'_>,
    now: DateTime<Utc>,
) -> Option<Update> {
    let is_revoked = known.status == Status::Revoked;
    match known.revoked_at.zip(rules.asked_at) {
        Some((revoked_at, asked_at)) if asked_at <= revoked_at => None,
        Some(_) if is_revoked && !listed.has_status() => replacement(known, listed, rules, now),
        _ => update_in_place(known, listed, rules, now),
    }
}

/// Another token with the external id of a revoked one, from which it takes over nothing. `None` if it has
/// expired or will soon, because sources that revoke a token by its expiry list it like this.
fn replacement(
    known: &Token,
    listed: ListedToken,
    rules: MergeRules<'_>,
    now: DateTime<Utc>,
) -> Option<Update> {
    let counts_secrets = listed.secret_version.is_some();
    let mut token = Token {
        id: known.id,
        ..new_token(&known.source, listed, rules, now)
    };
    let revoked_until = known.revoked_at.map(|at| shift(at, SAME_EXPIRY));
    let ends_soon = token
        .expiry
        .at()
        .is_some_and(|at| Some(at) <= revoked_until);
    if token.status != Status::Active || ends_soon {
        return None;
    }
    if !counts_secrets && is_same_expiry(known.expiry, token.expiry) {
        // If both expire at the same instant, they must not share notices.
        token.secret_version = known.secret_version.saturating_add(1);
    }
    token.judge_at = rules.policy.rules.next_judge_at(Some(known), &token, now);
    Some(Update {
        has_new_co_owners: known.co_owners != token.co_owners,
        token,
        notices: NoticeEffect::NewGeneration,
        needs_judging: true,
    })
}

fn update_in_place(
    known: &Token,
    listed: ListedToken,
    rules: MergeRules<'_>,
    now: DateTime<Utc>,
) -> Option<Update> {
    let mut token = known.clone();
    rules.set_expiry(&mut token, &listed);
    let (expiry, expiry_origin) = (token.expiry, token.expiry_origin);
    let secret_version = match listed.expiry {
        Cell::Absent => known.secret_version,
        _ => listed.secret_version.unwrap_or(known.secret_version),
    };
    let old_status = status_at_source(known.status);
    let new_status = match listed.status {
        Cell::Value(status) => status_at_source(status),
        Cell::Absent if known.status != Status::Gone => old_status,
        Cell::Absent | Cell::Empty => Status::Active,
    };
    let has_moved = !is_same_expiry(known.expiry, expiry);
    let is_new_secret = expiry.at().is_some() && known.secret_version != secret_version;
    let is_new_expiry = has_moved || is_new_secret;
    let is_changed = is_new_expiry || old_status != new_status;

    let mut token = Token {
        // Sources round.
        expiry: if is_new_expiry { expiry } else { known.expiry },
        secret_version,
        ..with_facts(token, listed)
    };
    if known.life_from == known.created_at {
        token.life_from = token.created_at;
    }
    // An expiry that our policy set is not a renewal, nor is a date that is read in another time zone: the token's life
    // continues.
    let is_same_day = known.expiry_day.is_some() && known.expiry_day == token.expiry_day;
    if has_moved && !is_same_day && expiry_origin != Some(ExpiryOrigin::Policy) {
        token.life_from = Some(now);
    }
    if is_changed {
        token.planned_step = None;
        token.status = new_status;
    }
    rules.settle(&mut token, now);
    if token == *known {
        return None;
    }
    token.judge_at = rules.policy.rules.next_judge_at(Some(known), &token, now);
    let notices = match token.status {
        _ if !is_changed => NoticeEffect::Keep,
        Status::Active => NoticeEffect::NewGeneration,
        // Also a token first seen expired after the change: no one is warned.
        Status::Expired | Status::Disabled | Status::Revoked | Status::Gone => NoticeEffect::Cancel,
    };
    let has_new_co_owners = known.co_owners != token.co_owners;
    Some(Update {
        has_new_co_owners,
        needs_judging: is_changed
            || has_new_co_owners
            || token.issuer != known.issuer
            || token.has_unreadable_owners() != known.has_unreadable_owners(),
        token,
        notices,
    })
}

/// What changes about a known token that is missing in a complete listing; `None` if nothing.
///
/// A token that disappears at or after its expiry has expired. One that disappears before, or whose expiry our
/// policy set, which its source does not know, was removed; so was one whose last expiry could not be read.
pub fn update_missing(known: &Token, now: DateTime<Utc>) -> Option<Update> {
    let is_our_expiry = known.expiry_origin == Some(ExpiryOrigin::Policy);
    let is_known = !is_our_expiry && !known.has_outdated_expiry();
    let has_expired = is_known && known.expiry.at().is_some_and(|at| at <= now);
    let (status, planned_step) = match known.status_at(now) {
        Status::Expired if is_our_expiry => (Status::Gone, known.planned_step),
        Status::Expired | Status::Gone | Status::Revoked => return None,
        Status::Disabled if has_expired => (Status::Expired, Some(Step::ZERO)),
        Status::Active | Status::Disabled => (Status::Gone, known.planned_step),
    };
    Some(Update {
        token: Token {
            status,
            planned_step,
            due_at: None,
            unlisted_since: known.unlisted_since.or(Some(now)),
            // A token that does not work has no findings.
            judge_at: Some(now),
            ..known.clone()
        },
        notices: NoticeEffect::Cancel,
        has_new_co_owners: false,
        needs_judging: true,
    })
}

/// The names of the fields that differ, as in the JSON output.
pub fn changed_fields(old: &Token, new: &Token) -> Vec<&'static str> {
    let fields = [
        ("name", old.name != new.name),
        ("description", old.description != new.description),
        ("issuer", old.issuer != new.issuer),
        ("owners", old.co_owners != new.co_owners),
        ("issuer_name", old.issuer_name != new.issuer_name),
        ("issuer_gone", old.issuer_gone != new.issuer_gone),
        ("account", old.account != new.account),
        ("role", old.role != new.role),
        ("scope", old.scope != new.scope),
        ("created_at", old.created_at != new.created_at),
        (
            "expires_at",
            old.expires() != new.expires() || old.expiry != new.expiry,
        ),
        ("expiry_origin", old.expiry_origin != new.expiry_origin),
        ("secret_version", old.secret_version != new.secret_version),
        ("status", old.status != new.status),
        ("last_used_at", old.last_used_at != new.last_used_at),
        ("reports_use", old.reports_use != new.reports_use),
        ("unreadable", old.unreadable != new.unreadable),
        ("due_at", old.due_at != new.due_at),
    ];
    fields
        .into_iter()
        .filter(|(_, is_changed)| *is_changed)
        .map(|(name, _)| name)
        .collect()
}

/// A stored `expired` is our own mark; the source reports active.
fn status_at_source(status: Status) -> Status {
    match status {
        Status::Expired => Status::Active,
        status => status,
    }
}

pub fn is_same_expiry(known: Expiry, listed: Expiry) -> bool {
    match (known, listed) {
        (Expiry::At(known), Expiry::At(listed)) => (known - listed).abs() < SAME_EXPIRY,
        _ => known == listed,
    }
}
