//! `lapsed directory`: lists, checks and syncs directories, and decides on held changes.

mod sync;

#[cfg(test)]
pub(super) use sync::StatusChangeRow;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde_json::json;

use super::args::{DirectoryCommand, ListOptions};
use super::exit::{Exit, Failure, Result};
use super::output::when::{format_instant, rfc3339};
use super::output::{BAD, Cell, Column, Field, Printer, Row, print_line};
use super::query::print_list;
use super::setup::{self, Mode};
use super::upstream::{
    Kind, Upstream, deferred_cell, deferred_until, next_sync_at, print_upstreams, state_cell,
    state_text,
};
use super::{Context, audit};
use crate::config::{Config, DirectoryConfig};
use crate::domain::{DirectoryTerms, Reason, Schedule, SyncState};
use crate::store::{self, Decision, Store, Tx};

pub(super) async fn directory(context: &Context, args: DirectoryCommand) -> Result<Exit> {
    let config = &match &args {
        DirectoryCommand::Check { .. }
        | DirectoryCommand::Sync(_)
        | DirectoryCommand::Forget { .. } => setup::load_config(context),
        _ => setup::load_store_config(context),
    }?;
    let now = context.clock.now();
    let upstream = |name| Upstream {
        context,
        config,
        kind: Kind::Directory,
        name,
    };
    match &args {
        DirectoryCommand::List(options) => {
            print_list(config, options.format, now, async |store, printer| {
                list(store, config, *options, printer, now).await
            })
            .await
        }
        DirectoryCommand::Check { name } => {
            sync::check(&upstream(name), find_configured(config, name)?).await
        }
        DirectoryCommand::Sync(args) => {
            find_configured(config, &args.name)?;
            let upstream = upstream(&args.name);
            if args.dry_run {
                sync::dry_run(&upstream, args).await
            } else {
                sync::sync(&upstream, args).await
            }
        }
        DirectoryCommand::Release { name } => {
            print_decision(config, name, Decision::Released, now).await
        }
        DirectoryCommand::Reject { name } => {
            print_decision(config, name, Decision::Rejected, now).await
        }
        DirectoryCommand::Forget { name } => forget(context, config, name).await,
    }
}

/// The configured directory with this name. The error suggests the nearest name.
pub(super) fn find_configured<'a>(config: &'a Config, name: &str) -> Result<&'a DirectoryConfig> {
    Kind::Directory.find(&config.directories, name, |directory| &directory.terms.name)
}

pub(super) async fn list(
    store: &Store,
    config: &Config,
    options: ListOptions,
    printer: &mut Printer<'_, DirectoryRow>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut tx = store.begin_read().await?;
    let stored = tx.list_directories().await?;
    let counts = tx.count_identities(&[]).await?;
    drop(tx);
    let stored = stored.into_iter().map(|mut row| {
        // A directory that is only asked about single people reports no total: count the known ones.
        if row.people == 0 {
            let never_seen = Some(Reason::NeverSeen.as_str());
            let here = counts.iter().filter(|count| count.directory == row.name);
            let seen = here.filter(|count| count.reason.as_deref() != never_seen);
            row.people = seen.map(|count| count.count).sum();
        }
        (row.name.clone(), row)
    });
    let configured = config.directory_terms().into_iter();
    let configured = configured.map(|terms| (terms.name.clone(), terms));
    let sweep = &config.settings.sweep;
    print_upstreams(stored, configured, options, printer, |name, row, terms| {
        DirectoryRow::new(name, row, terms, sweep, now)
    })
}

pub(super) struct DirectoryRow {
    pub(super) name: String,
    pub(super) kind: String,
    /// How many the last complete listing has, or how many are known from it.
    pub(super) people: i64,
    /// The change that waits for an operator.
    pub(super) held: Option<String>,
    /// Why people may be missing from its last listing.
    pub(super) gaps: Option<String>,
    pub(super) sync_state: SyncState,
    /// Until when its data is fresh without another sync.
    pub(super) fresh_until: Option<DateTime<Utc>>,
    /// When the daemon syncs it next; shown to people only.
    pub(super) next: Option<DateTime<Utc>>,
}

