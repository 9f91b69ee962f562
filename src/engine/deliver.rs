//! Deliver: claims mails under a lease, sends them outside any transaction, and records the outcome in another.
//!
//! ```text
//! claim ──► ready ──► worker: connect, rate, envelope ──► text ──► outcome ──► record ──► the worker's next mail
//! (lease)  (rendered)                     │               ▲
//!                                         └► record start ┘
//! ```
//!
//! One task writes. It records all new outcomes and the starts of the next mails in one transaction, so with more
//! workers more mails share a commit. A worker sends the text of a mail only when its start and the outcome of the
//! worker's last mail are on disk, so a crash leaves at most one mail per connection with an unknown outcome.

mod claim;
mod pace;
mod pool;
mod record;
mod refusals;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::notify::fault::{AddressRefusal, Fault, Outcome, Stage};
use crate::store::{ClaimedMail, RefusedAddress, Verdict};

use super::common::{Error, OnProgress, Report};
use super::upstream::WatchedSource;

use claim::{Claimed, Claimer, Composer};
use pace::Pace;
use pool::{Pool, Refused};
use record::Batch;
use refusals::{Refusals, RelayHealth};
use worker::{Attempt, Event, Ready, Workers};

pub(super) use record::Recorder;
pub use worker::Mailer;

/// The most that rendered mails take in memory, roughly.
const MAX_READY_BYTES: usize = 4 * 1024 * 1024;

const STORE_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How long a command waits for an unreachable store: a mail that was sent but not recorded would be sent again, one
/// that only was to start would not. The daemon waits as long as it lives.
const MAX_WAIT_TO_RECORD_SENT: Duration = Duration::from_mins(10);
const MAX_WAIT_TO_RECORD_START: Duration = Duration::from_secs(30);

/// The assumed size of a mail until the first is rendered.
const INITIAL_MAIL_BYTES: usize = 32 * 1024;

pub(super) struct Deliver<'a> {
    pub recorder: Recorder<'a>,
    pub mailer: &'a Arc<Mailer>,
    pub sources: &'a [WatchedSource],
    /// Whether a pass waits for an unreachable store without a limit.
    pub is_patient: bool,
    pub on_progress: OnProgress<'a>,
}

impl Deliver<'_> {
    /// Tries every mail that is due once.
    pub async fn run(&self, stop: &CancellationToken, report: &mut Report) -> Result<(), Error> {
        let (connections, refusals) = self.recorder.recover(report).await?;
        Pass::new(self, connections, refusals)
            .run(stop, report)
            .await
    }
}

/// The state of one pass. Only its own task uses it.
struct Pass<'a> {
    job: &'a Deliver<'a>,
    recorder: &'a Recorder<'a>,
    started_at: DateTime<Utc>,
    claimer: Claimer,
    pool: Pool,
    relay: RelayHealth,
    refusals: Refusals,
    ready: VecDeque<Ready>,
    /// Average size of the mails of the last claim, in bytes.
    mail_size: usize,
    claiming: Option<JoinHandle<Result<Claimed, Error>>>,
    is_exhausted: bool,
    /// A mail was split, so there is more to claim.
    has_split: bool,
    /// Since when the store cannot record. Meanwhile no further mail is claimed or started.
    store_away_since: Option<Instant>,
    /// Ends the pass once the mails in flight are recorded.
    failure: Option<Error>,
}

impl<'a> Pass<'a> {
    fn new(job: &'a Deliver<'a>, connections: usize, refusals: Refusals) -> Self {
        let recorder = &job.recorder;
        let settings = recorder.settings;
        let composer = Composer {
            zone: recorder.policy.zone,
            sources: job
                .sources
                .iter()
                .map(|watched| (watched.terms.name.clone(), Arc::clone(&watched.source)))
                .collect(),
        };
        Self {
            job,
            recorder,
            started_at: recorder.clock.now(),
            claimer: Claimer {
                store: recorder.store.clone(),
                mailer: Arc::clone(job.mailer),
                composer: Arc::new(composer),
                backoff: settings.backoff,
            },
            pool: Pool::new(connections, settings.mails_per_second.is_some()),
            relay: RelayHealth::default(),
            refusals,
            ready: VecDeque::new(),
            mail_size: INITIAL_MAIL_BYTES,
            claiming: None,
            is_exhausted: false,
            has_split: false,
            store_away_since: None,
            failure: None,
        }
    }

