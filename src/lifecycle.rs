//! Start, reload and stop of the daemon, and the notifications to the service manager.
//!
//! All long-lived tasks are spawned through [`Tasks`]. [`Lifecycle::run`] waits for a stop signal or a
//! failed task, and then stops all tasks in order.

mod heartbeat;
mod service_manager;
mod signals;
mod tasks;
mod ticker;

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::{Future, pending};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{self, Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use heartbeat::Heartbeat;
pub use service_manager::ServiceManager;
pub use signals::{Signal, Signals};
pub use tasks::Tasks;
use tasks::{End, Exit};
pub use ticker::Ticker;

use crate::causes::Causes;

/// The error of a task or a reload.
pub type Fault = Box<dyn StdError + Send + Sync>;

/// A reload that takes longer is given up, and the previous settings stay.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the daemon did not end normally.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{task} failed")]
    Failed {
        task: &'static str,
        #[source]
        source: Fault,
    },
    /// A task panicked; the log shows where.
    #[error("{task} panicked: {message}")]
    Panicked { task: &'static str, message: String },
    /// A task ended before it was asked to.
    #[error("{task} ended unexpectedly")]
    Ended { task: &'static str },
    /// Tasks did not end in time and are still running; the process must exit.
    #[error("forced to stop after {}: {running} had not ended", humantime::format_duration(*after))]
    Overdue {
        after: Duration,
        /// Names of the tasks that had not ended.
        running: String,
    },
    /// A second stop signal arrived and tasks are still running; the process must exit.
    #[error("forced to stop by a second signal: {running} had not ended")]
    Forced {
        /// Names of the tasks that had not ended.
        running: String,
    },
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// `NOTIFY_SOCKET` is not a valid address.
    #[error("cannot reach the service manager at NOTIFY_SOCKET={address}")]
    NotifySocket {
        address: String,
        #[source]
        source: std::io::Error,
    },
}

/// Runs the daemon from start to end.
#[derive(Debug)]
pub struct Lifecycle {
    manager: ServiceManager,
    tasks: Tasks,
    exits: mpsc::UnboundedReceiver<Exit>,
    stop_timeout: Duration,
}

impl Lifecycle {
    /// When asked to stop, the tasks get `stop_timeout` to end.
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

    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.tasks.stopping()
    }

    /// Answers the service manager's watchdog, if there is one, while the heartbeat continues.
    pub fn spawn_watchdog(&self, heartbeat: Heartbeat) {
        let Some(timeout) = self.manager.watchdog() else {
            return;
        };
        let watchdog = answer_watchdog(
            self.manager.clone(),
            timeout / 2,
            heartbeat,
            self.stopping(),
        );
        self.tasks.spawn("watchdog", watchdog);
    }

    /// Notifies the service manager that the daemon is ready, with a `status` line.
    pub fn notify_ready(&self, status: &str) {
        self.manager.notify_ready(status);
    }

    /// Runs until a stop signal or the failure of a task, then stops all tasks.
    ///
    /// `reload` is called at each SIGHUP; if it fails, the error is logged and the daemon continues
    /// unchanged.
    ///
    /// # Errors
    /// The first failure. After [`Error::Overdue`] and [`Error::Forced`] tasks are still running, and the
    /// process should exit without waiting for them.
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
                "stopping because a task ended"
            );
        }
        let stopped = self.stop(&mut signals).await;
        failure.map_or(stopped, Err)
    }

    async fn reload(&self, reload: impl Future<Output = Result<(), Fault>>) {
        self.manager.notify_reloading();
        let reloaded = time::timeout(RELOAD_TIMEOUT, reload)
            .await
            .unwrap_or_else(|elapsed| Err(elapsed.into()));
        match reloaded {
            Ok(()) => {
                tracing::info!("reloaded");
                self.manager.notify_ready("reloaded");
            }
            Err(fault) => {
                tracing::error!(
                    error = %Causes(fault.as_ref()),
                    "cannot reload; the previous settings stay"
                );
                self.manager
                    .notify_ready("the last reload failed; see the log");
            }
        }
    }

    async fn stop(&mut self, signals: &mut Signals) -> Result<(), Error> {
        tracing::info!("stopping");
        self.manager.notify_stopping();
        self.tasks.stop();
        tokio::select! {
            () = self.tasks.wait_until_ended() => {}
            never = self.keep_watchdog_alive() => match never {},
            () = time::sleep(self.stop_timeout) => {
                let running = self.tasks.running();
                return Err(Error::Overdue { after: self.stop_timeout, running });
            }
            () = next_stop_signal(signals) => {
                let running = self.tasks.running();
                return Err(Error::Forced { running });
            }
        }
        self.failure_while_stopping()
    }

    /// Answers the watchdog while the daemon stops: the heartbeat has ended, and the stop has its own
    /// time-out.
    async fn keep_watchdog_alive(&self) -> Infallible {
        let Some(timeout) = self.manager.watchdog() else {
            return pending_forever().await;
        };
        loop {
            self.manager.notify_alive();
            time::sleep(timeout / 2).await;
        }
    }

    /// Logs all failures of tasks since the stop began and returns the first.
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

async fn next_stop_signal(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

/// Notifies the watchdog every `period` while the heartbeat continues.
///
/// It stops together with the runtime or the heartbeat, so that a hanging daemon is killed and restarted.
async fn answer_watchdog(
    manager: ServiceManager,
    period: Duration,
    heartbeat: Heartbeat,
    stopping: CancellationToken,
) -> Result<(), Fault> {
    let mut ticks = time::interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_hung = false;
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        let is_hung = heartbeat.has_timed_out(Instant::now());
        if is_hung && !was_hung {
            tracing::error!(
                timeout_s = heartbeat.timeout().as_secs(),
                "the sweep has stalled; no longer answering the watchdog"
            );
        }
        was_hung = is_hung;
        if !is_hung {
            manager.notify_alive();
        }
    }
    Ok(())
}

/// For a signal that cannot arrive any more.
async fn pending_forever<T>() -> T {
    pending().await
}

#[cfg(test)]
mod tests;
