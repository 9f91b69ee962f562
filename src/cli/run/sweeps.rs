//! The two loops of the daemon: sweeps on schedule, and deliveries whenever a mail may be due.
//!
//! They are separate so that a long delivery does not delay the next sweep. Each is one task.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, Report, SweepOptions};
use crate::lifecycle::{Fault, Heartbeat, ServiceManager};
use crate::store;

/// Runs the sweeps on schedule.
pub(super) struct Sweeps {
    pub engine: Arc<Engine>,
    /// Notified whenever a mail may be due.
    pub due: Arc<Notify>,
    pub heartbeat: Heartbeat,
    pub manager: ServiceManager,
}

impl Sweeps {
    /// Sweeps at each tick of the schedule, and at once if a sweep was missed.
    pub async fn run(
        self,
        mut ticks: mpsc::Receiver<()>,
        stopping: CancellationToken,
    ) -> Result<(), Fault> {
        let mut last = self.last_sweep().await.unwrap_or(DateTime::UNIX_EPOCH);
        loop {
            self.heartbeat.beat();
            let now = self.engine.now();
            // If the clock was set back, do not wait until it has caught up.
            last = last.min(now);
            if self.engine.settings.sweep.missed_since(last, now) {
                last = now;
                self.sweep(&stopping).await;
            }
            // Deferred mails come due between sweeps.
            self.due.notify_one();
            tokio::select! {
                tick = ticks.recv() => if tick.is_none() { return Ok(()) },
                () = stopping.cancelled() => return Ok(()),
            }
        }
    }

    async fn last_sweep(&self) -> Result<DateTime<Utc>, store::Error> {
        let mut tx = self.engine.store.begin_read().await?;
        let last = tx.find_last_run(false).await?;
        Ok(last.map_or(DateTime::UNIX_EPOCH, |run| run.started_at))
    }

    async fn sweep(&self, stopping: &CancellationToken) {
        let options = SweepOptions {
            by_schedule: true,
            ..SweepOptions::default()
        };
        let report = self.engine.prepare(&options, stopping).await;
        log_report("sweep", &report);
        let at = self.engine.now().format("%H:%M:%S UTC");
        let state = if report.errors.is_empty() && report.problems.is_empty() {
            "ok"
        } else {
            "with errors, see the log"
        };
        self.manager
            .notify_status(&format!("last sweep at {at}: {state}"));
    }
}

/// Delivers whenever a mail may be due.
pub(super) struct Deliveries {
    pub engine: Arc<Engine>,
    pub due: Arc<Notify>,
}

impl Deliveries {
    /// Delivers until asked to stop, and finishes the mails in flight.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), Fault> {
        loop {
            tokio::select! {
                () = self.due.notified() => {}
                () = self.wait_for_next_attempt() => {}
                () = stopping.cancelled() => return Ok(()),
            }
            let report = self.engine.send_due(&stopping).await;
            log_report("delivery", &report);
        }
    }

    /// Waits until a deferred mail is due again, and at least the shortest back-off, because mails
    /// that a broken relay left untouched are due at once.
    async fn wait_for_next_attempt(&self) {
        let pause = self.engine.settings.delivery.backoff.min;
        let wait = match self.engine.next_mail_at().await {
            Ok(Some(next_at)) => pause.max(next_at - self.engine.now()),
            Ok(None) => return std::future::pending().await,
            // The store is unreachable; the next pass reports it.
            Err(_) => pause,
        };
        tokio::time::sleep(wait.to_std().unwrap_or_default()).await;
    }
}

/// Logs each problem, then one line with the counts. A pass with nothing due is logged at debug level.
fn log_report(what: &'static str, report: &Report) {
    for error in &report.errors {
        tracing::error!("{what}: {error}");
    }
    for problem in report.problems.iter().chain(&report.waits) {
        tracing::warn!("{what}: {problem}");
    }
    let summary = super::super::report::summary_lines(report);
    let counts: Vec<String> = summary
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let counts = counts.join("; ");
    let elapsed_ms = report.elapsed_ms;
    if report.is_quiet() {
        tracing::debug!(elapsed_ms, "{what}: nothing was due");
    } else if !counts.is_empty() && (report.is_failure() || report.is_deferral()) {
        tracing::warn!(elapsed_ms, "{what}: {counts}");
    } else if !counts.is_empty() {
        tracing::info!(elapsed_ms, "{what}: {counts}");
    }
}
