//! Replicas: the daemons that share one store.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

/// A replica counts as live for this long after it was seen. It is seen every minute; the rest is for the difference
/// of two machines' clocks.
const LIVE_FOR: TimeDelta = TimeDelta::minutes(3);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its leases have it as their holder.
    pub id: Uuid,
    pub host: String,
    pub version: String,
    /// The fingerprint of its configuration.
    pub configuration: String,
    pub started_at: DateTime<Utc>,
    /// By its own clock.
    pub seen_at: DateTime<Utc>,
}

/// Which configurations live replicas have, if they differ. Their versions do not matter: the same settings have the same
/// fingerprint in each, so an upgrade of one after the other is no drift.
pub fn describe_drift(replicas: &[Replica], now: DateTime<Utc>) -> Option<String> {
    let mut hosts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for replica in replicas.iter().filter(|replica| replica.is_live(now)) {
        let group = hosts.entry(&replica.configuration).or_default();
        group.insert(&replica.host);
    }
    let groups: Vec<_> = hosts
        .into_iter()
        .map(|(configuration, hosts)| {
            let hosts: Vec<_> = hosts.into_iter().collect();
            format!("{configuration} on {}", hosts.join(", "))
        })
        .collect();
    (groups.len() > 1).then(|| {
        format!(
            "live replicas have different configurations: {}",
            groups.join("; ")
        )
    })
}

/// The part of a rate that the replica `own` may use, so that all live ones together keep to the whole. A command that
/// sends is no replica, and counts as one more.
pub fn share_of_rate(rate: f64, replicas: &[Replica], own: Uuid, now: DateTime<Utc>) -> f64 {
    let mut count = 1.0;
    for replica in replicas {
        if replica.id != own && replica.is_live(now) {
            count += 1.0;
        }
    }
    rate / count
}

impl Replica {
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        (now - self.seen_at).abs() <= LIVE_FOR
    }
}
