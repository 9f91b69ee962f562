//! `lapsed identity`: lists, shows, counts and rebinds people.

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::args::{IdentityCommand, IdentityCoverage, IdentityList, IdentityRebind};
use super::exit::{Exit, Failure, Result};
use super::output::rows::{
    CoverageRow, CoveredRow, IdentityDetail, IdentityRow, TokenRow, WorstStatus,
};
use super::output::when::{Instant, format_when};
use super::output::{Printer, View, print_line, print_one};
use super::pages::print_pages;
use super::setup::{self, Mode};
use super::{Context, actor, directory};
use crate::config::Config;
use crate::domain::{Address, Cover, IdentityStatus, Reason};
use crate::engine::{self, UnbindOutcome};
use crate::store::{self, IdentityFilter, Store, TokenFilter};

/// Rows per page of tokens; also more directories than any installation has.
const PAGE_SIZE: i64 = 1000;

pub(super) async fn identity(context: &Context, args: IdentityCommand) -> Result<Exit> {
    let config = setup::load_config(context)?;
    let now = context.clock.now();
    match args {
        IdentityCommand::List(args) => {
            let mut printer = Printer::stdout(args.options.format, now);
            setup::with_store(&config, Mode::Write, async |store| {
                list(store, &config, &args, now, &mut printer).await
            })
            .await?;
            printer.finish()?;
        }
        IdentityCommand::Show(args) => {
            let detail = setup::with_store(&config, Mode::Write, async |store| {
                load_detail(store, &config, &args.email, now).await
            })
            .await?;
            let keys = IdentityDetail::KEYS;
            print_one(
                args.options.format,
                View::for_stdout(now),
                io::stdout(),
                (&detail, keys),
                |sheet| {
                    detail.write_to(sheet);
                },
            )?;
        }
        IdentityCommand::Coverage(args) => {
            setup::with_store(&config, Mode::Write, async |store| {
                print_coverage(store, &config, &args, now).await
            })
            .await?;
        }
        IdentityCommand::Rebind(args) => return rebind(context, &config, &args).await,
    }
    Ok(Exit::Ok)
}

