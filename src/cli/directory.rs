//! `lapsed directory`: directories, listed, tested, synchronised, released and refused.

mod sync;

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, Utc};

use super::{
    Context, actor,
    args::{DirectoryCommand, Listing},
    exit::{Exit, Failure},
    freshness::Freshness,
    output::{Printer, rows::DirectoryRow, say, when::Instant},
    setup::{self, store_failure},
    source,
};
use crate::config::{Config, DirectoryConfig};
use crate::domain::Schedule;
use crate::store::{self, HoldVerdict, Store};

pub(super) async fn directory(context: &Context, args: DirectoryCommand) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let now = context.clock.now();
    match args {
        DirectoryCommand::List(listing) => {
            let store = setup::store(&config).await?;
            let mut printer = Printer::stdout(listing.format, now);
            list(&store, &Configured::of(&config), listing, &mut printer, now).await?;
            printer.finish()?;
            store.close().await;
            Ok(Exit::Ok)
        }
        DirectoryCommand::Check { name } => {
            let configured = named(&config, &name)?;
            if let Some(until) = sync::rests(&config, &name, now).await {
                return Err(Failure::unreachable(anyhow::anyhow!(until)).into());
            }
            check(context, &config, configured).await
        }
        DirectoryCommand::Sync(args) => {
            named(&config, &args.name)?;
            if args.dry_run {
                sync::look(context, &config, &args).await
            } else {
                sync::sync(context, &config, &args).await
            }
        }
        DirectoryCommand::Release { name } => {
            decide(&config, &name, HoldVerdict::Released, now).await
        }
        DirectoryCommand::Reject { name } => {
            decide(&config, &name, HoldVerdict::Rejected, now).await
        }
        DirectoryCommand::Forget { name } => forget(context, &config, &name).await,
    }
}

/// The directory of this name; an error tells the nearest.
pub(super) fn named<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a DirectoryConfig> {
    let mut directories = config.directories.iter();
    let found = directories.find(|directory| directory.name == name);
    let known = config.directories.iter().map(|it| it.name.as_str());
    found.ok_or_else(|| source::no_such("directory", name, known))
}

