//! Changes since the last listing: Graph's delta query of users
//! (<https://learn.microsoft.com/graph/delta-query-overview>).
//!
//! A delta query only shows which users to look at: an entry may have no more than an id, and may come late
//! or twice. So every user in it is looked up by id. Once a day, and whenever something is unclear, all users
//! are listed instead.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::graph::{Graph, SELECT, User};
use crate::domain::Address;
use crate::upstream::{Error, none_if_status};

/// How often all users are listed.
const FULL_LISTING_INTERVAL: TimeDelta = TimeDelta::hours(24);

/// A full listing must be at least this much younger than the delta link it is combined with, because
/// either may come from a server that lags behind.
const MIN_OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// If more users than this have changed, all users are listed.
const MAX_CHANGED: usize = 100;

/// Responses to a link that is too old (410; 400 with `syncStateNotFound`), and of tenants without delta
/// queries (external tenants).
const DELTA_UNAVAILABLE: [StatusCode; 6] = [
    StatusCode::GONE,
    StatusCode::BAD_REQUEST,
    StatusCode::FORBIDDEN,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_IMPLEMENTED,
];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeltaLink {
    link: String,
    /// The link covers all changes since then.
    since: DateTime<Utc>,
}

/// Where the next listing continues.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    #[serde(flatten)]
    delta_link: DeltaLink,
    #[serde(rename = "full")]
    listed_at: DateTime<Utc>,
    #[serde(rename = "asked")]
    query_digest: String,
}

impl Cursor {
    pub fn new(delta_link: DeltaLink, listed_at: DateTime<Utc>, query_digest: String) -> Self {
        Self {
            delta_link,
            listed_at,
            query_digest,
        }
    }

    /// `None` if the text is not a cursor, or its link leads to another server.
    pub fn parse(text: &str, graph: &Graph) -> Option<Self> {
        let cursor: Self = serde_json::from_str(text).ok()?;
        let is_own = graph.follow(&cursor.delta_link.link).is_ok();
        is_own.then_some(cursor)
    }

    pub fn to_text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Whether the last full listing and the changes since then are enough.
    pub fn is_usable(&self, now: DateTime<Utc>, query_digest: &str) -> bool {
        let age = now - self.listed_at;
        let is_fresh = TimeDelta::zero() <= age && age < FULL_LISTING_INTERVAL;
        is_fresh
            && self.listed_at - self.delta_link.since >= MIN_OVERLAP
            && self.query_digest == query_digest
    }

    pub fn link(&self) -> &str {
        &self.delta_link.link
    }

    /// Continues from a new link.
    pub fn advance_to(mut self, link: String) -> Self {
        self.delta_link.link = link;
        self
    }

    /// Makes the next listings full ones, until the link is [`MIN_OVERLAP`] older than a listing.
    pub fn restart_overlap(mut self, now: DateTime<Utc>) -> Self {
        self.delta_link.since = now;
        self
    }

    /// The link, if it can be combined with a new full listing.
    pub fn into_delta_link(self, now: DateTime<Utc>) -> Option<DeltaLink> {
        (self.delta_link.since <= now).then_some(self.delta_link)
    }
}

/// A digest of the tenant and of the people in the query.
pub(super) fn query_digest(tenant: &str, people: &[Address]) -> String {
    let mut digest = Sha256::new_with_prefix(tenant);
    digest.update([0]);
    for address in people {
        digest.update(address.key());
        digest.update([0]);
    }
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

/// A delta link that starts now; `None` if the tenant has no delta queries.
pub(super) async fn start_delta(
    graph: &Graph,
    now: DateTime<Utc>,
) -> Result<Option<DeltaLink>, Error> {
    let query = [("$select", SELECT), ("$deltatoken", "latest")];
    let latest = graph.get("users/delta", &query);
    let result = graph.for_each_item(latest, |_: User| {}).await;
    let end = none_if_status(result, &DELTA_UNAVAILABLE)?;
    let link = end.and_then(|end| end.delta);
    Ok(link.map(|link| DeltaLink { link, since: now }))
}

#[derive(Debug)]
pub(super) struct Changes {
    /// Ids of changed users, with the latest `accountEnabled` that the delta query itself reports.
    pub changed: BTreeMap<String, Option<bool>>,
    /// Ids of users that it reports as removed.
    pub removed: Vec<String>,
    /// The link to later changes.
    pub link: String,
}

/// The changes since a link was issued; `None` if all users must be listed instead.
pub(super) async fn fetch_changes(graph: &Graph, link: &str) -> Result<Option<Changes>, Error> {
    let mut changed = BTreeMap::new();
    let mut removed = BTreeMap::new();
    let add_user = |user: User| {
        if changed.len() <= MAX_CHANGED {
            let is_removed = user.removed.is_some();
            removed.insert(user.id.clone(), is_removed);
            let enabled: &mut Option<bool> = changed.entry(user.id).or_default();
            *enabled = user.account_enabled.value().or(*enabled);
        }
    };
    let result = graph.for_each_item(graph.follow(link)?, add_user).await;
    // A record without an id may be any user's.
    let end = none_if_status(result, &DELTA_UNAVAILABLE)?.filter(|end| end.without_id == 0);
    let Some(link) = end.and_then(|end| end.delta) else {
        return Ok(None);
    };
    if changed.len() > MAX_CHANGED {
        return Ok(None);
    }
    removed.retain(|_, is_removed| *is_removed);
    changed.retain(|id, _| !removed.contains_key(id));
    Ok(Some(Changes {
        changed,
        removed: removed.into_keys().collect(),
        link,
    }))
}
