//! A pass: hands mails to workers and records what becomes of them, until none is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::notify::fault::{Outcome, Stage};
use crate::store::{ClaimedMail, Recorded, Verdict};

use super::super::{Engine, Error, Report};
use super::claim::{Claimed, Claimer, Ready};
use super::compose::Composer;
use super::verdict::{self, Opinion, Patience};
use super::worker::Event;
use super::workers::Workers;

/// The small fact that says that the relay refused most recipients when it was last tried.
pub(super) const PROBATION: &str = "relay.probation";

/// So many bytes of rendered mails are kept ready.
const STOCK_SIZE: usize = 4 * 1024 * 1024;

/// How long a mail is taken to be, in bytes, before the first is rendered.
const USUAL_SIZE: usize = 32 * 1024;

/// What one pass has in hand. Only its own task touches it.
pub(super) struct Pass<'a> {
    pub(super) engine: &'a Engine,
    claimer: Claimer,
    patience: Patience,
    opinion: Opinion,
    was_on_probation: bool,
    ready: VecDeque<Ready>,
    /// How long the mails of the last claim are, in bytes, one by the other.
    mail_size: usize,
    idle: Vec<usize>,
    /// Refusals that wait for a verdict on the relay.
    suspects: Vec<Suspect>,
    claiming: Option<JoinHandle<Result<Claimed, Error>>>,
    is_exhausted: bool,
    in_flight: usize,
    /// What the relay said when it failed last.
    trouble: Option<String>,
    /// Why the pass ends early, after what is in flight.
    failure: Option<Error>,
}

/// A mail whose recipient was refused.
pub(super) struct Suspect {
    pub mail: ClaimedMail,
    pub reason: String,
    pub is_dead: bool,
}

/// What is to be written next.
#[derive(Default)]
pub(super) struct Batch {
    pub records: Vec<Recorded>,
    /// Mails that failed for good, with the reason and whether the mailbox is dead.
    pub failed: Vec<Suspect>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.failed.is_empty()
    }
}

impl<'a> Pass<'a> {
    /// A pass; `is_on_probation` is what the last one thought of the relay.
    pub fn new(engine: &'a Engine, is_on_probation: bool) -> Self {
        let Engine {
            store,
            post,
            settings,
            policy,
            sources,
            ..
        } = engine;
        let sources = sources.iter();
        let composer = Composer {
            zone: policy.zone,
            sources: sources
                .map(|watched| (watched.name.clone(), Arc::clone(&watched.source)))
                .collect(),
        };
        Self {
            engine,
            claimer: Claimer {
                store: store.clone(),
                post: Arc::clone(post),
                composer: Arc::new(composer),
                backoff: settings.backoff,
            },
            patience: Patience {
                backoff: settings.backoff,
                give_up: settings.give_up,
            },
            opinion: Opinion::before(is_on_probation),
            was_on_probation: is_on_probation,
            ready: VecDeque::new(),
            mail_size: USUAL_SIZE,
            idle: (0..settings.connections).rev().collect(),
            suspects: Vec::new(),
            claiming: None,
            is_exhausted: false,
            in_flight: 0,
            trouble: None,
            failure: None,
        }
    }

    /// Works until nothing is due, the relay is down, or `stop`; what is in flight is finished.
    pub async fn run(mut self, stop: &CancellationToken, report: &mut Report) -> Result<(), Error> {
        let (events_in, mut events) = mpsc::unbounded_channel();
        let mut workers = Workers::new(self.engine, &events_in);
        let third = self.engine.settings.lease / 3;
        let third = third
            .to_std()
            .unwrap_or_default()
            .max(Duration::from_millis(10));
        let mut renew_at = Instant::now() + third;
        loop {
            // Before anything else: a pass that never runs out of outcomes must not forget the mail
            // of a worker that waits long for its server.
            if Instant::now() >= renew_at {
                self.renew().await;
                renew_at = Instant::now() + third;
            }
            self.claim_ahead(stop);
            (self.engine.on_progress)();
            let mut batch = Batch::default();
            self.take_all(&mut events, &mut batch, report);
            let mut starting = self.start_next(stop, &mut batch);
            if starting.is_empty() && batch.is_empty() {
                if self.is_over() {
                    break;
                }
                tokio::select! {
                    Some(event) = events.recv() => self.take(event, &mut batch, report),
                    claimed = finished(&mut self.claiming) => self.take_claimed(claimed, &mut batch),
                    () = tokio::time::sleep_until(renew_at) => {}
                    died = workers.died() => return Err(died),
                    () = stop.cancelled(), if !self.ready.is_empty() => {}
                }
                // The end of one mail and the start of the next share a statement.
                self.take_all(&mut events, &mut batch, report);
                starting = self.start_next(stop, &mut batch);
            }
            if stop.is_cancelled() || self.opinion.is_down {
                let ready = self.ready.drain(..);
                batch
                    .records
                    .extend(ready.map(|ready| untouched(&ready.mail)));
            }
            let lost = self.write(batch, report).await?;
            for (worker, ready) in starting {
                if lost.contains(&ready.mail.id) {
                    self.idle.push(worker);
                    self.in_flight -= 1;
                } else {
                    workers.hand(worker, ready).await;
                }
            }
        }
        self.close(report).await?;
        workers.dismiss().await;
        self.failure.map_or(Ok(()), Err)
    }

