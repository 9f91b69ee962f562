//! Respond: ends tokens that outlive their issuers' access, where the policy says so. Somebody is warned of it
//! before, and immediately before each end everything that speaks for it is looked at again.

mod limit;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::response::{self, Countdown, Decision, Doubt, Facts, Loss, Trail, Wait};
use crate::domain::{FindingState, NewNotice, Occurrence, Response, Status, Token, TokenId, Topic};
use crate::store::{DueLoss, IdentityRow, LossRow, Tx};

use super::revoke::{Order, subject};
use super::{Dead, Engine, Error, PAGE, Report, SweepOptions, judge};

/// Who ends them, as the audit trail and the mails say.
const BY: &str = "lapsed (policy)";
/// What the trail says of attempts is asked for so long.
const REMEMBERED: TimeDelta = TimeDelta::days(7);

/// What would be done about a token.
#[derive(Debug, Clone)]
pub struct Prospect {
    /// The token.
    pub token: Token,
    /// What a directory says, where one does.
    pub evidence: Option<String>,
    /// What would be done.
    pub decision: Decision,
}

/// What is to be written down of one finding.
struct End {
    finding: Uuid,
    revoke_at: Option<DateTime<Utc>>,
    is_new: bool,
    /// The token of which somebody is to be warned.
    warning: Option<(Token, Countdown)>,
    /// Whether all warnings so far have failed.
    is_untold: bool,
}

impl Engine {
    /// Announces and makes the ends that the policy asks for; takes back what it asks for no more.
    pub(super) async fn respond(
        &self,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) -> Result<(), Error> {
        let revocable = self.revocable();
        self.call_off(&revocable).await?;
        let Some(response) = self.settings.response.filter(|_| !revocable.is_empty()) else {
            return Ok(());
        };
        self.announce(response, &revocable, report).await?;
        self.end_due(response, options, stop, report).await
    }

    /// The sources whose tokens the policy may end.
    fn revocable(&self) -> Vec<String> {
        let allowed = self.sources.iter().filter(|watched| watched.allow_revoke);
        let is_wanted = self.settings.response.is_some();
        let wanted = allowed.filter(|_| is_wanted);
        wanted.map(|watched| watched.name.clone()).collect()
    }

