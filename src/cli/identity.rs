//! `lapsed identity`: people, listed and shown.

use std::io::{self, Write};

use chrono::{DateTime, Utc};

use super::{
    Context,
    args::{IdentityCommand, IdentityList},
    exit::{Exit, Failure},
    output::{
        Printer, View,
        rows::{IdentityDetail, IdentityRow, TokenRow},
        show,
    },
    pages::pages,
    setup::{self, store_failure},
};
use crate::domain::Address;
use crate::store::{self, IdentityFilter, Store, TokenFilter};

/// More directories than anybody has, and rows to a page of tokens.
const PAGE: i64 = 1000;

pub(super) async fn identity(context: &Context, args: IdentityCommand) -> anyhow::Result<Exit> {
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let now = context.clock.now();
    match args {
        IdentityCommand::List(args) => {
            let mut printer = Printer::stdout(args.listing.format, now);
            list(&store, &args, now, &mut printer).await?;
            printer.finish()?;
        }
        IdentityCommand::Show(args) => {
            let detail = detail(&store, &args.email, now).await?;
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
        }
    }
    store.close().await;
    Ok(Exit::Ok)
}

/// Lists people in order of directory and address.
pub(super) async fn list(
    store: &Store,
    args: &IdentityList,
    now: DateTime<Utc>,
    printer: &mut Printer<IdentityRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    let filter = IdentityFilter {
        status: args.status,
        directory: args.directory.clone(),
        ..IdentityFilter::default()
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
    email: &Address,
    now: DateTime<Utc>,
) -> anyhow::Result<IdentityDetail> {
    let mut tx = store.read().await.map_err(store_failure)?;
    let filter = IdentityFilter {
        email_key: Some(email.key().to_owned()),
        ..IdentityFilter::default()
    };
    let rows = tx
        .list_identities(&filter, None, now, PAGE)
        .await
        .map_err(store_failure)?;
    let filter = TokenFilter {
        issuer_key: Some(email.key().to_owned()),
        ..TokenFilter::default()
    };
    let mut tokens: Vec<store::TokenView> = Vec::new();
    loop {
        let after = tokens.last().map(|view| view.token.clone());
        let page = tx
            .list_tokens(&filter, after.as_ref(), now, PAGE)
            .await
            .map_err(store_failure)?;
        if page.is_empty() {
            break;
        }
        tokens.extend(page);
    }
    drop(tx);
    if rows.is_empty() && tokens.is_empty() {
        let error = anyhow::anyhow!("no directory knows {email}, and no token was issued by them");
        let hint = "`lapsed identity list` shows the people that directories know";
        return Err(Failure::failed(error).hint(hint).into());
    }
    let directories: Result<Vec<_>, _> = rows
        .iter()
        .map(|(row, count)| IdentityRow::stored(row, *count))
        .collect();
    let tokens: Result<Vec<_>, _> = tokens
        .iter()
        .map(|view| TokenRow::listed(view, now))
        .collect();
    Ok(IdentityDetail {
        email: email.clone(),
        name: rows.into_iter().find_map(|(row, _)| row.name),
        directories: directories.map_err(store_failure)?,
        tokens: tokens.map_err(store_failure)?,
    })
}
