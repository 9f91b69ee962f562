//! What `lapsed source` and `lapsed directory` have in common.

use std::collections::BTreeMap;
use std::time::Duration;

use anstyle::Style;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::args::{Format, ListOptions, UpstreamSync};
use super::exit::{Error, Exit, Failure, Result};
use super::output::when::format_when;
use super::output::{BAD, Cell, FAINT, Printer, Row, View, WARN, print_line};
use super::setup::{self, Mode};
use super::{Context, audit, report};
use crate::config::Config;
use crate::domain::{Schedule, SyncState};
use crate::engine::{Engine, Report, SweepOptions};
use crate::nearest::nearest;
use crate::sources::{self, CheckReport};
use crate::store::{self, Store};
use crate::text;

pub(super) const CHECK_TIMEOUT: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Source,
    Directory,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Directory => "directory",
        }
    }

    /// The error for a name that is not known; its hint has the nearest name and all names in `place`.
    pub(super) fn unknown_name_error<'a>(
        self,
        name: &str,
        known: impl Iterator<Item = &'a str> + Clone,
        place: &str,
    ) -> Error {
        let kind = self.as_str();
        let all = known.clone().collect::<Vec<_>>().join(", ");
        let hint = match nearest(name, known) {
            Some(nearest) => format!("did you mean {nearest}? The {place} has {all}"),
            None if all.is_empty() => format!("the {place} has no {kind}"),
            None => format!("the {place} has {all}"),
        };
        let error = anyhow::anyhow!("there is no {kind} {name:?}");
        Failure::usage(error).hint(hint).into()
    }

    /// The item with this name. The error suggests the nearest name.
    pub(super) fn find<'a, T>(
        self,
        items: &'a [T],
        name: &str,
        name_of: fn(&T) -> &str,
    ) -> Result<&'a T> {
        items
            .iter()
            .find(|item| name_of(item) == name)
            .ok_or_else(|| {
                self.unknown_name_error(name, items.iter().map(name_of), "configuration")
            })
    }
}

/// A source or directory that a command contacts.
pub(super) struct Upstream<'a> {
    pub(super) context: &'a Context,
    pub(super) config: &'a Config,
    pub(super) kind: Kind,
    pub(super) name: &'a str,
}

impl Upstream<'_> {
    async fn load_deferral(&self, store: &Store) -> store::Result<Option<DateTime<Utc>>> {
        let mut tx = store.begin_read().await?;
        let sync_state = match self.kind {
            Kind::Source => tx.find_source(self.name).await?.map(|row| row.sync_state),
            Kind::Directory => tx
                .find_directory(self.name)
                .await?
                .map(|row| row.sync_state),
        };
        let now = self.context.clock.now();
        Ok(sync_state.and_then(|state| deferred_until(&state, now)))
    }

    /// Fails if the upstream asked us to wait and the time is not over. An unreadable store is ignored.
    pub(super) async fn ensure_not_deferred(&self) -> Result<()> {
        let until = setup::with_store(self.config, Mode::DryRun, async |store| {
            Ok(self.load_deferral(store).await?)
        })
        .await;
        if let Ok(Some(until)) = until {
            let until = format_when(until, self.context.clock.now(), self.config.policy.zone);
            let name = self.name;
            let error =
                anyhow::anyhow!("{name} asked us to wait until {until}, so it was not contacted");
            return Err(Failure::unreachable(error).into());
        }
        Ok(())
    }

    /// Tests the credentials and prints what they can do.
    pub(super) async fn check(
        &self,
        check: impl Future<Output = Result<CheckReport, sources::Error>>,
        proxy: Option<&str>,
    ) -> Result<CheckReport> {
        let kind = self.kind.as_str();
        let name = self.name;
        let Ok(checked) = tokio::time::timeout(CHECK_TIMEOUT, check).await else {
            let error = anyhow::anyhow!("the {kind} {name} does not answer");
            let hint = "make sure that it is up and reachable from this machine";
            return Err(Failure::failed(error).hint(hint).into());
        };
        let checked = checked.map_err(|error| {
            if error.wait().is_some() {
                return Failure::unreachable(error);
            }
            let context = format!("the {kind} {name} cannot be read");
            Failure::failed(anyhow::Error::new(error).context(context))
        })?;
        let checked = checked.with_proxy(proxy);
        print_line(&check_report(name, &checked))?;
        Ok(checked)
    }

    /// Syncs and prints the summary that `work` returns.
    pub(super) async fn sync(
        &self,
        args: &UpstreamSync,
        work: impl AsyncFnOnce(&Engine, &SweepOptions, &CancellationToken) -> (Report, String),
    ) -> Result<Exit> {
        let _log = setup::start_log(self.context, self.config)?;
        let name = self.name.to_owned();
        let options = SweepOptions {
            by_schedule: false,
            accept_shrink: args
                .accept_shrink
                .then(|| name.clone())
                .into_iter()
                .collect(),
            only: vec![name],
            actor: audit::actor(),
        };
        setup::with_engine(self.context, self.config, Mode::Normal, async |engine| {
            let stop = self.context.stop.graceful(self.config.stop_timeout);
            let (report, summary) = work(engine, &options, stop).await;
            report::print_problems(&report);
            if report.sources_deferred > 0 {
                let until = self.load_deferral(&engine.store).await?;
                print_line(&self.deferred_message(until))?;
            } else if report.lease_held {
                report::print_busy();
            } else {
                print_line(&summary)?;
            }
            Ok(report::exit_code(&report))
        })
        .await
    }

    /// The message of a sync that did nothing because the upstream asked us to wait.
    pub(super) fn deferred_message(&self, until: Option<DateTime<Utc>>) -> String {
        let until = match until {
            Some(until) => format!(
                " until {}",
                format_when(until, self.context.clock.now(), self.config.policy.zone)
            ),
            None => String::new(),
        };
        let name = self.name;
        format!("{name} asked us to wait{until}; it was not contacted, and nothing was changed")
    }
}

