//! The state of the daemon, for the health pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::domain::Step;
use crate::engine::{self, Engine, SWEEP_LEASE};
use crate::http::{
    self, DirectoryHealth, Fault, LastSweep, Readiness, ServiceHealth, Snapshot, SourceHealth,
};
use crate::lifecycle::{Heartbeat, find_stalled};
use crate::store::{self, DirectoryRow, RunRow, SourceRow, Tx};
use crate::time::shift;
use crate::web::{AppState, Web};

/// How late a sweep may be before the daemon counts as not ready: a long sweep is not a fault.
const LATE_SWEEP_GRACE: TimeDelta = TimeDelta::minutes(15);

pub(super) struct Health {
    pub engine: Arc<Engine>,
    pub heartbeats: Vec<Heartbeat>,
    pub started_at: DateTime<Utc>,
    pub web: Option<AppState>,
}

#[async_trait]
impl http::Health for Health {
    async fn readiness(&self) -> Readiness {
        let now = self.engine.now();
        let loaded = if self.engine.store.is_away() {
            None
        } else {
            self.load_readiness().await.ok()
        };
        let store_fault = loaded
            .is_none()
            .then(|| "the store does not answer".to_owned());
        let (last_run, mail_due_at) = loaded.unwrap_or_default();
        let last_sweep = last_run.and_then(|run| {
            let succeeded = run.outcome.as_deref() == Some("ok");
            run.ended_at.map(|ended_at| LastSweep {
                ended_at,
                succeeded,
            })
        });
        let settings = &self.engine.settings;
        let tried_at = self.engine.mailer.last_attempt_at(now);
        Readiness {
            store_fault,
            last_sweep,
            fresh_since: shift(now, -(settings.sweep_interval(now) + LATE_SWEEP_GRACE)),
            mail_due_at,
            mail_tried_at: tried_at.unwrap_or(self.started_at),
            delivering_since: shift(now, -settings.max_delivery_delay(now)),
        }
    }

    fn stalled_work(&self) -> Option<&'static str> {
        find_stalled(&self.heartbeats, Instant::now()).map(Heartbeat::work)
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        let now = self.engine.now();
        let (last, good) = self.load_last_runs().await?;
        let mut tx = self.engine.store.begin_read().await?;
        let counts = tx.load_counts(now).await?;
        let to_u64 = |count: i64| u64::try_from(count).unwrap_or(0);
        let mut snapshot = Snapshot {
            oldest_due_unsent: age(counts.oldest_due_at, now),
            mails: self.engine.mailer.mail_counts(),
            last_sweep_duration: last.as_ref().and_then(run_duration),
            last_sweep_at: last.and_then(|run| run.ended_at),
            last_success_at: good.and_then(|run| run.ended_at),
            plans_held: to_u64(counts.plans_held),
            directories_held: to_u64(counts.directories_held),
            ..Snapshot::default()
        };
        for (status, source, count) in counts.tokens {
            snapshot
                .tokens
                .insert((status.parse()?, source), to_u64(count));
        }
        for (kind, count) in counts.findings {
            snapshot.findings_open.insert(kind.parse()?, to_u64(count));
        }
        for (state, step, count) in counts.notices {
            let key = (state.parse()?, step.map(Step::from_seconds));
            *snapshot.notices.entry(key).or_default() += to_u64(count);
        }
        self.add_replicas(&mut tx, now, &mut snapshot).await?;
        let mut rows: BTreeMap<String, SourceRow> = tx
            .list_sources()
            .await?
            .into_iter()
            .map(|row| (row.name.clone(), row))
            .collect();
        let sources = self.engine.sources.iter().map(|source| {
            let name = &source.terms.name;
            let row = rows.remove(name).unwrap_or_default();
            (name.clone(), source_health(&row))
        });
        snapshot.sources = sources.collect();
        self.add_directories(&mut tx, now, &mut snapshot).await?;
        snapshot.service = self.web.as_deref().map(service_health);
        Ok(snapshot)
    }
}

