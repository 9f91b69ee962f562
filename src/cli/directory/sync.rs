//! `lapsed directory sync`: syncs one directory now, or shows what would change.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::cli::args::{DirectorySync, Format};
use crate::cli::exit::Exit;
use crate::cli::output::rows::StatusChangeRow;
use crate::cli::output::when::{Instant, format_when};
use crate::cli::output::{Printer, print_line};
use crate::cli::setup::{self, engine_failure, store_failure};
use crate::cli::source::deferred_message;
use crate::cli::{Context, actor, sweep};
use crate::config::Config;
use crate::domain::{Identity, IdentityStatus};
use crate::engine::{
    Engine, Preview, Report, StatusChange, Survey, SurveyOutcome, SweepOptions, WatchedDirectory,
};
use crate::store::Store;
use crate::text;

/// A message if the directory asked us to wait and the time is not over.
/// `None` as well if the store cannot be read.
pub(super) async fn deferral_notice(
    config: &Config,
    name: &str,
    now: DateTime<Utc>,
) -> Option<String> {
    let (store, _scratch) = setup::open_store_for_dry_run(config).await.ok()?;
    let until = deferred_until(&store, name).await;
    store.close().await;
    let until = until.ok()?.filter(|until| *until > now)?;
    let until = format_when(Instant(until), now);
    Some(format!(
        "{name} asked us to wait until {until}, so it was not contacted"
    ))
}

async fn deferred_until(store: &Store, name: &str) -> anyhow::Result<Option<DateTime<Utc>>> {
    let mut tx = store.begin_read().await.map_err(store_failure)?;
    let row = tx.find_directory(name).await.map_err(store_failure)?;
    Ok(row.and_then(|row| row.sync_state.deferred_until))
}

pub(super) async fn sync(
    context: &Context,
    config: &Config,
    args: &DirectorySync,
) -> anyhow::Result<Exit> {
    let _log = setup::start_log(context, config)?;
    let store = setup::open_store(config).await?;
    let engine = setup::build_engine(context, config, store, setup::build_dry_run_mailer(config)?)?;
    let name = &args.name;
    let options = SweepOptions {
        by_schedule: false,
        accept_shrink: args
            .accept_shrink
            .then(|| name.clone())
            .into_iter()
            .collect(),
        only: vec![name.clone()],
        actor: actor::name(),
    };
    let stop = CancellationToken::new();
    let (mut listed, mut issuers) = (None, 0);
    let on_survey = |survey: &Survey| (listed, issuers) = (survey.listed, survey.issuers);
    let report = tokio::select! {
        report = engine.sync_directories_only(&options, &stop, on_survey) => report,
        () = sweep::cancel_on_signal(&stop) => unreachable!("it only cancels"),
    };
    sweep::print_problems(&report);
    if report.sources_deferred > 0 {
        let until = deferred_until(&engine.store, name).await?;
        print_line(&deferred_message(name, until, context.clock.now()))?;
    } else if report.lease_held {
        anstream::eprintln!("another sweep is running; nothing was done, try again in a moment");
    } else {
        print_line(&summary(&people_listed(name, listed, issuers), &report))?;
    }
    engine.store.close().await;
    Ok(sweep::exit_code(&report))
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

/// Prints what a sync would change, person by person.
pub(super) async fn dry_run(
    context: &Context,
    config: &Config,
    args: &DirectorySync,
) -> anyhow::Result<Exit> {
    let (store, scratch) = setup::open_store_for_dry_run(config).await?;
    let engine = setup::build_engine(context, config, store, setup::build_dry_run_mailer(config)?)?;
    let name = &args.name;
    let now = context.clock.now();
    let watched = find_watched(&engine, name)?;
    let looked = engine
        .directory_sync()
        .preview(watched, args.accept_shrink)
        .await;
    let looked = looked.map_err(engine_failure)?;
    engine.store.close().await;
    drop(scratch);
    let mut printer = Printer::<StatusChangeRow>::stdout(args.format, now);
    let (summary, exit, rows) = match looked {
        Preview::Deferred(until) => (
            deferred_message(name, Some(until), now),
            Exit::Ok,
            Vec::new(),
        ),
        Preview::Listed(survey) => describe_survey(name, *survey),
    };
    for row in &rows {
        printer.print_row(row)?;
    }
    if matches!(args.format, Format::Table) {
        // The summary already says so if there are no rows.
        if !rows.is_empty() {
            printer.finish()?;
        }
        print_line(&summary)?;
    } else {
        printer.finish()?;
        anstream::eprintln!("{}", text::clean_lines(&summary));
    }
    Ok(exit)
}

/// Why a sync would not be accepted now. `None` if it would be, or if the directory asked us to wait.
pub(super) async fn acceptance_problem(
    context: &Context,
    config: &Config,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let (store, scratch) = setup::open_store_for_dry_run(config).await?;
    let engine = setup::build_engine(context, config, store, setup::build_dry_run_mailer(config)?)?;
    let looked = engine
        .directory_sync()
        .preview(find_watched(&engine, name)?, false)
        .await;
    engine.store.close().await;
    drop(scratch);
    Ok(match looked {
        Ok(Preview::Deferred(_)) => None,
        Ok(Preview::Listed(survey)) => match survey.outcome {
            SurveyOutcome::Held { reason, .. } => Some(format!(
                "{reason}; `lapsed directory sync {name} --dry-run` lists the people"
            )),
            SurveyOutcome::Accepted { .. } => None,
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
            let exit = sweep::exit_code(&Report {
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
        reason: now.reason.map(|reason| reason.to_string()),
        evidence: evidence_for(now),
    }
}

/// The evidence of a loss that awaits confirmation, else of the last clear statement.
fn evidence_for(now: Identity) -> Option<String> {
    let candidate = now
        .candidate_evidence
        .filter(|_| now.status == IdentityStatus::Unknown);
    let evidence = candidate.unwrap_or(now.evidence);
    Some(evidence).filter(|evidence| !evidence.is_empty())
}

fn find_watched<'a>(engine: &'a Engine, name: &str) -> anyhow::Result<&'a WatchedDirectory> {
    let found = engine.directories.iter().find(|it| it.terms.name == name);
    found.ok_or_else(|| anyhow::anyhow!("there is no directory {name:?}"))
}
