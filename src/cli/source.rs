//! `lapsed source`: lists, checks and syncs sources.

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::args::{Format, ListOptions, SourceCommand, SourceSync};
use super::exit::{Exit, Failure};
use super::output::rows::{DifferenceRow, SourceRow};
use super::output::when::{Instant, format_when};
use super::output::{Printer, print_line};
use super::setup::{self, engine_failure, store_failure};
use super::{Context, actor, sweep};
use crate::config::{Config, SourceConfig};
use crate::domain::{Schedule, SourceTerms, SyncState};
use crate::engine::{
    self, Change, Difference, Engine, Preview, Report, SweepOptions, WatchedSource,
};
use crate::nearest::nearest;
use crate::sources::CheckReport;
use crate::store::{self, Store};
use crate::text;

pub(super) async fn source(context: &Context, args: SourceCommand) -> anyhow::Result<Exit> {
    let config = setup::load_config(context)?;
    match args {
        SourceCommand::List(options) => {
            let store = setup::open_store(&config).await?;
            let now = context.clock.now();
            let mut printer = Printer::stdout(options.format, now);
            list(
                &store,
                &Configured::from_config(&config),
                options,
                &mut printer,
                now,
            )
            .await?;
            printer.finish()?;
            store.close().await;
            Ok(Exit::Ok)
        }
        SourceCommand::Check { name } => {
            let configured = find_configured(&config, &name)?;
            if let Some(notice) = deferral_notice(&config, &name, context.clock.now()).await {
                return Err(Failure::unreachable(anyhow::anyhow!(notice)).into());
            }
            check(configured).await
        }
        SourceCommand::Sync(args) => {
            find_configured(&config, &args.name)?;
            if args.dry_run {
                dry_run(context, &config, &args).await
            } else {
                sync(context, &config, args).await
            }
        }
    }
}

/// The configured source with this name. The error suggests the nearest name.
pub(super) fn find_configured<'a>(
    config: &'a Config,
    name: &str,
) -> anyhow::Result<&'a SourceConfig> {
    let found = config
        .sources
        .iter()
        .find(|source| source.terms.name == name);
    let known = config
        .sources
        .iter()
        .map(|source| source.terms.name.as_str());
    found.ok_or_else(|| unknown_name_error("source", name, known))
}

/// The error for a name that is not configured; its hint has the nearest name and all names.
pub(super) fn unknown_name_error<'a>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> anyhow::Error {
    let error = anyhow::anyhow!("there is no {kind} {name:?}");
    let all = known.clone().collect::<Vec<_>>().join(", ");
    let hint = match nearest(name, known) {
        Some(nearest) => format!("did you mean {nearest}? The configuration has {all}"),
        None if all.is_empty() => format!("the configuration has no [[{kind}]]"),
        None => format!("the configuration has {all}"),
    };
    Failure::usage(error).hint(hint).into()
}

