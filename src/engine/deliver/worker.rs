//! A worker: one connection to the relay, one mail at a time.

use std::sync::Arc;

use governor::DefaultDirectRateLimiter;
use tokio::sync::mpsc;

use crate::notify::message::Rendered;
use crate::notify::transport::{Connection, Fault, Outcome};

use super::Post;
use super::claim::Ready;

/// How often a worker tries to get a connection for one mail.
const CONNECT_TRIES: u32 = 3;

/// What a worker reports.
pub(super) struct Event {
    pub worker: usize,
    pub ready: Ready,
    pub outcome: Outcome,
}

/// One connection and what it is good for.
pub(super) struct Worker {
    pub number: usize,
    pub post: Arc<Post>,
    pub pace: Option<Arc<DefaultDirectRateLimiter>>,
    /// Mails to a connection; 0 is no limit.
    pub messages_per_connection: u32,
}

impl Worker {
    /// Sends what comes in until nothing more does, then says good-bye to the relay.
    pub async fn run(self, mut jobs: mpsc::Receiver<Ready>, events: mpsc::UnboundedSender<Event>) {
        let mut line = None;
        while let Some(ready) = jobs.recv().await {
            if let Some(pace) = &self.pace {
                pace.until_ready().await;
            }
            let outcome = self.send(&mut line, &ready.message).await;
            if events.send(Event { worker: self.number, ready, outcome }).is_err() {
                break;
            }
        }
        if let Some(line) = line {
            line.connection.close().await;
        }
    }

    /// Sends over the connection at hand, or a fresh one. One that was kept may have died while it
    /// was idle; a mail that has not reached the server yet is tried on another at once.
    async fn send(&self, line: &mut Option<Line>, message: &Rendered) -> Outcome {
        for attempt in 1.. {
            let (mut open, is_fresh) = match line.take() {
                Some(open) => (open, false),
                None => match self.connect().await {
                    Ok(open) => (open, true),
                    Err(fault) => return Outcome::ServerFault(fault),
                },
            };
            let delivery = open.connection.send(message).await;
            open.sent += 1;
            let is_worn_out = self.messages_per_connection > 0 && open.sent >= self.messages_per_connection;
            if !delivery.is_reusable || is_worn_out {
                open.connection.close().await;
            } else {
                *line = Some(open);
            }
            let was_dead = !is_fresh && !delivery.is_reusable && delivery.outcome.is_unsent();
            if !was_dead || attempt >= CONNECT_TRIES {
                return delivery.outcome;
            }
        }
        unreachable!("the loop returns by its bound")
    }

    async fn connect(&self) -> Result<Line, Fault> {
        let mut tries = 1;
        loop {
            match self.post.transport.open().await {
                Ok(connection) => return Ok(Line { connection, sent: 0 }),
                Err(fault) if tries >= CONNECT_TRIES || fault.is_permanent() => return Err(fault),
                Err(_) => tries += 1,
            }
        }
    }
}

/// An open connection.
struct Line {
    connection: Connection,
    sent: u32,
}
