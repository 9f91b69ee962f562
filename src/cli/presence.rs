//! The row by which other processes know of this daemon.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::causes::Causes;
use crate::clock::Clock;
use crate::domain::Replica;
use crate::engine::Engine;
use crate::lifecycle::Fault;
use crate::store::{self, Store};

const SEEN_INTERVAL: Duration = Duration::from_mins(1);
/// After a row that could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A store that is away must not delay the stop.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

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
            let pause = match saved {
                Ok(()) => SEEN_INTERVAL,
                Err(_) => RETRY_INTERVAL,
            };
            let pause = async {
                tokio::time::sleep(pause).await;
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
