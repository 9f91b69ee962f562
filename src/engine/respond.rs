//! Respond: revokes tokens that outlive their issuers' access, if the policy says so. The administrators are warned
//! before, and immediately before each revocation all its conditions are checked again.

mod limit;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::revocation::{
    self, Countdown, Decision, Doubt, Loss, RevocationFacts, Trail, Wait,
};
use crate::domain::{FindingState, Policy, RevocationPolicy, Schedule, Token, TokenId};
use crate::store::{DueLoss, IdentityRow, LossRow, Store, Tx};

use limit::{POLICY_ACTOR, load_trail, report_limit};

use super::common::{Error, OnProgress, PAGE_SIZE, Report, horizon};
use super::findings::{format_evidence, resolve_losses};
use super::notices::{DeadAddresses, plan_loss_notices};
use super::revoke::{RevocationOrder, Revoke, countdown, may_revoke, subject, warning_occurrence};
use super::upstream::{SweepOptions, WatchedDirectory, WatchedSource, fresh_directories};

#[derive(Debug, Clone)]
pub struct RevocationPreview {
    pub token: Token,
    /// The evidence of a directory, if there is one.
    pub evidence: Option<String>,
    pub decision: Decision,
}

/// What to store about one finding.
struct RevocationUpdate {
    finding: Uuid,
    revoke_at: Option<DateTime<Utc>>,
    is_changed: bool,
    /// The warning that is due.
    warning: Option<(Token, Countdown)>,
    /// Whether all warnings so far have failed.
    warning_failed: bool,
}

pub struct Respond<'a> {
    pub(super) store: &'a Store,
    pub(super) clock: &'a Clock,
    pub(super) policy: &'a Policy,
    /// How tokens are revoked; `None` means that they are only flagged.
    pub(super) response: Option<RevocationPolicy>,
    /// When sweeps run.
    pub(super) sweep: &'a Schedule,
    pub(super) sources: &'a [WatchedSource],
    pub(super) directories: &'a [WatchedDirectory],
    pub(super) on_progress: OnProgress<'a>,
}

