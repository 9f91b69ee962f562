//! What a listing changes: both sides in order of external id, so that millions of rows stream
//! through.

use std::cmp::Ordering;
use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Cell, Expiry, ExpiryOrigin, Listed, Policy, Status, Step, Token, TokenId};

/// An expiry that moves by less than this is the same one: sources round.
const SAME_EXPIRY: TimeDelta = TimeDelta::seconds(60);

/// What a listing means for one token.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is new.
    Insert(Token),
    /// Something about it is different.
    Update(Update),
}

/// A known token with something different about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The token as it is from now on.
    pub token: Token,
    /// What its notices must learn of it.
    pub notices: NoticeEffect,
    /// The issuer, the expiry or the status is another: who lost his access must be judged again.
    pub needs_judging: bool,
}

/// What a change of a token does to the notices about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeEffect {
    /// Nothing.
    Keep,
    /// The unsent ones of other expiries are cancelled, cancelled ones of this expiry revive.
    NewGeneration,
    /// The unsent ones are cancelled: nobody is owed a warning about this token.
    Cancel,
}

/// One external id on one or both sides.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "lives for a page; boxing each would cost more"
)]
pub enum Pair {
    /// Known and listed.
    Both(Token, Listed),
    /// Known, and not listed.
    OnlyKnown(Token),
    /// Listed, and not known.
    OnlyListed(Listed),
}

/// Takes pairs off two queues that are in order of external id, as long as no later row can come in
/// between: a queue that has run dry stops the pairing unless its side is `done`.
pub fn pair_up(
    known: &mut VecDeque<Token>,
    known_done: bool,
    listed: &mut VecDeque<Listed>,
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
        let known = if order.is_le() {
            known.pop_front()
        } else {
            None
        };
        let listed = if order.is_ge() {
            listed.pop_front()
        } else {
            None
        };
        pairs.extend(match (known, listed) {
            (Some(known), Some(listed)) => Some(Pair::Both(known, listed)),
            (Some(known), None) => Some(Pair::OnlyKnown(known)),
            (None, Some(listed)) => Some(Pair::OnlyListed(listed)),
            (None, None) => None,
        });
    }
}

/// By what rules the tokens of a source are taken in.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// When and whom to warn.
    pub policy: &'a Policy,
    /// The life that a token without an end is given.
    pub policy_ttl: Option<TimeDelta>,
    /// When the source was asked for what it lists; `None` where nobody was asked.
    pub asked_at: Option<DateTime<Utc>>,
}

/// Those of a source that has none of its own.
impl<'a> From<&'a Policy> for Terms<'a> {
    fn from(policy: &'a Policy) -> Self {
        Self {
            policy,
            policy_ttl: None,
            asked_at: None,
        }
    }
}

impl Terms<'_> {
    /// The expiry that counts, and who says so. A token without an end has the one that our policy gives
    /// it, counted from when it was made or, where nobody knows that, from when it was first seen.
    fn expiry(
        &self,
        listed: &Listed,
        from: DateTime<Utc>,
    ) -> Option<(Expiry, Option<ExpiryOrigin>)> {
        let ours = self.policy_ttl.and_then(|ttl| from.checked_add_signed(ttl));
        let stated = listed.expiry.clone().over(None)?;
        let (expiry, origin) = match (stated, ours) {
            (Expiry::Never, Some(at)) => (Expiry::At(at), Some(ExpiryOrigin::Policy)),
            (Expiry::At(_), _) if listed.is_computed => (stated, Some(ExpiryOrigin::Computed)),
            (Expiry::Never | Expiry::At(_), _) => (stated, Some(ExpiryOrigin::Source)),
            (Expiry::Unknown, _) => (stated, None),
        };
        let of_secret = |version| expiry.of_secret(version);
        Some((listed.version.map_or(expiry, of_secret), origin))
    }
}

