//! Whether the word of a directory still holds, by the configuration alone: what is wrong with a directory's
//! credentials must not keep a listing from being shown.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Config;
use crate::domain::{Schedule, fresh_until};
use crate::store::{DirectoryRow, Store};

use super::setup::store_failure;

/// The configured directories, each with when it is read and for how long its word holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Freshness(BTreeMap<String, (Option<Schedule>, TimeDelta)>);

impl Freshness {
    pub(super) fn of(config: &Config) -> Self {
        let directories = config.directories.iter().map(|directory| {
            let about = (directory.schedule.clone(), directory.fresh_for);
            (directory.name.clone(), about)
        });
        Self(directories.collect())
    }

    /// The names.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Up to when its word holds; `None` where it was never read well, or is configured no longer.
    pub(super) fn until(&self, row: &DirectoryRow) -> Option<DateTime<Utc>> {
        let (schedule, fresh_for) = self.0.get(&row.name)?;
        let read_at = row.standing.last_good_sync_at?;
        Some(fresh_until(read_at, schedule.as_ref(), *fresh_for))
    }

    /// The directories whose word holds no longer.
    pub(super) fn stale(&self, rows: &[DirectoryRow], now: DateTime<Utc>) -> Vec<String> {
        let is_stale = |row: &&DirectoryRow| self.until(row).is_none_or(|until| until < now);
        let stale = rows.iter().filter(is_stale);
        stale.map(|row| row.name.clone()).collect()
    }

    /// The same, by what the store knows of them.
    pub(super) async fn stale_in(
        &self,
        store: &Store,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Vec<String>> {
        let mut tx = store.read().await.map_err(store_failure)?;
        let rows = tx.directories().await.map_err(store_failure)?;
        Ok(self.stale(&rows, now))
    }
}
