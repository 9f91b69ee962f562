//! Ghosts: opens, updates and resolves the findings about sources that are no longer configured, notifies the
//! administrators, and ends the warnings about their tokens when the grace is over.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::domain::{FindingKind, Ghost, GhostPhase, Policy, Severity};
use crate::notify::wording;
use crate::store::{GhostFinding, NewFinding, SourceRow};

use super::common::{Error, Report, new_id};
use super::findings;
use super::leased::{LeasedStore, counted_page, page};
use super::notices::Alert;
use super::upstream::WatchedSource;

pub(super) struct Ghosts<'a> {
    pub store: LeasedStore<'a>,
    pub clock: &'a Clock,
    pub policy: &'a Policy,
    pub sources: &'a [WatchedSource],
}

impl Ghosts<'_> {
    /// Follows what the configuration says about the sources that were read before.
    pub async fn run(&self, report: &mut Report) -> Result<(), Error> {
        let is_configured =
            |name: &str| self.sources.iter().any(|source| source.terms.name == name);
        let mut tx = self.store.begin_read().await?;
        let ghosts = tx.list_ghosts(is_configured).await?;
        let known = tx.load_ghost_findings().await?.into_iter();
        drop(tx);
        let mut known: BTreeMap<_, _> = known
            .map(|finding| (finding.source.clone(), finding))
            .collect();
        for row in &ghosts {
            self.follow(row, known.remove(&row.name), report).await?;
        }
        for (source, finding) in known {
            self.end(&source, &finding, report).await?;
        }
        Ok(())
    }

    async fn follow(
        &self,
        row: &SourceRow,
        known: Option<GhostFinding>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let since = known.as_ref().map_or(now, |known| known.since.min(now));
        let ghost = Ghost { since };
        let phase = ghost.phase(now);
        let finding = ghost.finding(phase);
        if let Some(known) = &known
            && known.severity == finding.severity
        {
            return Ok(());
        }
        counted_page!(self.store, report, tx => {
            let last_call = if let Some(known) = &known {
                tx.update_finding(known.id, finding.severity, &finding.evidence, Some(since))
                    .await?;
                known.severity < Severity::High
            } else {
                let opened = NewFinding {
                    id: new_id(now),
                    token_id: None,
                    source: row.name.clone(),
                    kind: FindingKind::Unconfigured,
                    severity: finding.severity,
                    since,
                    evidence: finding.evidence.clone(),
                    directory: None,
                };
                tx.insert_findings(&[opened]).await?;
                report.findings_opened += 1;
                false
            };
            if known.is_none() || last_call {
                let alert = alert(&row.name, ghost, phase, row.tokens);
                alert.plan(tx, self.policy, now, report).await?;
            }
            if phase == GhostPhase::Silent {
                let reason = "its source is no longer configured";
                tx.cancel_warnings_of_source(&row.name, reason).await?;
            }
            Ok(())
        })
    }

    /// The source is configured again, renamed, removed, or filled by `import`.
    async fn end(
        &self,
        source: &str,
        known: &GhostFinding,
        report: &mut Report,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        page!(self.store, tx => {
            tx.resolve_findings(&[known.id], now).await?;
            if (Ghost { since: known.since }).phase(now) == GhostPhase::Silent {
                tx.replan_source(source, now).await?;
                findings::request(tx, now).await?;
            }
            Ok(())
        })?;
        report.findings_resolved += 1;
        Ok(())
    }
}

fn alert(name: &str, ghost: Ghost, phase: GhostPhase, tokens: i64) -> Alert<'_> {
    let format_time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC");
    let tokens = wording::quantity(tokens, "token");
    let end = format_time(ghost.silent_from());
    let (since, title, consequence) = match phase {
        GhostPhase::Grace => (
            ghost.since,
            format!("The source {name} is no longer configured"),
            format!("lapsed warns about them until {end}, and then stops"),
        ),
        GhostPhase::LastDay => (
            ghost.last_call_at(),
            format!("The tokens of the source {name} are warned about for one more day"),
            format!("lapsed stops warning about them at {end}"),
        ),
        GhostPhase::Silent => (
            ghost.last_call_at(),
            format!("The tokens of the source {name} are no longer warned about"),
            format!("lapsed has not warned about them since {end}"),
        ),
    };
    Alert {
        subject: name,
        since,
        title,
        text: format!(
            "No [[source]] has had the name {name} since {}. lapsed does not see changes to its {tokens}; {consequence}. \
             They stay listed as they are.\n\n\
             If it has a new name, keep its history:\n\n    lapsed source rename {name} NEW\n\n\
             If it is gone for good, remove its tokens:\n\n    lapsed source forget {name}\n\n\
             If it was removed by mistake, put its [[source]] back.",
            format_time(ghost.since)
        ),
    }
}
