//! What changed since the last pull: Graph's delta query of users
//! (<https://learn.microsoft.com/graph/delta-query-overview>).
//!
//! A round of changes says whom to look at, never what became of them: its entries hold as little as an
//! id, come late, and come again. So everybody in it is looked up by id. Once a day, and whenever anything
//! is in doubt, everybody is listed instead.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::answers::{SELECT, User};
use super::graph::{Graph, Start, answered};
use crate::domain::Address;
use crate::sources::Error;

/// After so long everybody is listed again.
const FULL_EVERY: TimeDelta = TimeDelta::hours(24);

/// A list is that much younger than the link to what changed since, before it is relied on: both may be
/// answered by servers of Microsoft that lag behind others.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// Up to so many people are looked up one by one; if more have changed, everybody is listed.
const LOOKED_UP: usize = 100;

/// What Graph answers to a link that has become too old (410; 400 with `syncStateNotFound`), and where it
/// tells no changes at all (external tenants).
const NO_CHANGES: [StatusCode; 6] = [
    StatusCode::GONE,
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

/// A link to what changed, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trail {
    link: String,
    /// From then on it holds everything.
    since: DateTime<Utc>,
}

/// Where the next pull takes up.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    #[serde(flatten)]
    trail: Trail,
    /// When everybody was listed.
    full: DateTime<Utc>,
    /// A digest of who was asked for, and where.
    asked: String,
}

impl Cursor {
    pub fn new(trail: Trail, full: DateTime<Utc>, asked: String) -> Self {
        Self { trail, full, asked }
    }

    /// The cursor of an earlier pull; `None` if it is none of ours, or leads elsewhere.
    pub fn read(text: &str, graph: &Graph) -> Option<Self> {
        let cursor: Self = serde_json::from_str(text).ok()?;
        let is_own = graph.web.follow(&cursor.trail.link).is_ok();
        is_own.then_some(cursor)
    }

    pub fn write(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Whether what changed since then, with the list of then, is all there is to know.
    pub fn serves(&self, now: DateTime<Utc>, asked: &str) -> bool {
        let age = now - self.full;
        let is_fresh = TimeDelta::zero() <= age && age < FULL_EVERY;
        is_fresh && self.full - self.trail.since >= OVERLAP && self.asked == asked
    }

    /// The link to what changed.
    pub fn link(&self) -> &str {
        &self.trail.link
    }

    /// The same list, and changes from there on.
    pub fn moved_on(mut self, link: String) -> Self {
        self.trail.link = link;
        self
    }

    /// The same, but everybody is to be listed for a while.
    pub fn doubted(mut self, now: DateTime<Utc>) -> Self {
        self.trail.since = now;
        self
    }

    /// The trail, if it can go on beside another list.
    pub fn into_trail(self, now: DateTime<Utc>) -> Option<Trail> {
        (self.trail.since <= now).then_some(self.trail)
    }
}

/// A digest of who is asked for, and of whom.
pub(super) fn digest(tenant: &str, people: &[Address]) -> String {
    let mut digest = Sha256::new_with_prefix(tenant);
    digest.update([0]);
    for address in people {
        digest.update(address.key());
        digest.update([0]);
    }
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

/// A trail that begins now; `None` where Graph tells no changes.
pub(super) async fn begin(graph: &Graph, now: DateTime<Utc>) -> Result<Option<Trail>, Error> {
    let query = [("$select", SELECT), ("$deltatoken", "latest")];
    let start = Start::Path("users/delta", &query);
    match graph.list(start, |_: User| {}).await {
        Ok(link) => Ok(link.map(|link| Trail { link, since: now })),
        Err(error) if answered(&error, &NO_CHANGES) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One round of changes.
#[derive(Debug)]
pub(super) struct Round {
    /// Who is concerned, with what the round itself says of `accountEnabled`, the last word last.
    pub changed: BTreeMap<String, Option<bool>>,
    /// Those that are no longer there, as it says.
    pub removed: Vec<String>,
    /// To what changes from there on.
    pub link: String,
}

/// What changed since; `None` if everybody must be listed to know.
pub(super) async fn round(graph: &Graph, link: &str) -> Result<Option<Round>, Error> {
    let mut changed = BTreeMap::new();
    let mut removed = BTreeMap::new();
    let take = |user: User| {
        if changed.len() <= LOOKED_UP {
            let is_removed = user.removed.is_some();
            removed.insert(user.id.clone(), is_removed);
            let said: &mut Option<bool> = changed.entry(user.id).or_default();
            *said = user.account_enabled.or(*said);
        }
    };
    let link = match graph.list(Start::Link(link), take).await {
        Ok(link) => link,
        Err(error) if answered(&error, &NO_CHANGES) => return Ok(None),
        Err(error) => return Err(error),
    };
    // A round that has no end, or is not ours, says nothing.
    let Some(link) = link.filter(|_| changed.len() <= LOOKED_UP) else {
        return Ok(None);
    };
    removed.retain(|_, is_removed| *is_removed);
    changed.retain(|id, _| !removed.contains_key(id));
    Ok(Some(Round {
        changed,
        removed: removed.into_keys().collect(),
        link,
    }))
}
