//! Judge: marks expired tokens, and opens, updates and resolves findings.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::revocation::Countdown;
use crate::domain::{FindingKind, Occurrence, Policy, Severity, Token, Topic};
use crate::store::{IdentityRow, NewFinding, OutlivedToken, Tx};

use super::findings::RULES_FINGERPRINT;
use super::summary::SUMMARIZED_UNTIL;
use super::{DeadAddresses, Engine, Error, PAGE_SIZE, Report};

/// Setting: access or token owners changed since the last judging. Each change writes a new value.
const JUDGING_PENDING: &str = "judge.pending";

/// Requests that lost access is judged in the next sweep.
pub(super) async fn request(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
    Ok(tx
        .set_setting(JUDGING_PENDING, &super::new_id(now).to_string())
        .await?)
}

pub(super) async fn is_requested(tx: &mut Tx) -> Result<bool, Error> {
    Ok(!tx.load_settings(&[JUDGING_PENDING]).await?.is_empty())
}

/// Called with the first tokens of a store: stores the rules by which they are judged, and from when on the summary
/// counts.
pub(super) async fn init_settings(
    tx: &mut Tx,
    policy: &Policy,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    tx.insert_setting(RULES_FINGERPRINT, &policy.rules.fingerprint())
        .await?;
    Ok(tx
        .insert_setting(SUMMARIZED_UNTIL, &now.to_rfc3339())
        .await?)
}

impl Engine {
    pub(super) async fn judge(&self, report: &mut Report) -> Result<(), Error> {
        self.mark_expired(report).await?;
        let mut tx = self.store.begin_read().await?;
        let settings = tx
            .load_settings(&[JUDGING_PENDING, RULES_FINGERPRINT, SUMMARIZED_UNTIL])
            .await?;
        let is_any_due = tx.has_tokens_to_judge(self.now()).await?;
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

    /// Judges the tokens of people who lost access.
    async fn judge_people(&self, pending: &str, report: &mut Report) -> Result<(), Error> {
        self.resolve_losses(report).await?;
        self.open_losses(report).await?;
        // An import may have requested it again meanwhile with another value: that one stays.
        let mut tx = self.store.begin().await?;
        tx.delete_setting(JUDGING_PENDING, pending).await?;
        Ok(tx.commit().await?)
    }

    async fn mark_expired(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let marking_sources = self.sources_that_mark_expired();
        loop {
            let mut tx = self.store.begin().await?;
            let unmarked = tx.unmark_expired(now, PAGE_SIZE).await?;
            let marked = tx.mark_expired(now, PAGE_SIZE, &marking_sources).await?;
            if marked > 0 || unmarked > 0 {
                // Findings about tokens that no longer work are obsolete, and the reverse.
                request(&mut tx, now).await?;
                tx.commit().await?;
            }
            report.expired += marked;
            report.unexpired += unmarked;
            if marked.max(unmarked) < PAGE_SIZE.unsigned_abs() {
                return Ok(());
            }
        }
    }

    /// Resolves findings that no longer hold, and cancels their unsent notices.
    pub(super) async fn resolve_losses(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        loop {
            let mut tx = self.store.begin().await?;
            let obsolete = tx.find_obsolete_findings(now, PAGE_SIZE).await?;
            for (finding, token) in &obsolete {
                tx.resolve_finding(*finding, now).await?;
                tx.cancel_notices_of_topic(*token, Topic::SsoRevoked, "the finding is resolved")
                    .await?;
            }
            tx.commit().await?;
            report.findings_resolved += obsolete.len() as u64;
            if obsolete.len() < usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }

    /// Opens a finding for every working token of a person without access, and notifies the administrators.
    async fn open_losses(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.store.begin().await?;
            let fresh = self.fresh_directories(&tx.list_directories().await?, now);
            let dead = self.load_dead_addresses(&mut tx, now).await?;
            let outlived = tx
                .find_outlived_tokens(now, &fresh, after, PAGE_SIZE)
                .await?;
            let Some(last) = outlived.last() else {
                return Ok(());
            };
            after = last.token.id.0;
            let findings: Vec<NewFinding> = outlived
                .iter()
                .map(|found| loss_finding(found, now))
                .collect();
            tx.insert_findings(&findings).await?;
            for (found, finding) in outlived.iter().zip(&findings) {
                let countdown = self.countdown(&found.token, finding.id, None, now);
                if let Some(countdown) = countdown {
                    let end = (finding.id, Some(countdown.ends_at));
                    tx.set_revoke_at(&[end], now).await?;
                }
                self.notify_admins(&mut tx, &found.token, countdown, &dead, report)
                    .await?;
            }
            tx.commit().await?;
            report.findings_opened += findings.len() as u64;
        }
    }

    /// Plans the administrators' notices about one finding. The issuer's unsent notices are suppressed: they are the
    /// wrong person to write to.
    async fn notify_admins(
        &self,
        tx: &mut Tx,
        token: &Token,
        countdown: Option<Countdown>,
        dead: &DeadAddresses,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        // If the token is revoked soon, the warning replaces this notice: it contains the same and more.
        let due_warning = countdown.filter(|countdown| countdown.warn_at <= now);
        let occurrence = due_warning.map_or_else(
            || Occurrence {
                topic: Topic::SsoRevoked,
                generation: now,
                step: None,
            },
            |countdown| self.warning_occurrence(countdown),
        );
        self.plan_loss_notices(tx, token, occurrence, dead, report)
            .await?;
        if let Some(issuer) = &token.issuer {
            tx.suppress_notices(token.id, issuer, "the issuer lost access")
                .await?;
        }
        Ok(())
    }
}

/// The finding of a token that outlives its issuer's access.
fn loss_finding(found: &OutlivedToken, now: DateTime<Utc>) -> NewFinding {
    let (identity, token) = (&found.identity, &found.token);
    let seen = identity.observed_at.unwrap_or(now);
    NewFinding {
        id: super::new_id(now),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind: FindingKind::SsoRevoked,
        severity: loss_severity(identity, token.role.as_deref()),
        since: identity.since.unwrap_or(seen),
        evidence: format_evidence(identity, seen),
    }
}

fn loss_severity(identity: &IdentityRow, role: Option<&str>) -> Severity {
    let reason = identity.reason.as_deref();
    let reason = reason.and_then(|reason| reason.parse().ok());
    Severity::of_loss(identity.status, reason, role)
}

/// Updates the open findings of people whose loss changed, without new notices.
pub(super) async fn restate_findings(
    tx: &mut Tx,
    rows: &[IdentityRow],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    for row in rows {
        let evidence = format_evidence(row, row.observed_at.unwrap_or(now));
        for (finding, role) in tx.find_open_losses(&row.email_key, &row.directory).await? {
            let severity = loss_severity(row, role.as_deref());
            tx.update_finding_evidence(finding, severity, &evidence)
                .await?;
        }
    }
    Ok(())
}

/// The evidence of a directory with its times.
pub(super) fn format_evidence(identity: &IdentityRow, seen: DateTime<Utc>) -> String {
    let format_time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC").to_string();
    let IdentityRow {
        directory,
        evidence,
        ..
    } = identity;
    let effective = identity.since.filter(|since| *since != seen);
    let effective =
        effective.map_or_else(String::new, |at| format!(", effective {}", format_time(at)));
    let without_suffix = evidence.strip_suffix(", checked by id");
    let checked = if without_suffix.is_some() {
        ", checked by id"
    } else {
        ""
    };
    let evidence = without_suffix.unwrap_or(evidence);
    format!(
        "{directory} says {evidence}, seen {}{effective}{checked}",
        format_time(seen)
    )
}
