//! `lapsed directory`: lists, checks and syncs directories, and decides on held changes.

mod sync;

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, Utc};

use super::args::{DirectoryCommand, ListOptions};
use super::exit::{Exit, Failure};
use super::output::rows::DirectoryRow;
use super::output::when::Instant;
use super::output::{Printer, print_line};
use super::setup::{self, store_failure};
use super::{Context, actor, source};
use crate::config::{Config, DirectoryConfig};
use crate::domain::{DirectoryTerms, Schedule};
use crate::store::{self, Decision, Store};

pub(super) async fn directory(context: &Context, args: DirectoryCommand) -> anyhow::Result<Exit> {
    let config = setup::load_config(context)?;
    let now = context.clock.now();
    match args {
        DirectoryCommand::List(options) => {
            let store = setup::open_store(&config).await?;
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
        DirectoryCommand::Check { name } => {
            let configured = find_configured(&config, &name)?;
            if let Some(notice) = sync::deferral_notice(&config, &name, now).await {
                return Err(Failure::unreachable(anyhow::anyhow!(notice)).into());
            }
            check(context, &config, configured).await
        }
        DirectoryCommand::Sync(args) => {
            find_configured(&config, &args.name)?;
            if args.dry_run {
                sync::dry_run(context, &config, &args).await
            } else {
                sync::sync(context, &config, &args).await
            }
        }
        DirectoryCommand::Release { name } => {
            print_decision(&config, &name, Decision::Released, now).await
        }
        DirectoryCommand::Reject { name } => {
            print_decision(&config, &name, Decision::Rejected, now).await
        }
        DirectoryCommand::Forget { name } => forget(context, &config, &name).await,
    }
}

/// The configured directory with this name. The error suggests the nearest name.
pub(super) fn find_configured<'a>(
    config: &'a Config,
    name: &str,
) -> anyhow::Result<&'a DirectoryConfig> {
    let mut directories = config.directories.iter();
    let found = directories.find(|directory| directory.terms.name == name);
    let known = config.directories.iter().map(|it| it.terms.name.as_str());
    found.ok_or_else(|| source::unknown_name_error("directory", name, known))
}

/// The part of the configuration that `directory list` shows.
pub(super) struct Configured {
    sweep: Schedule,
    directories: BTreeMap<String, DirectoryTerms>,
}

impl Configured {
    pub(super) fn from_config(config: &Config) -> Self {
        let terms = config.directories.iter().map(|directory| &directory.terms);
        Self {
            sweep: config.settings.sweep.clone(),
            directories: terms
                .map(|terms| (terms.name.clone(), terms.clone()))
                .collect(),
        }
    }
}

/// Lists the configured directories, and those in the store that are no longer configured.
pub(super) async fn list(
    store: &Store,
    configured: &Configured,
    options: ListOptions,
    printer: &mut Printer<DirectoryRow, impl Write, impl Write>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let mut tx = store.begin_read().await.map_err(store_failure)?;
    let stored = tx.list_directories().await.map_err(store_failure)?;
    let counts = tx.count_identities(&[]).await.map_err(store_failure)?;
    drop(tx);
    let mut known: BTreeMap<String, store::DirectoryRow> = stored
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    for (name, terms) in &configured.directories {
        let row = known.entry(name.clone()).or_default();
        row.name.clone_from(name);
        terms.kind.clone_into(&mut row.kind);
    }
    // A directory that is only asked about single people reports no total: count the known ones.
    for row in known.values_mut().filter(|row| row.people == 0) {
        let known = counts.iter().filter(|count| count.directory == row.name);
        let seen = known.filter(|count| count.reason.as_deref() != Some("never_seen"));
        row.people = seen.map(|count| count.count).sum();
    }
    for row in known.into_values().take(options.max_rows()) {
        printer.print_row(&directory_row(row, configured, now))?;
    }
    Ok(())
}

