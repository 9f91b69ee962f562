//! Judge: marks expired tokens, opens, updates and resolves findings, and plans the administrators' summary of them. Only
//! tokens whose result may have changed are evaluated.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::clock::Clock;
use crate::domain::revocation::Countdown;
use crate::domain::{
    FindingKind, NewNotice, Occurrence, Policy, Recipient, RevocationPolicy, Schedule, Token, Topic,
};
use crate::notify::wording;
use crate::store::{NewFinding, OutlivedToken, Tx};
use crate::time::shift;

use super::common::{Error, OnProgress, PAGE_SIZE, PageGuard, Report, horizon, new_id};
use super::findings::{
    self, JUDGING_PENDING, RULES_FINGERPRINT, SUMMARIZED_UNTIL, format_evidence, judge_page,
    judge_replicas, judge_source, loss_severity, resolve_losses,
};
use super::follow::Follow;
use super::ghosts::Ghosts;
use super::leased::{LeasedStore, counted_page, page};
use super::notices::{DeadAddresses, plan_loss_notices};
use super::revoke::{find_countdown, warning_occurrence};
use super::service_findings::ServiceFindings;
use super::upstream::{
    SweepOptions, WatchedDirectory, WatchedSource, fresh_directories, sources_that_mark_expired,
};

/// How many tokens are reported before that is stored.
const BATCH_SIZE: i64 = 50;

/// Why a person gets no warning.
const LOST_ACCESS: &str = "the issuer lost access";

/// A token that a source did not mark is reported again after this time.
const RETRY_AFTER: TimeDelta = TimeDelta::minutes(10);

/// The value of [`SUMMARIZED_UNTIL`] without a schedule. A schedule that is configured later begins with its first sweep.
const OFF: &str = "off";

pub(super) struct Judge<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub policy: &'a Policy,
    pub response: Option<RevocationPolicy>,
    pub sources: &'a [WatchedSource],
    pub directories: &'a [WatchedDirectory],
    pub sweep: &'a Schedule,
    /// When administrators get a summary of open findings; `None` means never.
    pub summary: Option<&'a Schedule>,
    pub follow_directories: bool,
    /// The role of the service's account administrators.
    pub admin_role: Option<&'a str>,
    pub on_progress: OnProgress<'a>,
}

