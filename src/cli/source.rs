//! `lapsed source`: lists, checks, syncs, renames and removes sources.

mod change;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Context;
use super::args::{ListOptions, SourceCommand, UpstreamSync};
use super::exit::{Exit, Failure, Result};
use super::output::when::rfc3339;
use super::output::{Cell, Column, Field, Printer, Row};
use super::query::print_list;
use super::report::{exit_code, print_problems};
use super::setup::{self, Mode};
use super::token::status_cell;
use super::upstream::{
    Kind, Upstream, deferred_cell, deferred_until, finish_preview, next_sync_at, print_upstreams,
    state_cell, state_text,
};
use crate::config::{Config, SourceConfig};
use crate::domain::{Schedule, SourceTerms, SyncState};
use crate::engine::{self, Change, Difference, Engine, Preview, Report};
use crate::store::{self, Store, Tx};

pub(super) async fn source(context: &Context, args: SourceCommand) -> Result<Exit> {
    let config = &match &args {
        SourceCommand::List(_) | SourceCommand::Forget(_) | SourceCommand::Rename(_) => {
            setup::load_store_config(context)
        }
        SourceCommand::Check { .. } | SourceCommand::Sync(_) => setup::load_config(context),
    }?;
    let now = context.clock.now();
    let upstream = |name| Upstream {
        context,
        config,
        kind: Kind::Source,
        name,
    };
    match &args {
        SourceCommand::List(options) => {
            print_list(config, options.format, now, async |store, printer| {
                list(store, config, *options, printer, now).await
            })
            .await
        }
        SourceCommand::Check { name } => {
            let configured = find_configured(config, name)?;
            let upstream = upstream(name);
            upstream.ensure_not_deferred().await?;
            let watched = setup::build_source(configured).map_err(Failure::config)?;
            let proxy = configured.proxy.as_deref();
            upstream.check(watched.check(), proxy).await?;
            Ok(Exit::Ok)
        }
        SourceCommand::Forget(args) => change::forget(context, config, args).await,
        SourceCommand::Rename(args) => change::rename(context, config, args).await,
        SourceCommand::Sync(args) => {
            if let Err(error) = find_configured(config, &args.name) {
                change::ensure_not_renamed(config, &args.name).await?;
                return Err(error);
            }
            let upstream = upstream(&args.name);
            if args.dry_run {
                return dry_run(&upstream, args).await;
            }
            let sync = async |engine: &Engine, options: &_, stop: &_| {
                let report = engine.sync_sources_only(options, stop).await;
                let summary = summary(&args.name, &report, false);
                (report, summary)
            };
            upstream.sync(args, sync).await
        }
    }
}

/// The configured source with this name. The error suggests the nearest name.
pub(super) fn find_configured<'a>(config: &'a Config, name: &str) -> Result<&'a SourceConfig> {
    Kind::Source.find(&config.sources, name, |source| &source.terms.name)
}

async fn list(
    store: &Store,
    config: &Config,
    options: ListOptions,
    printer: &mut Printer<'_, SourceRow>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut tx = store.begin_read().await?;
    let stored = tx.list_sources().await?;
    let ghosts = load_ghosts(&mut tx, config).await?;
    drop(tx);
    let stored = stored.into_iter().map(|row| (row.name.clone(), row));
    let configured = config.sources.iter().map(|source| &source.terms);
    let configured = configured.map(|terms| (terms.name.clone(), terms));
    let sweep = &config.settings.sweep;
    print_upstreams(stored, configured, options, printer, |name, row, terms| {
        let ghost = ghosts.get(&name);
        SourceRow::new(name, row, terms, sweep, now).with_ghost(ghost)
    })
}

/// The sources that a sync has read and that are not configured, each with what is wrong and what to do.
pub(super) async fn load_ghosts(
    tx: &mut Tx,
    config: &Config,
) -> store::Result<BTreeMap<String, String>> {
    let ghosts = tx.list_ghosts(|name| config.has_source(name)).await?;
    let findings = tx.load_ghost_findings().await?.into_iter();
    let mut evidence: BTreeMap<_, _> = findings
        .map(|finding| (finding.source, finding.evidence))
        .collect();
    let ghosts = ghosts.into_iter().map(|row| {
        let name = row.name;
        let evidence = evidence
            .remove(&name)
            .unwrap_or_else(|| "no [[source]] has this name".to_owned());
        let text = format!(
            "{evidence}; `lapsed source rename {name} NEW` keeps its history, `lapsed source forget {name}` removes its \
             tokens"
        );
        (name, text)
    });
    Ok(ghosts.collect())
}

pub(super) struct SourceRow {
    name: String,
    kind: String,
    state: &'static str,
    /// How many the last complete listing has, or how many are known.
    tokens: i64,
    sync_state: SyncState,
    /// When the daemon syncs it next; shown to people only.
    next: Option<DateTime<Utc>>,
}

impl SourceRow {
    /// Without `terms`, the source is no longer configured.
    fn new(
        name: String,
        row: store::SourceRow,
        terms: Option<&SourceTerms>,
        sweep: &Schedule,
        now: DateTime<Utc>,
    ) -> Self {
        let mut sync_state = row.sync_state;
        if terms.is_none() && sync_state.error.is_none() {
            sync_state.error = Some("it is no longer in the configuration".to_owned());
        }
        let mut state = state_text(&sync_state);
        if let (Some(new), None) = (row.renamed_to, terms) {
            state = "renamed";
            sync_state.error = Some(format!(
                "renamed to {new}; `lapsed source forget {name}` frees this name"
            ));
        }
        Self {
            name,
            state,
            kind: terms.map_or(row.kind, |terms| terms.kind.to_owned()),
            tokens: row.tokens,
            next: terms
                .and_then(|terms| next_sync_at(&sync_state, terms.schedule.as_ref(), sweep, now)),
            sync_state,
        }
    }

