//! Start, reload and stop of the daemon, and the notifications to the service manager.
//!
//! All long-lived tasks are spawned through [`Tasks`]. [`Lifecycle::run`] waits for a stop signal or a
//! failed task, and then stops all tasks in order.

mod heartbeat;
mod service_manager;
mod ticker;

use std::error::Error as StdError;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{self, Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use heartbeat::{Heartbeat, find_stalled};
pub use service_manager::ServiceManager;
pub use ticker::Ticker;

use crate::causes::{Causes, panic_text};

/// The error of a task or a reload.
pub type Fault = Box<dyn StdError + Send + Sync>;

/// A reload that takes longer is given up, and the previous settings stay.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

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
    /// The tasks named by `running` did not end in time; the process must exit.
    #[error("forced to stop after {}: {running} had not ended", humantime::format_duration(*after))]
    Overdue { after: Duration, running: String },
    /// A second stop signal arrived while the tasks named by `running` had not ended; the process must exit.
    #[error("forced to stop by a second signal: {running} had not ended")]
    Forced { running: String },
    #[error("stopped by a signal")]
    Interrupted,
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

#[derive(Debug)]
pub struct Lifecycle {
    manager: ServiceManager,
    tasks: Tasks,
    exits: mpsc::UnboundedReceiver<Error>,
    stop_timeout: Duration,
}

impl Lifecycle {
    /// When asked to stop, the tasks get `stop_timeout` to end.
    pub fn new(manager: ServiceManager, stop_timeout: Duration) -> Self {
        let (ended, exits) = mpsc::unbounded_channel();
        let tasks = Tasks {
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            running: Arc::default(),
            exits: ended,
        };
        Self {
            manager,
            tasks,
            exits,
            stop_timeout,
        }
    }

    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub fn stopping(&self) -> CancellationToken {
        self.tasks.stopping.clone()
    }

    /// Answers the service manager's watchdog, if there is one, while all heartbeats continue.
    pub fn spawn_watchdog(&self, heartbeats: Vec<Heartbeat>) {
        let Some(timeout) = self.manager.watchdog() else {
            return;
        };
        let manager = self.manager.clone();
        let watchdog = answer_watchdog(manager, timeout / 2, heartbeats, self.stopping());
        self.tasks.spawn("watchdog", watchdog);
    }

    /// Notifies the service manager that the daemon is ready; `status` is one line for people.
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
                Some(error) = self.exits.recv() => break Some(error),
            }
        };
        if let Some(error) = &failure {
            tracing::error!(error = %Causes(error), "stopping because a task ended");
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
                tracing::error!(error = %Causes(fault.as_ref()), "cannot reload; the previous settings stay");
                let status = "the last reload failed; see the log";
                self.manager.notify_ready(status);
            }
        }
    }

    async fn stop(&mut self, signals: &mut Signals) -> Result<(), Error> {
        tracing::info!("stopping");
        self.manager.notify_stopping();
        self.tasks.stopping.cancel();
        self.tasks.tracker.close();
        tokio::select! {
            () = self.tasks.tracker.wait() => {}
            () = self.keep_watchdog_alive() => {}
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

    /// Answers the watchdog while the daemon stops, without end: the heartbeat has ended, and the stop has
    /// its own time-out.
    async fn keep_watchdog_alive(&self) {
        let Some(timeout) = self.manager.watchdog() else {
            return pending().await;
        };
        loop {
            self.manager.notify_alive();
            time::sleep(timeout / 2).await;
        }
    }

    /// Logs all failures of tasks since the stop began and returns the first.
    fn failure_while_stopping(&mut self) -> Result<(), Error> {
        let mut first = Ok(());
        while let Ok(error) = self.exits.try_recv() {
            if !matches!(error, Error::Ended { .. }) {
                tracing::error!(error = %Causes(&error), "a task failed while stopping");
                first = first.and(Err(error));
            }
        }
        first
    }
}

async fn next_stop_signal(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}

/// Notifies the watchdog every `period` while all heartbeats continue.
///
/// It stops together with the runtime or any heartbeat, so that a hanging daemon is killed and restarted.
async fn answer_watchdog(
    manager: ServiceManager,
    period: Duration,
    heartbeats: Vec<Heartbeat>,
    stopping: CancellationToken,
) -> Result<(), Fault> {
    let mut ticks = time::interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_hung = false;
    while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
        let hung = find_stalled(&heartbeats, Instant::now());
        match hung {
            None => manager.notify_alive(),
            Some(heartbeat) if !was_hung => tracing::error!(
                timeout_s = heartbeat.timeout().as_secs(),
                "{} has stalled; no longer answering the watchdog",
                heartbeat.work()
            ),
            Some(_) => {}
        }
        was_hung = hung.is_some();
    }
    Ok(())
}

/// Spawns the long-lived tasks, each with a name. Clones share them.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    running: Arc<Mutex<Vec<&'static str>>>,
    /// How each task ended. [`Error::Ended`] is an error only before the daemon stops.
    exits: mpsc::UnboundedSender<Error>,
}

impl Tasks {
    /// Spawns a task that must run until [`Lifecycle::stopping`] is cancelled. If it fails, panics or ends
    /// before that, the daemon stops.
    pub fn spawn<F, E>(&self, task: &'static str, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Fault>,
    {
        let tasks = self.clone();
        self.with_running(|names| names.push(task));
        self.tracker.spawn(async move {
            // The task's state is not used after a panic.
            let error = match AssertUnwindSafe(work).catch_unwind().await {
                Ok(Ok(())) => Error::Ended { task },
                Ok(Err(fault)) => Error::Failed {
                    task,
                    source: fault.into(),
                },
                Err(panic) => Error::Panicked {
                    task,
                    message: panic_text(panic.as_ref()),
                },
            };
            tasks.with_running(|names| {
                if let Some(index) = names.iter().position(|running| *running == task) {
                    names.remove(index);
                }
            });
            // No one receives it after a forced stop.
            let _ = tasks.exits.send(error);
        });
    }

    /// The names of the running tasks, for messages.
    fn running(&self) -> String {
        self.with_running(|names| names.join(", "))
    }

    fn with_running<T>(&self, act: impl FnOnce(&mut Vec<&'static str>) -> T) -> T {
        act(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    /// SIGTERM or SIGINT: finish work in progress and exit; a second one: exit at once.
    Stop,
    /// SIGHUP: load the templates and the log level again.
    Reload,
}

#[derive(Debug)]
pub struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    /// Starts listening; signals are queued until they are read.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn listen() -> Result<Self, Error> {
        let (sender, signals) = mpsc::channel(8);
        for (kind, request) in [
            (SignalKind::terminate(), Signal::Stop),
            (SignalKind::interrupt(), Signal::Stop),
            (SignalKind::hangup(), Signal::Reload),
        ] {
            let mut signal = signal(kind).map_err(Error::Signals)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signal.recv().await.is_some() && sender.send(request).await.is_ok() {}
            });
        }
        Ok(Self(signals))
    }

    /// Waits for a signal of any kind.
    pub async fn wait(&mut self) {
        self.next().await;
    }

    /// The next signal; never returns when none can arrive any more.
    async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