impl Judge<'_> {
    pub async fn run(&self, report: &mut Report) -> Result<(), Error> {
        self.mark_expired(report).await?;
        self.judge_service(report).await?;
        let ghosts = Ghosts {
            store: self.store,
            clock: self.clock,
            policy: self.policy,
            sources: self.sources,
        };
        ghosts.run(report).await?;
        judge_replicas(self.store, self.clock.now(), report).await?;
        let mut tx = self.store.begin_read().await?;
        let settings = tx
            .load_settings(&[JUDGING_PENDING, RULES_FINGERPRINT, SUMMARIZED_UNTIL])
            .await?;
        let is_any_due = tx.has_tokens_to_judge(self.clock.now()).await?;
        drop(tx);
        if settings.get(RULES_FINGERPRINT) != Some(&self.policy.rules.fingerprint()) {
            self.judge_all(report).await?;
        } else if is_any_due {
            self.judge_due(report).await?;
        }
        if let Some(pending) = settings.get(JUDGING_PENDING) {
            self.judge_people(pending, report).await?;
        }
        let summarized_until = settings.get(SUMMARIZED_UNTIL).map(String::as_str);
        self.plan_summary(summarized_until, report).await
    }

    /// Judges the people of the token service, and the use of its tokens.
    async fn judge_service(&self, report: &mut Report) -> Result<(), Error> {
        let follow = Follow {
            store: self.store,
            clock: self.clock,
            policy: self.policy,
            directories: self.directories,
            is_on: self.follow_directories,
            admin_role: self.admin_role,
        };
        follow.run(report).await?;
        let findings = ServiceFindings {
            store: self.store,
            clock: self.clock,
            policy: self.policy,
        };
        findings.run(report).await
    }

    /// Judges the tokens of people who lost access.
    async fn judge_people(&self, pending: &str, report: &mut Report) -> Result<(), Error> {
        resolve_losses(self.store, self.clock.now(), report).await?;
        self.open_losses(report).await?;
        self.suppress_warnings().await?;
        // An import may have requested it again meanwhile with another value: that one stays.
        page!(self.store, tx => Ok(tx.delete_setting(JUDGING_PENDING, pending).await?))
    }

    async fn mark_expired(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let marking_sources = sources_that_mark_expired(self.sources);
        loop {
            let (marked, unmarked) = page!(self.store, tx => {
                let unmarked = tx.unmark_expired(now, PAGE_SIZE).await?;
                let marked = tx.mark_expired(now, PAGE_SIZE, &marking_sources).await?;
                if marked > 0 || unmarked > 0 {
                    // Findings about tokens that no longer work are obsolete, and the reverse.
                    findings::request(tx, now).await?;
                }
                Ok((marked, unmarked))
            })?;
            report.expired += marked;
            report.unexpired += unmarked;
            if marked.max(unmarked) < PAGE_SIZE.unsigned_abs() {
                return Ok(());
            }
        }
    }

    /// Judges the tokens that are due for it.
    async fn judge_due(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        page!(self.store, tx => Ok(tx.rejudge_future_findings(now).await?))?;
        let mut guard = PageGuard::default();
        loop {
            let Some(first) = counted_page!(self.store, report, tx => {
                let tokens = tx.lock_tokens_to_judge(now, PAGE_SIZE).await?;
                judge_page(tx, self.policy, &tokens, now, report).await?;
                Ok(tokens.first().map(|token| token.id.0))
            })?
            else {
                return Ok(());
            };
            guard.check("token", first)?;
            (self.on_progress)();
        }
    }

    /// Judges every token and source, because the rules changed. After an interruption the old fingerprint is still
    /// stored, and the next sweep begins again.
    async fn judge_all(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let rules = &self.policy.rules;
        let mut after = Uuid::nil();
        loop {
            let Some(last) = counted_page!(self.store, report, tx => {
                let tokens = tx.lock_all_tokens(after, PAGE_SIZE).await?;
                judge_page(tx, self.policy, &tokens, now, report).await?;
                if tokens.is_empty() {
                    for row in tx.list_sources().await? {
                        judge_source(tx, rules, &row, now, report).await?;
                    }
                    tx.set_setting(RULES_FINGERPRINT, &rules.fingerprint())
                        .await?;
                }
                Ok(tokens.last().map(|token| token.id.0))
            })?
            else {
                return Ok(());
            };
            after = last;
            (self.on_progress)();
        }
    }

    /// Keeps unsent warnings from owners who have lost access; other owners of the token get theirs.
    async fn suppress_warnings(&self) -> Result<(), Error> {
        page!(self.store, tx => {
            for (token, owner) in tx.find_warnings_to_lost_owners().await? {
                tx.suppress_notices(token, &owner, LOST_ACCESS).await?;
            }
            Ok(())
        })
    }

    /// Opens a finding for every working token without an owner who has access, and notifies the administrators.
    async fn open_losses(&self, report: &mut Report) -> Result<(), Error> {
        let mut after = Uuid::nil();
        loop {
            let Some(last) = counted_page!(self.store, report, tx => {
                self.open_page_of_losses(tx, after, report).await
            })?
            else {
                return Ok(());
            };
            after = last;
        }
    }

    /// Returns the last token of the page, or `None` if there is none.
    async fn open_page_of_losses(
        &self,
        tx: &mut Tx,
        after: Uuid,
        report: &mut Report,
    ) -> Result<Option<Uuid>, Error> {
        let now = self.clock.now();
        let fresh = fresh_directories(self.directories, &tx.list_directories().await?, now);
        let dead = DeadAddresses::load(tx, now).await?;
        let outlived = tx
            .find_outlived_tokens(now, &fresh, after, PAGE_SIZE)
            .await?;
        let findings: Vec<NewFinding> = outlived
            .iter()
            .map(|outlived| loss_finding(outlived, now))
            .collect();
        tx.insert_findings(&findings).await?;
        let ids: Vec<_> = outlived.iter().map(|outlived| outlived.token.id).collect();
        let of_machines = tx.find_machine_tokens(&ids).await?;
        for (OutlivedToken { token, .. }, finding) in outlived.iter().zip(&findings) {
            let response = self.response.filter(|_| !of_machines.contains(&token.id));
            let countdown = response.and_then(|response| {
                let countdown =
                    find_countdown(self.sources, response, token, finding.id, None, now)?;
                Some((response, countdown))
            });
            if let Some((_, countdown)) = countdown {
                let revoke_at = Some(countdown.ends_at);
                tx.set_revoke_at(&[(finding.id, revoke_at)], now).await?;
            }
            self.notify_admins(tx, token, countdown, &dead, report)
                .await?;
        }
        report.findings_opened += findings.len() as u64;
        Ok(outlived.last().map(|outlived| outlived.token.id.0))
    }

    /// Plans the administrators' notices about one finding. The owners' unsent notices are suppressed: they are the
    /// wrong people to write to.
    async fn notify_admins(
        &self,
        tx: &mut Tx,
        token: &Token,
        countdown: Option<(RevocationPolicy, Countdown)>,
        dead: &DeadAddresses,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        // If the token is revoked soon, the warning replaces this notice: it contains the same and more.
        let occurrence = match countdown {
            Some((response, countdown)) if countdown.warn_at <= now => {
                warning_occurrence(response, countdown)
            }
            _ => Occurrence {
                topic: Topic::SsoRevoked,
                generation: now.into(),
                step: None,
            },
        };
        plan_loss_notices(tx, self.policy, (token, occurrence), dead, now, report).await?;
        for owner in token.owners() {
            tx.suppress_notices(token.id, owner, LOST_ACCESS).await?;
        }
        Ok(())
    }

    /// Plans the summary if its schedule has a tick between `summarized_until` and now, or one soon enough to go with
    /// the administrators' daily mail. Several missed ticks make one mail. Without open findings there is no mail.
    async fn plan_summary(
        &self,
        summarized_until: Option<&str>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(schedule) = self.summary else {
            return self.write_mark(summarized_until, OFF).await;
        };
        let now = self.clock.now();
        let schedule_key = format!("{schedule} {}", schedule.zone());
        let soon = self.summary_horizon(now);
        // A later one was written by a clock that jumped.
        let until = parse_mark(summarized_until, &schedule_key).filter(|until| *until <= soon);
        let tick = until
            .and_then(|until| schedule.next_after(until))
            .filter(|tick| *tick <= soon);
        if let (Some(until), None) = (until, tick) {
            return self
                .write_mark(summarized_until, &format_mark(until, &schedule_key))
                .await;
        }
        let until = if tick.is_some() { soon } else { now };
        let mark = format_mark(until, &schedule_key);
        counted_page!(self.store, report, tx => {
            if let Some(tick) = tick {
                self.plan_summary_of(tick, tx, report).await?;
            }
            Ok(tx.set_setting(SUMMARIZED_UNTIL, &mark).await?)
        })
    }

    async fn plan_summary_of(
        &self,
        tick: DateTime<Utc>,
        tx: &mut Tx,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let silent_sources = tx.list_silent_sources(now).await?;
        let open = tx
            .count_open_findings(now, &silent_sources)
            .await?
            .iter()
            .map(|open| open.count)
            .sum();
        if open == 0 {
            return Ok(());
        }
        let dead = DeadAddresses::load(tx, now).await?;
        let notices: Vec<NewNotice> = self
            .policy
            .reachable_admins(&|address| dead.contains(address))
            .iter()
            .map(|admin| summary_notice(admin, tick, open, now))
            .collect();
        if notices.is_empty() {
            tracing::warn!("findings are open, but no administrator can be notified");
        }
        report.notices_planned += tx.insert_notices(&notices, None, now).await?;
        Ok(())
    }

    /// Ticks up to this instant are handled now. The daily mail goes out with the last sweep before its hour, and a
    /// summary at the same hour goes with it.
    fn summary_horizon(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.policy.admin_digest {
            Some(_) => horizon(self.sweep, now).min(shift(now, self.policy.merge_ahead)),
            None => now,
        }
    }

    /// Stores the mark if it differs from the `known` one.
    async fn write_mark(&self, known: Option<&str>, mark: &str) -> Result<(), Error> {
        if known == Some(mark) {
            return Ok(());
        }
        page!(self.store, tx => Ok(tx.set_setting(SUMMARIZED_UNTIL, mark).await?))
    }
}

