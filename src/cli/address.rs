//! `lapsed address`: lists dead addresses and clears one.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::args::{AddressClear, AddressCommand, ListOptions};
use super::exit::{Exit, Failure, Result};
use super::output::when::rfc3339;
use super::output::{Cell, Column, Field, Printer, Row, print_line};
use super::query::print_list;
use super::setup::{self, Mode};
use super::{Context, audit};
use crate::config::Config;
use crate::engine::DEAD_ADDRESS_TTL;
use crate::notify::wording::quantity;
use crate::store::Store;

pub(super) async fn address(context: &Context, args: AddressCommand) -> Result<Exit> {
    let config = match &args {
        AddressCommand::Clear(_) => setup::load_config(context),
        AddressCommand::List(_) => setup::load_store_config(context),
    }?;
    let now = context.clock.now();
    match args {
        AddressCommand::List(options) => {
            print_list(&config, options.format, now, async |store, printer| {
                list(store, &options, now, printer).await
            })
            .await
        }
        AddressCommand::Clear(args) => clear(context, &config, &args).await,
    }
}

async fn list(
    store: &Store,
    options: &ListOptions,
    now: DateTime<Utc>,
    printer: &mut Printer<'_, DeadAddress>,
) -> Result<()> {
    let known = store.begin_read().await?.list_addresses().await?;
    let dead = known.into_iter().filter_map(|known| {
        let since = known.dead_since?;
        let until = since + DEAD_ADDRESS_TTL;
        (until > now).then_some(DeadAddress {
            address: known.key,
            since,
            until,
            reason: known.reason,
        })
    });
    for row in dead.take(options.max_rows()) {
        printer.print_row(&row)?;
    }
    Ok(())
}

async fn clear(context: &Context, config: &Config, args: &AddressClear) -> Result<Exit> {
    let AddressClear { address } = args;
    let planned = setup::with_engine(context, config, Mode::Normal, async |engine| {
        Ok(engine
            .retry()
            .clear_address(address, &audit::actor())
            .await?)
    })
    .await?;
    let Some(planned) = planned else {
        let error = anyhow::anyhow!("mail to {address} was not refused");
        return Err(Failure::failed(error)
            .hint("`lapsed address list` shows the dead addresses")
            .into());
    };
    print_line(&format!(
        "{address} is used again; {} planned that it was left out of",
        quantity(planned, "notice")
    ))?;
    Ok(Exit::Ok)
}

struct DeadAddress {
    address: String,
    since: DateTime<Utc>,
    /// When it is tried again.
    until: DateTime<Utc>,
    reason: String,
}

impl Row for DeadAddress {
    const FIELDS: &'static [Field<Self>] = &[
        ("address", |row, _| json!(row.address)),
        ("since", |row, _| rfc3339(row.since)),
        ("until", |row, _| rfc3339(row.until)),
        ("reason", |row, _| json!(row.reason)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("ADDRESS", 0, 12, |row, _| Cell::name(&row.address)),
        Column::fixed("SINCE", 2, |row, view| Cell::when(row.since, view)),
        Column::fixed("UNTIL", 1, |row, view| Cell::when(row.until, view)),
        Column::elastic("REASON", 0, 16, |row, _| Cell::new(&row.reason)),
    ];
    const EMPTY_MESSAGE: &'static str = "no address counts as dead";
}
