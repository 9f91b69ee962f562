//! Findings: judges tokens and sources by the rules, and states what directories report about lost access.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::domain::{
    FindingKind, Identity, Policy, RuleFinding, Rules, Severity, Token, TokenId, Topic,
    checked_suffix, describe_drift, unknown_expiries,
};
use crate::store::{IdentityRow, NewFinding, OpenFinding, SourceRow, Tx};

use super::common::{Error, PAGE_SIZE, PageGuard, Report, new_id};
use super::leased::{LeasedStore, counted_page, page};
use super::notices::Alert;

/// Setting: the fingerprint of the rules by which every token was judged.
pub(super) const RULES_FINGERPRINT: &str = "judge.rules";

/// Setting: the instant up to which ticks of the summary's schedule are done and, once a sweep has seen it, the
/// schedule. Past ticks of a different schedule do not count.
pub(super) const SUMMARIZED_UNTIL: &str = "summary.until";

/// How many different reasons a mail about unreadable cells lists.
const MAX_LISTED_CELLS: usize = 10;

/// Setting: access or token owners changed since the last judging. Each change writes a new value.
pub(super) const JUDGING_PENDING: &str = "judge.pending";

/// Requests that lost access is judged in the next sweep.
pub(super) async fn request(tx: &mut Tx, now: DateTime<Utc>) -> Result<(), Error> {
    let value = new_id(now).to_string();
    Ok(tx.set_setting(JUDGING_PENDING, &value).await?)
}

pub(super) async fn is_requested(tx: &mut Tx) -> Result<bool, Error> {
    Ok(!tx.load_settings(&[JUDGING_PENDING]).await?.is_empty())
}

/// Called with the first tokens of a store: stores the rules by which they are judged, and that the summary begins now.
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

/// Judges a page of tokens by the rules.
pub(super) async fn judge_page(
    tx: &mut Tx,
    policy: &Policy,
    tokens: &[Token],
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let ids: Vec<_> = tokens.iter().map(|token| token.id).collect();
    let mut open: HashMap<_, Vec<_>> = HashMap::new();
    for finding in tx.load_open_findings(&ids).await? {
        open.entry(finding.token_id).or_default().push(finding);
    }
    let mut changes = FindingChanges::default();
    let mut judge_at = Vec::new();
    for token in tokens {
        let judgement = policy.rules.judge(token, now);
        let id = Some(token.id);
        let mut known = open.remove(&id).unwrap_or_default();
        known.retain(|finding| !judgement.undecided.contains(&finding.kind));
        changes.add(id, &token.source, known, judgement.findings, now);
        if judgement.next_at != token.judge_at {
            judge_at.push((token.id, judgement.next_at));
        }
    }
    tx.set_judge_at(&judge_at).await?;
    changes.write(tx, now, report).await?;
    report_unreadable(tx, policy, &changes.opened, now, report).await
}

/// Notifies the administrators, once, of tokens that are newly found to have cells that cannot be read: one notice about
/// each source in a sweep.
async fn report_unreadable(
    tx: &mut Tx,
    policy: &Policy,
    opened: &[NewFinding],
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut by_source: BTreeMap<&str, Vec<&NewFinding>> = BTreeMap::new();
    for finding in opened {
        if finding.kind == FindingKind::Unreadable {
            by_source.entry(&finding.source).or_default().push(finding);
        }
    }
    for (source, findings) in by_source {
        let alert = unreadable_alert(source, &findings, now);
        alert.plan(tx, policy, now, report).await?;
    }
    Ok(())
}

