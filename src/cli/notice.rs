//! `lapsed notice`: lists notices.

use std::io::Write;

use super::args::{NoticeCommand, NoticeList};
use super::exit::{Exit, Result};
use super::output::Printer;
use super::output::rows::NoticeRow;
use super::pages::print_pages;
use super::setup::{self, Mode};
use super::{Context, lookup};
use crate::store::{self, NoticeFilter, Store};

pub(super) async fn notice(context: &Context, args: NoticeCommand) -> Result<Exit> {
    let NoticeCommand::List(args) = args;
    let config = setup::load_config(context)?;
    let mut printer = Printer::stdout(args.options.format, context.clock.now());
    let domain = config.mail_identity.from.email.domain();
    setup::with_store(&config, Mode::Write, async |store| {
        list(store, &args, domain, &mut printer).await
    })
    .await?;
    printer.finish()?;
    Ok(Exit::Ok)
}

/// Lists the notices that match the filters, the latest planned first.
pub(super) async fn list(
    store: &Store,
    args: &NoticeList,
    domain: &str,
    printer: &mut Printer<NoticeRow, impl Write, impl Write>,
) -> Result<()> {
    let token = match &args.token {
        Some(reference) => {
            let mut tx = store.begin_read().await?;
            Some(lookup::find_token(&mut tx, reference).await?.id)
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
    print_pages(
        printer,
        args.options.limit,
        async |last: Option<&store::NoticeRow>, limit| {
            let before = last.map(|notice| (notice.planned_at, notice.id));
            store
                .begin_read()
                .await?
                .list_notices(&filter, before, limit)
                .await
        },
        |notice| NoticeRow::from_stored(notice, domain),
    )
    .await
}