    /// Runs until no mail is due, the server is down, or `stop` is cancelled. Mails whose text is being sent are
    /// finished.
    async fn run(mut self, stop: &CancellationToken, report: &mut Report) -> Result<(), Error> {
        let (events_in, mut events) = mpsc::unbounded_channel();
        let Recorder {
            settings, clock, ..
        } = self.recorder;
        let size = (self.pool.size(), &events_in);
        let rate = self.recorder.load_rate().await?;
        let pace = rate.map(|rate| Arc::new(Pace::new(rate)));
        let mut workers = Workers::new(self.job.mailer, settings, clock, stop, (size, &pace));
        let third = settings.lease_third();
        let mut renew_at = Instant::now() + third;
        let mut batch = Batch::default();
        loop {
            // First of all: even with a constant stream of outcomes, the lease on the mail of a slow
            // worker must be renewed.
            if Instant::now() >= renew_at {
                let lease_end = self.recorder.lease_end();
                let renewed = self.recorder.renew_leases().await;
                self.pool.extend_leases(&renewed, lease_end);
                if let Some(pace) = &pace {
                    self.recorder.adjust_pace(pace).await;
                }
                renew_at = Instant::now() + third;
            }
            self.claim_ahead(stop);
            // A claim may hang; what workers wait for is bounded by the time-outs of SMTP, or by the rate.
            if self.claiming.is_none() {
                (self.job.on_progress)();
            }
            self.handle_events(&mut events, &mut batch, report);
            self.start_next(stop, &workers, &mut batch).await;
            if batch.is_empty() {
                if self.is_done(stop) {
                    break;
                }
                tokio::select! {
                    Some(event) = events.recv() => self.handle_event(event, &mut batch, report),
                    claimed = join_claim(&mut self.claiming) => self.add_claimed(claimed, &mut batch),
                    () = tokio::time::sleep_until(renew_at) => {}
                    died = workers.wait_for_failure() => return Err(died),
                    () = stop.cancelled(), if !self.ready.is_empty() => {}
                }
                // The outcome of one mail and the start of the next share a statement.
                self.handle_events(&mut events, &mut batch, report);
                self.start_next(stop, &workers, &mut batch).await;
            }
            if stop.is_cancelled() || self.relay.is_down {
                for untouched in self.ready.drain(..) {
                    batch.record(untouched.mail.id, Verdict::Returned, None);
                }
            }
            self.record(&mut batch, report).await?;
        }
        self.close(report).await?;
        workers.shut_down().await;
        self.failure.map_or(Ok(()), Err)
    }

