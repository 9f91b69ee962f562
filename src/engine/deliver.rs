//! Deliver: claims mails under a lease, sends them outside any transaction, and records the outcome in another.
//!
//! ```text
//! claim ──► ready ──► worker ──► outcome ──► verdict ──► record ──► the worker's next mail
//! (lease)  (rendered) (connection)                      (one statement for all outcomes)
//! ```
//!
//! One task writes. It records all new outcomes and the starts of the next mails in one transaction, so with more
//! workers more mails share a commit. A worker gets its next mail only when its last one is on disk, so a crash
//! leaves at most one mail per connection with an unknown outcome.

mod claim;
mod record;
mod worker;

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::notify::fault::{Outcome, Stage};
use crate::store::Verdict;

use super::common::{Error, OnProgress, Report};
use super::upstream::WatchedSource;

use claim::{Claimed, Claimer, Composer};
use record::{Batch, RELAY_PROBATION, RelayHealth, Suspect};
use worker::{Event, Ready, Workers};

pub(super) use record::Recorder;
pub use worker::Mailer;

/// The most that rendered mails take in memory, roughly.
const MAX_READY_BYTES: usize = 4 * 1024 * 1024;

/// The assumed size of a mail until the first is rendered.
const INITIAL_MAIL_BYTES: usize = 32 * 1024;

pub(super) struct Deliver<'a> {
    pub recorder: Recorder<'a>,
    pub mailer: &'a Arc<Mailer>,
    pub sources: &'a [WatchedSource],
    pub on_progress: OnProgress<'a>,
}

impl Deliver<'_> {
    /// Tries every mail that is due once.
    pub async fn run(&self, stop: &CancellationToken, report: &mut Report) -> Result<(), Error> {
        let is_on_probation = self.recorder.recover(report).await?;
        Pass::new(self, is_on_probation).run(stop, report).await
    }
}

/// The state of one pass. Only its own task uses it.
struct Pass<'a> {
    job: &'a Deliver<'a>,
    recorder: &'a Recorder<'a>,
    claimer: Claimer,
    relay: RelayHealth,
    was_on_probation: bool,
    ready: VecDeque<Ready>,
    /// Average size of the mails of the last claim, in bytes.
    mail_size: usize,
    idle: Vec<usize>,
    /// Refusals that wait for a verdict on the server.
    suspects: Vec<Suspect>,
    claiming: Option<JoinHandle<Result<Claimed, Error>>>,
    is_exhausted: bool,
    in_flight: usize,
    last_fault: Option<String>,
    /// Ends the pass once the mails in flight are recorded.
    failure: Option<Error>,
}

