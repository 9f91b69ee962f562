//! `lapsed identity`: people, listed, shown, counted, and bound anew.

mod coverage;

use std::io::{self, Write};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{
    Context, actor,
    args::{IdentityCommand, IdentityList, IdentityRebind},
    directory,
    exit::{Exit, Failure},
    freshness::Freshness,
    output::{
        Printer, View,
        rows::{IdentityDetail, IdentityRow, TokenRow, WorstStatus},
        say, show,
        when::{Instant, when},
    },
    pages::pages,
    setup::{self, engine_failure, store_failure},
};
#[cfg(test)]
pub(super) use coverage::counts;

use crate::config::Config;
use crate::domain::{Address, IdentityStatus};
use crate::engine::Unbound;
use crate::store::{self, IdentityFilter, Store, TokenFilter};

/// More directories than anybody has, and rows to a page of tokens.
const PAGE: i64 = 1000;

pub(super) async fn identity(context: &Context, args: IdentityCommand) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let now = context.clock.now();
    match args {
        IdentityCommand::List(args) => {
            let store = setup::store(&config).await?;
            let mut printer = Printer::stdout(args.listing.format, now);
            list(&store, &Freshness::of(&config), &args, now, &mut printer).await?;
            printer.finish()?;
            store.close().await;
        }
        IdentityCommand::Show(args) => {
            let store = setup::store(&config).await?;
            let detail = detail(&store, &config, &args.email, now).await?;
            let keys = IdentityDetail::KEYS;
            show(
                args.shown.format,
                View::of_stdout(now),
                io::stdout(),
                (&detail, keys),
                |sheet| {
                    detail.write_to(sheet);
                },
            )?;
            store.close().await;
        }
        IdentityCommand::Coverage(args) => {
            let store = setup::store(&config).await?;
            coverage::coverage(&store, &config, &args, now).await?;
            store.close().await;
        }
        IdentityCommand::Rebind(args) => return rebind(context, &config, &args).await,
    }
    Ok(Exit::Ok)
}

/// Lists people in order of directory and address.
pub(super) async fn list(
    store: &Store,
    freshness: &Freshness,
    args: &IdentityList,
    now: DateTime<Utc>,
    printer: &mut Printer<IdentityRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    let filter = IdentityFilter {
        status: args.status,
        directory: args.directory.clone(),
        email_key: None,
        stale: freshness.stale_in(store, now).await?,
    };
    pages(
        printer,
        args.listing.limit,
        async |last: Option<&(store::IdentityRow, i64)>, limit| {
            let after = last.map(|(row, _)| row);
            store
                .read()
                .await?
                .list_identities(&filter, after, now, limit)
                .await
        },
        |(row, tokens)| IdentityRow::stored(row, *tokens),
    )
    .await
}

/// What every directory says of one person, and the person's tokens.
pub(super) async fn detail(
    store: &Store,
    config: &Config,
    email: &Address,
    now: DateTime<Utc>,
) -> anyhow::Result<IdentityDetail> {
    let stale = Freshness::of(config).stale_in(store, now).await?;
    let mut tx = store.read().await.map_err(store_failure)?;
    let filter = IdentityFilter {
        email_key: Some(email.key().to_owned()),
        stale,
        ..IdentityFilter::default()
    };
    let rows = tx
        .list_identities(&filter, None, now, PAGE)
        .await
        .map_err(store_failure)?;
    drop(tx);
    let tokens = tokens(store, email, now).await?;
    if rows.is_empty() && tokens.is_empty() {
        let error = anyhow::anyhow!("no directory knows {email}, and no token was issued by them");
        let hint = "`lapsed identity list` shows the people that directories know";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let directories: Result<Vec<_>, _> = rows
        .iter()
        .map(|(row, count)| IdentityRow::stored(row, *count))
        .collect();
    let directories = directories.map_err(store_failure)?;
    let believed = directories.iter().map(|row| believed(row, config, now));
    let tokens: Result<Vec<_>, _> = tokens
        .iter()
        .map(|view| TokenRow::listed(view, now))
        .collect();
    Ok(IdentityDetail {
        email: email.clone(),
        name: rows.into_iter().find_map(|(row, _)| row.name),
        mode: config.issuers.mode(email.key()),
        address: config.issuers.at_directories(email.key()).to_owned(),
        believed: believed.collect(),
        worst: WorstStatus::of(&directories),
        directories,
        tokens: tokens.map_err(store_failure)?,
    })
}

async fn tokens(
    store: &Store,
    email: &Address,
    now: DateTime<Utc>,
) -> anyhow::Result<Vec<store::TokenView>> {
    let filter = TokenFilter {
        issuer_key: Some(email.key().to_owned()),
        ..TokenFilter::default()
    };
    let mut tx = store.read().await.map_err(store_failure)?;
    let mut tokens: Vec<store::TokenView> = Vec::new();
    loop {
        let after = tokens.last().map(|view| view.token.clone());
        let page = tx
            .list_tokens(&filter, after.as_ref(), now, PAGE)
            .await
            .map_err(store_failure)?;
        if page.is_empty() {
            return Ok(tokens);
        }
        tokens.extend(page);
    }
}

/// When a loss that awaits its confirmation is believed, in words.
fn believed(row: &IdentityRow, config: &Config, now: DateTime<Utc>) -> Option<String> {
    let candidate = row.candidate?;
    if row.reason.as_deref() == Some("rejected") {
        return Some("never: an operator refused it".to_owned());
    }
    let mut directories = config.directories.iter();
    let grace = directories
        .find(|it| it.name == row.directory)?
        .absence_grace;
    let from = match candidate {
        IdentityStatus::Deleted => row.candidate_since.map(|since| since.0 + grace),
        _ => None,
    };
    Some(match from.filter(|from| *from > now) {
        Some(from) => format!(
            "at the first reading from {} on that still says so",
            when(Instant(from), now)
        ),
        None => "at the next reading, if it still says so".to_owned(),
    })
}

/// Has the next reading bind a person anew.
async fn rebind(context: &Context, config: &Config, args: &IdentityRebind) -> anyhow::Result<Exit> {
    let _log = setup::log(context, config)?;
    let (name, email) = (args.directory.as_str(), &args.email);
    directory::named(config, name)?;
    let store = setup::store(config).await?;
    let engine = setup::engine(context, config, store, setup::post_for_dry_run(config)?)?;
    let stop = CancellationToken::new();
    let done = engine.unbind((name, email), &actor::name(), &stop).await;
    engine.store.close().await;
    let done = done.map_err(engine_failure)?;
    match done {
        Unbound::Done => {
            say(&format!(
                "{email} is bound to no account of {name} any more; the next reading binds them to the one that has \
                 the address by then (`lapsed directory sync {name}` does so now)"
            ))?;
            Ok(Exit::Ok)
        }
        Unbound::Busy => {
            anstream::eprintln!("a sweep is at work; nothing was done, try again in a moment");
            Ok(Exit::TempFail)
        }
        Unbound::Nobody => {
            let error = anyhow::anyhow!("the directory {name} knows nobody by {email}");
            let hint = "`lapsed identity show EMAIL` shows which directories do";
            Err(Failure::failed(error).hint(hint).into())
        }
        Unbound::Needless(why) => {
            let error = anyhow::anyhow!("{email} is not bound anew at {name}: {why}");
            Err(Failure::failed(error).into())
        }
    }
}