/// The names of the directories in the store whose data is stale, or that are no longer configured.
async fn load_stale_directories(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Vec<String>> {
    let mut tx = store.begin_read().await?;
    let rows = tx.list_directories().await?;
    Ok(engine::stale_directories(
        &config.directory_terms(),
        &rows,
        now,
    ))
}

/// Lists people by directory and address.
pub(super) async fn list(
    store: &Store,
    config: &Config,
    args: &IdentityList,
    now: DateTime<Utc>,
    printer: &mut Printer<IdentityRow, impl Write, impl Write>,
) -> Result<()> {
    let filter = IdentityFilter {
        status: args.status,
        directory: args.directory.clone(),
        email_key: None,
        stale: load_stale_directories(store, config, now).await?,
    };
    print_pages(
        printer,
        args.options.limit,
        async |last: Option<&(store::IdentityRow, i64)>, limit| {
            let after = last.map(|(row, _)| row);
            store
                .begin_read()
                .await?
                .list_identities(&filter, after, now, limit)
                .await
        },
        |(row, tokens)| IdentityRow::from_stored(row, *tokens),
    )
    .await
}

/// What each directory reports about one person, and the person's tokens.
pub(super) async fn load_detail(
    store: &Store,
    config: &Config,
    email: &Address,
    now: DateTime<Utc>,
) -> Result<IdentityDetail> {
    let stale = load_stale_directories(store, config, now).await?;
    let mut tx = store.begin_read().await?;
    let filter = IdentityFilter {
        email_key: Some(email.key().to_owned()),
        stale,
        ..IdentityFilter::default()
    };
    let rows = tx.list_identities(&filter, None, now, PAGE_SIZE).await?;
    drop(tx);
    let tokens = load_tokens(store, email, now).await?;
    if rows.is_empty() && tokens.is_empty() {
        let error = anyhow::anyhow!("no directory knows {email}, and they have issued no token");
        let hint = "`lapsed identity list` shows the people that directories know";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let directories: Vec<_> = rows
        .iter()
        .map(|(row, count)| IdentityRow::from_stored(row, *count))
        .collect();
    let confirmations = directories
        .iter()
        .map(|row| confirmation_text(row, config, now));
    let tokens = tokens.iter().map(|view| TokenRow::from_view(view, now));
    Ok(IdentityDetail {
        email: email.clone(),
        name: rows.into_iter().find_map(|(row, _)| row.identity.name),
        mode: config.issuers.mode(email.key()),
        address: config.issuers.directory_address(email.key()).to_owned(),
        confirmations: confirmations.collect(),
        worst: WorstStatus::from_rows(&directories),
        directories,
        tokens: tokens.collect(),
    })
}

async fn load_tokens(
    store: &Store,
    email: &Address,
    now: DateTime<Utc>,
) -> Result<Vec<store::TokenView>> {
    let filter = TokenFilter {
        issuer_key: Some(email.key().to_owned()),
        ..TokenFilter::default()
    };
    let mut tx = store.begin_read().await?;
    let mut tokens: Vec<store::TokenView> = Vec::new();
    loop {
        let after = tokens.last().map(|view| view.token.clone());
        let page = tx
            .list_tokens(&filter, after.as_ref(), now, PAGE_SIZE)
            .await?;
        if page.is_empty() {
            return Ok(tokens);
        }
        tokens.extend(page);
    }
}

/// When a loss that awaits confirmation will be accepted, as a text.
fn confirmation_text(row: &IdentityRow, config: &Config, now: DateTime<Utc>) -> Option<String> {
    let candidate = row.candidate?;
    if row.reason == Some(Reason::Rejected) {
        return Some("never: an operator rejected it".to_owned());
    }
    let mut directories = config.directories.iter();
    let grace = directories
        .find(|directory| directory.terms.name == row.directory)?
        .terms
        .absence_grace;
    let earliest = match candidate {
        IdentityStatus::Deleted => row.candidate_since.map(|since| since.0 + grace),
        _ => None,
    };
    Some(match earliest.filter(|at| *at > now) {
        Some(at) => format!(
            "by the first sync after {} that still reports it",
            format_when(Instant(at), now)
        ),
        None => "by the next sync, if it still reports it".to_owned(),
    })
}

/// Removes the binding of a person, so that the next sync binds them again.
async fn rebind(context: &Context, config: &Config, args: &IdentityRebind) -> Result<Exit> {
    let _log = setup::start_log(context, config)?;
    let (name, email) = (args.directory.as_str(), &args.email);
    directory::find_configured(config, name)?;
    let done = setup::with_engine(context, config, Mode::Write, async |engine| {
        let (actor, stop) = (actor::name(), CancellationToken::new());
        Ok(engine.unbind_identity(name, email, &actor, &stop).await?)
    });
    match done.await? {
        UnbindOutcome::Done => {
            print_line(&format!(
                "{email} is no longer bound to an account of {name}; the next sync binds them to the account that has \
                 the address then (`lapsed directory sync {name}` does so now)"
            ))?;
            Ok(Exit::Ok)
        }
        UnbindOutcome::Busy => {
            anstream::eprintln!(
                "another sweep is running; nothing was done, try again in a moment"
            );
            Ok(Exit::TempFail)
        }
        UnbindOutcome::NotFound => {
            let error = anyhow::anyhow!("the directory {name} does not know {email}");
            let hint = "`lapsed identity show EMAIL` shows which directories know a person";
            Err(Failure::failed(error).hint(hint).into())
        }
        UnbindOutcome::NotNeeded(why) => {
            let error = anyhow::anyhow!("{email} cannot be bound again at {name}: {why}");
            Err(Failure::failed(error).into())
        }
    }
}

async fn print_coverage(
    store: &Store,
    config: &Config,
    args: &IdentityCoverage,
    now: DateTime<Utc>,
) -> Result<()> {
    let limit = args.options.max_rows();
    if let Some(of) = args.of {
        let mut printer = Printer::stdout(args.options.format, now);
        let issuers = load_covers(store, config, now).await?;
        let shown = issuers.iter().filter(|(_, cover)| *cover == of);
        for (email, cover) in shown.take(limit) {
            printer.print_row(&CoveredRow {
                email: email.clone(),
                cover: cover.group(),
                reason: reason(*cover),
            })?;
        }
        printer.finish()?;
    } else {
        let mut printer = Printer::stdout(args.options.format, now);
        let rows = coverage_rows(store, config, now).await?;
        for row in rows.iter().take(limit) {
            printer.print_row(row)?;
        }
        printer.finish()?;
    }
    Ok(())
}

/// Every issuer of working tokens with their coverage.
async fn load_covers(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Vec<(String, Cover)>> {
    let mut tx = store.begin_read().await?;
    let directories = config.directory_terms();
    let covers = engine::issuer_covers(&mut tx, &config.issuers, &directories, now).await;
    Ok(covers?)
}

/// A row for each kind of coverage that occurs; active and lost always have one.
pub(super) async fn coverage_rows(
    store: &Store,
    config: &Config,
    now: DateTime<Utc>,
) -> Result<Vec<CoverageRow>> {
    let coverage = engine::count_covers(&load_covers(store, config, now).await?);
    let mut tx = store.begin_read().await?;
    let without = tx.count_tokens_without_issuer(now).await?;
    drop(tx);
    let row = |cover: &Cover| {
        let count = coverage.get(cover).copied().unwrap_or_default();
        let is_shown = count > 0 || matches!(cover, Cover::Active | Cover::Lost);
        is_shown.then(|| CoverageRow {
            cover: cover.group(),
            reason: reason(*cover),
            count,
            command: format!("lapsed identity coverage --of {cover}"),
        })
    };
    let mut rows: Vec<CoverageRow> = Cover::ALL.iter().filter_map(row).collect();
    rows.push(CoverageRow {
        cover: "no_issuer",
        reason: None,
        count: u64::try_from(without).unwrap_or_default(),
        command: "lapsed token list --no-issuer".to_owned(),
    });
    Ok(rows)
}

/// Why an issuer is unknown or not covered.
fn reason(cover: Cover) -> Option<&'static str> {
    (!matches!(cover, Cover::Active | Cover::Lost)).then(|| cover.as_str())
}
