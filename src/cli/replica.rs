//! `lapsed replica`: lists the daemons that use the store. Each writes its own row while it runs.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Context;
use super::args::{ListOptions, ReplicaCommand};
use super::exit::{Exit, Result};
use super::output::when::rfc3339;
use super::output::{Cell, Column, Field, Printer, Row, WARN};
use super::query::print_list;
use super::setup;
use crate::causes::Causes;
use crate::clock::Clock;
use crate::domain::Replica;
use crate::engine::{Engine, SWEEP_LEASE};
use crate::lifecycle::Fault;
use crate::store::{self, Store};

const SEEN_INTERVAL: Duration = Duration::from_mins(1);
/// After a row that could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A store that is away must not delay the stop.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

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

/// The row of this daemon.
pub(super) struct Presence {
    store: Store,
    clock: Clock,
    replica: Replica,
}

impl Presence {
    pub fn new(engine: &Engine, configuration: String) -> Self {
        let host = rustix::system::uname();
        let now = engine.now();
        Self {
            store: engine.store.clone(),
            clock: engine.clock.clone(),
            replica: Replica {
                id: engine.holder,
                host: host.nodename().to_string_lossy().into_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                configuration,
                started_at: now,
                seen_at: now,
            },
        }
    }

    /// Writes the row every minute, and deletes it at the end.
    pub async fn run(mut self, stopping: CancellationToken) -> Result<(), Fault> {
        while let Some(saved) = stopping.run_until_cancelled(self.save()).await {
            if let Err(error) = &saved {
                tracing::debug!("this replica is not recorded: {}", Causes(error));
            }
            let pause = async {
                tokio::time::sleep(if saved.is_ok() {
                    SEEN_INTERVAL
                } else {
                    RETRY_INTERVAL
                })
                .await;
                self.store.wait_while_away().await;
            };
            stopping.run_until_cancelled(pause).await;
        }
        let deleted = tokio::time::timeout(DELETE_TIMEOUT, self.delete()).await;
        if !matches!(deleted, Ok(Ok(()))) {
            tracing::debug!("this replica is still recorded; it counts as gone in 3 minutes");
        }
        Ok(())
    }

    async fn save(&mut self) -> store::Result<()> {
        self.replica.seen_at = self.clock.now();
        let mut tx = self.store.begin_short().await?;
        tx.save_replica(&self.replica).await?;
        tx.commit().await
    }

    async fn delete(&self) -> store::Result<()> {
        let mut tx = self.store.begin_short().await?;
        tx.delete_replica(self.replica.id).await?;
        tx.commit().await
    }
}
