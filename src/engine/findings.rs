//! Judges tokens and sources by the rules. Only those whose result may have changed are evaluated.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::{RuleFinding, Token, TokenId};
use crate::store::{NewFinding, OpenFinding, SourceRow, Tx};

use super::{Engine, Error, PAGE_SIZE, Report, new_id};

/// Setting: the fingerprint of the rules by which every token was judged.
pub(super) const RULES_FINGERPRINT: &str = "judge.rules";

impl Engine {
    /// Judges the tokens that are due for it.
    pub(super) async fn judge_due(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.rejudge_future_findings(now).await?;
        tx.commit().await?;
        loop {
            let mut tx = self.store.begin().await?;
            let tokens = tx.lock_tokens_to_judge(now, PAGE_SIZE).await?;
            if tokens.is_empty() {
                return Ok(());
            }
            self.judge_page(&mut tx, &tokens, now, report).await?;
            tx.commit().await?;
            (self.on_progress)();
        }
    }

    /// Judges every token and source, because the rules changed. After an interruption the old fingerprint is still
    /// stored, and the next sweep begins again.
    pub(super) async fn judge_all(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.store.begin().await?;
            let tokens = tx.lock_all_tokens(after, PAGE_SIZE).await?;
            let Some(last) = tokens.last() else {
                for row in tx.list_sources().await? {
                    self.judge_source(&mut tx, &row, report).await?;
                }
                tx.set_setting(RULES_FINGERPRINT, &self.policy.rules.fingerprint())
                    .await?;
                return Ok(tx.commit().await?);
            };
            after = last.id.0;
            self.judge_page(&mut tx, &tokens, now, report).await?;
            tx.commit().await?;
            (self.on_progress)();
        }
    }

    async fn judge_page(
        &self,
        tx: &mut Tx,
        tokens: &[Token],
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
        let mut open = OpenFindings::new(tx.load_open_findings(&ids).await?);
        let (mut changes, mut judged) = (FindingChanges::default(), Vec::new());
        for token in tokens {
            let judgement = self.policy.rules.judge(token, now);
            let subject = (Some(token.id), token.source.as_str());
            changes.add(subject, open.take(token.id), judgement.findings, now);
            if judgement.next_at != token.judge_at {
                judged.push((token.id, judgement.next_at));
            }
        }
        tx.set_judge_at(&judged).await?;
        changes.write(tx, now, report).await
    }

    /// Judges the longest token life that a source allows, if the source reported one.
    pub(super) async fn judge_source(
        &self,
        tx: &mut Tx,
        row: &SourceRow,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(evidence) = &row.max_life_evidence else {
            return Ok(());
        };
        let now = self.now();
        let max_life = row.max_life.map(TimeDelta::seconds);
        let finding = self.policy.rules.source_finding(max_life, evidence);
        let open = tx.load_open_source_findings(&row.name).await?;
        let mut changes = FindingChanges::default();
        let wanted = finding.into_iter().collect();
        changes.add((None, &row.name), open, wanted, now);
        changes.write(tx, now, report).await
    }
}

/// The open findings of a page of tokens.
struct OpenFindings(std::collections::HashMap<TokenId, Vec<OpenFinding>>);

impl OpenFindings {
    fn new(findings: Vec<OpenFinding>) -> Self {
        let mut open = Self(std::collections::HashMap::new());
        for finding in findings {
            if let Some(token) = finding.token_id {
                open.0.entry(token).or_default().push(finding);
            }
        }
        open
    }

    fn take(&mut self, token: TokenId) -> Vec<OpenFinding> {
        self.0.remove(&token).unwrap_or_default()
    }
}

#[derive(Default)]
struct FindingChanges {
    opened: Vec<NewFinding>,
    refreshed: Vec<(Uuid, RuleFinding, DateTime<Utc>)>,
    resolved: Vec<Uuid>,
}

impl FindingChanges {
    fn add(
        &mut self,
        (token_id, source): (Option<TokenId>, &str),
        mut open: Vec<OpenFinding>,
        wanted: Vec<RuleFinding>,
        now: DateTime<Utc>,
    ) {
        for finding in wanted {
            let known = open
                .iter()
                .position(|known| known.kind == finding.kind)
                .map(|at| open.swap_remove(at));
            match known {
                Some(known)
                    if (known.severity, &known.evidence)
                        != (finding.severity, &finding.evidence)
                        || known.since > now =>
                {
                    // A time in the future comes from a clock that was ahead; kept, it would be evaluated in
                    // each sweep until then.
                    let since = known.since.min(now);
                    self.refreshed.push((known.id, finding, since));
                }
                Some(_) => {}
                None => self.opened.push(NewFinding {
                    id: new_id(now),
                    token_id,
                    source: source.to_owned(),
                    kind: finding.kind,
                    severity: finding.severity,
                    since: finding.since.unwrap_or(now).min(now),
                    evidence: finding.evidence,
                }),
            }
        }
        self.resolved
            .extend(open.into_iter().map(|finding| finding.id));
    }

    async fn write(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        tx.resolve_findings(&self.resolved, now).await?;
        tx.insert_findings(&self.opened).await?;
        for (id, finding, since) in &self.refreshed {
            tx.update_finding(*id, finding, *since).await?;
        }
        report.findings_opened += self.opened.len() as u64;
        report.findings_resolved += self.resolved.len() as u64;
        Ok(())
    }
}
