//! `lapsed source`: sources, listed, tested and synchronised.

use std::collections::BTreeMap;
use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::{
    Context, actor,
    args::{Format, Listing, SourceCommand, SourceSync},
    exit::{Exit, Failure},
    output::{
        Printer,
        rows::{DifferenceRow, SourceRow},
        say, text,
        when::{Instant, when},
    },
    setup::{self, engine_failure, store_failure},
    sweep,
};
use crate::config::{Config, SourceConfig};
use crate::domain::{Schedule, Standing};
use crate::engine::{self, Change, Difference, Engine, Looked, Report, SweepOptions, Watched};
use crate::sources::Checked;
use crate::store::{self, Store};

pub(super) async fn source(context: &Context, args: SourceCommand) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    match args {
        SourceCommand::List(listing) => {
            let store = setup::store(&config).await?;
            let now = context.clock.now();
            let mut printer = Printer::stdout(listing.format, now);
            list(&store, &Configured::of(&config), listing, &mut printer, now).await?;
            printer.finish()?;
            store.close().await;
            Ok(Exit::Ok)
        }
        SourceCommand::Check { name } => {
            let configured = named(&config, &name)?;
            if let Some(until) = rests(&config, &name, context.clock.now()).await {
                return Err(Failure::unreachable(anyhow::anyhow!(until)).into());
            }
            check(configured).await
        }
        SourceCommand::Sync(args) => {
            named(&config, &args.name)?;
            if args.dry_run {
                look(context, &config, &args).await
            } else {
                sync(context, &config, args).await
            }
        }
    }
}

/// The source of this name; an error tells the nearest.
pub(super) fn named<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a SourceConfig> {
    let found = config.sources.iter().find(|source| source.name == name);
    let known = config.sources.iter().map(|source| source.name.as_str());
    found.ok_or_else(|| no_such("source", name, known))
}

/// Nothing of this kind has the name: the nearest that has, and all.
pub(super) fn no_such<'a>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> anyhow::Error {
    let error = anyhow::anyhow!("there is no {kind} {name:?}");
    let nearest = known
        .clone()
        .min_by_key(|known| strsim::damerau_levenshtein(known, name));
    let hint = match nearest {
        None => format!("the configuration has no [[{kind}]]"),
        Some(nearest) => format!(
            "did you mean {nearest}? The configuration has {}",
            known.collect::<Vec<_>>().join(", ")
        ),
    };
    Failure::usage(error).hint(hint).into()
}

