//! `lapsed run`: the daemon.

mod health;
mod sweeps;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use super::Context;
use super::exit::{Exit, Failure, Result};
use super::setup::{self, Mode};
use crate::config::Config;
use crate::engine::{Engine, Mailer};
use crate::http;
use crate::lifecycle::{self, Heartbeat, Lifecycle, ServiceManager, Signals, Ticker};
use crate::telemetry::Telemetry;

use self::health::Health;
use self::sweeps::{Deliveries, Sweeps};

/// Without progress for this long, the daemon hangs. No page of rows and no mail takes that long, and
/// a listing is abandoned after ten minutes.
const WATCHDOG_TIMEOUT: Duration = Duration::from_mins(15);

pub(super) async fn run(context: &Context) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let log = Arc::new(setup::start_log(context, &config)?);
    // From here on, signals are kept until a task handles them.
    let signals = Signals::listen().map_err(Failure::failed)?;
    let manager = ServiceManager::from_env().map_err(Failure::config)?;
    let mailer = setup::build_mailer(&config)?;
    setup::with_store(&config, Mode::Write, async |store| {
        let listener = bind_listener(&config).await?;
        let engine = setup::build_engine(context, &config, store.clone(), Arc::clone(&mailer))?;
        let reload = || reload(context.clone(), Arc::clone(&mailer), Arc::clone(&log));
        let stop_timeout = config.stop_timeout;
        let lifecycle = Lifecycle::new(manager.clone(), stop_timeout);
        start_tasks(&lifecycle, engine, listener, manager);
        watch(lifecycle, signals, reload).await
    })
    .await?;
    tracing::info!("stopped");
    Ok(Exit::Ok)
}

fn start_tasks(
    lifecycle: &Lifecycle,
    mut engine: Engine,
    listener: Option<TcpListener>,
    manager: ServiceManager,
) {
    let heartbeat = Heartbeat::new(WATCHDOG_TIMEOUT);
    let beat = heartbeat.clone();
    engine.on_progress = Box::new(move || beat.beat());
    let engine = Arc::new(engine);

    let (tick_in, ticks) = mpsc::channel(1);
    let due = Arc::new(Notify::new());
    let stopping = lifecycle.stopping();
    let tasks = lifecycle.tasks();
    tasks.spawn("ticker", Ticker::run(tick_in, stopping.clone()));
    let sweeps = Sweeps {
        engine: Arc::clone(&engine),
        due: Arc::clone(&due),
        heartbeat: heartbeat.clone(),
        manager,
    };
    tasks.spawn("sweeps", sweeps.run(ticks, stopping.clone()));
    let deliveries = Deliveries {
        engine: Arc::clone(&engine),
        due,
    };
    tasks.spawn("deliveries", deliveries.run(stopping.clone()));
    if let Some(listener) = listener {
        let health = Arc::new(Health {
            engine: Arc::clone(&engine),
        });
        tasks.spawn("http", http::serve(listener, health, stopping));
    }
    lifecycle.spawn_watchdog(heartbeat);
    lifecycle.notify_ready("watching");
    tracing::info!("lapsed {} is watching", env!("CARGO_PKG_VERSION"));
}

/// Waits until all tasks have ended.
async fn watch<R: Future<Output = Result<(), lifecycle::Fault>>>(
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

/// Reloads the templates and the log level; other settings need a restart.
async fn reload(
    context: Context,
    mailer: Arc<Mailer>,
    log: Arc<Telemetry>,
) -> Result<(), lifecycle::Fault> {
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let config = setup::load_config(&context)?;
        mailer.replace_templates(setup::load_templates(&config)?);
        log.set_level(setup::log_level(&context, &config))?;
        Ok(())
    });
    match work.await? {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
