//! `lapsed directory`: lists, checks and syncs directories, and decides on held changes.

mod sync;

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, Utc};

use super::args::{DirectoryCommand, ListOptions};
use super::exit::{Exit, Failure, Result};
use super::output::rows::DirectoryRow;
use super::output::when::Instant;
use super::output::{Printer, print_line};
use super::setup::{self, Mode};
use super::upstream::{Kind, Upstream, next_sync_at};
use super::{Context, actor};
use crate::config::{Config, DirectoryConfig};
use crate::domain::{DirectoryTerms, Reason, Schedule};
use crate::store::{self, Decision, Store};

pub(super) async fn directory(context: &Context, args: DirectoryCommand) -> Result<Exit> {
    let config = &setup::load_config(context)?;
    let now = context.clock.now();
    let upstream = |name| Upstream {
        context,
        config,
        kind: Kind::Directory,
        name,
    };
    match &args {
        DirectoryCommand::List(options) => {
            let mut printer = Printer::stdout(options.format, now);
            setup::with_store(config, Mode::Write, async |store| {
                list(store, config, *options, &mut printer, now).await
            })
            .await?;
            printer.finish()?;
            Ok(Exit::Ok)
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

/// Lists the configured directories, and those in the store that are no longer configured.
pub(super) async fn list(
    store: &Store,
    config: &Config,
    options: ListOptions,
    printer: &mut Printer<DirectoryRow, impl Write, impl Write>,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut tx = store.begin_read().await?;
    let stored = tx.list_directories().await?;
    let counts = tx.count_identities(&[]).await?;
    drop(tx);
    let mut known: BTreeMap<String, store::DirectoryRow> = stored
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    let terms: BTreeMap<&str, &DirectoryTerms> = config
        .directories
        .iter()
        .map(|directory| (directory.terms.name.as_str(), &directory.terms))
        .collect();
    for (name, terms) in &terms {
        let row = known.entry((*name).to_owned()).or_default();
        (*name).clone_into(&mut row.name);
        terms.kind.clone_into(&mut row.kind);
    }
    // A directory that is only asked about single people reports no total: count the known ones.
    for row in known.values_mut().filter(|row| row.people == 0) {
        let known = counts.iter().filter(|count| count.directory == row.name);
        let seen =
            known.filter(|count| count.reason.as_deref() != Some(Reason::NeverSeen.as_str()));
        row.people = seen.map(|count| count.count).sum();
    }
    for row in known.into_values().take(options.max_rows()) {
        let terms = terms.get(row.name.as_str()).copied();
        printer.print_row(&directory_row(row, terms, &config.settings.sweep, now))?;
    }
    Ok(())
}

fn directory_row(
    row: store::DirectoryRow,
    terms: Option<&DirectoryTerms>,
    sweep: &Schedule,
    now: DateTime<Utc>,
) -> DirectoryRow {
    let sync_state = row.sync_state;
    let read_at = sync_state.last_good_sync_at;
    let fresh_until = terms.and_then(|terms| Some(terms.fresh_until(read_at?)));
    let state = match (&row.held, sync_state.failures, sync_state.last_good_sync_at) {
        (_, 1.., _) => "failing",
        (Some(_), ..) => "held",
        (None, _, None) => "never",
        (None, _, Some(_)) => "ok",
    };
    let next =
        terms.and_then(|terms| next_sync_at(&sync_state, terms.schedule.as_ref(), sweep, now));
    let held = match (row.held, row.decision.as_deref()) {
        (Some(held), Some("released")) => {
            Some(format!("{held}; released, the next sync accepts it"))
        }
        (Some(held), Some(_)) => Some(format!("{held}; rejected, the next sync rejects it")),
        (held, _) => held,
    };
    let gone = terms.is_none().then(|| {
        "it is no longer in the configuration; `lapsed directory forget` deletes its data"
            .to_owned()
    });
    DirectoryRow {
        name: row.name,
        kind: row.kind,
        people: u64::try_from(row.people).unwrap_or_default(),
        observed_at: sync_state.last_good_sync_at.map(Instant),
        held,
        error: sync_state.error.or(gone),
        state,
        fresh: fresh_until.is_some_and(|until| now <= until),
        fresh_until: fresh_until.map(Instant),
        failing_since: sync_state.failing_since.map(Instant),
        deferred_until: sync_state
            .deferred_until
            .filter(|until| *until > now)
            .map(Instant),
        next: next.map(Instant),
    }
}

/// Deletes the data of a directory that is no longer configured.
async fn forget(context: &Context, config: &Config, name: &str) -> Result<Exit> {
    if config.directories.iter().any(|it| it.terms.name == name) {
        let error = anyhow::anyhow!("the directory {name} is in the configuration");
        let hint = "remove its [[directory]] first; otherwise the next sweep reads it again";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let people = setup::with_engine(context, config, Mode::Write, async |engine| {
        let known = engine.store.begin_read().await?.list_directories().await?;
        Kind::Directory.find(&known, name, |row| &row.name)?;
        Ok(engine.directory_sync().forget(name, &actor::name()).await?)
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
    let configured = config.directories.iter().map(|it| it.terms.name.clone());
    let message = setup::with_store(config, Mode::Write, async |store| {
        record_decision(store, (name, configured.collect()), decision, now).await
    });
    print_line(&message.await?)?;
    Ok(Exit::Ok)
}

/// Releases or rejects the held change of a directory and returns the message to print.
/// `known` are the configured names.
#[expect(
    clippy::too_many_lines,
    reason = "one decision, with a message for each case"
)]
pub(super) async fn record_decision(
    store: &Store,
    (name, mut known): (&str, Vec<String>),
    decision: Decision,
    now: DateTime<Utc>,
) -> Result<String> {
    let mut tx = store.begin().await?;
    let Some(row) = tx.find_directory(name).await? else {
        if known.iter().any(|known| known == name) {
            return Ok(format!(
                "directory {name} was never synced, so nothing is held; nothing was changed"
            ));
        }
        let rows = tx.list_directories().await?;
        known.extend(rows.into_iter().map(|row| row.name));
        known.sort_unstable();
        known.dedup();
        return Err(Kind::Directory.unknown_name_error(name, known.iter().map(String::as_str)));
    };
    let Some(held) = row.held else {
        let is_release = decision == Decision::Released;
        let rejected = if is_release {
            tx.clear_rejections(name).await?
        } else {
            0
        };
        if rejected == 0 {
            return Ok(format!(
                "directory {name} holds no change; nothing was changed"
            ));
        }
        let reason = format!("{rejected} people who were rejected");
        actor::record_action(&mut tx, now, ("directory.release", name), Some(&reason)).await?;
        tx.commit().await?;
        return Ok(format!(
            "directory {name} holds no change; the rejected statements about {rejected} people are evaluated again at the next sync"
        ));
    };
    let decided = decision.as_str();
    if row.decision.as_deref() == Some(decided) {
        return Ok(format!(
            "directory {name} was already {decided}; its next sync applies that: {held}"
        ));
    }
    tx.decide_held_changes(name, decision).await?;
    let action = match decision {
        Decision::Released => "directory.release",
        Decision::Rejected => "directory.reject",
    };
    actor::record_action(&mut tx, now, (action, name), Some(&held)).await?;
    tx.commit().await?;
    let consequence = match decision {
        Decision::Released => {
            "If its next sync still reports the same, the change is accepted. The sweep after that flags the tokens of the \
             people who lost access."
        }
        Decision::Rejected => {
            "If its next sync still reports the same, these people are unknown until the directory reports something \
             else about them. None of their tokens is flagged. The reports about all other people count again."
        }
    };
    Ok(format!(
        "directory {name} is {decided}: {held}\n{consequence} Another mass change is held again.\n\
         The next scheduled sweep syncs it; `lapsed directory sync {name}` does so now."
    ))
}
