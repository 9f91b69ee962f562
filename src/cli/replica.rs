//! `lapsed replica`: lists the daemons that use the store.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Context;
use super::args::{ListOptions, ReplicaCommand};
use super::exit::{Exit, Result};
use super::output::when::rfc3339;
use super::output::{Cell, Column, Field, Printer, Row, WARN};
use super::query::print_list;
use super::setup;
use crate::domain::Replica;
use crate::engine::SWEEP_LEASE;
use crate::store::Store;

pub(super) async fn replica(context: &Context, args: ReplicaCommand) -> Result<Exit> {
    let ReplicaCommand::List(options) = args;
    let config = setup::load_store_config(context)?;
    let now = context.clock.now();
    print_list(&config, options.format, now, async |store, printer| {
        list(store, &options, now, printer).await
    })
    .await
}

/// Lists the replicas in order of host.
pub(super) async fn list(
    store: &Store,
    options: &ListOptions,
    now: DateTime<Utc>,
    printer: &mut Printer<'_, ListedReplica>,
) -> Result<()> {
    let mut tx = store.begin_read().await?;
    let replicas = tx.list_replicas().await?;
    let lease = tx.find_lease(SWEEP_LEASE).await?;
    drop(tx);
    for replica in replicas.into_iter().take(options.max_rows()) {
        printer.print_row(&ListedReplica {
            is_leader: lease.is_some_and(|lease| lease.holder == replica.id),
            state: if replica.is_live(now) { "live" } else { "gone" },
            replica,
        })?;
    }
    Ok(())
}

pub(super) struct ListedReplica {
    replica: Replica,
    /// Whether it sweeps, or was the last to sweep.
    is_leader: bool,
    state: &'static str,
}

impl Row for ListedReplica {
    const FIELDS: &'static [Field<Self>] = &[
        ("id", |row, _| json!(row.replica.id)),
        ("host", |row, _| json!(row.replica.host)),
        ("version", |row, _| json!(row.replica.version)),
        ("configuration", |row, _| json!(row.replica.configuration)),
        ("started_at", |row, _| rfc3339(row.replica.started_at)),
        ("seen_at", |row, _| rfc3339(row.replica.seen_at)),
        ("leader", |row, _| json!(row.is_leader)),
        ("state", |row, _| json!(row.state)),
    ];
    const COLUMNS: &'static [Column<Self>] = &[
        Column::elastic("HOST", 0, 8, |row, _| Cell::name(&row.replica.host)),
        Column::fixed("VERSION", 0, |row, _| Cell::new(&row.replica.version)),
        Column::fixed("CONFIGURATION", 0, |row, _| {
            Cell::new(&row.replica.configuration)
        }),
        Column::fixed("STARTED", 2, |row, view| {
            Cell::distance(Some(row.replica.started_at), view)
        }),
        Column::fixed("SEEN", 1, |row, view| {
            Cell::distance(Some(row.replica.seen_at), view)
        }),
        Column::fixed("LEADER", 0, |row, _| {
            Cell::new(if row.is_leader { "yes" } else { "no" })
        }),
        Column::fixed("STATE", 0, |row, _| match row.state {
            "live" => Cell::new(row.state),
            _ => Cell::new(row.state).style(WARN),
        }),
    ];
    const EMPTY_MESSAGE: &'static str = "no daemon uses this store";
}