impl<'a> Pass<'a> {
    /// `is_on_probation` is the last pass's verdict on the server.
    fn new(job: &'a Deliver<'a>, is_on_probation: bool) -> Self {
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
            claimer: Claimer {
                store: recorder.store.clone(),
                mailer: Arc::clone(job.mailer),
                composer: Arc::new(composer),
                backoff: settings.backoff,
            },
            relay: RelayHealth::new(is_on_probation),
            was_on_probation: is_on_probation,
            ready: VecDeque::new(),
            mail_size: INITIAL_MAIL_BYTES,
            idle: (0..settings.connections).rev().collect(),
            suspects: Vec::new(),
            claiming: None,
            is_exhausted: false,
            in_flight: 0,
            last_fault: None,
            failure: None,
        }
    }

    /// Runs until no mail is due, the server is down, or `stop` is cancelled; mails in flight are finished.
    async fn run(mut self, stop: &CancellationToken, report: &mut Report) -> Result<(), Error> {
        let (events_in, mut events) = mpsc::unbounded_channel();
        let mut workers = Workers::new(self.job.mailer, self.recorder.settings, &events_in);
        let third = self.recorder.settings.lease_third();
        let mut renew_at = Instant::now() + third;
        loop {
            // First of all: even with a constant stream of outcomes, the lease on the mail of a slow
            // worker must be renewed.
            if Instant::now() >= renew_at {
                self.recorder.renew_leases().await;
                renew_at = Instant::now() + third;
            }
            self.claim_ahead(stop);
            (self.job.on_progress)();
            let mut batch = Batch::default();
            self.handle_events(&mut events, &mut batch, report);
            let mut starting = self.start_next(stop, &mut batch);
            if starting.is_empty() && batch.records.is_empty() && batch.failed.is_empty() {
                if self.is_done() {
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
                starting = self.start_next(stop, &mut batch);
            }
            if stop.is_cancelled() || self.relay.is_down {
                for untouched in self.ready.drain(..) {
                    batch.record(&untouched.mail, Verdict::Returned, None);
                }
            }
            let lost = self.recorder.record_batch(batch, report).await?;
            for (worker, ready) in starting {
                if lost.contains(&ready.mail.id) {
                    self.idle.push(worker);
                    self.in_flight -= 1;
                } else {
                    workers.send(worker, ready).await;
                }
            }
        }
        self.close(report).await?;
        workers.shut_down().await;
        self.failure.map_or(Ok(()), Err)
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
        let wants_more =
            self.ready.len() < target / 2 && !self.is_exhausted && self.claiming.is_none();
        if wants_more && !self.relay.is_down && !stop.is_cancelled() {
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
        let connections = self.recorder.settings.connections;
        let fitting = (MAX_READY_BYTES / self.mail_size).max(connections * 2);
        (connections * 4).clamp(128, 256).min(fitting)
    }

    /// Pairs idle workers with ready mails. Each start is recorded before the mail is handed over.
    fn start_next(&mut self, stop: &CancellationToken, batch: &mut Batch) -> Vec<(usize, Ready)> {
        let mut starting = Vec::new();
        while !stop.is_cancelled() && !self.relay.is_down && !self.ready.is_empty() {
            let Some(worker) = self.idle.pop() else { break };
            let Some(ready) = self.ready.pop_front() else {
                break;
            };
            batch.record(&ready.mail, Verdict::Sending, None);
            self.in_flight += 1;
            starting.push((worker, ready));
        }
        starting
    }

    fn is_done(&self) -> bool {
        self.in_flight == 0 && self.claiming.is_none() && self.ready.is_empty()
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
                batch.records.extend(claimed.settled);
            }
            Err(error) => {
                self.is_exhausted = true;
                self.failure = Some(error);
            }
        }
    }

    fn handle_event(&mut self, event: Event, batch: &mut Batch, report: &mut Report) {
        let Event {
            worker,
            ready: Ready { mail, .. },
            outcome,
        } = event;
        self.idle.push(worker);
        self.in_flight -= 1;
        self.job.mailer.count(&outcome);
        if let Some(fault) = outcome.fault() {
            tracing::debug!(mail.id = %mail.id, "mail {} was not sent: {fault}", mail.id);
        }
        let settings = self.recorder.settings;
        let now = self.recorder.clock.now();
        let (verdict, fault) = match outcome {
            Outcome::Sent { .. } => {
                self.relay.record_reply(false);
                report.mails_sent += 1;
                (Verdict::Sent, None)
            }
            Outcome::Deferred(fault) => {
                if matches!(fault.stage, Stage::Rcpt | Stage::Data | Stage::Final) {
                    self.relay.record_reply(false);
                }
                (settings.verdict_if_deferred(&mail, now), Some(fault))
            }
            Outcome::ServerFault(fault) => {
                self.relay.record_fault();
                self.last_fault = Some(fault.to_string());
                (settings.verdict_if_deferred(&mail, now), Some(fault))
            }
            Outcome::Unknown(fault) => {
                self.relay.record_reply(false);
                (settings.verdict_if_unknown(&mail, now), Some(fault))
            }
            Outcome::Refused {
                fault,
                dead_address,
            } => {
                let suspect = Suspect {
                    mail,
                    reason: fault.to_string(),
                    is_dead: dead_address,
                };
                return self.handle_refusal(suspect, fault.stage, batch, report);
            }
        };
        batch.add(mail, verdict, fault.map(|fault| fault.to_string()), report);
    }

    /// A refusal at RCPT may be the server's fault; a refusal of the content is not.
    fn handle_refusal(
        &mut self,
        suspect: Suspect,
        stage: Stage,
        batch: &mut Batch,
        report: &mut Report,
    ) {
        let is_at_rcpt = stage == Stage::Rcpt;
        self.relay.record_reply(is_at_rcpt);
        if is_at_rcpt {
            self.suspects.push(suspect);
        } else {
            batch.failed.push(suspect);
        }
        if self.relay.is_refusing() || self.relay.has_enough_replies() {
            self.judge_suspects(batch, report);
        }
    }

    /// Blames refusals on the addresses, or on the server if it refused most of enough recipients. Called with enough
    /// recipients or at the end of the pass.
    fn judge_suspects(&mut self, batch: &mut Batch, report: &mut Report) {
        if self.relay.is_refusing() {
            let now = self.recorder.clock.now();
            for Suspect { mail, reason, .. } in self.suspects.drain(..) {
                let verdict_reason =
                    format!("most recipients are refused, so the server is to blame: {reason}");
                self.last_fault = Some(reason);
                match self.recorder.settings.verdict_if_deferred(&mail, now) {
                    Verdict::Failed => batch.failed.push(Suspect {
                        mail,
                        reason: verdict_reason,
                        is_dead: false,
                    }),
                    verdict => batch.add(mail, verdict, Some(verdict_reason), report),
                }
            }
        } else {
            batch.failed.append(&mut self.suspects);
        }
    }

    /// Decides about the remaining refusals and reports an unusable server.
    async fn close(&mut self, report: &mut Report) -> Result<(), Error> {
        let mut batch = Batch::default();
        self.judge_suspects(&mut batch, report);
        self.recorder.record_batch(batch, report).await?;
        let is_on_probation = self.relay.is_refusing() || self.relay.is_on_probation;
        if is_on_probation != self.was_on_probation {
            let mut tx = self.recorder.store.begin().await?;
            tx.set_setting(RELAY_PROBATION, if is_on_probation { "yes" } else { "no" })
                .await?;
            tx.commit().await?;
        }
        if self.relay.is_unusable() {
            report.relay_down = true;
            let last_fault = self.last_fault.as_deref().unwrap_or_default();
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
