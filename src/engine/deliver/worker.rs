//! The mailer, and the workers of a pass: each has one connection to the mail server and sends one mail at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::MailCounts;
use crate::engine::common::{Delivery, Error};
use crate::notify::fault::{Fault, Outcome, Stage};
use crate::notify::message::{Rendered, Writer};
use crate::notify::template::Templates;
use crate::notify::transport::{Connection, Transport};
use crate::store::ClaimedMail;

use super::pace::Pace;

const MAX_CONNECT_ATTEMPTS: u32 = 3;
/// Gives a server time to notice that an earlier connection is closed.
const CONNECT_RETRY_INTERVAL: Duration = Duration::from_millis(200);

pub struct Mailer {
    pub writer: Writer,
    pub transport: Transport,
    templates: RwLock<Arc<Templates>>,
    mail_counts: Mutex<MailCounts>,
    attempts: Mutex<Attempts>,
}

/// Attempts at mails by this process.
#[derive(Debug, Default)]
struct Attempts {
    /// Those that wait for the rate or for the mail server, which both have limits.
    in_progress: usize,
    last_ended_at: Option<DateTime<Utc>>,
}

/// The part of an attempt that cannot hang: it waits for the rate or the mail server, not for the store.
struct Trying<'a>(&'a Worker);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        let mut attempts = self.0.mailer.lock_attempts();
        attempts.in_progress -= 1;
        attempts.last_ended_at = Some(self.0.clock.now());
    }
}

impl Mailer {
    pub fn new(writer: Writer, transport: Transport, templates: Templates) -> Self {
        Self {
            writer,
            transport,
            templates: RwLock::new(Arc::new(templates)),
            mail_counts: Mutex::default(),
            attempts: Mutex::default(),
        }
    }

    /// A mailer that renders the same mails and sends none.
    pub(in crate::engine) fn discarding(&self) -> Self {
        Self {
            writer: self.writer.clone(),
            transport: Transport::Discard,
            templates: RwLock::new(self.templates()),
            mail_counts: Mutex::default(),
            attempts: Mutex::default(),
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

    /// When this process last tried a mail; `now` if it does.
    pub fn last_attempt_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let attempts = self.lock_attempts();
        match attempts.in_progress {
            0 => attempts.last_ended_at,
            _ => Some(now),
        }
    }

    fn lock_attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, outcome: &Outcome) {
        let mut counts = self.lock_mail_counts();
        *match outcome {
            Outcome::Sent { .. } => &mut counts.sent,
            Outcome::Deferred(_) => &mut counts.deferred,
            Outcome::Refused(_) => &mut counts.refused,
            Outcome::Unknown(_) => &mut counts.unknown,
            Outcome::ServerFault(_) => &mut counts.server_fault,
        } += 1;
    }

    fn lock_mail_counts(&self) -> MutexGuard<'_, MailCounts> {
        let counts = self.mail_counts.lock();
        counts.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until when a mail belongs to this process, in milliseconds of [`Clock::uptime`].
///
/// A process that was stopped or suspended past this time must not send the mail: another may have sent it.
#[derive(Clone)]
pub(super) struct MailLease(Arc<AtomicU64>);

impl MailLease {
    pub fn new(until: Duration) -> Self {
        let lease = Self(Arc::default());
        lease.extend(until);
        lease
    }

    pub fn extend(&self, until: Duration) {
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.0.store(until, Ordering::Relaxed);
    }

    fn is_over(&self, clock: &Clock) -> bool {
        clock.uptime().as_millis() >= u128::from(self.0.load(Ordering::Relaxed))
    }
}

pub(super) struct Ready {
    pub mail: ClaimedMail,
    pub message: Arc<Rendered>,
    pub notices: usize,
}

pub(super) struct Job {
    pub ready: Ready,
    /// Whether the start of the attempt is being recorded already.
    pub is_started: bool,
    /// Arrives when the start is recorded; closed without a value if the mail belongs to another process.
    pub permit: oneshot::Receiver<()>,
    pub lease: MailLease,
}

pub(super) enum Event {
    /// Everything before the envelope is done, so the start can be recorded.
    Starting { worker: usize },
    Ended {
        worker: usize,
        ready: Ready,
        attempt: Attempt,
        is_connected: bool,
    },
}

pub(super) enum Attempt {
    Tried(Outcome),
    /// The server takes no further connection.
    NoConnection(Fault),
    /// Stopped before the text, so that no copy can arrive.
    Withdrawn,
}

struct Worker {
    number: usize,
    mailer: Arc<Mailer>,
    clock: Clock,
    pace: Option<Arc<Pace>>,
    messages_per_connection: u32,
    stop: CancellationToken,
    events: mpsc::UnboundedSender<Event>,
}

struct OpenConnection<'a> {
    connection: Connection<'a>,
    sent: u32,
}

