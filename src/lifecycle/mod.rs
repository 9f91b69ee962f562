//! The life of the daemon: start, reload, stop, and what the service manager is told of it.
//!
//! Every long-lived task is spawned through [`Tasks`]; [`Lifecycle::run`] waits until a signal asks
//! for the end or one of them fails, and then brings all of them to an end in order.

mod heartbeat;
mod service_manager;
mod signals;
mod tasks;

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::{Future, pending},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{self, Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

pub use heartbeat::Heartbeat;
pub use service_manager::ServiceManager;
pub use signals::{Signal, Signals};
pub use tasks::Tasks;
use tasks::{End, Exit};

use crate::causes::Causes;

/// Whatever a task or a reload may fail with.
pub type Fault = Box<dyn StdError + Send + Sync>;

/// How long a reload may take: longer, and the former settings stay.
const RELOAD_WITHIN: Duration = Duration::from_secs(30);

/// Why the daemon ended otherwise than it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task gave up.
    #[error("{task} failed")]
    Failed {
        /// Its name.
        task: &'static str,
        /// Why.
        #[source]
        source: Fault,
    },
    /// A task panicked; the log has the place.
    #[error("{task} panicked: {message}")]
    Panicked {
        /// Its name.
        task: &'static str,
        /// What it said.
        message: String,
    },
    /// A task ended although nobody had asked it to.
    #[error("{task} ended by itself")]
    Ended {
        /// Its name.
        task: &'static str,
    },
    /// The tasks did not end in time. They are still at work: end the process.
    #[error("stopped hard after {}: {running} had not ended", humantime::format_duration(*after))]
    Overdue {
        /// The time they were given.
        after: Duration,
        /// The names of those that had not ended.
        running: String,
    },
    /// A second signal came. Tasks are still at work: end the process.
    #[error("stopped at once by a second signal: {running} had not ended")]
    Forced {
        /// The names of those that had not ended.
        running: String,
    },
    /// The process cannot listen for signals.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The address of the service manager makes no sense.
    #[error("cannot reach the service manager at NOTIFY_SOCKET={address}")]
    NotifySocket {
        /// What it says.
        address: String,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
}

/// The daemon from its start to its end.
#[derive(Debug)]
pub struct Lifecycle {
    manager: ServiceManager,
    tasks: Tasks,
    exits: mpsc::UnboundedReceiver<Exit>,
    stop_timeout: Duration,
}

impl Lifecycle {
    /// A daemon that has not started yet and that, once asked to stop, gets `stop_timeout` for it.
    #[must_use]
    pub fn new(manager: ServiceManager, stop_timeout: Duration) -> Self {
        let (tasks, exits) = Tasks::new();
        Self {
            manager,
            tasks,
            exits,
            stop_timeout,
        }
    }

    /// Where long-lived tasks are spawned.
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Cancelled when the daemon is to stop.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.tasks.stopping()
    }

    /// Answers the watchdog of the service manager, if it has one, as long as the heart beats.
    pub fn watch(&self, heartbeat: Heartbeat) {
        let Some(within) = self.manager.watchdog() else {
            return;
        };
        let watchdog =
            answer_watchdog(self.manager.clone(), within / 2, heartbeat, self.stopping());
        self.tasks.spawn("watchdog", watchdog);
    }

    /// Tells the service manager that the daemon is up, and `status` about it.
    pub fn ready(&self, status: &str) {
        self.manager.ready(status);
    }

    /// Runs until a signal asks for the end or a task fails, then stops all tasks.
    ///
    /// `reload` is called at each SIGHUP; when it fails, that is logged and the daemon goes on as
    /// it was.
    ///
    /// # Errors
    /// The first thing that went wrong. After [`Error::Overdue`] and [`Error::Forced`] tasks are
    /// still at work, and the process should exit without waiting for them.
    pub async fn run<R, F>(mut self, mut signals: Signals, mut reload: R) -> Result<(), Error>
    where
        R: FnMut() -> F,
        F: Future<Output = Result<(), Fault>>,
    {
        let failure = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => break None,
                    Signal::Reload => self.reload(reload()).await,
                },
                Some(exit) = self.exits.recv() => break Some(exit.into_error()),
            }
        };
        if let Some(error) = &failure {
            tracing::error!(
                error = %Causes(error),
                "stopping, because a task ended"
            );
        }
        let stopped = self.stop(&mut signals).await;
        failure.map_or(stopped, Err)
    }

    async fn reload(&self, reload: impl Future<Output = Result<(), Fault>>) {
        self.manager.reloading();
        let reloaded = time::timeout(RELOAD_WITHIN, reload)
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()));
        match reloaded {
            Ok(()) => {
                tracing::info!("reloaded");
                self.manager.ready("reloaded");
            }
            Err(fault) => {
                tracing::error!(
                    error = %Causes(fault.as_ref()),
                    "cannot reload; what was loaded before stays"
                );
                self.manager.ready("the last reload failed; see the log");
            }
        }
    }

    async fn stop(&mut self, signals: &mut Signals) -> Result<(), Error> {
        tracing::info!("stopping");
        self.manager.stopping();
        self.tasks.stop();
        tokio::select! {
            () = self.tasks.ended() => {}
            endless = self.stay_alive() => match endless {},
            () = time::sleep(self.stop_timeout) => {
                let running = self.tasks.running();
                return Err(Error::Overdue { after: self.stop_timeout, running });
            }
            () = second_stop(signals) => {
                let running = self.tasks.running();
                return Err(Error::Forced { running });
            }
        }
        self.failure_while_stopping()
    }

    /// Answers the watchdog while the daemon stops: no sweep beats any more, and the stop has a
    /// time-out of its own.
    async fn stay_alive(&self) -> Infallible {
        let Some(within) = self.manager.watchdog() else {
            return never().await;
        };
        loop {
            self.manager.alive();
            time::sleep(within / 2).await;
        }
    }

    /// What went wrong in tasks after the stop began: all of it is logged, the first returned.
    fn failure_while_stopping(&mut self) -> Result<(), Error> {
        let mut first = Ok(());
        while let Ok(exit) = self.exits.try_recv() {
            if matches!(exit.end, End::Finished) {
                continue;
            }
            let error = exit.into_error();
            tracing::error!(
                error = %Causes(&error),
                "a task failed while stopping"
            );
            first = first.and(Err(error));
        }
        first
    }
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

/// Tells the service manager every `period` that all is well, as long as it is.
///
/// As a task like any other it falls silent with the runtime; and it keeps silent when the
/// heartbeat stops, so that a daemon that hangs is killed and started again.
async fn answer_watchdog(
    manager: ServiceManager,
    period: Duration,
    heartbeat: Heartbeat,
    stopping: CancellationToken,
) -> Result<(), Fault> {
    let mut ticks = time::interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hung = false;
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        let hangs = heartbeat.is_silent(Instant::now());
        if hangs && !hung {
            tracing::error!(
                allowed_s = heartbeat.allowed().as_secs(),
                "no sign of life from the sweep; leaving the watchdog without an answer"
            );
        }
        hung = hangs;
        if !hung {
            manager.alive();
        }
    }
    Ok(())
}

/// Never; in place of a signal that cannot come any more.
async fn never<T>() -> T {
    pending().await
}

#[cfg(test)]
mod tests;
