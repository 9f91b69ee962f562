//! How the daemon does, for the health pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::Step;
use crate::engine::Engine;
use crate::http::{
    self, DirectoryHealth, Fault, LastSweep, Mails, Readiness, Snapshot, SourceHealth,
};
use crate::store::{self, DirectoryRow, RunRow, SourceRow, Tx};

/// A sweep may be late by this before the daemon counts as not ready: a long one is no fault.
const GRACE: TimeDelta = TimeDelta::minutes(15);

/// Asks the engine's store.
pub(super) struct Health {
    pub engine: Arc<Engine>,
}

#[async_trait]
impl http::Health for Health {
    async fn readiness(&self) -> Readiness {
        let now = self.engine.now();
        let asked = self.last_runs().await;
        let store_fault = asked
            .as_ref()
            .err()
            .map(|_| "the store does not answer".to_owned());
        let last_sweep = asked.ok().and_then(|(last, _)| last).and_then(|run| {
            let succeeded = run.outcome.as_deref() == Some("ok");
            run.ended_at.map(|ended_at| LastSweep {
                ended_at,
                succeeded,
            })
        });
        Readiness {
            store_fault,
            last_sweep,
            fresh_since: self.fresh_since(now),
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        let now = self.engine.now();
        let (last, good) = self.last_runs().await?;
        let mut tx = self.engine.store.read().await?;
        let counts = tx.counts(now).await?;
        let many = |count: i64| u64::try_from(count).unwrap_or(0);
        let mut snapshot = Snapshot {
            oldest_due_unsent: since(counts.oldest_due_at, now),
            mails: mails(&self.engine),
            last_sweep_took: last.as_ref().and_then(took),
            last_sweep_at: last.and_then(|run| run.ended_at),
            last_success_at: good.and_then(|run| run.ended_at),
            plans_held: many(counts.plans_held),
            directories_held: many(counts.directories_held),
            ..Snapshot::default()
        };
        for (status, source, count) in counts.tokens {
            snapshot
                .tokens
                .insert((status.parse()?, source), many(count));
        }
        for (kind, count) in counts.findings {
            snapshot.findings_open.insert(kind.parse()?, many(count));
        }
        for (state, step, count) in counts.notices {
            let key = (state.parse()?, step.map(Step::from_seconds));
            *snapshot.notices.entry(key).or_default() += many(count);
        }
        let mut asked: BTreeMap<String, SourceRow> = tx
            .sources()
            .await?
            .into_iter()
            .map(|row| (row.name.clone(), row))
            .collect();
        let sources = self.engine.sources.iter().map(|source| {
            let row = asked.remove(&source.name).unwrap_or_default();
            (source.name.clone(), health(&row))
        });
        snapshot.sources = sources.collect();
        self.take_directories(&mut tx, now, &mut snapshot).await?;
        Ok(snapshot)
    }
}

fn health(row: &SourceRow) -> SourceHealth {
    let standing = &row.standing;
    SourceHealth {
        last_sync_at: standing.last_sync_at,
        last_good_sync_at: standing.last_good_sync_at,
        is_failing: standing.failures > 0,
        tokens: u64::try_from(row.tokens).unwrap_or(0),
    }
}

fn directory_health(row: &DirectoryRow, is_fresh: bool) -> DirectoryHealth {
    DirectoryHealth {
        last_good_sync_at: row.standing.last_good_sync_at,
        failures: u64::try_from(row.standing.failures).unwrap_or(0),
        is_held: row.held.is_some(),
        is_fresh,
        people: u64::try_from(row.people).unwrap_or(0),
    }
}

impl Health {
    async fn take_directories(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        snapshot: &mut Snapshot,
    ) -> Result<(), Fault> {
        let rows = tx.directories().await?;
        let fresh = self.engine.fresh(&rows, now);
        let stale = rows.iter().filter(|row| !fresh.contains(&row.name));
        let stale: Vec<String> = stale.map(|row| row.name.clone()).collect();
        for count in tx.identity_counts(&stale).await? {
            let reason = count.reason.map(|word| word.parse()).transpose()?;
            let key = (count.directory, count.status, reason);
            let count = u64::try_from(count.count).unwrap_or(0);
            snapshot.identities.insert(key, count);
        }
        let mut known: BTreeMap<String, DirectoryRow> = rows
            .into_iter()
            .map(|row| (row.name.clone(), row))
            .collect();
        let directories = self.engine.directories.iter().map(|directory| {
            let row = known.remove(&directory.name).unwrap_or_default();
            let is_fresh = fresh.contains(&directory.name);
            (directory.name.clone(), directory_health(&row, is_fresh))
        });
        snapshot.directories = directories.collect();
        Ok(())
    }

    /// The last sweep, and the last that went well.
    async fn last_runs(&self) -> Result<(Option<RunRow>, Option<RunRow>), store::Error> {
        let mut tx = self.engine.store.read().await?;
        Ok((tx.last_run(false).await?, tx.last_run(true).await?))
    }

    /// Between two sweeps lies one turn of the schedule.
    fn fresh_since(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let sweep = &self.engine.settings.sweep;
        let turn = sweep
            .next_after(now)
            .and_then(|next| Some(sweep.next_after(next)? - next));
        now - turn.unwrap_or(TimeDelta::days(366)) - GRACE
    }
}

fn since(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Duration {
    at.and_then(|at| (now - at).to_std().ok())
        .unwrap_or_default()
}

fn took(run: &RunRow) -> Option<Duration> {
    (run.ended_at? - run.started_at).to_std().ok()
}

fn mails(engine: &Engine) -> Mails {
    let mut mails = Mails::default();
    for (outcome, count) in engine.post.outcomes.counts() {
        match outcome {
            "sent" => mails.sent = count,
            "deferred" => mails.deferred = count,
            "refused" => mails.refused = count,
            "unknown" => mails.unknown = count,
            _ => mails.server_fault = count,
        }
    }
    mails
}
