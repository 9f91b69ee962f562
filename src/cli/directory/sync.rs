//! Checks and syncs one directory now, or shows what a sync would change.

use serde_json::json;

use crate::causes::Causes;
use crate::cli::args::UpstreamSync;
use crate::cli::exit::{Exit, Failure, Result};
use crate::cli::identity::{evidence_text, status_cell};
use crate::cli::output::{Cell, Column, Field, Printer, Row, print_line};
use crate::cli::report::exit_code;
use crate::cli::setup::{self, Mode};
use crate::cli::upstream::{Kind, Upstream, finish_preview};
use crate::config::DirectoryConfig;
use crate::domain::{Identity, IdentityStatus, Reason};
use crate::engine::{self, Engine, Preview, Report, StatusChange, Survey, SurveyOutcome};

pub(super) async fn sync(upstream: &Upstream<'_>, args: &UpstreamSync) -> Result<Exit> {
    let sync = async |engine: &Engine, options: &_, stop: &_| {
        let (mut listed, mut issuers) = (None, 0);
        let on_survey = |survey: &Survey| (listed, issuers) = (survey.listed, survey.issuers);
        let report = engine.sync_directories_only(options, stop, on_survey).await;
        let summary = summary(&people_listed(upstream.name, listed, issuers), &report);
        (report, summary)
    };
    upstream.sync(args, sync).await
}

/// Tests the credentials of a directory, and whether a sync would be accepted now.
pub(super) async fn check(upstream: &Upstream<'_>, configured: &DirectoryConfig) -> Result<Exit> {
    upstream.ensure_not_deferred().await?;
    let watched =
        setup::build_directory(configured, &upstream.context.clock).map_err(Failure::config)?;
    let check = watched.directory.check();
    let checked = upstream.check(check, configured.proxy.as_deref()).await?;
    if configured.terms.canaries.is_empty() {
        print_line(
            "  hint    it has no `canaries`: name one or two people who certainly have access; a listing \
             that does not show them as active is then rejected",
        )?;
    }
    if checked.rights.iter().any(|right| right.missing.is_some()) {
        return Ok(Exit::Failed);
    }
    if let Some(problem) = acceptance_problem(upstream).await? {
        print_line(&format!("  cannot  be accepted: {problem}"))?;
        return Ok(Exit::Failed);
    }
    Ok(Exit::Ok)
}

/// `hr: 120 people listed, 14 of them issuers of tokens; the status of 3 changed`.
fn summary(listed: &str, report: &Report) -> String {
    let is_in_trouble = !report.problems.is_empty() || !report.errors.is_empty();
    match (report.people_changed, is_in_trouble) {
        (0, true) => format!("{listed}; nothing was accepted"),
        (0, false) => format!("{listed}; no status changed"),
        (count, _) => format!(
            "{listed}; the status of {count} changed. The next sweep flags or clears their tokens"
        ),
    }
}

fn people_listed(name: &str, listed: Option<u64>, issuers: u64) -> String {
    match listed {
        Some(1) => format!("{name}: 1 person listed, {issuers} of them an issuer of tokens"),
        Some(count) => {
            format!("{name}: {count} people listed, {issuers} of them issuers of tokens")
        }
        None => format!("{name}: nothing new"),
    }
}

/// What a sync would change. The outer error is about the store or the configuration.
async fn preview(
    upstream: &Upstream<'_>,
    accept_shrink: bool,
) -> Result<Result<Preview<Box<Survey>>, engine::Error>> {
    let Upstream {
        context, config, ..
    } = *upstream;
    setup::with_engine(context, config, Mode::DryRun, async |engine| {
        let directories = &engine.directories;
        let watched =
            Kind::Directory.find(directories, upstream.name, |watched| &watched.terms.name)?;
        let sync = engine.directory_sync();
        Ok(sync.preview(watched, accept_shrink).await)
    })
    .await
}

/// Prints what a sync would change, person by person.
pub(super) async fn dry_run(upstream: &Upstream<'_>, args: &UpstreamSync) -> Result<Exit> {
    let (summary, exit, rows) = match preview(upstream, args.accept_shrink).await?? {
        Preview::Deferred(until) => (upstream.deferred_message(Some(until)), Exit::Ok, Vec::new()),
        Preview::Listed(survey) => describe_survey(upstream.name, *survey),
    };
    let now = upstream.context.clock.now();
    let mut printer =
        Printer::<StatusChangeRow>::stdout(args.format, now, upstream.config.policy.zone);
    for row in &rows {
        printer.print_row(row)?;
    }
    finish_preview(printer, args.format, &summary)?;
    Ok(exit)
}

