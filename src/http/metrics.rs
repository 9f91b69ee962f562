//! `/metrics`: the snapshot in Prometheus' text format.
//!
//! Rules for alerts need series that are there before something happens, so every kind, state and
//! outcome is shown from the start, as 0.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use prometheus::{
    Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TEXT_FORMAT, TextEncoder,
};

use super::{cache::Cache, health::Snapshot};
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
    let text = "the numbers cannot be had; the log says why\n";
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

/// The snapshot in Prometheus' text format, version 0.0.4.
fn render(snapshot: &Snapshot) -> prometheus::Result<String> {
    let registry = Registry::new();
    tokens(&registry, snapshot)?;
    findings(&registry, snapshot)?;
    notices(&registry, snapshot)?;
    mails(&registry, snapshot)?;
    sweeps(&registry, snapshot)?;
    held(&registry, snapshot)?;
    sources(&registry, snapshot)?;
    directories(&registry, snapshot)?;
    identities(&registry, snapshot)?;
    build_info(&registry)?;
    TextEncoder::new().encode_to_string(&registry.gather())
}

fn tokens(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = gauges(
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
                .set(whole(count.copied()));
        }
    }
    Ok(())
}

fn findings(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = gauges(
        registry,
        "lapsed_findings_open",
        "Open findings by kind.",
        &["kind"],
    )?;
    for kind in FindingKind::ALL {
        let count = snapshot.findings_open.get(kind);
        gauge
            .with_label_values(&[kind.as_str()])
            .set(whole(count.copied()));
    }
    Ok(())
}

fn notices(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = gauges(
        registry,
        "lapsed_notices",
        "Notices by state and step; those that are not about an expiry have the step none.",
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
                .set(whole(count.copied()));
        }
    }
    seconds(
        registry,
        "lapsed_oldest_due_unsent_seconds",
        "How long the oldest due notice that is still unsent has waited; 0 when there is none.",
        snapshot.oldest_due_unsent.as_secs_f64(),
    )
}

fn mails(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
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

fn sweeps(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    seconds(
        registry,
        "lapsed_sweep_duration_seconds",
        "How long the last sweep of this process took; 0 before the first.",
        snapshot.last_sweep_took.unwrap_or_default().as_secs_f64(),
    )?;
    seconds(
        registry,
        "lapsed_last_sweep_timestamp_seconds",
        "When the last sweep ended, in Unix time; 0 before the first.",
        unix_time(snapshot.last_sweep_at),
    )?;
    seconds(
        registry,
        "lapsed_last_sweep_success_timestamp_seconds",
        "When the last sweep that succeeded ended, in Unix time; 0 before the first.",
        unix_time(snapshot.last_success_at),
    )
}

fn held(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    for (name, help, count) in [
        (
            "lapsed_plans_held",
            "Plans above max_per_sweep that wait for lapsed release.",
            snapshot.plans_held,
        ),
        (
            "lapsed_directories_held",
            "Directories with a mass change that wait for lapsed directory release.",
            snapshot.directories_held,
        ),
    ] {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(whole(Some(count)));
        registry.register(Box::new(gauge))?;
    }
    Ok(())
}

fn sources(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let failing = gauges(
        registry,
        "lapsed_source_failing",
        "1 where the last sync of the source failed, else 0.",
        &["source"],
    )?;
    let listed = gauges(
        registry,
        "lapsed_source_tokens",
        "Tokens that the last good listing of the source held.",
        &["source"],
    )?;
    let last = instants(
        registry,
        "lapsed_source_last_sync_timestamp_seconds",
        "When the source was last asked, in Unix time; 0 before the first time.",
    )?;
    let good = instants(
        registry,
        "lapsed_source_last_good_sync_timestamp_seconds",
        "When the source was last listed well, in Unix time; 0 before the first time.",
    )?;
    for (name, source) in &snapshot.sources {
        let label = &[name.as_str()];
        failing
            .with_label_values(label)
            .set(i64::from(source.is_failing));
        listed
            .with_label_values(label)
            .set(whole(Some(source.tokens)));
        last.with_label_values(label)
            .set(unix_time(source.last_sync_at));
        good.with_label_values(label)
            .set(unix_time(source.last_good_sync_at));
    }
    Ok(())
}

fn directories(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = |name, help| gauges(registry, name, help, &["directory"]);
    let failures = gauge(
        "lapsed_directory_failures",
        "Readings of the directory that failed in a row.",
    )?;
    let held = gauge(
        "lapsed_directory_held",
        "1 where a mass change of the directory waits for lapsed directory release, else 0.",
    )?;
    let fresh = gauge(
        "lapsed_directory_fresh",
        "1 where the word of the directory holds, 0 where it was not read well for too long.",
    )?;
    let people = gauge(
        "lapsed_directory_people",
        "People of whom the last reading told; 0 where it tells only of those asked for.",
    )?;
    let good = GaugeVec::new(
        Opts::new(
            "lapsed_directory_last_good_sync_timestamp_seconds",
            "When the directory was last read well, in Unix time; 0 before the first time.",
        ),
        &["directory"],
    )?;
    registry.register(Box::new(good.clone()))?;
    for (name, directory) in &snapshot.directories {
        let label = &[name.as_str()];
        let set = |gauge: &IntGaugeVec, value| gauge.with_label_values(label).set(value);
        set(&failures, whole(Some(directory.failures)));
        set(&held, i64::from(directory.is_held));
        set(&fresh, i64::from(directory.is_fresh));
        set(&people, whole(Some(directory.people)));
        good.with_label_values(label)
            .set(unix_time(directory.last_good_sync_at));
    }
    Ok(())
}

fn identities(registry: &Registry, snapshot: &Snapshot) -> prometheus::Result<()> {
    let gauge = gauges(
        registry,
        "lapsed_identities",
        "People by directory, status and, where that is unknown, reason.",
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
            .set(whole(Some(*count)));
    }
    Ok(())
}

fn build_info(registry: &Registry) -> prometheus::Result<()> {
    let info = GaugeVec::new(
        Opts::new("lapsed_build_info", "1, with the version as a label."),
        &["version"],
    )?;
    info.with_label_values(&[env!("CARGO_PKG_VERSION")])
        .set(1.0);
    registry.register(Box::new(info))
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntGaugeVec> {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn instants(registry: &Registry, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
    let gauges = GaugeVec::new(Opts::new(name, help), &["source"])?;
    registry.register(Box::new(gauges.clone()))?;
    Ok(gauges)
}

fn seconds(registry: &Registry, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
    let gauge = Gauge::new(name, help)?;
    gauge.set(value);
    registry.register(Box::new(gauge))
}

fn whole(count: Option<u64>) -> i64 {
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
