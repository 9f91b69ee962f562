//! One directory by itself: synchronised now, or looked at without a trace.

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::cli::{
    Context, actor,
    args::{DirectorySync, Format},
    exit::Exit,
    output::{
        Printer,
        rows::TurnRow,
        say, text,
        when::{Instant, when},
    },
    setup::{self, engine_failure, store_failure},
    source::left_alone,
    sweep,
};
use crate::config::Config;
use crate::domain::{Identity, IdentityStatus};
use crate::engine::{
    Engine, Outcome, Report, Survey, SweepOptions, SyncedDirectory, Turn, WatchedDirectory,
};
use crate::store::Store;

/// Until when a directory that asked to be left alone is, in words. Where the store does not tell, nothing
/// is known of that.
pub(super) async fn rests(config: &Config, name: &str, now: DateTime<Utc>) -> Option<String> {
    let (store, _scratch) = setup::store_to_look_at(config).await.ok()?;
    let until = deferred_until(&store, name).await;
    store.close().await;
    let until = until.ok()?.filter(|until| *until > now)?;
    let until = when(Instant(until), now);
    Some(format!(
        "{name} asked to be left alone until {until}, so it was not asked"
    ))
}

async fn deferred_until(store: &Store, name: &str) -> anyhow::Result<Option<DateTime<Utc>>> {
    let mut tx = store.read().await.map_err(store_failure)?;
    let row = tx.directory(name).await.map_err(store_failure)?;
    Ok(row.and_then(|row| row.standing.deferred_until))
}

/// Synchronises one directory.
pub(super) async fn sync(
    context: &Context,
    config: &Config,
    args: &DirectorySync,
) -> anyhow::Result<Exit> {
    let _log = setup::log(context, config)?;
    let store = setup::store(config).await?;
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let name = &args.name;
    let options = SweepOptions {
        by_schedule: false,
        accept_shrink: args
            .accept_shrink
            .then(|| name.clone())
            .into_iter()
            .collect(),
        only: vec![name.clone()],
        asked_by: actor::name(),
    };
    let stop = CancellationToken::new();
    let watched = watched(&engine, name)?;
    let synced = tokio::select! {
        synced = engine.sync_directory_alone(watched, &options, &stop) => synced,
        () = sweep::until_asked_to_stop(&stop) => unreachable!("it only cancels"),
    };
    let report = &synced.report;
    sweep::complain(report);
    if report.sources_deferred > 0 {
        let until = deferred_until(&engine.store, name).await?;
        say(&left_alone(name, until, context.clock.now()))?;
    } else if report.lease_held {
        anstream::eprintln!("a sweep is at work; nothing was done, try again in a moment");
    } else {
        say(&summed(name, &synced))?;
    }
    engine.store.close().await;
    Ok(sweep::exit(report))
}

/// `hr: told of 120 people, 14 of them issuers of tokens; the status of 3 changed`.
fn summed(name: &str, synced: &SyncedDirectory) -> String {
    let report = &synced.report;
    let told = told_of(name, synced.told, synced.issuers);
    let is_in_trouble = !report.problems.is_empty() || !report.errors.is_empty();
    match (report.people_changed, is_in_trouble) {
        (0, true) => format!("{told}; nothing was taken in"),
        (0, false) => format!("{told}; no status changed"),
        (count, _) => format!(
            "{told}; the status of {count} changed. The next sweep flags or clears their tokens"
        ),
    }
}

fn told_of(name: &str, told: Option<u64>, issuers: u64) -> String {
    match told {
        Some(1) => format!("{name}: told of 1 person, {issuers} of them an issuer of tokens"),
        Some(told) => format!("{name}: told of {told} people, {issuers} of them issuers of tokens"),
        None => format!("{name}: nothing new"),
    }
}

