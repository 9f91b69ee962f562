//! `lapsed source`: lists, checks and syncs sources.

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, Utc};

use super::Context;
use super::args::{ListOptions, SourceCommand, UpstreamSync};
use super::exit::{Exit, Failure, Result};
use super::output::Printer;
use super::output::rows::{DifferenceRow, SourceRow};
use super::output::when::Instant;
use super::report::{exit_code, print_problems};
use super::setup::{self, Mode};
use super::upstream::{Kind, Upstream, finish_preview, next_sync_at};
use crate::config::{Config, SourceConfig};
use crate::domain::{Schedule, SourceTerms};
use crate::engine::{self, Change, Difference, Engine, Preview, Report, WatchedSource};
use crate::store::{self, Store};

pub(super) async fn source(context: &Context, args: SourceCommand) -> Result<Exit> {
    let config = &setup::load_config(context)?;
    let name = match &args {
        SourceCommand::List(options) => {
            let now = context.clock.now();
            let mut printer = Printer::stdout(options.format, now);
            setup::with_store(config, Mode::Write, async |store| {
                list(store, config, *options, &mut printer, now).await
            })
            .await?;
            printer.finish()?;
            return Ok(Exit::Ok);
        }
        SourceCommand::Check { name } => name,
        SourceCommand::Sync(args) => &args.name,
    };
    let configured = find_configured(config, name)?;
    let upstream = Upstream {
        context,
        config,
        kind: Kind::Source,
        name,
    };
    match &args {
        SourceCommand::Sync(args) if args.dry_run => dry_run(&upstream, args).await,
        SourceCommand::Sync(args) => {
            let sync = async |engine: &Engine, options: &_, stop: &_| {
                let report = engine.sync_sources_only(options, stop).await;
                let summary = summary(name, &report, false);
                (report, summary)
            };
            upstream.sync(args, sync).await
        }
        SourceCommand::Check { .. } | SourceCommand::List(_) => {
            upstream.ensure_not_deferred().await?;
            let watched = setup::build_source(configured).map_err(Failure::config)?;
            upstream.check(watched.check()).await?;
            Ok(Exit::Ok)
        }
    }
}

/// The configured source with this name. The error suggests the nearest name.
pub(super) fn find_configured<'a>(config: &'a Config, name: &str) -> Result<&'a SourceConfig> {
    Kind::Source.find(&config.sources, name, |source| &source.terms.name)
}

/// Lists the configured sources, and those in the store that are no longer configured.
pub(super) async fn list(
    store: &Store,
    config: &Config,
    options: ListOptions,
    printer: &mut Printer<SourceRow, impl Write, impl Write>,
    now: DateTime<Utc>,
) -> Result<()> {
    let stored = store.begin_read().await?.list_sources().await?;
    let mut known: BTreeMap<String, store::SourceRow> = stored
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    let terms: BTreeMap<&str, &SourceTerms> = config
        .sources
        .iter()
        .map(|source| (source.terms.name.as_str(), &source.terms))
        .collect();
    for (name, terms) in &terms {
        let row = known.entry((*name).to_owned()).or_default();
        (*name).clone_into(&mut row.name);
        terms.kind.clone_into(&mut row.kind);
    }
    for row in known.into_values().take(options.max_rows()) {
        let terms = terms.get(row.name.as_str()).copied();
        printer.print_row(&source_row(row, terms, &config.settings.sweep, now))?;
    }
    Ok(())
}

fn source_row(
    row: store::SourceRow,
    terms: Option<&SourceTerms>,
    sweep: &Schedule,
    now: DateTime<Utc>,
) -> SourceRow {
    let sync_state = row.sync_state;
    let state = match (sync_state.failures, sync_state.last_good_sync_at) {
        (1.., _) => "failing",
        (_, None) => "never",
        (_, Some(_)) => "ok",
    };
    let next =
        terms.and_then(|terms| next_sync_at(&sync_state, terms.schedule.as_ref(), sweep, now));
    let gone = terms
        .is_none()
        .then(|| "it is no longer in the configuration".to_owned());
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

/// Prints what a sync would change, token by token.
async fn dry_run(upstream: &Upstream<'_>, args: &UpstreamSync) -> Result<Exit> {
    let Upstream {
        context,
        config,
        name,
        ..
    } = *upstream;
    let mut printer = Printer::<DifferenceRow>::stdout(args.format, context.clock.now());
    let mut failed = None;
    let on_difference = |difference| {
        failed = printer.print_row(&difference_row(difference)).err();
        if failed.is_some() {
            // The reader of the output has gone.
            Err(engine::Error::Stopped)
        } else {
            Ok(())
        }
    };
    let preview = setup::with_engine(context, config, Mode::DryRun, async |engine| {
        let is_named = |watched: &&WatchedSource| watched.terms.name == name;
        let watched = engine.sources.iter().find(is_named);
        let watched = watched.expect("the name is configured");
        let sync = engine.source_sync();
        let preview = sync.preview(watched, args.accept_shrink, on_difference);
        Ok(preview.await?)
    })
    .await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let (summary, exit) = match preview? {
        Preview::Deferred(until) => (upstream.deferred_message(Some(until)), Exit::Ok),
        Preview::Listed(None) => (format!("{name}: nothing has changed"), Exit::Ok),
        Preview::Listed(Some(report)) => {
            print_problems(&report);
            (summary(name, &report, true), exit_code(&report))
        }
    };
    finish_preview(printer, args.format, &summary)?;
    Ok(exit)
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

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, TimeZone};
    use chrono_tz::Tz;

    use super::*;
    use crate::domain::SyncState;

    fn at(minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 21, 8, minute, 0).unwrap()
    }

    #[test]
    fn the_next_sync_is_the_first_sweep_that_may_ask() {
        let every_5: Schedule = Schedule::new("*/5 * * * *", Tz::UTC).unwrap();
        let hourly = Schedule::new("0 * * * *", Tz::UTC).unwrap();
        let terms = |schedule: Option<&Schedule>| SourceTerms {
            schedule: schedule.cloned(),
            ..SourceTerms::default()
        };
        let row = |sync_state| store::SourceRow {
            name: "s".to_owned(),
            sync_state,
            ..store::SourceRow::default()
        };
        let mut sync_state = SyncState::default();
        let next = |sync_state: &SyncState, schedule: Option<&Schedule>| {
            let row = row(sync_state.clone());
            source_row(row, Some(&terms(schedule)), &every_5, at(12)).next
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
        let row = source_row(row(sync_state), Some(&terms(None)), &every_5, at(12));
        assert_eq!(row.next, Some(Instant(at(30))), "at exactly that moment");
        assert_eq!((row.state, row.deferred_until), ("failing", row.next));
    }
}