    async fn call_off(&self, revocable: &[String]) -> Result<(), Error> {
        let mut tx = self.store.read().await?;
        let is_any = tx.is_end_announced_but_of(revocable).await?;
        drop(tx);
        if is_any {
            let mut tx = self.store.begin().await?;
            tx.call_off_ends_but_of(revocable).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The countdown of a token with a new finding, where the policy ends it.
    pub(super) fn announced(
        &self,
        token: &Token,
        finding: Uuid,
        now: DateTime<Utc>,
    ) -> Option<Countdown> {
        self.countdown(token, (finding, None), now)
    }

    fn countdown(
        &self,
        token: &Token,
        (finding, acknowledged_until): (Uuid, Option<DateTime<Utc>>),
        now: DateTime<Utc>,
    ) -> Option<Countdown> {
        let response = self.settings.response?;
        let is_enabled = token.status_at(now) != Status::Disabled;
        self.may_revoke(token).ok().filter(|_| is_enabled)?;
        response.countdown(finding, acknowledged_until, now)
    }

    /// What tells the warnings of an end.
    pub(super) fn warning(&self, countdown: Countdown) -> Occurrence {
        Occurrence {
            topic: Topic::SsoRevoked,
            generation: countdown.ends_at,
            step: self.settings.response.map(|response| response.step()),
        }
    }

    /// Plans notices about a token that outlives its issuer's access, to everybody but him.
    pub(super) async fn tell_of_loss(
        &self,
        tx: &mut Tx,
        token: &Token,
        occurrence: Occurrence,
        dead: &Dead,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let told = tx.told_admins(std::slice::from_ref(token)).await?;
        let recipients = self
            .policy
            .recipients(token, &told, true, &|address| dead.has(address));
        let notices: Vec<NewNotice> = recipients
            .iter()
            .map(|recipient| NewNotice::about(token, occurrence, recipient, now))
            .collect();
        if notices.is_empty() {
            self.nobody_to_tell(tx, token, occurrence, dead, report)
                .await?;
        }
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
        Ok(())
    }

    /// Writes down when tokens end, and plans the warnings that are due before the next sweep.
    async fn announce(
        &self,
        response: Response,
        revocable: &[String],
        report: &mut Report,
    ) -> Result<(), Error> {
        let (mut after, mut untold) = (Uuid::nil(), 0);
        loop {
            let mut tx = self.store.read().await?;
            let losses = tx.standing_losses(revocable, after, PAGE).await?;
            let Some(last) = losses.last() else {
                break;
            };
            after = last.id;
            let ends = self.ends(&mut tx, response, &losses).await?;
            drop(tx);
            untold += ends.iter().filter(|end| end.is_untold).count();
            self.write_ends(&ends, report).await?;
            (self.on_progress)();
        }
        if untold > 0 {
            report.problems.push(format!(
                "{untold} tokens of people without access are not ended, because nobody could be warned of it: \
                 see that [notify] admins names somebody who can be reached"
            ));
        }
        Ok(())
    }

    async fn ends(
        &self,
        tx: &mut Tx,
        response: Response,
        losses: &[LossRow],
    ) -> Result<Vec<End>, Error> {
        let now = self.now();
        let horizon = self.horizon(now);
        let ids: Vec<TokenId> = losses.iter().map(|loss| TokenId(loss.token_id)).collect();
        let tokens = tx.tokens_by_id(&ids).await?.into_iter();
        let mut tokens: std::collections::HashMap<Uuid, Token> =
            tokens.map(|token| (token.id.0, token)).collect();
        let mut counted = Vec::with_capacity(losses.len());
        for loss in losses {
            let Some(token) = tokens.remove(&loss.token_id) else {
                continue;
            };
            let of = (loss.id, loss.acknowledged_until);
            let countdown = self.countdown(&token, of, now);
            counted.push((loss, token, countdown));
        }
        let is_close = |countdown: &Option<Countdown>| {
            countdown.is_some_and(|countdown| countdown.warn_at <= horizon)
        };
        let close = counted.iter().filter(|(.., countdown)| is_close(countdown));
        let close: Vec<TokenId> = close.map(|(_, token, _)| token.id).collect();
        let warnings = tx.warnings_of(&close).await?;
        let ends = counted.into_iter().map(|(loss, token, countdown)| {
            let of_token = |countdown: Countdown| {
                let mut warnings = warnings.iter().filter(|it| it.token_id == token.id.0);
                warnings.find(|it| it.generation == countdown.ends_at)
            };
            let warnings = countdown.and_then(of_token);
            let warned_at = warnings.and_then(|it| it.sent_at);
            let revoke_at = countdown.map(|it| response.revoke_at(it, warned_at, now));
            End {
                finding: loss.id,
                revoke_at,
                is_new: revoke_at != loss.revoke_at,
                warning: countdown
                    .filter(|_| is_close(&countdown) && warned_at.is_none())
                    .map(|countdown| (token, countdown)),
                is_untold: warnings.is_some_and(|it| it.have_failed),
            }
        });
        Ok(ends.collect())
    }

    async fn write_ends(&self, ends: &[End], report: &mut Report) -> Result<(), Error> {
        let news: Vec<_> = ends
            .iter()
            .filter(|end| end.is_new)
            .map(|end| (end.finding, end.revoke_at))
            .collect();
        let warnings: Vec<_> = ends.iter().filter_map(|end| end.warning.as_ref()).collect();
        if news.is_empty() && warnings.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let mut tx = self.store.begin().await?;
        let dead = self.dead(&mut tx, now).await?;
        tx.put_revoke_at(&news, now).await?;
        for (token, countdown) in warnings {
            let occurrence = self.warning(*countdown);
            self.tell_of_loss(&mut tx, token, occurrence, &dead, report)
                .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Ends the tokens whose time is over, those that have not failed before first, then the oldest finding.
    async fn end_due(
        &self,
        response: Response,
        options: &SweepOptions,
        stop: &CancellationToken,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        let mut due = self.store.read().await?.due_losses(now).await?;
        let (mut stopped, before) = (0, report.revoked);
        if !due.is_empty() {
            let trail = self.trail(now).await?;
            due.sort_by_key(|loss| (trail.has_failed(&named(loss)), loss.id));
        }
        due.retain(|loss| options.takes(&loss.source));
        for loss in &due {
            if stop.is_cancelled() {
                break;
            }
            stopped += self.end(loss, response, report).await?;
            (self.on_progress)();
        }
        if report.revoked > before {
            self.resolve(report).await?;
        }
        if options.only.is_empty() && !stop.is_cancelled() {
            self.heed_limit(stopped, response, report).await?;
        }
        Ok(())
    }

    /// Ends one token if everything still speaks for it. Tells how many the limit has stopped: it, or none.
    async fn end(
        &self,
        loss: &DueLoss,
        response: Response,
        report: &mut Report,
    ) -> Result<u64, Error> {
        let now = self.now();
        let trail = self.trail(now).await?;
        let found = self.prospect(loss.id, response, &trail, &[], now).await?;
        let Some(prospect) = found else {
            return Ok(0);
        };
        match prospect.decision {
            Decision::Never(_) => return Ok(0),
            Decision::Wait(Wait::Limit(_)) => {
                report.revocations_waiting += 1;
                return Ok(1);
            }
            Decision::Wait(wait) => {
                tracing::debug!(token.id = %prospect.token.id, "its end waits: {wait}");
                report.revocations_waiting += 1;
                return Ok(0);
            }
            Decision::Revoke => {}
        }
        let order = Order {
            token: &prospect.token,
            by: BY,
            reason: prospect.evidence.as_deref(),
        };
        match self.revoke(order).await {
            Ok(revoked) => {
                report.revoked += 1;
                report.notices_planned += revoked.told.len() as u64;
            }
            Err(Error::Store(error)) => return Err(error.into()),
            // Somebody else was faster.
            Err(Error::Revoke(_)) => {}
            Err(error) => report.problems.push(format!(
                "token {}: could not be ended, is tried again in an hour: {}",
                named(loss),
                super::sweep::chain(&error)
            )),
        }
        Ok(0)
    }

    /// What is to be done about the token of a finding by what is known at this moment; none where there is no
    /// such finding. Directories that are `read_first` are not yet as old as they look.
    async fn prospect(
        &self,
        finding: Uuid,
        response: Response,
        trail: &Trail,
        read_first: &[&str],
        now: DateTime<Utc>,
    ) -> Result<Option<Prospect>, Error> {
        let mut tx = self.store.read().await?;
        let Some(row) = tx.loss(finding).await? else {
            return Ok(None);
        };
        let Some(token) = tx.tokens_by_id(&[TokenId(row.token_id)]).await?.pop() else {
            return Ok(None);
        };
        let countdown = response.countdown(row.id, row.acknowledged_until, now);
        let warnings = tx.warnings_of(&[token.id]).await?;
        let mut warnings = warnings.iter();
        let of_countdown =
            warnings.find(|it| countdown.is_some_and(|c| c.ends_at == it.generation));
        let warned_at = of_countdown.and_then(|it| it.sent_at);
        let ends_at = countdown.map_or(now, |it| response.revoke_at(it, warned_at, now));
        let lost = match &token.issuer {
            Some(issuer) => tx.losses_of(issuer.key()).await?,
            None => Vec::new(),
        };
        let losses = self.weighed(&mut tx, &lost, read_first, now).await?;
        let source = tx.source(&token.source).await?;
        let subject = subject(&token);
        let facts = Facts {
            finding: state(&row, now),
            token: token.status_at(now),
            refused: self.may_revoke(&token).err().map(|why| why.to_string()),
            revoke_at: row.revoke_at.unwrap_or(ends_at).max(ends_at),
            is_warned: warned_at.is_some(),
            is_source_failing: source.is_some_and(|source| source.standing.failures > 0),
            losses,
            rests_until: trail.rests_until(&token.source, &subject, now),
        };
        let limit = response.max_per_day;
        let is_full = trail.ended(now) >= limit as usize && !trail.is_counted(&subject, now);
        let decision = match response::decide(&facts, now) {
            Decision::Revoke if is_full => Decision::Wait(Wait::Limit(limit)),
            decision => decision,
        };
        let is_named = |it: &&IdentityRow| facts.losses.iter().any(|l| l.directory == it.directory);
        let said = lost.iter().find(is_named);
        Ok(Some(Prospect {
            evidence: said.map(|it| judge::evidence(it, it.observed_at.unwrap_or(now))),
            token,
            decision,
        }))
    }

    /// What the configured directories say of somebody, and what it is worth.
    async fn weighed(
        &self,
        tx: &mut Tx,
        lost: &[IdentityRow],
        read_first: &[&str],
        now: DateTime<Utc>,
    ) -> Result<Vec<Loss>, Error> {
        let rows = tx.directories().await?;
        let fresh = self.fresh(&rows, now);
        let is_fresh = |name: &String| fresh.contains(name) || read_first.contains(&name.as_str());
        let is_known = |it: &&IdentityRow| self.directories.iter().any(|d| d.name == it.directory);
        let weighed = lost.iter().filter(is_known).map(|identity| {
            let row = rows.iter().find(|row| row.name == identity.directory);
            let doubt = match row {
                Some(row) if row.held.is_some() => Some(Doubt::Held),
                Some(row) if row.standing.failures > 0 => Some(Doubt::Failing),
                _ if !is_fresh(&identity.directory) => Some(Doubt::Stale),
                _ => None,
            };
            Loss {
                directory: identity.directory.clone(),
                status: identity.status,
                is_candidate: identity.candidate.is_some(),
                doubt,
            }
        });
        Ok(weighed.collect())
    }

    /// What would be done about tokens that outlive their issuers' access: those whose time is over, and those
    /// that may not be ended. Writes nothing and asks nobody; directories are taken as last read.
    pub async fn foresee_ends(&self, options: &SweepOptions) -> Result<Vec<Prospect>, Error> {
        let Some(response) = self.settings.response else {
            return Ok(Vec::new());
        };
        let now = self.now();
        let names = self.sources.iter().map(|watched| watched.name.clone());
        let names: Vec<String> = names.filter(|name| options.takes(name)).collect();
        let directories = self.directories.iter().map(|watched| watched.name.as_str());
        let read_first: Vec<&str> = directories.filter(|name| options.takes(name)).collect();
        let mut trail = self.trail(now).await?;
        let (mut after, mut found) = (Uuid::nil(), Vec::new());
        loop {
            let mut tx = self.store.read().await?;
            let losses = tx.standing_losses(&names, after, PAGE).await?;
            drop(tx);
            let Some(last) = losses.last() else {
                return Ok(found);
            };
            after = last.id;
            for loss in &losses {
                let prospect = self.prospect(loss.id, response, &trail, &read_first, now);
                let Some(prospect) = prospect.await? else {
                    continue;
                };
                if prospect.decision == Decision::Revoke {
                    trail.foresee(subject(&prospect.token), now);
                }
                let is_later = matches!(
                    prospect.decision,
                    Decision::Wait(Wait::Until(_) | Wait::Acknowledged)
                );
                found.extend((!is_later).then_some(prospect));
            }
        }
    }
}

/// What the audit trail calls the token of a finding.
fn named(loss: &DueLoss) -> String {
    format!("{}/{}", loss.source, loss.external_id)
}

fn state(loss: &LossRow, now: DateTime<Utc>) -> FindingState {
    match loss.state.as_str() {
        "resolved" => FindingState::Resolved,
        "acknowledged" if loss.acknowledged_until.is_some_and(|until| now < until) => {
            FindingState::Acknowledged
        }
        _ => FindingState::Open,
    }
}
