//! `lapsed notice`: notices, listed.

use std::io::Write;

use super::{
    Context,
    args::{NoticeCommand, NoticeList},
    exit::Exit,
    lookup,
    output::{Printer, rows::NoticeRow},
    pages::pages,
    setup::{self, store_failure},
};
use crate::store::{self, NoticeFilter, Store};

pub(super) async fn notice(context: &Context, args: NoticeCommand) -> anyhow::Result<Exit> {
    let NoticeCommand::List(args) = args;
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let mut printer = Printer::stdout(args.listing.format, context.clock.now());
    list(
        &store,
        &args,
        config.notify.from.email.domain(),
        &mut printer,
    )
    .await?;
    printer.finish()?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Lists what the filters let through, the latest planned first.
pub(super) async fn list(
    store: &Store,
    args: &NoticeList,
    domain: &str,
    printer: &mut Printer<NoticeRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    let token = match &args.token {
        Some(reference) => {
            let mut tx = store.read().await.map_err(store_failure)?;
            Some(lookup::token(&mut tx, reference).await?.id)
        }
        None => None,
    };
    let filter = NoticeFilter {
        recipient_key: args
            .recipient
            .as_ref()
            .map(|recipient| recipient.key().to_owned()),
        state: args.state,
        token,
    };
    pages(
        printer,
        args.listing.limit,
        async |last: Option<&store::NoticeRow>, limit| {
            let before = last.map(|notice| (notice.planned_at, notice.id));
            store
                .read()
                .await?
                .list_notices(&filter, before, limit)
                .await
        },
        |notice| NoticeRow::stored(notice, domain),
    )
    .await
}