fn directory_row(
    row: store::DirectoryRow,
    configured: &Configured,
    now: DateTime<Utc>,
) -> DirectoryRow {
    let found = configured.directories.get(&row.name);
    let sync_state = row.sync_state;
    let read_at = sync_state.last_good_sync_at;
    let fresh_until = found.and_then(|terms| Some(terms.fresh_until(read_at?)));
    let state = match (&row.held, sync_state.failures, sync_state.last_good_sync_at) {
        (_, 1.., _) => "failing",
        (Some(_), ..) => "held",
        (None, _, None) => "never",
        (None, _, Some(_)) => "ok",
    };
    let next = found.and_then(|terms| {
        source::next_sync_at(&sync_state, terms.schedule.as_ref(), &configured.sweep, now)
    });
    let held = match (row.held, row.decision.as_deref()) {
        (Some(held), Some("released")) => {
            Some(format!("{held}; released, the next sync accepts it"))
        }
        (Some(held), Some(_)) => Some(format!("{held}; rejected, the next sync rejects it")),
        (held, _) => held,
    };
    let gone = found.is_none().then(|| {
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
async fn forget(context: &Context, config: &Config, name: &str) -> anyhow::Result<Exit> {
    if config.directories.iter().any(|it| it.terms.name == name) {
        let error = anyhow::anyhow!("the directory {name} is in the configuration");
        let hint = "remove its [[directory]] first; otherwise the next sweep reads it again";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let store = setup::open_store(config).await?;
    let mut tx = store.begin_read().await.map_err(store_failure)?;
    let known = tx.list_directories().await.map_err(store_failure)?;
    drop(tx);
    if known.iter().all(|row| row.name != name) {
        let known = known.iter().map(|row| row.name.as_str());
        return Err(source::unknown_name_error("directory", name, known));
    }
    let engine = setup::build_engine(context, config, store, setup::build_dry_run_mailer(config)?)?;
    let forgotten = engine.directory_sync().forget(name, &actor::name()).await;
    engine.store.close().await;
    let people = forgotten.map_err(setup::engine_failure)?;
    print_line(&format!(
        "deleted what {name} reported about {people} people; the next sweep resolves the findings that depend on it alone"
    ))?;
    Ok(Exit::Ok)
}

/// Tests the credentials of a directory, and whether a sync would be accepted now.
async fn check(
    context: &Context,
    config: &Config,
    configured: &DirectoryConfig,
) -> anyhow::Result<Exit> {
    let name = &configured.terms.name;
    let watched = setup::build_directory(configured).map_err(Failure::config)?;
    let checked =
        tokio::time::timeout(super::check::CHECK_TIMEOUT, watched.directory.check()).await;
    let checked = checked.map_err(|_| {
        let error = anyhow::anyhow!("the directory {name} does not answer");
        Failure::failed(error).hint("make sure that it is up and reachable from this machine")
    })?;
    match checked {
        Ok(checked) => {
            print_line(&source::check_report(name, &checked))?;
            if configured.terms.canaries.is_empty() {
                print_line(
                    "  hint    it has no `canaries`: name one or two people who certainly have access; a listing \
                     that does not show them as active is then rejected",
                )?;
            }
            if checked.rights.iter().any(|right| right.missing.is_some()) {
                return Ok(Exit::Failed);
            }
            match sync::acceptance_problem(context, config, name).await? {
                Some(problem) => {
                    print_line(&format!("  cannot  be accepted: {problem}"))?;
                    Ok(Exit::Failed)
                }
                None => Ok(Exit::Ok),
            }
        }
        Err(error) if error.wait().is_some() => Err(Failure::unreachable(error).into()),
        Err(error) => {
            let context = format!("the directory {name} cannot be read");
            Err(Failure::failed(anyhow::Error::new(error).context(context)).into())
        }
    }
}

async fn print_decision(
    config: &Config,
    name: &str,
    decision: Decision,
    now: DateTime<Utc>,
) -> anyhow::Result<Exit> {
    let store = setup::open_store(config).await?;
    let configured = config.directories.iter().map(|it| it.terms.name.clone());
    let message = record_decision(&store, (name, configured.collect()), decision, now).await?;
    print_line(&message)?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Releases or rejects the held change of a directory and returns the message to print.
/// `known` are the configured names.
pub(super) async fn record_decision(
    store: &Store,
    (name, mut known): (&str, Vec<String>),
    decision: Decision,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let mut tx = store.begin().await.map_err(store_failure)?;
    let Some(row) = tx.find_directory(name).await.map_err(store_failure)? else {
        if known.iter().any(|known| known == name) {
            return Ok(format!(
                "directory {name} was never synced, so nothing is held; nothing was changed"
            ));
        }
        let rows = tx.list_directories().await.map_err(store_failure)?;
        known.extend(rows.into_iter().map(|row| row.name));
        known.sort_unstable();
        known.dedup();
        return Err(source::unknown_name_error(
            "directory",
            name,
            known.iter().map(String::as_str),
        ));
    };
    let Some(held) = row.held else {
        let is_release = decision == Decision::Released;
        let rejected = if is_release {
            tx.clear_rejections(name).await.map_err(store_failure)?
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
        tx.commit().await.map_err(store_failure)?;
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
    tx.decide_held_changes(name, decision)
        .await
        .map_err(store_failure)?;
    let action = match decision {
        Decision::Released => "directory.release",
        Decision::Rejected => "directory.reject",
    };
    actor::record_action(&mut tx, now, (action, name), Some(&held)).await?;
    tx.commit().await.map_err(store_failure)?;
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
