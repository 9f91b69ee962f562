//! `lapsed audit`: lists the audit trail.

use std::io::Write;

use super::Context;
use super::args::{AuditCommand, ListOptions};
use super::exit::{Exit, Result};
use super::output::Printer;
use super::output::rows::AuditRow;
use super::output::when::Instant;
use super::pages::print_pages;
use super::setup::{self, Mode};
use crate::store::{self, Store};

pub(super) async fn audit(context: &Context, args: AuditCommand) -> Result<Exit> {
    let AuditCommand::List(options) = args;
    let config = setup::load_config(context)?;
    let mut printer = Printer::stdout(options.format, context.clock.now());
    setup::with_store(&config, Mode::Write, async |store| {
        list(store, options, &mut printer).await
    })
    .await?;
    printer.finish()?;
    Ok(Exit::Ok)
}

/// Lists the entries, latest first.
pub(super) async fn list(
    store: &Store,
    options: ListOptions,
    printer: &mut Printer<AuditRow, impl Write, impl Write>,
) -> Result<()> {
    print_pages(
        printer,
        options.limit,
        async |last: Option<&store::AuditRow>, limit| {
            store.begin_read().await?.list_audit(last, limit).await
        },
        |entry| AuditRow {
            at: Instant(entry.at),
            actor: entry.actor.clone(),
            action: entry.action.clone(),
            subject: entry.subject.clone(),
            reason: entry.reason.clone(),
        },
    )
    .await
}
