//! Respond: revokes tokens that outlive their issuers' access, if the policy says so. The administrators are warned
//! before, and immediately before each revocation all its conditions are checked again.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::revocation::{
    self, Countdown, Decision, Doubt, Loss, RevocationFacts, Trail, Wait,
};
use crate::domain::{LOCAL_SOURCE, Policy, RevocationPolicy, Schedule, Token, TokenId};
use crate::store::{DueLoss, IdentityRow, LossRow, Tx};

use super::common::{Error, OnProgress, PAGE_SIZE, Report, RevokeRefusal, horizon};
use super::findings::{format_evidence, resolve_losses};
use super::leased::{LeasedStore, counted_page, page};
use super::notices::{Alert, DeadAddresses, plan_loss_notices};
use super::revoke::{
    POLICY_ACTOR, RevocationOrder, Revoke, audit_subject, find_countdown, load_trail, may_revoke,
    warning_occurrence,
};
use super::upstream::{SweepOptions, WatchedDirectory, WatchedSource, fresh_directories};

#[derive(Debug, Clone)]
pub struct RevocationPreview {
    pub token: Token,
    /// The evidence of a directory, if there is one.
    pub evidence: Option<String>,
    pub decision: Decision,
}

/// Setting: since when the limit has stopped revocations.
const LIMIT_REACHED_SINCE: &str = "respond.limited";

/// What to store about a page of findings.
#[derive(Default)]
struct PageUpdate {
    revoke_at: Vec<(Uuid, Option<DateTime<Utc>>)>,
    warnings: Vec<(Token, Countdown)>,
    /// Tokens all of whose warnings have failed.
    unwarned: usize,
}

pub struct Respond<'a> {
    pub(super) store: LeasedStore<'a>,
    pub(super) clock: &'a Clock,
    pub(super) policy: &'a Policy,
    /// How tokens are revoked; `None` means that they are only flagged.
    pub(super) response: Option<RevocationPolicy>,
    pub(super) sweep: &'a Schedule,
    pub(super) sources: &'a [WatchedSource],
    pub(super) directories: &'a [WatchedDirectory],
    pub(super) on_progress: OnProgress<'a>,
}

impl<'a> Respond<'a> {
    /// Schedules and executes the revocations of the policy; cancels those that no longer apply.
    pub(super) async fn run(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) -> Result<(), Error> {
        let revocable = self.revocable_sources();
        self.cancel_schedules(&revocable).await?;
        let Some(response) = self.response else {
            return Ok(());
        };
        self.schedule_revocations(response, &revocable, report)
            .await?;
        self.revoke_due(response, options, stop, report).await
    }

    /// Settles revocations that were interrupted and have taken place.
    pub(super) async fn settle_interrupted(&self, report: &mut Report) -> Result<(), Error> {
        match self.response {
            Some(_) => self.revoke().settle_interrupted(report).await,
            None => Ok(()),
        }
    }