    fn with_ghost(mut self, ghost: Option<&String>) -> Self {
        if let Some(text) = ghost {
            self.state = "unconfigured";
            self.sync_state.error = Some(text.clone());
        }
        self
    }
}

impl Row for SourceRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("name", |row, _| json!(row.name)),
        ("kind", |row, _| json!(row.kind)),
        ("last_sync_at", |row, _| {
            rfc3339(row.sync_state.last_sync_at)
        }),
        ("last_good_sync_at", |row, _| {
            rfc3339(row.sync_state.last_good_sync_at)
        }),
        ("tokens", |row, _| json!(row.tokens)),
        ("state", |row, _| json!(row.state)),
        ("error", |row, _| json!(row.sync_state.error)),
        ("deferred_until", |row, now| {
            rfc3339(deferred_until(&row.sync_state, now))
        }),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("NAME", 0, 8, |row, _| Cell::name(&row.name)),
        Column::fixed("KIND", 4, |row, _| Cell::new(&row.kind)),
        Column::fixed("STATE", 0, |row, _| state_cell(row.state)),
        Column::fixed("TOKENS", 1, |row, _| Cell::new(row.tokens)),
        Column::fixed("LAST GOOD", 1, |row, view| {
            Cell::distance(row.sync_state.last_good_sync_at, view)
        }),
        Column::fixed("LAST", 3, |row, view| {
            Cell::distance(row.sync_state.last_sync_at, view)
        }),
        Column::fixed("NEXT", 2, |row, view| Cell::distance(row.next, view)),
        Column::elastic("TROUBLE", 0, 20, |row, view| {
            deferred_cell(&row.sync_state, view)
                .unwrap_or_else(|| Cell::optional(row.sync_state.error.as_ref()).mark_problem())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no sources are configured";
}

/// Prints what a sync would change, token by token.
async fn dry_run(upstream: &Upstream<'_>, args: &UpstreamSync) -> Result<Exit> {
    let Upstream {
        context,
        config,
        name,
        ..
    } = *upstream;
    let mut printer =
        Printer::<Difference>::stdout(args.format, context.clock.now(), config.policy.zone);
    let mut failed = None;
    let on_difference = |difference| {
        failed = printer.print_row(&difference).err();
        if failed.is_some() {
            // The reader of the output has gone.
            Err(engine::Error::Stopped)
        } else {
            Ok(())
        }
    };
    let preview = setup::with_engine(context, config, Mode::DryRun, async |engine| {
        let watched = Kind::Source.find(&engine.sources, name, |watched| &watched.terms.name)?;
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

impl Row for Difference {
    const FIELDS: &'static [Field<Self>] = &[
        ("change", |row, _| json!(change_text(&row.change))),
        ("id", |row, _| json!(row.token.id)),
        ("external_id", |row, _| json!(row.token.external_id)),
        ("name", |row, _| json!(row.token.name)),
        ("issuer", |row, _| json!(row.token.issuer)),
        ("status", |row, _| json!(row.token.status)),
        ("expires_at", |row, _| rfc3339(row.token.expiry.at())),
        ("expires_on", |row, _| json!(row.token.expiry_day)),
        ("fields", |row, _| json!(changed_fields(&row.change))),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("CHANGE", 0, |row, _| Cell::new(change_text(&row.change))),
        Column::elastic("TOKEN", 0, 12, |row, _| Cell::name(&row.token.external_id)),
        Column::elastic("NAME", 2, 12, |row, _| Cell::name(&row.token.name)),
        Column::fixed("STATUS", 3, |row, _| status_cell(row.token.status)),
        Column::fixed("EXPIRES", 3, |row, view| {
            Cell::expires(row.token.expires(), view)
        }),
        Column::elastic("ISSUER", 4, 12, |row, _| {
            Cell::optional(row.token.issuer.as_ref())
        }),
        Column::elastic("FIELDS", 1, 12, |row, _| {
            Cell::list(changed_fields(&row.change))
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "nothing would change";
}

fn change_text(change: &Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Changed(_) => "changed",
        Change::Gone => "gone",
    }
}

fn changed_fields(change: &Change) -> &[&'static str] {
    match change {
        Change::Changed(fields) => fields,
        Change::New | Change::Gone => &[],
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
        let row = |sync_state: &SyncState, schedule: Option<&Schedule>| {
            let row = store::SourceRow {
                sync_state: sync_state.clone(),
                ..store::SourceRow::default()
            };
            SourceRow::new(
                "s".to_owned(),
                row,
                Some(&terms(schedule)),
                &every_5,
                at(12),
            )
        };
        let mut sync_state = SyncState::default();
        let next = |sync_state: &SyncState, schedule| row(sync_state, schedule).next;
        assert_eq!(next(&sync_state, None), Some(at(15)), "never synced");
        sync_state.record_success(at(10));
        assert_eq!(next(&sync_state, None), Some(at(15)));
        let in_an_hour = Some(at(0) + TimeDelta::hours(1));
        assert_eq!(next(&sync_state, Some(&hourly)), in_an_hour);
        for _ in 0..4 {
            sync_state.record_failure(at(10), "down".to_owned());
        }
        assert_eq!(
            next(&sync_state, None),
            Some(at(20)),
            "8 minutes after the failure"
        );
        sync_state.defer(at(10), TimeDelta::minutes(20));
        let row = row(&sync_state, None);
        assert_eq!(row.next, Some(at(30)), "at exactly that moment");
        assert_eq!(state_text(&row.sync_state), "failing");
        assert_eq!(deferred_until(&row.sync_state, at(12)), row.next);
    }
}