fn unreadable_alert<'a>(
    source: &'a str,
    findings: &[&NewFinding],
    now: DateTime<Utc>,
) -> Alert<'a> {
    let mut cells: Vec<_> = findings.iter().map(|finding| &finding.evidence).collect();
    cells.sort_unstable();
    cells.dedup();
    let listed: Vec<_> = cells
        .iter()
        .take(MAX_LISTED_CELLS)
        .map(|cell| format!("    {cell}\n"))
        .collect();
    Alert {
        subject: source,
        since: now,
        title: format!("The source {source} reports cells that cannot be read"),
        text: format!(
            "lapsed goes on with what it knows of these tokens: a value that it has read before stays, and any other \
             is unknown. Warnings may be missing or have the wrong date until this is fixed at the source {source}:\n\n\
             {}\nList every one:\n\n    lapsed finding list --kind unreadable",
            listed.concat()
        ),
    }
}

/// Judges the longest token life that a source allows, if the source reported one.
pub(super) async fn judge_source(
    tx: &mut Tx,
    rules: &Rules,
    row: &SourceRow,
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(evidence) = &row.max_life_evidence else {
        return Ok(());
    };
    let max_life = row.max_life.map(TimeDelta::seconds);
    let finding = rules.source_finding(max_life, evidence);
    let kind = FindingKind::SourceAllowsUnlimited;
    settle_source_finding(tx, &row.name, (kind, finding), now, report).await
}

/// Judges whether most active tokens of a source have no known expiry. Reads all its tokens.
pub(super) async fn judge_expiries(
    tx: &mut Tx,
    source: &str,
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let (active, unknown) = tx.count_unknown_expiries(source, now).await?;
    let finding = unknown_expiries(active, unknown);
    settle_source_finding(
        tx,
        source,
        (FindingKind::UnknownExpiry, finding),
        now,
        report,
    )
    .await
}

/// Opens, updates or resolves the finding of this kind about a source.
async fn settle_source_finding(
    tx: &mut Tx,
    source: &str,
    (kind, finding): (FindingKind, Option<RuleFinding>),
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut open = tx.load_open_source_findings(source).await?;
    open.retain(|known| known.kind == kind);
    let mut changes = FindingChanges::default();
    changes.add(None, source, open, finding.into_iter().collect(), now);
    changes.write(tx, now, report).await
}

/// What the finding about replicas has as its source.
const REPLICAS: &str = "replicas";

/// Judges whether live replicas have the same configuration.
pub(super) async fn judge_replicas(
    store: LeasedStore<'_>,
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut tx = store.begin_read().await?;
    let drift = describe_drift(&tx.list_replicas().await?, now);
    let mut open = tx.load_open_source_findings(REPLICAS).await?;
    drop(tx);
    open.retain(|known| known.kind == FindingKind::ReplicaDrift);
    if drift.is_none() && open.is_empty() {
        return Ok(());
    }
    let finding = drift.map(|evidence| RuleFinding {
        kind: FindingKind::ReplicaDrift,
        severity: Severity::Medium,
        since: None,
        evidence,
    });
    let mut changes = FindingChanges::default();
    changes.add(None, REPLICAS, open, finding.into_iter().collect(), now);
    counted_page!(store, report, tx => changes.write(tx, now, report).await)
}