    /// Judges every outcome that has come in.
    fn take_all(
        &mut self,
        events: &mut mpsc::UnboundedReceiver<Event>,
        batch: &mut Batch,
        report: &mut Report,
    ) {
        while let Ok(event) = events.try_recv() {
            self.take(event, batch, report);
        }
    }

    /// Keeps a stock of rendered mails, fetched beside the sending.
    fn claim_ahead(&mut self, stop: &CancellationToken) {
        let stock = self.stock();
        let wants_more =
            self.ready.len() < stock / 2 && !self.is_exhausted && self.claiming.is_none();
        if wants_more && !self.opinion.is_down && !stop.is_cancelled() {
            let now = self.engine.now();
            let limit = i64::try_from(stock - self.ready.len()).unwrap_or(1);
            let claim = self
                .claimer
                .clone()
                .claim(self.engine.lease_from(now), now, limit);
            self.claiming = Some(tokio::spawn(claim));
        }
    }

    /// How many mails are kept ready: enough for all connections, but long ones take no more memory than
    /// short ones.
    fn stock(&self) -> usize {
        let connections = self.engine.settings.connections;
        let fitting = (STOCK_SIZE / self.mail_size).max(connections * 2);
        (connections * 4).clamp(128, 256).min(fitting)
    }

    /// Pairs idle workers with ready mails; each start is written before it is made.
    fn start_next(&mut self, stop: &CancellationToken, batch: &mut Batch) -> Vec<(usize, Ready)> {
        let mut starting = Vec::new();
        while !stop.is_cancelled() && !self.opinion.is_down && !self.ready.is_empty() {
            let Some(worker) = self.idle.pop() else { break };
            let Some(ready) = self.ready.pop_front() else {
                break;
            };
            batch.records.push(Recorded {
                id: ready.mail.id,
                verdict: Verdict::Sending,
                reason: None,
            });
            self.in_flight += 1;
            starting.push((worker, ready));
        }
        starting
    }

    fn is_over(&self) -> bool {
        self.in_flight == 0 && self.claiming.is_none() && self.ready.is_empty()
    }

