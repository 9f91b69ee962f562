//! `/metrics`: the snapshot in the Prometheus text format.
//!
//! Alerting rules need series that exist before something happens, so every kind, state and outcome is
//! shown from the start, as 0.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use prometheus::{
    Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder,
};

use super::cache::Cache;
use super::health::Snapshot;
use crate::causes::Causes;
use crate::domain::{FindingKind, IdentityStatus, NoticeState, Reason, Status, Step};

/// `GET /metrics`.
pub(super) async fn metrics(State(cache): State<Arc<Cache>>) -> Response {
    let text = match cache.snapshot().await {
        Some(snapshot) => render(&snapshot).inspect_err(|error| {
            tracing::error!(error = %Causes(error), "cannot render metrics");
        }),
        None => return unavailable(),
    };
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(_) => unavailable(),
    }
}

fn unavailable() -> Response {
    let text = "cannot collect metrics; see the log\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// Text format version 0.0.4.
fn render(snapshot: &Snapshot) -> prometheus::Result<String> {
    let registry = Registry::new();
    add_tokens(&registry, snapshot)?;
    add_findings(&registry, snapshot)?;
    add_notices(&registry, snapshot)?;
    add_mails(&registry, snapshot)?;
    add_sweeps(&registry, snapshot)?;
    add_held(&registry, snapshot)?;
    add_sources(&registry, snapshot)?;
    add_directories(&registry, snapshot)?;
    add_identities(&registry, snapshot)?;
    add_build_info(&registry)?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

fn add_tokens(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = register_gauges(
        registry,
        "lapsed_tokens",
        "Tokens by status and source.",
        &["status", "source"],
    )?;
    let sources: BTreeSet<_> = snapshot.tokens.keys().map(|(_, source)| source).collect();
    for source in sources {
        for &status in Status::ALL {
            let count = snapshot.tokens.get(&(status, source.clone()));
            gauge
                .with_label_values(&[status.as_str(), source])
                .set(to_i64(count.copied()));
        }
    }
    Ok(())
}

fn add_findings(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = register_gauges(
        registry,
        "lapsed_findings_open",
        "Open findings by kind.",
        &["kind"],
    )?;
    for kind in FindingKind::ALL {
        let count = snapshot.findings_open.get(kind);
        gauge
            .with_label_values(&[kind.as_str()])
            .set(to_i64(count.copied()));
    }
    Ok(())
}

fn add_notices(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = register_gauges(
        registry,
        "lapsed_notices",
        "Notices by state and step; step is none for those that are not about an expiry.",
        &["state", "step"],
    )?;
    let mut steps: BTreeSet<Option<Step>> =
        snapshot.notices.keys().map(|(_, step)| *step).collect();
    steps.insert(None);
    for step in steps {
        let label = step.map_or_else(|| "none".to_owned(), |step| step.to_string());
        for &state in NoticeState::ALL {
            let count = snapshot.notices.get(&(state, step));
            gauge
                .with_label_values(&[state.as_str(), &label])
                .set(to_i64(count.copied()));
        }
    }
    register_seconds(
        registry,
        "lapsed_oldest_due_unsent_seconds",
        "How long the oldest due, unsent notice has waited; 0 if there is none.",
        snapshot.oldest_due_unsent.as_secs_f64(),
    )
}

fn add_mails(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let counter = IntCounterVec::new(
        Opts::new(
            "lapsed_mails_total",
            "Attempts to send a mail since the process started, by outcome.",
        ),
        &["outcome"],
    )?;
    registry.register(Box::new(counter.clone()))?;
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
    Ok(())
}

fn add_sweeps(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    register_seconds(
        registry,
        "lapsed_sweep_duration_seconds",
        "How long the last sweep of this process took; 0 before the first.",
        snapshot
            .last_sweep_duration
            .unwrap_or_default()
            .as_secs_f64(),
    )?;
    register_seconds(
        registry,
        "lapsed_last_sweep_timestamp_seconds",
        "When the last sweep ended, in Unix time; 0 before the first.",
        unix_time(snapshot.last_sweep_at),
    )?;
    register_seconds(
        registry,
        "lapsed_last_sweep_success_timestamp_seconds",
        "When the last successful sweep ended, in Unix time; 0 before the first.",
        unix_time(snapshot.last_success_at),
    )
}

fn add_held(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    for (name, help, count) in [
        (
            "lapsed_plans_held",
            "Plans above max_per_sweep that wait for `lapsed release`.",
            snapshot.plans_held,
        ),
        (
            "lapsed_directories_held",
            "Directories with a mass change that waits for `lapsed directory release`.",
            snapshot.directories_held,
        ),
    ] {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(to_i64(Some(count)));
        registry.register(Box::new(gauge))?;
    }
    Ok(())
}

fn add_sources(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let failing = register_gauges(
        registry,
        "lapsed_source_failing",
        "1 if the last sync of the source failed, else 0.",
        &["source"],
    )?;
    let tokens = register_gauges(
        registry,
        "lapsed_source_tokens",
        "Tokens in the last good listing of the source.",
        &["source"],
    )?;
    let last_sync = register_source_timestamps(
        registry,
        "lapsed_source_last_sync_timestamp_seconds",
        "When the last sync of the source began, in Unix time; 0 before the first.",
    )?;
    let last_good_sync = register_source_timestamps(
        registry,
        "lapsed_source_last_good_sync_timestamp_seconds",
        "When the last good sync of the source began, in Unix time; 0 before the first.",
    )?;
    for (name, source) in &snapshot.sources {
        let label = &[name.as_str()];
        failing
            .with_label_values(label)
            .set(i64::from(source.is_failing));
        tokens
            .with_label_values(label)
            .set(to_i64(Some(source.tokens)));
        last_sync
            .with_label_values(label)
            .set(unix_time(source.last_sync_at));
        last_good_sync
            .with_label_values(label)
            .set(unix_time(source.last_good_sync_at));
    }
    Ok(())
}

fn add_directories(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = |name, help| register_gauges(registry, name, help, &["directory"]);
    let failures = gauge(
        "lapsed_directory_failures",
        "Consecutive failed syncs of the directory.",
    )?;
    let held = gauge(
        "lapsed_directory_held",
        "1 if a mass change of the directory waits for `lapsed directory release`, else 0.",
    )?;
    let fresh = gauge(
        "lapsed_directory_fresh",
        "1 if the last good sync of the directory is recent enough, else 0.",
    )?;
    let people = gauge(
        "lapsed_directory_people",
        "People in the last complete listing; 0 for a directory that is only asked about single people.",
    )?;
    let last_good_sync = GaugeVec::new(
        Opts::new(
            "lapsed_directory_last_good_sync_timestamp_seconds",
            "When the last good sync of the directory began, in Unix time; 0 before the first.",
        ),
        &["directory"],
    )?;
    registry.register(Box::new(last_good_sync.clone()))?;
    for (name, directory) in &snapshot.directories {
        let label = &[name.as_str()];
        let set = |gauge: &IntGaugeVec, value| gauge.with_label_values(label).set(value);
        set(&failures, to_i64(Some(directory.failures)));
        set(&held, i64::from(directory.is_held));
        set(&fresh, i64::from(directory.is_fresh));
        set(&people, to_i64(Some(directory.people)));
        last_good_sync
            .with_label_values(label)
            .set(unix_time(directory.last_good_sync_at));
    }
    Ok(())
}

fn add_identities(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = register_gauges(
        registry,
        "lapsed_identities",
        "People by directory, status and, if that is unknown, reason.",
        &["directory", "status", "reason"],
    )?;
    for name in snapshot.directories.keys() {
        for status in IdentityStatus::ALL {
            if *status != IdentityStatus::Unknown {
                gauge.with_label_values(&[name, status.as_str(), "none"]);
            }
        }
    }
    for ((directory, status, reason), count) in &snapshot.identities {
        let reason = reason.map_or("none", Reason::as_str);
        gauge
            .with_label_values(&[directory, status.as_str(), reason])
            .set(to_i64(Some(*count)));
    }
    Ok(())
}

fn add_build_info(registry: &Registry) -> prometheus::Result<()> {
    let info = GaugeVec::new(
        Opts::new("lapsed_build_info", "1, with the version as a label."),
        &["version"],
    )?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1.0);
    registry.register(Box::new(info))
}

fn register_gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn register_source_timestamps(
    registry: &Registry,
    name: &str,
    help: &str,
) -> prometheus::Result<GaugeVec> {
    let gauges = GaugeVec::new(Opts::new(name, help), &["source"])?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn register_seconds(
    registry: &Registry,
    name: &str,
    help: &str,
    value: f64,
) -> prometheus::Result<()> {
    let gauge = Gauge::new(name, help)?;
    gauge.set(value);
    registry.register(Box::new(gauge))
}

fn to_i64(count: Option<u64>) -> i64 {
    i64::try_from(count.unwrap_or_default()).unwrap_or(i64::MAX)
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