    pub(super) fn revoke(&self) -> Revoke<'a> {
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
        let watched = self.sources.iter();
        watched
            .filter(|watched| watched.terms.allow_revoke)
            .map(|watched| watched.terms.name.clone())
            .chain([LOCAL_SOURCE.to_owned()])
            .collect()
    }

    async fn cancel_schedules(&self, revocable: &[String]) -> Result<(), Error> {
        let mut tx = self.store.begin_read().await?;
        let is_any = tx.has_revocations_except(revocable).await?;
        drop(tx);
        if is_any {
            page!(self.store, tx => Ok(tx.cancel_revocations_except(revocable).await?))?;
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
        let mut after = Uuid::nil();
        let mut unwarned = 0;
        loop {
            let mut tx = self.store.begin_read().await?;
            let losses = tx
                .list_unresolved_losses(revocable, after, PAGE_SIZE)
                .await?;
            let Some(last) = losses.last() else {
                break;
            };
            after = last.id;
            let update = self.compute_update(&mut tx, response, &losses).await?;
            drop(tx);
            unwarned += update.unwarned;
            self.write_update(response, &update, report).await?;
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

    async fn compute_update(
        &self,
        tx: &mut Tx,
        response: RevocationPolicy,
        losses: &[LossRow],
    ) -> Result<PageUpdate, Error> {
        let now = self.clock.now();
        let horizon = horizon(self.sweep, now);
        let ids: Vec<TokenId> = losses.iter().map(|loss| loss.token_id).collect();
        let tokens = tx.load_tokens(&ids).await?.into_iter();
        let mut tokens: HashMap<_, _> = tokens.map(|token| (token.id, token)).collect();
        let of_machines = tx.find_machine_tokens(&ids).await?;
        let mut countdowns = Vec::with_capacity(losses.len());
        let mut ids_to_warn = Vec::new();
        for loss in losses {
            let Some(token) = tokens.remove(&loss.token_id) else {
                continue;
            };
            let until = loss.acknowledged_until;
            let countdown = find_countdown(self.sources, response, &token, loss.id, until, now)
                .filter(|_| !of_machines.contains(&token.id));
            if countdown.is_some_and(|countdown| countdown.warn_at <= horizon) {
                ids_to_warn.push(token.id);
            }
            countdowns.push((loss, token, countdown));
        }
        let warnings = tx.load_revocation_warnings(&ids_to_warn).await?;
        let mut update = PageUpdate::default();
        for (loss, token, countdown) in countdowns {
            let warning = countdown.and_then(|countdown| {
                warnings.iter().find(|warning| {
                    warning.token_id == token.id && warning.generation == countdown.ends_at
                })
            });
            let warned_at = warning.and_then(|warning| warning.sent_at);
            let revoke_at =
                countdown.map(|countdown| response.revoke_at(countdown, warned_at, now));
            if revoke_at != loss.revoke_at {
                update.revoke_at.push((loss.id, revoke_at));
            }
            update.unwarned += usize::from(warning.is_some_and(|warning| warning.have_failed));
            if let Some(countdown) = countdown
                && countdown.warn_at <= horizon
                && warned_at.is_none()
            {
                update.warnings.push((token, countdown));
            }
        }
        Ok(update)
    }

    async fn write_update(
        &self,
        response: RevocationPolicy,
        update: &PageUpdate,
        report: &mut Report,
    ) -> Result<(), Error> {
        if update.revoke_at.is_empty() && update.warnings.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        counted_page!(self.store, report, tx => {
            let dead = DeadAddresses::load(tx, now).await?;
            tx.set_revoke_at(&update.revoke_at, now).await?;
            for (token, countdown) in &update.warnings {
                let notice = (token, warning_occurrence(response, *countdown));
                plan_loss_notices(tx, self.policy, notice, &dead, now, report).await?;
            }
            Ok(())
        })
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
        due.retain(|loss| options.includes(&loss.source));
        if !due.is_empty() {
            let trail = load_trail(self.store, now).await?;
            due.sort_by_key(|loss| {
                let subject = audit_subject(&loss.source, &loss.external_id);
                (trail.has_failed(&subject), loss.id)
            });
        }
        let revoked_before = report.revoked;
        let mut stopped = 0;
        for loss in &due {
            if stop.is_cancelled() {
                break;
            }
            stopped += self.revoke_one(loss, response, report).await?;
            (self.on_progress)();
        }
        if report.revoked > revoked_before {
            resolve_losses(self.store, self.clock.now(), report).await?;
        }
        if options.only.is_empty() && !stop.is_cancelled() {
            self.report_limit(stopped, response.max_per_day, report)
                .await?;
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
        let preview = self.preview_one(loss.id, response, &trail, now);
        let Some(preview) = preview.await? else {
            return Ok(0);
        };
        match preview.decision {
            Decision::Skip(_) => return Ok(0),
            Decision::Wait(wait) => {
                tracing::debug!(token.id = %preview.token.id, "its revocation waits: {wait}");
                report.revocations_waiting += 1;
                return Ok(u64::from(matches!(wait, Wait::Limit(_))));
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
            Err(error) if error.ends_job() => return Err(error),
            // It was revoked by someone else meanwhile, or is no longer allowed.
            Err(Error::Revoke(_)) => {}
            Err(error) => report.problems.push(format!(
                "token {}: could not be revoked; the next attempt is in an hour: {}",
                audit_subject(&loss.source, &loss.external_id),
                error.chain()
            )),
        }
        Ok(0)
    }

    /// Reports that the limit stopped revocations, and alerts the administrators once while the limit is reached.
    async fn report_limit(
        &self,
        stopped: u64,
        limit: u32,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let mut tx = self.store.begin_read().await?;
        let since = tx.find_setting(LIMIT_REACHED_SINCE).await?;
        drop(tx);
        if stopped == 0 {
            if let Some(since) = since {
                page!(self.store, tx => {
                    Ok(tx.delete_setting(LIMIT_REACHED_SINCE, &since).await?)
                })?;
            }
            return Ok(());
        }
        report.problems.push(format!(
            "{stopped} more tokens of people without access are due to be revoked, but [policy] \
             max_revocations_per_day = {limit} is reached; the oldest finding goes first"
        ));
        if since.is_some_and(|since| since.parse::<DateTime<Utc>>().is_ok()) {
            return Ok(());
        }
        counted_page!(self.store, report, tx => {
            let text = now.to_rfc3339_opts(SecondsFormat::Micros, true);
            tx.set_setting(LIMIT_REACHED_SINCE, &text).await?;
            let alert = limit_alert(now, stopped, limit);
            alert.plan(tx, self.policy, now, report).await
        })
    }

    /// Decides about the token of a finding by the facts of this moment; `None` without such a finding.
    async fn preview_one(
        &self,
        finding: Uuid,
        response: RevocationPolicy,
        trail: &Trail,
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
        let (losses, statements) = self.load_losses(&mut tx, &token, now).await?;
        let source = tx.find_source(&token.source).await?;
        let subject = audit_subject(&token.source, &token.external_id);
        let of_machines = tx.find_machine_tokens(&[token.id]).await?;
        let refusal = match may_revoke(self.sources, &token, now) {
            Ok(_) if of_machines.contains(&token.id) => Some(RevokeRefusal::OfMachine),
            Ok(_) => None,
            Err(refusal) => Some(refusal),
        };
        let facts = RevocationFacts {
            finding: row.state_at(now),
            token: token.status_at(now),
            not_allowed: refusal.map(|refusal| refusal.to_string()),
            revoke_at: row.revoke_at.unwrap_or(ends_at).max(ends_at),
            is_warned: warned_at.is_some(),
            is_source_failing: source.is_some_and(|source| source.sync_state.failures > 0),
            has_unreadable_owners: token.has_unreadable_owners(),
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
            evidence: (!statements.is_empty()).then(|| format_evidence(&statements, now)),
            token,
            decision,
        }))
    }

    /// The losses that configured directories report for the owners of a token, with the doubts about them, and a
    /// statement about each owner. Nothing if they do not report it for every owner.
    async fn load_losses(
        &self,
        tx: &mut Tx,
        token: &Token,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Loss>, Vec<IdentityRow>), Error> {
        let rows = tx.list_directories().await?;
        let fresh = fresh_directories(self.directories, &rows, now);
        let doubt = |row: &IdentityRow| {
            let mut rows = rows.iter();
            match rows.find(|directory| directory.name == row.directory) {
                Some(directory) if directory.held.is_some() => Some(Doubt::Held),
                Some(directory) if directory.sync_state.failures > 0 => Some(Doubt::Failing),
                _ if !fresh.contains(&row.directory) => Some(Doubt::Stale),
                _ => row.identity.candidate.map(|_| Doubt::Unconfirmed),
            }
        };
        let is_configured = |row: &IdentityRow| {
            let mut directories = self.directories.iter();
            directories.any(|watched| watched.terms.name == row.directory)
        };
        let (mut losses, mut statements) = (Vec::new(), Vec::new());
        for owner in token.owners() {
            let mut lost = tx.find_lost_identities(owner.key()).await?;
            lost.retain(is_configured);
            let Some(first) = lost.first() else {
                return Ok((Vec::new(), Vec::new()));
            };
            statements.push(first.clone());
            losses.extend(lost.iter().map(|row| Loss {
                directory: row.directory.clone(),
                status: row.identity.status,
                doubt: doubt(row),
            }));
        }
        Ok((losses, statements))
    }

    /// The revocations that are due, and those that are not allowed. Writes nothing.
    pub async fn preview(&self, options: &SweepOptions) -> Result<Vec<RevocationPreview>, Error> {
        let Some(response) = self.response else {
            return Ok(Vec::new());
        };
        let now = self.clock.now();
        let mut sources: Vec<_> = self.sources.iter().map(|w| w.terms.name.clone()).collect();
        sources.push(LOCAL_SOURCE.to_owned());
        sources.retain(|name| options.includes(name));
        let mut trail = load_trail(self.store, now).await?;
        let mut after = Uuid::nil();
        let mut previews = Vec::new();
        loop {
            let mut tx = self.store.begin_read().await?;
            let losses = tx
                .list_unresolved_losses(&sources, after, PAGE_SIZE)
                .await?;
            drop(tx);
            let Some(last) = losses.last() else {
                return Ok(previews);
            };
            after = last.id;
            for loss in &losses {
                let preview = self.preview_one(loss.id, response, &trail, now);
                let Some(preview) = preview.await? else {
                    continue;
                };
                if preview.decision == Decision::Revoke {
                    let token = &preview.token;
                    trail.assume_revoked(audit_subject(&token.source, &token.external_id), now);
                }
                match preview.decision {
                    Decision::Wait(Wait::Until(_) | Wait::Acknowledged) => {}
                    _ => previews.push(preview),
                }
            }
        }
    }
}

fn limit_alert(since: DateTime<Utc>, stopped: u64, limit: u32) -> Alert<'static> {
    Alert {
        subject: "revocations",
        since,
        title: format!("{stopped} tokens wait to be revoked: the daily limit is reached"),
        text: format!(
            "The policy revokes tokens of people without access, at most {limit} in any 24 hours ([policy] \
             max_revocations_per_day). {stopped} more are due; they wait until the limit allows it, the oldest \
             finding first. This may be right, because many people left, or caused by a mistake in a \
             directory.\n\n\
             See what is due and what waits:\n\n    lapsed sweep --dry-run\n    \
             lapsed finding list --kind sso_revoked\n\n\
             If it is a mistake, stop it now: set sso_revoked = \"flag\" in [policy], or accept a finding for some \
             time with lapsed finding acknowledge. If it is right, there is nothing to do; a higher limit makes it \
             faster."
        ),
    }
}