/// Tells what a sync would change, person by person.
pub(super) async fn look(
    context: &Context,
    config: &Config,
    args: &DirectorySync,
) -> anyhow::Result<Exit> {
    let (store, scratch) = setup::store_to_look_at(config).await?;
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let name = &args.name;
    let now = context.clock.now();
    let watched = watched(&engine, name)?;
    let looked = engine.foresee_directory(watched, args.accept_shrink).await;
    let looked = looked.map_err(engine_failure)?;
    engine.store.close().await;
    drop(scratch);
    let mut printer = Printer::<TurnRow>::stdout(args.format, now);
    let (said, exit, rows) = match looked {
        Err(until) => (left_alone(name, Some(until), now), Exit::Ok, Vec::new()),
        Ok(survey) => foreseen(name, survey),
    };
    for row in &rows {
        printer.row(row)?;
    }
    if matches!(args.format, Format::Table) {
        // What is said says, too, that a table has no rows.
        if !rows.is_empty() {
            printer.finish()?;
        }
        say(&said)?;
    } else {
        printer.finish()?;
        anstream::eprintln!("{}", text::clean_lines(&said));
    }
    Ok(exit)
}

/// Why a reading of a directory would not be believed now; `None` where it would, or is not to be tried.
pub(super) async fn doubt(
    context: &Context,
    config: &Config,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let (store, scratch) = setup::store_to_look_at(config).await?;
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let looked = engine
        .foresee_directory(watched(&engine, name)?, false)
        .await;
    engine.store.close().await;
    drop(scratch);
    Ok(match looked {
        Ok(Err(_)) => None,
        Ok(Ok(survey)) => match survey.outcome {
            Outcome::Held { reason, .. } => Some(format!(
                "{reason}; `lapsed directory sync {name} --dry-run` shows whom it is about"
            )),
            Outcome::Believed { .. } => None,
        },
        Err(error) => Some(Causes(&error).to_string()),
    })
}

/// What a look says, what it ends the program with, and a row for each person.
fn foreseen(name: &str, survey: Survey) -> (String, Exit, Vec<TurnRow>) {
    let told = told_of(name, survey.told, survey.issuers);
    match survey.outcome {
        Outcome::Held { reason, turns, .. } => {
            let rows = turns.into_iter().map(|turn| TurnRow {
                change: "held",
                email: turn.email,
                before: turn.before,
                after: Some(turn.after),
                reason: None,
                evidence: Some(turn.evidence),
            });
            let said = format!(
                "{told}; it is held: {reason}\nIf that is right: lapsed directory release {name}; if not: mend it \
                 there, or lapsed directory reject {name}. Nothing was changed"
            );
            let exit = sweep::exit(&Report {
                problems: vec![reason],
                ..Report::default()
            });
            (said, exit, rows.collect())
        }
        Outcome::Believed { turns, forgotten } => {
            let changed = turns.iter().filter(|turn| turn.is_turn()).count();
            let forgotten = forgotten.into_iter().map(|email| TurnRow {
                change: "forgotten",
                email,
                before: None,
                after: None,
                reason: None,
                evidence: Some("nobody asks for them any more".to_owned()),
            });
            let rows: Vec<TurnRow> = turns.into_iter().map(row).chain(forgotten).collect();
            let said = match changed {
                0 => format!("{told}; no status would change"),
                1 => format!("{told}; the status of 1 would change; nothing was changed"),
                count => format!("{told}; the status of {count} would change; nothing was changed"),
            };
            (said, Exit::Ok, rows)
        }
    }
}

fn row(turn: Turn) -> TurnRow {
    let Turn { before, now } = turn;
    TurnRow {
        change: if before.is_some() { "changed" } else { "new" },
        email: now.email.to_string(),
        before,
        after: Some(now.status),
        reason: now.reason.map(|reason| reason.to_string()),
        evidence: evidence(now),
    }
}

/// What a loss that awaits its confirmation rests on, else what was last said clearly.
fn evidence(now: Identity) -> Option<String> {
    let claimed = now
        .candidate_evidence
        .filter(|_| now.status == IdentityStatus::Unknown);
    let said = claimed.unwrap_or(now.evidence);
    Some(said).filter(|said| !said.is_empty())
}

fn watched<'a>(engine: &'a Engine, name: &str) -> anyhow::Result<&'a WatchedDirectory> {
    let found = engine.directories.iter().find(|it| it.name == name);
    found.ok_or_else(|| anyhow::anyhow!("there is no directory {name:?}"))
}