impl DirectoryRow {
    /// Without `terms`, the directory is no longer configured.
    fn new(
        name: String,
        row: store::DirectoryRow,
        terms: Option<&DirectoryTerms>,
        sweep: &Schedule,
        now: DateTime<Utc>,
    ) -> Self {
        let mut sync_state = row.sync_state;
        if terms.is_none() && sync_state.error.is_none() {
            sync_state.error = Some(
                "it is no longer in the configuration; `lapsed directory forget` deletes its data"
                    .to_owned(),
            );
        }
        let held = row.held.map(|held| match row.decision.as_deref() {
            Some("released") => format!("{held}; released, the next sync accepts it"),
            Some(_) => format!("{held}; rejected, the next sync rejects it"),
            None => held,
        });
        Self {
            name,
            kind: terms.map_or(row.kind, |terms| terms.kind.to_owned()),
            people: row.people,
            held,
            gaps: row.gaps,
            fresh_until: terms
                .and_then(|terms| Some(terms.fresh_until(sync_state.last_good_sync_at?))),
            next: terms
                .and_then(|terms| next_sync_at(&sync_state, terms.schedule.as_ref(), sweep, now)),
            sync_state,
        }
    }

    /// `ok`, `held`, `failing` or `never`.
    fn state(&self) -> &'static str {
        match state_text(&self.sync_state) {
            "ok" | "never" if self.held.is_some() => "held",
            state => state,
        }
    }

    fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        self.fresh_until.is_some_and(|until| now <= until)
    }

    /// The held change, the last error, and what the last listing may lack.
    fn trouble(&self, zone: Tz) -> Option<String> {
        let SyncState {
            error,
            failing_since,
            ..
        } = &self.sync_state;
        let error = error.as_ref().map(|error| match failing_since {
            Some(since) => format!("failing since {}: {error}", format_instant(*since, zone)),
            None => error.clone(),
        });
        let held = self.held.as_ref().map(|held| format!("held: {held}"));
        let gaps = self
            .gaps
            .as_ref()
            .map(|gaps| format!("people may be missing: {gaps}"));
        let troubles: Vec<String> = [held, error, gaps].into_iter().flatten().collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }
}