/// Why a sync would not be accepted now. `None` if it would be, or if the directory asked us to wait.
async fn acceptance_problem(upstream: &Upstream<'_>) -> Result<Option<String>> {
    Ok(match preview(upstream, false).await? {
        Ok(Preview::Deferred(_)) => None,
        Ok(Preview::Listed(survey)) => match survey.outcome {
            SurveyOutcome::Held { reason, .. } => Some(format!(
                "{reason}; `lapsed directory sync {} --dry-run` lists the people",
                upstream.name
            )),
            SurveyOutcome::Accepted { .. } => {
                if let Some(gaps) = survey.gaps() {
                    print_line(&format!("  hint    people may be missing: {gaps}"))?;
                }
                None
            }
        },
        Err(error) => Some(Causes(&error).to_string()),
    })
}

/// The summary, the exit code and a row for each person.
fn describe_survey(name: &str, survey: Survey) -> (String, Exit, Vec<StatusChangeRow>) {
    let listed = people_listed(name, survey.listed, survey.issuers);
    match survey.outcome {
        SurveyOutcome::Held {
            reason, changes, ..
        } => {
            let rows = changes.into_iter().map(|change| StatusChangeRow {
                change: "held",
                email: change.email,
                before: change.before,
                after: Some(change.after),
                reason: None,
                evidence: Some(change.evidence),
            });
            let summary = format!(
                "{listed}; it is held: {reason}\nIf that is right: lapsed directory release {name}; if not: fix it in \
                 the directory, or lapsed directory reject {name}. Nothing was changed"
            );
            let exit = exit_code(&Report {
                problems: vec![reason],
                ..Report::default()
            });
            (summary, exit, rows.collect())
        }
        SurveyOutcome::Accepted { changes, forgotten } => {
            let changed = changes
                .iter()
                .filter(|change| change.changes_status())
                .count();
            let forgotten = forgotten.into_iter().map(|email| StatusChangeRow {
                change: "forgotten",
                email,
                before: None,
                after: None,
                reason: None,
                evidence: Some("no longer an issuer or a canary".to_owned()),
            });
            let rows: Vec<StatusChangeRow> = changes
                .into_iter()
                .map(status_change_row)
                .chain(forgotten)
                .collect();
            let summary = match changed {
                0 => format!("{listed}; no status would change"),
                1 => format!("{listed}; the status of 1 would change; nothing was changed"),
                count => {
                    format!("{listed}; the status of {count} would change; nothing was changed")
                }
            };
            (summary, Exit::Ok, rows)
        }
    }
}

fn status_change_row(change: StatusChange) -> StatusChangeRow {
    let StatusChange { before, now } = change;
    StatusChangeRow {
        change: if before.is_some() { "changed" } else { "new" },
        email: now.email.to_string(),
        before,
        after: Some(now.status),
        reason: now.reason,
        evidence: evidence_for(&now),
    }
}

/// The evidence of a loss that awaits confirmation, else of the last clear statement.
fn evidence_for(identity: &Identity) -> Option<String> {
    match &identity.candidate_evidence {
        Some(evidence) if identity.status == IdentityStatus::Unknown => {
            (!evidence.is_empty()).then(|| evidence.clone())
        }
        _ => evidence_text(identity),
    }
}

/// What a sync would change about one person.
pub(in crate::cli) struct StatusChangeRow {
    /// `new`, `changed`, `held` or `forgotten`.
    change: &'static str,
    email: String,
    before: Option<IdentityStatus>,
    after: Option<IdentityStatus>,
    /// Why it would be unknown, or how access was lost.
    reason: Option<Reason>,
    evidence: Option<String>,
}

impl Row for StatusChangeRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("change", |row, _| json!(row.change)),
        ("email", |row, _| json!(row.email)),
        ("before", |row, _| json!(row.before)),
        ("after", |row, _| json!(row.after)),
        ("reason", |row, _| json!(row.reason)),
        ("evidence", |row, _| json!(row.evidence)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("CHANGE", 0, |row, _| Cell::new(row.change)),
        Column::elastic("EMAIL", 0, 12, |row, _| Cell::new(&row.email)),
        Column::fixed("BEFORE", 0, |row, _| {
            row.before.map_or_else(Cell::dash, status_cell)
        }),
        Column::fixed("AFTER", 0, |row, _| {
            row.after.map_or_else(Cell::dash, status_cell)
        }),
        Column::fixed("REASON", 2, |row, _| Cell::optional(row.reason)),
        Column::elastic("EVIDENCE", 1, 16, |row, _| {
            Cell::optional(row.evidence.as_ref())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "nothing would change";
}
