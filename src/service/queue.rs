//! Tokens that wait to be issued together.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::domain::service::{Actor, NewToken};

use super::Error;
use super::issue::Issued;

const MAX_WAITING: usize = 1024;

/// A token that somebody asks for.
pub(super) struct Wanted {
    pub actor: Actor,
    pub new: NewToken,
}

pub(super) struct Waiting {
    pub wanted: Wanted,
    pub answer: oneshot::Sender<Result<Issued, Error>>,
}

/// Tokens that wait to be issued together.
pub(super) struct Queue {
    sender: mpsc::Sender<Waiting>,
    /// Taken by the first [`Service::issue_waiting`].
    pub receiver: Mutex<Option<mpsc::Receiver<Waiting>>>,
    pub is_running: AtomicBool,
}

impl Default for Queue {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
            is_running: AtomicBool::new(false),
        }
    }
}

impl Queue {
    /// `None` if nobody issues what waits here.
    pub async fn ask(&self, actor: &Actor, new: &NewToken) -> Option<Result<Issued, Error>> {
        if !self.is_running.load(Ordering::Acquire) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        let wanted = Wanted {
            actor: actor.clone(),
            new: new.clone(),
        };
        self.sender.send(Waiting { wanted, answer }).await.ok()?;
        answered.await.ok()
    }
}
