//! `lapsed run`: the daemon. Two tasks do its work: one sweeps on schedule, one delivers whenever a mail
//! may be due, so that a long delivery does not delay the next sweep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure, Result};
use super::health::Health;
use super::monitoring::show_sweep;
use super::presence::Presence;
use super::setup::{self, Mode};
use super::web::{WebServer, reload_certificate};
use super::{Context, report};
use crate::config::{Config, Monitoring};
use crate::engine::{Engine, Mailer, Report, SweepOptions};
use crate::lifecycle::{self, Fault, Heartbeat, Lifecycle, ServiceManager, Signals, Ticker};
use crate::telemetry::Telemetry;
use crate::tls::ServerCertificate;
use crate::web::AppState;
use crate::{http, store};

/// Without progress for this long, the daemon hangs. No page of rows and no mail takes that long, and
/// a listing is abandoned after ten minutes.
const WATCHDOG_TIMEOUT: Duration = Duration::from_mins(15);
/// After a pass that ended because the store was unreachable, before the next.
const STORE_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let log = Arc::new(setup::start_log(context, &config)?);
    // From here on, signals are kept until a task handles them.
    let signals = Signals::listen().map_err(Failure::failed)?;
    let manager = ServiceManager::from_env().map_err(Failure::config)?;
    let mailer = setup::build_mailer(&config)?;
    setup::with_store(&config, Mode::Normal, async |store| {
        let listener = bind_listener(&config).await?;
        let engine = setup::build_engine(context, &config, store.clone(), Arc::clone(&mailer))?;
        let service = setup::build_service(context, &config, store.clone());
        let server = match &service {
            Some(service) => WebServer::bind(&config, Arc::clone(service), &mailer).await?,
            None => None,
        };
        let web = server.as_ref().map(WebServer::web);
        let certificate = server.as_ref().and_then(WebServer::certificate);
        let reloaded = Reloaded {
            context: context.clone(),
            mailer: Arc::clone(&mailer),
            log: Arc::clone(&log),
            certificate,
        };
        let reload = || reload(reloaded.clone());
        let stop_timeout = config.stop_timeout;
        let lifecycle = Lifecycle::new(manager.clone(), stop_timeout);
        let presence = Presence::new(&engine, config.fingerprint.clone());
        let tasks = lifecycle.tasks();
        tasks.spawn("presence", presence.run(lifecycle.stopping()));
        if let Some(service) = &service {
            let mark = setup::find_mark(service.store());
            let work = service.start(mark, lifecycle.stopping()).await;
            tasks.spawn("service", work.map_err(Failure::failed)?);
        }
        if let Some(server) = server {
            tasks.spawn("web", server.run(lifecycle.stopping()));
        }
        let monitoring = config.monitoring.clone();
        start_tasks(&lifecycle, engine, listener, web, manager, monitoring);
        let watched = watch(lifecycle, signals, reload).await;
        if let Some(service) = service {
            // Requests in progress were completed after the task of the service had ended.
            service.flush().await.map_err(Failure::failed)?;
        }
        watched
    })
    .await?;
    tracing::info!("stopped");
    Ok(Exit::Ok)
}

fn start_tasks(
    lifecycle: &Lifecycle,
    mut engine: Engine,
    listener: Option<TcpListener>,
    web: Option<AppState>,
    manager: ServiceManager,
    monitoring: Monitoring,
) {
    let sweeping = Heartbeat::new("the sweep", WATCHDOG_TIMEOUT);
    let delivering = Heartbeat::new("the delivery", WATCHDOG_TIMEOUT);
    let heartbeats = vec![sweeping.clone(), delivering.clone()];
    let beat = sweeping.clone();
    engine.on_progress = Box::new(move || beat.beat());
    let beat = delivering.clone();
    engine.on_delivery = Box::new(move || beat.beat());
    engine.is_patient = true;
    let engine = Arc::new(engine);

    let (tick_in, ticks) = mpsc::channel(1);
    let due = Arc::new(Notify::new());
    let delivers = Arc::new(AtomicBool::new(true));
    let stopping = lifecycle.stopping();
    let tasks = lifecycle.tasks();
    tasks.spawn("ticker", Ticker::run(tick_in, stopping.clone()));
    let sweeps = Sweeps {
        engine: Arc::clone(&engine),
        due: Arc::clone(&due),
        heartbeat: sweeping,
        manager,
        monitoring,
        delivers: Arc::clone(&delivers),
    };
    tasks.spawn("sweeps", sweeps.run(ticks, stopping.clone()));
    let deliveries = Deliveries {
        engine: Arc::clone(&engine),
        due,
        heartbeat: delivering,
        delivers,
    };
    tasks.spawn("deliveries", deliveries.run(stopping.clone()));
    if let Some(listener) = listener {
        let health = Arc::new(Health {
            engine: Arc::clone(&engine),
            heartbeats: heartbeats.clone(),
            started_at: engine.now(),
            web,
        });
        tasks.spawn("http", http::serve(listener, health, stopping));
    }
    lifecycle.spawn_watchdog(heartbeats);
    lifecycle.notify_ready("watching");
    tracing::info!("lapsed {} is watching", env!("CARGO_PKG_VERSION"));
}