/// The part of the configuration that `source list` shows.
pub(super) struct Configured {
    pub(super) sweep: Schedule,
    /// Kinds and schedules by name.
    pub(super) sources: BTreeMap<String, (&'static str, Option<Schedule>)>,
}

impl Configured {
    fn from_config(config: &Config) -> Self {
        let sources = config.sources.iter().map(|source| {
            let SourceTerms { kind, schedule, .. } = &source.terms;
            (source.terms.name.clone(), (*kind, schedule.clone()))
        });
        Self {
            sweep: config.settings.sweep.clone(),
            sources: sources.collect(),
        }
    }
}

/// Lists the configured sources, and those in the store that are no longer configured.
pub(super) async fn list(
    store: &Store,
    configured: &Configured,
    options: ListOptions,
    printer: &mut Printer<SourceRow, impl Write, impl Write>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let mut tx = store.begin_read().await.map_err(store_failure)?;
    let stored = tx.list_sources().await.map_err(store_failure)?;
    drop(tx);
    let mut known: BTreeMap<String, store::SourceRow> = stored
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    for (name, (kind, _)) in &configured.sources {
        let row = known.entry(name.clone()).or_default();
        row.name.clone_from(name);
        (*kind).clone_into(&mut row.kind);
    }
    for row in known.into_values().take(options.max_rows()) {
        printer.print_row(&source_row(row, configured, now))?;
    }
    Ok(())
}

fn source_row(row: store::SourceRow, configured: &Configured, now: DateTime<Utc>) -> SourceRow {
    let sync_state = row.sync_state;
    let state = match (sync_state.failures, sync_state.last_good_sync_at) {
        (1.., _) => "failing",
        (_, None) => "never",
        (_, Some(_)) => "ok",
    };
    let found = configured.sources.get(&row.name);
    let next = found.and_then(|(_, schedule)| {
        next_sync_at(&sync_state, schedule.as_ref(), &configured.sweep, now)
    });
    let gone = (found.is_none()).then(|| "it is no longer in the configuration".to_owned());
    SourceRow {
        name: row.name,
        kind: row.kind,
        last_sync_at: sync_state.last_sync_at.map(Instant),
        last_good_sync_at: sync_state.last_good_sync_at.map(Instant),
        tokens: u64::try_from(row.tokens).unwrap_or_default(),
        state,
        error: sync_state.error.or(gone),
        next: next.map(Instant),
        deferred_until: sync_state
            .deferred_until
            .filter(|until| *until > now)
            .map(Instant),
    }
}

/// When the daemon next syncs a source or directory with this schedule.
pub(super) fn next_sync_at(
    sync_state: &SyncState,
    schedule: Option<&Schedule>,
    sweep: &Schedule,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let from = sync_state.next_attempt_at(schedule).unwrap_or(now);
    // One second earlier, so that a sweep at exactly that moment counts.
    sweep.next_after(from.max(now) - TimeDelta::seconds(1))
}

/// A message if the source asked us to wait and the time is not over.
/// `None` as well if the store cannot be read.
async fn deferral_notice(config: &Config, name: &str, now: DateTime<Utc>) -> Option<String> {
    let (store, _scratch) = setup::open_store_for_dry_run(config).await.ok()?;
    let until = deferred_until(&store, name).await;
    store.close().await;
    let until = until.ok()?.filter(|until| *until > now)?;
    let until = format_when(Instant(until), now);
    Some(format!(
        "{name} asked us to wait until {until}, so it was not contacted"
    ))
}

/// Tests the credentials of a source.
async fn check(configured: &SourceConfig) -> anyhow::Result<Exit> {
    let watched = setup::build_source(configured).map_err(Failure::config)?;
    let checked = tokio::time::timeout(super::check::CHECK_TIMEOUT, watched.check()).await;
    let checked = checked.map_err(|_| {
        let error = anyhow::anyhow!("the source {} does not answer", configured.terms.name);
        Failure::failed(error).hint("make sure that it is up and reachable from this machine")
    })?;
    match checked {
        Ok(checked) => {
            print_line(&check_report(&configured.terms.name, &checked))?;
            Ok(Exit::Ok)
        }
        Err(error) if error.wait().is_some() => Err(Failure::unreachable(error).into()),
        Err(error) => {
            let context = format!("the source {} cannot be listed", configured.terms.name);
            Err(Failure::failed(anyhow::Error::new(error).context(context)).into())
        }
    }
}

/// What the credentials can do, one line per right.
pub(super) fn check_report(name: &str, checked: &CheckReport) -> String {
    let mut lines = vec![format!("{name}: {}", checked.summary)];
    for right in &checked.rights {
        lines.push(match &right.missing {
            None => format!("  can     {}", right.what),
            Some(missing) => format!("  cannot  {}; to add it: {missing}", right.what),
        });
    }
    lines.join("\n")
}

async fn sync(context: &Context, config: &Config, args: SourceSync) -> anyhow::Result<Exit> {
    let _log = setup::start_log(context, config)?;
    let store = setup::open_store(config).await?;
    let engine = setup::build_engine(context, config, store, setup::build_dry_run_mailer(config)?)?;
    let name = args.name;
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
    let report = tokio::select! {
        report = engine.sync_sources_only(&options, &stop) => report,
        () = sweep::cancel_on_signal(&stop) => unreachable!("it only cancels"),
    };
    sweep::print_problems(&report);
    if report.sources_deferred > 0 {
        let until = deferred_until(&engine.store, &name).await?;
        print_line(&deferred_message(&name, until, context.clock.now()))?;
    } else if report.lease_held {
        anstream::eprintln!("another sweep is running; nothing was done, try again in a moment");
    } else {
        print_line(&summary(&name, &report, false))?;
    }
    engine.store.close().await;
    Ok(sweep::exit_code(&report))
}

async fn deferred_until(store: &Store, name: &str) -> anyhow::Result<Option<DateTime<Utc>>> {
    let mut tx = store.begin_read().await.map_err(store_failure)?;
    let row = tx.find_source(name).await.map_err(store_failure)?;
    Ok(row.and_then(|row| row.sync_state.deferred_until))
}

/// Prints what a sync would change, token by token.
async fn dry_run(context: &Context, config: &Config, args: &SourceSync) -> anyhow::Result<Exit> {
    let (store, scratch) = setup::open_store_for_dry_run(config).await?;
    let engine = setup::build_engine(context, config, store, setup::build_dry_run_mailer(config)?)?;
    let watched = find_watched(&engine, &args.name)?;
    let now = context.clock.now();
    let mut printer = Printer::<DifferenceRow>::stdout(args.format, now);
    let (mut rows, mut failed) = (0_u64, None);
    let result = engine
        .source_sync()
        .preview(watched, args.accept_shrink, |difference| {
            rows += 1;
            failed = printer.print_row(&difference_row(difference)).err();
            if failed.is_some() {
                // The reader of the output has gone.
                Err(engine::Error::Stopped)
            } else {
                Ok(())
            }
        })
        .await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let result = result.map_err(engine_failure)?;
    engine.store.close().await;
    drop(scratch);
    let name = &args.name;
    let (summary, exit) = match result {
        Preview::Deferred(until) => (deferred_message(name, Some(until), now), Exit::Ok),
        Preview::Listed(None) => (format!("{name}: nothing has changed"), Exit::Ok),
        Preview::Listed(Some(report)) => {
            sweep::print_problems(&report);
            (summary(name, &report, true), sweep::exit_code(&report))
        }
    };
    if matches!(args.format, Format::Table) {
        // The summary already says so if there are no rows.
        if rows > 0 {
            printer.finish()?;
        }
        print_line(&summary)?;
    } else {
        printer.finish()?;
        anstream::eprintln!("{}", text::clean_lines(&summary));
    }
    Ok(exit)
}

fn find_watched<'a>(engine: &'a Engine, name: &str) -> anyhow::Result<&'a WatchedSource> {
    let found = engine
        .sources
        .iter()
        .find(|source| source.terms.name == name);
    found.ok_or_else(|| anyhow::anyhow!("there is no source {name:?}"))
}

