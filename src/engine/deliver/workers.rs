//! The running workers and the ways to them.

use std::sync::Arc;
use std::time::Duration;

use governor::{Quota, RateLimiter};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::{Engine, Error};
use super::claim::Ready;
use super::worker::{Event, Worker};

/// The running workers and the ways to them.
pub(super) struct Workers {
    jobs: Vec<mpsc::Sender<Ready>>,
    tasks: JoinSet<()>,
}

impl Workers {
    pub fn new(engine: &Engine, events: &mpsc::UnboundedSender<Event>) -> Self {
        let settings = &engine.settings;
        let pace = settings
            .mails_per_second
            .and_then(|rate| Quota::with_period(Duration::from_secs_f64(1.0 / rate)))
            .map(|quota| Arc::new(RateLimiter::direct(quota)));
        let (mut jobs, mut tasks) = (Vec::new(), JoinSet::new());
        for number in 0..settings.connections {
            let (job_in, job_out) = mpsc::channel(1);
            let worker = Worker {
                number,
                post: Arc::clone(&engine.post),
                pace: pace.clone(),
                messages_per_connection: settings.messages_per_connection,
            };
            tasks.spawn(worker.run(job_out, events.clone()));
            jobs.push(job_in);
        }
        Self { jobs, tasks }
    }

    /// Hands a mail to an idle worker, which has room for it.
    pub async fn hand(&self, worker: usize, ready: Ready) {
        // Should the worker have died, its mail stays `sending` and is found when the lease lapses.
        let _ = self.jobs[worker].send(ready).await;
    }

    /// Waits for a worker to end before its time, which none does but by a fault of ours.
    pub async fn died(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => Error::Panicked(error.to_string()),
            Some(Ok(())) | None => Error::Panicked("a delivery worker ended by itself".to_owned()),
        }
    }

    /// Lets the workers say good-bye to the relay.
    pub async fn dismiss(mut self) {
        self.jobs.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}