/// Reports expired tokens to the sources that mark them.
///
/// The store remembers which tokens are to be reported until the source has them, so a program that is killed loses
/// nothing; at worst a source gets one batch of tokens twice.
pub(super) struct MarkExpired<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub sources: &'a [WatchedSource],
    pub on_progress: OnProgress<'a>,
}

impl MarkExpired<'_> {
    /// Reports to every source that wants it, except one whose last sync failed.
    pub async fn run(&self, options: &SweepOptions, report: &mut Report) -> Result<(), Error> {
        for watched in self.sources {
            if !watched.source.marks_expired() || !options.includes(&watched.terms.name) {
                continue;
            }
            let mut tx = self.store.begin_read().await?;
            let row = tx.find_source(&watched.terms.name).await?;
            drop(tx);
            if row.is_some_and(|row| row.sync_state.failures == 0) {
                self.report_to(watched, report).await?;
            }
        }
        Ok(())
    }

    async fn report_to(&self, watched: &WatchedSource, report: &mut Report) -> Result<(), Error> {
        let now = self.clock.now();
        let mut guard = PageGuard::default();
        loop {
            let mut tx = self.store.begin_read().await?;
            let tokens = tx
                .find_tokens_to_mark_expired(&watched.terms.name, now, BATCH_SIZE)
                .await?;
            drop(tx);
            let Some(first) = tokens.first() else {
                return Ok(());
            };
            guard.check("token", first.id.0)?;
            let ack = watched.source.mark_expired(&tokens).await;
            page!(self.store, tx => {
                tx.set_mark_expired_at(&ack.done, None).await?;
                let retry_at = Some(shift(now, RETRY_AFTER));
                Ok(tx.set_mark_expired_at(&ack.failed, retry_at).await?)
            })?;
            report.expiries_reported += ack.done.len() as u64;
            if let Some(error) = ack.error {
                report.problems.push(format!(
                    "source {}: could not mark tokens as expired: {}",
                    watched.terms.name,
                    Error::from(error).chain()
                ));
            }
            if ack.done.len() + ack.failed.len() < tokens.len() {
                // The source is unreachable; the other tokens wait for the next sweep.
                return Ok(());
            }
            (self.on_progress)();
        }
    }
}