/// Resolves findings about lost access that no longer hold, and cancels their unsent notices.
pub(super) async fn resolve_losses(
    store: LeasedStore<'_>,
    now: DateTime<Utc>,
    report: &mut Report,
) -> Result<(), Error> {
    let mut guard = PageGuard::default();
    loop {
        let resolved = page!(store, tx => {
            let obsolete = tx.find_obsolete_findings(now, PAGE_SIZE).await?;
            let findings: Vec<_> = obsolete.iter().map(|(finding, _)| *finding).collect();
            tx.resolve_findings(&findings, now).await?;
            for (_, token) in &obsolete {
                tx.cancel_notices_of_topic(*token, Topic::SsoRevoked, "the finding is resolved")
                    .await?;
            }
            Ok(findings)
        })?;
        if let Some(first) = resolved.first() {
            guard.check("finding", *first)?;
        }
        report.findings_resolved += resolved.len() as u64;
        if resolved.len() < usize::try_from(PAGE_SIZE).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
}

#[derive(Default)]
pub(super) struct FindingChanges {
    pub opened: Vec<NewFinding>,
    refreshed: Vec<(Uuid, RuleFinding, DateTime<Utc>)>,
    resolved: Vec<Uuid>,
}

impl FindingChanges {
    pub fn add(
        &mut self,
        token_id: Option<TokenId>,
        source: &str,
        mut open: Vec<OpenFinding>,
        wanted: Vec<RuleFinding>,
        now: DateTime<Utc>,
    ) {
        for finding in wanted {
            let Some(position) = open.iter().position(|known| known.kind == finding.kind) else {
                self.opened.push(NewFinding {
                    id: new_id(now),
                    token_id,
                    source: source.to_owned(),
                    kind: finding.kind,
                    severity: finding.severity,
                    since: finding.since.unwrap_or(now).min(now),
                    evidence: finding.evidence,
                    directory: None,
                });
                continue;
            };
            let known = open.swap_remove(position);
            let is_same = known.severity == finding.severity && known.evidence == finding.evidence;
            if !is_same || known.since > now {
                // A time in the future comes from a clock that was ahead; kept, it would be evaluated in
                // each sweep until then.
                let since = known.since.min(now);
                self.refreshed.push((known.id, finding, since));
            }
        }
        self.resolved
            .extend(open.into_iter().map(|finding| finding.id));
    }

    pub async fn write(
        &self,
        tx: &mut Tx,
        now: DateTime<Utc>,
        report: &mut Report,
    ) -> Result<(), Error> {
        tx.resolve_findings(&self.resolved, now).await?;
        tx.insert_findings(&self.opened).await?;
        for (id, finding, since) in &self.refreshed {
            tx.update_finding(*id, finding.severity, &finding.evidence, Some(*since))
                .await?;
        }
        report.findings_opened += self.opened.len() as u64;
        report.findings_resolved += self.resolved.len() as u64;
        Ok(())
    }
}

/// The severity of the worst loss.
pub(super) fn loss_severity(losses: &[IdentityRow], role: Option<&str>) -> Severity {
    let severities = losses.iter().map(|row| {
        let Identity { status, reason, .. } = row.identity;
        Severity::of_loss(status, reason, role)
    });
    severities.max().unwrap_or(Severity::Medium)
}

/// Updates the open findings of people whose loss changed, without new notices.
pub(super) async fn restate_findings(
    tx: &mut Tx,
    rows: &[IdentityRow],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    for row in rows {
        let key = row.identity.email.key();
        for (finding, token) in tx.find_open_losses(key, &row.directory).await? {
            let Some(token) = tx.load_tokens(&[token]).await?.pop() else {
                continue;
            };
            let losses = match token.co_owners.as_slice() {
                [] => vec![row.clone()],
                _ => tx.find_losses(&token, None).await?,
            };
            let severity = loss_severity(&losses, token.role.as_deref());
            tx.update_finding(finding, severity, &format_evidence(&losses, now), None)
                .await?;
        }
    }
    Ok(())
}

/// The evidence of directories about the owners of one token.
pub(super) fn format_evidence(losses: &[IdentityRow], now: DateTime<Utc>) -> String {
    if let [row] = losses {
        return format_statement(row, now);
    }
    let of_owner =
        |row: &IdentityRow| format!("{}: {}", row.identity.email, format_statement(row, now));
    losses.iter().map(of_owner).collect::<Vec<_>>().join("; ")
}

/// What a directory says with its times. Evidence that was never seen before is seen `now`.
fn format_statement(row: &IdentityRow, now: DateTime<Utc>) -> String {
    let IdentityRow {
        directory,
        identity,
    } = row;
    let format_time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC");
    let seen = identity.observed_at.unwrap_or(now);
    let effective = identity
        .since
        .filter(|since| *since != seen)
        .map(|at| format!(", effective {}", format_time(at)));
    format!(
        "{directory} says {}, seen {}{}{}",
        identity.evidence,
        format_time(seen),
        effective.unwrap_or_default(),
        checked_suffix(identity.checked_by_id)
    )
}