/// What the configuration says that a listing of sources shows.
pub(super) struct Configured {
    /// When sweeps are.
    pub(super) sweep: Schedule,
    /// Kinds and schedules by name.
    pub(super) sources: BTreeMap<String, (&'static str, Option<Schedule>)>,
}

impl Configured {
    fn of(config: &Config) -> Self {
        let sources = config.sources.iter().map(|source| {
            let about = (source.kind.as_str(), source.schedule.clone());
            (source.name.clone(), about)
        });
        Self {
            sweep: config.schedule.sweep.clone(),
            sources: sources.collect(),
        }
    }
}

/// Lists the sources that are configured, whether they were ever asked or not, and those that were
/// once and are configured no longer.
pub(super) async fn list(
    store: &Store,
    configured: &Configured,
    listing: Listing,
    printer: &mut Printer<SourceRow, impl Write, impl Write>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let mut tx = store.read().await.map_err(store_failure)?;
    let asked = tx.sources().await.map_err(store_failure)?;
    drop(tx);
    let mut known: BTreeMap<String, store::SourceRow> = asked
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    for (name, (kind, _)) in &configured.sources {
        let row = known.entry(name.clone()).or_default();
        row.name.clone_from(name);
        (*kind).clone_into(&mut row.kind);
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

fn shown(row: store::SourceRow, configured: &Configured, now: DateTime<Utc>) -> SourceRow {
    let standing = row.standing;
    let state = match (standing.failures, standing.last_good_sync_at) {
        (1.., _) => "failing",
        (_, None) => "never",
        (_, Some(_)) => "ok",
    };
    let found = configured.sources.get(&row.name);
    let next = found
        .and_then(|(_, schedule)| next_asked(&standing, schedule.as_ref(), &configured.sweep, now));
    let gone = (found.is_none()).then(|| "it is no longer in the configuration".to_owned());
    SourceRow {
        name: row.name,
        kind: row.kind,
        last_sync_at: standing.last_sync_at.map(Instant),
        last_good_sync_at: standing.last_good_sync_at.map(Instant),
        tokens: u64::try_from(row.tokens).unwrap_or_default(),
        state,
        error: standing.error.or(gone),
        next: next.map(Instant),
        deferred_until: standing
            .deferred_until
            .filter(|until| *until > now)
            .map(Instant),
    }
}

/// When the daemon next asks a source or directory of this schedule.
pub(super) fn next_asked(
    standing: &Standing,
    schedule: Option<&Schedule>,
    sweep: &Schedule,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let from = standing.rests_until(schedule).unwrap_or(now);
    // The sweep at that very moment asks it, too.
    sweep.next_after(from.max(now) - TimeDelta::seconds(1))
}

/// Until when a source that asked to be left alone is, in words. Where the store does not tell, nothing is
/// known of that.
async fn rests(config: &Config, name: &str, now: DateTime<Utc>) -> Option<String> {
    let (store, _scratch) = setup::store_to_look_at(config).await.ok()?;
    let until = deferred_until(&store, name).await;
    store.close().await;
    let until = until.ok()?.filter(|until| *until > now)?;
    let until = when(Instant(until), now);
    Some(format!(
        "{name} asked to be left alone until {until}, so it was not asked"
    ))
}

/// Tries the credentials of a source.
async fn check(configured: &SourceConfig) -> anyhow::Result<Exit> {
    let watched = setup::source(configured).map_err(Failure::config)?;
    let checked = tokio::time::timeout(super::check::PATIENCE, watched.check()).await;
    let checked = checked.map_err(|_| {
        let error = anyhow::anyhow!("the source {} does not answer", configured.name);
        Failure::failed(error).hint("see that it is up and reachable from here")
    })?;
    match checked {
        Ok(checked) => {
            say(&told(&configured.name, &checked))?;
            Ok(Exit::Ok)
        }
        Err(error) if error.wait().is_some() => Err(Failure::unreachable(error).into()),
        Err(error) => {
            let context = format!("the source {} cannot be listed", configured.name);
            Err(Failure::failed(anyhow::Error::new(error).context(context)).into())
        }
    }
}

/// What a source can do, a line for each right.
pub(super) fn told(name: &str, checked: &Checked) -> String {
    let mut lines = vec![format!("{name}: {}", checked.summary)];
    for right in &checked.rights {
        lines.push(match &right.missing {
            None => format!("  can     {}", right.what),
            Some(missing) => format!("  cannot  {}; to add it: {missing}", right.what),
        });
    }
    lines.join("\n")
}

/// Synchronises one source.
async fn sync(context: &Context, config: &Config, args: SourceSync) -> anyhow::Result<Exit> {
    let _log = setup::log(context, config)?;
    let store = setup::store(config).await?;
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let name = args.name;
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
    let report = tokio::select! {
        report = engine.sync_alone(&options, &stop) => report,
        () = sweep::until_asked_to_stop(&stop) => unreachable!("it only cancels"),
    };
    sweep::complain(&report);
    if report.sources_deferred > 0 {
        let until = deferred_until(&engine.store, &name).await?;
        say(&left_alone(&name, until, context.clock.now()))?;
    } else if report.lease_held {
        anstream::eprintln!("a sweep is at work; nothing was done, try again in a moment");
    } else {
        say(&counts(&name, &report, false))?;
    }
    engine.store.close().await;
    Ok(sweep::exit(&report))
}

async fn deferred_until(store: &Store, name: &str) -> anyhow::Result<Option<DateTime<Utc>>> {
    let mut tx = store.read().await.map_err(store_failure)?;
    let row = tx.source(name).await.map_err(store_failure)?;
    Ok(row.and_then(|row| row.standing.deferred_until))
}

/// Tells what a sync would change, token by token.
async fn look(context: &Context, config: &Config, args: &SourceSync) -> anyhow::Result<Exit> {
    let (store, scratch) = setup::store_to_look_at(config).await?;
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let watched = watched(&engine, &args.name)?;
    let now = context.clock.now();
    let mut printer = Printer::<DifferenceRow>::stdout(args.format, now);
    let (mut rows, mut failed) = (0_u64, None);
    let looked = engine
        .foresee_sync(watched, args.accept_shrink, |difference| {
            rows += 1;
            failed = printer.row(&row(difference)).err();
            if failed.is_some() {
                // Nobody reads any more.
                Err(engine::Error::Stopped)
            } else {
                Ok(())
            }
        })
        .await;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let looked = looked.map_err(engine_failure)?;
    engine.store.close().await;
    drop(scratch);
    let name = &args.name;
    let (said, exit) = match looked {
        Looked::Deferred(until) => (left_alone(name, Some(until), now), Exit::Ok),
        Looked::Unchanged => (format!("{name}: nothing has changed"), Exit::Ok),
        Looked::Listed(report) => {
            sweep::complain(&report);
            (counts(name, &report, true), sweep::exit(&report))
        }
    };
    if matches!(args.format, Format::Table) {
        // What is said says, too, that a table has no rows.
        if rows > 0 {
            printer.finish()?;
        }
        say(&said)?;
    } else {
        printer.finish()?;
        anstream::eprintln!("{}", text::clean_lines(&said));
    }
    Ok(exit)
}

fn watched<'a>(engine: &'a Engine, name: &str) -> anyhow::Result<&'a Watched> {
    let found = engine.sources.iter().find(|source| source.name == name);
    found.ok_or_else(|| anyhow::anyhow!("there is no source {name:?}"))
}

fn row(difference: Difference) -> DifferenceRow {
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
fn counts(name: &str, report: &Report, is_only_a_look: bool) -> String {
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
    let remark = if is_only_a_look {
        "; nothing was changed"
    } else {
        ""
    };
    match parts.as_slice() {
        [] if !report.problems.is_empty() || !report.errors.is_empty() => {
            format!("{name}: nothing was taken in")
        }
        [] => format!("{name}: nothing has changed"),
        parts => format!("{name}: {}{remark}", parts.join(", ")),
    }
}

pub(super) fn left_alone(name: &str, until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    let until = until.map_or("a while".to_owned(), |until| {
        format!("until {}", when(Instant(until), now))
    });
    format!("{name} asked to be left alone {until}; it was left alone, and nothing was changed")
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
    fn each_right_is_told_and_what_adds_it() {
        let right = |what: &str, missing: Option<&str>| Right {
            what: what.to_owned(),
            missing: missing.map(str::to_owned),
        };
        let checked = Checked {
            summary: "Rancher 2.12.1".to_owned(),
            rights: vec![
                right("list users", None),
                right("delete tokens", Some("the verb delete in its GlobalRole")),
            ],
        };
        insta::assert_snapshot!(told("rancher", &checked), @"
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
        let row = |standing| store::SourceRow {
            name: "s".to_owned(),
            standing,
            ..store::SourceRow::default()
        };
        let mut standing = Standing::default();
        let next = |standing: &Standing, schedule: Option<&Schedule>| {
            let row = row(standing.clone());
            shown(row, &configured(schedule.cloned()), at(12)).next
        };
        assert_eq!(next(&standing, None), Some(Instant(at(15))), "never asked");
        standing.succeeded(at(10));
        assert_eq!(next(&standing, None), Some(Instant(at(15))));
        let in_an_hour = Some(Instant(at(0) + TimeDelta::hours(1)));
        assert_eq!(next(&standing, Some(&hourly)), in_an_hour);
        for _ in 0..4 {
            standing.failed(at(10), "down".to_owned());
        }
        assert_eq!(
            next(&standing, None),
            Some(Instant(at(20))),
            "8 minutes after the failure"
        );
        standing.deferred(at(10), TimeDelta::minutes(20));
        let row = shown(row(standing), &configured(None), at(12));
        assert_eq!(row.next, Some(Instant(at(30))), "at that very moment");
        assert_eq!((row.state, row.deferred_until), ("failing", row.next));
    }
}
