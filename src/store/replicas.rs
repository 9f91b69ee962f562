//! Replicas: the daemons that use the store.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::domain::Replica;

use super::{Result, Tx, on};

type Row = (Uuid, String, String, String, DateTime<Utc>, DateTime<Utc>);

impl Tx {
    pub async fn save_replica(&mut self, replica: &Replica) -> Result<()> {
        on!(self, c: Db => sqlx::query(
            "INSERT INTO replica (id, host, version, configuration, started_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at")
            .bind(replica.id).bind(&replica.host).bind(&replica.version).bind(&replica.configuration)
            .bind(replica.started_at).bind(replica.seen_at)
            .execute(c).await.map(drop))
    }

    pub async fn delete_replica(&mut self, id: Uuid) -> Result<()> {
        on!(self, c: Db => sqlx::query("DELETE FROM replica WHERE id = $1")
            .bind(id).execute(c).await.map(drop))
    }

    pub async fn list_replicas(&mut self) -> Result<Vec<Replica>> {
        let rows: Vec<Row> = on!(self, c: Db => sqlx::query_as(
            "SELECT id, host, version, configuration, started_at, seen_at FROM replica ORDER BY host, started_at, id")
            .fetch_all(c).await)?;
        let replica = |(id, host, version, configuration, started_at, seen_at)| Replica {
            id,
            host,
            version,
            configuration,
            started_at,
            seen_at,
        };
        Ok(rows.into_iter().map(replica).collect())
    }

    /// Deletes the replicas that were last seen outside of this range, by whatever clock; returns how many.
    pub async fn purge_replicas(
        &mut self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<u64> {
        on!(self, c: Db => sqlx::query("DELETE FROM replica WHERE seen_at < $1 OR seen_at > $2")
            .bind(from).bind(until).execute(c).await.map(|done| done.rows_affected()))
    }
}