/// A token that `source` lists for the first time.
#[must_use]
pub fn first_seen(source: &str, listed: Listed, terms: Terms<'_>, now: DateTime<Utc>) -> Token {
    let created_at = listed.created_at.clone().over(None);
    let (expiry, expiry_origin) = terms
        .expiry(&listed, created_at.unwrap_or(now))
        .unwrap_or((Expiry::Unknown, None));
    let use_told = listed.last_used_at != Cell::Absent;
    let token = Token {
        id: TokenId::of(source, &listed.external_id),
        source: source.to_owned(),
        external_id: listed.external_id,
        name: listed.name.over(None).unwrap_or_default(),
        description: listed.description.over(None),
        issuer: listed.issuer.over(None),
        issuer_name: listed.issuer_name.over(None),
        issuer_gone: listed.issuer_gone.over(None),
        account: listed.account.over(None),
        role: listed.role.over(None),
        scope: listed.scope.over(None),
        created_at,
        expiry,
        expiry_origin,
        status: listed.status.over(None).unwrap_or(Status::Active),
        last_used_at: listed.last_used_at.over(None),
        use_told,
        first_seen_at: now,
        life_from: created_at,
        planned_step: None,
        due_at: None,
        judge_at: None,
        revoked_at: None,
    };
    let mut token = settled(token, terms.policy, now);
    token.judge_at = terms.policy.rules.judge_at(None, &token, now);
    token
}

/// What `listed` changes about `known`; `None` when it says what is known already.
///
/// A token that lapsed has ended was seen to be gone. So what was asked for before that is no news, and
/// what is listed after it, without a status, is another token under the same external id.
#[must_use]
pub fn update(
    known: &Token,
    listed: Listed,
    terms: Terms<'_>,
    now: DateTime<Utc>,
) -> Option<Update> {
    let is_ended = known.status == Status::Revoked;
    match known.revoked_at.zip(terms.asked_at) {
        Some((revoked_at, asked_at)) if asked_at <= revoked_at => None,
        Some(_) if is_ended && listed.status == Cell::Absent => {
            successor(known, listed, terms, now)
        }
        _ => restated(known, listed, terms, now),
    }
}

/// Another token under the external id of one that was ended: nothing of that one holds for it. `None`
/// when it has expired or is about to, as one looks that was ended by its date.
fn successor(
    known: &Token,
    listed: Listed,
    terms: Terms<'_>,
    now: DateTime<Utc>,
) -> Option<Update> {
    let is_counted = listed.version.is_some();
    let mut token = first_seen(&known.source, listed, terms, now);
    let ended_at = known.revoked_at.map(|at| at + SAME_EXPIRY);
    if token.status != Status::Active || token.expiry.at().is_some_and(|at| Some(at) <= ended_at) {
        return None;
    }
    if let (Some(nth), false) = (known.expiry.nth_secret(), is_counted)
        && is_same(known.expiry, token.expiry)
    {
        // Where both end at one instant, the notices of one are none of the other's.
        token.expiry = token.expiry.of_secret(nth + 2);
        token.due_at = terms.policy.due_at(&token);
    }
    token.judge_at = terms.policy.rules.judge_at(Some(known), &token, now);
    Some(Update {
        token,
        notices: NoticeEffect::NewGeneration,
        needs_judging: true,
    })
}

fn restated(known: &Token, listed: Listed, terms: Terms<'_>, now: DateTime<Utc>) -> Option<Update> {
    let stored = known.clone();
    let created_at = listed.created_at.clone().over(stored.created_at);
    let (expiry, expiry_origin) = terms
        .expiry(&listed, created_at.unwrap_or(known.first_seen_at))
        .unwrap_or((known.expiry, known.expiry_origin));
    let is_counted = listed.version.is_some();
    let use_told = known.use_told || listed.last_used_at != Cell::Absent;
    let listed_status = match listed.status {
        Cell::Value(status) => status,
        Cell::Empty | Cell::Absent if known.status == Status::Gone => Status::Active,
        Cell::Empty => Status::Active,
        Cell::Absent => known.status,
    };
    let mut token = Token {
        name: listed.name.over(Some(stored.name)).unwrap_or_default(),
        description: listed.description.over(stored.description),
        issuer: listed.issuer.over(stored.issuer),
        issuer_name: listed.issuer_name.over(stored.issuer_name),
        issuer_gone: listed.issuer_gone.over(stored.issuer_gone),
        account: listed.account.over(stored.account),
        role: listed.role.over(stored.role),
        scope: listed.scope.over(stored.scope),
        created_at,
        last_used_at: listed.last_used_at.over(stored.last_used_at),
        use_told,
        ..known.clone()
    };
    if known.life_from == known.created_at {
        token.life_from = token.created_at;
    }
    let is_other_end = !is_same(known.expiry, expiry);
    let is_other_secret = is_counted && known.expiry.nth_secret() != expiry.nth_secret();
    let is_new_expiry = is_other_end || is_other_secret;
    token.expiry_origin = expiry_origin;
    if is_new_expiry {
        token.expiry = expiry;
    }
    // A date of ours is no renewal: the token is as old as it was.
    if is_other_end && expiry_origin != Some(ExpiryOrigin::Policy) {
        token.life_from = Some(now);
    }
    // A stored `expired` is a mark of ours; the source's word for it is active.
    let was = known.status_unmarked();
    let is = if listed_status == Status::Expired {
        Status::Active
    } else {
        listed_status
    };
    if is_new_expiry || was != is {
        token.planned_step = None;
        token.status = is;
    }
    let mut token = settled(token, terms.policy, now);
    if token == *known {
        return None;
    }
    token.judge_at = terms.policy.rules.judge_at(Some(known), &token, now);
    let is_other = is_new_expiry || was != is;
    let notices = match is {
        _ if !is_other => NoticeEffect::Keep,
        // Seen expired for the first time under these facts: nobody is told.
        _ if token.status == Status::Expired => NoticeEffect::Cancel,
        Status::Disabled | Status::Revoked | Status::Gone => NoticeEffect::Cancel,
        Status::Active | Status::Expired => NoticeEffect::NewGeneration,
    };
    let needs_judging = is_other || token.issuer != known.issuer;
    Some(Update {
        token,
        notices,
        needs_judging,
    })
}

