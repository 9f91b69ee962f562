//! Judge: marks tokens whose expiry has passed, and keeps findings in step with the facts.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::response::Countdown;
use crate::domain::{FindingKind, Occurrence, Policy, Severity, Token, Topic};
use crate::store::{IdentityRow, NewFinding, Outlived, Tx};

use super::defects::JUDGED_UNDER;
use super::summary::TOLD_UNTIL;
use super::{Dead, Engine, Error, PAGE, Report};

/// The small fact that says that who has access, or to whom tokens belong, has changed. Each change writes a value
/// of its own.
const PENDING: &str = "judge.pending";

/// Asks who lost his access to be judged again, because something that depends on has changed.
pub(super) async fn ask(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
    Ok(tx
        .put_meta(PENDING, &super::new_id(now).to_string())
        .await?)
}

/// Whether somebody has asked, and it is not done yet.
pub(super) async fn is_asked(tx: &mut Tx) -> Result<bool, Error> {
    Ok(!tx.metas(&[PENDING]).await?.is_empty())
}

/// Takes down by which rules the first tokens of a store were looked at, and from when on the
/// administrators are to be told of them.
pub(super) async fn begin(tx: &mut Tx, policy: &Policy, now: DateTime<Utc>) -> Result<(), Error> {
    tx.put_meta_once(JUDGED_UNDER, &policy.rules.fingerprint())
        .await?;
    Ok(tx.put_meta_once(TOLD_UNTIL, &now.to_rfc3339()).await?)
}

impl Engine {
    /// Marks, unmarks, opens and resolves, in pages.
    pub(super) async fn judge(&self, report: &mut Report) -> Result<(), Error> {
        self.mark(report).await?;
        let mut tx = self.store.read().await?;
        let facts = tx.metas(&[PENDING, JUDGED_UNDER, TOLD_UNTIL]).await?;
        let is_any_due = tx.is_any_to_judge(self.now()).await?;
        drop(tx);
        if facts.get(JUDGED_UNDER) != Some(&self.policy.rules.fingerprint()) {
            self.judge_all(report).await?;
        } else if is_any_due {
            self.judge_due(report).await?;
        }
        if let Some(pending) = facts.get(PENDING) {
            self.judge_people(pending, report).await?;
        }
        let told_until = facts.get(TOLD_UNTIL).map(String::as_str);
        self.summarise(told_until, report).await
    }

    /// Judges who lost his access.
    async fn judge_people(&self, pending: &str, report: &mut Report) -> Result<(), Error> {
        self.resolve(report).await?;
        self.open(report).await?;
        // An import may have asked again meanwhile, by another value: that stays.
        let mut tx = self.store.begin().await?;
        tx.drop_meta(PENDING, pending).await?;
        Ok(tx.commit().await?)
    }

    async fn mark(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let telling = self.telling();
        loop {
            let mut tx = self.store.begin().await?;
            let unmarked = tx.unmark_expired(now, PAGE).await?;
            let marked = tx.mark_expired(now, PAGE, &telling).await?;
            if marked > 0 || unmarked > 0 {
                // A finding about a token that no longer works has lost its ground, and the reverse.
                ask(&mut tx, now).await?;
                tx.commit().await?;
            }
            report.expired += marked;
            report.unexpired += unmarked;
            if marked.max(unmarked) < PAGE.unsigned_abs() {
                return Ok(());
            }
        }
    }