fn difference_row(difference: Difference) -> DifferenceRow {
    let Difference { token, change } = difference;
    let (change, fields) = match change {
        Change::New => ("new", Vec::new()),
        Change::Changed(fields) => ("changed", fields),
        Change::Gone => ("gone", Vec::new()),
    };
    DifferenceRow {
        change,
        id: token.id,
        external_id: token.external_id,
        name: token.name,
        issuer: token.issuer,
        status: token.status,
        expires_at: token.expiry.at().map(Instant),
        fields,
    }
}

/// `exports: 3 new, 1 gone`.
fn summary(name: &str, report: &Report, is_dry_run: bool) -> String {
    let parts: Vec<String> = [
        (report.tokens_new, "new"),
        (report.tokens_changed, "changed"),
        (report.tokens_gone, "gone"),
        (report.rows_refused, "refused"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    let remark = if is_dry_run {
        "; nothing was changed"
    } else {
        ""
    };
    match parts.as_slice() {
        [] if !report.problems.is_empty() || !report.errors.is_empty() => {
            format!("{name}: nothing was imported")
        }
        [] => format!("{name}: nothing has changed"),
        parts => format!("{name}: {}{remark}", parts.join(", ")),
    }
}

/// The message of a sync that did nothing because the upstream asked us to wait.
pub(super) fn deferred_message(
    name: &str,
    until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> String {
    let until = until.map_or(String::new(), |until| {
        format!(" until {}", format_when(Instant(until), now))
    });
    format!("{name} asked us to wait{until}; it was not contacted, and nothing was changed")
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use chrono_tz::Tz;

    use super::*;
    use crate::sources::Right;

    fn at(minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 21, 8, minute, 0).unwrap()
    }

    #[test]
    fn a_check_lists_each_right_and_how_to_add_a_missing_one() {
        let right = |what: &str, missing: Option<&str>| Right {
            what: what.to_owned(),
            missing: missing.map(str::to_owned),
        };
        let checked = CheckReport {
            summary: "Rancher 2.12.1".to_owned(),
            rights: vec![
                right("list users", None),
                right("delete tokens", Some("the verb delete in its GlobalRole")),
            ],
        };
        insta::assert_snapshot!(check_report("rancher", &checked), @"
        rancher: Rancher 2.12.1
          can     list users
          cannot  delete tokens; to add it: the verb delete in its GlobalRole
        ");
    }

    #[test]
    fn the_next_sync_is_the_first_sweep_that_may_ask() {
        let every_5: Schedule = Schedule::new("*/5 * * * *", Tz::UTC).unwrap();
        let hourly = Schedule::new("0 * * * *", Tz::UTC).unwrap();
        let configured = |schedule| Configured {
            sweep: every_5.clone(),
            sources: [("s".to_owned(), ("file", schedule))].into(),
        };
        let row = |sync_state| store::SourceRow {
            name: "s".to_owned(),
            sync_state,
            ..store::SourceRow::default()
        };
        let mut sync_state = SyncState::default();
        let next = |sync_state: &SyncState, schedule: Option<&Schedule>| {
            let row = row(sync_state.clone());
            source_row(row, &configured(schedule.cloned()), at(12)).next
        };
        assert_eq!(
            next(&sync_state, None),
            Some(Instant(at(15))),
            "never synced"
        );
        sync_state.record_success(at(10));
        assert_eq!(next(&sync_state, None), Some(Instant(at(15))));
        let in_an_hour = Some(Instant(at(0) + TimeDelta::hours(1)));
        assert_eq!(next(&sync_state, Some(&hourly)), in_an_hour);
        for _ in 0..4 {
            sync_state.record_failure(at(10), "down".to_owned());
        }
        assert_eq!(
            next(&sync_state, None),
            Some(Instant(at(20))),
            "8 minutes after the failure"
        );
        sync_state.defer(at(10), TimeDelta::minutes(20));
        let row = source_row(row(sync_state), &configured(None), at(12));
        assert_eq!(row.next, Some(Instant(at(30))), "at exactly that moment");
        assert_eq!((row.state, row.deferred_until), ("failing", row.next));
    }
}