impl Respond<'_> {
    /// Schedules and executes the revocations of the policy; cancels those that no longer apply.
    pub(super) async fn run(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) -> Result<(), Error> {
        let revocable = self.revocable_sources();
        self.cancel_schedules(&revocable).await?;
        let Some(response) = self.response.filter(|_| !revocable.is_empty()) else {
            return Ok(());
        };
        self.schedule_revocations(response, &revocable, report)
            .await?;
        self.revoke_due(response, options, stop, report).await
    }

    /// Records revocations that were interrupted and have taken place.
    pub(super) async fn settle_interrupted(&self, report: &mut Report) -> Result<(), Error> {
        if self.response.is_none() {
            return Ok(());
        }
        limit::settle_interrupted(&self.revoke(), report).await
    }

    fn revoke(&self) -> Revoke<'_> {
        Revoke {
            store: self.store,
            clock: self.clock,
            policy: self.policy,
            sources: self.sources,
        }
    }

    /// The sources whose tokens the policy may revoke.
    fn revocable_sources(&self) -> Vec<String> {
        if self.response.is_none() {
            return Vec::new();
        }
        let allowed = self
            .sources
            .iter()
            .filter(|watched| watched.terms.allow_revoke);
        allowed.map(|watched| watched.terms.name.clone()).collect()
    }

    async fn cancel_schedules(&self, revocable: &[String]) -> Result<(), Error> {
        let mut tx = self.store.begin_read().await?;
        let is_any = tx.has_revocations_except(revocable).await?;
        drop(tx);
        if is_any {
            let mut tx = self.store.begin().await?;
            tx.cancel_revocations_except(revocable).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Stores when tokens are to be revoked, and plans the warnings that are due before the next sweep.
    async fn schedule_revocations(
        &self,
        response: RevocationPolicy,
        revocable: &[String],
        report: &mut Report,
    ) -> Result<(), Error> {
        let (mut after, mut unwarned) = (Uuid::nil(), 0);
        loop {
            let mut tx = self.store.begin_read().await?;
            let losses = tx
                .list_unresolved_losses(revocable, after, PAGE_SIZE)
                .await?;
            let Some(last) = losses.last() else {
                break;
            };
            after = last.id;
            let updates = self.compute_updates(&mut tx, response, &losses).await?;
            drop(tx);
            unwarned += updates
                .iter()
                .filter(|update| update.warning_failed)
                .count();
            self.write_updates(response, &updates, report).await?;
            (self.on_progress)();
        }
        if unwarned > 0 {
            report.problems.push(format!(
                "{unwarned} tokens of people without access are not revoked, because no one could be warned: \
                 check that [notify] admins has an address that accepts mail"
            ));
        }
        Ok(())
    }

    async fn compute_updates(
        &self,
        tx: &mut Tx,
        response: RevocationPolicy,
        losses: &[LossRow],
    ) -> Result<Vec<RevocationUpdate>, Error> {
        let now = self.clock.now();
        let horizon = horizon(self.sweep, now);
        let ids: Vec<TokenId> = losses.iter().map(|loss| loss.token_id).collect();
        let tokens = tx.load_tokens(&ids).await?.into_iter();
        let mut tokens: HashMap<TokenId, Token> = tokens.map(|token| (token.id, token)).collect();
        let mut counted = Vec::with_capacity(losses.len());
        for loss in losses {
            let Some(token) = tokens.remove(&loss.token_id) else {
                continue;
            };
            let countdown = countdown(
                self.sources,
                response,
                &token,
                (loss.id, loss.acknowledged_until),
                now,
            );
            counted.push((loss, token, countdown));
        }
        let is_close = |countdown: &Option<Countdown>| {
            countdown.is_some_and(|countdown| countdown.warn_at <= horizon)
        };
        let close = counted.iter().filter(|(.., countdown)| is_close(countdown));
        let close: Vec<TokenId> = close.map(|(_, token, _)| token.id).collect();
        let warnings = tx.load_revocation_warnings(&close).await?;
        let updates = counted.into_iter().map(|(loss, token, countdown)| {
            let warning = countdown.and_then(|countdown| {
                warnings.iter().find(|warning| {
                    warning.token_id == token.id && warning.generation == countdown.ends_at
                })
            });
            let warned_at = warning.and_then(|warning| warning.sent_at);
            let revoke_at =
                countdown.map(|countdown| response.revoke_at(countdown, warned_at, now));
            RevocationUpdate {
                finding: loss.id,
                revoke_at,
                is_changed: revoke_at != loss.revoke_at,
                warning: countdown
                    .filter(|_| is_close(&countdown) && warned_at.is_none())
                    .map(|countdown| (token, countdown)),
                warning_failed: warning.is_some_and(|warning| warning.have_failed),
            }
        });
        Ok(updates.collect())
    }

    async fn write_updates(
        &self,
        response: RevocationPolicy,
        updates: &[RevocationUpdate],
        report: &mut Report,
    ) -> Result<(), Error> {
        let changed: Vec<_> = updates
            .iter()
            .filter(|update| update.is_changed)
            .map(|update| (update.finding, update.revoke_at))
            .collect();
        let warnings: Vec<_> = updates
            .iter()
            .filter_map(|update| update.warning.as_ref())
            .collect();
        if changed.is_empty() && warnings.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let dead = DeadAddresses::load(&mut tx, now).await?;
        tx.set_revoke_at(&changed, now).await?;
        for (token, countdown) in warnings {
            let notice = (token, warning_occurrence(response, *countdown));
            plan_loss_notices(&mut tx, self.policy, notice, &dead, now, report).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Revokes the tokens that are due: first those without a failed attempt, then in order of finding.
    async fn revoke_due(
        &self,
        response: RevocationPolicy,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut due = self.store.begin_read().await?.find_due_losses(now).await?;
        let (mut stopped, before) = (0, report.revoked);
        if !due.is_empty() {
            let trail = load_trail(self.store, now).await?;
            due.sort_by_key(|loss| (trail.has_failed(&token_ref(loss)), loss.id));
        }
        due.retain(|loss| options.includes(&loss.source));
        for loss in &due {
            if stop.is_cancelled() {
                break;
            }
            stopped += self.revoke_one(loss, response, report).await?;
            (self.on_progress)();
        }
        if report.revoked > before {
            resolve_losses(self.store, self.clock.now(), report).await?;
        }
        if options.only.is_empty() && !stop.is_cancelled() {
            let counts = (stopped, response.max_per_day);
            report_limit(self.store, self.policy, counts, self.clock.now(), report).await?;
        }
        Ok(())
    }

    /// Revokes one token if all conditions hold. Returns how many tokens the limit has stopped: 1 or 0.
    async fn revoke_one(
        &self,
        loss: &DueLoss,
        response: RevocationPolicy,
        report: &mut Report,
    ) -> Result<u64, Error> {
        let now = self.clock.now();
        let trail = load_trail(self.store, now).await?;
        let preview = self
            .preview_one(loss.id, response, &trail, &[], now)
            .await?;
        let Some(preview) = preview else {
            return Ok(0);
        };
        match preview.decision {
            Decision::Skip(_) => return Ok(0),
            Decision::Wait(Wait::Limit(_)) => {
                report.revocations_waiting += 1;
                return Ok(1);
            }
            Decision::Wait(wait) => {
                tracing::debug!(token.id = %preview.token.id, "its revocation waits: {wait}");
                report.revocations_waiting += 1;
                return Ok(0);
            }
            Decision::Revoke => {}
        }
        let order = RevocationOrder {
            token: &preview.token,
            by: POLICY_ACTOR,
            reason: preview.evidence.as_deref(),
        };
        match self.revoke().revoke(order).await {
            Ok(revocation) => {
                report.revoked += 1;
                report.notices_planned += revocation.recipients.len() as u64;
            }
            Err(Error::Store(error)) => return Err(error.into()),
            // It was revoked by someone else meanwhile, or is no longer allowed.
            Err(Error::Revoke(_)) => {}
            Err(error) => report.problems.push(format!(
                "token {}: could not be revoked; the next attempt is in an hour: {}",
                token_ref(loss),
                error.chain()
            )),
        }
        Ok(0)
    }

    /// Decides about the token of a finding by the facts of this moment; `None` without such a finding. Directories in
    /// `synced_first` are treated as fresh.
    async fn preview_one(
        &self,
        finding: Uuid,
        response: RevocationPolicy,
        trail: &Trail,
        synced_first: &[&str],
        now: DateTime<Utc>,
    ) -> Result<Option<RevocationPreview>, Error> {
        let mut tx = self.store.begin_read().await?;
        let Some(row) = tx.find_loss(finding).await? else {
            return Ok(None);
        };
        let Some(token) = tx.load_tokens(&[row.token_id]).await?.pop() else {
            return Ok(None);
        };
        let countdown = response.countdown(row.id, row.acknowledged_until, now);
        let warnings = tx.load_revocation_warnings(&[token.id]).await?;
        let warning = countdown.and_then(|countdown| {
            warnings
                .iter()
                .find(|warning| warning.generation == countdown.ends_at)
        });
        let warned_at = warning.and_then(|warning| warning.sent_at);
        let ends_at = countdown.map_or(now, |countdown| {
            response.revoke_at(countdown, warned_at, now)
        });
        let lost = match &token.issuer {
            Some(issuer) => tx.find_lost_identities(issuer.key()).await?,
            None => Vec::new(),
        };
        let losses = self.load_losses(&mut tx, &lost, synced_first, now).await?;
        let source = tx.find_source(&token.source).await?;
        let subject = subject(&token);
        let facts = RevocationFacts {
            finding: finding_state(&row, now),
            token: token.status_at(now),
            not_allowed: may_revoke(self.sources, &token, now)
                .err()
                .map(|refusal| refusal.to_string()),
            revoke_at: row.revoke_at.unwrap_or(ends_at).max(ends_at),
            is_warned: warned_at.is_some(),
            is_source_failing: source.is_some_and(|source| source.sync_state.failures > 0),
            losses,
            retry_at: trail.retry_at(&token.source, &subject, now),
        };
        let limit = response.max_per_day;
        let is_full =
            trail.count_revoked(now) >= limit as usize && !trail.is_counted(&subject, now);
        let decision = match revocation::decide(&facts, now) {
            Decision::Revoke if is_full => Decision::Wait(Wait::Limit(limit)),
            decision => decision,
        };
        Ok(Some(RevocationPreview {
            evidence: loss_evidence(&lost, &facts.losses, now),
            token,
            decision,
        }))
    }

    /// The losses that configured directories report for a person, with the doubts about them.
    async fn load_losses(
        &self,
        tx: &mut Tx,
        lost: &[IdentityRow],
        synced_first: &[&str],
        now: DateTime<Utc>,
    ) -> Result<Vec<Loss>, Error> {
        let rows = tx.list_directories().await?;
        let fresh = fresh_directories(self.directories, &rows, now);
        let is_fresh =
            |name: &String| fresh.contains(name) || synced_first.contains(&name.as_str());
        let is_configured = |row: &&IdentityRow| {
            self.directories
                .iter()
                .any(|watched| watched.terms.name == row.directory)
        };
        let losses = lost.iter().filter(is_configured).map(|row| {
            let directory = rows.iter().find(|known| known.name == row.directory);
            let doubt = match directory {
                Some(known) if known.held.is_some() => Some(Doubt::Held),
                Some(known) if known.sync_state.failures > 0 => Some(Doubt::Failing),
                _ if !is_fresh(&row.directory) => Some(Doubt::Stale),
                _ => row.identity.candidate.map(|_| Doubt::Unconfirmed),
            };
            Loss {
                directory: row.directory.clone(),
                status: row.identity.status,
                doubt,
            }
        });
        Ok(losses.collect())
    }

    /// Previews the revocations that are due, and those that are not allowed. Writes nothing and asks no upstream: it
    /// uses the stored data of directories.
    pub async fn preview(&self, options: &SweepOptions) -> Result<Vec<RevocationPreview>, Error> {
        let Some(response) = self.response else {
            return Ok(Vec::new());
        };
        let now = self.clock.now();
        let names = self
            .sources
            .iter()
            .map(|watched| watched.terms.name.clone());
        let names: Vec<String> = names.filter(|name| options.includes(name)).collect();
        let directories = self
            .directories
            .iter()
            .map(|watched| watched.terms.name.as_str());
        let synced_first: Vec<&str> = directories.filter(|name| options.includes(name)).collect();
        let mut trail = load_trail(self.store, now).await?;
        let (mut after, mut previews) = (Uuid::nil(), Vec::new());
        loop {
            let mut tx = self.store.begin_read().await?;
            let losses = tx.list_unresolved_losses(&names, after, PAGE_SIZE).await?;
            drop(tx);
            let Some(last) = losses.last() else {
                return Ok(previews);
            };
            after = last.id;
            for loss in &losses {
                let preview = self.preview_one(loss.id, response, &trail, &synced_first, now);
                let Some(preview) = preview.await? else {
                    continue;
                };
                if preview.decision == Decision::Revoke {
                    trail.assume_revoked(subject(&preview.token), now);
                }
                let is_later = matches!(
                    preview.decision,
                    Decision::Wait(Wait::Until(_) | Wait::Acknowledged)
                );
                if !is_later {
                    previews.push(preview);
                }
            }
        }
    }
}

/// The audit trail's subject for the token of a finding.
fn token_ref(loss: &DueLoss) -> String {
    format!("{}/{}", loss.source, loss.external_id)
}

/// The evidence of the first directory that reports the loss.
fn loss_evidence(lost: &[IdentityRow], losses: &[Loss], now: DateTime<Utc>) -> Option<String> {
    let is_loss = |row: &&IdentityRow| losses.iter().any(|loss| loss.directory == row.directory);
    let row = lost.iter().find(is_loss)?;
    Some(format_evidence(row, now))
}

fn finding_state(loss: &LossRow, now: DateTime<Utc>) -> FindingState {
    match loss.state {
        FindingState::Acknowledged if loss.acknowledged_until.is_none_or(|until| until <= now) => {
            FindingState::Open
        }
        state => state,
    }
}
