//! The mailer, and the workers of a pass: each has one connection to the mail server and sends one mail at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::domain::MailCounts;
use crate::engine::common::{Delivery, Error};
use crate::notify::fault::{Fault, Outcome};
use crate::notify::message::{Rendered, Writer};
use crate::notify::template::Templates;
use crate::notify::transport::{Connection, Transport};
use crate::store::ClaimedMail;

const MAX_CONNECT_ATTEMPTS: u32 = 3;

pub struct Mailer {
    pub writer: Writer,
    pub transport: Transport,
    templates: RwLock<Arc<Templates>>,
    mail_counts: Mutex<MailCounts>,
}

impl Mailer {
    pub fn new(writer: Writer, transport: Transport, templates: Templates) -> Self {
        Self {
            writer,
            transport,
            templates: RwLock::new(Arc::new(templates)),
            mail_counts: Mutex::default(),
        }
    }

    pub fn templates(&self) -> Arc<Templates> {
        let templates = self.templates.read();
        Arc::clone(&templates.unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the templates; mails that are already rendered keep their text.
    pub fn replace_templates(&self, templates: Templates) {
        let current = self.templates.write();
        *current.unwrap_or_else(PoisonError::into_inner) = Arc::new(templates);
    }

    /// The attempts since the process started.
    pub fn mail_counts(&self) -> MailCounts {
        *self.lock_mail_counts()
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        let mut counts = self.lock_mail_counts();
        *match outcome {
            Outcome::Sent { .. } => &mut counts.sent,
            Outcome::Deferred(_) => &mut counts.deferred,
            Outcome::Refused { .. } => &mut counts.refused,
            Outcome::Unknown(_) => &mut counts.unknown,
            Outcome::ServerFault(_) => &mut counts.server_fault,
        } += 1;
    }

    fn lock_mail_counts(&self) -> MutexGuard<'_, MailCounts> {
        let counts = self.mail_counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Ready {
    pub mail: ClaimedMail,
    pub message: Arc<Rendered>,
}

pub(super) struct Event {
    pub worker: usize,
    pub ready: Ready,
    pub outcome: Outcome,
}

struct Worker {
    number: usize,
    mailer: Arc<Mailer>,
    pace: Option<Arc<DefaultDirectRateLimiter>>,
    messages_per_connection: u32,
}

impl Worker {
    /// Sends the mails of the channel until it closes, then closes the connection with QUIT.
    async fn run(self, mut jobs: mpsc::Receiver<Ready>, events: mpsc::UnboundedSender<Event>) {
        let mut current = None;
        while let Some(ready) = jobs.recv().await {
            if let Some(pace) = &self.pace {
                pace.until_ready().await;
            }
            let outcome = self.send(&mut current, &ready.message).await;
            let event = Event {
                worker: self.number,
                ready,
                outcome,
            };
            if events.send(event).is_err() {
                break;
            }
        }
        if let Some(open) = current {
            open.connection.close().await;
        }
    }

    /// Sends over the open connection or a new one, and keeps it for the next mail if it is still usable.
    async fn send<'a>(
        &'a self,
        current: &mut Option<OpenConnection<'a>>,
        message: &Rendered,
    ) -> Outcome {
        let mut open = match current.take() {
            Some(open) => open,
            None => match self.connect().await {
                Ok(connection) => OpenConnection {
                    connection,
                    sent: 0,
                },
                Err(fault) => return Outcome::ServerFault(fault),
            },
        };
        let outcome = open.connection.send(message).await;
        open.sent += 1;
        let is_used_up =
            self.messages_per_connection > 0 && open.sent >= self.messages_per_connection;
        if is_used_up || !open.connection.is_usable() {
            open.connection.close().await;
        } else {
            *current = Some(open);
        }
        outcome
    }

    /// Connects, with immediate retries for a server that is busy or unreachable for a moment.
    async fn connect(&self) -> Result<Connection<'_>, Fault> {
        let mut tries = 1;
        loop {
            match self.mailer.transport.open().await {
                Err(fault)
                    if tries < MAX_CONNECT_ATTEMPTS && fault.code.is_none_or(|code| code < 500) =>
                {
                    tries += 1;
                }
                result => return result,
            }
        }
    }
}

struct OpenConnection<'a> {
    connection: Connection<'a>,
    sent: u32,
}

pub(super) struct Workers {
    jobs: Vec<mpsc::Sender<Ready>>,
    tasks: JoinSet<()>,
}

impl Workers {
    pub fn new(
        mailer: &Arc<Mailer>,
        settings: &Delivery,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Self {
        let pace = settings
            .mails_per_second
            .and_then(|rate| Quota::with_period(Duration::from_secs_f64(1.0 / rate)))
            .map(|quota| Arc::new(RateLimiter::direct(quota)));
        let mut jobs = Vec::new();
        let mut tasks = JoinSet::new();
        for number in 0..settings.connections {
            let (job_in, job_out) = mpsc::channel(1);
            let worker = Worker {
                number,
                mailer: Arc::clone(mailer),
                pace: pace.clone(),
                messages_per_connection: settings.messages_per_connection,
            };
            tasks.spawn(worker.run(job_out, events.clone()));
            jobs.push(job_in);
        }
        Self { jobs, tasks }
    }

    pub async fn send(&self, worker: usize, ready: Ready) {
        // If the worker has died, its mail stays `sending` and is recovered when the lease lapses.
        let _ = self.jobs[worker].send(ready).await;
    }

    /// Waits for a worker to end too early, which is a bug.
    pub async fn wait_for_failure(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Err(error)) => Error::Panicked(error.to_string()),
            Some(Ok(())) | None => Error::Panicked("a delivery worker ended by itself".to_owned()),
        }
    }

    /// Lets the workers finish and close their connections.
    pub async fn shut_down(mut self) {
        self.jobs.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}