/// Prints the configured upstreams, and those in the store that are no longer configured, by name.
pub(super) fn print_upstreams<S: Default, T, R: Row>(
    stored: impl Iterator<Item = (String, S)>,
    configured: impl Iterator<Item = (String, T)>,
    options: ListOptions,
    printer: &mut Printer<'_, R>,
    to_row: impl Fn(String, S, Option<T>) -> R,
) -> Result<()> {
    let mut all: BTreeMap<_, _> = stored.map(|(name, row)| (name, (row, None))).collect();
    for (name, terms) in configured {
        all.entry(name).or_default().1 = Some(terms);
    }
    for (name, (row, terms)) in all.into_iter().take(options.max_rows()) {
        printer.print_row(&to_row(name, row, terms))?;
    }
    Ok(())
}

/// Ends the rows of a dry run with its summary, which is the result for people, else a remark.
pub(super) fn finish_preview<R: Row>(
    printer: Printer<'_, R>,
    format: Format,
    summary: &str,
) -> Result<()> {
    if matches!(format, Format::Table) {
        // The summary already says so if there are no rows.
        if printer.count() > 0 {
            printer.finish()?;
        }
        return Ok(print_line(summary)?);
    }
    printer.finish()?;
    anstream::eprintln!("{}", text::clean_lines(summary));
    Ok(())
}

/// `ok`, `failing` or `never`.
pub(super) fn state_text(sync_state: &SyncState) -> &'static str {
    match (sync_state.failures, sync_state.last_good_sync_at) {
        (1.., _) => "failing",
        (_, None) => "never",
        (_, Some(_)) => "ok",
    }
}

pub(super) fn state_cell(state: &str) -> Cell {
    Cell::new(state).style(match state {
        "failing" | "held" => BAD,
        "unconfigured" => WARN,
        "never" | "renamed" => FAINT,
        _ => Style::new(),
    })
}

/// Until when it asked us to wait, if that time is not over.
pub(super) fn deferred_until(sync_state: &SyncState, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    sync_state.deferred_until.filter(|until| *until > now)
}

pub(super) fn deferred_cell(sync_state: &SyncState, view: &View) -> Option<Cell> {
    let until = format_when(deferred_until(sync_state, view.now)?, view.now, view.zone);
    Some(Cell::new(format!("asked us to wait until {until}")).style(WARN))
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

/// What it found, and what the credentials can do, one line for each.
fn check_report(name: &str, checked: &CheckReport) -> String {
    let mut lines = vec![format!("{name}: {}", checked.summary)];
    lines.extend(checked.notes.iter().map(|note| format!("  note    {note}")));
    for right in &checked.rights {
        lines.push(match &right.missing {
            None => format!("  can     {}", right.what),
            Some(missing) => format!("  cannot  {}; to add it: {missing}", right.what),
        });
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Right;

    #[test]
    fn a_check_lists_each_right_and_how_to_add_a_missing_one() {
        let checked = CheckReport {
            summary: "Rancher 2.12.1".to_owned(),
            rights: vec![
                Right::granted("list users"),
                Right::missing("delete tokens", "the verb delete in its GlobalRole"),
            ],
            notes: vec!["expires_at is empty in all 12 records".to_owned()],
        };
        insta::assert_snapshot!(check_report("rancher", &checked), @"
        rancher: Rancher 2.12.1
          note    expires_at is empty in all 12 records
          can     list users
          cannot  delete tokens; to add it: the verb delete in its GlobalRole
        ");
    }
}
