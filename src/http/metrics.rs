//! `/metrics`: what the daemon counts, in the Prometheus text format.
//!
//! Alerting rules need series that exist before something happens, so every kind, state and outcome is
//! shown from the start, as 0.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use prometheus::{
    GaugeVec, IntCounter, IntCounterVec, Opts, Registry, Result, TEXT_FORMAT, TextEncoder,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::health::{DirectoryHealth, Health, ServiceHealth, Snapshot, SourceHealth};
use crate::causes::Causes;
use crate::domain::{FindingKind, IdentityStatus, NoticeState, Reason, Status};

/// A snapshot serves all scrapers for this long.
pub(super) const MAX_AGE: Duration = Duration::from_secs(30);

pub(super) async fn metrics(State(cache): State<Arc<Cache>>) -> Response {
    let text = cache.snapshot().await.and_then(|snapshot| {
        render(&snapshot)
            .inspect_err(|error| tracing::error!(error = %Causes(error), "cannot render metrics"))
            .ok()
    });
    if let Some(text) = text {
        ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response()
    } else {
        let text = "cannot collect metrics; see the log\n";
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

/// A snapshot and when it was complete; `None` if counting failed, which has been logged.
type CachedSnapshot = (Option<Arc<Snapshot>>, Instant);

/// The last snapshot, shared by all scrapers.
pub(super) struct Cache {
    health: Arc<dyn Health>,
    max_age: Duration,
    /// The count in progress (its value is `None`) or completed.
    latest: Mutex<Option<watch::Receiver<Option<CachedSnapshot>>>>,
}

impl Cache {
    pub(super) fn new(health: Arc<dyn Health>, max_age: Duration) -> Self {
        Self {
            health,
            max_age,
            latest: Mutex::default(),
        }
    }

    /// The snapshot in progress or recent enough, else a new one. A failure is cached as long as a success,
    /// so that a store in trouble does not count all tokens at every scrape.
    pub(super) async fn snapshot(&self) -> Option<Arc<Snapshot>> {
        let mut count = {
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            match latest.as_ref() {
                Some(count) if self.is_usable(count) => count.clone(),
                _ => latest.insert(self.start_count()).clone(),
            }
        };
        // The only error is that the count panicked, which the panic hook has logged.
        let counted = count.wait_for(Option::is_some).await.ok()?;
        counted.as_ref().and_then(|(snapshot, _)| snapshot.clone())
    }

    fn is_usable(&self, count: &watch::Receiver<Option<CachedSnapshot>>) -> bool {
        match count.borrow().as_ref() {
            Some((_, done_at)) => done_at.elapsed() < self.max_age,
            // In progress, unless it has panicked and dropped its end.
            None => count.has_changed().is_ok(),
        }
    }

    /// Counts in a separate task: if a scrape that gives up cancelled the work, a count longer than the
    /// scraper's time-out would never complete.
    fn start_count(&self) -> watch::Receiver<Option<CachedSnapshot>> {
        let (result, count) = watch::channel(None);
        let health = Arc::clone(&self.health);
        tokio::spawn(async move {
            let snapshot = match health.snapshot().await {
                Ok(snapshot) => Some(Arc::new(snapshot)),
                Err(fault) => {
                    tracing::warn!(error = %Causes(fault.as_ref()), "cannot count for metrics");
                    None
                }
            };
            result.send_replace(Some((snapshot, Instant::now())));
        });
        count
    }
}

/// The page as text.
pub fn render(snapshot: &Snapshot) -> Result<String> {
    let page = Page(Registry::new());
    page.add_tokens(snapshot)?;
    page.add_notices(snapshot)?;
    page.add_mails(snapshot)?;
    page.add_sweeps(snapshot)?;
    page.add_replicas(snapshot)?;
    page.add_sources(snapshot)?;
    page.add_directories(snapshot)?;
    page.add_identities(snapshot)?;
    if let Some(service) = &snapshot.service {
        page.add_service(service)?;
    }
    let version = ([env!("CARGO_PKG_VERSION")], 1.0);
    let help = "1, with the version as a label.";
    page.gauges("lapsed_build_info", help, ["version"], [version])?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}

struct Page(Registry);

impl Page {
    fn gauge(&self, name: &str, help: &str, value: f64) -> Result<()> {
        self.gauges(name, help, [], [([], value)])
    }

    /// Adds a metric with one series for each combination of label values. If one occurs twice, the last
    /// value is used.
    fn gauges<'a, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) -> Result<()> {
        let gauges = GaugeVec::new(Opts::new(name, help), &labels)?;
        for (values, value) in series {
            gauges.with_label_values(&values).set(value);
        }
        self.0.register(Box::new(gauges))
    }

    fn add_tokens(&self, snapshot: &Snapshot) -> Result<()> {
        let sources: BTreeSet<_> = snapshot.tokens.keys().map(|(_, source)| source).collect();
        let tokens = sources.into_iter().flat_map(|source| {
            Status::ALL.iter().map(move |&status| {
                let count = count_of(&snapshot.tokens, &(status, source.clone()));
                ([status.as_str(), source.as_str()], count)
            })
        });
        let help = "Tokens by status and source.";
        self.gauges("lapsed_tokens", help, ["status", "source"], tokens)?;
        let findings = FindingKind::ALL
            .iter()
            .map(|kind| ([kind.as_str()], count_of(&snapshot.findings_open, kind)));
        let help = "Open findings by kind.";
        self.gauges("lapsed_findings_open", help, ["kind"], findings)
    }

    fn add_notices(&self, snapshot: &Snapshot) -> Result<()> {
        let mut steps = BTreeMap::from([(None, "none".to_owned())]);
        for (_, step) in snapshot.notices.keys() {
            steps.extend(step.map(|step| (Some(step), step.to_string())));
        }
        let notices = steps.iter().flat_map(|(step, label)| {
            NoticeState::ALL.iter().map(move |&state| {
                let count = count_of(&snapshot.notices, &(state, *step));
                ([state.as_str(), label.as_str()], count)
            })
        });
        self.gauges(
            "lapsed_notices",
            "Notices by state and step. The step is none unless the notice is about an expiry.",
            ["state", "step"],
            notices,
        )?;
        self.gauge(
            "lapsed_oldest_due_unsent_seconds",
            "How long the oldest due, unsent notice has waited; 0 if no notice waits.",
            snapshot.oldest_due_unsent.as_secs_f64(),
        )
    }

    fn add_mails(&self, snapshot: &Snapshot) -> Result<()> {
        let help = "Attempts to send a mail since the process started, by outcome.";
        let counter = IntCounterVec::new(Opts::new("lapsed_mails_total", help), &["outcome"])?;
        let mails = snapshot.mails;
        for (outcome, count) in [
            ("sent", mails.sent),
            ("deferred", mails.deferred),
            ("refused", mails.refused),
            ("unknown", mails.unknown),
            ("server_fault", mails.server_fault),
        ] {
            counter.with_label_values(&[outcome]).inc_by(count);
        }
        self.0.register(Box::new(counter))
    }

    fn add_sweeps(&self, snapshot: &Snapshot) -> Result<()> {
        self.gauge(
            "lapsed_sweep_duration_seconds",
            "How long the last sweep of this process took; 0 before the first.",
            snapshot
                .last_sweep_duration
                .unwrap_or_default()
                .as_secs_f64(),
        )?;
        self.gauge(
            "lapsed_last_sweep_timestamp_seconds",
            "When the last sweep ended, in Unix time; 0 before the first.",
            unix_time(snapshot.last_sweep_at),
        )?;
        self.gauge(
            "lapsed_last_sweep_success_timestamp_seconds",
            "When the last successful sweep ended, in Unix time; 0 before the first.",
            unix_time(snapshot.last_success_at),
        )?;
        self.gauge(
            "lapsed_plans_held",
            "Plans above max_per_sweep that wait for `lapsed release`.",
            to_f64(snapshot.plans_held),
        )?;
        self.gauge(
            "lapsed_directories_held",
            "Directories with a mass change that waits for `lapsed directory release`.",
            to_f64(snapshot.directories_held),
        )
    }

    fn add_replicas(&self, snapshot: &Snapshot) -> Result<()> {
        let own = [env!("CARGO_PKG_VERSION")];
        let replicas = snapshot.replicas.iter();
        let replicas = replicas.map(|(version, count)| ([version.as_str()], to_f64(*count)));
        self.gauges(
            "lapsed_replicas",
            "Live replicas by version.",
            ["version"],
            std::iter::once((own, 0.0)).chain(replicas),
        )?;
        self.gauge(
            "lapsed_replica_configurations",
            "Different configurations of the live replicas.",
            to_f64(snapshot.replica_configurations),
        )?;
        self.gauge(
            "lapsed_replica_is_leader",
            "1 if this process sweeps or was the last to sweep, else 0.",
            f64::from(snapshot.is_leader),
        )?;
        let help = "How often another process took the sweep's lease.";
        let changes = IntCounter::new("lapsed_lease_holder_changes_total", help)?;
        changes.inc_by(snapshot.lease_holder_changes);
        self.0.register(Box::new(changes))
    }

    fn add_service(&self, service: &ServiceHealth) -> Result<()> {
        let help = "Verifications of tokens since the process started, by outcome.";
        let name = "lapsed_verifications_total";
        let counter = IntCounterVec::new(Opts::new(name, help), &["outcome"])?;
        for (outcome, count) in &service.verifications {
            counter.with_label_values(&[outcome]).inc_by(*count);
        }
        self.0.register(Box::new(counter))?;
        let help = "Verifications that were answered from memory.";
        let hits = IntCounter::new("lapsed_verification_cache_hits_total", help)?;
        hits.inc_by(service.cache_hits);
        self.0.register(Box::new(hits))?;
        let help =
            "Uses of tokens that found no room in memory, so that last uses may be out of date.";
        let lost = IntCounter::new("lapsed_lost_uses_total", help)?;
        lost.inc_by(service.lost_uses);
        self.0.register(Box::new(lost))?;
        if let Some(age) = service.feed_age {
            let help = "Seconds since this process last knew what others changed. Above 1, every verification reads the store.";
            self.gauge("lapsed_change_feed_age_seconds", help, age.as_secs_f64())?;
        }
        let help = "Requests to the API since the process started, by route and status.";
        let name = "lapsed_web_requests_total";
        let counter = IntCounterVec::new(Opts::new(name, help), &["route", "status"])?;
        for (route, by_status) in &service.requests {
            for (status, count) in by_status {
                let labels = [&**route, &status.to_string()];
                counter.with_label_values(&labels).inc_by(*count);
            }
        }
        self.0.register(Box::new(counter))
    }

    fn add_sources(&self, snapshot: &Snapshot) -> Result<()> {
        let add = |name, help, value: fn(&SourceHealth) -> f64| {
            let sources = snapshot.sources.iter();
            let series = sources.map(|(name, source)| ([name.as_str()], value(source)));
            self.gauges(name, help, ["source"], series)
        };
        add(
            "lapsed_source_failing",
            "1 if the last sync of the source failed, else 0.",
            |source| f64::from(source.is_failing),
        )?;
        add(
            "lapsed_source_tokens",
            "Tokens in the last good listing of the source.",
            |source| to_f64(source.tokens),
        )?;
        add(
            "lapsed_source_last_sync_timestamp_seconds",
            "When the last sync of the source began, in Unix time; 0 before the first.",
            |source| unix_time(source.last_sync_at),
        )?;
        add(
            "lapsed_source_last_good_sync_timestamp_seconds",
            "When the last good sync of the source began, in Unix time; 0 before the first.",
            |source| unix_time(source.last_good_sync_at),
        )
    }

    fn add_directories(&self, snapshot: &Snapshot) -> Result<()> {
        let add = |name, help, value: fn(&DirectoryHealth) -> f64| {
            let directories = snapshot.directories.iter();
            let series = directories.map(|(name, directory)| ([name.as_str()], value(directory)));
            self.gauges(name, help, ["directory"], series)
        };
        add(
            "lapsed_directory_failures",
            "Consecutive failed syncs of the directory.",
            |directory| to_f64(directory.failures),
        )?;
        add(
            "lapsed_directory_held",
            "1 if a mass change of the directory waits for `lapsed directory release`, else 0.",
            |directory| f64::from(directory.is_held),
        )?;
        add(
            "lapsed_directory_fresh",
            "1 if the last good sync of the directory is recent enough, else 0.",
            |directory| f64::from(directory.is_fresh),
        )?;
        add(
            "lapsed_directory_people",
            "People in the last complete listing; 0 for a directory that is only asked about single people.",
            |directory| to_f64(directory.people),
        )?;
        add(
            "lapsed_directory_last_good_sync_timestamp_seconds",
            "When the last good sync of the directory began, in Unix time; 0 before the first.",
            |directory| unix_time(directory.last_good_sync_at),
        )
    }

    fn add_identities(&self, snapshot: &Snapshot) -> Result<()> {
        let known = IdentityStatus::ALL
            .iter()
            .filter(|status| **status != IdentityStatus::Unknown);
        let zeros = snapshot.directories.keys().flat_map(|directory| {
            let series = known.clone();
            series.map(move |status| ([directory.as_str(), status.as_str(), "none"], 0.0))
        });
        let counts = snapshot
            .identities
            .iter()
            .map(|((directory, status, reason), count)| {
                let reason = reason.map_or("none", Reason::as_str);
                let labels = [directory.as_str(), status.as_str(), reason];
                (labels, to_f64(*count))
            });
        self.gauges(
            "lapsed_identities",
            "People by directory, status and, if that is unknown, reason.",
            ["directory", "status", "reason"],
            zeros.chain(counts),
        )
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a metric is a floating-point number"
)]
fn to_f64(count: u64) -> f64 {
    count as f64
}

fn count_of<K: Ord>(counts: &BTreeMap<K, u64>, key: &K) -> f64 {
    to_f64(counts.get(key).copied().unwrap_or_default())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 fit into 53 bits for 285,000 years"
)]
fn unix_time(at: Option<DateTime<Utc>>) -> f64 {
    at.map_or(0.0, |at| at.timestamp_millis() as f64 / 1000.0)
}

#[cfg(test)]
mod tests;
