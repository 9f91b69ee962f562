//! A worker: one connection to the relay, one mail at a time.

use std::sync::Arc;

use governor::DefaultDirectRateLimiter;
use tokio::sync::mpsc;

use crate::notify::fault::{Fault, Outcome};
use crate::notify::message::Rendered;
use crate::notify::transport::Connection;

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
            if events
                .send(Event {
                    worker: self.number,
                    ready,
                    outcome,
                })
                .is_err()
            {
                break;
            }
        }
        if let Some(line) = line {
            line.connection.close().await;
        }
    }

    /// Sends over the connection at hand, or a fresh one; leaves it for the next mail if it is still
    /// good for one.
    async fn send<'a>(&'a self, line: &mut Option<Line<'a>>, message: &Rendered) -> Outcome {
        let mut open = match line.take() {
            Some(open) => open,
            None => match self.connect().await {
                Ok(connection) => Line {
                    connection,
                    sent: 0,
                },
                Err(fault) => return Outcome::ServerFault(fault),
            },
        };
        let outcome = open.connection.send(message).await;
        open.sent += 1;
        let is_worn_out =
            self.messages_per_connection > 0 && open.sent >= self.messages_per_connection;
        if is_worn_out || !open.connection.is_usable() {
            open.connection.close().await;
        } else {
            *line = Some(open);
        }
        outcome
    }

    /// Connects; a server that is busy or gone for a moment is tried again at once.
    async fn connect(&self) -> Result<Connection<'_>, Fault> {
        let mut tries = 1;
        loop {
            let opened = self.post.transport.open().await;
            let is_final = |fault: &Fault| fault.code.is_some_and(|code| code >= 500);
            match opened {
                Err(fault) if tries < CONNECT_TRIES && !is_final(&fault) => tries += 1,
                opened => return opened,
            }
        }
    }
}

/// An open connection.
struct Line<'a> {
    connection: Connection<'a>,
    sent: u32,
}
