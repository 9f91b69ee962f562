//! Judging tokens and sources by their own facts: only those whose answer may be another are looked at.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::{Defect, Token, TokenId};
use crate::store::{NewFinding, SourceRow, StandingFinding, Tx};

use super::{Engine, Error, PAGE, Report, new_id};

/// The small fact that names the rules by which every token was judged.
pub(super) const JUDGED_UNDER: &str = "judge.rules";

impl Engine {
    /// Judges the tokens whose time has come; each leaves that set.
    pub(super) async fn judge_due(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let mut tx = self.store.begin().await?;
        tx.recall_judged_ahead(now).await?;
        tx.commit().await?;
        loop {
            let mut tx = self.store.begin().await?;
            let tokens = tx.tokens_to_judge(now, PAGE).await?;
            if tokens.is_empty() {
                return Ok(());
            }
            self.judge_page(&mut tx, &tokens, now, report).await?;
            tx.commit().await?;
            (self.on_progress)();
        }
    }

    /// Judges every token and source, because the rules are others than before. An interruption leaves
    /// the old ones in place, and the next sweep begins again.
    pub(super) async fn judge_all(&self, report: &mut Report) -> Result<(), Error> {
        let now = self.now();
        let mut after = Uuid::nil();
        loop {
            let mut tx = self.store.begin().await?;
            let tokens = tx.all_tokens(after, PAGE).await?;
            let Some(last) = tokens.last() else {
                for row in tx.sources().await? {
                    self.judge_source(&mut tx, &row, report).await?;
                }
                tx.put_meta(JUDGED_UNDER, &self.policy.rules.fingerprint())
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
        let mut standing = Standing::of(tx.standing_of(&ids).await?);
        let (mut changes, mut judged) = (Differences::default(), Vec::new());
        for token in tokens {
            let verdict = self.policy.rules.verdict(token, now);
            let subject = (Some(token.id), token.source.as_str());
            changes.note(subject, standing.take(token.id), verdict.defects, now);
            if verdict.next_at != token.judge_at {
                judged.push((token.id, verdict.next_at));
            }
        }
        tx.put_judge_at(&judged).await?;
        changes.write(tx, now, report).await
    }

    /// Judges what a source allows; one that never told of it is not judged.
    pub(super) async fn judge_source(
        &self,
        tx: &mut Tx,
        row: &SourceRow,
        report: &mut Report,
    ) -> Result<(), Error> {
        let Some(evidence) = &row.life_evidence else {
            return Ok(());
        };
        let now = self.now();
        let longest = row.longest_life.map(TimeDelta::seconds);
        let defect = self.policy.rules.source_defect(longest, evidence);
        let standing = tx.standing_of_source(&row.name).await?;
        let mut changes = Differences::default();
        let defects = defect.into_iter().collect();
        changes.note((None, &row.name), standing, defects, now);
        changes.write(tx, now, report).await
    }
}

/// What stands against the tokens of a page.
struct Standing(std::collections::HashMap<TokenId, Vec<StandingFinding>>);

impl Standing {
    fn of(findings: Vec<StandingFinding>) -> Self {
        let mut standing = Self(std::collections::HashMap::new());
        for finding in findings {
            if let Some(token) = finding.token_id {
                standing.0.entry(token).or_default().push(finding);
            }
        }
        standing
    }

    fn take(&mut self, token: TokenId) -> Vec<StandingFinding> {
        self.0.remove(&token).unwrap_or_default()
    }
}

/// In what the findings that stand differ from what is wrong.
#[derive(Default)]
struct Differences {
    opened: Vec<NewFinding>,
    refreshed: Vec<(Uuid, Defect, DateTime<Utc>)>,
    resolved: Vec<Uuid>,
}

impl Differences {
    fn note(
        &mut self,
        (token_id, source): (Option<TokenId>, &str),
        mut standing: Vec<StandingFinding>,
        defects: Vec<Defect>,
        now: DateTime<Utc>,
    ) {
        for defect in defects {
            let known = standing
                .iter()
                .position(|finding| finding.kind == defect.kind)
                .map(|at| standing.swap_remove(at));
            match known {
                Some(known)
                    if (known.severity, &known.evidence) != (defect.severity, &defect.evidence)
                        || known.since > now =>
                {
                    // A time to come was told by a clock that was ahead; left so, the finding would be
                    // looked at in each sweep until then.
                    let since = known.since.min(now);
                    self.refreshed.push((known.id, defect, since));
                }
                Some(_) => {}
                None => self.opened.push(NewFinding {
                    id: new_id(now),
                    token_id,
                    source: source.to_owned(),
                    kind: defect.kind,
                    severity: defect.severity,
                    since: defect.since.unwrap_or(now).min(now),
                    evidence: defect.evidence,
                }),
            }
        }
        self.resolved
            .extend(standing.into_iter().map(|finding| finding.id));
    }

    async fn write(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        tx.resolve_findings(&self.resolved, now).await?;
        tx.open_findings(&self.opened).await?;
        for (id, defect, since) in &self.refreshed {
            tx.refresh_finding(*id, defect, *since).await?;
        }
        report.findings_opened += self.opened.len() as u64;
        report.findings_resolved += self.resolved.len() as u64;
        Ok(())
    }
}