impl Worker {
    /// Sends the mails of the channel until it closes, then closes the connection with QUIT.
    async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut open = None;
        while let Some(mut job) = jobs.recv().await {
            let attempt = self.attempt(&mut open, &mut job).await;
            self.close_if_used_up(&mut open).await;
            let event = Event::Ended {
                worker: self.number,
                ready: job.ready,
                attempt,
                is_connected: open.is_some(),
            };
            if self.events.send(event).is_err() {
                break;
            }
        }
        if let Some(OpenConnection { connection, .. }) = open {
            connection.close().await;
        }
    }

    async fn attempt<'a>(
        &'a self,
        open: &mut Option<OpenConnection<'a>>,
        job: &mut Job,
    ) -> Attempt {
        let begun = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Attempt::Withdrawn),
            begun = self.begin(open, job) => begun,
        };
        let attempt = match (begun, open.as_mut()) {
            (Ok(()), Some(open)) if !job.lease.is_over(&self.clock) => {
                open.sent += 1;
                let _trying = self.begin_trying();
                match open.connection.finish(&job.ready.message).await {
                    Outcome::Deferred(fault) if fault.is_about_connections() => {
                        Attempt::NoConnection(fault)
                    }
                    outcome => Attempt::Tried(outcome),
                }
            }
            (Ok(()), _) => Attempt::Withdrawn,
            (Err(attempt), _) => attempt,
        };
        if !matches!(attempt, Attempt::Tried(_)) {
            // Without QUIT: a mail that has begun ends with its connection.
            *open = None;
        }
        attempt
    }

    /// Does everything that may be abandoned: waits, connects, and sends the envelope.
    async fn begin<'a>(
        &'a self,
        open: &mut Option<OpenConnection<'a>>,
        job: &mut Job,
    ) -> Result<(), Attempt> {
        let trying = self.begin_trying();
        if let Some(pace) = &self.pace {
            pace.wait().await;
        }
        let open = if let Some(open) = open {
            open
        } else {
            let connection = self.connect().await.map_err(Attempt::NoConnection)?;
            open.insert(OpenConnection {
                connection,
                sent: 0,
            })
        };
        if !job.is_started {
            let worker = self.number;
            // Fails only if the pass is over; then there is no permit either.
            let _ = self.events.send(Event::Starting { worker });
        }
        match open.connection.begin(&job.ready.message).await {
            Ok(()) => {}
            Err(Outcome::Deferred(fault) | Outcome::ServerFault(fault))
                if fault.is_about_connections() =>
            {
                return Err(Attempt::NoConnection(fault));
            }
            Err(outcome) => return Err(Attempt::Tried(outcome)),
        }
        drop(trying);
        (&mut job.permit).await.map_err(|_| Attempt::Withdrawn)
    }

    fn begin_trying(&self) -> Trying<'_> {
        self.mailer.lock_attempts().in_progress += 1;
        Trying(self)
    }

    async fn connect(&self) -> Result<Connection<'_>, Fault> {
        let mut tries = 1;
        loop {
            match self.mailer.transport.open().await {
                // Servers limit logins, so that another at once would make it worse.
                Err(fault)
                    if tries < MAX_CONNECT_ATTEMPTS
                        && fault.stage != Stage::Auth
                        && fault.code.is_none_or(|code| code < 500) =>
                {
                    tokio::time::sleep(CONNECT_RETRY_INTERVAL * tries).await;
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    async fn close_if_used_up(&self, open: &mut Option<OpenConnection<'_>>) {
        let limit = self.messages_per_connection;
        let is_used_up = |open: &mut OpenConnection<'_>| {
            limit > 0 && open.sent >= limit || !open.connection.is_usable()
        };
        if let Some(open) = open.take_if(is_used_up) {
            open.connection.close().await;
        }
    }
}

pub(super) struct Workers {
    jobs: Vec<mpsc::Sender<Job>>,
    tasks: JoinSet<()>,
}

impl Workers {
    pub fn new(
        mailer: &Arc<Mailer>,
        settings: &Delivery,
        clock: &Clock,
        stop: &CancellationToken,
        ((count, events), pace): ((usize, &mpsc::UnboundedSender<Event>), &Option<Arc<Pace>>),
    ) -> Self {
        let mut jobs = Vec::new();
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let (job_in, job_out) = mpsc::channel(1);
            let worker = Worker {
                number,
                mailer: Arc::clone(mailer),
                clock: clock.clone(),
                pace: pace.clone(),
                messages_per_connection: settings.messages_per_connection,
                stop: stop.clone(),
                events: events.clone(),
            };
            tasks.spawn(worker.run(job_out));
            jobs.push(job_in);
        }
        Self { jobs, tasks }
    }

    pub async fn send(&self, worker: usize, job: Job) {
        // If the worker has died, `wait_for_failure` ends the pass.
        let _ = self.jobs[worker].send(job).await;
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
