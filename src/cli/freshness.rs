//! Whether the data of directories is fresh or stale. It uses the configuration alone, so that bad
//! credentials do not keep a listing from being shown.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Config;
use crate::domain::{Schedule, fresh_until};
use crate::store::{DirectoryRow, Store};

use super::setup::store_failure;

/// The schedule and `fresh_for` of each configured directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Freshness(BTreeMap<String, (Option<Schedule>, TimeDelta)>);

impl Freshness {
    pub(super) fn from_config(config: &Config) -> Self {
        let directories = config.directories.iter().map(|directory| {
            let terms = (directory.schedule.clone(), directory.fresh_for);
            (directory.name.clone(), terms)
        });
        Self(directories.collect())
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Until when the data of a directory is fresh. `None` if it never had a good sync or is no longer
    /// configured.
    pub(super) fn fresh_until(&self, row: &DirectoryRow) -> Option<DateTime<Utc>> {
        let (schedule, fresh_for) = self.0.get(&row.name)?;
        let read_at = row.sync_state.last_good_sync_at?;
        Some(fresh_until(read_at, schedule.as_ref(), *fresh_for))
    }

    /// The names of the directories whose data is stale.
    pub(super) fn stale_directories(
        &self,
        rows: &[DirectoryRow],
        now: DateTime<Utc>,
    ) -> Vec<String> {
        let is_stale = |row: &&DirectoryRow| self.fresh_until(row).is_none_or(|until| until < now);
        let stale = rows.iter().filter(is_stale);
        stale.map(|row| row.name.clone()).collect()
    }

    /// As [`Self::stale_directories`], for the directories in the store.
    pub(super) async fn load_stale(
        &self,
        store: &Store,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Vec<String>> {
        let mut tx = store.begin_read().await.map_err(store_failure)?;
        let rows = tx.list_directories().await.map_err(store_failure)?;
        Ok(self.stale_directories(&rows, now))
    }
}
