//! The long-lived tasks of the daemon, each with a name. How each ends is reported, panics included.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::causes::panic_text;

use super::{Error, Fault};

/// Spawns long-lived tasks. Clones share them.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    running: Arc<Mutex<Vec<&'static str>>>,
    exits: mpsc::UnboundedSender<Exit>,
}

#[derive(Debug)]
pub(super) struct Exit {
    pub(super) task: &'static str,
    pub(super) end: End,
}

#[derive(Debug)]
pub(super) enum End {
    Finished,
    Failed(Fault),
    Panicked(String),
}

impl Exit {
    /// Finishing is an error, too: a long-lived task must run until it is asked to stop.
    pub(super) fn into_error(self) -> Error {
        let task = self.task;
        match self.end {
            End::Finished => Error::Ended { task },
            End::Failed(source) => Error::Failed { task, source },
            End::Panicked(message) => Error::Panicked { task, message },
        }
    }
}

impl Tasks {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Exit>) {
        let (exits, ended) = mpsc::unbounded_channel();
        let tasks = Self {
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            running: Arc::default(),
            exits,
        };
        (tasks, ended)
    }

    /// Cancelled when the daemon stops.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Spawns a task that must run until [`Tasks::stopping`] is cancelled. If it fails, panics or ends
    /// before that, the daemon stops.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Fault>,
    {
        let tasks = self.clone();
        self.with_running(|names| names.push(name));
        self.tracker.spawn(async move {
            // The task's state is not used after a panic.
            let end = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) => End::Finished,
                Ok(Err(fault)) => End::Failed(fault.into()),
                Err(panic) => End::Panicked(panic_text(panic.as_ref())),
            };
            tasks.with_running(|names| {
                if let Some(index) = names.iter().position(|running| *running == name) {
                    names.remove(index);
                }
            });
            // No one receives it after a forced stop.
            let _ = tasks.exits.send(Exit { task: name, end });
        });
    }

    pub(super) fn stop(&self) {
        self.stopping.cancel();
        self.tracker.close();
    }

    pub(super) async fn wait_until_ended(&self) {
        self.tracker.wait().await;
    }

    /// The names of the running tasks, for messages.
    pub(super) fn running(&self) -> String {
        self.with_running(|names| names.join(", "))
    }

    fn with_running<T>(&self, act: impl FnOnce(&mut Vec<&'static str>) -> T) -> T {
        act(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
