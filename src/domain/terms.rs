//! The terms on which sources and directories are watched. They contain no credentials.

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Address, Schedule};

#[derive(Debug, Clone, Default)]
pub struct SourceTerms {
    /// `[a-z0-9][a-z0-9_-]*`, not `local`; unique.
    pub name: String,
    pub kind: &'static str,
    /// When the source is synced; `None` means at every sweep.
    pub schedule: Option<Schedule>,
    /// Whether lapsed may revoke its tokens.
    pub allow_revoke: bool,
    /// The life that lapsed gives its tokens without an expiry, counted from their creation.
    pub policy_ttl: Option<TimeDelta>,
    /// A file that assigns owners to its tokens.
    pub owners: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct DirectoryTerms {
    /// `[a-z0-9][a-z0-9_-]*`; unique.
    pub name: String,
    pub kind: &'static str,
    /// When the directory is synced; `None` means at every sweep.
    pub schedule: Option<Schedule>,
    /// Names or ids of groups; people must be in at least one. Empty means no such condition.
    pub allowed_groups: Vec<String>,
    /// People who always have access; a listing without them as active is rejected.
    pub canaries: Vec<Address>,
    /// How long a person must be missing before they count as deleted.
    pub absence_grace: TimeDelta,
    /// How long after a due sync its data still counts.
    pub fresh_for: TimeDelta,
    /// The share of active people, from 0 to 1, who may lose access in one listing.
    pub breaker_share: f64,
    /// Losses up to this count never trip the breaker.
    pub breaker_min: u32,
}

impl Default for DirectoryTerms {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: "",
            schedule: None,
            allowed_groups: Vec::new(),
            canaries: Vec::new(),
            absence_grace: TimeDelta::minutes(30),
            fresh_for: TimeDelta::days(1),
            breaker_share: 0.1,
            breaker_min: 3,
        }
    }
}

impl DirectoryTerms {
    /// Until when its data counts if the last good sync was at `read_at`: for `fresh_for` after the next sync is
    /// due.
    #[must_use]
    pub fn fresh_until(&self, read_at: DateTime<Utc>) -> DateTime<Utc> {
        let schedule = self.schedule.as_ref();
        let next = schedule.and_then(|schedule| schedule.next_after(read_at));
        next.unwrap_or(read_at)
            .checked_add_signed(self.fresh_for)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Whether data that was read then still counts.
    #[must_use]
    pub fn is_fresh(&self, read_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        read_at.is_some_and(|read_at| now <= self.fresh_until(read_at))
    }
}