/// What the configuration says that a listing of directories shows.
pub(super) struct Configured {
    /// When sweeps are.
    sweep: Schedule,
    /// Kinds and schedules by name.
    directories: BTreeMap<String, (&'static str, Option<Schedule>)>,
    freshness: Freshness,
}

impl Configured {
    pub(super) fn of(config: &Config) -> Self {
        let directories = config.directories.iter().map(|directory| {
            let about = (directory.kind.as_str(), directory.schedule.clone());
            (directory.name.clone(), about)
        });
        Self {
            sweep: config.schedule.sweep.clone(),
            directories: directories.collect(),
            freshness: Freshness::of(config),
        }
    }
}

/// Lists the directories that are configured, whether they were ever read or not, and those that
/// were read once and are configured no longer.
pub(super) async fn list(
    store: &Store,
    configured: &Configured,
    listing: Listing,
    printer: &mut Printer<DirectoryRow, impl Write, impl Write>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let mut tx = store.read().await.map_err(store_failure)?;
    let read = tx.directories().await.map_err(store_failure)?;
    let counts = tx.identity_counts(&[]).await.map_err(store_failure)?;
    drop(tx);
    let mut known: BTreeMap<String, store::DirectoryRow> = read
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    for (name, (kind, _)) in &configured.directories {
        let row = known.entry(name.clone()).or_default();
        row.name.clone_from(name);
        (*kind).clone_into(&mut row.kind);
    }
    // Whoever tells only of those asked for has no number of its own.
    for row in known.values_mut().filter(|row| row.people == 0) {
        let here = counts.iter().filter(|count| count.directory == row.name);
        let seen = here.filter(|count| count.reason.as_deref() != Some("never_seen"));
        row.people = seen.map(|count| count.count).sum();
    }
    let limit = listing
        .limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    for row in known.into_values().take(limit) {
        printer.row(&shown(row, configured, now))?;
    }
    Ok(())
}

fn shown(row: store::DirectoryRow, configured: &Configured, now: DateTime<Utc>) -> DirectoryRow {
    let fresh_until = configured.freshness.until(&row);
    let found = configured.directories.get(&row.name);
    let standing = row.standing;
    let state = match (&row.held, standing.failures, standing.last_good_sync_at) {
        (_, 1.., _) => "failing",
        (Some(_), ..) => "held",
        (None, _, None) => "never",
        (None, _, Some(_)) => "ok",
    };
    let next = found.and_then(|(_, schedule)| {
        source::next_asked(&standing, schedule.as_ref(), &configured.sweep, now)
    });
    let held = match (row.held, row.verdict.as_deref()) {
        (Some(held), Some("released")) => Some(format!(
            "{held}; released, the next reading lets it through"
        )),
        (Some(held), Some(_)) => Some(format!("{held}; rejected, the next reading refuses it")),
        (held, _) => held,
    };
    let gone = found.is_none().then(|| {
        "it is no longer in the configuration; `lapsed directory forget` drops what it said"
            .to_owned()
    });
    DirectoryRow {
        name: row.name,
        kind: row.kind,
        people: u64::try_from(row.people).unwrap_or_default(),
        observed_at: standing.last_good_sync_at.map(Instant),
        held,
        error: standing.error.or(gone),
        state,
        fresh: fresh_until.is_some_and(|until| now <= until),
        fresh_until: fresh_until.map(Instant),
        failing_since: standing.failing_since.map(Instant),
        deferred_until: standing
            .deferred_until
            .filter(|until| *until > now)
            .map(Instant),
        next: next.map(Instant),
    }
}

/// Forgets what a directory said that is not configured any more.
async fn forget(context: &Context, config: &Config, name: &str) -> anyhow::Result<Exit> {
    if config.directories.iter().any(|it| it.name == name) {
        let error = anyhow::anyhow!("the directory {name} is in the configuration");
        let hint = "take its [[directory]] out first; the next sweep would only ask it again";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let store = setup::store(config).await?;
    let mut tx = store.read().await.map_err(store_failure)?;
    let known = tx.directories().await.map_err(store_failure)?;
    drop(tx);
    if known.iter().all(|row| row.name != name) {
        let known = known.iter().map(|row| row.name.as_str());
        return Err(source::no_such("directory", name, known));
    }
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let forgotten = engine.forget_directory(name, &actor::name()).await;
    engine.store.close().await;
    let people = forgotten.map_err(setup::engine_failure)?;
    say(&format!(
        "what {name} said of {people} people is forgotten; the next sweep resolves the findings that rest on it alone"
    ))?;
    Ok(Exit::Ok)
}

/// Tries the credentials of a directory, and whether a reading would be believed now.
async fn check(
    context: &Context,
    config: &Config,
    configured: &DirectoryConfig,
) -> anyhow::Result<Exit> {
    let name = &configured.name;
    let watched = setup::directory(configured).map_err(Failure::config)?;
    let checked = tokio::time::timeout(super::check::PATIENCE, watched.directory.check()).await;
    let checked = checked.map_err(|_| {
        let error = anyhow::anyhow!("the directory {name} does not answer");
        Failure::failed(error).hint("see that it is up and reachable from here")
    })?;
    match checked {
        Ok(checked) => {
            say(&source::told(name, &checked))?;
            if configured.canaries.is_empty() {
                say(
                    "  hint    it has no `canaries`: name one or two people who surely have access, and a reading \
                     that does not show them as active is not believed",
                )?;
            }
            if checked.rights.iter().any(|right| right.missing.is_some()) {
                return Ok(Exit::Failed);
            }
            match sync::doubt(context, config, name).await? {
                Some(why) => {
                    say(&format!("  cannot  be believed: {why}"))?;
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

async fn decide(
    config: &Config,
    name: &str,
    verdict: HoldVerdict,
    now: DateTime<Utc>,
) -> anyhow::Result<Exit> {
    let store = setup::store(config).await?;
    let configured = config.directories.iter().map(|it| it.name.clone());
    let said = settle(&store, (name, configured.collect()), verdict, now).await?;
    say(&said)?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Lets through or refuses what the directory holds, and tells what comes of it. `known` are the
/// configured names.
pub(super) async fn settle(
    store: &Store,
    (name, mut known): (&str, Vec<String>),
    verdict: HoldVerdict,
    now: DateTime<Utc>,
) -> anyhow::Result<String> {
    let mut tx = store.begin().await.map_err(store_failure)?;
    let Some(row) = tx.directory(name).await.map_err(store_failure)? else {
        if known.iter().any(|known| known == name) {
            return Ok(format!(
                "directory {name} was never read, so it holds nothing; nothing was changed"
            ));
        }
        let rows = tx.directories().await.map_err(store_failure)?;
        known.extend(rows.into_iter().map(|row| row.name));
        known.sort_unstable();
        known.dedup();
        return Err(source::no_such(
            "directory",
            name,
            known.iter().map(String::as_str),
        ));
    };
    let Some(held) = row.held else {
        let is_release = verdict == HoldVerdict::Released;
        let refused = if is_release {
            tx.weigh_anew(name).await.map_err(store_failure)?
        } else {
            0
        };
        if refused == 0 {
            return Ok(format!(
                "directory {name} holds nothing; nothing was changed"
            ));
        }
        let reason = format!("{refused} people who were refused");
        actor::audit(&mut tx, now, ("directory.release", name), Some(&reason)).await?;
        tx.commit().await.map_err(store_failure)?;
        return Ok(format!(
            "directory {name} holds nothing; what was refused of {refused} people is weighed anew at its next reading"
        ));
    };
    let word = verdict.as_str();
    if row.verdict.as_deref() == Some(word) {
        return Ok(format!(
            "directory {name} was {word} before; its next reading follows that: {held}"
        ));
    }
    tx.settle_directory(name, verdict)
        .await
        .map_err(store_failure)?;
    let action = match verdict {
        HoldVerdict::Released => "directory.release",
        HoldVerdict::Rejected => "directory.reject",
    };
    actor::audit(&mut tx, now, (action, name), Some(&held)).await?;
    tx.commit().await.map_err(store_failure)?;
    let follows = match verdict {
        HoldVerdict::Released => {
            "Its next reading is taken in if it still says the same, and the sweep after that flags the tokens of \
             those who lost access."
        }
        HoldVerdict::Rejected => {
            "If its next reading still says the same, those whom it is about are unknown until it says something \
             else of them, no token of theirs is flagged, and what it says of everybody else counts again."
        }
    };
    Ok(format!(
        "directory {name} is {word}: {held}\n{follows} Another mass change is held again.\n\
         The next sweep that is due to ask it reads it; `lapsed directory sync {name}` does so now."
    ))
}