async fn watch<R: Future<Output = Result<(), Fault>>>(
    lifecycle: Lifecycle,
    signals: Signals,
    reload: impl Fn() -> R,
) -> Result<()> {
    let ended = lifecycle.run(signals, reload).await;
    if let Err(error @ (lifecycle::Error::Overdue { .. } | lifecycle::Error::Forced { .. })) = ended
    {
        let exit = super::exit::print_error(&Failure::failed(error).into(), anstream::stderr());
        // Tasks are still running and would delay an orderly exit.
        std::process::exit(i32::from(exit as u8));
    }
    Ok(ended.map_err(Failure::failed)?)
}

/// Binds the address of the health pages, before the daemon reports that it is ready.
async fn bind_listener(config: &Config) -> Result<Option<TcpListener>> {
    let Some(address) = config.http.listen else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("cannot listen on {address}"));
            Err(Failure::failed(error)
                .hint("set another address in [http] listen, or \"off\"")
                .into())
        }
    }
}

/// What a SIGHUP renews.
#[derive(Clone)]
struct Reloaded {
    context: Context,
    mailer: Arc<Mailer>,
    log: Arc<Telemetry>,
    certificate: Option<Arc<ServerCertificate>>,
}

/// Reloads the templates, the log level and the certificate; other settings need a restart.
async fn reload(reloaded: Reloaded) -> Result<(), Fault> {
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let Reloaded {
            context,
            mailer,
            log,
            certificate,
        } = reloaded;
        let config = setup::load_config(&context)?;
        mailer.replace_templates(setup::load_templates(&config)?);
        if !log.set_level(setup::log_level(&context, &config))? {
            tracing::warn!(
                "the log level is not reloaded: directives in RUST_LOG or [log] level set it at the start"
            );
        }
        certificate.map_or(Ok(()), |it| reload_certificate(&config, &it))
    });
    match work.await? {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

struct Sweeps {
    engine: Arc<Engine>,
    /// Notified whenever a mail may be due.
    due: Arc<Notify>,
    heartbeat: Heartbeat,
    manager: ServiceManager,
    monitoring: Monitoring,
    /// Whether the last delivery was good.
    delivers: Arc<AtomicBool>,
}

impl Sweeps {
    /// Sweeps at each tick of the schedule, and at once if a sweep was missed.
    async fn run(
        self,
        mut ticks: mpsc::Receiver<()>,
        stopping: CancellationToken,
    ) -> Result<(), Fault> {
        let mut last = self.last_sweep().await.unwrap_or(DateTime::UNIX_EPOCH);
        let (mut was_down, mut is_silent) = (false, false);
        loop {
            self.heartbeat.wake(!is_silent);
            self.engine.store.check_file()?;
            self.engine.store.check_usable().await?;
            let now = self.engine.now();
            // If the clock was set back, do not wait until it has caught up.
            last = last.min(now);
            if self.engine.settings.sweep.missed_since(last, now) {
                let report = self.sweep(was_down, &stopping).await;
                was_down = report.store_down;
                is_silent = report.store_silent;
                // One that the store interrupted is made up for at the next tick.
                if !was_down {
                    last = now;
                }
            }
            // Deferred mails come due between sweeps.
            self.due.notify_one();
            self.heartbeat.rest();
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

    /// `was_down` says that the store was unreachable in the sweep before.
    async fn sweep(&self, was_down: bool, stopping: &CancellationToken) -> Report {
        let options = SweepOptions {
            by_schedule: true,
            ..SweepOptions::default()
        };
        let report = self.engine.prepare(&options, stopping).await;
        log_report("sweep", &report, was_down);
        if !stopping.is_cancelled() {
            self.show(&report).await;
        }
        let at = self.engine.now().format("%H:%M:%S UTC");
        let state = if report.errors.is_empty() && report.problems.is_empty() {
            "ok"
        } else {
            "with errors, see the log"
        };
        self.manager
            .notify_status(&format!("last sweep at {at}: {state}"));
        report
    }

    async fn show(&self, report: &Report) {
        let is_good =
            report::exit_code(report) == Exit::Ok && self.delivers.load(Ordering::Relaxed);
        for warning in show_sweep(&self.monitoring, &self.engine, is_good).await {
            tracing::warn!("{warning}");
        }
    }
}

/// Delivers whenever a mail may be due.
struct Deliveries {
    engine: Arc<Engine>,
    due: Arc<Notify>,
    heartbeat: Heartbeat,
    delivers: Arc<AtomicBool>,
}

impl Deliveries {
    /// Delivers until asked to stop, and finishes the mails in flight.
    async fn run(self, stopping: CancellationToken) -> Result<(), Fault> {
        let relay_pause = self.engine.settings.delivery.backoff.min.to_std();
        let relay_pause = relay_pause.unwrap_or(STORE_PAUSE);
        let (mut pause, mut was_down, mut is_silent) = (relay_pause, false, false);
        loop {
            self.heartbeat.rest();
            tokio::select! {
                () = self.due.notified() => {}
                () = self.wait_for_next_attempt(pause) => {}
                () = stopping.cancelled() => return Ok(()),
            }
            self.heartbeat.wake(!is_silent);
            let report = self.engine.send_due(&stopping).await;
            log_report("delivery", &report, was_down);
            pause = if report.store_down {
                STORE_PAUSE
            } else {
                // Mails that a broken relay left untouched are due at once.
                relay_pause
            };
            was_down = report.store_down;
            is_silent = report.store_silent;
            let delivers = report::exit_code(&report) == Exit::Ok;
            self.delivers.store(delivers, Ordering::Relaxed);
            self.engine.store.check_file()?;
            self.engine.store.check_usable().await?;
        }
    }

    /// Waits until a deferred mail is due again, and at least `pause`; or until a store that is away can be reached.
    async fn wait_for_next_attempt(&self, pause: Duration) {
        if self.engine.store.is_away() {
            self.engine.store.wait_while_away().await;
            return tokio::time::sleep(STORE_PAUSE).await;
        }
        let wait = match self.engine.next_mail_at().await {
            Ok(Some(next_at)) => {
                let until_due = (next_at - self.engine.now()).to_std();
                pause.max(until_due.unwrap_or_default())
            }
            Ok(None) => return std::future::pending().await,
            // The store is unreachable; the next pass reports it.
            Err(_) => pause,
        };
        tokio::time::sleep(wait).await;
    }
}

/// Logs each problem, then one line with the counts. A pass with nothing due is logged at debug level, and so is one that
/// found the store unreachable if that is known already.
fn log_report(what: &'static str, report: &Report, was_down: bool) {
    for error in &report.errors {
        tracing::error!("{what}: {error}");
    }
    for problem in &report.problems {
        tracing::warn!("{what}: {problem}");
    }
    let is_known = was_down || report.store_lost;
    for wait in &report.waits {
        if is_known {
            tracing::debug!("{what}: {wait}");
        } else {
            tracing::warn!("{what}: {wait}");
        }
    }
    let summary = report::summary_lines(report);
    let counts: Vec<String> = summary
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let counts = counts.join("; ");
    let elapsed_ms = report.elapsed_ms;
    let is_standby = report.lease_held && !report.relay_down && !report.store_down;
    let is_still_down = report.store_down && is_known;
    if report.is_quiet() || ((is_standby || is_still_down) && !report.is_failure()) {
        tracing::debug!(elapsed_ms, "{what}: {counts}");
    } else if !counts.is_empty() && (report.is_failure() || report.is_deferral()) {
        tracing::warn!(elapsed_ms, "{what}: {counts}");
    } else if !counts.is_empty() {
        tracing::info!(elapsed_ms, "{what}: {counts}");
    }
}