fn service_health(web: &Web) -> ServiceHealth {
    let counts = web.service.counts();
    let refused = counts.refused.iter();
    let refused = refused.map(|(refusal, count)| (refusal.as_str(), *count));
    ServiceHealth {
        verifications: refused.chain([("valid", counts.valid)]).collect(),
        cache_hits: counts.hits,
        lost_uses: counts.lost_uses,
        feed_age: web.service.feed_age(),
        requests: web.requests(),
    }
}

fn source_health(row: &SourceRow) -> SourceHealth {
    let sync_state = &row.sync_state;
    SourceHealth {
        last_sync_at: sync_state.last_sync_at,
        last_good_sync_at: sync_state.last_good_sync_at,
        is_failing: sync_state.failures > 0,
        tokens: u64::try_from(row.tokens).unwrap_or(0),
    }
}

fn directory_health(row: &DirectoryRow, is_fresh: bool) -> DirectoryHealth {
    DirectoryHealth {
        last_good_sync_at: row.sync_state.last_good_sync_at,
        failures: u64::try_from(row.sync_state.failures).unwrap_or(0),
        is_held: row.held.is_some(),
        is_fresh,
        people: u64::try_from(row.people).unwrap_or(0),
    }
}

impl Health {
    async fn add_replicas(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        snapshot: &mut Snapshot,
    ) -> Result<(), Fault> {
        let mut configurations = BTreeSet::new();
        for replica in tx.list_replicas().await? {
            if replica.is_live(now) {
                *snapshot.replicas.entry(replica.version).or_default() += 1;
                configurations.insert(replica.configuration);
            }
        }
        snapshot.replica_configurations = configurations.len() as u64;
        if let Some(lease) = tx.find_lease(SWEEP_LEASE).await? {
            snapshot.is_leader = lease.holder == self.engine.holder;
            snapshot.lease_holder_changes = u64::try_from(lease.changes).unwrap_or(0);
        }
        Ok(())
    }

    async fn add_directories(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        snapshot: &mut Snapshot,
    ) -> Result<(), Fault> {
        let rows = tx.list_directories().await?;
        let directories = self.engine.directories.iter();
        let terms: Vec<_> = directories.map(|watched| &watched.terms).collect();
        let stale = engine::stale_directories(&terms, &rows, now);
        for count in tx.count_identities(&stale).await? {
            let reason = count.reason.map(|reason| reason.parse()).transpose()?;
            let key = (count.directory, count.status, reason);
            let count = u64::try_from(count.count).unwrap_or(0);
            snapshot.identities.insert(key, count);
        }
        let mut known: BTreeMap<String, DirectoryRow> = rows
            .into_iter()
            .map(|row| (row.name.clone(), row))
            .collect();
        let directories = self.engine.directories.iter().map(|directory| {
            let terms = &directory.terms;
            let row = known.remove(&terms.name).unwrap_or_default();
            let is_fresh = terms.is_fresh(row.sync_state.last_good_sync_at, now);
            (terms.name.clone(), directory_health(&row, is_fresh))
        });
        snapshot.directories = directories.collect();
        Ok(())
    }

    /// The last sweep and the last good sweep.
    async fn load_last_runs(&self) -> Result<(Option<RunRow>, Option<RunRow>), store::Error> {
        let mut tx = self.engine.store.begin_read().await?;
        Ok((
            tx.find_last_run(false).await?,
            tx.find_last_run(true).await?,
        ))
    }

    /// The last sweep, and since when a mail is due.
    async fn load_readiness(
        &self,
    ) -> Result<(Option<RunRow>, Option<DateTime<Utc>>), store::Error> {
        let mut tx = self.engine.store.begin_short_read().await?;
        Ok((
            tx.find_last_run(false).await?,
            tx.find_oldest_due_mail().await?,
        ))
    }
}

fn age(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    at.and_then(|at| (now - at).to_std().ok())
        .unwrap_or_default()
}

fn run_duration(run: &RunRow) -> Option<Duration> {
    (run.ended_at? - run.started_at).to_std().ok()
}
