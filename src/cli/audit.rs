//! `lapsed audit`: lists the audit trail.

use serde_json::json;

use super::Context;
use super::args::{AuditCommand, ListOptions};
use super::exit::{Exit, Result};
use super::output::when::{format_instant, rfc3339};
use super::output::{Cell, Column, Field, Printer, Row};
use super::pages::print_pages;
use super::setup::{self, Mode};
use crate::store::{AuditRow, Store};

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
    printer: &mut Printer<'_, AuditRow>,
) -> Result<()> {
    print_pages(
        printer,
        options.limit,
        async |last, limit| store.begin_read().await?.list_audit(last, limit).await,
        std::convert::identity,
    )
    .await
}

impl Row for AuditRow {
    const FIELDS: &'static [Field<Self>] = &[
        ("at", |row, _| rfc3339(row.at)),
        ("actor", |row, _| json!(row.actor)),
        ("action", |row, _| json!(row.action)),
        ("subject", |row, _| json!(row.subject)),
        ("reason", |row, _| json!(row.reason)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::fixed("AT", 1, |row, _| Cell::new(format_instant(row.at))),
        Column::elastic("ACTOR", 0, 8, |row, _| Cell::name(&row.actor)),
        Column::fixed("ACTION", 0, |row, _| Cell::new(&row.action)),
        Column::elastic("SUBJECT", 0, 12, |row, _| Cell::name(&row.subject)),
        Column::elastic("REASON", 0, 12, |row, _| {
            Cell::optional(row.reason.as_ref())
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "the audit trail is empty";
}