impl Row for DirectoryRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("name", |row, _| json!(row.name)),
        ("kind", |row, _| json!(row.kind)),
        ("people", |row, _| json!(row.people)),
        ("observed_at", |row, _| {
            rfc3339(row.sync_state.last_good_sync_at)
        }),
        ("held", |row, _| json!(row.held)),
        ("error", |row, _| json!(row.sync_state.error)),
        ("state", |row, _| json!(row.state())),
        ("fresh", |row, now| json!(row.is_fresh(now))),
        ("fresh_until", |row, _| rfc3339(row.fresh_until)),
        ("failing_since", |row, _| {
            rfc3339(row.sync_state.failing_since)
        }),
        ("deferred_until", |row, now| {
            rfc3339(deferred_until(&row.sync_state, now))
        }),
        // Why people may be missing from the last listing.
        ("gaps", |row, _| json!(row.gaps)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("NAME", 0, 8, |row, _| Cell::name(&row.name)),
        Column::fixed("KIND", 4, |row, _| Cell::new(&row.kind)),
        Column::fixed("STATE", 0, |row, _| state_cell(row.state())),
        Column::fixed("PEOPLE", 1, |row, _| Cell::new(row.people)),
        Column::fixed("LAST GOOD", 1, |row, view| {
            Cell::distance(row.sync_state.last_good_sync_at, view)
        }),
        Column::fixed("DATA", 0, |row, view| {
            match (row.is_fresh(view.now), row.sync_state.last_good_sync_at) {
                (true, _) => Cell::new("fresh"),
                (false, Some(_)) => Cell::new("stale").style(BAD),
                (false, None) => Cell::dash(),
            }
        }),
        Column::fixed("NEXT", 2, |row, view| Cell::distance(row.next, view)),
        Column::elastic("TROUBLE", 0, 20, |row, view| {
            match deferred_cell(&row.sync_state, view) {
                Some(deferred) if row.held.is_none() => deferred,
                _ => Cell::optional(row.trouble(view.zone)).mark_problem(),
            }
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no directories are configured";
}

/// Deletes the data of a directory that is no longer configured.
async fn forget(context: &Context, config: &Config, name: &str) -> Result<Exit> {
    let directories = config.directory_terms();
    if directories.iter().any(|terms| terms.name == name) {
        let error = anyhow::anyhow!("the directory {name} is in the configuration");
        let hint = "remove its [[directory]] first; otherwise the next sweep reads it again";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let people = setup::with_engine(context, config, Mode::Normal, async |engine| {
        let known = engine.store.begin_read().await?.list_directories().await?;
        let names = known.iter().map(|row| row.name.as_str());
        if !names.clone().any(|known| known == name) {
            return Err(Kind::Directory.unknown_name_error(name, names, "store"));
        }
        Ok(engine
            .directory_sync()
            .forget(name, &audit::actor())
            .await?)
    })
    .await?;
    print_line(&format!(
        "deleted what {name} reported about {people} people; the next sweep resolves the findings that depend on it alone"
    ))?;
    Ok(Exit::Ok)
}

async fn print_decision(
    config: &Config,
    name: &str,
    decision: Decision,
    now: DateTime<Utc>,
) -> Result<Exit> {
    let directories = config.directory_terms().into_iter();
    let configured = directories.map(|terms| terms.name.clone()).collect();
    let message = setup::with_store(config, Mode::Normal, async |store| {
        record_decision(store, name, configured, decision, now).await
    })
    .await?;
    print_line(&message)?;
    Ok(Exit::Ok)
}

/// Releases or rejects the held change of a directory and returns the message to print.
pub(super) async fn record_decision(
    store: &Store,
    name: &str,
    configured: Vec<String>,
    decision: Decision,
    now: DateTime<Utc>,
) -> Result<String> {
    let mut tx = store.begin().await?;
    let Some(row) = tx.find_directory(name).await? else {
        return no_data_message(&mut tx, name, configured).await;
    };
    let Some(held) = row.held else {
        return clear_rejections(tx, name, decision, now).await;
    };
    let decided = decision.as_str();
    if row.decision.as_deref() == Some(decided) {
        return Ok(format!(
            "directory {name} was already {decided}; its next sync applies that: {held}"
        ));
    }
    tx.decide_held_changes(name, decision).await?;
    let (action, consequence) = match decision {
        Decision::Released => (
            "directory.release",
            "If its next sync still reports the same, the change is accepted. The sweep after that flags the tokens of the \
             people who lost access.",
        ),
        Decision::Rejected => (
            "directory.reject",
            "If its next sync still reports the same, these people are unknown until the directory reports something \
             else about them. None of their tokens is flagged. The reports about all other people count again.",
        ),
    };
    audit::record_action(&mut tx, now, action, name, Some(&held)).await?;
    tx.commit().await?;
    Ok(format!(
        "directory {name} is {decided}: {held}\n{consequence} Another mass change is held again.\n\
         The next scheduled sweep syncs it; `lapsed directory sync {name}` does so now."
    ))
}

/// The message about a configured directory without data. For an unknown name an error with all names.
async fn no_data_message(tx: &mut Tx, name: &str, mut known: Vec<String>) -> Result<String> {
    if known.iter().any(|known| known == name) {
        return Ok(format!(
            "directory {name} was never synced, so nothing is held; nothing was changed"
        ));
    }
    let rows = tx.list_directories().await?;
    known.extend(rows.into_iter().map(|row| row.name));
    known.sort_unstable();
    known.dedup();
    let known = known.iter().map(String::as_str);
    Err(Kind::Directory.unknown_name_error(name, known, "configuration or store"))
}

/// Releases the people whom an operator rejected before; there is no held change to decide on.
async fn clear_rejections(
    mut tx: Tx,
    name: &str,
    decision: Decision,
    now: DateTime<Utc>,
) -> Result<String> {
    let rejected = match decision {
        Decision::Released => tx.clear_rejections(name).await?,
        Decision::Rejected => 0,
    };
    if rejected == 0 {
        return Ok(format!(
            "directory {name} holds no change; nothing was changed"
        ));
    }
    let reason = format!("{rejected} people who were rejected");
    audit::record_action(&mut tx, now, "directory.release", name, Some(&reason)).await?;
    tx.commit().await?;
    Ok(format!(
        "directory {name} holds no change; the rejected statements about {rejected} people are evaluated again at the next sync"
    ))
}