    /// A claim that failed ends the pass, but not before what is in flight is recorded.
    fn take_claimed(&mut self, claimed: Result<Claimed, Error>, batch: &mut Batch) {
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

    /// Judges one outcome.
    fn take(&mut self, event: Event, batch: &mut Batch, report: &mut Report) {
        let Event {
            worker,
            ready: Ready { mail, .. },
            outcome,
        } = event;
        self.idle.push(worker);
        self.in_flight -= 1;
        self.engine.post.outcomes.count(&outcome);
        if let Some(fault) = outcome.fault() {
            tracing::debug!(mail.id = %mail.id, "mail {} was not sent: {fault}", mail.id);
        }
        let now = self.engine.now();
        let (verdict, fault) = match outcome {
            Outcome::Sent { .. } => {
                self.opinion.heard(false);
                report.mails_sent += 1;
                (Verdict::Sent, None)
            }
            Outcome::Deferred(fault) => {
                if matches!(fault.stage, Stage::Rcpt | Stage::Data | Stage::Final) {
                    self.opinion.heard(false);
                }
                (self.patience.again(&mail, now), Some(fault))
            }
            Outcome::ServerFault(fault) => {
                self.opinion.strike();
                self.trouble = Some(fault.to_string());
                (self.patience.again(&mail, now), Some(fault))
            }
            Outcome::Unknown(fault) => {
                self.opinion.heard(false);
                (
                    verdict::in_doubt(&mail, self.patience.backoff, now),
                    Some(fault),
                )
            }
            Outcome::Refused {
                fault,
                dead_address,
            } => {
                self.refused(
                    Suspect {
                        mail,
                        reason: fault.to_string(),
                        is_dead: dead_address,
                    },
                    fault.stage,
                    batch,
                    report,
                );
                return;
            }
        };
        let reason = fault.map(|fault| fault.to_string());
        match verdict {
            Verdict::Failed => {
                let reason = format!("given up: {}", reason.unwrap_or_default());
                batch.failed.push(Suspect {
                    mail,
                    reason,
                    is_dead: false,
                });
                return;
            }
            Verdict::Again(_) => report.mails_deferred += 1,
            Verdict::Doubtful(_) => report.mails_unknown += 1,
            Verdict::Sending | Verdict::Sent | Verdict::Cancelled | Verdict::Untouched => {}
        }
        batch.records.push(Recorded {
            id: mail.id,
            verdict,
            reason,
        });
    }

    /// A refusal at RCPT may be the server's fault; one of the content is not.
    fn refused(&mut self, suspect: Suspect, stage: Stage, batch: &mut Batch, report: &mut Report) {
        let is_at_rcpt = stage == Stage::Rcpt;
        self.opinion.heard(is_at_rcpt);
        let held = if is_at_rcpt {
            &mut self.suspects
        } else {
            &mut batch.failed
        };
        held.push(suspect);
        self.judge_suspects(false, batch, report);
    }
}

impl Pass<'_> {
    /// Blames refusals on their addresses, or on the relay where most of many were refused. Until
    /// enough recipients were heard of, or the pass is over, no verdict is given.
    fn judge_suspects(&mut self, is_over: bool, batch: &mut Batch, report: &mut Report) {
        if self.opinion.is_refusing() {
            let now = self.engine.now();
            for Suspect { mail, reason, .. } in self.suspects.drain(..) {
                let blamed =
                    format!("most recipients are refused, so the server is to blame: {reason}");
                self.trouble = Some(reason);
                match self.patience.again(&mail, now) {
                    Verdict::Failed => {
                        batch.failed.push(Suspect {
                            mail,
                            reason: blamed,
                            is_dead: false,
                        });
                    }
                    verdict => {
                        report.mails_deferred += 1;
                        batch.records.push(Recorded {
                            id: mail.id,
                            verdict,
                            reason: Some(blamed),
                        });
                    }
                }
            }
        } else if is_over || self.opinion.is_settled() {
            batch.failed.append(&mut self.suspects);
        }
    }

    /// Gives the last verdicts. A relay that was down, or took most recipients for unknown, is said.
    async fn close(&mut self, report: &mut Report) -> Result<(), Error> {
        let mut batch = Batch::default();
        self.judge_suspects(true, &mut batch, report);
        self.write(batch, report).await?;
        let is_on_probation = self.opinion.is_refusing() || self.opinion.is_on_probation;
        if is_on_probation != self.was_on_probation {
            let mut tx = self.engine.store.begin().await?;
            tx.put_meta(PROBATION, if is_on_probation { "yes" } else { "no" })
                .await?;
            tx.commit().await?;
        }
        if self.opinion.is_unusable() {
            report.relay_down = true;
            let trouble = self.trouble.as_deref().unwrap_or_default();
            tracing::warn!("the mail server could not be used: {trouble}");
        }
        Ok(())
    }
}

/// Waits for a claim that is under way; for ever when none is.
async fn finished(
    claiming: &mut Option<JoinHandle<Result<Claimed, Error>>>,
) -> Result<Claimed, Error> {
    let Some(handle) = claiming else {
        return std::future::pending().await;
    };
    let outcome = handle.await;
    *claiming = None;
    outcome.unwrap_or_else(|error| Err(Error::Panicked(error.to_string())))
}

fn untouched(mail: &ClaimedMail) -> Recorded {
    Recorded {
        id: mail.id,
        verdict: Verdict::Untouched,
        reason: None,
    }
}