    /// Records a batch, lets the mails go whose start it contains, and empties it. While the store is unreachable, the
    /// batch waits for the next call and grows by the mails that end meanwhile. As long as this process has not tried
    /// to record them, no other can know that they are to be sent again, because it has the same store.
    async fn record(&mut self, batch: &mut Batch, report: &mut Report) -> Result<(), Error> {
        let lease_end = self.recorder.lease_end();
        let recorded = self
            .recorder
            .record_batch(batch, self.started_at, report)
            .await;
        // A store that answers with an error, or that is being looked for, does not make the pass hang.
        let is_progress = match &recorded {
            Ok(_) => !batch.is_empty(),
            Err(error) => !error.is_time_out(),
        };
        if is_progress {
            (self.job.on_progress)();
        }
        match recorded {
            Ok(lost) => {
                self.pool.permit(&lost, lease_end);
                *batch = Batch::default();
                self.store_away_since = None;
            }
            Err(error) if error.may_pass() && self.may_wait_for_store(batch) => {
                tracing::debug!("outcomes of mails cannot be recorded yet: {error}");
                tokio::time::sleep(STORE_RETRY_INTERVAL).await;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn may_wait_for_store(&mut self, batch: &Batch) -> bool {
        let since = *self.store_away_since.get_or_insert_with(Instant::now);
        let limit = if batch.has_outcome() || self.pool.is_sending() {
            MAX_WAIT_TO_RECORD_SENT
        } else {
            MAX_WAIT_TO_RECORD_START
        };
        self.job.is_patient || since.elapsed() < limit
    }

    fn handle_events(
        &mut self,
        events: &mut mpsc::UnboundedReceiver<Event>,
        batch: &mut Batch,
        report: &mut Report,
    ) {
        while let Ok(event) = events.try_recv() {
            self.handle_event(event, batch, report);
        }
    }

    /// Keeps rendered mails ready, by claiming concurrently with the sending.
    fn claim_ahead(&mut self, stop: &CancellationToken) {
        let target = self.ready_target();
        let is_low = self.ready.len() < target / 2 && self.claiming.is_none();
        if is_low && self.store_away_since.is_none() && self.may_claim(stop) {
            self.has_split = false;
            let now = self.recorder.clock.now();
            let limit = i64::try_from(target - self.ready.len()).unwrap_or(1);
            let claim = self
                .claimer
                .clone()
                .claim(self.recorder.lease_from(now), now, limit);
            self.claiming = Some(tokio::spawn(claim));
        }
    }

    /// How many mails to keep ready: enough for all connections, within [`MAX_READY_BYTES`].
    fn ready_target(&self) -> usize {
        let connections = self.pool.size();
        let fitting = (MAX_READY_BYTES / self.mail_size).max(connections * 2);
        (connections * 4).clamp(128, 256).min(fitting)
    }

    /// Gives ready mails to idle workers. They send no text before the start is recorded.
    async fn start_next(&mut self, stop: &CancellationToken, workers: &Workers, batch: &mut Batch) {
        let may_start = !stop.is_cancelled() && !self.relay.is_down;
        while may_start && self.store_away_since.is_none() && !self.ready.is_empty() {
            let Some(worker) = self.pool.take_idle() else {
                break;
            };
            let Some(ready) = self.ready.pop_front() else {
                break;
            };
            let mail = ready.mail.id;
            let job = self.pool.assign(worker, ready, self.recorder.lease_end());
            if job.is_started {
                batch.record(mail, Verdict::Sending, None);
            }
            workers.send(worker, job).await;
        }
    }

    fn may_claim(&self, stop: &CancellationToken) -> bool {
        let has_more = !self.is_exhausted || self.has_split;
        has_more && !self.relay.is_down && !stop.is_cancelled()
    }

    fn is_done(&self, stop: &CancellationToken) -> bool {
        let is_idle = !self.pool.is_in_use() && self.claiming.is_none() && self.ready.is_empty();
        is_idle && !self.may_claim(stop)
    }

    /// A failed claim ends the pass, after the mails in flight are recorded.
    fn add_claimed(&mut self, claimed: Result<Claimed, Error>, batch: &mut Batch) {
        match claimed {
            Ok(claimed) => {
                self.is_exhausted = !claimed.is_full;
                let sizes = claimed.ready.iter().map(|ready| ready.message.bytes.len());
                self.mail_size = match claimed.ready.len() {
                    0 => self.mail_size,
                    count => (sizes.sum::<usize>() / count).max(1),
                };
                self.ready.extend(claimed.ready);
                batch.extend(claimed.settled);
            }
            Err(error) => {
                self.is_exhausted = true;
                self.has_split = false;
                self.failure = Some(error);
            }
        }
    }

    fn handle_event(&mut self, event: Event, batch: &mut Batch, report: &mut Report) {
        match event {
            Event::Starting { worker } => {
                if let Some(mail) = self.pool.start(worker) {
                    batch.record(mail, Verdict::Sending, None);
                }
            }
            Event::Ended {
                worker,
                ready,
                attempt,
                is_connected,
            } => match attempt {
                Attempt::Tried(outcome) => {
                    self.pool.release(worker, is_connected);
                    self.handle_outcome(ready, outcome, batch, report);
                }
                Attempt::NoConnection(fault) => self.pool.turn_away(worker, ready, fault),
                Attempt::Withdrawn => {
                    self.pool.release(worker, is_connected);
                    batch.record(ready.mail.id, Verdict::Returned, None);
                }
            },
        }
        match self.pool.judge_refused() {
            None => {}
            Some(Refused::Surplus(connections)) => {
                for one in connections {
                    if one.is_started {
                        batch.record(one.ready.mail.id, Verdict::Kept, None);
                    }
                    self.ready.push_front(one.ready);
                }
            }
            Some(Refused::All(connections)) => {
                for one in connections {
                    self.handle_outcome(one.ready, Outcome::ServerFault(one.fault), batch, report);
                }
                self.relay.is_down = true;
            }
        }
    }

    fn handle_outcome(
        &mut self,
        ready: Ready,
        outcome: Outcome,
        batch: &mut Batch,
        report: &mut Report,
    ) {
        self.job.mailer.count(&outcome);
        let Ready { mail, notices, .. } = ready;
        if let Some(fault) = outcome.fault() {
            tracing::debug!(mail.id = %mail.id, "mail {} was not sent: {fault}", mail.id);
        } else {
            tracing::debug!(mail.id = %mail.id, "mail {} was sent", mail.id);
        }
        let settings = self.recorder.settings;
        let now = self.recorder.clock.now();
        let (verdict, fault) = match outcome {
            Outcome::Sent { .. } => {
                self.record_accepted(&mail, batch);
                report.mails_sent += 1;
                (Verdict::Sent, None)
            }
            Outcome::Deferred(fault) => {
                match fault.stage {
                    Stage::Data | Stage::Final => self.record_accepted(&mail, batch),
                    Stage::Rcpt => self.relay.record_reply(),
                    _ => {}
                }
                (settings.verdict_if_deferred(&mail, now), Some(fault))
            }
            Outcome::ServerFault(fault) => {
                self.relay.record_fault(fault.to_string());
                (settings.verdict_if_deferred(&mail, now), Some(fault))
            }
            Outcome::Unknown(fault) => {
                self.record_accepted(&mail, batch);
                (settings.verdict_if_unknown(&mail, now), Some(fault))
            }
            Outcome::Refused(fault) => {
                return self.handle_refusal((mail, notices), &fault, batch, report);
            }
        };
        batch.add(mail, verdict, fault.map(|fault| fault.to_string()), report);
    }

    fn record_accepted(&mut self, mail: &ClaimedMail, batch: &mut Batch) {
        self.relay.record_accepted();
        if self.refusals.record_accepted(&mail.recipient) {
            batch.accept_again(&mail.recipient);
        }
    }

    /// Only a few codes at RCPT are about the address. Any other refusal is about the sender, a policy, a quota or the
    /// server, which an administrator or time can fix, so the mail waits.
    fn handle_refusal(
        &mut self,
        (mail, notices): (ClaimedMail, usize),
        fault: &Fault,
        batch: &mut Batch,
        report: &mut Report,
    ) {
        let now = self.recorder.clock.now();
        let reason = fault.to_string();
        if fault.stage == Stage::Rcpt {
            self.refusals.record_refused(&mail.recipient);
        }
        if let Some(kind) = fault.address_refusal() {
            // Without a code, the server was not asked: it cannot take such an address, but others.
            match fault.code {
                Some(_) => self.relay.record_refusal(reason.clone()),
                None => self.relay.record_reply(),
            }
            if self.refusals.is_dead(&mail.recipient) {
                return batch.fail(mail, reason, report);
            }
            let refused = RefusedAddress {
                address: mail.recipient.clone(),
                code: fault.enhanced_code(),
                is_doubtful: kind == AddressRefusal::Doubtful,
                reason: reason.clone(),
            };
            batch.refuse_address(mail.clone(), refused);
        } else if fault.is_about_size() && notices > 1 {
            self.has_split = true;
            return batch.split(&mail, reason, now);
        } else {
            self.relay.record_refusal(reason.clone());
        }
        let verdict = self.recorder.settings.verdict_if_deferred(&mail, now);
        batch.add(mail, verdict, Some(reason), report);
    }

    /// Decides about refused addresses and connections, and reports an unusable server.
    async fn close(&mut self, report: &mut Report) -> Result<(), Error> {
        if self.refusals.has_any() {
            self.recorder
                .judge_addresses(&self.refusals, self.started_at, report)
                .await?;
        }
        if let Some(limit) = self.pool.limit() {
            self.recorder.record_connection_limit(limit).await?;
        }
        if self.relay.is_unusable() {
            report.relay_down = true;
            let last_fault = self.relay.last_fault.as_deref().unwrap_or_default();
            tracing::warn!("the mail server could not be used: {last_fault}");
        }
        Ok(())
    }
}

/// Waits for the running claim; never returns without one.
async fn join_claim(
    claiming: &mut Option<JoinHandle<Result<Claimed, Error>>>,
) -> Result<Claimed, Error> {
    let Some(handle) = claiming else {
        return std::future::pending().await;
    };
    let outcome = handle.await;
    *claiming = None;
    outcome.unwrap_or_else(|error| Err(Error::Panicked(error.to_string())))
}