    /// Closes findings whose ground is gone, and takes back the unsent notices about them.
    pub(super) async fn resolve(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        loop {
            let mut tx = self.store.begin().await?;
            let groundless = tx.groundless_findings(now, PAGE).await?;
            for (finding, token) in &groundless {
                tx.resolve_finding(*finding, now).await?;
                tx.cancel_topic(*token, Topic::SsoRevoked, "the finding is resolved")
                    .await?;
            }
            tx.commit().await?;
            report.findings_resolved += groundless.len() as u64;
            if groundless.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }

    /// Opens a finding for every working token of a person who is out, and tells the administrators.
    async fn open(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.store.begin().await?;
            let fresh = self.fresh(&tx.directories().await?, now);
            let dead = self.dead(&mut tx, now).await?;
            let outlived = tx.outlived_tokens(now, &fresh, after, PAGE).await?;
            let Some(last) = outlived.last() else {
                return Ok(());
            };
            after = last.token.id.0;
            let findings: Vec<NewFinding> =
                outlived.iter().map(|found| finding(found, now)).collect();
            tx.open_findings(&findings).await?;
            for (found, finding) in outlived.iter().zip(&findings) {
                let countdown = self.announced(&found.token, finding.id, now);
                if let Some(countdown) = countdown {
                    let end = (finding.id, Some(countdown.ends_at));
                    tx.put_revoke_at(&[end], now).await?;
                }
                self.tell_admins(&mut tx, &found.token, countdown, &dead, report)
                    .await?;
            }
            tx.commit().await?;
            report.findings_opened += findings.len() as u64;
        }
    }

    /// Plans the administrators' notices of one finding, and settles what the issuer was owed: he is
    /// the wrong person to write to.
    async fn tell_admins(
        &self,
        tx: &mut Tx,
        token: &Token,
        countdown: Option<Countdown>,
        dead: &Dead,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.now();
        // One that ends soon is told of by its warning: that says the same, and more.
        let warned = countdown.filter(|countdown| countdown.warn_at <= now);
        let occurrence = warned.map_or_else(
            || Occurrence {
                topic: Topic::SsoRevoked,
                generation: now,
                step: None,
            },
            |countdown| self.warning(countdown),
        );
        self.tell_of_loss(tx, token, occurrence, dead, report)
            .await?;
        if let Some(issuer) = &token.issuer {
            tx.suppress_notices(token.id, issuer, "the issuer lost access")
                .await?;
        }
        Ok(())
    }
}

/// The finding of a token that outlives its issuer's access.
fn finding(found: &Outlived, now: DateTime<Utc>) -> NewFinding {
    let (identity, token) = (&found.identity, &found.token);
    let seen = identity.observed_at.unwrap_or(now);
    NewFinding {
        id: super::new_id(now),
        token_id: Some(token.id),
        source: token.source.clone(),
        kind: FindingKind::SsoRevoked,
        severity: severity(identity, token.role.as_deref()),
        since: identity.since.unwrap_or(seen),
        evidence: evidence(identity, seen),
    }
}

/// How bad it is that a token of this role works.
fn severity(identity: &IdentityRow, role: Option<&str>) -> Severity {
    let reason = identity.reason.as_deref();
    let reason = reason.and_then(|word| word.parse().ok());
    Severity::of_loss(identity.status, reason, role)
}

/// Brings the open findings about tokens of people who are lost in another way than before up to date. Nobody is
/// told again.
pub(super) async fn restate(
    tx: &mut Tx,
    rows: &[IdentityRow],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    for row in rows {
        let said = evidence(row, row.observed_at.unwrap_or(now));
        for (finding, role) in tx.open_losses_of(&row.email_key, &row.directory).await? {
            let severity = severity(row, role.as_deref());
            tx.restate_finding(finding, severity, &said).await?;
        }
    }
    Ok(())
}

/// What a directory says, since when, and when it was seen.
pub(super) fn evidence(identity: &IdentityRow, seen: DateTime<Utc>) -> String {
    let time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC").to_string();
    let IdentityRow {
        directory,
        evidence,
        ..
    } = identity;
    let effective = identity.since.filter(|since| *since != seen);
    let effective = effective.map_or_else(String::new, |at| format!(", effective {}", time(at)));
    let said = evidence.strip_suffix(", checked by id");
    let checked = if said.is_some() {
        ", checked by id"
    } else {
        ""
    };
    let said = said.unwrap_or(evidence);
    format!(
        "{directory} says {said}, seen {}{effective}{checked}",
        time(seen)
    )
}
