//! The long-lived tasks of the daemon, each under a name; how each ends is told, even a panic.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Error, Fault};

/// Where long-lived tasks are spawned. Clones share the tasks.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    running: Arc<Mutex<Vec<&'static str>>>,
    exits: mpsc::UnboundedSender<Exit>,
}

/// A task that has ended.
#[derive(Debug)]
pub(super) struct Exit {
    pub(super) task: &'static str,
    pub(super) end: End,
}

/// How it did.
#[derive(Debug)]
pub(super) enum End {
    Finished,
    Failed(Fault),
    Panicked(String),
}

impl Exit {
    /// What is wrong with that; a long-lived task must not even finish before it is asked to.
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

    /// Cancelled when the daemon is to stop.
    #[must_use]
    pub fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    /// Spawns a task that is to run until [`Tasks::stopping`] is cancelled. If it fails, panics or
    /// ends before that, the daemon stops.
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Fault>,
    {
        let tasks = self.clone();
        self.running_names(|names| names.push(name));
        self.tracker.spawn(async move {
            // Nothing of the task is looked at after it panicked.
            let end = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) => End::Finished,
                Ok(Err(fault)) => End::Failed(fault.into()),
                Err(panic) => End::Panicked(words(panic.as_ref())),
            };
            tasks.running_names(|names| {
                if let Some(place) = names.iter().position(|running| *running == name) {
                    names.remove(place);
                }
            });
            // Nobody listens any more when the daemon has stopped hard.
            let _ = tasks.exits.send(Exit { task: name, end });
        });
    }

    /// Asks all tasks to end.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
        self.tracker.close();
    }

    /// Waits until all have ended.
    pub(super) async fn ended(&self) {
        self.tracker.wait().await;
    }

    /// The names of those that run, for people.
    pub(super) fn running(&self) -> String {
        self.running_names(|names| names.join(", "))
    }

    fn running_names<T>(&self, act: impl FnOnce(&mut Vec<&'static str>) -> T) -> T {
        act(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words").to_owned()
}