/// A known token that a complete listing no longer holds; `None` when that is no news.
///
/// One that disappears at or after its expiry has expired; before it, somebody removed it, and so it is
/// with one whose expiry is a date of ours, of which its source knows nothing.
#[must_use]
pub fn left_listing(known: &Token, now: DateTime<Utc>) -> Option<Update> {
    let is_ours = known.expiry_origin == Some(ExpiryOrigin::Policy);
    let is_over = !is_ours && known.expiry.at().is_some_and(|at| at <= now);
    let (status, planned_step) = match known.status_at(now) {
        Status::Expired if is_ours => (Status::Gone, known.planned_step),
        Status::Expired | Status::Gone | Status::Revoked => return None,
        Status::Disabled if is_over => (Status::Expired, Some(Step::ZERO)),
        Status::Active | Status::Disabled => (Status::Gone, known.planned_step),
    };
    Some(Update {
        token: Token {
            status,
            planned_step,
            due_at: None,
            // Nothing is wrong any more with a token that does not work.
            judge_at: Some(now),
            ..known.clone()
        },
        notices: NoticeEffect::Cancel,
        needs_judging: true,
    })
}

/// The names of the facts in which the two differ, as the outside knows them.
#[must_use]
pub fn fields_changed(before: &Token, after: &Token) -> Vec<&'static str> {
    let fields = [
        ("name", before.name != after.name),
        ("description", before.description != after.description),
        ("issuer", before.issuer != after.issuer),
        ("issuer_name", before.issuer_name != after.issuer_name),
        ("issuer_gone", before.issuer_gone != after.issuer_gone),
        ("account", before.account != after.account),
        ("role", before.role != after.role),
        ("scope", before.scope != after.scope),
        ("created_at", before.created_at != after.created_at),
        ("expires_at", before.expiry != after.expiry),
        ("expiry_origin", before.expiry_origin != after.expiry_origin),
        ("status", before.status != after.status),
        ("last_used_at", before.last_used_at != after.last_used_at),
        ("use_told", before.use_told != after.use_told),
        ("due_at", before.due_at != after.due_at),
    ];
    let changed = fields.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(name, _)| name).collect()
}

/// Whether the token has expired and nobody has marked it yet.
#[must_use]
pub fn is_to_be_marked(token: &Token, now: DateTime<Utc>) -> bool {
    token.status == Status::Active && token.status_at(now) == Status::Expired
}

/// The token with what follows from its facts: a token seen expired is marked and owes nobody
/// anything; the rest is due when the policy says.
fn settled(mut token: Token, policy: &Policy, now: DateTime<Utc>) -> Token {
    let is_unplanned = token.planned_step.is_none();
    if is_unplanned && token.status_at(now) == Status::Expired && token.status == Status::Active {
        token.status = Status::Expired;
        token.planned_step = Some(Step::ZERO);
    }
    token.due_at = policy.due_at(&token);
    token.revoked_at = token.revoked_at.filter(|_| token.status == Status::Revoked);
    token
}

fn is_same(known: Expiry, listed: Expiry) -> bool {
    match (known, listed) {
        (Expiry::At(known), Expiry::At(listed)) => (known - listed).abs() < SAME_EXPIRY,
        _ => known == listed,
    }
}