/// The finding of a token that outlives its owners' access.
fn loss_finding(outlived: &OutlivedToken, now: DateTime<Utc>) -> NewFinding {
    let OutlivedToken { token, losses } = outlived;
    let since = losses
        .iter()
        .map(|row| row.identity.since.or(row.identity.observed_at));
    NewFinding {
        id: new_id(now),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind: FindingKind::SsoRevoked,
        severity: loss_severity(losses, token.role.as_deref()),
        // Since then, no owner has access.
        since: since.max().flatten().unwrap_or(now),
        evidence: format_evidence(losses, now),
        directory: losses.first().map(|row| row.directory.clone()),
    }
}

fn format_mark(until: DateTime<Utc>, schedule: &str) -> String {
    format!("{} {schedule}", until.to_rfc3339())
}

/// `None` if the mark is for another schedule.
fn parse_mark(mark: Option<&str>, schedule: &str) -> Option<DateTime<Utc>> {
    let mark = mark?;
    let (until, stored_schedule) = mark.split_once(' ').unwrap_or((mark, schedule));
    if stored_schedule != schedule {
        return None;
    }
    until.parse().ok()
}

/// The notice of one tick to one administrator. The tick identifies it, so a second replica does not send it again.
fn summary_notice(
    admin: &Recipient,
    tick: DateTime<Utc>,
    open: i64,
    now: DateTime<Utc>,
) -> NewNotice {
    let occurrence = Occurrence {
        topic: Topic::Summary,
        generation: tick.into(),
        step: None,
    };
    NewNotice {
        title: Some(wording::quantity(open, "open finding")),
        ..NewNotice::for_subject("findings", occurrence, admin, now)
    }
}
