//! Replicas: the daemons that share one store.

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

impl Replica {
    pub fn is_live(&self, now: DateTime<Utc>) -> bool {
        (now - self.seen_at).abs() <= LIVE_FOR
    }
}
