//! `lapsed audit`: the trail of what people did.

use std::io::Write;

use super::{
    Context,
    args::{AuditCommand, Listing},
    exit::Exit,
    output::{Printer, rows::AuditRow, when::Instant},
    pages::pages,
    setup,
};
use crate::store::{self, Store};

pub(super) async fn audit(context: &Context, args: AuditCommand) -> anyhow::Result<Exit> {
    let AuditCommand::List(listing) = args;
    let config = setup::config(context)?;
    let store = setup::store(&config).await?;
    let mut printer = Printer::stdout(listing.format, context.clock.now());
    list(&store, listing, &mut printer).await?;
    printer.finish()?;
    store.close().await;
    Ok(Exit::Ok)
}

/// Lists the entries, the latest first.
pub(super) async fn list(
    store: &Store,
    listing: Listing,
    printer: &mut Printer<AuditRow, impl Write, impl Write>,
) -> anyhow::Result<()> {
    pages(
        printer,
        listing.limit,
        async |last: Option<&store::AuditRow>, limit| {
            store.read().await?.list_audit(last, limit).await
        },
        |entry| {
            Ok(AuditRow {
                at: Instant(entry.at),
                actor: entry.actor.clone(),
                action: entry.action.clone(),
                subject: entry.subject.clone(),
                reason: entry.reason.clone(),
            })
        },
    )
    .await
}
