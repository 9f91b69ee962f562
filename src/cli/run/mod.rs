//! `lapsed run`: the daemon.

mod health;
mod sweeps;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use super::exit::{Exit, Failure};
use super::{Context, setup};
use crate::config::Config;
use crate::engine::Post;
use crate::engine::ticker::Ticker;
use crate::http;
use crate::lifecycle::{self, Heartbeat, Lifecycle, ServiceManager, Signals};
use crate::telemetry::Telemetry;

use self::health::Health;
use self::sweeps::{Deliveries, Sweeps};

/// A daemon whose work has not moved for so long hangs: no page of rows and no mail takes that
/// long, and a listing from outside is given up after ten minutes.
const HUNG_AFTER: Duration = Duration::from_mins(15);

pub(super) async fn run(context: &Context) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let log = Arc::new(setup::log(context, &config)?);
    // From here on a signal is kept until somebody takes it.
    let signals = Signals::listen()?;
    let manager = ServiceManager::from_env().map_err(Failure::config)?;
    let stop_timeout = config.delivery.stop_timeout.to_std().unwrap_or_default();
    let lifecycle = Lifecycle::new(manager.clone(), stop_timeout);
    let post = setup::post(&config)?;
    let store = setup::store(&config).await?;
    let listener = listen(&config).await?;
    let heartbeat = Heartbeat::new(HUNG_AFTER);
    let mut engine = setup::engine(context, &config, store.clone(), Arc::clone(&post))?;
    let beat = heartbeat.clone();
    engine.on_progress = Box::new(move || beat.touch());
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
        manager: manager.clone(),
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
    lifecycle.watch(heartbeat);
    lifecycle.ready("watching");
    tracing::info!("lapsed {} is watching", env!("CARGO_PKG_VERSION"));
    let ended = lifecycle
        .run(signals, || {
            reload(context.clone(), Arc::clone(&post), Arc::clone(&log))
        })
        .await;
    if let Err(error @ (lifecycle::Error::Overdue { .. } | lifecycle::Error::Forced { .. })) = ended
    {
        let exit = super::exit::report(&Failure::failed(error).into(), anstream::stderr());
        // Tasks are still at work and would hold up an orderly end.
        std::process::exit(i32::from(exit as u8));
    }
    store.close().await;
    ended.map_err(Failure::failed)?;
    tracing::info!("stopped");
    Ok(Exit::Ok)
}

/// The place of the health pages. It is taken before anything is told to be ready.
async fn listen(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = config.http.listen else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) => {
            let error = anyhow::Error::from(error).context(format!("cannot listen on {address}"));
            Err(Failure::failed(error)
                .hint("name another in [http] listen, or \"off\"")
                .into())
        }
    }
}

/// Takes templates and log level from the configuration as it is now; the rest needs a restart.
async fn reload(
    context: Context,
    post: Arc<Post>,
    log: Arc<Telemetry>,
) -> Result<(), lifecycle::Fault> {
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let config = setup::config(&context)?;
        post.replace_templates(setup::templates(&config)?);
        log.set_level(setup::level(&context, &config))?;
        Ok(())
    });
    match work.await? {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
